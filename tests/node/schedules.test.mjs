// Schedules.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, InvalidOptions, Misuse, nextFirings } from 'taskloom';

import { STORES, gate, started, thrown } from './helpers.mjs';

for (const [kind, url] of STORES) {
  test(`an interval and a single time submit tasks: ${kind}`, async (t) => {
    const ticks = gate();
    const once = gate();
    let count = 0;
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    app.every(10, { name: 'tick', input: { a: 1 } }, (input) => {
      assert.deepEqual(input, { a: 1 });
      if (++count === 3) ticks.open();
    });
    app.at(new Date(Date.now() + 20), { name: 'once', queue: 'q' }, (_, ctx) => once.open(ctx.task.queue));
    await app.start();
    await ticks.promise;
    assert.equal(await once.promise, 'q');
    assert.ok((await app.schedules.get('tick')).runs >= 3);
  });

  test(`schedules are listed, changed, disabled, triggered, removed: ${kind}`, async (t) => {
    const [app, job] = await started(t, { store: url(t) }, (app) => app.task('job', (n) => n * 2));
    assert.equal(app.cron('0 3 * * *', { name: 'nightly', tz: 'Europe/Rome', input: 21, overlap: 'queue', catchUp: 3 }, job), job);
    const schedule = await app.schedules.get('nightly');
    assert.deepEqual([schedule.cron, schedule.tz, schedule.task, schedule.input], ['0 3 * * *', 'Europe/Rome', 'job', 21]);
    assert.deepEqual([schedule.overlap, schedule.catchUp, schedule.enabled], ['queue', 3, true]);
    assert.ok(schedule.next > new Date());
    assert.equal(await (await app.schedules.trigger('nightly')).result(), 42);
    const times = await app.schedules.next('nightly', { count: 2 });
    assert.equal(times[1] - times[0] > 22 * 3_600_000, true);
    const changed = await app.schedules.update('nightly', { every: '1h', input: 1, jitter: '2s' });
    assert.deepEqual([changed.every, changed.cron, changed.input, changed.jitter], [3_600_000, undefined, 1, 2_000]);
    assert.equal(await app.schedules.disable('nightly'), true);
    assert.equal(await app.schedules.disable('nightly'), false);
    assert.equal(await app.schedules.enable('nightly'), true);
    assert.deepEqual((await app.schedules.list()).map(({ name }) => name), ['nightly']);
    await app.schedules.remove('nightly');
    assert.equal(await app.schedules.get('nightly'), undefined);
    const error = await thrown(() => app.schedules.trigger('nightly'));
    assert.ok(error instanceof Misuse, String(error));
  });
}

test('the next times of an expression, over the change of the clocks', () => {
  const start = new Date('2026-03-28T00:00:00Z');
  assert.deepEqual(
    nextFirings('30 2 * * *', { tz: 'Europe/Rome', start, count: 3 }).map((time) => time.toISOString()),
    ['2026-03-28T01:30:00.000Z', '2026-03-29T01:00:00.000Z', '2026-03-30T00:30:00.000Z'],
  );
});

test('a name stands for one schedule', async () => {
  const app = new App();
  const work = app.task('work', () => 1);
  const other = app.task('other', () => 1);
  app.every('1h', { name: 'often', input: 1 }, work);
  for (const [second, words] of [
    [() => app.every('1h', { name: 'often', input: 1 }, other), /for "other"/],
    [() => app.every('2h', { name: 'often', input: 1 }, work), /7200/],
    [() => app.cron('@daily', { name: 'often', input: 1 }, work), /@daily/],
    [() => app.every('1h', { name: 'often', input: 2 }, work), /the input 2/],
    [() => app.every('1h', { name: 'often', input: 1, overlap: 'queue' }, work), /queue/],
    [() => app.every('1h', { name: 'often', input: 1 }, () => 1), /for "often"/],
  ]) {
    assert.throws(second, (error) => error instanceof InvalidOptions && error.code === 'TL1008' && words.test(error.message));
  }
  app.every('1h', { input: 1, name: 'often' }, work); // the same again
  await app.schedules.remove('often');
  app.every('1h', { name: 'often' }, other);
  assert.deepEqual((await app.schedules.list()).map(({ name, task }) => [name, task]), [['often', 'other']]);
});

for (const [what, make, message] of [
  ['an expression', (app) => app.cron('0 24 * * *', { name: 'x' }, () => 1), /wrong in its hour/],
  ['a zone', (app) => app.cron('@daily', { name: 'x', tz: 'Europe/Rom' }, () => 1), /did you mean "Europe\/Rome"/],
  ['an interval', (app) => app.every('soon', { name: 'x' }, () => 1), /every is "soon"; it must be a duration/],
  ['a time', (app) => app.at('tomorrow', { name: 'x' }, () => 1), /at is "tomorrow"; it must be a time/],
  ['overlap', (app) => app.every('1m', { name: 'x', overlap: 'wait' }, () => 1), /overlap is "wait"; it must be "skip"/],
  ['catchUp', (app) => app.every('1m', { name: 'x', catchUp: true }, () => 1), /catchUp is true/],
  ['an option', (app) => app.every('1m', { name: 'x', overlapp: 'skip' }, () => 1), /did you mean overlap/],
  ['an option of one task', (app) => app.every('1m', { name: 'x', delay: 5 }, () => 1), /no option delay/],
  ['no name', (app) => app.every('1m', {}, () => 1), /give it one/],
  ['no function', (app) => app.every('1m', { name: 'x' }, 7), /it must be a task, or a function/],
  ['an interval without an end', (app) => app.every(Infinity, { name: 'x' }, () => 1), /every is Infinity; it must be a duration that ends/],
  ['an interval for cron', (app) => app.cron('@daily', { name: 'x', every: '1s' }, () => 1), /app\.cron takes a cron expression, and was given every: "1s".*there is app\.every/],
  ['an expression for every', (app) => app.every('1h', { name: 'x', cron: '@daily' }, () => 1), /app\.every takes an interval, and was given cron/],
  ['a time for every', (app) => app.every('1h', { name: 'x', at: new Date() }, () => 1), /was given at/],
  ['a second expression', (app) => app.cron('@daily', { name: 'x', cron: '@hourly' }, () => 1), /and was given cron: "@hourly".*leave that out/],
  ['a second time', (app) => app.at('2038-01-19T03:14:08Z', { name: 'x', at: '2039-01-19T03:14:08Z' }, () => 1), /was given at/],
  ['an input', (app) => app.every('1m', { name: 'x', input: NaN }, () => 1), /input is NaN/],
]) {
  test(`refused: ${what}`, () => {
    const app = new App();
    assert.throws(
      () => make(app),
      (error) => (error instanceof InvalidOptions || error.name === 'InvalidPayload') && message.test(`${error.message} ${error.hint}`),
    );
  });
}
