// How an honest validator judges a candidate: error profiles, and VALIDATE of BAFFLE over them
// (docs/protocol.md, "lof"; reading A).

import { calibrated } from './calibrated.mjs';
import { robust } from './robust.mjs';

/** @typedef {import('./wire.mjs').Opinion} Opinion */

/** What is said of a candidate while there is too little to compare it with. */
const CLEAN = { poisoned: false, score: 0, threshold: 0, evidence: [] };

const MOST_EVIDENCE = 101;

const sum = (values) => values.reduce((a, b) => a + b, 0);

/**
 * How many samples of class y are misclassified, for each y, and then how many are wrongly
 * called y: 2C whole numbers. And what each sample is called, -1 for nothing.
 * @returns {Generator<void, {errors: Float64Array, answers: Int32Array}>}
 */
export function* profileOf(network, weights, data) {
  const { classes } = network;
  const wrong = new Float64Array(2 * classes);
  const answers = new Int32Array(data.count);
  for (let i = 0; i < data.count; i++) {
    const outputs = network.forward(weights, data.pixels[i]);
    const finite = outputs.every(Number.isFinite); // if not, the sample is called nothing
    const called = finite ? outputs.indexOf(outputs.reduce((a, b) => Math.max(a, b))) : -1;
    answers[i] = called;
    if (called !== data.labels[i]) {
      wrong[data.labels[i]] += 1;
      if (finite) wrong[classes + called] += 1;
    }
    yield;
  }
  return { errors: wrong, answers };
}

/** The profiles of what was accepted before, oldest first; each is worked out once. */
export function* profilesOf(network, models, data) {
  const profiles = [];
  for (const model of models) {
    model.profile ??= yield* profileOf(network, model.weights, data);
    model.weights = null; // no longer needed
    profiles.push(model.profile);
  }
  return profiles;
}

/** What a candidate changes from the last accepted model, as a vote says it. */
export const changesOf = (last, candidate) => ({
  changed: sum(candidate.answers.map((answer, i) => Number(answer !== last.answers[i]))),
  changed_errors: sum(candidate.errors.map((errors, i) => Math.abs(errors - last.errors[i]))),
});

const square = (a, b) => sum(a.map((value, i) => (value - b[i]) * (value - b[i])));
const change = (older, newer) => older.map((value, i) => value - newer[i]);

/**
 * Local outlier factors (Breunig et al. 2000) among some points, no distance in a density below 1.
 * Each point has exactly k neighbours, of equally distant ones the earlier. What is compared are
 * squares of distances, whole numbers; what is added up is so from the nearest on.
 * @returns {{of: (i: number) => number, ofNew: (point: Float64Array) => number}}
 */
function localOutliers(points, k) {
  /** The k nearest: [index, square of the distance], the nearest first; sorting is stable. */
  const nearest = (point, itself = -1) => points
    .map((other, i) => [i, square(point, other)])
    .filter(([i]) => i !== itself)
    .sort(([, a], [, b]) => a - b)
    .slice(0, k);
  const neighbours = points.map((point, i) => nearest(point, i));
  const reach = ([i, far]) => Math.sqrt(Math.max(neighbours[i].at(-1)[1], far, 1));
  const density = (near) => k / sum(near.map(reach));
  const densities = neighbours.map(density);
  const factor = (near) => sum(near.map(([i]) => densities[i])) / k / density(near);
  return { of: (i) => factor(neighbours[i]), ofNew: (point) => factor(nearest(point)) };
}

/**
 * Judge by the local outlier factor of how the candidate changes the errors.
 * @param {Float64Array[]} profiles of the accepted models, oldest first
 * @param {Float64Array} candidate its profile
 * @returns {Opinion | null} null while a change has no neighbours
 */
export function lof(profiles, candidate) {
  const changes = profiles.slice(1).map((profile, i) => change(profiles[i], profile));
  const l = changes.length;
  if (l < 2) return null;
  const factors = localOutliers(changes, Math.ceil(l / 2));
  const last = Math.max(1, Math.floor(l / 4));
  const trusted = changes.map((_, i) => i).slice(-last).map(factors.of);
  const threshold = sum(trusted) / last;
  const score = factors.ofNew(change(profiles.at(-1), candidate));
  const poisoned = score > threshold * (1 + 1e-9);
  const evidence = [...trusted, score].map(Math.log);
  return { poisoned, score, threshold, evidence };
}

/** lof where this share of the change vectors is all zeros, else robust; no evidence. */
const auto = (zeros, falseAlarm) => (profiles, candidate) => {
  const careful = robust(falseAlarm)(profiles, candidate);
  const still = profiles.slice(1).filter((profile, i) => square(profiles[i], profile) === 0);
  if (!careful || still.length / (profiles.length - 1) < zeros) return careful;
  return { ...lof(profiles, candidate), evidence: careful.evidence };
};

/**
 * The judge that a manifest asks for, or null if this agent has not learnt it.
 * @returns {null | ((profiles: Float64Array[], candidate: Float64Array) => Opinion)}
 */
export function judgeOf({ judge, judge_options: options, minimum_history: least }) {
  const {
    reading = 'A', false_alarm: falseAlarm = 0.02, zeros = 0.95, ...others
  } = options;
  if (Object.keys(others).length) return null;
  const known = {
    lof: reading === 'A' ? lof : null,
    calibrated: falseAlarm > 0 && falseAlarm < 1 ? calibrated(falseAlarm) : null,
    robust: falseAlarm > 0 && falseAlarm < 1 ? robust(falseAlarm) : null,
    auto: falseAlarm > 0 && falseAlarm < 1 ? auto(zeros, falseAlarm) : null,
  };
  const chosen = Object.hasOwn(known, judge) ? known[judge] : null;
  return chosen && ((profiles, candidate) => {
    const opinion = (profiles.length >= least && chosen(profiles, candidate)) || CLEAN;
    return { ...opinion, evidence: opinion.evidence.slice(-MOST_EVIDENCE) };
  });
}
