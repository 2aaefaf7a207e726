// Handlers that compute, in the threads that the package owns.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { App, TaskCancelled, TaskFailed, TaskTimedOut } from 'taskloom';

import { STORES, file, script, started, thrown } from './helpers.mjs';
import { schema } from './modules/with-schema.mjs';

const module = new URL('./modules/compute.mjs', import.meta.url);
const IN_THREAD = { thread: true, module };

/** A started app with these of the module's handlers. */
function pool(t, threads, names, options = {}, store = 'memory:') {
  const register = (app) => names.map((name) => app.task(name, { ...IN_THREAD, export: name, ...options }));
  return started(t, { store, threads }, register);
}

/** Waits for the first event of a task; what it ran before must be asked first. */
async function first(app, name, submit) {
  const events = app.events(name);
  const next = events.next();
  const handle = await submit();
  await next;
  await events.return();
  return handle;
}

for (const [kind, url] of STORES) {
  test(`they run in threads, as many at once as there are: ${kind}`, async (t) => {
    const [app, [meet, where]] = await pool(t, 2, ['meet', 'where'], {}, url(t));
    const [one, other] = [file(t), file(t)];
    const handles = await meet.submitMany([[one, other], [other, one]]);
    const ids = await Promise.all(handles.map((handle) => handle.result()));
    assert.notEqual(ids[0], ids[1]);
    const many = await where.submitMany(Array(20).fill(null));
    for (const found of await Promise.all(many.map((handle) => handle.result()))) {
      assert.equal(found.isMainThread, false);
      assert.ok(ids.includes(found.threadId));
    }
    assert.equal((await where()).isMainThread, true);
    assert.equal((await app.stats()).inFlight, 0);
  });

  test(`a timeout ends the thread, whatever it does: ${kind}`, async (t) => {
    const [, [spin]] = await pool(t, 1, ['spin'], { timeout: '300ms' }, url(t));
    const error = await thrown(async () => (await spin.submit()).result());
    assert.ok(error instanceof TaskTimedOut, String(error));
    // There is one thread, so its place was taken by another.
    assert.equal(await (await spin.submit({ attempts: 0 }, { timeout: '1m' })).result(), 1);
  });

  test(`so does a cancellation: ${kind}`, async (t) => {
    const [app, [spin]] = await pool(t, 1, ['spin'], {}, url(t));
    const handle = await first(app, 'task.progress', () => spin.submit());
    assert.equal(handle.state, 'running');
    assert.equal(await handle.cancel({ reason: 'enough' }), true);
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskCancelled && error.reason === 'enough', String(error));
    assert.equal(await (await spin.submit({ attempts: 0 })).result(), 1);
  });

  test(`a thread that dies is a lost worker: ${kind}`, async (t) => {
    const [app, [die]] = await pool(t, 1, ['die'], {}, url(t));
    const events = app.events('task.lost');
    const next = events.next();
    const handle = await die.submit({ how: 'exit', attempts: 1 });
    assert.equal(await handle.result(), 2);
    const { value } = await next;
    assert.deepEqual([value.taskId, value.data.crashes], [handle.id, 1]);
    await events.return();
    const info = await handle.info();
    assert.deepEqual([info.crashes, info.failures], [1, 0]);
  });

  test(`what a handler tells, saves and submits arrives: ${kind}`, async (t) => {
    const [app, [tell]] = await pool(t, 1, ['tell'], { retries: 1 }, url(t));
    app.task('here', (input) => [input, 'from the main thread']);
    const told = new Promise((resolve) => app.on('tell.done', resolve));
    const handle = await tell.submit('hello', { tags: ['a'] });
    const result = await handle.result();
    assert.deepEqual(result, { child: ['hello', 'from the main thread'], page: 1, id: handle.id, tags: ['a'], aborted: false });
    const info = await handle.info();
    assert.deepEqual([info.attempt, info.resultMetadata, info.progress.message], [2, { thread: true }, 'a quarter']);
    assert.deepEqual(info.log.map(({ message }) => message), ['attempt 1', 'attempt 2']);
    assert.deepEqual((await told).data, { page: 1 });
  });
}

for (const [kind, url] of STORES) {
  test(`a handler that waits for its children lends its place: ${kind}`, async (t) => {
    const [, [tree]] = await pool(t, 1, ['tree'], {}, url(t));
    assert.equal(await (await tree.submit(2)).result(), 4);
  });
}

test('each thread runs one task at a time, also one that awaits', async (t) => {
  const [, [alone]] = await pool(t, 1, ['alone']);
  const handles = await alone.submitMany(Array(10).fill(null));
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), Array(10).fill(1));
});

test('a timeout is tried again, in another thread', async (t) => {
  const [, [spin]] = await pool(t, 1, ['spin'], { timeout: '1s', retries: 1, retry: { base: 1 } });
  // The second attempt has a thread to start, too; it may take longer than that on a slow machine.
  const handle = await spin.submit({ attempts: 1 }, { retries: 50 });
  assert.ok((await handle.result()) >= 2);
  assert.ok((await handle.info()).failures >= 1);
});

