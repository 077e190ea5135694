// An agent's part in secure aggregation (docs/protocol.md), step by step, without a socket:
//
//     join ──peers──► shareSecrets ──inbox──► addMasks ──request──► unmask
//
// Every step checks what it is told. Of each neighbour an agent gives away either a share of the
// secret of its own mask, if its update is in the sum, or one of its key for masks, if it is not.

import { digits, encodeFixed, packed, shortened } from './fixed.mjs';
import {
  KEY, KeyPair, derive, infoOf, mask, seal, sha256, unseal,
} from './keys.mjs';
import { PARTS, share } from './shamir.mjs';

const SHARE = 4 * PARTS; // bytes of a share of a secret
const BOX = 12 + 2 * SHARE + 16; // nonce, a share of each of two secrets, seal
export const LEAST = { members: 3, degree: 2, threshold: 2 }; // without which there is no secret

/** An agent takes no further part in an attempt; the message says why. */
export class Refusal extends Error {}

const OTHER_MEMBERS = 'another sum over the same model was opened, with other members or weights';
const OTHER_AGENTS = 'another sum over the same model was opened, of other agents';

/** Refuse if one of [whether it is so, why] is so. */
function refuseIf(...cases) {
  const found = cases.find(([wrong]) => wrong);
  if (found) throw new Refusal(found[1]);
}

const pieces = (bytes, size) => Array.from(
  { length: Math.ceil(bytes.length / size) },
  (_, i) => Buffer.from(bytes.subarray(i * size, (i + 1) * size)),
);

const wholes = (bytes) => pieces(bytes, 4).map((four) => four.readUInt32LE());

/**
 * What stands for a group and its sum, as hexadecimal digits: with other weights or another clip it
 * is another, and two sums of the same updates with weights that differ would tell single ones.
 */
function summedOf({ roster, weight, largest, clip }) {
  const terms = Buffer.alloc(24);
  terms.writeBigUInt64LE(BigInt(weight), 0);
  terms.writeBigUInt64LE(BigInt(largest), 8);
  terms.writeDoubleLE(clip, 16);
  return sha256(roster, terms).toString('hex');
}

/** What is said beforehand of a secret, so that wrong shares of it are found out. */
export const commitment = (secret) => sha256(Buffer.from('fedjury/secagg/own/'), secret);

/**
 * Step 0: make new keys for an attempt.
 * @param {(size: number) => Buffer} random the operating system's source; in tests a fixed one
 * @param {number} [hidden] as how many samples its update counts at the most, where nobody is told
 */
export function join(name, run, { round, attempt }, samples, random, hidden = 0) {
  const [maskKeys, boxKeys] = [0, 1].map(() => new KeyPair(random(KEY)));
  const joined = { name, run, round, attempt, samples, hidden, maskKeys, boxKeys };
  const told = hidden ? 0 : samples;
  return {
    ...joined,
    sent: { round, attempt, mask_key: maskKeys.open, box_key: boxKeys.open, samples: told },
  };
}

/** Refuse peers that cannot be. */
function checkPeers(own, peers, names, places, least) {
  const { members, threshold, bits, weight, largest } = peers;
  const degree = names.length;
  const all = [...places, peers.place];
  const few = 'there are not as many keys as names';
  refuseIf(
    [members < least.members, `a group of ${members} is too small`],
    [degree < least.degree, `${degree} neighbours are too few`],
    [threshold < least.threshold, `a threshold of ${threshold} is too low`],
    [threshold > degree, `a threshold of ${threshold} is above ${degree} neighbours`],
    [places.length !== degree, 'there are not as many places as names'],
    [peers.mask_keys.length !== degree * KEY, few],
    [peers.box_keys.length !== degree * KEY, few],
    [new Set([...names, own.name]).size <= degree, 'a neighbour is named twice, or is itself'],
    [new Set(all).size < all.length, 'a place is named twice'],
    [all.some((place) => place >= members), 'a place is outside the group'],
    [places.some((place, i) => place < places[i - 1]), 'the places are not in order'],
    [!(weight > 0 && weight <= largest), 'its weight is none'],
    [weight !== Math.min(Math.max(1, own.samples), largest),
      'its weight is not the number of its samples'],
    [own.hidden > 0 && largest !== 1, 'weights are told, though samples are hidden'],
    [!(peers.clip >= 2 ** -149 && peers.clip < 2 ** 128), 'the clip is none'], // no float32
    [bits % 4 || bits < 8 || bits > 32, `sums of ${bits} bits are none`],
    [digits(members - 1) >= bits, `sums of ${bits} bits are too narrow`],
  );
}

/** Agree with a neighbour on a mask and on what locks boxes. */
function neighbourOf(own, session, name, place, maskKey, boxKey) {
  const pair = [own.name, name].sort(); // names are ASCII: this is the order of their bytes
  try {
    return {
      name,
      place,
      maskKey: derive(own.maskKeys.agree(maskKey), infoOf(session, 'mask', ...pair)),
      boxKey: derive(own.boxKeys.agree(boxKey), infoOf(session, 'box', ...pair)),
    };
  } catch {
    throw new Refusal(`a key of ${name} is none`);
  }
}

