// The judge by medians, which accepted poison does not move (docs/protocol.md, "robust").

import { studentQuantile } from './calibrated.mjs';

const NORMAL = 1.4826 * 1.4826;
const add = (values) => values.reduce((a, b) => a + b, 0);

/** Twice the median of whole numbers. */
function twiceMedian(values) {
  const ordered = Float64Array.from(values).sort();
  return ordered[(ordered.length - 1) >> 1] + ordered[ordered.length >> 1];
}

/**
 * What each count of the accepted models usually is, and what its rises are measured in.
 * @param {Float64Array[]} profiles oldest first
 * @returns {{levels: number[], units: number[]}}
 */
function usual(profiles) {
  const models = profiles.length;
  const newer = models >> 1;
  const places = Array.from(profiles[0], (_, place) => profiles.map((counts) => counts[place]));
  const twice = places.map(twiceMedian);
  const levels = places.map((past) => Math.min(
    twiceMedian(past.slice(0, models - newer)), twiceMedian(past.slice(models - newer))) / 2);
  const spread = places.map((past, place) => {
    const apart = twiceMedian(past.map((count) => Math.abs(2 * count - twice[place])));
    return NORMAL * (apart * apart); // of four times the MAD
  });
  const rare = twice.map((count) => 8 * (count + 2));
  const changes = add(places.map((past) => add(past.slice(1)
    .map((count, i) => (count - past[i]) * (count - past[i])))));
  const changing = (64 * changes) / ((models - 1) * add(rare));
  const phi = Math.max(add(spread) / add(rare), Math.min(Math.max(changing, 0.25), 1));
  const units = spread.map((part, place) => {
    const common = phi * rare[place];
    return Math.sqrt(Math.min(part, 2 * common) + common) / 4;
  });
  return { levels, units };
}

/**
 * A judge whose threshold is fixed by how many models and counts there are.
 * @returns {(profiles: Float64Array[], candidate: Float64Array)
 *   => import('./wire.mjs').Opinion | null}
 */
export function robust(falseAlarm) {
  return (profiles, candidate) => {
    if (profiles.length < 3) return null; // none is in the middle
    const { levels, units } = usual(profiles);
    const last = profiles.at(-1);
    const rises = Array.from(candidate, (count, place) => (
      count > last[place] ? Math.max(count - levels[place], 0) / units[place] : 0));
    const score = Math.max(...rises);
    const threshold = studentQuantile(1 - falseAlarm / candidate.length, profiles.length - 1);
    return { poisoned: score > threshold + 1e-9, score, threshold, evidence: [] };
  };
}
