// Networks and local SGD, written out: plain loops over typed arrays, one sample at a time.

import { PROTOCOL, otherProtocol } from './wire.mjs';

/** A manifest, or data, with which this agent can do nothing; the message says why. */
export class Unfit extends Error {}

const conv = (filters, side) => ({ kind: 'conv', filters, side });
const pool = { kind: 'pool' };
const linear = (size) => ({ kind: 'linear', size });

/** Name -> layers but the last, which is linear with as many outputs as there are classes. */
const NETWORKS = {
  classifier: [conv(1, 5), pool, conv(1, 5), pool, linear(120), linear(84)],
  lenet: [conv(6, 5), pool, conv(16, 5), pool, linear(120), linear(84)],
  cnn: [conv(30, 3), pool, conv(50, 3), pool, linear(100)],
  mlp: [linear(32)],
};

/** What each kind of layer makes of its input's shape (channels, height, width). */
const OUTPUT = {
  conv: ({ filters, side }, [, high, wide]) => [filters, high - side + 1, wide - side + 1],
  pool: (_, [channels, high, wide]) => [channels, Math.floor(high / 2), Math.floor(wide / 2)],
  linear: ({ size }) => [size, 1, 1],
};

/** The shape of a layer's weights; its biases, one for each output, follow them. */
const WEIGHTS = {
  conv: ({ filters, side }, [channels]) => [filters, channels, side, side],
  linear: ({ size }, input) => [size, product(input)],
};

const product = (shape) => shape.reduce((a, b) => a * b, 1);

/**
 * x -> y for each kind, before ReLU. `w` holds all the network's weights; a layer's begin at
 * `at`, its biases at `bias`.
 */
const FORWARD = {
  conv({ input, output, side, at, bias }, w, x, y) {
    const [channels, high, wide] = input;
    const [filters, rows, columns] = output;
    for (let f = 0, o = 0; f < filters; f++) {
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++, o++) {
          let sum = w[bias + f];
          for (let k = 0, v = at + f * channels * side * side; k < channels; k++) {
            for (let i = 0; i < side; i++) {
              const row = (k * high + r + i) * wide + c;
              for (let j = 0; j < side; j++) sum += w[v++] * x[row + j];
            }
          }
          y[o] = sum;
        }
      }
    }
  },
  pool({ input, output, from }, _, x, y) {
    const [, high, wide] = input;
    const [channels, rows, columns] = output;
    for (let k = 0, o = 0; k < channels; k++) {
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++, o++) {
          const corner = (k * high + 2 * r) * wide + 2 * c;
          let best = corner;
          for (const other of [corner + 1, corner + wide, corner + wide + 1]) {
            if (x[other] > x[best]) best = other;
          }
          from[o] = best;
          y[o] = x[best];
        }
      }
    }
  },
  linear({ output: [size], at, bias }, w, x, y) {
    for (let o = 0, v = at; o < size; o++) {
      let sum = w[bias + o];
      for (let i = 0; i < x.length; i++) sum += w[v++] * x[i];
      y[o] = sum;
    }
  },
};

/** dy -> dx, and dw added to `g`. */
const BACKWARD = {
  conv({ input, output, side, at, bias }, w, x, dy, dx, g) {
    const [channels, high, wide] = input;
    const [filters, rows, columns] = output;
    for (let f = 0, o = 0; f < filters; f++) {
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < columns; c++, o++) {
          const d = dy[o];
          if (d === 0) continue;
          g[bias + f] += d;
          for (let k = 0, v = at + f * channels * side * side; k < channels; k++) {
            for (let i = 0; i < side; i++) {
              const row = (k * high + r + i) * wide + c;
              for (let j = 0; j < side; j++, v++) {
                g[v] += d * x[row + j];
                dx[row + j] += d * w[v];
              }
            }
          }
        }
      }
    }
  },
  pool({ from }, _, x, dy, dx) {
    for (let o = 0; o < dy.length; o++) dx[from[o]] += dy[o];
  },
  linear({ output: [size], at, bias }, w, x, dy, dx, g) {
    for (let o = 0; o < size; o++) {
      const d = dy[o];
      if (d === 0) continue;
      g[bias + o] += d;
      for (let i = 0, v = at + o * x.length; i < x.length; i++, v++) {
        g[v] += d * x[i];
        dx[i] += d * w[v];
      }
    }
  },
};

