// One attempt at a round in which an update, or what was counted for a vote, is only sent under
// masks: what is told, and answered.

import { randomBytes } from 'node:crypto';

import { sha256 } from './keys.mjs';
import {
  LEAST, Refusal, addMasks, join, maskedCounts, maskedUpdate, shareSecrets, unmask,
} from './secure.mjs';
import { floatBytes } from './vectors.mjs';
import { BadMessage, decline, readInbox, readPeers, readUnmask, secureMessage } from './wire.mjs';

/** Where the aggregator tells an agent its part. */
export const topicsOf = (name) => ['peers', 'inbox', 'unmask'].map((step) => `secure/${step}/${name}`);

/**
 * What an agent asks for at the least: what the manifest says, and never less than makes sense.
 * @param {string} [prefix] 'counts_': of sums of what validators count
 */
export const leastOf = (secure, prefix = '') => Object.fromEntries(
  Object.entries(LEAST).map(
    ([key, least]) => [key, Math.max(least, Number(secure[prefix + key]) || 0)],
  ),
);

const hashOf = (...parts) => sha256(...parts).toString('hex');

/**
 * What is summed of an agent, and what that follows from beside its data.
 * @typedef {{base: string, hidden?: number, length: number, masked: (masked: object) => object}} Content
 */

/** An update (d,), trained from a model; `norm`: as in `maskedUpdate`, `hidden`: as in `join`. */
export const updateContent = ({ version, weights }, update, norm = 0, hidden = 0) => ({
  base: hashOf(floatBytes(weights)),
  hidden,
  length: update.length + 1 + Number(hidden > 0),
  masked: (masked) => maskedUpdate(masked, version, update, norm),
});

/** What was counted of accepted models of these versions, oldest first, and of a candidate. */
export const countsContent = (candidate, versions, counts) => ({
  base: hashOf(Buffer.from(`counts/${versions.join(' ')}/`), sha256(floatBytes(candidate))),
  length: counts.length,
  masked: (masked) => maskedCounts(masked, versions.at(-1), counts),
});

const READ = { peers: readPeers, inbox: readInbox, unmask: readUnmask };
const BEFORE = { inbox: 'peers', unmask: 'inbox' }; // step -> the one before it

/** An agent's part in one attempt, once that is ready: so none leaves a sum as it is slow. */
export class Secret {
  /**
   * @param {string} name
   * @param {{round: number, attempt: number}} round
   * @param {Content} content
   * @param {{run: string, samples: number, least: typeof LEAST, say: (text: string) => void,
   *   remembered: import('./opened.mjs').Remembered, random?: (size: number) => Buffer}} own
   */
  constructor(name, round, content, own) {
    Object.assign(this, { name, round, content, own });
    this.random = own.random ?? randomBytes;
    this.joined = join(name, own.run, round, own.samples, this.random, content.hidden);
    this.told = {}; // step -> what the aggregator has said
    this.said = {}; // step -> the answer
    this.over = false; // whether it has declined
  }

  #answer(step, content) {
    return { part: `secure/${step}/${this.name}`, payload: secureMessage(content) };
  }

  /** What is said first. */
  keys() {
    return this.#answer('keys', this.joined.sent);
  }

  /**
   * Take what the aggregator says; the same once more gets the same answer.
   * @returns what to publish, or null: an answer, or that it takes no further part, and why
   * @throws BadMessage if it does not fit
   */
  hear(step, payload) {
    const message = READ[step](payload);
    const { round, attempt } = this.round;
    if (message.round !== round || message.attempt !== attempt) return null;
    try {
      return this.#next(step, payload, message);
    } catch (error) {
      if (error instanceof BadMessage) throw error;
      return this.#decline(error);
    }
  }

  #next(step, payload, message) {
    if (this.told[step]) {
      if (Buffer.compare(this.told[step], payload) === 0) return this.said[step] ?? null;
      if (step === 'unmask') throw new Refusal('a second request that differs from the first');
      throw new BadMessage('duplicate');
    }
    if (this.over) return null;
    if (BEFORE[step] && !this.told[BEFORE[step]]) throw new BadMessage('wrong_phase');
    this.told[step] = payload;
    this.said[step] = this[step](message);
    return this.said[step];
  }

  /** A step that cannot, or must not, be done: nobody is to wait for it. */
  #decline(error) {
    this.over = true;
    const why = error.message.slice(0, 200);
    this.own.say(`round ${this.round.round} goes on without this agent: ${error instanceof Refusal
      ? `it is told or asked what it refuses: ${why}` : why}`);
    return { part: `decline/${this.name}`, payload: decline(this.round, why) };
  }

  peers(message) {
    const { least, remembered } = this.own;
    const before = remembered.get(this.content.base);
    this.shared = shareSecrets(this.joined, message, before, least, this.random);
    return this.#answer('shares', this.shared.sent);
  }

  inbox(message) {
    this.masked = addMasks(this.shared, message, this.content.length);
    return this.#answer('masked', this.content.masked(this.masked));
  }

  unmask(message) {
    const { least, remembered } = this.own;
    const { base } = this.content;
    const { opened, sent } = unmask(this.masked, message, remembered.get(base), least);
    remembered.add(base, opened); // before anything is said
    return this.#answer('unmasked', sent);
  }
}
