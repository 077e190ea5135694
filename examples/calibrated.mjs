// The judge whose rate of false alarms is a setting (docs/protocol.md, "calibrated").

const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;

/** Variance with divisor n - 1. */
function variance(values) {
  const middle = mean(values);
  return values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1);
}

/** How much more a profile errs than those before: ln(T + 0.1), T in units of their variation. */
function increase(before, profile, finest) {
  let sum = 0;
  for (let place = 0; place < profile.length; place++) {
    const past = before.map((other) => other[place]);
    const m = mean(past);
    const z = (profile[place] - m) / Math.sqrt(variance(past) + finest * m + finest ** 2);
    sum += Math.max(z, 0) ** 2;
  }
  return Math.log(Math.sqrt(sum) + 0.1);
}

/**
 * P(T <= t) of Student's t with n degrees of freedom: for whole n a finite sum in the powers of
 * cos(a), where tan(a) = t / sqrt(n).
 */
function studentCdf(angle, n) {
  const cos = Math.cos(angle);
  let term = n % 2 ? cos : 1;
  let sum = n === 1 ? 0 : term;
  for (let power = n % 2 ? 3 : 2; power <= n - 2; power += 2) {
    term *= ((power - 1) / power) * cos ** 2;
    sum += term;
  }
  const inside = Math.sin(angle) * sum;
  return 0.5 + (n % 2 ? (angle + inside) / Math.PI : inside / 2);
}

/** The quantile q of Student's t with n degrees of freedom, by halving. */
export function studentQuantile(q, n) {
  let [low, high] = [-Math.PI / 2, Math.PI / 2];
  for (let step = 0; step < 100; step++) {
    const middle = (low + high) / 2;
    if (studentCdf(middle, n) < q) low = middle;
    else high = middle;
  }
  return Math.sqrt(n) * Math.tan((low + high) / 2);
}

/**
 * A judge who calls an honest model poisoned with this probability.
 * @returns {(profiles: Float64Array[], candidate: Float64Array, samples: number)
 *   => import('./wire.mjs').Opinion | null}
 */
export function calibrated(falseAlarm) {
  return (profiles, candidate, samples) => {
    const w = Math.floor(profiles.length / 2);
    const count = profiles.length - w;
    if (w < 2) return null; // no variance yet
    const all = [...profiles, candidate];
    const increases = all.slice(w)
      .map((profile, i) => increase(all.slice(i, i + w), profile, 1 / samples));
    const x = increases.at(-1);
    const past = increases.slice(0, -1);
    const b = Math.max(Math.sqrt(variance(past)), 0.1);
    const score = (x - mean(past)) / (b * Math.sqrt(1 + 1 / count));
    const threshold = studentQuantile(1 - falseAlarm, count - 1);
    return { poisoned: score > threshold + 1e-9, score, threshold, evidence: increases };
  };
}
