// The sums that an agent has helped to open: over one base model only one, of the same agents.

import {
  closeSync, existsSync, fsyncSync, openSync, readFileSync, writeSync,
} from 'node:fs';

import { Fatal } from './settings.mjs';

const LINE = /^([0-9a-f]{64}) ([0-9a-f]{64}) ((?:[0-9a-f]{2})+)$/;
const TORN = '-'; // ends a line that a crash has cut off

/** What an agent remembers, in a file if it has a place for one: a line for each sum. */
export class Remembered {
  #sums = new Map(); // SHA-256 of a base model, as hexadecimal digits -> {summed, survivors}

  #file;

  /**
   * @param {string} [file] created if it is not there
   * @throws Fatal if it cannot be read or written
   */
  constructor(file) {
    this.#file = file;
    if (file) this.#read();
  }

  #read() {
    const text = this.#tried('read', () => (
      existsSync(this.#file) ? readFileSync(this.#file, 'latin1') : ''));
    const lines = text.split('\n');
    const torn = lines.pop(); // the end is missing: then nothing was said of that sum either
    lines.forEach((line, i) => {
      if (line.endsWith(TORN)) return;
      const [found, base, summed, survivors] = LINE.exec(line) ?? [];
      if (!found) throw new Fatal(`${this.#file}, line ${i + 1}: not a sum that was opened`);
      this.#sums.set(base, { summed, survivors });
    });
    this.#tried('write', () => this.#append(torn ? `${TORN}\n` : ''));
  }

  #tried(what, action) {
    try {
      return action();
    } catch ({ code }) {
      throw new Fatal(`cannot ${what} ${this.#file} (${code}), where it remembers sums: --state`);
    }
  }

  /** Write at the end of the file, and wait until it is on the disk. */
  #append(text) {
    const file = openSync(this.#file, 'a', 0o600);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  /** The sum over a base model that it has helped to open, or undefined. */
  get(base) {
    return this.#sums.get(base);
  }

  /** Remember a sum, before anything is said that opens it; throws if it cannot. */
  add(base, { summed, survivors }) {
    if (this.#sums.has(base)) return; // it is the same: others are refused
    if (this.#file) this.#append(`${base} ${summed} ${survivors}\n`);
    this.#sums.set(base, { summed, survivors });
  }
}