/**
 * A network for images of a shape. `tensors` are the shapes of its weights and biases in the order
 * of its layers, `size` is how many numbers they hold.
 */
export class Network {
  constructor(model, inputShape, classes) {
    if (!Object.hasOwn(NETWORKS, model)) {
      const name = /^\w{1,64}$/.test(model) ? ` (${model})` : '';
      throw new Unfit(`the run's network${name} is none of ${Object.keys(NETWORKS).join(', ')}`);
    }
    this.classes = classes;
    this.tensors = [];
    this.size = 0;
    this.layers = [];
    let input = inputShape;
    for (const layer of [...NETWORKS[model], linear(classes)]) {
      const output = OUTPUT[layer.kind](layer, input);
      if (Math.min(...output) < 1) {
        throw new Unfit(`images of ${inputShape.join('×')} are too small for ${model}`);
      }
      this.layers.push(this.#placed({ ...layer, input, output }));
      input = output;
    }
    this.layers.at(-1).relu = false;
  }

  /** Give a layer its place among the weights. */
  #placed(layer) {
    if (layer.kind === 'pool') return layer;
    const shape = WEIGHTS[layer.kind](layer, layer.input);
    const at = this.size;
    const bias = at + product(shape);
    this.size = bias + shape[0];
    this.tensors.push(shape, [shape[0]]);
    return { ...layer, at, bias, relu: true };
  }

  /** Room for what goes on between the layers; made once somebody needs it. */
  #rooms() {
    for (const layer of this.layers) {
      layer.y = new Float64Array(product(layer.output));
      layer.dx = new Float64Array(product(layer.input));
      layer.from = new Int32Array(layer.y.length);
    }
    this.ready = true;
  }

  /** The outputs before softmax, one for each class; overwritten by the next call. */
  forward(weights, pixels) {
    if (!this.ready) this.#rooms();
    let x = pixels;
    for (const layer of this.layers) {
      FORWARD[layer.kind](layer, weights, x, layer.y);
      if (layer.relu) layer.y.forEach((value, i, y) => { if (value < 0) y[i] = 0; });
      x = layer.y;
    }
    return x;
  }

  /** The cross-entropy of one sample; its gradient is added to `gradient`, if there is one. */
  loss(weights, pixels, label, gradient) {
    const outputs = this.forward(weights, pixels);
    const most = outputs.reduce((a, b) => Math.max(a, b));
    const sum = outputs.reduce((total, v) => total + Math.exp(v - most), 0);
    const logSum = most + Math.log(sum);
    const loss = logSum - outputs[label];
    if (gradient) {
      const dy = outputs.map((v, i) => Math.exp(v - logSum) - (i === label ? 1 : 0));
      this.#backward(weights, pixels, dy, gradient);
    }
    return loss;
  }

  #backward(weights, pixels, dy, gradient) {
    for (let i = this.layers.length - 1; i >= 0; i--) {
      const layer = this.layers[i];
      const x = i ? this.layers[i - 1].y : pixels;
      if (layer.relu) layer.y.forEach((value, o) => { if (value <= 0) dy[o] = 0; });
      layer.dx.fill(0);
      BACKWARD[layer.kind](layer, weights, x, dy, layer.dx, gradient);
      dy = layer.dx;
    }
  }
}

/** Make the manifest's network; throws Unfit if it is not what the manifest says it is. */
export function networkOf(manifest) {
  if (manifest.protocol !== PROTOCOL) throw new Unfit(otherProtocol(manifest.protocol));
  const network = new Network(manifest.model, manifest.input_shape, manifest.classes);
  const shapes = manifest.tensors.map(([, shape]) => shape);
  if (JSON.stringify(shapes) !== JSON.stringify(network.tensors)
    || manifest.parameters !== network.size) {
    throw new Unfit(`the run's tensors are not those of ${manifest.model}`);
  }
  return network;
}
