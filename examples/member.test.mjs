// What an agent does with what it hears, and what strangers may say to it.

import assert from 'node:assert/strict';
import test from 'node:test';

import { decode, encode } from '@msgpack/msgpack';

import { parseCsv } from './data.mjs';
import { groupsOf } from './groups.mjs';
import { Member } from './member.mjs';
import { Network, Unfit } from './network.mjs';
import { decodeVector, encodeVector } from './vectors.mjs';
import { BadMessage } from './wire.mjs';

const NETWORK = new Network('mlp', [1, 2, 2], 2);
const MANIFEST = {
  protocol: 2, model: 'mlp', tensors: NETWORK.tensors.map((shape) => ['', shape]),
  parameters: NETWORK.size, classes: 2, input_shape: [1, 2, 2], epochs: 1, batch_size: 4,
  learning_rate: 0.1, momentum: 0, codec: 'float32', history_codec: 'float32', max_bytes: 1000,
  judge: 'lof', judge_options: {}, look_back: 2, minimum_history: 3,
};
const ROUND = {
  round: 1, attempt: 1, phase: 'train', version: 0, contributors: 'all', validators: [], seconds: 9,
};
const CALL = { // with it node-1 is in place 62,599,850
  number: '000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f',
  share: 62_599_851,
  count: 5,
};
const DATA = parseCsv('0,255,0,0,255\n1,0,255,255,0\n', 'test.csv');
const WEIGHTS = Float32Array.from({ length: NETWORK.size }, (_, i) => Math.sin(i));

const json = (message) => new TextEncoder().encode(JSON.stringify(message));
const pack = (message, weights = WEIGHTS) => encode({ ...message, weights: encodeVector(weights) });

/** A member that has heard the manifest, and what it says. */
function begun(changes = {}) {
  const said = [];
  const member = new Member('node-1', DATA, (text) => said.push(text));
  member.hear('manifest', json({ ...MANIFEST, ...changes }));
  return { member, said };
}

/** Do what is due; returns what would be published, or null. */
function answer(member) {
  if (!member.due()) return null;
  const steps = member.work();
  for (;;) {
    const { done, value } = steps.next();
    if (done) return { ...value, message: decode(value.payload) };
  }
}

test('it trains once when called, and says the same at a later attempt', () => {
  const { member } = begun();
  assert.deepEqual(member.wanted(), ['manifest', 'round', 'model']);
  member.hear('round', json(ROUND));
  assert.equal(answer(member), null); // it has no model yet
  member.hear('model', pack({ version: 0 }));
  const first = answer(member);
  assert.equal(first.part, 'update/node-1');
  assert.equal(first.message.samples, 2);
  assert.equal(answer(member), null);
  member.hear('round', json({ ...ROUND, attempt: 2 }));
  assert.deepEqual(answer(member), first);
  member.hear('round', json({ ...ROUND, round: 2, contributors: ['another'] }));
  assert.equal(answer(member), null);
});

test('it is called by number where its place is below the share, unless it is excepted', () => {
  const called = (part, call, more = {}) => {
    const { member } = begun();
    member.hear('model', pack({ version: 0 }));
    const calls = { [part]: { ...CALL, ...call } };
    member.hear('round', json({ ...ROUND, contributors: ['another'], calls, ...more }));
    return Boolean(answer(member));
  };
  assert.equal(called('contributors', {}), true);
  assert.equal(called('contributors', { share: CALL.share - 1 }), false);
  assert.equal(called('contributors', { without: ['node-1'] }), false);
  assert.equal(called('contributors', { share: 0 }, { contributors: ['node-1'] }), true);
  assert.equal(called('unheard_of', {}), false);
});

test('it is asked for a vote by number', () => {
  const { member } = begun();
  member.hear('model', pack({ version: 0 }));
  const round = { ...ROUND, phase: 'validate', contributors: [], calls: { validators: CALL } };
  member.hear('round', json(round));
  assert.ok(member.wanted().includes('candidate'));
});

test('it answers the same attempt again when the round comes after a manifest', () => {
  const { member } = begun();
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  assert.ok(answer(member));
  member.hear('round', json(ROUND));
  assert.equal(answer(member), null);
  member.hear('manifest', json(MANIFEST));
  assert.equal(answer(member), null);
  member.hear('round', json(ROUND));
  assert.ok(answer(member));
});

