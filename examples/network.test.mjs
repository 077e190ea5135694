// Gradients against finite differences, and what training does.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Network, Unfit } from './network.mjs';
import { train } from './training.mjs';

/** Numbers from -1 to 1 that are the same each time (a linear congruential generator). */
function numbers(count, state = 1) {
  return Float64Array.from({ length: count }, () => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return state / 2 ** 30 - 1;
  });
}

const end = (steps) => {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
};

const SMALL = { mlp: [1, 3, 3], classifier: [1, 17, 16], lenet: [2, 16, 16], cnn: [1, 11, 10] };

for (const [model, shape] of Object.entries(SMALL)) {
  test(`${model}: the gradient is what finite differences say, of every tensor`, () => {
    const network = new Network(model, shape, 3);
    const weights = numbers(network.size).map((v) => v / 4);
    const pixels = numbers(shape[0] * shape[1] * shape[2], 7).map(Math.abs);
    const gradient = new Float64Array(network.size);
    network.loss(weights, pixels, 1, gradient);
    const step = 1e-6;
    let moved = 0;
    for (let i = 0; i < network.size; i += 1 + Math.floor(network.size / 400)) {
      const shifted = (by) => {
        const other = weights.slice();
        other[i] += by;
        return network.loss(other, pixels, 1);
      };
      const difference = (shifted(step) - shifted(-step)) / (2 * step);
      const allowed = 1e-6 * (1 + Math.abs(difference));
      assert.ok(Math.abs(difference - gradient[i]) < allowed, `weight ${i}`);
      moved += difference !== 0;
    }
    assert.ok(moved > 50, `only ${moved} weights made a difference`);
  });
}

test('a loss without a gradient changes nothing, and gradients add up', () => {
  const network = new Network('mlp', [1, 2, 2], 3);
  const weights = numbers(network.size);
  const once = new Float64Array(network.size);
  const twice = new Float64Array(network.size);
  const loss = network.loss(weights, numbers(4, 3), 2, once);
  assert.equal(network.loss(weights, numbers(4, 3), 2), loss);
  for (const _ of [1, 2]) network.loss(weights, numbers(4, 3), 2, twice);
  assert.deepEqual(twice, once.map((v) => 2 * v));
});

test('the sizes of the networks on MNIST are those of the README', () => {
  const size = (model) => new Network(model, [1, 28, 28], 10).size;
  assert.deepEqual(['classifier', 'lenet', 'cnn'].map(size), [13106, 44426, 139960]);
});

test('what is no network of ours, or too small for one, is an error', () => {
  assert.throws(() => new Network('resnet18', [3, 32, 32], 10), Unfit);
  assert.throws(() => new Network('constructor', [3, 32, 32], 10), Unfit);
  assert.throws(() => new Network('lenet', [1, 8, 8], 10), Unfit);
});

test('momentum, epochs and short last batches do what they say', () => {
  const network = new Network('mlp', [1, 2, 2], 2);
  const start = Float32Array.from(numbers(network.size));
  const data = {
    count: 3,
    pixels: [1, 2, 3].map((seed) => Float32Array.from(numbers(4, seed))),
    labels: Int32Array.of(0, 1, 0),
  };
  const learn = (how) => end(train(network, start, data, {
    epochs: 1, batch_size: 2, learning_rate: 0.1, momentum: 0, ...how,
  }, () => 0.999)); // an order that stays as it is
  const byHand = (momentum, batches) => {
    const weights = Float64Array.from(start);
    let velocity = new Float64Array(network.size);
    for (const batch of batches) {
      const gradient = new Float64Array(network.size);
      for (const i of batch) network.loss(weights, data.pixels[i], data.labels[i], gradient);
      velocity = velocity.map((v, i) => momentum * v + gradient[i] / batch.length);
      weights.forEach((_, i) => { weights[i] -= 0.1 * velocity[i]; });
    }
    return Float32Array.from(weights, (weight, i) => weight - start[i]);
  };
  assert.deepEqual(learn({}), byHand(0, [[0, 1], [2]]));
  assert.deepEqual(learn({ epochs: 2, momentum: 0.5 }), byHand(0.5, [[0, 1], [2], [0, 1], [2]]));
  assert.deepEqual(learn({ batch_size: 99 }), byHand(0, [[0, 1, 2]]));
});
