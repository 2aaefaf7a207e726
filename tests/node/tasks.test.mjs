// Registering, submitting, results.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as taskloom from 'taskloom';
import { App, Duplicate, InvalidOptions, ShutDown, TaskHandle, UnknownHandler, WaitTimeout } from 'taskloom';

import { STORES, gate, started, thrown } from './helpers.mjs';

for (const [kind, url] of STORES) {
  test(`a task runs and its result comes back: ${kind}`, async (t) => {
    const [, double] = await started(t, { store: url(t) }, (app) => app.task('double', (n) => n * 2));
    const handle = await double.submit(21);
    assert.ok(handle instanceof TaskHandle);
    assert.match(handle.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
    assert.equal(handle.name, 'double');
    assert.equal(await handle.result(), 42);
    assert.equal(handle.state, 'succeeded');
    assert.equal(handle.done(), true);
    assert.equal(await handle.result(), 42, 'and again');
  });

  test(`an async handler: ${kind}`, async (t) => {
    const [, greet] = await started(t, { store: url(t) }, (app) =>
      app.task('greet', async ({ name }) => {
        await null;
        return { text: `hello, ${name} ✓` };
      }),
    );
    const handle = await greet.submit({ name: 'wörld\n' });
    assert.deepEqual(await handle.result(), { text: 'hello, wörld\n ✓' });
  });

  test(`many at once, one by one and together: ${kind}`, async (t) => {
    const [, double] = await started(t, { store: url(t) }, (app) => app.task('double', (n) => n * 2));
    const numbers = Array.from({ length: 5_000 }, (_, n) => n);
    const one = await Promise.all(numbers.map((n) => double.submit(n)));
    const many = await double.submitMany(numbers);
    for (const handles of [one, many]) {
      const results = await Promise.all(handles.map((handle) => handle.result()));
      assert.deepEqual(results, numbers.map((n) => n * 2));
    }
    assert.equal(new Set([...one, ...many].map((handle) => handle.id)).size, 10_000);
    assert.deepEqual(await double.submitMany([]), []);
  });

  test(`many together, whatever they are made of: ${kind}`, async (t) => {
    let others = [];
    const [, echo] = await started(t, { store: url(t) }, (app) => app.task('echo', (x) => x));
    // What makes the inputs may submit, too; and what some are made of is told by a closer look at all.
    function* made() {
      others.push(echo.submit('from the generator'));
      yield { n: 1, text: 'wörld ✓\n', list: [1, [2]], none: undefined };
      others.push(echo.submitMany(['from', 'within']).then((handles) => handles[1]));
      yield 'x'.repeat(100_000);
      yield -0;
    }
    const plain = await echo.submitMany(made());
    let asked = 0;
    const asks = {
      get n() {
        asked += 1;
        others.push(echo.submit('from a getter'), echo.submitMany([{}, 'all', 'the more']).then((handles) => handles[2]));
        return 7;
      },
    };
    const clearer = await echo.submitMany([1, asks, 'ä', new Date(0), null]);
    assert.equal(asked, 1, 'what has been read is not read again for the sake of another');
    function* one() {
      const row = { n: 0 };
      for (; row.n < 3; row.n += 1) yield row;
    }
    const reused = await echo.submitMany(one());
    const results = (handles) => Promise.all(handles.map((handle) => handle.result()));
    assert.deepEqual(await results(plain), [{ n: 1, text: 'wörld ✓\n', list: [1, [2]] }, 'x'.repeat(100_000), 0]);
    assert.deepEqual(await results(clearer), [1, { n: 7 }, 'ä', '1970-01-01T00:00:00.000Z', null]);
    assert.deepEqual(await results(reused), [{ n: 0 }, { n: 1 }, { n: 2 }]);
    const told = new Set(await results(await Promise.all(others)));
    assert.deepEqual(told, new Set(['from the generator', 'within', 'from a getter', 'the more']));
  });

  test(`a result larger than one crossing holds comes whole: ${kind}`, async (t) => {
    const [, echo] = await started(t, { store: url(t) }, (app) => app.task('echo', (text) => text));
    const texts = Array.from({ length: 40 }, (_, n) => `${n}`.repeat(400_000));
    const handles = await echo.submitMany(texts);
    for (const [place, handle] of handles.entries()) assert.equal(await handle.result(), texts[place]);
  });

  test(`a submit by name finds a handler of any language: ${kind}`, async (t) => {
    const [app] = await started(t, { store: url(t) }, (app) => app.task('double', (n) => n * 2));
    assert.equal(await (await app.submit('double', 4)).result(), 8);
    const error = await thrown(() => app.submit('duoble', 4));
    assert.ok(error instanceof UnknownHandler, String(error));
    assert.equal(error.code, 'TL1101');
    assert.match(error.hint, /double/);
  });

  test(`submit before start is run after it: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const double = app.task('double', (n) => n * 2);
    const handle = await double.submit(1);
    assert.equal(handle.done(), false);
    await app.start();
    assert.equal(await handle.result(), 2);
  });

  test(`submit after stop is refused: ${kind}`, async (t) => {
    const [app, double] = await started(t, { store: url(t) }, (app) => app.task('double', (n) => n * 2));
    await app.stop();
    const error = await thrown(() => double.submit(1));
    assert.ok(error instanceof ShutDown, String(error));
    await app.start();
    assert.equal(await (await double.submit(2)).result(), 4, 'it can be started again');
  });

  test(`a handle from an id tells how the task ended: ${kind}`, async (t) => {
    const [app, double] = await started(t, { store: url(t) }, (app) => app.task('double', (n) => n * 2));
    const { id } = await double.submit(3);
    const again = await app.get(id);
    assert.equal(again.id, id);
    assert.equal(await again.result(), 6);
    assert.equal(again.state, 'succeeded');
    assert.equal(await app.get('00000000-0000-7000-8000-000000000000'), undefined);
  });

  test(`unique keys: return, replace, reject: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const job = app.task('job', (n) => n);
    const first = await job.submit(1, { uniqueKey: 'a' });
    assert.equal((await job.submit(2, { uniqueKey: 'a' })).id, first.id);
    const error = await thrown(() => job.submit(3, { uniqueKey: 'a', onConflict: 'reject' }));
    assert.ok(error instanceof Duplicate, String(error));
    const next = await job.submit(4, { uniqueKey: 'a', onConflict: 'replace' });
    assert.notEqual(next.id, first.id);
    await app.start();
    assert.equal(await next.result(), 4);
    assert.equal((await first.info()).state, 'cancelled');
  });
}