test('a changed manifest holds from the next round on, and what was begun before is given up', () => {
  const { member } = begun({ epochs: 2 });
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  assert.ok(member.due());
  member.hear('manifest', json({ ...MANIFEST, epochs: 2, learning_rate: 1e-9 }));
  assert.equal(answer(member), null);
  member.hear('model', pack({ version: 0 }));
  assert.equal(answer(member), null);
  member.hear('round', json({ ...ROUND, attempt: 2 }));
  const delta = decodeVector(answer(member).message.delta, NETWORK.size);
  assert.ok(delta.every((value) => Math.abs(value) < 1e-6)); // at the new rate hardly anything
});

test('of another model of the same name nothing old is kept or sent', () => {
  const { member } = begun();
  member.hear('model', pack({ version: 3 }));
  member.hear('round', json({ ...ROUND, version: 3 }));
  assert.ok(answer(member));
  const other = new Network('mlp', [1, 2, 2], 3);
  const tensors = other.tensors.map((shape) => ['', shape]);
  member.hear('manifest', json({ ...MANIFEST, tensors, parameters: other.size, classes: 3 }));
  member.hear('round', json({ ...ROUND, version: 3 }));
  assert.equal(answer(member), null); // that model was the old network's
  const weights = Float32Array.from({ length: other.size }, () => 0.5);
  member.hear('model', pack({ version: 3 }, weights));
  assert.equal(decodeVector(answer(member).message.delta, other.size).length, other.size);
});

test('while the run has a manifest that does not fit it waits for the next', () => {
  const { member } = begun();
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  assert.throws(() => member.hear('manifest', json({ ...MANIFEST, model: 'resnet18' })), Unfit);
  assert.deepEqual(member.wanted(), ['manifest']);
  member.hear('round', json(ROUND));
  assert.equal(answer(member), null);
  member.hear('manifest', json(MANIFEST));
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  assert.ok(answer(member));
});

test('training that fails is declined, in a sentence, and the next round is trained', () => {
  const { member, said } = begun();
  const { network } = member;
  const { loss } = network;
  network.loss = () => { throw new Error('no room'); };
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  const steps = member.work();
  const { value } = steps.next();
  assert.equal(value.part, 'decline/node-1');
  assert.deepEqual(JSON.parse(new TextDecoder().decode(value.payload)), { round: 1, attempt: 1 });
  assert.match(said.at(-1), /round 1 goes on without this agent: no room/);
  network.loss = loss;
  member.hear('round', json({ ...ROUND, round: 2 }));
  assert.equal(answer(member).part, 'update/node-1');
});

test('a validator asks for the candidate and the models before, and votes once', () => {
  const { member } = begun();
  const round = { ...ROUND, round: 4, phase: 'validate', version: 3, validators: ['node-1'] };
  member.hear('round', json(round));
  const asked = ['candidate', 'history/1', 'history/2', 'history/3'];
  assert.deepEqual(member.wanted().slice(3), asked);
  member.hear('candidate', pack({ round: 3, attempt: 1, base: 3 })); // of another round
  let bytes = pack({ round: 3, attempt: 1, base: 3 }).length;
  for (const part of asked) {
    const message = part === 'candidate' ? { round: 4, attempt: 1, base: 3 } : {};
    const payload = pack(message, part === 'candidate' ? WEIGHTS.map((w) => -w) : WEIGHTS);
    assert.equal(answer(member), null);
    bytes += payload.length;
    member.hear(part, payload);
  }
  const { part, message } = answer(member);
  assert.equal(part, 'vote/node-1');
  const { round: number, attempt, samples } = message;
  assert.deepEqual([number, attempt, samples, message.size], [4, 1, 2, bytes]);
  assert.equal(answer(member), null);
  assert.deepEqual(member.wanted(), ['manifest', 'round', 'model']);
});

/** What was voted on groups, as numbers. */
function votesOf({ part, message }) {
  assert.equal(part, 'group-vote/node-1');
  const numbers = (bytes, read) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Array.from({ length: bytes.length / 4 }, (_, i) => view[read](4 * i, true));
  };
  return {
    groups: numbers(message.groups, 'getUint32'),
    poisoned: [...message.poisoned],
    scores: numbers(message.scores, 'getFloat32'),
    thresholds: numbers(message.thresholds, 'getFloat32'),
    samples: message.samples,
  };
}

