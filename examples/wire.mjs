// Topics and messages of the protocol (docs/protocol.md): checked on arrival, built on leaving.

import { decode, encode } from '@msgpack/msgpack';

import {
  BadMessage, countBytes, decodeVector, encodeVector, floatBytes, wholeBytes,
} from './vectors.mjs';

export { BadMessage };

const MOST_LOOK_BACK = 10_000;
const MOST_GROUPS = 10_000;
const MOST_EXCEPTIONS = 100_000;
const MOST_PARAMETERS = 8_000_000; // ours: as float32 they are as long as brokers let a message be

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
export const isName = (text) => typeof text === 'string' && NAME.test(text);
export const PROTOCOL = 2;
export const ROOT = 'fl/v2'; // below which the runs are, unless --root says otherwise
export const oldManifestOf = (run) => `fl/v1/${run}/manifest`;
export const otherProtocol = (theirs) => `the aggregator of this run speaks protocol ${theirs}, `
  + `and this agent ${PROTOCOL}: they need the same version`;
export const topicOf = (root, run, part) => `${root}/${run}/${part}`;
/** Whether topics can begin so: no wildcards, no empty levels, nothing special to a broker. */
export const isRoot = (text) => /^[^\s\p{C}+#%'"\\]{1,100}$/u.test(text) && !text.startsWith('$')
  && text.split('/').every(Boolean);

// What a value must be: [has the type, is in range].

const always = () => true;
const isInt = (v) => Number.isInteger(v);
const isNumber = (v) => typeof v === 'number' && Number.isFinite(v);
const isText = (v) => typeof v === 'string';
const isBool = (v) => typeof v === 'boolean';
const int = (least = 0, most = 2 ** 31 - 1) => [isInt, (v) => v >= least && v <= most];
const number = (fits = always) => [isNumber, fits];
const text = [isText, always];
const listOf = ([type, fits]) => [
  (v) => Array.isArray(v) && v.every(type),
  (v) => v.every(fits),
];
const names = listOf([isText, isName]);
const options = [
  (v) => v !== null && typeof v === 'object' && !Array.isArray(v)
    && Object.values(v).every((o) => isNumber(o) || isText(o) || isBool(o)),
  (v) => Object.keys(v).length <= 16,
];
const isTensor = (v) => Array.isArray(v) && v.length === 2 && isText(v[0])
  && Array.isArray(v[1]) && v[1].every((size) => isInt(size) && size > 0);

const MANIFEST = {
  protocol: int(),
  model: text,
  tensors: listOf([isTensor, always]),
  parameters: int(1, MOST_PARAMETERS),
  classes: int(),
  input_shape: listOf(int(1)),
  epochs: int(1),
  batch_size: int(1),
  learning_rate: number((v) => v > 0),
  momentum: number((v) => v >= 0 && v < 1),
  codec: text,
  history_codec: text,
  max_bytes: int(1),
  judge: text,
  look_back: int(0, MOST_LOOK_BACK),
  minimum_history: int(),
  judge_options: options,
  counts: [isBool, always],
  secure: options,
};

/** What is meant where a manifest, or a round, does not say it. */
const LEFT_OUT = { classes: 0, input_shape: [], counts: false, secure: {} };
const NO_GROUPS = { groups: 0, each: 0, calls: {} };

const bytes = (least, most, of = 1) => [
  (v) => v instanceof Uint8Array,
  (v) => v.length >= least && v.length <= most && v.length % of === 0,
];
const BOX = 100; // bytes: a nonce of 12, shares of two secrets of 36 each, a seal of 16
const MOST_NEIGHBOURS = 10_000;
const MOST_MEMBERS = 1_000_000;
const ATTEMPT = { round: int(), attempt: int() };

/** What an agent is told for secure aggregation. */
const PEERS = {
  ...ATTEMPT,
  group: int(),
  place: int(),
  members: int(1),
  roster: bytes(32, 32),
  names: [isText, (v) => v.split(' ').every(isName) && v.split(' ').length <= MOST_NEIGHBOURS],
  places: bytes(4, 4 * MOST_NEIGHBOURS, 4),
  mask_keys: bytes(32, 32 * MOST_NEIGHBOURS, 32),
  box_keys: bytes(32, 32 * MOST_NEIGHBOURS, 32),
  threshold: int(1),
  clip: number(),
  bits: int(1),
  weight: int(1),
  largest: int(1),
};
const INBOX = { ...ATTEMPT, boxes: bytes(BOX, BOX * MOST_NEIGHBOURS, BOX) };
const UNMASK = { ...ATTEMPT, survivors: bytes(1, MOST_MEMBERS / 8) };

const PHASES = ['train', 'validate_groups', 'validate', 'judge_and_train', 'done'];

const isMap = (v) => v !== null && typeof v === 'object' && !Array.isArray(v);
const PARTS = ['contributors', 'validators', 'evaluators']; // others are skipped
const ofParts = (calls) => PARTS.filter((part) => Object.hasOwn(calls, part)).map((p) => calls[p]);
const isCall = (call) => isMap(call) && isText(call.number) && isInt(call.share)
  && isInt(call.count) && names[0](call.without ?? []);
const fitsCall = (call) => /^[0-9a-f]{64}$/.test(call.number)
  && call.share >= 0 && call.share <= 2 ** 30 && int()[1](call.count)
  && names[1](call.without ?? []) && (call.without ?? []).length <= MOST_EXCEPTIONS;

const ROUND = {
  round: int(1),
  attempt: int(1),
  phase: [isText, (v) => PHASES.includes(v)],
  version: int(),
  contributors: [
    (v) => isText(v) || names[0](v),
    (v) => v === 'all' || (Array.isArray(v) && names[1](v)),
  ],
  validators: names,
  seconds: number((v) => v >= 0),
  groups: int(0, MOST_GROUPS),
  each: int(),
  calls: [(v) => isMap(v) && ofParts(v).every(isCall), (v) => ofParts(v).every(fitsCall)],
};

/** Check a map against what each of its keys must be; other keys are skipped. */
function checked(map, keys) {
  if (map === null || typeof map !== 'object' || Array.isArray(map)) {
    throw new BadMessage('wrong_type');
  }
  if (!Object.keys(keys).every((key) => Object.hasOwn(map, key))) throw new BadMessage('missing_key');
  for (const [key, [type]] of Object.entries(keys)) {
    if (!type(map[key])) throw new BadMessage('wrong_type');
  }
  for (const [key, [, fits]] of Object.entries(keys)) {
    if (!fits(map[key])) throw new BadMessage('out_of_range');
  }
  return Object.fromEntries(Object.keys(keys).map((key) => [key, map[key]]));
}

function parsed(parse, payload) {
  try {
    return parse(payload);
  } catch {
    throw new BadMessage('malformed');
  }
}

const asJson = (payload) => JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));

