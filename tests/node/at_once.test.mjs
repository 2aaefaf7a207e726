// Submits that nobody can refuse are accepted at once: before their promise is awaited, and so before JavaScript crosses.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { QueueFull } from 'taskloom';

import { started, thrown } from './helpers.mjs';

const { port } = createRequire(import.meta.url)('./node_modules/taskloom/dist/port.js');
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** As whoever awaits a submit finds the task. */
function seen(handle) {
  return { hasId: ID.test(handle.id), isKnown: handle.done() || port().native.state(handle._slot) !== null };
}

const BOTH = { hasId: true, isKnown: true };

test('whoever awaits a submit finds a task that the engine has', async (t) => {
  const [, double] = await started(t, {}, (app) => app.task('double', (n) => n * 2));
  const handles = Array.from({ length: 3_000 }, (_, n) => double.submit(n).then((handle) => [handle, seen(handle)]));
  for (const [n, submitted] of handles.entries()) {
    const [handle, state] = await submitted;
    assert.deepEqual(state, BOTH);
    assert.equal(await handle.result(), n * 2);
  }
});

test('so does a handler, though the turn of the loop is over', async (t) => {
  let leaf;
  const [, branch] = await started(t, {}, (app) => {
    leaf = app.task('leaf', (n) => n);
    return app.task('branch', async (n) => {
      const handle = await leaf.submit(n);
      const state = seen(handle);
      // Longer than a turn, many times over.
      for (const until = performance.now() + 1; performance.now() < until; );
      const next = await leaf.submit(n + 1);
      return { states: [state, seen(next)], leaf: handle.id };
    });
  });
  const branches = await Promise.all(Array.from({ length: 50 }, (_, n) => branch.submit(n)));
  for (const handle of branches) {
    const { states, leaf: id } = await handle.result();
    assert.deepEqual(states, [BOTH, BOTH]);
    assert.match(id, ID);
  }
});

test('a handler submits more than may be accepted at once', async (t) => {
  let leaf;
  const [, burst] = await started(t, {}, (app) => {
    leaf = app.task('leaf', (n) => n);
    return app.task('burst', (count) => {
      const all = Promise.all(Array.from({ length: count }, (_, n) => leaf.submit(n)));
      return all.then((handles) => Promise.all(handles.map((handle) => handle.result())));
    });
  });
  const count = 20_000;
  const results = await (await burst.submit(count)).result();
  assert.deepEqual(results, Array.from({ length: count }, (_, n) => n));
});

test('a full store refuses, however large it is', async (t) => {
  const capacity = 1 << 17;
  const [app, job] = await started(t, { capacity }, (own) => own.task('job', () => null));
  await app.pause('default');
  const many = async (count) => {
    const submits = await Promise.allSettled(Array.from({ length: count }, () => job.submit()));
    return submits.filter((submit) => submit.status === 'fulfilled').length;
  };
  let accepted = 0;
  while (accepted < capacity - 10) accepted += await many(Math.min(20_000, capacity - 10 - accepted));
  assert.equal(accepted, capacity - 10);
  assert.equal(await many(25), 10);
  assert.ok((await thrown(() => job.submit())) instanceof QueueFull);
  assert.equal(await app.purge('default'), capacity);
});

test('a stop comes after the submits before it', async (t) => {
  const [app, job] = await started(t, {}, (own) => own.task('job', (n) => n));
  const submits = Array.from({ length: 10 }, (_, n) => job.submit(n));
  const stopped = app.stop();
  const handles = await Promise.all(submits);
  await stopped;
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

test('an outcome is heard by all who wait for it, value or error', async (t) => {
  const [, job] = await started(t, {}, (app) =>
    app.task('job', async (n) => {
      if (n < 0) throw new RangeError(`no ${n}`);
      return n;
    }),
  );
  const good = await job.submit(7);
  const heard = [];
  good.onDone((handle) => heard.push(handle.id));
  assert.deepEqual(await Promise.all([good.result(), good.result({ timeout: '1m' }), good.result()]), [7, 7, 7]);
  assert.deepEqual(heard, [good.id]);
  const bad = await job.submit(-1);
  const all = await Promise.allSettled([bad.result(), bad.result({ timeout: '1m' }), bad.result()]);
  for (const { reason } of all) {
    assert.equal(reason.name, 'TaskFailed');
    assert.match(reason.message, /no -1/);
  }
});