const ON_GROUPS = {
  ...ROUND, round: 4, phase: 'validate_groups', version: 3, validators: ['another', 'node-1'], groups: 3,
};

test('a validator asks for its groups and those of the models before, and votes once on all', () => {
  const { member } = begun({ judge: 'robust' });
  member.hear('round', json({ ...ON_GROUPS, each: 2 })); // second of two: groups 2 and 3 mod 3
  const asked = ['group/0', 'group/2', 'group-history/1', 'group-history/2', 'group-history/3'];
  assert.deepEqual(member.wanted().slice(3), asked);
  const earlier = pack({ round: 4, attempt: 2, base: 3 }); // of another attempt
  member.hear('group/0', earlier);
  let bytes = earlier.length;
  for (const part of asked) {
    const ours = part.startsWith('group/');
    const payload = pack(ours ? { round: 4, attempt: 1, base: 3 } : {});
    assert.equal(answer(member), null);
    assert.ok(member.wanted().includes(part));
    bytes += payload.length;
    member.hear(part, payload);
  }
  const said = answer(member);
  const { groups, poisoned, scores, samples } = votesOf(said);
  assert.deepEqual([groups, poisoned, scores, samples], [[0, 2], [0, 0], [0, 0], 2]);
  assert.deepEqual([said.message.round, said.message.attempt, said.message.size], [4, 1, bytes]);
  assert.ok(said.message.cpu >= 0);
  assert.equal(answer(member), null);
  assert.deepEqual(member.wanted(), ['manifest', 'round', 'model']);
  member.hear('round', json({ ...ON_GROUPS, phase: 'validate' })); // the run votes on both
  assert.deepEqual(member.wanted().slice(3), [
    'candidate', 'history/1', 'history/2', 'history/3']);
});

test('only the group whose model errs where those before did not has a score, and why is said', () => {
  const { member, said } = begun({ judge: 'robust' });
  const network = new Network('mlp', [1, 2, 2], 2);
  const right = new Float32Array(network.size);
  right[0] = 1; // the first hidden unit is the first pixel, white in class 0 alone,
  right[32 * 4 + 32] = 1; // the first output is that unit,
  right[right.length - 1] = 0.5; // and the other is more where it is dark
  const wrong = right.with(32 * 4 + 32, -1);
  member.hear('round', json(ON_GROUPS));
  for (const version of [1, 2, 3]) member.hear(`group-history/${version}`, pack({}, right));
  for (const group of [0, 1, 2]) {
    const message = { round: 4, attempt: 1, base: 3 };
    member.hear(`group/${group}`, pack(message, group === 1 ? wrong : right));
  }
  const { groups, poisoned, scores, thresholds } = votesOf(answer(member));
  assert.deepEqual(groups, [0, 1, 2]);
  assert.deepEqual(poisoned, scores.map((score, i) => Number(score > thresholds[i])));
  assert.deepEqual([scores[0], scores[2]], [0, 0]);
  assert.ok(scores[1] > 0);
  assert.match(said.at(-1), /of 3 groups/);
});

test('each of three validators of five groups judges two, and no group has more than one vote more', () => {
  const round = { groups: 5, each: 2, validators: ['a', 'b', 'c'] };
  assert.deepEqual(['a', 'b', 'c'].map((name) => groupsOf(round, name)), [[0, 1], [2, 3], [0, 4]]);
  assert.deepEqual(groupsOf({ ...round, each: 0 }, 'b'), [0, 1, 2, 3, 4]);
  assert.deepEqual(groupsOf({ ...round, each: 9 }, 'c'), [0, 1, 2, 3, 4]);
});

test('where there are no groups to judge nothing is said of them', () => {
  const { member } = begun();
  member.hear('round', json({ ...ON_GROUPS, groups: 0 }));
  assert.equal(answer(member), null);
  assert.deepEqual(member.wanted(), ['manifest', 'round', 'model']);
});

test('asked to judge in a way that it does not know, it says so once and is silent', () => {
  const { member, said } = begun({ judge: 'oracle' });
  for (const round of [1, 2]) {
    member.hear('round', json({ ...ROUND, round, phase: 'validate', validators: ['node-1'] }));
    assert.equal(answer(member), null);
  }
  assert.equal(said.length, 1);
});