/** Read a map of which some keys may be missing; `usual` says what they are then. */
function withUsual(usual, payload) {
  const message = parsed(asJson, payload);
  const isMap = message !== null && typeof message === 'object' && !Array.isArray(message);
  return isMap ? { ...usual, ...message } : message;
}

/** Some keys may be missing: classes and input shape in a run that is not about images. */
export const readManifest = (payload) => checked(withUsual(LEFT_OUT, payload), MANIFEST);
/** What the aggregator of a run speaks, by what it says to agents of the first version. */
export const readProtocol = (payload) => checked(parsed(asJson, payload), { protocol: int() }).protocol;
/** {online, since} of an aggregator. */
export const readPresence = (payload) => checked(
  parsed(asJson, payload),
  { online: [isBool, always], since: number() },
);
export const readRound = (payload) => checked(withUsual(NO_GROUPS, payload), ROUND);

/** Read a message that is a vector `weights` of n values and some whole numbers. */
const withWeights = (...keys) => (payload, n) => {
  const kinds = Object.fromEntries(keys.map((key) => [key, int()]));
  const message = checked(parsed(decode, payload), { ...kinds, weights: [always, always] });
  return { ...message, weights: decodeVector(message.weights, n) };
};

/** (payload, n) -> {version, weights}: the current global model. */
export const readModel = withWeights('version');
/** (payload, n) -> {weights}: an accepted model; its version is in the topic. */
export const readHistory = withWeights();
/** (payload, n) -> {round, attempt, base, weights}: what the model would become, or by one group. */
export const readCandidate = withWeights('round', 'attempt', 'base');

const packedAs = (keys) => (payload) => checked(parsed(decode, payload), keys);
export const readPeers = packedAs(PEERS);
export const readInbox = packedAs(INBOX);
export const readUnmask = packedAs(UNMASK);
/** What is said in a step of secure aggregation: whole numbers and bytes. */
export const secureMessage = (content) => encode(content);

/** @typedef {{poisoned: boolean, score: number, threshold: number, evidence: number[],
 *   changed?: number, changed_errors?: number, counts?: Float64Array[]}} Opinion */

const opinionPart = ({
  poisoned: _, evidence, counts, ...numbers
}, bytes) => ({
  ...numbers,
  evidence: floatBytes(evidence),
  size: bytes,
  ...(counts && { counts: countBytes(counts.flatMap((profile) => [...profile])) }),
});

export const presence = (online) => JSON.stringify({
  online, since: Date.now() / 1000, votes: true, evaluates: false,
});

/** That an attempt is sat out: nobody waits then. `why` is for people, where it is not usual. */
export const decline = ({ round, attempt }, why) => new TextEncoder().encode(
  JSON.stringify({ round, attempt, why }), // what is undefined is left out
);

/** An update; with the opinion that let its candidate pass, in judge_and_train. */
export const update = ({ round, version, samples, delta, opinion, bytes }, codec) => encode({
  round, version, samples, delta: encodeVector(delta, codec), ...opinionPart(opinion, bytes),
});

/** A vote on the candidate of a round's attempt. */
export const vote = ({ round, attempt }, samples, opinion, bytes) => encode({
  round, attempt, poisoned: opinion.poisoned, samples, ...opinionPart(opinion, bytes),
});

/** A validator's votes on groups: `votes` are [group, its opinion], ascending. */
export const groupVote = ({ round, attempt }, samples, votes, bytes, cpu) => encode({
  round,
  attempt,
  groups: wholeBytes(votes.map(([group]) => group)),
  poisoned: Uint8Array.from(votes, ([, { poisoned }]) => Number(poisoned)),
  scores: floatBytes(votes.map(([, { score }]) => score)),
  thresholds: floatBytes(votes.map(([, { threshold }]) => threshold)),
  samples,
  size: bytes,
  cpu,
});