/**
 * Step 1: agree with the neighbours, and share both secrets among them.
 * @param before the sum over the same base model that it has helped to open, if there is one:
 *   {summed, survivors}, as hexadecimal digits
 * @throws Refusal if it is told what cannot be, or what would tell more of it than the sum
 */
export function shareSecrets(own, peers, before, least, random) {
  const [names, places] = [peers.names.split(' '), wholes(peers.places)];
  checkPeers(own, peers, names, places, least);
  const summed = summedOf(peers);
  refuseIf([before && before.summed !== summed, OTHER_MEMBERS]);
  const { run, round, attempt } = own;
  const session = { run, round, attempt, group: peers.group };
  const [maskKeys, boxKeys] = [pieces(peers.mask_keys, KEY), pieces(peers.box_keys, KEY)];
  const neighbours = names.map((name, i) => (
    neighbourOf(own, session, name, places[i], maskKeys[i], boxKeys[i])));
  const secret = random(KEY);
  const shares = share([own.maskKeys.secret, secret], names.length, peers.threshold, random);
  const boxes = neighbours.map(({ name, boxKey }, i) => (
    seal(boxKey, shares[i], infoOf(session, 'share', own.name, name), random)));
  return {
    own, peers, session, summed, secret, neighbours,
    sent: { round, attempt, commitment: commitment(secret), boxes: Buffer.concat(boxes) },
  };
}

/**
 * Step 2: open the boxes, and sum the masks towards those neighbours who have sent one.
 * @param {number} length of what is summed
 * @throws Refusal if so few boxes open that masks could not be undone
 */
export function addMasks(shared, inbox, length) {
  const { own, peers, session, neighbours } = shared;
  refuseIf([inbox.boxes.length !== neighbours.length * BOX,
    'there are not as many boxes as neighbours']);
  const words = mask(shared.secret, length);
  const left = new Set();
  const shares = pieces(inbox.boxes, BOX).map((box, i) => {
    const { name, place, boxKey, maskKey } = neighbours[i];
    if (!box.some(Boolean)) {
      left.add(place);
      return null;
    }
    const sign = peers.place < place ? 1 : -1; // whoever stands first adds, the other subtracts
    const towards = mask(maskKey, length);
    for (let j = 0; j < length; j++) words[j] += sign * towards[j]; // modulo 2^32
    return unseal(boxKey, box, infoOf(session, 'share', name, own.name));
  });
  refuseIf([shares.filter(Boolean).length < peers.threshold, 'too few boxes of neighbours open']);
  return { shared, shares, left, words };
}

/**
 * What is said of an update under the masks; throws if it is not finite.
 * @param {number} [norm] of the longest update that counts whole, with differential privacy
 */
export function maskedUpdate({ shared: { own, peers }, words }, version, update, norm = 0) {
  const counted = norm > 0 ? shortened(update, norm, peers) : update;
  if (!counted) throw new Refusal(`rounding alone may make an update longer than ${norm}`);
  const { samples, hidden } = own;
  const share = hidden ? Math.min(Math.max(1, samples), hidden) / hidden : peers.weight / peers.largest;
  const numbers = encodeFixed(counted, peers, share, hidden > 0);
  const data = packed(numbers.map((number, i) => number + words[i]), peers.bits);
  return { round: own.round, attempt: own.attempt, version, data };
}

/** What is said of whole numbers under the masks; none counts for more than its owner's weight. */
export function maskedCounts({ shared: { own, peers }, words }, version, counts) {
  const numbers = words.map((word, i) => Math.min(counts[i], peers.weight) + word);
  return { round: own.round, attempt: own.attempt, version, data: packed(numbers, peers.bits) };
}

/** Which places of so many a bit stands for; the least bit of the first byte is the first. */
const placesIn = (bits, members) => Array.from({ length: members }, (_, i) => i)
  .filter((i) => (bits[i >> 3] >> (i & 7)) & 1);

/**
 * Step 3: answer for whom the sum is to be opened.
 * @returns {{sent, opened}} what to remember before it is said: {summed, survivors}
 * @throws Refusal if it would tell more than one sum of enough agents
 */
export function unmask({ shared, shares, left }, request, before, least) {
  const { own, peers, summed, neighbours } = shared;
  refuseIf([request.survivors.length !== Math.ceil(peers.members / 8),
    'there are not as many survivors as members']);
  const alive = new Set(placesIn(request.survivors, peers.members));
  const opened = { summed, survivors: Buffer.from(request.survivors).toString('hex') };
  const present = neighbours.filter(({ place }, i) => shares[i] && alive.has(place));
  const other = before && (before.summed !== summed || before.survivors !== opened.survivors);
  refuseIf(
    [!alive.has(peers.place), 'it is asked to count itself out'],
    [[...left].some((place) => alive.has(place)), 'a neighbour that had left survives'],
    [alive.size < least.members, `a sum of ${alive.size} is of too few`],
    [present.length < peers.threshold, 'too few of its neighbours survive'],
    [other, OTHER_AGENTS],
  );
  const said = neighbours.map(({ place }, i) => {
    if (!shares[i]) return Buffer.alloc(SHARE);
    return alive.has(place) ? shares[i].subarray(SHARE) : shares[i].subarray(0, SHARE);
  });
  const { round, attempt } = own;
  return { opened, sent: { round, attempt, shares: Buffer.concat(said) } };
}
