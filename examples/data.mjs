// An agent's own data: a CSV file, in each line a label and then the pixels, 0 to 255.

import { readFileSync } from 'node:fs';

import { Unfit } from './network.mjs';

/** @typedef {import('./training.mjs').Data} Data */

/** What white may be, of 1 to 8 bits and of 16 shades; as our Python reads images of bytes. */
const WHITE = [1, 3, 7, 15, 16, 31, 63, 127, 255];

/** The cells of a line, without blanks and the quotes around them. */
function cellsOf(line) {
  return line.split(',').map((cell) => cell.trim().replace(/^"(.*)"$/, '$1').trim());
}

const numberOf = (cell) => (cell ? Number(cell) : NaN);

/**
 * Say whether a first line is one of names, as `label,1x1,1x2` or `label,0,1,2`: none is a number
 * but those of the columns. Otherwise it is a damaged sample.
 */
function isHeader([first, ...others]) {
  if (!/^[A-Za-z_][^;\t|]*$/.test(first) || !Number.isNaN(numberOf(first))) return false;
  const numbers = others.map(numberOf);
  const counted = (start) => numbers.every((number, i) => number === start + i);
  return numbers.every(Number.isNaN) || counted(0) || counted(1);
}

/** Read one line: [label, pixels], or what is wrong with it. */
function readLine(line) {
  const separator = line.includes(',') ? '' : (line.match(/[;\t|]/) ?? [''])[0];
  if (separator) {
    const named = separator === '\t' ? 'a tab' : `"${separator}"`;
    return `its values are separated by ${named}, not by commas`;
  }
  const cells = cellsOf(line);
  if (cells.some((cell) => cell.includes('"'))) return 'there is a quote within a value';
  const [label, ...pixels] = cells.map(numberOf);
  if (!Number.isInteger(label) || label < 0) return 'it begins with no label, a whole number';
  if (label > 0x7fffffff) return 'its label is no class but an id: number the classes from 0';
  if (!pixels.length) return 'there are no pixels after the label';
  const wrong = pixels.findIndex((pixel) => !(pixel >= 0 && pixel <= 255));
  if (wrong < 0) return [label, pixels];
  const cell = JSON.stringify(cells[wrong + 1].slice(0, 20));
  return `pixel ${wrong + 1} (${cell}) is no number from 0 to 255`;
}

/**
 * Read the text of a CSV file; a first line of names is a header.
 * @param {string} name of the file, for what is said of it
 * @param {(text: string) => void} say told if white is not 255
 * @returns {Data}
 */
export function parseCsv(text, name, say = () => {}) {
  const labels = [];
  const samples = [];
  text.replace(/^\ufeff/, '').split(/\r\n|\n|\r/).forEach((line, i) => {
    if (!line.trim() || (i === 0 && isHeader(cellsOf(line)))) return;
    const read = readLine(line);
    if (typeof read === 'string') throw new Unfit(`${name}, line ${i + 1}: ${read}`);
    const [label, pixels] = read;
    if (samples.length && pixels.length !== samples[0].length) {
      throw new Unfit(`${name}, line ${i + 1}: ${pixels.length} pixels, not ${samples[0].length}`);
    }
    labels.push(label);
    samples.push(Float32Array.from(pixels));
  });
  if (!samples.length) throw new Unfit(`${name} holds no samples`);
  const white = whiteOf(samples, name, say);
  const pixels = samples.map((sample) => sample.map((pixel) => pixel / white));
  return { count: samples.length, pixels, labels: Int32Array.from(labels) };
}

/** Return by what pixels are to be divided, and say so if it is not 255. */
function whiteOf(samples, name, say) {
  const most = (values) => values.reduce((a, b) => Math.max(a, b), 0);
  const largest = most(samples.map(most));
  const white = largest > 0 ? WHITE.find((full) => full >= largest) : 255;
  if (white < 255) {
    say(`${name}: its pixels are from 0 to ${largest}: they are divided by ${white}, not by 255`);
  }
  return white;
}

/** Read a CSV file; see `parseCsv`. */
export function readCsv(file, say) {
  let text;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new Unfit(`cannot read ${file} (${error.code})`);
  }
  return parseCsv(text, file, say);
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
