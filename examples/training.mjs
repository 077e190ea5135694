// Local SGD on an agent's own data. Long work is a generator, so that who drives it can do other
// things in between, or give it up.

/**
 * @typedef {object} Data An agent's own samples.
 * @property {number} count
 * @property {Float32Array[]} pixels of each sample, in [0, 1], channel by channel, row by row
 * @property {Int32Array} labels
 */

/** A random order of 0 .. count - 1 (Fisher and Yates). */
function shuffled(count, random) {
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const other = Math.floor(random() * (i + 1));
    [order[i], order[other]] = [order[other], order[i]];
  }
  return order;
}

/**
 * Train on all data, in a new order in each epoch; the last batch of an epoch may be smaller.
 * A step is w -= rate * v with v = momentum * v + mean gradient of the batch, v from 0.
 * @param {import('./network.mjs').Network} network
 * @param {Float32Array} start
 * @param {Data} data
 * @param {{epochs: number, batch_size: number, learning_rate: number, momentum: number}} how
 * @returns {Generator<void, Float32Array>} what was learnt: weights after minus before
 */
export function* train(network, start, data, how, random = Math.random) {
  const weights = Float64Array.from(start);
  const gradient = new Float64Array(weights.length);
  const velocity = new Float64Array(weights.length);
  for (let epoch = 0; epoch < how.epochs; epoch++) {
    const order = shuffled(data.count, random);
    for (let first = 0; first < data.count; first += how.batch_size) {
      const batch = order.subarray(first, first + how.batch_size);
      gradient.fill(0);
      for (const i of batch) {
        network.loss(weights, data.pixels[i], data.labels[i], gradient);
        yield;
      }
      for (let i = 0; i < weights.length; i++) {
        velocity[i] = how.momentum * velocity[i] + gradient[i] / batch.length;
        weights[i] -= how.learning_rate * velocity[i];
      }
    }
  }
  return Float32Array.from(weights, (weight, i) => weight - start[i]);
}

/** The mean cross-entropy over all data. */
export function* meanLoss(network, weights, data) {
  let sum = 0;
  for (let i = 0; i < data.count; i++) {
    sum += network.loss(weights, data.pixels[i], data.labels[i]);
    yield;
  }
  return sum / data.count;
}
