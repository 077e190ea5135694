// How an agent takes part in secure aggregation: what it says and when, and what it refuses.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import test from 'node:test';

import { decode, encode } from '@msgpack/msgpack';

import { parseCsv } from './data.mjs';
import { encodeFixed } from './fixed.mjs';
import { mask, sha256 } from './keys.mjs';
import { Member } from './member.mjs';
import { Network } from './network.mjs';
import { Remembered } from './opened.mjs';
import { Secret, leastOf, updateContent } from './secret.mjs';
import { LEAST, addMasks, join, shareSecrets } from './secure.mjs';
import { encodeVector } from './vectors.mjs';
import { BadMessage } from './wire.mjs';

const NETWORK = new Network('mlp', [1, 2, 2], 2);
const SECURE = { members: 3, degree: 2, threshold: 2 };
const MANIFEST = {
  protocol: 2, model: 'mlp', tensors: NETWORK.tensors.map((shape) => ['', shape]),
  parameters: NETWORK.size, classes: 2, input_shape: [1, 2, 2], epochs: 1, batch_size: 4,
  learning_rate: 0.1, momentum: 0, codec: 'float32', history_codec: 'float32', max_bytes: 1000,
  judge: 'lof', judge_options: {}, look_back: 2, minimum_history: 3, secure: SECURE,
};
const ROUND = {
  round: 1, attempt: 1, phase: 'train', version: 0, contributors: 'all', validators: [], seconds: 9,
};
const DATA = parseCsv('0,255,0,0,255\n1,0,255,255,0\n', 'test.csv');
const WEIGHTS = Float32Array.from({ length: NETWORK.size }, (_, i) => Math.sin(i));
const SURVIVORS = { all: 0b111, withoutA: 0b110, withoutC: 0b011 };

const json = (message) => new TextEncoder().encode(JSON.stringify(message));

/** A member called b that has heard the manifest and the model, and what it says. */
function begun(changes = {}, remembered = new Remembered(), weights = WEIGHTS) {
  const said = [];
  const member = new Member('b', DATA, (text) => said.push(text), 'lab', remembered);
  member.hear('manifest', json({ ...MANIFEST, ...changes }));
  member.hear('model', encode({ version: 0, weights: encodeVector(weights) }));
  return { member, said };
}