test('three deaths are enough', async (t) => {
  const [, [die, where]] = await pool(t, 1, ['die', 'where']);
  for (const [how, message] of [
    ['exit', /died 3 times while it ran this task; the last one called process\.exit\(3\)/],
    ['throw', /the last one was ended by an error that nobody caught: RangeError: outside of everything/],
  ]) {
    const handle = await die.submit({ how });
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskFailed, String(error));
    assert.equal(error.type, 'HandlerLost');
    assert.match(error.message, message);
  }
  assert.equal((await (await where.submit()).result()).isMainThread, false);
});

test('a thread that needs more memory than it may have dies', async (t) => {
  const [, [die, where]] = await pool(t, { size: 1, maxMemory: 32 }, ['die', 'where'], { maxCrashes: 1 });
  const error = await thrown(async () => (await die.submit({ how: 'memory' })).result());
  assert.equal(error.type, 'HandlerLost');
  assert.match(error.message, /ran out of memory \(maxMemory is 32 MB\)/);
  assert.equal((await (await where.submit()).result()).isMainThread, false);
});

test('threads that die before they can serve are no endless loop', async (t) => {
  const [, [where]] = await pool(t, { size: 1, maxMemory: 1 }, ['where']);
  const error = await thrown(async () => (await where.submit()).result());
  assert.equal(error.type, 'HandlerLost');
  assert.match(error.message, /died 3 times while it ran this task; the last one ran out of memory \(maxMemory is 1 MB\)/);
});

test('after so many tasks another thread takes the place of one', async (t) => {
  const [, [where]] = await pool(t, { size: 1, maxTasksPerThread: 2 }, ['where']);
  const ids = [];
  for (let turn = 0; turn < 5; turn += 1) ids.push((await (await where.submit()).result()).threadId);
  assert.equal(new Set(ids).size, 3);
  assert.deepEqual([ids[0], ids[2]], [ids[1], ids[3]]);
});

test('errors cross as everywhere', async (t) => {
  const [, [far, never]] = await pool(t, 1, ['far', 'never'], { retries: 2, retry: { base: 1 } });
  const error = await thrown(async () => (await far.submit()).result());
  assert.deepEqual([error.name, error.type, error.errors.length], ['TaskFailed', 'RangeError', 3]);
  assert.match(error.traceback, /compute\.mjs/);
  const permanent = await thrown(async () => (await never.submit()).result());
  assert.deepEqual([permanent.type, permanent.errors.length], ['PermanentError', 1]);
});

test('modules of both kinds, and their paths', async (t) => {
  const common = fileURLToPath(new URL('./modules/common.cjs', import.meta.url));
  const [app, tasks] = await started(t, { threads: 1 }, (app) => [
    app.task('default', { thread: true, module }),
    app.task('path', { thread: true, module: common }),
    app.task('named', { thread: true, module: common, export: 'named' }),
    app.task('text', { thread: true, module: module.href }),
  ]);
  const results = await Promise.all(tasks.map(async (task) => (await task.submit(5)).result()));
  assert.deepEqual(results, [10, 6, 7, 10]);
  assert.equal(await (await app.submit('default', 4)).result(), 8);
});

test('a schema is asked at the submit, and in the thread makes the input', async (t) => {
  const place = { thread: true, module: new URL('./modules/with-schema.mjs', import.meta.url) };
  const [, [task]] = await started(t, { threads: 1 }, (app) => [app.task('product', { ...place, schema })]);
  const handle = await task.submit({ n: 4, at: '2030-01-01T00:00:00Z' });
  assert.deepEqual(await handle.result(), { product: 8, isDate: true });
  assert.deepEqual(await task({ n: 4 }), { product: 8, isDate: false });
  assert.equal((await thrown(() => task.submit({ n: 'x' }))).name, 'InvalidPayload');
});

test('what cannot be loaded says so, once', async (t) => {
  const app = new App({ threads: 1 });
  const other = { thread: true, module: new URL('./modules/broken.mjs', import.meta.url) };
  const tasks = [
    [app.task('broken', other), /module of "broken" does not load: file:.*broken\.mjs: TypeError: it never loads/],
    [app.task('missing', { ...IN_THREAD, export: 'duoble' }), /no function "duoble": .* exports .*default/],
    [app.task('seven', { ...IN_THREAD, export: 'notAFunction' }), /no function "notAFunction"/],
    [app.task('unschemed', { ...IN_THREAD, schema }), /has a schema, and its module has not/],
  ];
  await app.start();
  t.after(() => app.stop({ timeout: 0 }));
  for (const [task, message] of tasks) {
    const error = await thrown(async () => (await task.submit({ n: 1 }, { retries: 3 })).result());
    assert.deepEqual([error.type, error.errors.length], ['PermanentError', 1]);
    assert.match(error.message, message);
  }
});

