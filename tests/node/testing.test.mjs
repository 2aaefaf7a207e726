// Testing mode: the real engine on a clock that the test turns.
import assert from 'node:assert/strict';
import { existsSync, readFile } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'node:test';

import { App, InvalidOptions, Misuse, RetryAfter, TaskExpired, TaskTimedOut, WaitTimeout, currentContext } from 'taskloom';

import { file, thrown } from './helpers.mjs';

const START = new Date('2026-01-01T00:00:00Z');
const HOUR = 3_600_000;

/** An app in testing mode, for one test. */
function testing(t, app, options = {}) {
  const mode = app.testing(options);
  t.after(() => mode.end());
  return mode;
}

test('three days in a moment', async (t) => {
  const app = new App();
  const remind = app.task('remind', { retries: 3, retry: { base: '1m' } }, (who, ctx) => {
    if (ctx.task.attempt === 1) throw new RangeError('the mail server is away');
    return `reminded ${who}`;
  });
  const clock = testing(t, app, { start: START });
  const handle = await remind.submit('Ada', { delay: '3 days' });
  await clock.advance({ days: 2, hours: 23, minutes: 59, seconds: 59 });
  assert.equal(handle.state, 'pending');
  await clock.advance('1s');
  assert.equal(handle.state, 'retrying');
  await clock.advance(2 * 60_000);
  assert.equal(handle.state, 'succeeded');
  assert.equal(await handle.result(), 'reminded Ada');
  assert.deepEqual(clock.now, new Date(START.getTime() + 72 * HOUR + 120_000));
});

