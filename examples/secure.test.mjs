// Secure aggregation against the vector of docs/protocol.md, which was made in Python.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { decode } from '@msgpack/msgpack';

import { encodeFixed, largestOf, packed } from './fixed.mjs';
import { KeyPair, derive, infoOf, mask, seal, unseal } from './keys.mjs';
import {
  LEAST, Refusal, addMasks, join, maskedUpdate, shareSecrets, unmask,
} from './secure.mjs';
import { partsOf, share } from './shamir.mjs';

const FILE = new URL('../tests/unit/recorded/secure_vector.json', import.meta.url);
const VECTOR = JSON.parse(readFileSync(FILE));
const TURN = { round: VECTOR.round, attempt: VECTOR.attempt };
const SESSION = { ...TURN, run: VECTOR.run, group: VECTOR.group };
const AGENTS = Object.entries(VECTOR.agents);
const SHARERS = AGENTS.filter(([, agent]) => agent.own_secret);

const bytes = (digits) => Buffer.from(digits, 'hex');
const hex = (data) => Buffer.from(data).toString('hex');
const floats = (digits) => {
  const data = bytes(digits);
  return Float32Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i));
};

/** A fixed source in the place of the operating system's. */
function stream(digits) {
  const data = bytes(digits);
  let at = 0;
  return (size) => {
    at += size;
    assert.ok(at <= data.length);
    return data.subarray(at - size, at);
  };
}

/** What an agent says, or hears, in a step; undefined where there is nothing. */
function messageOf(name, step) {
  const { messages } = VECTOR.agents[name];
  const found = messages.find(({ topic }) => topic === `secure/${step}/${name}`);
  return found && decode(bytes(found.payload));
}

/** A message as it can be compared: bytes in hexadecimal digits, keys in the order of the alphabet. */
const plain = (message) => Object.fromEntries(
  Object.entries(message).sort().map(([key, value]) => (
    [key, value instanceof Uint8Array ? hex(value) : value])),
);

/** Replay an agent up to its masks. */
function replay(name) {
  const agent = VECTOR.agents[name];
  const random = stream(agent.random_bytes);
  const joined = join(name, VECTOR.run, TURN, agent.samples, random);
  const peers = messageOf(name, 'peers');
  if (!agent.own_secret) return { agent, joined };
  const shared = shareSecrets(joined, peers, undefined, LEAST, random);
  const masked = addMasks(shared, messageOf(name, 'inbox'), agent.masks.length);
  return { agent, joined, shared, masked };
}

test('every agent says, byte for byte, what is in the vector', () => {
  for (const [name, { update }] of AGENTS) {
    const { joined, shared, masked } = replay(name);
    const said = { keys: joined.sent, shares: shared?.sent };
    if (messageOf(name, 'masked')) {
      said.masked = maskedUpdate(masked, VECTOR.version, floats(update));
      said.unmasked = unmask(masked, messageOf(name, 'unmask'), undefined, LEAST).sent;
    }
    for (const step of ['keys', 'shares', 'masked', 'unmasked']) {
      const expected = messageOf(name, step);
      assert.equal(Boolean(said[step]), Boolean(expected), `${name} ${step}`);
      if (expected) assert.deepEqual(plain(said[step]), plain(expected), `${name} ${step}`);
    }
  }
});

test('keys, secrets and boxes with each neighbour are those of the vector', () => {
  for (const [name, agent] of SHARERS) {
    const [maskKeys, boxKeys] = ['mask', 'box'].map((kind) => {
      const pair = new KeyPair(bytes(agent[`${kind}_private`]));
      assert.equal(hex(pair.open), agent[`${kind}_public`]);
      return pair;
    });
    for (const [other, found] of Object.entries(agent.with)) {
      const their = VECTOR.agents[other];
      const pair = [name, other].sort();
      const infos = ['mask', 'box'].map((purpose) => infoOf(SESSION, purpose, ...pair));
      assert.deepEqual(infos.map(String), [found.mask_info, found.box_info]);
      const secrets = [maskKeys.agree(bytes(their.mask_public)), boxKeys.agree(bytes(their.box_public))];
      assert.deepEqual(secrets.map(hex), [found.mask_secret, found.box_secret]);
      const keys = secrets.map((secret, i) => derive(secret, infos[i]));
      assert.deepEqual(keys.map(hex), [found.mask_key, found.box_key]);
      assert.deepEqual([...mask(keys[0], found.mask.length)], found.mask);
      const header = infoOf(SESSION, 'share', name, other);
      assert.equal(String(header), found.header);
      const content = bytes(found.share_of_mask_private + found.share_of_own_secret);
      assert.equal(hex(seal(keys[1], content, header, stream(found.nonce))), found.box);
      assert.equal(hex(unseal(keys[1], bytes(found.box), header)), hex(content));
    }
  }
});

