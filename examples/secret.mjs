// One attempt at a round in which an update is only sent under masks: what is said, and when.

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

const equal = (a, b) => Buffer.compare(a, b) === 0;

/** An agent's part in one attempt. Whatever comes, it returns what is to be published. */
export class Secret {
  /**
   * @param {string} name
   * @param {{round: number, attempt: number, version: number}} round
   * @param {{run: string, samples: number, length: number, least: typeof LEAST,
   *   remembered: import('./opened.mjs').Remembered, say: (text: string) => void,
   *   random?: (size: number) => Buffer}} own `length`: d + 1
   */
  constructor(name, round, own) {
    Object.assign(this, { name, round, own });
    this.random = own.random ?? randomBytes;
    this.joined = join(name, own.run, round, own.samples, this.random);
    this.over = false; // whether it has declined
  }

  /** Whether it is of this attempt. */
  fits({ round, attempt }) {
    return this.round.round === round && this.round.attempt === attempt;
  }

  #message(step, content) {
    return { part: `secure/${step}/${this.name}`, payload: secureMessage(content) };
  }

  /** What is said first. */
  keys() {
    return this.#message('keys', this.joined.sent);
  }

  /** Take the model that it trains from. */
  begin(model) {
    this.model = model;
    this.base = sha256(floatBytes(model.weights)).toString('hex');
    return this.#tried(() => this.#share());
  }

  /**
   * Take what the aggregator says.
   * @throws BadMessage if it does not fit
   */
  hear(step, payload) {
    const read = { peers: readPeers, inbox: readInbox, unmask: readUnmask }[step];
    const message = read(payload);
    if (!this.fits(message)) return [];
    return this.#tried(() => {
      if (step === 'unmask') return this.#unmask(message);
      if (this.over) return [];
      return step === 'peers' ? this.#peers(payload, message) : this.#inbox(payload, message);
    });
  }

  /** Take what was learnt. */
  trained(update) {
    this.update = update;
    return this.over ? [] : this.#tried(() => this.#send());
  }

  /** Do a step; if it cannot, or must not, be done, nobody is to wait for it. */
  #tried(step) {
    try {
      return step();
    } catch (error) {
      if (error instanceof BadMessage) throw error;
      this.over = true;
      const { message: why } = error;
      const { round } = this.round;
      this.own.say(error instanceof Refusal
        ? `round ${round}: this agent takes no further part, as the aggregator asks too much: ${why}`
        : `round ${round} goes on without this agent: ${why}`);
      return [{ part: `decline/${this.name}`, payload: decline(this.round, why) }];
    }
  }

  #peers(payload, message) {
    if (this.peersSaid && !equal(this.peersSaid, payload)) throw new BadMessage('duplicate');
    if (this.shared) return [this.#message('shares', this.shared.sent)];
    Object.assign(this, { peersSaid: payload, peers: message });
    return this.#share();
  }

  /** Which sum was opened before is known by the base model: there are no shares without it. */
  #share() {
    if (!this.peers || !this.model || this.shared || this.over) return [];
    const before = this.own.remembered.get(this.base);
    this.shared = shareSecrets(this.joined, this.peers, before, this.own.least, this.random);
    return [this.#message('shares', this.shared.sent)];
  }

  #inbox(payload, message) {
    if (!this.shared) throw new BadMessage('wrong_phase');
    if (this.inboxSaid && !equal(this.inboxSaid, payload)) throw new BadMessage('duplicate');
    this.inboxSaid = payload;
    this.masked ??= addMasks(this.shared, message, this.own.length);
    return this.#send();
  }

  #send() {
    if (!this.masked || !this.update) return [];
    this.sent ??= maskedUpdate(this.masked, this.model.version, this.update);
    return [this.#message('masked', this.sent)];
  }

  #unmask(request) {
    if (this.answered) {
      if (equal(this.answered.survivors, request.survivors)) return [this.answered.answer];
      throw new Refusal('a second request that differs from the first');
    }
    if (this.over) return [];
    if (!this.sent) throw new BadMessage('wrong_phase');
    const { remembered, least } = this.own;
    const { opened, sent } = unmask(this.masked, request, remembered.get(this.base), least);
    remembered.add(this.base, opened);
    const { survivors } = request;
    this.answered = { survivors, answer: this.#message('unmasked', sent) };
    return [this.answered.answer];
  }
}