test('nothing runs before it is driven', async (t) => {
  const ran = [];
  const app = new App();
  const work = app.task('work', (n) => ran.push(n));
  const clock = testing(t, app);
  const handle = await work.submit(1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([handle.state, ran], ['queued', []]);
  await clock.drain();
  assert.deepEqual([handle.state, ran], ['succeeded', [1]]);
  assert.equal(await (await work.submit(2)).result(), 2, 'whoever asks for the result has it run');
});

test('retries come at their times, and the same each time', async () => {
  const app = new App();
  const times = [];
  const flaky = app.task('flaky', { retries: 5, retry: { base: '1m', cap: '1h' } }, (_, ctx) => {
    times.at(-1).push(ctx.now.getTime());
    throw new Error('no');
  });
  for (const seed of [1, 1, 2]) {
    times.push([]);
    const clock = app.testing({ start: START, seed });
    const handle = await flaky.submit();
    await clock.advance('1 day');
    assert.equal(handle.state, 'failed');
    assert.deepEqual((await handle.errors()).map(({ at }) => at.getTime()), times.at(-1));
    await clock.end();
  }
  assert.equal(times[0].length, 6);
  assert.deepEqual(times[0], times[1]);
  assert.notDeepEqual(times[0], times[2]);
});

test('RetryAfter a date goes by the virtual clock', async (t) => {
  const app = new App();
  const later = new Date(START.getTime() + 5 * HOUR);
  const busy = app.task('busy', { retries: 1 }, (_, ctx) => {
    if (ctx.task.attempt === 1) throw new RetryAfter(later);
    return ctx.now;
  });
  const clock = testing(t, app, { start: START });
  const handle = await busy.submit();
  await clock.advance('5h');
  assert.equal(await handle.result(), later.toISOString());
});

test('the context shows the virtual time', async (t) => {
  const app = new App();
  const work = app.task('work', { timeout: '90s' }, (_, ctx) => [ctx.now, ctx.deadline, currentContext().now]);
  const due = app.task('due', { timeout: '90s', deadline: '1m' }, (_, ctx) => [ctx.deadline]);
  testing(t, app, { start: START });
  const at = (seconds) => new Date(START.getTime() + seconds * 1000).toISOString();
  assert.deepEqual(await (await work.submit()).result(), [at(0), at(90), at(0)]);
  assert.deepEqual(await (await due.submit()).result(), [at(60)]);
});

test('schedules fire at their times, and their tasks know for which', async (t) => {
  const app = new App();
  const ticks = [];
  app.cron('0 3 * * *', { name: 'nightly' }, (_, ctx) => ticks.push([ctx.task.schedule, ctx.task.tick.toISOString()]));
  const clock = testing(t, app, { start: START });
  await clock.advance('2 days');
  assert.deepEqual(ticks, [['nightly', '2026-01-01T03:00:00.000Z'], ['nightly', '2026-01-02T03:00:00.000Z']]);
});

test('expiry and deadline', async (t) => {
  const app = new App();
  const work = app.task('work', () => {});
  const clock = testing(t, app);
  await app.pause('slow');
  const expired = await work.submit(null, { queue: 'slow', expires: '1m' });
  const late = await work.submit(null, { queue: 'slow', deadline: '2m' });
  await clock.advance('2m');
  assert.ok((await thrown(() => expired.result())) instanceof TaskExpired);
  assert.ok((await thrown(() => late.result())) instanceof TaskTimedOut);
});

test('a handler that turns the clock times out', async (t) => {
  const app = new App();
  const after = [];
  const slow = app.task('slow', { timeout: '10s', retries: 1, retry: { base: 0 } }, async (_, ctx) => {
    if (ctx.task.attempt === 2) return 'in time';
    await clock.advance('11s');
    after.push('not reached');
    return 'late';
  });
  const clock = testing(t, app);
  const handle = await slow.submit();
  assert.equal(await handle.result(), 'in time');
  assert.deepEqual((await handle.errors()).map(({ type }) => type), ['TaskTimedOut']);
  assert.deepEqual(after, []);
});

test('a parent and its children', async (t) => {
  const app = new App();
  const child = app.task('child', async (n) => n * n);
  const parent = app.task('parent', async (_, ctx) => {
    let sum = 0;
    for (let n = 0; n < 4; n++) sum += await (await ctx.submit(child, n)).result();
    return sum;
  });
  const clock = testing(t, app);
  assert.equal(await (await parent.submit()).result(), 14);
  assert.deepEqual(clock.submitted.map(({ name }) => name), ['parent', 'child', 'child', 'child', 'child']);
});

test('the order is priority, then time, then submit', async (t) => {
  const app = new App();
  const order = [];
  const work = app.task('work', (name) => order.push(name));
  const clock = testing(t, app);
  for (const [name, priority, delay] of [
    ['c', 'normal', 0],
    ['d', 'normal', 0],
    ['b', 'high', 0],
    ['f', 'normal', 2],
    ['e', 'critical', 2],
    ['a', 'critical', 0],
  ]) {
    await work.submit(name, { priority, delay });
  }
  await clock.advance(2);
  assert.equal(order.join(''), 'abcdef');
});

test('what was submitted', async (t) => {
  const app = new App();
  const send = app.task('send', { retries: 2, tags: ['mail'] }, ({ to }) => `to ${to}`);
  const clock = testing(t, app, { start: START });
  assert.deepEqual(clock.submitted, []);
  const handle = await send.submit({ to: 'Ada', at: START }, { delay: '1m', uniqueKey: 'ada', priority: 'high' });
  await send.submit({ to: 'Bob' });
  const [first, second] = clock.submitted;
  assert.deepEqual([first.name, first.input], ['send', { to: 'Ada', at: START.toISOString() }]);
  const { delay, eta, tags, retries, uniqueKey, priority, queue, timeout } = first.options;
  assert.deepEqual([delay, tags, retries, uniqueKey, priority, queue, timeout], [60_000, ['mail'], 2, 'ada', 'high', 'default', undefined]);
  assert.deepEqual(eta, new Date(START.getTime() + 60_000));
  assert.equal(first.handle.id, handle.id);
  assert.deepEqual([first.handle.state, second.handle.state], ['pending', 'queued']);
  assert.equal(second.options.delay, undefined);
  await clock.advance('1m');
  await clock.end();
  assert.deepEqual(clock.submitted.map(({ handle }) => handle.state), ['succeeded', 'succeeded']);
  assert.equal(await clock.submitted[0].handle.result(), 'to Ada');
});

test('inline: a submit runs the task before it resolves', async (t) => {
  const app = new App();
  const child = app.task('child', async (n) => n + 1);
  const work = app.task('work', async (n, ctx) => await (await ctx.submit(child, n)).result());
  const clock = testing(t, app, { inline: true });
  const handle = await work.submit(1);
  assert.equal(handle.state, 'succeeded');
  assert.deepEqual((await work.submitMany([1, 2])).map(({ state }) => state), ['succeeded', 'succeeded']);
  assert.equal((await app.submit('work', 3)).state, 'succeeded');
  const later = await work.submit(1, { delay: '1h' });
  assert.equal(later.state, 'pending');
  await clock.advance('1h');
  assert.equal(later.state, 'succeeded');
});

test('failures', async (t) => {
  const app = new App();
  const fail = app.task('fail', { timeout: '1s' }, async (how) => {
    if (how === 'throws') throw new RangeError('no');
    if (how === 'takes too long') await new Promise((resolve) => setTimeout(resolve, HOUR));
  });
  const clock = testing(t, app);
  await fail.submitMany(['throws', 'takes too long', 'does well']);
  await clock.advance('1s');
  assert.deepEqual(clock.failures.map(({ input, handle }) => [input, handle.state]), [
    ['throws', 'failed'],
    ['takes too long', 'timed_out'],
  ]);
});

test('the clock is set, forwards and back', async (t) => {
  const app = new App();
  const work = app.task('work', () => {});
  const clock = testing(t, app, { start: START });
  const handle = await work.submit(null, { delay: '1h' });
  await clock.setTime(new Date(START.getTime() - HOUR));
  assert.deepEqual(clock.now, new Date(START.getTime() - HOUR));
  await clock.setTime(START);
  assert.equal(handle.state, 'pending');
  await clock.setTime(new Date(START.getTime() + HOUR));
  assert.equal(handle.state, 'succeeded');
});

test('hooks, listeners and middleware', async (t) => {
  const told = [];
  const app = new App();
  const options = { onSuccess: (handle) => told.push(`hook ${handle.name}`) };
  app.middleware(async (ctx, next) => (await next()) * 2);
  const work = app.task('work', options, (n) => n);
  const clock = testing(t, app);
  const handle = await work.submit(2);
  handle.onDone(({ state }) => told.push(`done ${state}`));
  await clock.drain();
  assert.deepEqual(told.sort(), ['done succeeded', 'hook work']);
  assert.equal(await handle.result(), 4);
});

test('cancel, and run by hand', async (t) => {
  const app = new App();
  const work = app.task('work', () => 'ran');
  const clock = testing(t, app);
  const [one, two] = await work.submitMany([1, 2], { delay: '1h' });
  await app.runNow(one.id);
  assert.equal(await one.result(), 'ran');
  assert.equal(await two.cancel({ reason: 'no' }), true);
  await clock.drain();
  assert.equal((await thrown(() => two.result())).name, 'TaskCancelled');
  assert.equal((await app.stats()).tasks.cancelled, 1);
});

test('a rate under the virtual clock', async (t) => {
  const app = new App();
  const work = app.task('work', { rate: '10/s' }, (n) => n);
  const clock = testing(t, app);
  const handles = await work.submitMany(Array.from({ length: 400 }, (_, n) => n));
  await clock.advance('30s');
  assert.equal(handles.filter((handle) => handle.done()).length, 301, 'one at once, and ten a second');
  await clock.advance('1m');
  assert.ok(handles.every((handle) => handle.done()));
});

test('RetryAfter with a key, to the second', async (t) => {
  const app = new App();
  let isBusy = true;
  const call = app.task('call', { key: 'api' }, (n) => {
    if (isBusy) throw new RetryAfter('30s', { key: 'api' });
    return n;
  });
  const clock = testing(t, app);
  const handles = await call.submitMany([1, 2, 3]);
  await clock.drain();
  assert.deepEqual(handles.map(({ state }) => state), ['pending', 'pending', 'pending']);
  isBusy = false;
  await clock.advance('29s');
  assert.ok(!handles.some((handle) => handle.done()));
  await clock.advance('1s');
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), [1, 2, 3]);
  for (const handle of handles) assert.deepEqual((await handle.info()).failures, 0);
});

