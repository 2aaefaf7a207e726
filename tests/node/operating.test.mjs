// Finding tasks, and operating an app.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, InvalidOptions, RetryAfter } from 'taskloom';

import { STORES, file, gate, script, started, thrown } from './helpers.mjs';

for (const [kind, url] of STORES) {
  test(`list by state, tag, queue, name, page by page: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const [a, b] = ['a', 'b'].map((name) => app.task(name, () => name));
    const handles = [...(await a.submitMany([1, 2, 3], { tags: ['x'], queue: 'q' })), await b.submit(4)];
    const ids = async (filter) => (await app.list(filter)).map((handle) => handle.id);
    assert.deepEqual(await ids(), handles.map((handle) => handle.id));
    assert.deepEqual(await ids({ tag: 'x' }), handles.slice(0, 3).map((handle) => handle.id));
    assert.deepEqual(await ids({ queue: 'q', limit: 1 }), [handles[0].id]);
    assert.deepEqual(await ids({ name: 'b' }), [handles[3].id]);
    assert.deepEqual(await ids({ state: 'queued', after: handles[2].id }), [handles[3].id]);
    assert.deepEqual(await ids({ state: 'failed' }), []);
    const [info] = await app.listInfo({ tag: 'x', limit: 1 });
    assert.equal(info.queue, 'q');
    assert.ok(info.created instanceof Date);
  });

  test(`cancel by id, tag and queue: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const job = app.task('job', () => 1);
    const one = await job.submit();
    await job.submitMany([1, 2], { tags: ['img'] });
    await job.submitMany([1, 2, 3], { queue: 'q' });
    assert.equal(await app.cancel({ id: one.id, reason: 'no' }), 1);
    assert.equal(await app.cancel({ id: one.id }), 0);
    assert.equal(await app.cancel({ tag: 'img' }), 2);
    assert.equal(await app.cancel({ queue: 'q' }), 3);
    assert.equal((await one.info()).reason, 'no');
    await assert.rejects(app.cancel({}), InvalidOptions);
    await assert.rejects(app.cancel({ id: one.id, tag: 'x' }), InvalidOptions);
    assert.match((await thrown(() => app.cancel({ tgа: 'x' }))).message, /no filter/);
  });

  test(`pause, resume, purge: ${kind}`, async (t) => {
    const ran = [];
    const [app, job] = await started(t, { store: url(t) }, (app) => app.task('job', (n) => ran.push(n)));
    assert.equal(await app.pause('q'), true);
    assert.equal(await app.pause('q'), false);
    const waits = await job.submit(1, { queue: 'q' });
    await (await job.submit(2)).result();
    assert.deepEqual(ran, [2]);
    assert.equal((await app.stats()).queues.q.paused, true);
    assert.equal(await app.purge('q'), 1);
    assert.equal((await thrown(() => waits.result())).name, 'TaskCancelled');
    const next = await job.submit(3, { queue: 'q' });
    assert.equal(await app.resume('q'), true);
    await next.result();
    assert.deepEqual(ran, [2, 3]);
  });

  test(`stats, health, handlers, sweep: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const job = app.task('job', { retries: 2, queue: 'q', version: '1.2.0' }, () => 1);
    assert.equal((await app.health()).ready, false);
    await app.start();
    assert.deepEqual(await app.health(), { ok: true, ready: true, problems: [], warnings: [], unserved: [] });
    const handles = await job.submitMany([1, 2, 3]);
    await Promise.all(handles.map((handle) => handle.result()));
    const stats = await app.stats();
    assert.equal(stats.tasks.succeeded, 3);
    assert.equal(stats.queues.q.tasks.succeeded, 3);
    assert.equal(stats.handlers.job.started, 3);
    assert.ok(stats.total.run.p50 >= 0);
    const [handler] = await app.handlers();
    assert.deepEqual({ ...handler, registered: null }, {
      name: 'job',
      version: '1.2.0',
      kind: 'async',
      queue: 'q',
      retries: 2,
      registered: null,
    });
    assert.equal(await app.sweep({ olderThan: '1h' }), 0);
    assert.equal(await app.sweep({ olderThan: 0 }), 3);
    assert.deepEqual(await app.list(), []);
    assert.equal(await handles[0].result(), 1, 'a held handle keeps its outcome');
    assert.equal((await thrown(() => handles[0].info())).code, 'TL1602');
  });

  test(`run a task by hand, whatever it waits for: ${kind}`, async (t) => {
    const [app, job] = await started(t, { store: url(t) }, (app) => app.task('job', () => 'ran'));
    const handle = await job.submit(null, { delay: '1h' });
    assert.equal(handle.state, 'pending');
    await app.runNow(handle.id);
    assert.equal(await handle.result(), 'ran');
  });

  test(`priorities are strict, and queues are served in their order: ${kind}`, async (t) => {
    const order = [];
    const app = new App({ store: url(t), maxInFlight: 1, queues: ['first', 'default'] });
    t.after(() => app.stop({ timeout: 0 }));
    const job = app.task('job', (name) => order.push(name));
    const handles = [];
    for (const priority of ['low', 'normal', 'critical', 'high']) handles.push(await job.submit(priority, { priority }));
    handles.push(await job.submit('first', { queue: 'first' }));
    await app.start();
    await Promise.all(handles.map((handle) => handle.result()));
    assert.deepEqual(order, ['first', 'critical', 'high', 'normal', 'low']);
  });
}

test('stop finishes what is eligible in memory; what is left hears ShutDown', async (t) => {
  const running = gate();
  const app = new App({ maxInFlight: 1 });
  const job = app.task('job', (n) => n);
  const stuck = app.task('stuck', (_, ctx) => {
    running.open();
    return new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve('aborted')));
  });
  await app.start();
  const handles = await job.submitMany([1, 2, 3]);
  await app.stop();
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), [1, 2, 3]);
  await app.start();
  const held = await stuck.submit();
  await running.promise;
  await app.stop({ timeout: 0 });
  assert.equal((await thrown(() => held.result())).name, 'ShutDown');
});

for (const [what, options, message] of [
  ['a setting', { maxInFlihgt: 3 }, /no setting maxInFlihgt/],
  ['its near miss', { maxInFlihgt: 3 }, /did you mean maxInFlight/],
  ['a value', { maxInFlight: 0 }, /maxInFlight is 0; it must be a whole number from 1/],
  ['onFull', { onFull: 'drop' }, /onFull is "drop"; it must be "raise" or "wait"/],
  ['a store', { store: 'sqllite:x' }, /did you mean "sqlite:x"/],
  ['no store at all', { store: 7 }, /store is 7; it must be a text/],
  ['a setting of later', { lease: 3 }, /lease is not available in this version/],
  ['workers', { workers: 3 }, /maxInFlight/],
  ['queues', { queues: [] }, /queues names no queue/],
  ['retention', { retention: '3 fortnights' }, /retention is "3 fortnights"; it must be a duration/],
  ['retention without an end', { retention: Infinity }, /retention is Infinity; it must be a duration that ends/],
  ['NaN', { maxInFlight: Number(undefined) }, /maxInFlight is NaN; it must be a whole number/],
  ['an infinite capacity', { capacity: Infinity }, /capacity is Infinity; it must be a whole number/],
  ['a weight that is none', { queues: { mail: NaN } }, /queues\.mail is NaN; it must be a whole number/],
  ['queues as a Map', { queues: new Map([['mail', 1]]) }, /queues is a Map; it must be an array of queues.*Object\.fromEntries/],
  ['a BigInt', { maxInFlight: 5n }, /maxInFlight is 5n; it must be a whole number/],
  ['a function', { capacity: () => 5 }, /capacity is a function|capacity is the function capacity/],
]) {
  test(`refused at the app: ${what}`, async () => {
    const error = await thrown(async () => {
      const app = new App(options);
      await app.start();
      await app.stop();
    });
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
  });
}

for (const [what, options, message] of [
  ['an option', { prioritty: 'high' }, /no option prioritty.*did you mean priority/s],
  ['a priority', { priority: 'hihg' }, /priority "hihg" is not known/],
  ['a duration', { delay: 'soon' }, /delay is "soon"; it must be a duration/],
  ['a negative one', { timeout: -1 }, /timeout is -1; it must be a duration of at least 0/],
  ['NaN', { delay: NaN }, /delay is NaN/],
  ['a delay without an end', { delay: Infinity }, /delay is Infinity; it must be a duration that ends.*leave it out/s],
  ['one that has none in words', { delay: `${'9'.repeat(400)}d` }, /it must be a duration that ends/],
  ['uniqueFor without an end', { uniqueKey: 'a', uniqueFor: Infinity }, /uniqueFor is Infinity/],
  ['a deadline that never comes', { deadline: Infinity }, /deadline is Infinity/],
  ['an infinite wait', { retry: { base: Infinity } }, /retry\.base is Infinity/],
  ['no timeout at all', { timeout: 0 }, /timeout is 0: every attempt would time out at once/],
  ['a naive time', { eta: '2030-01-01T00:00:00' }, /eta is "2030-01-01T00:00:00"; it must be a time with its offset/],
  ['an invalid Date', { eta: new Date(NaN) }, /eta is an invalid Date/],
  ['retries', { retries: 1.5 }, /retries is 1.5; it must be a whole number/],
  ['a retry policy', { retry: { base: 1, factro: 2 } }, /no option of retry factro.*did you mean factor/s],
  ['retry as a number', { retry: 3 }, /how often it is tried again is retries/],
  ['tags as a text', { tags: 'img' }, /tags is "img"; it must be an array of texts.*write tags: \["img"\]/s],
  ['metadata', { metadata: { a: 1 } }, /metadata\.a is 1; it must be a text/],
  ['an id', { id: 'x' }, /id "x" is not a UUID/],
  ['onConflict', { uniqueKey: 'a', onConflict: 'x' }, /onConflict is "x"; it must be "return"/],
  ['an empty key', { uniqueKey: '' }, /uniqueKey "" is empty/],
  ['detached', { detached: true }, /detached is for children/],
  ['an option of later', { requires: ['gpu'] }, /requires is not available in this version/],
  ['a rate', { key: 'a', rate: 'fast' }, /rate/],
  ['concurrency', { key: 'a', concurrency: 0 }, /concurrency is 0; it must be a whole number from 1/],
  ['metadata as a Map', { metadata: new Map([['tenant', 'acme']]) }, /metadata is a Map; it must be an object of texts.*Object\.fromEntries/s],
  ['metadata of another kind', { metadata: new URLSearchParams('tenant=acme') }, /metadata is a URLSearchParams; it must be an object of texts/],
  ['half a character in a tag', { tags: ['a', 'b\ud83d'] }, /tags\[1\] is "b\\ud83d", which has half a character in it.*toWellFormed/s],
  ['half a character in a key', { uniqueKey: 'b\ud83d' }, /uniqueKey is "b\\ud83d", which has half/],
  ['half a character in metadata', { metadata: { trace_id: '\ude00' } }, /metadata\.trace_id is "\\ude00", which has half/],
  ['half a character in the name of a fact', { metadata: { 'b\ud83d': 'x' } }, /a name in metadata is "b\\ud83d", which has half/],
  ['options that are none', 'high', /the options of a submit are "high"; they must be an object/],
]) {
  test(`refused at submit: ${what}`, async () => {
    const app = new App();
    const job = app.task('job', () => 1);
    const error = await thrown(() => job.submit(null, options));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
    assert.deepEqual(await app.list(), []);
  });
}

for (const [what, register, message] of [
  ['no function', (app) => app.task('job', 7), /the handler of "job" is 7; it must be a function/],
  ['nothing', (app) => app.task('job'), /the handler of "job" is undefined; it must be a function/],
  ['options that are none', (app) => app.task('job', null, () => 1), /the options of "job" are null; they must be an object/],
  ['a name that is none', (app) => app.task(undefined, () => 1), /a handler's name is undefined; it must be a text/],
  ['options without a function', (app) => app.task('job', {}), /the handler of "job" is undefined/],
  ['a generator function', (app) => app.task('job', function* () {}), /the handler of "job" is a generator function/],
  ['an async generator function', (app) => app.task('job', {}, async function* () {}), /the handler of "job" is a generator function/],
  ['a generator function of a schedule', (app) => app.every('1h', { name: 'job' }, function* () {}), /is a generator function/],
  ['no name', (app) => app.task(7, () => 1), /a handler's name is 7/],
  ['an empty name', (app) => app.task('', () => 1), /handler "" is empty/],
  ['an unknown option', (app) => app.task('job', { retires: 3 }, () => 1), /did you mean retries/],
  ['a schema that is none', (app) => app.task('job', { schema: {} }, () => 1), /it must be a Standard Schema/],
  ['a hook that is none', (app) => app.task('job', { onRetry: 1 }, () => 1), /onRetry is 1; it must be a function/],
  ['an option of later', (app) => app.task('job', { executor: 'process' }, () => 1), /executor is not available in this version/],
]) {
  test(`refused at the registration: ${what}`, () => {
    const app = new App();
    assert.throws(
      () => register(app),
      (error) => error instanceof InvalidOptions && message.test(`${error.message} ${error.hint}`),
    );
  });
}

for (const [what, ask, message] of [
  ['sweep', (app) => app.sweep({ olderThan: Infinity }), /olderThan is Infinity/],
  ['stop', (app) => app.stop({ timeout: Infinity }), /timeout is Infinity/],
  ['limit', (app) => app.limit('job', { concurrency: Infinity }), /concurrency is Infinity/],
  ['events', (app) => app.events('task.*', { capacity: NaN }).next(), /capacity is NaN/],
]) {
  test(`a number without an end is refused, and nothing is done: ${what}`, async (t) => {
    const [app, job] = await started(t, {}, (app) => app.task('job', () => 1));
    const handle = await job.submit();
    await handle.result();
    const error = await thrown(() => ask(app));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(error.message, message);
    assert.equal(await app.sweep({ olderThan: 1e300 }), 0);
    assert.ok(await app.get(handle.id));
    assert.equal(await (await job.submit()).result(), 1);
  });
}

for (const [what, call, message] of [
  ['stop', (app) => app.stop({ timout: 50 }), /no option of stop timout.*did you mean timeout/],
  ['stop after a number', (app) => app.stop(50), /the options of stop are 50; they must be an object.*stop\(\{ timeout: '30s' \}\)/],
  ['on', (app) => app.on('task.*', () => {}, { capcity: 5 }), /no option of on capcity.*did you mean capacity/],
  ['on with no capacity', (app) => app.on('task.*', () => {}, { capacity: 0 }), /capacity is 0; it must be a whole number of at least 1/],
  ['events', (app) => app.events('task.*', { capacity: 'x' }).next(), /capacity is "x"; it must be a whole number of at least 1/],
  ['events by another name', (app) => app.events('task.*', { size: 5 }).next(), /no option of events size/],
  ['cancel', (app, handle) => handle.cancel({ resaon: 'no' }), /no option of cancel resaon.*did you mean reason/],
  ['cancel for a text', (app, handle) => handle.cancel('not needed'), /the options of cancel are "not needed"; they must be an object/],
  ['cancel of what has ended', (app, handle, ended) => ended.cancel({ resaon: 'no' }), /no option of cancel resaon/],
]) {
  test(`options that are not known are refused: ${what}`, async (t) => {
    const [app, job] = await started(t, {}, (app) => app.task('job', () => 1));
    const [ended, handle] = [await job.submit(), await job.submit(null, { delay: '1h' })];
    await ended.result();
    const error = await thrown(() => call(app, handle, ended));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
    assert.equal(handle.state, 'pending');
    assert.equal(await (await job.submit()).result(), 1, 'it still runs');
  });
}

const HALF = 'a\ud83d';
for (const [what, ask] of [
  ['submit by name', (app) => app.submit(HALF)],
  ['the name of a handler', (app) => app.task(HALF, () => 1)],
  ['the key of a handler', (app) => app.task('keyed', { key: HALF }, () => 1)],
  ['a key made of an input', (app) => app.task('keyed', { key: () => HALF }, () => 1).submit()],
  ['keys made of inputs', (app) => app.task('keyed', { key: () => HALF }, () => 1).submitMany([1])],
  ['list', (app) => app.list({ tag: HALF })],
  ['get', (app) => app.get(HALF)],
  ['pause', (app) => app.pause(HALF)],
  ['limit', (app) => app.limit({ key: HALF, concurrency: 1 })],
  ['cron', (app) => app.cron('* * * * *', { name: HALF }, () => 1)],
  ['trigger', (app) => app.schedules.trigger(HALF)],
  ['a setting', () => new App({ name: HALF })],
  ['RetryAfter', () => new RetryAfter(1, { key: HALF })],
]) {
  test(`a name with half a character in it is refused: ${what}`, async () => {
    const error = await thrown(() => ask(new App()));
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(error.message, /is "a\\ud83d", which has half a character in it/);
  });
}

test('the hint for an unknown option offers what the submit may have', async (t) => {
  const app = new App();
  t.after(() => app.stop());
  const job = app.task('job', () => 1);
  const parent = app.task('parent', async (_, ctx) => (await thrown(() => ctx.submit(job, null, { zzzzzzzz: 1 }))).hint);
  await app.start();
  const { hint } = await thrown(() => job.submit(null, { zzzzzzzz: 1 }));
  assert.match(hint, /\buniqueKey\b.*\btx\b/);
  assert.doesNotMatch(hint, /\bdetached\b/);
  const ofChildren = await (await parent.submit()).result();
  assert.match(ofChildren, /\bdetached\b/);
  assert.doesNotMatch(ofChildren, /\buniqueKey\b|\btx\b|\bid\b/);
});

test('a handler of another process is known by its name', async (t) => {
  const store = `sqlite:${file(t)}`;
  const here = new App({ store });
  t.after(() => here.stop({ timeout: 0 }));
  here.task('resize', () => {});
  const unknown = await thrown(() => here.submit('resise', 7));
  assert.deepEqual([unknown.name, unknown.hint.includes('resize')], ['UnknownHandler', true]);
  const handle = await here.submit('elsewhere', { n: 20 }, { allowUnknown: true, priority: 'high' });
  assert.equal((await handle.info()).state, 'queued');
  await here.start();
  const { warnings, unserved } = await here.health();
  assert.deepEqual(unserved.map(({ name, count }) => [name, count]), [['elsewhere', 1]]);
  assert.ok(unserved[0].since instanceof Date);
  assert.equal(warnings.length, 1);
  const source = `
    import { App } from 'taskloom';
    const app = new App({ store: ${JSON.stringify(store)} });
    app.task('elsewhere', ({ n }) => n + 1);
    await app.start();
  `;
  // It ends by itself when there is nothing left that it has a handler for.
  const [result] = await Promise.all([handle.result(), script(source)]);
  assert.equal(result, 21);
  const again = await here.submit('elsewhere', { n: 1 });
  assert.equal((await again.info()).state, 'queued', 'it was registered there once');
  await again.cancel();
});

test('what may be unknown is said of a name only', async (t) => {
  const [app, job] = await started(t, {}, (app) => app.task('job', (n) => n));
  assert.equal(await (await app.submit('job', 7, { allowUnknown: true })).result(), 7);
  assert.equal((await thrown(() => app.submit('jab', 7, { allowUnknown: true }))).name, 'UnknownHandler', 'nobody else sees it');
  assert.match((await thrown(() => app.submit('job', 7, { allowUnknown: 1 }))).message, /allowUnknown is 1; it must be true or false/);
  assert.match((await thrown(() => job.submit(7, { allowUnknown: true }))).message, /no option allowUnknown/);
});

test('a namespace goes before the name', async (t) => {
  const [app, resize] = await started(t, {}, (app) => app.task('resize', { namespace: 'img' }, (n) => n));
  assert.equal(resize.taskName, 'img/resize');
  assert.equal(await (await app.submit('img/resize', 7)).result(), 7);
  assert.deepEqual((await app.handlers()).map(({ name }) => name), ['img/resize']);
  assert.throws(() => app.task('resize', { namespace: 7 }, () => {}), /namespace is 7; it must be a text/);
});