test('secrets are cut into the parts of the vector, and shared as there', () => {
  for (const [, agent] of SHARERS) {
    const secrets = [agent.mask_private, agent.own_secret].map(bytes);
    assert.deepEqual(secrets.map(partsOf), agent.parts);
    const drawn = stream(agent.random_bytes);
    drawn(96); // two private keys, and the secret of its own mask
    const shares = share(secrets, agent.neighbours.length, VECTOR.threshold, drawn).map(hex);
    assert.deepEqual(shares, agent.neighbours.map((name) => (
      agent.with[name].share_of_mask_private + agent.with[name].share_of_own_secret)));
    const [coefficients] = agent.coefficients; // of a line: its value at 1 is both added up
    const first = secrets.flatMap(partsOf)
      .map((part, p) => (part + coefficients.flat()[p]) % (2 ** 31 + 11));
    assert.deepEqual(Array.from({ length: 18 }, (_, p) => bytes(shares[0]).readUInt32LE(4 * p)), first);
  }
});

test('updates become the numbers of the vector, and the masked ones sum to the masked sum', () => {
  const { clip, bits, members } = VECTOR;
  const fixed = { clip, bits, members: members.length };
  assert.equal(largestOf(bits, members.length), VECTOR.largest_number);
  const total = new Array(8).fill(0);
  for (const [name, agent] of AGENTS.filter(([, { masked }]) => masked)) {
    const weight = agent.weight / VECTOR.largest_weight;
    const encoded = encodeFixed(floats(agent.update), fixed, weight);
    assert.deepEqual([...encoded], agent.encoded, name);
    const { masked } = replay(name);
    assert.deepEqual([...masked.words], agent.masks, name);
    encoded.forEach((word, i) => { total[i] = (total[i] + word + masked.words[i]) % 2 ** bits; });
  }
  assert.deepEqual(total, VECTOR.sum_of_masked);
});

test('halves go to the even number, and pairs of numbers are packed, as in the vector', () => {
  const { update, encoded } = VECTOR.rounding;
  const fixed = { clip: VECTOR.clip, bits: VECTOR.bits, members: VECTOR.members.length };
  assert.deepEqual([...encodeFixed(floats(update), fixed, 1)], encoded);
  for (const { bits, words, packed: data } of VECTOR.packing) {
    assert.equal(hex(packed(Uint32Array.from(words), bits)), data);
  }
  assert.throws(() => encodeFixed(Float32Array.of(0, NaN), fixed, 1), /not finite/);
});

test('a box that was changed, or is for another, does not open', () => {
  const { box, box_key: key, header } = VECTOR.agents.ada.with.bob;
  for (let i = 0; i < 100; i++) {
    const changed = bytes(box);
    changed[i] ^= 1;
    assert.equal(unseal(bytes(key), changed, Buffer.from(header)), null);
  }
  const other = Buffer.from(VECTOR.agents.ada.with.cem.header);
  assert.equal(unseal(bytes(key), bytes(box), other), null);
});

test('keys with which everybody has the same secret are refused', () => {
  const low = ['00', '01', 'ec', 'ed', 'ee'].map((first) => (
    first < '02' ? first + '00'.repeat(31) : `${first}${'ff'.repeat(30)}7f`));
  const { joined } = replay('eve');
  const peers = messageOf('eve', 'peers');
  for (const point of low) {
    const keys = Buffer.concat([bytes(point), peers.box_keys.subarray(32)]);
    assert.throws(
      () => shareSecrets(joined, { ...peers, box_keys: keys }, undefined, LEAST, Buffer.alloc),
      (error) => error instanceof Refusal && error.message === 'a key of ada is none',
    );
  }
});

test('of each neighbour one secret is given away: the one that the sum needs', () => {
  const { masked, agent } = replay('ada');
  const request = messageOf('ada', 'unmask');
  const { sent, opened } = unmask(masked, request, undefined, LEAST);
  const said = agent.neighbours.map((_, i) => hex(sent.shares.subarray(36 * i, 36 * (i + 1))));
  const of = (name) => VECTOR.agents[name].with?.ada; // what it has sent ada
  assert.deepEqual(agent.neighbours, ['bob', 'cem', 'dan', 'eve']);
  assert.deepEqual(said, [of('bob').share_of_mask_private, of('cem').share_of_own_secret,
    of('dan').share_of_own_secret, '00'.repeat(36)]);
  assert.deepEqual(opened, { summed: agent.summed, survivors: VECTOR.survivors });
});
