// What is refused, and in which words: the option as it was written, the value, and what to do.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, PermanentError, RetryAfter, TaskloomError, WaitTimeout, events, nextFirings, outboxSchema } from 'taskloom';
import { failures, withTesting } from 'taskloom/testing';

import { gate, started, thrown } from './helpers.mjs';

/** Values that fit nowhere, or nearly so. */
const WRONG = [null, -1, 1.5, NaN, Infinity, 1e308, 'nonsense', '', {}, [], () => 1, Symbol('s'), 7n, true, new Date(NaN), new Map([[1, 2]]), ['a', 5], { a: 5 }];

/** Calls with a value in each place: whatever comes of it, it is nothing, or an error of ours. */
async function sweep(calls) {
  for (const call of calls) {
    for (const wrong of WRONG) {
      let error;
      try {
        await call(wrong);
        continue;
      } catch (thrown) {
        error = thrown;
      }
      const what = `${call} with ${String(typeof wrong)} ${typeof wrong === 'object' ? JSON.stringify(wrong) : String(wrong)}: ${error}`;
      assert.ok(error instanceof TaskloomError, what);
      assert.doesNotMatch(error.message, /mapping|a value of type|rust|cannot read|\[object|NaN; it must be a finite/i, what);
    }
  }
}

test('no call of an app answers a wrong value with an error of its inside', async (t) => {
  const [app, job] = await started(t, {}, (app) => app.task('job', () => 1));
  const ended = await job.submit();
  await ended.result();
  const later = () => job.submit(1, { delay: '1h' });
  const settings = ['store', 'maxInFlight', 'queues', 'capacity', 'onFull', 'durability', 'retention', 'requireMetadata', 'name', 'threads', 'keepAlive', 'asyncContext'];
  const options = ['id', 'delay', 'eta', 'key', 'version', 'uniqueKey', 'uniqueFor', 'onConflict', 'correlationId', 'traceparent', 'tx', 'queue', 'priority', 'expires', 'timeout', 'deadline', 'retries', 'retry', 'maxCrashes', 'tags', 'concurrency', 'rate', 'metadata', 'detached'];
  const ofTask = ['namespace', 'replace', 'schema', 'onSuccess', 'thread', 'module', 'export'];
  let names = 0;
  const name = () => `t${(names += 1)}`;
  await sweep([
    (w) => new App(w),
    ...settings.map((option) => (w) => new App({ [option]: w })),
    (w) => app.task(w, () => 1),
    (w) => app.task(name(), w),
    (w) => app.task(name(), w, () => 1),
    ...[...options, ...ofTask].map((option) => (w) => app.task(name(), { [option]: w }, () => 1)),
    (w) => job.submit(1, w),
    (w) => job.submitMany(w),
    (w) => job.submitMany([1], w),
    (w) => app.submit(w),
    (w) => app.submit('job', 1, w),
    (w) => app.submit('job', 1, { allowUnknown: w }),
    ...options.map((option) => (w) => job.submit(1, { [option]: w, delay: option === 'delay' ? w : option === 'eta' ? undefined : '1h' })),
    (w) => ended.result(w),
    async (w) => (await later()).result({ timeout: w, signal: AbortSignal.timeout(1) }).catch((error) => { if (error.name !== 'TimeoutError') throw error; }),
    (w) => ended.result({ timeout: w }),
    (w) => ended.result({ signal: w }),
    (w) => ended.onDone(w),
    async (w) => (await later()).cancel(w),
    async (w) => (await later()).cancel({ reason: w }),
    ...['get', 'list', 'listInfo', 'cancel', 'replay', 'discard', 'limit', 'runNow', 'pause', 'resume', 'purge', 'sweep', 'publish'].map((call) => (w) => app[call](w)),
    ...['state', 'queue', 'tag', 'name', 'unfinished', 'limit', 'after'].map((filter) => (w) => app.list({ [filter]: w })),
    (w) => app.limit('job', w),
    (w) => app.sweep({ olderThan: w }),
    (w) => app.middleware(w),
    (w) => app.on(w, () => {}),
    (w) => app.on('task.*', w)(),
    (w) => app.on('task.*', () => {}, w)(),
    (w) => app.events('task.*', w).return(),
    (w) => app.jsonLogs({ write() {} }, w)(),
    (w) => app.jsonLogs(w)(),
    (w) => events.info(w),
    (w) => outboxSchema(w),
    (w) => app.outbox(typeof w === 'function' ? 5 : w),
    (w) => new PermanentError('x', w),
    (w) => new RetryAfter(w),
    (w) => new RetryAfter(1, { key: w }),
    (w) => app.stop(typeof w === 'object' && JSON.stringify(w) === '{}' && !(w instanceof Map) ? 5 : w),
    (w) => app.stop({ timeout: typeof w === 'number' && w > 0 ? 'soon' : w }),
  ]);
});

test('nor does one of schedules', async () => {
  const app = new App();
  app.cron('@daily', { name: 'nightly' }, () => 1);
  let names = 0;
  const name = () => `s${(names += 1)}`;
  const options = ['name', 'tz', 'overlap', 'catchUp', 'jitter', 'start', 'end', 'queue', 'timeout', 'expires'];
  await sweep([
    (w) => app.cron(w, { name: name() }, () => 1),
    (w) => app.every(w, { name: name() }, () => 1),
    (w) => app.at(w, { name: name() }, () => 1),
    (w) => app.cron('@daily', w, () => 1),
    (w) => app.cron('@daily', { name: name() }, w),
    ...options.map((option) => (w) => app.cron('@daily', { name: name(), [option]: w }, () => 1)),
    ...['get', 'enable', 'disable', 'trigger', 'remove', 'next'].map((call) => (w) => app.schedules[call](w)),
    (w) => app.schedules.update('nightly', w),
    ...['cron', 'every', 'at', ...options].map((option) => (w) => app.schedules.update('nightly', { [option]: w })),
    (w) => app.schedules.next('nightly', w),
    (w) => app.schedules.next('nightly', { count: w }),
    (w) => nextFirings(w),
    (w) => nextFirings('@daily', w),
    ...['tz', 'start', 'count'].map((option) => (w) => nextFirings('@daily', { [option]: w })),
  ]);
});

test('nor does one of a context, or of testing mode', async (t) => {
  const has = gate();
  const may = gate();
  const [app, job] = await started(t, {}, (app) => app.task('job', async (_, ctx) => {
    has.open(ctx);
    await may.promise;
  }));
  const handle = await job.submit();
  const ctx = await has.promise;
  await sweep([
    (w) => ctx.progress(w),
    (w) => ctx.progress(0.5, w),
    (w) => ctx.log.info(w),
    (w) => ctx.publish(w),
    (w) => ctx.submit(w),
    (w) => ctx.submit('none', 1, w),
  ]);
  may.open();
  await handle.result();
  await app.stop();
  const testing = new App().testing();
  t.after(() => testing.end());
  await sweep([
    (w) => new App().testing(w).end(),
    ...['inline', 'start', 'seed', 'timers'].map((option) => (w) => new App().testing({ [option]: w }).end()),
    (w) => testing.advance(w),
    (w) => testing.setTime(w),
    (w) => failures(w),
    (w) => withTesting(typeof w === 'function' ? 5 : w, () => 1)(),
    (w) => withTesting(new App(), w)(),
    (w) => withTesting(new App(), w, () => 1)(),
  ]);
});

const later = new Date(Date.now() + 3_600_000);

for (const [what, call, message] of [
  ['a time of a schedule, given as a span', (app) => app.at('5m', { name: 'x' }, () => 1), /^at is "5m".*new Date\(Date\.now\(\) \+/],
  ['the start of a schedule, given as a span', (app) => app.every('1h', { name: 'x', start: '5m' }, () => 1), /^start is "5m".*new Date\(Date\.now\(\)/],
  ['a change of that', (app) => app.schedules.update('x', { end: '5m' }), /^end is "5m".*new Date\(Date\.now\(\)/],
  ['the eta of a submit, given as a span', (app, job) => job.submit(1, { eta: '5m' }), /^eta is "5m".*there is delay/],
  ['an eta of a schedule', (app) => app.every('1h', { name: 'x', eta: later }, () => 1), /no option eta of a schedule.*start says/],
  ['a unique key of a schedule', (app) => app.every('1h', { name: 'x', uniqueKey: 'a' }, () => 1), /no option uniqueKey of a schedule/],
  ['a schedule without options', (app) => app.cron('@daily', () => 1), /the options of app\.cron are a function; they must be an object.*\{ name: 'nightly' \}/],
  ['a schedule whose options are a text', (app) => app.every('1h', 'nightly', () => 1), /the options of app\.every are "nightly"; they must be an object/],
  ['no interval', (app) => app.every(undefined, { name: 'x' }, () => 1), /app\.every was given undefined; it must be an interval/],
  ['no time', (app) => app.at(null, { name: 'x' }, () => 1), /app\.at was given null; it must be a time/],
  ['catchUp', (app) => app.every('1h', { name: 'x', catchUp: -1 }, () => 1), /^catchUp is -1.*from 1 to 1000/],
  ['catchUp in a word', (app) => app.every('1h', { name: 'x', catchUp: 'some' }, () => 1), /^catchUp is "some"/],
  ['another name for a schedule', (app) => app.schedules.update('x', { name: 'y' }), /keeps its name, and was given "y"/],
  ['the changes of a schedule', (app) => app.schedules.update('x', 5), /the changes of a schedule are 5/],
  ['the start of nextFirings', () => nextFirings('@daily', { start: new Date(NaN) }), /start is an invalid Date; it must be a Date/],
  ['options of nextFirings', () => nextFirings('@daily', null), /the options of nextFirings are null/],
  ['an expiry before a delay', (app, job) => job.submit(1, { delay: '1h', expires: '1m' }), /^expires \(60 s from now\) is not after delay \(3600 s from now\)/],
  ['a deadline before an eta', (app, job) => job.submit(1, { eta: later, deadline: new Date(+later - 1) }), /^deadline \(.*\) is not after eta \(/],
  ['a deadline before a delay', (app, job) => job.submit(1, { delay: '1d', deadline: later }), /^deadline \(.*\) is not after delay \(/],
  ['a span without a number that counts it', (app, job) => job.submit(1, { timeout: 1e308 }), /^timeout is 1e\+308; it must be a duration of less than 1e\+22 milliseconds/],
  ['expires as a text', (app, job) => job.submit(1, { expires: '2030-01-01T00:00:00Z' }), /^expires is "2030-01-01T00:00:00Z"; it must be a duration, or a Date/],
  ['options of a submit that are a Date', (app, job) => job.submit(1, later), /the options of a submit are a Date/],
  ['options of a submit by name', (app) => app.submit('job', 1, 'high'), /the options of a submit are "high"/],
  ['all dead letters by mistake, replayed', (app) => app.replay([]), /app\.replay was given \[\]; it takes an object/],
  ['all dead letters by mistake, discarded', (app) => app.discard(new Map()), /app\.discard was given a Map/],
  ['what is missing', (app) => app.discard({ queue: undefined }), /app\.discard was given no queue \(undefined\).*without an argument/],
  ['a handle for an id', async (app, job) => app.get(await job.submit(1)), /an id is a TaskHandle; it must be a text.*handle\.id/],
  ['an id alone', (app) => app.cancel('7'), /app\.cancel was given "7"; it takes an object.*as in \{ id: "7" \}/],
  ['a number for sweep', (app) => app.sweep(5), /the options of sweep are 5; they must be an object.*olderThan/],
  ['an event without a name', (app) => app.publish(5), /the name of an event is 5/],
  ['a message of progress', (app, job, ctx) => ctx.progress(0.5, 5), /the message of progress is 5/],
  ['an event of a handler', (app, job, ctx) => ctx.publish(5), /the name of an event is 5/],
  ['a listener', (app) => app.on('task.*', 5), /a subscriber is 5; it must be a function/],
  ['a dialect', () => outboxSchema(5), /no outbox for databases of the kind 5.*sqlite, postgresql/],
  ['the options of an app', () => new App([]), /an app is made with options, not with \[\]/],
  ['queues', () => new App({ queues: { mail: 'x' } }), /queues\.mail is "x"; it must be a whole number/],
  ['a name that is taken', (app) => app.task('job', () => 2), /named "job" exists.*give one of the two another name, or replace it with replace: true/],
]) {
  test(`what is said of ${what}`, async (t) => {
    const has = gate();
    const may = gate();
    const [app, job] = await started(t, {}, (app) => {
      app.task('told', async (_, ctx) => {
        has.open(ctx);
        await may.promise;
      });
      return app.task('job', () => 1);
    });
    t.after(() => may.open());
    await app.submit('told');
    const error = await thrown(async () => call(app, job, await has.promise));
    assert.ok(error instanceof TaskloomError, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
  });
}

test('a schedule that was refused leaves its name free', async (t) => {
  const [app] = await started(t);
  for (const wrong of ['61 * * * *', 'nonsense']) assert.throws(() => app.cron(wrong, { name: 'nightly' }, () => 1), { code: 'TL1008' });
  app.cron('@daily', { name: 'nightly' }, () => 'done');
  assert.equal(await (await app.schedules.trigger('nightly')).result(), 'done');
  assert.throws(() => app.task('nightly', () => 1), { code: 'TL1003' });
});

test('a mistake in the options of a wait is told whether or not the task has ended', async (t) => {
  const [, job] = await started(t, {}, (app) => app.task('job', () => 1));
  const handle = await job.submit();
  assert.equal(await handle.result({ timeout: '1s' }), 1);
  assert.equal(await handle.result({ signal: AbortSignal.abort() }), 1);
  await assert.rejects(handle.result({ timeout: 'soon' }), /timeout is "soon"/);
  const late = await job.submit(1, { delay: '1h' });
  await assert.rejects(late.result({ timeout: 1 }), WaitTimeout);
});
