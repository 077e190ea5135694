// Vectors on the wire: {codec, n, data}, flat and little-endian (docs/protocol.md, "Vectors").

import { decompress } from 'fzstd';

/** A message that does not fit; `reason` is one of the protocol's, or says what is wrong. */
export class BadMessage extends Error {
  constructor(reason) {
    super(reason);
    this.reason = reason;
  }
}

const BLOCK = 256;
const KEYS = ['codec', 'data', 'n'];

const read = (width, value) => (bytes, n) => {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: n }, (_, i) => value(view, i * width));
};

/** The number of a half-precision float: sign, 5 bits of exponent, 10 of fraction. */
function half(view, at) {
  const bits = view.getUint16(at, true);
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

/** First a scale for every block of 256 values, then the bytes; a value is byte times scale. */
function readBlocks(bytes, n) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = 4 * Math.ceil(n / BLOCK);
  return Float32Array.from(
    { length: n },
    (_, i) => view.getInt8(start + i) * view.getFloat32(4 * Math.floor(i / BLOCK), true),
  );
}

const blocksLong = (n) => 4 * Math.ceil(n / BLOCK) + n;

/** Codec -> how many bytes n values take, and how they are read. */
const CODECS = {
  float32: { long: (n) => 4 * n, read: read(4, (view, at) => view.getFloat32(at, true)) },
  float16: { long: (n) => 2 * n, read: read(2, half) },
  int8: { long: blocksLong, read: readBlocks },
  int7: { long: blocksLong, read: readBlocks },
};

/** The content size that a zstd frame announces, or -1. */
function announced(frame) {
  const head = new Uint8Array(18); // the longest there is; a short frame's ends in zeros
  head.set(frame.subarray(0, 18));
  const view = new DataView(head.buffer);
  const flags = head[4];
  const single = (flags >> 5) & 1;
  const at = 6 - single + [0, 1, 2, 4][flags & 3];
  switch (flags >> 6) {
    case 0: return single ? head[at] : -1;
    case 1: return view.getUint16(at, true) + 256;
    case 2: return view.getUint32(at, true);
    default: return Number(view.getBigUint64(at, true));
  }
}

/** Unpack a frame; its announced size is looked at first, so that a bomb takes no memory. */
function unzip(frame, long) {
  if (announced(frame) !== long) throw new BadMessage('wrong_length');
  try {
    return decompress(frame, new Uint8Array(long));
  } catch {
    throw new BadMessage('malformed');
  }
}

/**
 * Decode a vector of n values. Inf and NaN pass: whether a run lets them in is for the aggregator.
 * @returns {Float32Array}
 */
export function decodeVector(map, n) {
  if (map === null || typeof map !== 'object') throw new BadMessage('wrong_type');
  if (!KEYS.every((key) => Object.hasOwn(map, key))) throw new BadMessage('missing_key');
  const { codec, n: said, data } = map;
  if (typeof codec !== 'string' || !Number.isInteger(said) || !(data instanceof Uint8Array)) {
    throw new BadMessage('wrong_type');
  }
  const plain = codec.replace(/\+zstd$/, '');
  if (!Object.hasOwn(CODECS, plain)) throw new BadMessage('unknown_codec');
  if (said !== n) throw new BadMessage('wrong_length');
  const long = CODECS[plain].long(n);
  const bytes = plain === codec ? data : unzip(data, long);
  if (bytes.length !== long) throw new BadMessage('wrong_length');
  return CODECS[plain].read(bytes, n);
}

/** Blocks of 256 values, each as bytes from -top to top in units of the block's largest. */
function writeBlocks(values, top) {
  const start = 4 * Math.ceil(values.length / BLOCK);
  const bytes = new Uint8Array(start + values.length);
  const view = new DataView(bytes.buffer);
  for (let first = 0; first < values.length; first += BLOCK) {
    const block = values.subarray(first, first + BLOCK);
    const scale = Math.fround(block.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / top);
    view.setFloat32(first / BLOCK * 4, scale, true);
    block.forEach((value, i) => {
      const units = scale > 0 ? Math.round(value / scale) : 0;
      view.setInt8(start + first + i, Math.max(-top, Math.min(top, units)));
    });
  }
  return bytes;
}

const floats = (values) => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setFloat32(4 * i, value, true));
  return new Uint8Array(view.buffer);
};

/** Numbers as little-endian float32, as evidence travels. */
export const floatBytes = (values) => floats(Float32Array.from(values));

/** Whole numbers as little-endian uint32. */
export const wholeBytes = (values) => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setUint32(4 * i, value, true));
  return new Uint8Array(view.buffer);
};

/** Whole numbers, each in as few bytes as the largest needs, which are said first. */
export function countBytes(values) {
  const largest = values.reduce((a, b) => Math.max(a, b));
  const width = [1, 2, 4].find((bytes) => largest < 256 ** bytes);
  const view = new DataView(new ArrayBuffer(1 + width * values.length));
  view.setUint8(0, width);
  const write = { 1: 'setUint8', 2: 'setUint16', 4: 'setUint32' }[width];
  values.forEach((value, i) => view[write](1 + width * i, value, true));
  return new Uint8Array(view.buffer);
}

/**
 * Encode a vector. `codec` is a wish, every codec is accepted: zstd is left out, and float32 stands
 * in for float16 and for what blocks cannot say.
 * @param {Float32Array} values
 */
export function encodeVector(values, codec = 'float32') {
  const plain = codec.replace(/\+zstd$/, '');
  const top = { int8: 127, int7: 63 }[plain];
  if (!top || !values.every(Number.isFinite)) {
    return { codec: 'float32', n: values.length, data: floats(values) };
  }
  return { codec: plain, n: values.length, data: writeBlocks(values, top) };
}