test('a file is not touched, and the app is as before', async (t) => {
  const path = file(t);
  const app = new App({ store: `sqlite:${path}` });
  const work = app.task('work', (n) => n);
  for (let time = 0; time < 2; time++) {
    const clock = app.testing();
    const handle = await work.submit({ time });
    assert.deepEqual(await handle.result(), { time });
    const left = await work.submit(null, { delay: '1h' });
    await clock.end();
    assert.equal((await thrown(() => left.result())).name, 'ShutDown');
    assert.ok(!existsSync(path));
  }
  await app.start();
  assert.equal(await (await work.submit(7)).result(), 7);
  assert.deepEqual((await app.list()).length, 1);
  assert.ok(existsSync(path));
  await app.stop();
});

test('starting and stopping inside runs what there is', async (t) => {
  const app = new App();
  const work = app.task('work', () => 'ran');
  testing(t, app);
  await app.start();
  const handle = await work.submit();
  await app.stop();
  assert.equal(handle.state, 'succeeded');
  assert.equal(await (await work.submit()).result(), 'ran', 'it is in testing mode until the end of that');
});

test('a handler that is registered in the block', async (t) => {
  const app = new App();
  testing(t, app);
  const work = app.task('work', async () => 'ran');
  assert.equal(await (await work.submit()).result(), 'ran');
});