test('results of many share one crossing in each direction', async (t) => {
  const [, double] = await started(t, { maxInFlight: 100_000 }, (app) => app.task('double', (n) => n * 2));
  const { port } = createRequire(import.meta.url)('./node_modules/taskloom/dist/port.js');
  await (await double.submit(0)).result();
  const before = port().native.traffic();
  const handles = await Promise.all(Array.from({ length: 1_000 }, (_, n) => double.submit(n)));
  await Promise.all(handles.map((handle) => handle.result()));
  const after = port().native.traffic();
  assert.equal(after.started - before.started, 1_000);
  assert.ok(after.crossings - before.crossings <= 6, `${after.crossings - before.crossings} crossings`);
  assert.ok(after.calls - before.calls <= 2, `${after.calls - before.calls} calls`);
});

test('a plain call runs here and now', async () => {
  const app = new App();
  const calls = [];
  const job = app.task('job', async (input, ctx) => {
    ctx.progress(0.5);
    ctx.log.info('here');
    await ctx.saveCheckpoint({ at: 1 });
    calls.push([input, ctx.task.attempt, await ctx.loadCheckpoint(), ctx.signal.aborted]);
    return 'done';
  });
  assert.equal(await job({ a: 1 }), 'done');
  assert.deepEqual(calls, [[{ a: 1 }, 1, { at: 1 }, false]]);
});

test('a wait can run out, and the task goes on', async (t) => {
  const { promise, open } = gate();
  const [, slow] = await started(t, {}, (app) => app.task('slow', () => promise));
  const handle = await slow.submit();
  const error = await thrown(() => handle.result({ timeout: 1 }));
  assert.ok(error instanceof WaitTimeout, String(error));
  assert.equal(error.code, 'TL2005');
  open('late');
  assert.equal(await handle.result(), 'late');
});

test('a wait can be aborted, and the task goes on', async (t) => {
  const { promise, open } = gate();
  const [, slow] = await started(t, {}, (app) => app.task('slow', () => promise));
  const handle = await slow.submit();
  const waits = new AbortController();
  const result = handle.result({ signal: waits.signal });
  waits.abort(new Error('no longer'));
  await assert.rejects(result, /no longer/);
  await assert.rejects(handle.result({ signal: waits.signal }), /no longer/);
  open(1);
  assert.equal(await handle.result(), 1);
});

