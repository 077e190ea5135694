// What an agent does with what it hears (docs/protocol.md, "What an agent does"), without a socket:
// messages go in; which topics it needs, and the work that is due, come out.

import { isCalled } from './call.mjs';
import { checkFit } from './data.mjs';
import { groupsOf } from './groups.mjs';
import {
  changesOf, judgeOf, profileOf, profilesOf,
} from './judge.mjs';
import { networkOf } from './network.mjs';
import { Remembered } from './opened.mjs';
import {
  Secret, countsContent, leastOf, topicsOf, updateContent,
} from './secret.mjs';
import { meanLoss, train } from './training.mjs';
import * as wire from './wire.mjs';

const NO_OPINION = { score: 0, threshold: 0, evidence: [] };

const same = (a, b) => a.length === b.length && a.every((value, i) => Object.is(value, b[i]));

/** One agent of a run. */
export class Member {
  /**
   * @param {string} name
   * @param {import('./training.mjs').Data} data its own
   * @param {(text: string) => void} say tells people
   * @param {string} run
   * @param {Remembered} remembered the sums that it has helped to open
   */
  constructor(name, data, say, run = '', remembered = new Remembered()) {
    Object.assign(this, { name, data, say, run, remembered });
    this.outbox = []; // answers that are due at once, {part, payload}
    this.past = new Map(); // version -> {weights} or {profile}, of accepted models
    this.groupPast = new Map(); // version -> the same of a group's candidate
    this.groups = new Map(); // number -> the candidate of that group
    this.received = 0; // bytes of candidates and history since the round was opened
    this.asked = 0; // rounds and manifests heard; each of them ends the work on what was before it
    this.begun = false; // whether a round of the run was heard
    this.done = false;
  }

  /** The parts of topics that it wants to hear now. */
  wanted() {
    if (!this.network) return ['manifest'];
    const always = ['manifest', 'round', 'model', ...(this.#isSecret() ? topicsOf(this.name) : [])];
    return this.#judges() ? [...always, ...this.#missing()] : always;
  }

  /** What it still needs to judge. */
  #missing() {
    const onGroups = this.round.phase === 'validate_groups';
    const [past, history] = onGroups
      ? [this.groupPast, 'group-history'] : [this.past, 'history'];
    const candidates = onGroups
      ? this.#myGroups().filter((group) => !this.#fits(this.groups.get(group)))
        .map((group) => `group/${group}`)
      : ['candidate'].filter(() => !this.#fits(this.candidate));
    const missing = this.#lookBack().filter((version) => !past.has(version));
    return [...candidates, ...missing.map((version) => `${history}/${version}`)];
  }

  /**
   * Take a message; an empty one only removes what was retained.
   * @param {string} part of the topic behind the run
   * @throws BadMessage if it does not fit, and Unfit if it is a manifest that is not for us
   */
  hear(part, payload) {
    const [kind, number] = part.split('/');
    if (!payload.length) return;
    if (kind === 'manifest') this.#begin(wire.readManifest(payload));
    else if (!this.network) return;
    else if (kind === 'round') this.#open(wire.readRound(payload));
    else if (kind === 'model') this.model = wire.readModel(payload, this.network.size);
    else if (kind === 'secure') this.outbox.push(this.secret?.hear(number, payload));
    else if (kind === 'candidate' || kind === 'group') this.#candidate(kind, Number(number), payload);
    else if (kind === 'history') this.#history(this.past, Number(number), payload);
    else if (kind === 'group-history') this.#history(this.groupPast, Number(number), payload);
  }

  #candidate(kind, group, payload) {
    const candidate = wire.readCandidate(payload, this.network.size);
    if (kind === 'group') {
      if (!this.#fits(this.groups.get(group))) this.groups.set(group, candidate);
    } else if (!this.#fits(this.candidate)) this.candidate = candidate;
    this.received += payload.length;
  }

  #history(past, version, payload) {
    if (past.has(version)) return;
    past.set(version, wire.readHistory(payload, this.network.size));
    this.received += payload.length;
  }

  #begin(manifest) {
    const before = this.manifest;
    this.network = undefined; // until the next manifest, if this one is not for us
    this.manifest = manifest;
    this.asked += 1;
    this.past.clear(); // of the same versions there may be others now
    this.groupPast.clear();
    this.anew = true;
    if (before && JSON.stringify(before) !== JSON.stringify(manifest)) this.#forget(before);
    const network = networkOf(manifest);
    checkFit(this.data, manifest);
    Object.assign(this, { network, judge: judgeOf(manifest) });
  }

  /** Forget what was of another manifest: it holds from the next round on. */
  #forget(before) {
    const same = JSON.stringify(before.tensors) === JSON.stringify(this.manifest.tensors);
    if (!same) this.model = undefined;
    this.groups.clear();
    Object.assign(this, { round: undefined, candidate: undefined, learnt: undefined, secret: null });
  }

