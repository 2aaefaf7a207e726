// The golden files of tests/golden, which Rust writes: JavaScript's half must agree.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as taskloom from 'taskloom';

import { started } from './helpers.mjs';

function records(name) {
  const found = JSON.parse(readFileSync(new URL(`../golden/${name}`, import.meta.url), 'utf8'));
  assert.ok(found.length > 0);
  return found;
}

const { TaskloomError } = taskloom;

test('each kind of error is a class, and each class a kind', () => {
  const kinds = new Set(records('errors.json').map(({ kind }) => kind));
  const ours = Object.entries(taskloom)
    .filter(([, value]) => typeof value === 'function' && value.prototype instanceof TaskloomError)
    .map(([name]) => name);
  const thrownByUsers = ['PermanentError', 'RetryAfter'];
  assert.deepEqual(ours.filter((name) => !thrownByUsers.includes(name)).sort(), [...kinds].sort());
  for (const kind of kinds) {
    const codes = records('errors.json').filter((record) => record.kind === kind).map(({ code }) => code);
    assert.ok(codes.includes(new taskloom[kind]('x').code), kind);
  }
});

test('states are those of the table', async (t) => {
  const [app] = await started(t);
  const states = new Set(records('transitions.json').map(({ to }) => to));
  assert.deepEqual(new Set(Object.keys((await app.stats()).tasks)), states);
  for (const state of states) assert.deepEqual(await app.list({ state }), []);
  // What is promised: cancel moves whatever has not ended, and nothing else.
  const live = records('transitions.json').filter(({ to, rule }) => to === 'cancelled' && rule === 'engine');
  assert.deepEqual(live.map(({ from }) => from).sort(), ['pending', 'queued', 'retrying', 'running']);
});

test('the documented backoff is the engine\u2019s', () => {
  for (const { base, factor, cap, failures, chance, wait } of records('retry.json')) {
    const longest = base === 0 ? 0 : base * factor ** (failures - 1);
    assert.ok(Math.abs(wait - chance * Math.min(longest, cap)) < 1e-9);
  }
});

test('payloads come as they are written, within what numbers of JavaScript hold', async (t) => {
  const [, echo] = await started(t, {}, (app) => app.task('echo', (value) => JSON.stringify(value)));
  for (const { json } of records('payloads.json')) {
    const value = JSON.parse(json);
    const back = await (await echo.submit(value)).result();
    // A number comes as the nearest one that JavaScript has, and in its own notation; -0 is 0.
    if (typeof value === 'number') assert.equal(Number(back) + 0, Number(json) + 0);
    else assert.equal(back, json);
  }
});

test('cron expressions fire when the golden table says', () => {
  for (const { cron, tz, start, about, firings } of records('cron.json')) {
    const times = taskloom.nextFirings(cron, { tz, start: new Date(start), count: firings.length });
    assert.deepEqual(times.map((time) => time.getTime()), firings.map((time) => Date.parse(time)), `${cron} ${tz}: ${about}`);
  }
});