for (const [kind, begin] of [['an app that runs', (app) => app.start()], ['testing mode', async (app) => app.testing()]]) {
  test(`what says nothing of a wait is refused: ${kind}`, async (t) => {
    const app = new App();
    const later = app.task('later', () => 1);
    const mode = await begin(app);
    t.after(() => (mode === app ? app.stop({ timeout: 0 }) : mode.end()));
    const handle = await later.submit(null, { delay: '1h' });
    for (const [options, message] of [
      [5, /the options of result are 5; they must be an object/],
      [null, /the options of result are null/],
      [{ timeuot: 5 }, /there is no option of result timeuot/],
      [{ timeout: 'soon' }, /timeout is "soon"; it must be a duration/],
      [{ signal: 'abort' }, /signal is "abort"; it must be an AbortSignal/],
    ]) {
      const error = await thrown(() => handle.result(options));
      assert.ok(error instanceof InvalidOptions, String(error));
      assert.match(error.message, message);
    }
  });
}

test('onDone is called once with the handle, before and after the end', async (t) => {
  const [, double] = await started(t, {}, (app) => app.task('double', (n) => n * 2));
  const handle = await double.submit(1);
  assert.equal(await new Promise((resolve) => handle.onDone(resolve)), handle);
  assert.equal(await new Promise((resolve) => handle.onDone(resolve)), handle);
  await assert.rejects(async () => handle.onDone(7), /function/);
});

test('nothing on a handle is called then', async (t) => {
  const [, double] = await started(t, {}, (app) => app.task('double', (n) => n * 2));
  const handle = await double.submit(1);
  assert.equal('then' in handle, false);
  assert.equal(await handle, handle);
});

test('import and require give the same classes', async () => {
  const required = createRequire(import.meta.url)('taskloom');
  for (const [name, value] of Object.entries(taskloom)) assert.equal(value, required[name], name);
  assert.deepEqual(Object.keys(required).sort(), Object.keys(taskloom).sort());
});

test('a name that is taken is refused, unless it is replaced', async (t) => {
  const [app, first] = await started(t, {}, (app) => app.task('job', () => 1));
  const error = await thrown(() => app.task('job', () => 2));
  assert.ok(error instanceof InvalidOptions);
  assert.equal(error.code, 'TL1003');
  app.task('job', { replace: true }, () => 2);
  assert.equal(await (await first.submit()).result(), 2);
});

test('versions: the newest unless asked', async (t) => {
  const [app, [one]] = await started(t, {}, (app) => [
    app.task('job', { version: '1.0.0' }, () => 'one'),
    app.task('job', { version: '2.0.0' }, () => 'two'),
  ]);
  assert.equal(await (await one.submit()).result(), 'one');
  assert.equal(await (await app.submit('job')).result(), 'two');
  assert.equal(await (await app.submit('job', null, { version: '1.0.0' })).result(), 'one');
});

test('a full store refuses, or has the submit wait', async (t) => {
  const app = new App({ capacity: 2 });
  t.after(() => app.stop({ timeout: 0 }));
  const job = app.task('job', (n) => n);
  const outcomes = await Promise.allSettled([1, 2, 3].map((n) => job.submit(n)));
  assert.deepEqual(outcomes.map((outcome) => outcome.status), ['fulfilled', 'fulfilled', 'rejected']);
  assert.equal(outcomes[2].reason.code, 'TL1301');
  const all = await thrown(() => job.submitMany([4, 5]));
  assert.equal(all.name, 'QueueFull');

  const [, patient] = await started(t, { capacity: 2, onFull: 'wait' }, (app) => app.task('job', (n) => n));
  const handles = await Promise.all(Array.from({ length: 50 }, (_, n) => patient.submit(n)));
  const results = await Promise.all(handles.map((handle) => handle.result()));
  assert.deepEqual(results, Array.from({ length: 50 }, (_, n) => n));
});

test('slots that are used again mix up nothing', async (t) => {
  const [app, job] = await started(t, {}, (app) => app.task('job', (n) => ({ n })));
  const first = await job.submit(1, { uniqueKey: 'a', uniqueFor: '1h' });
  assert.deepEqual(await first.result(), { n: 1 });
  for (let round = 2; round < 6; round++) {
    const again = await job.submit(round, { uniqueKey: 'a', uniqueFor: '1h' });
    assert.equal(again.id, first.id);
    assert.deepEqual(await again.result(), { n: 1 });
    assert.deepEqual(await (await app.get(first.id)).result(), { n: 1 });
    assert.deepEqual(await (await job.submit(round)).result(), { n: round });
  }
});