test('full stores make room', async (t) => {
  const app = new App({ capacity: 2, onFull: 'wait' });
  const work = app.task('work', () => {});
  testing(t, app);
  const handles = [];
  for (let n = 0; n < 5; n++) handles.push(await work.submit());
  assert.deepEqual(handles.slice(0, 3).map(({ state }) => state), ['succeeded', 'succeeded', 'succeeded']);
  const waits = await Promise.all([1, 2].map(() => work.submit(null, { delay: '1h' })));
  assert.equal(waits.length, 2);
  assert.equal((await thrown(() => work.submit())).name, 'QueueFull', 'time alone makes room');
});

test('a result that would never come is told at once', async (t) => {
  const app = new App();
  const work = app.task('work', () => {});
  testing(t, app);
  const handle = await work.submit(null, { delay: '1h' });
  const error = await thrown(() => handle.result());
  assert.ok(error instanceof Misuse);
  assert.equal(error.code, 'TL1601');
  assert.match(error.message, /would never end: it is pending, and the clock stands still/);
  assert.ok((await thrown(() => handle.result({ timeout: '1h' }))) instanceof WaitTimeout);
  const ended = new AbortController();
  ended.abort(new Error('enough'));
  assert.match((await thrown(() => handle.result({ signal: ended.signal }))).message, /enough/);
});

test('a task without an end is told', async (t) => {
  const app = new App();
  const again = app.task('again', async () => void (await again.submit()));
  const clock = testing(t, app);
  const { constructor } = clock;
  const most = constructor._most;
  constructor._most = 500;
  t.after(() => {
    constructor._most = most;
  });
  await again.submit();
  const error = await thrown(() => clock.drain());
  assert.equal(error.code, 'TL1601');
  assert.match(error.message, /went round 500 times/);
});

test('misuse', async (t) => {
  const app = new App();
  const work = app.task('work', () => {});
  await app.start();
  const refused = await thrown(() => app.testing());
  assert.ok(refused instanceof Misuse);
  assert.equal(refused.code, 'TL1604');
  await app.stop();
  const clock = app.testing();
  assert.equal((await thrown(() => app.testing({ timers: false }))).code, 'TL1604', 'one in the other');
  assert.equal((await thrown(() => new App().testing())).code, 'TL1604', 'two clocks for one event loop');
  await clock.end();
  await clock.end();
  for (const call of [() => clock.advance(1), () => clock.drain(), () => clock.setTime(START)]) {
    assert.equal((await thrown(call)).code, 'TL1603');
  }
  assert.equal((await thrown(() => work.submit())).name, 'ShutDown', 'as it was before: stopped');
});

