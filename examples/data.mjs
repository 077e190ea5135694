// An agent's own data: a CSV file, in each line a label and then the pixels, 0 to 255.

import { readFileSync } from 'node:fs';

import { Unfit } from './network.mjs';

/** @typedef {import('./training.mjs').Data} Data */

/** Read one line: [label, pixels], or what is wrong with it. */
function readLine(line) {
  const [label, ...pixels] = line.split(',').map((cell) => (cell.trim() ? Number(cell) : NaN));
  if (!Number.isInteger(label) || label < 0) return 'it begins with no label, a whole number';
  if (!pixels.length) return 'there are no pixels after the label';
  const right = pixels.every((pixel) => pixel >= 0 && pixel <= 255);
  if (!right) return 'a pixel is no number from 0 to 255';
  return [label, pixels];
}

/**
 * Read the text of a CSV file; a first line without a number at its start is a header.
 * @param {string} name of the file, for what is said of errors
 * @returns {Data}
 */
export function parseCsv(text, name) {
  const lines = text.split(/\r?\n/);
  const labels = [];
  const samples = [];
  lines.forEach((line, i) => {
    const header = i === 0 && Number.isNaN(Number(line.split(',')[0]));
    if (!line.trim() || header) return;
    const read = readLine(line);
    if (typeof read === 'string') throw new Unfit(`${name}, line ${i + 1}: ${read}`);
    const [label, pixels] = read;
    if (samples.length && pixels.length !== samples[0].length) {
      throw new Unfit(`${name}, line ${i + 1}: ${pixels.length} pixels, not ${samples[0].length}`);
    }
    labels.push(label);
    samples.push(Float32Array.from(pixels, (pixel) => pixel / 255));
  });
  if (!samples.length) throw new Unfit(`${name} holds no samples`);
  return { count: samples.length, pixels: samples, labels: Int32Array.from(labels) };
}

/** Read a CSV file. */
export function readCsv(file) {
  let text;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Unfit(`cannot read ${file} (${error.code})`);
  }
  return parseCsv(text, file);
}

/** Say with an error why data are not what a run is about. */
export function checkFit(data, { input_shape: shape, classes }) {
  const pixels = shape.reduce((a, b) => a * b, 1);
  if (shape.length !== 3) throw new Unfit('the run is not about images');
  if (data.pixels[0].length !== pixels) {
    throw new Unfit(`the run is about images of ${shape.join('×')} = ${pixels} pixels, `
      + `and the data have ${data.pixels[0].length}`);
  }
  const largest = data.labels.reduce((a, b) => Math.max(a, b));
  if (largest >= classes) {
    throw new Unfit(`the run knows classes 0 to ${classes - 1}, and the data have a ${largest}`);
  }
}
