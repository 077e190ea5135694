// The judges by hand; tests/test_other_language.py compares them with those in Python.

import assert from 'node:assert/strict';
import test from 'node:test';

import { studentQuantile } from './calibrated.mjs';
import { judgeOf } from './judge.mjs';

const judge = (name, least, options = {}) => (
  judgeOf({ judge: name, judge_options: options, minimum_history: least }));
const errors = (...rates) => rates.map((rate) => Float64Array.of(rate, 0, 0, rate));

test("quantiles of Student's t are those of the tables", () => {
  const table = [[0.975, 1, 12.706], [0.95, 2, 2.92], [0.98, 3, 3.482], [0.975, 4, 2.776],
    [0.975, 10, 2.228], [0.995, 30, 2.75]];
  for (const [q, n, found] of table) assert.ok(Math.abs(studentQuantile(q, n) - found) < 6e-4);
});

test('lof: a change like those before is clean, one far from them poisoned', () => {
  const past = errors(0.5, 0.45, 0.41, 0.36, 0.32, 0.27);
  const opinion = judge('lof', 3);
  assert.equal(opinion(past, errors(0.225)[0], 100).poisoned, false);
  const { poisoned, score, threshold, evidence } = opinion(past, errors(0.9)[0], 100);
  assert.ok(poisoned && score > 10 * threshold);
  assert.deepEqual(evidence, [Math.log(threshold), Math.log(score)]);
});

test('lof: where nothing changes, the finest difference that data can show is the measure', () => {
  const past = errors(0.5, 0.5, 0.5, 0.5, 0.5, 0.5);
  const same = judge('lof', 3)(past, errors(0.5)[0], 100);
  assert.deepEqual([same.poisoned, same.score, same.threshold], [false, 1, 1]);
  const worse = judge('lof', 3)(past, errors(0.51)[0], 100);
  assert.ok(worse.poisoned && Math.abs(worse.score - Math.SQRT2) < 1e-9);
});

test('with fewer models than are needed everything is clean, without evidence', () => {
  const clean = { poisoned: false, score: 0, threshold: 0, evidence: [] };
  for (const name of ['lof', 'calibrated']) {
    assert.deepEqual(judge(name, 4)(errors(0.5, 0.4, 0.3), errors(0.9)[0], 100), clean);
    assert.deepEqual(judge(name, 0)(errors(0.5), errors(0.9)[0], 100), clean);
  }
});

test('judges and options that are not known give no judge', () => {
  assert.equal(judge('oracle', 3), null);
  assert.equal(judge('constructor', 3), null);
  assert.equal(judge('lof', 3, { reading: 'B' }), null);
  assert.equal(judge('lof', 3, { mood: 1 }), null);
  assert.equal(judge('calibrated', 4, { false_alarm: 'often' }), null);
  assert.ok(judge('lof', 3, { reading: 'A' }));
});