  #open(round) {
    if (round.phase === 'done') {
      this.done = this.begun; // to a newcomer it says how an earlier run ended
      if (!this.done) this.say('an earlier run of this name is over; waiting for the next');
      return;
    }
    this.begun = true;
    if (this.anew) this.answered = null; // the aggregator began again and asks again
    this.anew = false;
    this.asked += 1;
    this.round = round;
    this.received = 0;
    const [oldest] = this.#lookBack();
    for (const past of [this.past, this.groupPast]) {
      for (const version of past.keys()) if (version < oldest) past.delete(version);
    }
    for (const [group, candidate] of this.groups) {
      if (!this.#fits(candidate)) this.groups.delete(group);
    }
    if (!this.judge && this.#asked()) this.#cannotJudge();
  }

  /** Whether updates are only sent under masks. */
  #isSecret() {
    return Object.keys(this.manifest.secure).length > 0;
  }

  #cannotJudge() {
    if (!this.told) this.say('asked to judge in a way that this agent does not know: no votes');
    this.told = true;
  }

  /** Whether it is asked to train. */
  #called() {
    const { contributors, calls } = this.round;
    return contributors === 'all' || isCalled(this.name, contributors, calls.contributors);
  }

  /** Whether it is asked to judge. */
  #asked() {
    const {
      phase, validators, groups, calls,
    } = this.round;
    if (phase === 'judge_and_train') return this.#called();
    const asks = phase === 'validate' || (phase === 'validate_groups' && groups > 0);
    return asks && isCalled(this.name, validators, calls.validators);
  }

  #judges() {
    return this.judge && this.round && this.answered !== this.#key() && this.#asked();
  }

  #key() {
    const { round, attempt, phase } = this.round;
    return `${round}.${attempt} ${phase}`;
  }

  #lookBack() {
    const { version } = this.round;
    const first = Math.max(0, version - this.manifest.look_back);
    return Array.from({ length: version - first + 1 }, (_, i) => first + i);
  }

  #myGroups() {
    return groupsOf(this.round, this.name);
  }

  /** Whether a candidate is of this attempt. */
  #fits(candidate) {
    const { round } = this;
    return Boolean(round && candidate) && candidate.round === round.round
      && candidate.attempt === round.attempt && candidate.base === round.version;
  }

  /** The number of the answer that is due and can be given now, or 0. */
  due() {
    if (this.done || !this.network || !this.round || this.answered === this.#key()) return 0;
    const ready = this.round.phase === 'train'
      ? this.#called() && this.model?.version === this.round.version
      : this.#judges() && !this.#missing().length;
    return ready ? this.asked : 0;
  }

  /** Take the answers that are due at once. */
  replies() {
    return this.outbox.splice(0).filter(Boolean);
  }

  /**
   * Do what is due, step by step; to be given up when `due()` says another number.
   * @returns {Generator<void, {part: string, payload: Uint8Array}>} what to publish
   */
  * work() {
    const key = this.#key();
    const { round, model } = this;
    let answer;
    try {
      if (round.phase === 'train') answer = yield* this.#learn(round, model, NO_OPINION, 0);
      else if (round.phase === 'validate_groups') answer = yield* this.#judgeGroups(round);
      else answer = yield* this.#judge(round);
    } catch (error) {
      this.say(`round ${round.round} goes on without this agent: ${error.message}`);
      answer = { part: `decline/${this.name}`, payload: wire.decline(round) };
    }
    this.answered = key;
    return answer;
  }

  /** Learn from a model, or send again what was learnt from it in this round. */
  * #learn(asked, model, opinion, bytes) {
    const { round, attempt, phase } = asked;
    const { version, weights } = model;
    const isSecret = this.#isSecret();
    if (isSecret && phase !== 'train') throw new Error('its update would not be secret');
    if (this.learnt?.round === round && same(this.learnt.weights, weights)) {
      this.say(`round ${round}, attempt ${attempt}: the same update again`);
    } else {
      const delta = yield* this.#train(round, weights);
      this.learnt = { round, weights, delta };
    }
    const samples = this.data.count;
    const { delta } = this.learnt;
    if (isSecret) {
      const { secure } = this.manifest;
      const content = updateContent(
        model, delta, Number(secure.norm) || 0, Number(secure.hidden) || 0,
      );
      return this.#keys(asked, content, leastOf(secure));
    }
    const message = { round, version, samples, delta, opinion, bytes };
    return { part: `update/${this.name}`, payload: wire.update(message, this.manifest.codec) };
  }

  /** Take part in an attempt in which that is only summed. */
  #keys(round, content, least) {
    const { run, remembered, say, data: { count: samples } } = this;
    this.secret = new Secret(this.name, round, content, { run, remembered, say, samples, least });
    return this.secret.keys();
  }

  /** A vote whose counts are only summed, once there are enough accepted models: it says no more. */
  #secretVote(round, { poisoned, counts }, bytes) {
    const { candidate: { weights }, manifest: { secure, minimum_history: needed } } = this;
    const said = { poisoned, score: Number(poisoned), threshold: 0.5, evidence: [] };
    if (counts.length > needed) {
      const numbers = counts.flatMap((profile) => [...profile]);
      const content = countsContent(weights, this.#lookBack(), numbers);
      this.outbox.push(this.#keys(round, content, leastOf(secure, 'counts_')));
    }
    return wire.vote(round, this.data.count, said, bytes);
  }

  * #train(round, weights) {
    const { network, data, manifest } = this;
    const before = yield* meanLoss(network, weights, data);
    const delta = yield* train(network, weights, data, manifest);
    const after = yield* meanLoss(network, weights.map((w, i) => w + delta[i]), data);
    this.say(`round ${round}: trained on ${data.count} samples, `
      + `loss ${before.toFixed(4)} -> ${after.toFixed(4)}`);
    return delta;
  }

  #profiles(past) {
    return profilesOf(this.network, this.#lookBack().map((version) => past.get(version)), this.data);
  }

  * #judgeGroups(round) {
    const { received: bytes } = this;
    const before = process.cpuUsage();
    const past = (yield* this.#profiles(this.groupPast)).map(({ errors }) => errors);
    const votes = [];
    for (const group of this.#myGroups()) {
      const { weights } = this.groups.get(group);
      const { errors } = yield* profileOf(this.network, weights, this.data);
      votes.push([group, this.judge(past, errors)]);
    }
    const { user, system } = process.cpuUsage(before);
    const poisoned = votes.filter(([, opinion]) => opinion.poisoned).map(([group]) => group);
    this.say(`round ${round.round}: of ${votes.length} groups `
      + `${poisoned.length ? `poisoned: ${poisoned.join(', ')}` : 'none is poisoned'}`);
    const payload = wire.groupVote(round, this.data.count, votes, bytes, user + system);
    return { part: `group-vote/${this.name}`, payload };
  }

  * #judge(round) {
    const { candidate, received: bytes } = this;
    const profiles = yield* this.#profiles(this.past);
    const profile = yield* profileOf(this.network, candidate.weights, this.data);
    const past = profiles.map(({ errors }) => errors);
    const opinion = {
      ...this.judge(past, profile.errors),
      ...changesOf(profiles.at(-1), profile),
      ...(this.manifest.counts && { counts: [...past, profile.errors] }),
    };
    this.say(`round ${round.round}: the candidate is ${opinion.poisoned ? 'poisoned' : 'clean'} `
      + `(score ${opinion.score.toFixed(4)}, threshold ${opinion.threshold.toFixed(4)})`);
    if (round.phase === 'judge_and_train' && !opinion.poisoned) {
      const model = { version: round.version + 1, weights: candidate.weights };
      return yield* this.#learn(round, model, opinion, bytes);
    }
    const payload = this.#isSecret() && opinion.counts
      ? this.#secretVote(round, opinion, bytes)
      : wire.vote(round, this.data.count, opinion, bytes);
    return { part: `vote/${this.name}`, payload };
  }
}
