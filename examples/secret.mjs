// One attempt at a round in which an update is only sent under masks: what is told, and answered.

import { randomBytes } from 'node:crypto';

import { sha256 } from './keys.mjs';
import {
  LEAST, Refusal, addMasks, join, maskedUpdate, shareSecrets, unmask,
} from './secure.mjs';
import { floatBytes } from './vectors.mjs';
import { BadMessage, decline, readInbox, readPeers, readUnmask, secureMessage } from './wire.mjs';

/** Where the aggregator tells an agent its part. */
export const topicsOf = (name) => ['peers', 'inbox', 'unmask'].map((step) => `secure/${step}/${name}`);

/** What an agent asks for at the least: what the manifest says, and never less than makes sense. */
export const leastOf = (secure) => Object.fromEntries(
  Object.entries(LEAST).map(([key, least]) => [key, Math.max(least, Number(secure[key]) || 0)]),
);

const READ = { peers: readPeers, inbox: readInbox, unmask: readUnmask };
const BEFORE = { inbox: 'peers', unmask: 'inbox' }; // step -> the one before it

/** An agent's part in one attempt, once its update is ready: so none leaves a sum as it is slow. */
export class Secret {
  /**
   * @param {string} name
   * @param {{round: number, attempt: number}} round
   * @param {{version: number, weights: Float32Array}} model from which it has trained
   * @param {Float32Array} update (d,)
   * @param {{run: string, samples: number, least: typeof LEAST, norm?: number, say: (text: string) => void,
   *   remembered: import('./opened.mjs').Remembered, random?: (size: number) => Buffer}} own
   */
  constructor(name, round, model, update, own) {
    Object.assign(this, { name, round, update, own, version: model.version });
    this.base = sha256(floatBytes(model.weights)).toString('hex');
    this.random = own.random ?? randomBytes;
    this.joined = join(name, own.run, round, own.samples, this.random);
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
    const before = remembered.get(this.base);
    this.shared = shareSecrets(this.joined, message, before, least, this.random);
    return this.#answer('shares', this.shared.sent);
  }

  inbox(message) {
    this.masked = addMasks(this.shared, message, this.update.length + 1);
    const sent = maskedUpdate(this.masked, this.version, this.update, this.own.norm);
    return this.#answer('masked', sent);
  }

  unmask(message) {
    const { least, remembered } = this.own;
    const { opened, sent } = unmask(this.masked, message, remembered.get(this.base), least);
    remembered.add(this.base, opened); // before anything is said
    return this.#answer('unmasked', sent);
  }
}