/** Do what is due; returns what would be published, or null. */
function answer(member) {
  if (!member.due()) return null;
  const steps = member.work();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Open a round; returns the keys that the member sends. */
function keysOf(member, round = ROUND) {
  member.hear('round', json(round));
  const { part, payload } = answer(member);
  assert.equal(part, 'secure/keys/b');
  return decode(payload);
}

/** The rest of the group, a and c, in the hands of the test, and what the aggregator says to b. */
class Group {
  constructor(keys, { round, attempt } = ROUND) {
    this.turn = { round, attempt };
    this.others = ['a', 'c'].map((name) => join(name, 'lab', this.turn, 2, randomBytes));
    this.keys = { a: this.others[0].sent, b: keys, c: this.others[1].sent };
  }

  /** What one of them is told: its neighbours are both others. */
  peers(name = 'b', changes = {}) {
    const names = ['a', 'b', 'c'];
    const others = names.filter((one) => one !== name);
    return {
      ...this.turn, group: 0, place: names.indexOf(name), members: 3,
      roster: sha256(Buffer.from(names.join('\n'))),
      names: others.join(' '),
      places: Buffer.concat(others.map((one) => Buffer.of(names.indexOf(one), 0, 0, 0))),
      mask_keys: Buffer.concat(others.map((one) => this.keys[one].mask_key)),
      box_keys: Buffer.concat(others.map((one) => this.keys[one].box_key)),
      threshold: 2, clip: 0.5, bits: 20, weight: 2, largest: 2, ...changes,
    };
  }

  /** Take the boxes of b, and let a and c share their secrets too; returns the inbox of b. */
  inbox(boxes) {
    this.shared = this.others.map((one) => (
      shareSecrets(one, this.peers(one.name), undefined, LEAST, randomBytes)));
    const [a, c] = this.shared.map(({ sent }) => sent.boxes);
    const [ofA, ofC] = [a.subarray(0, 100), c.subarray(100)]; // a: for b and c; c: for a and b
    this.masked = [
      addMasks(this.shared[0], { boxes: Buffer.concat([boxes.subarray(0, 100), c.subarray(0, 100)]) },
        NETWORK.size + 1),
      addMasks(this.shared[1], { boxes: Buffer.concat([a.subarray(100), boxes.subarray(100)]) },
        NETWORK.size + 1),
    ];
    return { ...this.turn, boxes: Buffer.concat([ofA, ofC]) };
  }

  request(places) {
    return { ...this.turn, survivors: Uint8Array.of(places) };
  }
}

/** Say something to the member; returns what it answers, [what, its content] each. */
function tell(member, step, message) {
  member.hear(`secure/${step}/b`, encode(message));
  return member.replies().map(({ part, payload }) => [
    part, part.startsWith('decline') ? JSON.parse(new TextDecoder().decode(payload)) : decode(payload)]);
}

/** Go through the steps to the masked update; returns the group, and that. */
function masked(member, round = ROUND) {
  const group = new Group(keysOf(member, round), round);
  const [[part, { boxes }]] = tell(member, 'peers', group.peers());
  assert.equal(part, 'secure/shares/b');
  const [[last, update]] = tell(member, 'inbox', group.inbox(boxes));
  assert.equal(last, 'secure/masked/b');
  return { group, update };
}

const declined = (answers) => {
  assert.equal(answers.length, 1);
  const [[part, { round, attempt, why }]] = answers;
  assert.deepEqual([part, round], ['decline/b', 1]);
  assert.ok(attempt);
  return why;
};

const numbersOf = (data) => Array.from({ length: data.length * 8 / 20 }, (_, i) => {
  const five = Buffer.concat([data.subarray(5 * (i >> 1), 5 * (i >> 1) + 5), Buffer.alloc(3)]);
  return Number((five.readBigUInt64LE() >> BigInt(20 * (i & 1))) % (1n << 20n));
});

test('it sends keys once it has trained, then shares, then its update under masks', () => {
  const { member } = begun();
  assert.deepEqual(member.wanted().slice(3), ['secure/peers/b', 'secure/inbox/b', 'secure/unmask/b']);
  const keys = keysOf(member);
  assert.deepEqual([keys.round, keys.attempt, keys.samples], [1, 1, 2]);
  assert.equal(answer(member), null); // and nothing of its update
  const group = new Group(keys);
  const [[, { commitment, boxes }]] = tell(member, 'peers', group.peers());
  assert.deepEqual([commitment.length, boxes.length], [32, 200]);
  const [[, { version, data }]] = tell(member, 'inbox', group.inbox(boxes));
  assert.equal(version, 0);
  // Without the masks that a and c share with it, and its own, stands the update.
  const shares = group.masked.map((one, i) => one.shares[i ? 1 : 0].subarray(36)); // of b's secret
  const own = mask(secretOf(...shares), NETWORK.size + 1);
  const [withA, withC] = group.shared.map(({ neighbours }) => (
    mask(neighbours.find(({ name }) => name === 'b').maskKey, NETWORK.size + 1)));
  const fixed = { clip: 0.5, bits: 20, members: 3 };
  const update = encodeFixed(member.learnt.delta, fixed, 1);
  const found = numbersOf(data).slice(0, update.length)
    .map((word, i) => (2 ** 40 + word - own[i] + withA[i] - withC[i]) % 2 ** 20);
  assert.deepEqual(found, [...update]);
  const [[, { shares: said }]] = tell(member, 'unmask', group.request(SURVIVORS.all));
  assert.deepEqual([said.length, said.some(Boolean)], [72, true]);
});

/** Restore a secret from its shares at 1 and 2, values of lines. */
function secretOf(first, second) {
  const prime = 2n ** 31n + 11n;
  let value = 0n;
  for (let p = 0; p < 36; p += 4) {
    const part = (2n * BigInt(first.readUInt32LE(p)) - BigInt(second.readUInt32LE(p)) + prime) % prime;
    value = (value << 31n) | part;
  }
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
}

test('keys are new for each attempt, and a message of an earlier one is not answered', () => {
  const { member } = begun();
  const first = keysOf(member);
  const second = keysOf(member, { ...ROUND, attempt: 2 });
  assert.equal(second.attempt, 2);
  const keys = [first, second].flatMap((one) => [one.mask_key, one.box_key]);
  assert.equal(new Set(keys.map((key) => Buffer.from(key).toString('hex'))).size, 4);
  assert.deepEqual(tell(member, 'peers', new Group(first).peers()), []);
  const [[part]] = tell(member, 'peers', new Group(second, { ...ROUND, attempt: 2 }).peers());
  assert.equal(part, 'secure/shares/b');
});

test('a message that comes twice gets the same answer, and another in its place none', () => {
  const { member } = begun();
  const group = new Group(keysOf(member));
  const peers = group.peers();
  const [[, shares]] = tell(member, 'peers', peers);
  assert.deepEqual(tell(member, 'peers', peers), [['secure/shares/b', shares]]);
  assert.throws(() => tell(member, 'peers', { ...peers, group: 1 }), BadMessage);
  const inbox = group.inbox(shares.boxes);
  const [[, update]] = tell(member, 'inbox', inbox);
  assert.deepEqual(tell(member, 'inbox', inbox), [['secure/masked/b', update]]);
  assert.throws(() => tell(member, 'inbox', { ...inbox, boxes: inbox.boxes.with(0, 1) }), BadMessage);
});

test('the same request gets the same shares; another is refused, and says why', () => {
  const { member, said } = begun();
  const { group } = masked(member);
  const first = tell(member, 'unmask', group.request(SURVIVORS.all));
  assert.equal(first[0][0], 'secure/unmasked/b');
  assert.deepEqual(tell(member, 'unmask', group.request(SURVIVORS.all)), first);
  const why = 'a second request that differs from the first';
  assert.equal(declined(tell(member, 'unmask', group.request(SURVIVORS.withoutC))), why);
  assert.match(said.at(-1), /it is told or asked what it refuses: a second request/);
  assert.deepEqual(tell(member, 'unmask', group.request(SURVIVORS.all)), first);
});

test('steps out of order say nothing', () => {
  const { member } = begun();
  member.hear('secure/peers/b', encode(new Group(new Group({}).keys.a).peers()));
  assert.deepEqual(member.replies(), []); // it has sent no keys
  const group = new Group(keysOf(member));
  assert.throws(() => tell(member, 'inbox', { ...ROUND, boxes: new Uint8Array(200) }), BadMessage);
  assert.throws(() => tell(member, 'unmask', group.request(SURVIVORS.all)), BadMessage);
  assert.equal(tell(member, 'peers', group.peers()).length, 1);
});

test('over the same model it helps to open one sum, of the same agents, and no other', () => {
  const remembered = new Remembered();
  const { member } = begun({}, remembered);
  const { group } = masked(member);
  tell(member, 'unmask', group.request(SURVIVORS.all));
  const again = { ...ROUND, attempt: 2 };
  const second = masked(member, again).group; // the same members are no other sum yet
  assert.equal(declined(tell(member, 'unmask', {
    ...second.request(0b111), survivors: Uint8Array.of(0b1110111) })), 'another sum over the same model was opened, of other agents');
  const third = { ...ROUND, attempt: 3 };
  const { group: same } = masked(member, third);
  assert.equal(tell(member, 'unmask', same.request(SURVIVORS.all))[0][0], 'secure/unmasked/b');
  const keys = keysOf(member, { ...ROUND, attempt: 4 });
  const other = new Group(keys, { ...ROUND, attempt: 4 }).peers('b', { roster: Buffer.alloc(32) });
  assert.equal(declined(tell(member, 'peers', other)),
    'another sum over the same model was opened, with other members or weights');
  assert.deepEqual(tell(member, 'peers', other), []); // it has said so
  for (const [i, changes] of [{ clip: 0.25 }, { weight: 1, largest: 1 }, { largest: 3 }].entries()) {
    const round = { ...ROUND, attempt: 5 + i };
    const differs = new Group(keysOf(member, round), round).peers('b', changes);
    assert.match(declined(tell(member, 'peers', differs)), /with other members or weights$/);
  }
});

test('what was opened is remembered in a file, and over another model all is free', () => {
  const file = path(mkdtempSync(path(tmpdir(), 'secret-')), 'state');
  const { member } = begun({}, new Remembered(file));
  const { group } = masked(member);
  tell(member, 'unmask', group.request(SURVIVORS.all));
  const [line, ...rest] = readFileSync(file, 'utf8').split('\n');
  assert.deepEqual([line.split(' ')[2], rest], ['07', ['']]);
  writeFileSync(file, `${line}\n${line.slice(0, 90)}`); // the next was cut off by a crash
  for (const [weights, refused] of [[WEIGHTS, true], [WEIGHTS.with(0, 1), false]]) {
    for (const start of [1, 2]) { // and again
      const later = begun({}, new Remembered(file), weights).member;
      const peers = new Group(keysOf(later)).peers('b', { roster: Buffer.alloc(32) });
      const [[part]] = tell(later, 'peers', peers);
      assert.equal(part === 'decline/b', refused, `${start}`);
    }
  }
  writeFileSync(file, `${line}\nnonsense\n`);
  assert.throws(() => new Remembered(file), /state, line 2: not a sum that was opened/);
  assert.throws(() => new Remembered(tmpdir()), /cannot read .* \(EISDIR\)/);
});

test('where nothing can be remembered no sum is opened', () => {
  const remembered = new Remembered();
  remembered.add = () => { throw new Error('no space left on the device'); };
  const { member } = begun({}, remembered);
  const { group } = masked(member);
  const why = declined(tell(member, 'unmask', group.request(SURVIVORS.all)));
  assert.equal(why, 'no space left on the device');
});

test('an update that is not finite is declined', () => {
  const own = { run: 'lab', samples: 2, say: () => {}, least: LEAST, remembered: new Remembered() };
  const model = { version: 0, weights: WEIGHTS };
  const secret = new Secret('b', ROUND, updateContent(model, WEIGHTS.with(0, NaN)), own);
  const group = new Group(decode(secret.keys().payload));
  const { boxes } = decode(secret.hear('peers', encode(group.peers())).payload);
  const { part, payload } = secret.hear('inbox', encode(group.inbox(boxes)));
  assert.equal(part, 'decline/b');
  assert.match(new TextDecoder().decode(payload), /the update is not finite/);
});

test('in such a run it sends no plain update, whatever the round is', () => {
  const { member, said } = begun({ judge: 'robust' });
  member.hear('round', json({ ...ROUND, phase: 'judge_and_train' }));
  member.hear('candidate', encode({
    round: 1, attempt: 1, base: 0, weights: encodeVector(WEIGHTS) }));
  member.hear('history/0', encode({ weights: encodeVector(WEIGHTS) }));
  assert.equal(answer(member).part, 'decline/b');
  assert.match(said.at(-1), /its update would not be secret/);
});

test('a manifest asks for more than the least, never for less', () => {
  assert.deepEqual(leastOf({ members: 9, degree: 0 }), { members: 9, degree: 2, threshold: 2 });
  assert.deepEqual(leastOf({ threshold: 'low', members: true }), LEAST);
});

test('what cannot be a message of a step is refused, and changes nothing', () => {
  const { member } = begun();
  const group = new Group(keysOf(member));
  const peers = group.peers();
  const { roster, ...short } = peers;
  assert.ok(roster);
  const bad = [short, { ...peers, roster: Buffer.alloc(31) }, { ...peers, names: 'a  c' },
    { ...peers, names: ['a', 'c'] }, { ...peers, names: 'a c\n' }, { ...peers, places: Buffer.alloc(7) },
    { ...peers, mask_keys: 'keys' }, { ...peers, box_keys: Buffer.alloc(0) }, { ...peers, clip: NaN },
    { ...peers, bits: -20 }, { ...peers, weight: 0 }, { ...peers, members: 2 ** 31 }, [], null];
  for (const message of bad) assert.throws(() => tell(member, 'peers', message), BadMessage);
  assert.throws(() => member.hear('secure/peers/b', Uint8Array.of(0xc1)), BadMessage);
  const [[, { boxes }]] = tell(member, 'peers', peers);
  assert.throws(() => tell(member, 'inbox', { ...ROUND, boxes: boxes.subarray(1) }), BadMessage);
  assert.throws(() => tell(member, 'unmask', { ...ROUND, survivors: Buffer.alloc(0) }), BadMessage);
  assert.equal(tell(member, 'inbox', group.inbox(boxes)).length, 1);
});