test('bad options', async () => {
  const app = new App();
  const refused = [
    [() => app.task('a', { thread: true }), /there is no module/],
    [() => app.task('a', { thread: true, module }, () => 1), /a function cannot go there/],
    [() => app.task('a', { thread: true, module: './a.mjs' }), /no absolute path/],
    [() => app.task('a', { thread: true, module: 7 }), /must be a URL/],
    [() => app.task('a', { thread: true, module: new URL('./modules/none.mjs', import.meta.url) }), /is not there/],
    [() => app.task('a', { module }, () => 1), /does not run in a thread/],
    [() => app.task('a', { thread: 'yes', module }), /true or false/],
    [() => app.task('a', { ...IN_THREAD, retry: { on: RangeError } }), /looks at errors/],
    [() => app.task('a', { thread: true, module, export: 7 }), /export is 7/],
    [() => new App({ threads: 0 }), /threads\.size is 0/],
    [() => new App({ threads: 'many' }), /threads is "many"/],
    [() => new App({ threads: { max: 4 } }), /no option of threads max/],
    [() => new App({ threads: { maxMemory: 1.5 } }), /threads\.maxMemory is 1\.5/],
  ];
  for (const [make, message] of refused) {
    const error = await thrown(make);
    assert.equal(error.name, 'InvalidOptions', String(error));
    assert.match(error.message, message);
  }
});

test('an app that was stopped ends its threads, and can start again', async (t) => {
  const [app, [where]] = await pool(t, 1, ['where']);
  const before = await (await where.submit()).result();
  await app.stop();
  await app.start();
  const after = await (await where.submit()).result();
  assert.notEqual(before.threadId, after.threadId);
});

test('an app that stops in the midst of it gives back what runs', async (t) => {
  const store = `sqlite:${file(t)}`;
  const app = new App({ store, threads: 1 });
  const spin = app.task('spin', { ...IN_THREAD, export: 'spin' });
  await app.start();
  const handle = await first(app, 'task.progress', () => spin.submit({ attempts: 1 }));
  await app.stop({ timeout: 0 });
  await app.start();
  const again = await app.get(handle.id);
  assert.equal(await again.result(), 2);
  assert.deepEqual((({ failures, crashes }) => [failures, crashes])(await again.info()), [0, 0]);
  await app.stop();
});

test('in testing mode they run here, on the clock of the test', async () => {
  const app = new App({ threads: 1 });
  const where = app.task('where', { ...IN_THREAD, export: 'where' });
  const t = app.testing();
  try {
    const handle = await where.submit(null, { delay: '3 days' });
    await t.advance('3 days');
    assert.equal((await handle.result()).isMainThread, true);
  } finally {
    await t.end();
  }
  await app.start();
  assert.equal((await (await where.submit()).result()).isMainThread, false);
  await app.stop();
});

const START = `
  import { App } from 'taskloom';
  const app = new App({ threads: 2 });
  const module = new URL(process.env.MODULE);
  const task = (name) => app.task(name, { thread: true, module, export: name });
`;
const ENV = { env: { MODULE: module.href } };

test('the process stays for tasks in threads, and not for idle threads', async () => {
  const { stdout } = await script(`${START}
    const where = task('where');
    await app.start();
    const handle = await where.submit();
    handle.onDone(() => console.log('done'));
  `, ENV);
  assert.equal(stdout, 'done\n');
});

test('process.exit with a thread at work ends at once', async () => {
  const { stdout } = await script(`${START}
    const spin = task('spin');
    app.on('task.progress', () => process.exit(7));
    await app.start();
    console.log('starts');
    await (await spin.submit()).result();
  `, { ...ENV, code: 7 });
  assert.equal(stdout, 'starts\n');
});

test('an app that nobody holds is collected, with its threads', async () => {
  const { stdout } = await script(`${START}
    import { setImmediate as turn } from 'node:timers/promises';
    async function use() {
      const app = new App({ threads: 1 });
      const where = app.task('where', { thread: true, module, export: 'where' });
      await app.start();
      await (await where.submit()).result();
      await app.stop();
      return new WeakRef(app);
    }
    const weak = await use();
    for (let round = 0; round < 500 && weak.deref() !== undefined; round++) {
      await turn();
      globalThis.gc();
    }
    console.log(weak.deref());
  `, { ...ENV, args: ['--expose-gc'] });
  assert.equal(stdout, 'undefined\n');
});

test('a handle shows how its task has ended, though its store has forgotten that before this thread heard of it', async (t) => {
  const [, [double]] = await pool(t, 1, ['default']);
  // The thread is there from now on: to start one is for this thread to do, which does not listen.
  await (await double.submit(0)).result();
  // More than an app keeps.
  const handles = await double.submitMany(Array.from({ length: 14_000 }, (_, n) => n));
  for (let looks = 0; handles.at(-1).state !== 'succeeded'; looks += 1) assert.ok(looks < 2e7, 'they never end');
  const states = new Set(handles.map((handle) => handle.state));
  // The one before the last may be about to end.
  states.delete('running');
  assert.deepEqual(states, new Set(['succeeded']));
  assert.equal(await handles[0].result(), 0);
});
