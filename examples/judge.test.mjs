// The judges by hand; tests/browser/test_other_language.py compares them with those in Python.

import assert from 'node:assert/strict';
import test from 'node:test';

import { studentQuantile } from './calibrated.mjs';
import { changesOf, judgeOf, profileOf } from './judge.mjs';
import { countBytes } from './vectors.mjs';

const judge = (name, least, options = {}) => (
  judgeOf({ judge: name, judge_options: options, minimum_history: least }));
const errors = (...counts) => counts.map((count) => Float64Array.of(count, 0, 0, count));

test("quantiles of Student's t are those of the tables", () => {
  const table = [[0.975, 1, 12.706], [0.95, 2, 2.92], [0.98, 3, 3.482], [0.975, 4, 2.776],
    [0.975, 10, 2.228], [0.995, 30, 2.75]];
  for (const [q, n, found] of table) assert.ok(Math.abs(studentQuantile(q, n) - found) < 6e-4);
});

test('a sample without finite outputs is misclassified and called nothing', () => {
  const outputs = [[2, 1], [1, 2], [NaN, 2], [Infinity, 0]];
  const network = { classes: 2, forward: (_, pixels) => Float32Array.from(outputs[pixels[0]]) };
  const data = { count: 4, pixels: [[0], [1], [2], [3]], labels: Int32Array.of(0, 0, 1, 0) };
  const walk = profileOf(network, null, data);
  let step = walk.next();
  while (!step.done) step = walk.next();
  assert.deepEqual([...step.value.errors], [2, 1, 0, 1]);
  assert.deepEqual([...step.value.answers], [0, 1, -1, -1]);
});

test('a vote says how many answers change, and by how much the errors do', () => {
  const last = { answers: Int32Array.of(0, 1, 1, -1), errors: Float64Array.of(1, 2, 0, 1) };
  const next = { answers: Int32Array.of(0, 0, 1, 1), errors: Float64Array.of(2, 0, 0, 1) };
  assert.deepEqual(changesOf(last, next), { changed: 2, changed_errors: 3 });
  assert.deepEqual(changesOf(last, last), { changed: 0, changed_errors: 0 });
});

test('counts travel in as few bytes as the largest needs', () => {
  assert.deepEqual([...countBytes([0, 255])], [1, 0, 255]);
  assert.deepEqual([...countBytes([256, 1])], [2, 0, 1, 1, 0]);
  assert.deepEqual([...countBytes([65536])], [4, 0, 0, 1, 0]);
});

test('lof: a change like those before is clean, one far from them poisoned', () => {
  const past = errors(100, 90, 82, 72, 64, 54);
  const opinion = judge('lof', 3);
  assert.equal(opinion(past, errors(45)[0]).poisoned, false);
  const { poisoned, score, threshold, evidence } = opinion(past, errors(180)[0]);
  assert.ok(poisoned && score > 10 * threshold);
  assert.deepEqual(evidence, [Math.log(threshold), Math.log(score)]);
});

test('lof: of equally distant changes the earlier is the neighbour, whatever their roots', () => {
  // On 30 samples; in thirtieths the roots of equal squares differ, and it would be poisoned.
  // tests/unit/test_validation.py has it worked out: both are (1 + (√18 + √21) / (2 √21)) / 2.
  const past = [[3, 2, 0, 0], [3, 3, 2, 1], [3, 2, 3, 0], [3, 1, 1, 2]];
  const said = judge('lof', 4)(past.map((row) => Float64Array.from(row)),
    Float64Array.of(3, 2, 1, 3));
  const found = (1 + (Math.sqrt(18) + Math.sqrt(21)) / (2 * Math.sqrt(21))) / 2;
  assert.equal(said.poisoned, false);
  for (const value of [said.score, said.threshold]) assert.ok(Math.abs(value - found) < 1e-12);
});

test('lof: where nothing changes, one error is the measure', () => {
  const past = errors(50, 50, 50, 50, 50, 50);
  const same = judge('lof', 3)(past, errors(50)[0]);
  assert.deepEqual([same.poisoned, same.score, same.threshold], [false, 1, 1]);
  const worse = judge('lof', 3)(past, errors(51)[0]);
  assert.ok(worse.poisoned && Math.abs(worse.score - Math.SQRT2) < 1e-9);
});

test('auto: lof where nineteen of twenty changes are zeros, else robust', () => {
  const past = (...changes) => {
    let count = 20;
    return errors(20, ...changes.map((by) => { count += by; return count; }));
  };
  const zeros = (count) => Array(count).fill(0);
  const same = (one, other) => ['poisoned', 'score', 'threshold']
    .forEach((part) => assert.equal(one[part], other[part]));
  for (const [changes, chosen] of [[[...zeros(10), 1, ...zeros(9)], 'lof'],
    [[...zeros(10), 1, ...zeros(5), -1, ...zeros(3)], 'robust']]) {
    const models = past(...changes);
    const candidate = models.at(-1).map((value) => value && value + 1);
    const said = judge('auto', 11)(models, candidate);
    same(said, judge(chosen, 11)(models, candidate));
    assert.deepEqual(said.evidence, []);
  }
});

test('with fewer models than are needed everything is clean, without evidence', () => {
  const clean = { poisoned: false, score: 0, threshold: 0, evidence: [] };
  for (const name of ['lof', 'calibrated', 'robust']) {
    assert.deepEqual(judge(name, 4)(errors(5, 4, 3), errors(9)[0]), clean);
    assert.deepEqual(judge(name, 0)(errors(5), errors(9)[0]), clean);
  }
});

test('robust: where nothing ever changed two errors more of a kind are poison, and one is not', () => {
  // tests/unit/test_robust_judge.py has it worked out: half an error is the unit.
  const past = Array.from({ length: 21 }, () => Float64Array.from({ length: 20 }, (_, i) => 5 * (i < 10)));
  const more = (errors) => past[0].map((value, place) => value + (place === 10 ? errors : 0));
  const say = judge('robust', 11);
  assert.deepEqual([say(past, more(1)).poisoned, say(past, more(1)).score], [false, 2]);
  assert.deepEqual([say(past, more(2)).poisoned, say(past, more(2)).score], [true, 4]);
  assert.ok(Math.abs(say(past, more(1)).threshold - 3.552) < 5e-4);
});

test('judges and options that are not known give no judge', () => {
  assert.equal(judge('oracle', 3), null);
  assert.equal(judge('constructor', 3), null);
  assert.equal(judge('lof', 3, { reading: 'B' }), null);
  assert.equal(judge('lof', 3, { mood: 1 }), null);
  assert.equal(judge('calibrated', 4, { false_alarm: 'often' }), null);
  assert.ok(judge('lof', 3, { reading: 'A' }));
});
