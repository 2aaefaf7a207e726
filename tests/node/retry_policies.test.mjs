// Retry policies that decide by the error.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';

import { App, InvalidOptions, PermanentError, RetryAfter } from 'taskloom';

import { started, thrown } from './helpers.mjs';

class Away extends Error {}
class FarAway extends Away {}

/** How many attempts a task makes whose handler throws that each time. */
async function attempts(t, retry, thrown) {
  const app = new App();
  const work = app.task('work', { retries: 2, retry }, async () => {
    throw thrown;
  });
  const clock = app.testing();
  t.after(() => clock.end());
  const handle = await work.submit();
  await clock.advance('1 day');
  assert.equal(handle.state, 'failed');
  const { attempt } = await handle.info();
  await clock.end();
  return attempt;
}

const refused = Object.assign(new Error('no'), { code: 'ECONNREFUSED' });

for (const [what, retry, cases] of [
  ['a class', { on: Away }, [[new Away(), 3], [new FarAway(), 3], [new RangeError(), 1], ['a text', 1]]],
  ['its name, and that of one above', { on: 'Away' }, [[new Away(), 3], [new FarAway(), 3], [new RangeError(), 1]]],
  ['the error\u2019s own name, and its code', { on: ['AbortError', 'ECONNREFUSED'] }, [[new DOMException('x', 'AbortError'), 3], [refused, 3], [null, 1]]],
  ['never', { never: [FarAway, 'RangeError'] }, [[new Away(), 3], [new FarAway(), 1], [new RangeError(), 1]]],
  ['never goes before on', { on: Error, never: RangeError }, [[new Away(), 3], [new RangeError(), 1]]],
  ['a function', (error, failures) => failures < 2 && error instanceof Away, [[new Away(), 2], [new RangeError(), 1]]],
  ['a function that leaves it to the rest', { retryIf: (error) => (error instanceof FarAway ? true : undefined), on: RangeError }, [[new FarAway(), 3], [new Away(), 1], [new RangeError(), 3]]],
  ['the handler\u2019s own word goes before', { never: Error, retryIf: () => true }, [[new PermanentError('no'), 1], [new RetryAfter(1), 3]]],
]) {
  test(`retried: ${what}`, async (t) => {
    for (const [error, count] of cases) assert.equal(await attempts(t, retry, error), count, String(error));
  });
}

test('a function says how long to wait', async (t) => {
  const app = new App();
  const asked = [];
  const again = (error, failures) => {
    asked.push([error.message, failures]);
    return '1h';
  };
  const work = app.task('work', { retries: 2, retry: { base: '1ms', retryIf: again } }, () => {
    throw new Error('no');
  });
  const clock = app.testing();
  t.after(() => clock.end());
  const handle = await work.submit();
  await clock.advance('59m');
  assert.equal((await handle.info()).attempt, 1);
  await clock.advance('1m');
  assert.equal((await handle.info()).attempt, 2);
  await clock.advance('1h');
  assert.equal(handle.state, 'failed');
  assert.deepEqual(asked, [['no', 1], ['no', 2]], 'the last attempt is not asked about');
});

test('a function that gives no answer is told of, and counts for nothing', async (t) => {
  for (const retry of [() => 'soon', () => { throw new RangeError('oops'); }]) {
    const warning = once(process, 'warning');
    assert.equal(await attempts(t, retry, new Away()), 3);
    const [{ code, message }] = await warning;
    assert.equal(code, 'TASKLOOM_RETRY_FUNCTION');
    assert.match(message, /the retry function of "work" gives no answer/);
  }
});

for (const [what, retry, message] of [
  ['nothing', { on: [] }, /no error would be tried again/],
  ['no class', { on: [() => {}] }, /which is no class of errors/],
  ['an error in the place of its class', { never: new Error('x') }, /retry\.never has .* which is no class/],
  ['an empty name', { on: '' }, /which is no class of errors/],
  ['retryIf', { retryIf: true }, /retryIf is true; it must be a function/],
  ['an async retryIf', { retryIf: async () => true }, /retry\.retryIf is an async function, which cannot answer at once.*RetryAfter/],
  ['an async function', async () => true, /retry is an async function, which cannot answer at once/],
  ['a generator function', { retryIf: function* () {} }, /retry\.retryIf is a generator function/],
  ['a class', FarAway, /retry is the class FarAway; it must be a function of the error.*on: \[TypeError\]/],
  ['a class of the language', { retryIf: TypeError }, /retry\.retryIf is the class TypeError/],
  ['what never covers', { on: [FarAway], never: Away }, /retry\.on has the function FarAway in it, and so has retry\.never/],
  ['a typing error', { onn: Away }, /no option of retry onn/],
]) {
  test(`refused in a policy: ${what}`, async () => {
    const error = await thrown(() => new App().task('work', { retry }, () => {}));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
  });
}

test('a submit says only how long', async (t) => {
  const [, work] = await started(t, {}, (app) => app.task('work', () => {}));
  for (const retry of [{ on: Away }, () => true]) {
    assert.match((await thrown(() => work.submit(null, { retry }))).hint, /said on the handler/);
  }
});