test('it leaves at done, but not at that of an earlier run', () => {
  const { member } = begun();
  member.hear('round', json({ ...ROUND, phase: 'done' }));
  assert.equal(member.done, false);
  member.hear('round', json(ROUND));
  member.hear('round', json({ ...ROUND, phase: 'done' }));
  assert.equal(member.done, true);
});

test('a run that is not about its data, or speaks otherwise, is an error', () => {
  const member = new Member('node-1', DATA, () => {});
  const strange = [{ protocol: 3 }, { model: 'resnet18' }, { classes: 1 }, { parameters: 5 },
    { tensors: [['', [3, 3]]] }, { input_shape: [4] }, { input_shape: [1, 2, 3] }];
  for (const changes of strange) {
    assert.throws(() => member.hear('manifest', json({ ...MANIFEST, ...changes })), Unfit);
  }
  const { classes, input_shape: shape, ...short } = MANIFEST; // as of a run that has no images
  assert.ok(classes && shape);
  assert.throws(() => member.hear('manifest', json(short)), Unfit);
  assert.equal(member.network, undefined);
});

test('what does not fit is refused, and changes nothing', () => {
  const { member } = begun();
  const vector = encodeVector(WEIGHTS);
  const bad = [
    ['manifest', json({ ...MANIFEST, look_back: 2 ** 31 - 1 })],
    ['manifest', json({ ...MANIFEST, parameters: 2 ** 31 - 1 })],
    ['manifest', json({ ...MANIFEST, learning_rate: null })],
    ['round', json({ ...ROUND, round: -1 })],
    ['round', json({ ...ROUND, phase: '\u001b[31mred' })],
    ['round', json({ ...ROUND, contributors: 7 })],
    ['round', json({ ...ROUND, validators: [['node-1']] })],
    ['round', json([ROUND])],
    ['round', json({ ...ROUND, groups: 10_001 })],
    ['round', json({ ...ROUND, groups: 'all' })],
    ['round', json({ ...ROUND, each: -1 })],
    ['round', json({ ...ROUND, calls: [] })],
    ['round', json({ ...ROUND, calls: { contributors: CALL.number } })],
    ['round', json({ ...ROUND, calls: { contributors: { ...CALL, number: 'ab' } } })],
    ['round', json({ ...ROUND, calls: { contributors: { ...CALL, share: 2 ** 30 + 1 } } })],
    ['round', json({ ...ROUND, calls: { validators: { ...CALL, without: ['#'] } } })],
    ['round', Uint8Array.of(0xff, 0xfe, 0)],
    ['model', Uint8Array.of(0xc1)],
    ['model', pack({})],
    ['model', pack({ version: 0 }, WEIGHTS.subarray(1))],
    ['model', pack({ version: 2 ** 31 })],
    ['model', encode({ version: 0, weights: { ...vector, codec: 'constructor' } })],
    ['model', encode({ version: 0, weights: { ...vector, data: 'text' } })],
    ['model', encode({ version: 0, weights: null })],
    ['model', encode({ version: 0, weights: { ...vector, codec: 'int8+zstd' } })],
    ['candidate', encode({ round: 1, attempt: 1, base: 0, weights: { codec: 'float32', n: vector.n } })],
    ['history/0', encode([])],
    ['group/0', pack({ round: 1, attempt: 1 })],
    ['group-history/0', encode({})],
  ];
  for (const [part, payload] of bad) {
    assert.throws(() => member.hear(part, payload), BadMessage);
  }
  for (const [part] of bad) member.hear(part, new Uint8Array());
  assert.equal(member.round, undefined);
  assert.equal(member.model, undefined);
  member.hear('model', pack({ version: 0 }));
  member.hear('round', json(ROUND));
  assert.ok(answer(member));
});

test('a zstd bomb is refused by what it announces, and broken frames do no harm', () => {
  const head = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80]; // a frame of 2 GiB
  const bomb = { codec: 'float32+zstd', n: 300, data: Uint8Array.from([...head, 3, 0, 0, 0]) };
  assert.throws(() => decodeVector(bomb, 300), /wrong_length/);
  const frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 104, 0x43, 3, 0, 7]; // 104 times the byte 7
  for (let i = 4; i < frame.length; i++) {
    for (let value = 0; value < 256; value++) {
      const data = Uint8Array.from(frame.with(i, value));
      try {
        assert.equal(decodeVector({ codec: 'int8+zstd', n: 100, data }, 100).length, 100);
      } catch (error) {
        assert.ok(error instanceof BadMessage, error);
      }
    }
  }
});

