// Testing mode: async handlers and the timers of JavaScript on the virtual clock.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep, setInterval as every, scheduler } from 'node:timers/promises';
import * as timers from 'node:timers';
import { promisify } from 'node:util';

import { App, currentContext } from 'taskloom';

const REAL = { setTimeout, clearTimeout, setInterval, clearInterval, sleep, every, wait: scheduler.wait };

function testing(t, app, options = {}) {
  const mode = app.testing(options);
  t.after(() => mode.end());
  return mode;
}

test('sleeping takes no real time', async (t) => {
  const app = new App();
  const waits = {
    global: () => new Promise((resolve) => setTimeout(resolve, 3_600_000)),
    'node:timers': () => new Promise((resolve) => timers.setTimeout(resolve, 3_600_000)),
    'node:timers/promises': () => sleep(3_600_000),
    scheduler: () => scheduler.wait(3_600_000),
    promisified: () => promisify(setTimeout)(3_600_000),
    'three parts': async () => {
      for (const part of [600_000, 1_200_000, 1_800_000]) await sleep(part);
    },
  };
  const work = app.task('work', async (how, ctx) => {
    const start = ctx.now;
    await waits[how]();
    return ctx.now - start;
  });
  const clock = testing(t, app);
  const handles = await work.submitMany(Object.keys(waits));
  await clock.advance('59m');
  assert.deepEqual(handles.map(({ state }) => state), handles.map(() => 'running'));
  await clock.advance('1m');
  for (const handle of handles) assert.equal(await handle.result(), 3_600_000);
});

test('a timeout aborts the signal on time', async (t) => {
  const app = new App();
  const told = [];
  const slow = app.task('slow', { timeout: '30s' }, async (_, ctx) => {
    try {
      await sleep(100_000, undefined, { signal: ctx.signal });
    } catch (error) {
      told.push([error.name, error.cause.name, ctx.now.getTime() - start]);
      throw error;
    }
  });
  const clock = testing(t, app);
  const start = clock.now.getTime();
  const handle = await slow.submit();
  await clock.advance('29s');
  assert.equal(handle.state, 'running');
  await clock.advance('1s');
  assert.equal(handle.state, 'timed_out');
  assert.deepEqual(told.map(([name, cause]) => [name, cause]), [['AbortError', 'TaskTimedOut']]);
});

test('the order is the same each time', async () => {
  const app = new App();
  const order = [];
  const work = app.task('work', async (n) => {
    for (let step = 0; step < 3; step++) {
      await sleep((n * 7 + step * 3) % 5);
      order.at(-1).push(`${n}.${step}`);
    }
  });
  for (let time = 0; time < 2; time++) {
    order.push([]);
    const clock = app.testing();
    await work.submitMany([1, 2, 3, 4, 5]);
    await clock.advance('1s');
    await clock.end();
  }
  assert.equal(order[0].length, 15);
  assert.deepEqual(order[0], order[1]);
});

test('immediates and many turns of the loop are gone through', async (t) => {
  const app = new App();
  const work = app.task('work', async () => {
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    return 'done';
  });
  const clock = testing(t, app);
  const handle = await work.submit();
  await clock.drain();
  assert.equal(handle.state, 'succeeded');
});

test('the test\u2019s own timers, too', async (t) => {
  const app = new App();
  const clock = testing(t, app);
  const told = [];
  const call = setTimeout((...words) => told.push(...words), 1_000, 'a', 'b');
  const off = setTimeout(() => told.push('never'), 1_000);
  const byNumber = setTimeout(() => told.push('never'), 1_000);
  const repeats = setInterval(() => told.push('tick'), 400);
  assert.equal(call.hasRef(), true);
  assert.equal(call.unref().hasRef(), false);
  clearTimeout(off);
  clearTimeout(+byNumber);
  clearTimeout(undefined);
  await clock.advance('1s');
  clearInterval(repeats);
  assert.deepEqual(told, ['tick', 'tick', 'a', 'b']);
  call.refresh();
  await clock.advance('1s');
  assert.deepEqual(told.slice(4), ['a', 'b']);
  const ticks = [];
  const reading = (async () => {
    for await (const word of every(1_000, 'tock')) if (ticks.push(word) === 3) break;
  })();
  await clock.advance('3s');
  await reading;
  assert.deepEqual(ticks, ['tock', 'tock', 'tock']);
  assert.throws(() => setTimeout('code', 1), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('timers that were set before are real, and all are given back', async () => {
  const app = new App();
  const before = new Promise((resolve) => setTimeout(resolve, 1));
  const cleared = setTimeout(() => assert.fail('it was cleared'), 1);
  const clock = app.testing();
  assert.notEqual(setTimeout, REAL.setTimeout);
  clearTimeout(cleared);
  await before;
  const dropped = setTimeout(() => assert.fail('it was dropped'), 1);
  await clock.end();
  assert.deepEqual({ setTimeout, clearTimeout, setInterval, clearInterval, sleep, every, wait: scheduler.wait }, REAL);
  clearTimeout(dropped);
});

test('they can be left alone', async (t) => {
  const app = new App();
  const work = app.task('work', async () => {
    await sleep(1);
    return 'done';
  });
  const clock = testing(t, app, { timers: false });
  assert.equal(setTimeout, REAL.setTimeout);
  const handle = await work.submit();
  await clock.drain();
  assert.equal(await handle.result(), 'done', 'its handle waits for what is real');
});

test('a handler that sleeps at the end is told, and one that is not is nobody\u2019s any more', async () => {
  const app = new App();
  const told = [];
  const work = app.task('work', async (how) => {
    try {
      await (how === 'promise' ? sleep(3_600_000) : new Promise((resolve) => setTimeout(resolve, 3_600_000)));
    } catch (error) {
      told.push(error.name);
    } finally {
      told.push(how);
    }
  });
  const clock = app.testing();
  await work.submitMany(['promise', 'callback']);
  await clock.drain();
  assert.throws(() => currentContext(), /it cannot be told/);
  await clock.end();
  assert.deepEqual(told, ['AbortError', 'promise']);
  assert.equal(currentContext(), undefined);
});