test('two apps, of which one has the timers', async (t) => {
  const [one, two] = [new App(), new App()];
  const sleep = async () => void (await new Promise((resolve) => setTimeout(resolve, HOUR)));
  const [first, second] = [one.task('first', sleep), two.task('second', () => 'ran')];
  const clock = testing(t, one);
  testing(t, two, { timers: false });
  const handle = await first.submit();
  assert.equal(await (await second.submit()).result(), 'ran');
  await clock.advance('1h');
  assert.equal(handle.state, 'succeeded');
});

for (const [what, call, message] of [
  ['a span', (t) => t.advance('soon'), /the span to advance is "soon"; it must be a duration/],
  ['a negative one', (t) => t.advance(-1), /it must be a duration of at least 0/],
  ['a sum below zero', (t) => t.advance({ hours: 1, days: -1 }), /time goes forward.*setTime/s],
  ['a unit', (t) => t.advance({ dayz: 1 }), /no unit of time dayz.*did you mean days/s],
  ['a count', (t) => t.advance({ days: '1' }), /days is "1"; it must be a number/],
  ['a span without an end', (t) => t.advance(Infinity), /the span to advance is Infinity; it must be a duration that ends/],
  ['more than there is', (t) => t.advance(Number.MAX_VALUE), /past the last time that a Date can tell/],
  ['parts that are more', (t) => t.advance({ weeks: 1e300 }), /past the last time that a Date can tell/],
  ['a Date', (t) => t.advance(new Date()), /the span to advance is a Date; it must be a duration, or its parts.*t\.setTime/s],
  ['a list', (t) => t.advance([]), /the span to advance is \[\]; it must be a duration/],
  ['a time', (t) => t.setTime('2026-01-01'), /a time is "2026-01-01"; it must be a Date/],
  ['an invalid Date', (t) => t.setTime(new Date(NaN)), /a time is an invalid Date/],
]) {
  test(`refused: ${what}`, async (t) => {
    const clock = testing(t, new App(), { start: START });
    const error = await thrown(() => call(clock));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
    assert.deepEqual(clock.now, START);
  });
}

test('refused: options of testing', async () => {
  for (const options of [{ start: '2026-01-01' }, { seed: -1 }, { seed: 'x' }, { inline: 1 }, { timers: 'virtual' }, { inlin: true }, 7]) {
    assert.ok((await thrown(() => new App().testing(options))) instanceof InvalidOptions, JSON.stringify(options));
  }
});

test('a handler that waits for something real is waited for by its handle', async (t) => {
  const app = new App();
  const path = fileURLToPath(import.meta.url);
  const read = app.task('read', { timeout: '1m' }, () => new Promise((resolve, reject) => {
    readFile(path, 'utf8', (error, text) => (error ? reject(error) : resolve(text.length)));
  }));
  const parent = app.task('parent', async (_, ctx) => await (await ctx.submit(read)).result());
  testing(t, app);
  assert.ok((await (await read.submit()).result()) > 1_000);
  assert.ok((await (await parent.submit()).result()) > 1_000);
});

test('what still runs at the end is called off', async () => {
  const app = new App();
  const told = [];
  const work = app.task('work', (_, ctx) => new Promise((resolve) => {
    ctx.signal.addEventListener('abort', () => resolve(told.push(ctx.signal.reason.name)));
  }));
  const clock = app.testing();
  const handle = await work.submit();
  await clock.drain();
  assert.equal(handle.state, 'running');
  await clock.end();
  assert.deepEqual(told, ['TaskCancelled']);
  assert.equal((await thrown(() => handle.result())).name, 'ShutDown');
});