test('float16 is read to the bit, and blocks come back within half a step', () => {
  const halves = Uint16Array.of(0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000, 0x3555);
  const map = { codec: 'float16', n: 7, data: new Uint8Array(halves.buffer) };
  const third = 0.333251953125;
  assert.deepEqual([...decodeVector(map, 7)], [1, -2, 2 ** -24, 65504, Infinity, -0, third]);
  const values = Float32Array.from({ length: 600 }, (_, i) => Math.sin(i) * (i < 256 ? 1 : 1e-3));
  for (const [codec, top] of [['int8', 127], ['int7+zstd', 63]]) {
    decodeVector(encodeVector(values, codec), 600).forEach((value, i) => {
      assert.ok(Math.abs(value - values[i]) <= 0.5001 * (i < 256 ? 1 : 1e-3) / top);
    });
  }
});

test('a damaged CSV file is blamed on the right line, for the right reason', () => {
  const damaged = [
    ['x5,0,255\n3,0,255\n', 'line 1: it begins with no label'],
    ['5;0;255\n3;0;255\n', 'line 1: its values are separated by ";", not by commas'],
    ['label;a;b\n3;0;255\n', 'line 1: its values are separated by ";", not by commas'],
    ['5\t0\t255\n', 'line 1: its values are separated by a tab, not by commas'],
    ['label,a,b\n3,0,255\n3,0,x\n', 'line 3: pixel 2 ("x") is no number from 0 to 255'],
    ['"5","0","255\n3,0,255\n', 'line 1: there is a quote within a value'],
    ['label,0,1\n\n3,0,255\n3,0\n', 'line 4: 1 pixels, not 2'],
    [',label,0,1\n0,3,0,255\n', 'line 1: it begins with no label'],
    ['3,0,255\n4294967297,0,255\n', 'line 2: its label is no class but an id'],
  ];
  for (const [text, reason] of damaged) {
    assert.throws(() => parseCsv(text, 'x.csv'), ({ message }) => (
      message.startsWith(`x.csv, ${reason}`)), text);
  }
});

test('names and quotes in a CSV file cost no sample', () => {
  const headers = ['', '\ufeff', 'label,a,b\n', '"label","pixel 1","pixel 2"\r\n', 'label,0,1\n',
    'label,1,2\n', 'label,1x1,1x2\r'];
  for (const header of headers) {
    const { labels, pixels } = parseCsv(`${header}"5","0","255"\n7,51,0`, 'x.csv');
    assert.deepEqual([...labels], [5, 7], header);
    assert.deepEqual([...pixels[1]], [Math.fround(0.2), 0]);
  }
});

test('pixels of 0 and 1 are not darkened 255 times, and that is said', () => {
  const read = (pixels) => {
    const said = [];
    const data = parseCsv(`0,${pixels}\n`, 'x.csv', (text) => said.push(text));
    return [[...data.pixels[0]], said.join()];
  };
  assert.deepEqual(read('0,1'), [[0, 1],
    'x.csv: its pixels are from 0 to 1: they are divided by 1, not by 255']);
  assert.deepEqual(read('0,16')[0], [0, 1]);
  assert.deepEqual(read('0,0,255'), [[0, 0, 1], '']);
  assert.deepEqual(read('0,0'), [[0, 0], '']);
});

test('a CSV file is read with or without a header, and its errors name the line', () => {
  assert.equal(parseCsv('label,a,b\r\n3,0,255\r\n', 'x.csv').pixels[0][1], 1);
  const strange = ['', 'label\n', '1,2\n1,2,3\n', '1,256\n', '1,-1\n', '1.5,2\n', '1,\n', '1\n'];
  for (const wrong of strange) {
    assert.throws(() => parseCsv(wrong, 'x.csv'), /^Error: x\.csv/);
  }
});

test('keys that it does not know are skipped, as a later version may send them', () => {
  const { member } = begun();
  member.hear('round', json({ ...ROUND, later: { deep: [1] } }));
  const weights = { ...encodeVector(WEIGHTS), later: 1 };
  member.hear('model', encode({ version: 0, weights, later: null }));
  assert.deepEqual([member.round.round, member.round.later], [ROUND.round, undefined]);
  assert.deepEqual(member.model, { version: 0, weights: WEIGHTS });
});
