// Several threads of a process, each with an environment of its own.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

import { App } from 'taskloom';

import { STORES, file, gate, script, started, thrown } from './helpers.mjs';

/** A thread that runs a module: `hear` gives what it posts, in order. */
function thread(t, source, workerData) {
  // Beside the tests, so that it finds the package.
  const folder = mkdtempSync(fileURLToPath(new URL('./.thread-', import.meta.url)));
  const path = join(folder, 'thread.mjs');
  writeFileSync(path, `${HEAD}\n${source}`);
  const worker = new Worker(path, { workerData });
  const waiting = [];
  const readers = [];
  worker.on('message', (message) => {
    const reader = readers.shift();
    if (reader === undefined) waiting.push(message);
    else reader.open(message);
  });
  worker.on('error', (error) => readers.splice(0).forEach((reader) => reader.fail(error)));
  t.after(async () => {
    await worker.terminate();
    rmSync(folder, { recursive: true, force: true });
  });
  const hear = () => {
    if (waiting.length > 0) return Promise.resolve(waiting.shift());
    const reader = gate();
    readers.push(reader);
    return reader.promise;
  };
  const ended = new Promise((resolve) => worker.on('exit', resolve));
  return { worker, hear, ended };
}

const HEAD =
  "import { App } from 'taskloom'; import { parentPort, threadId, workerData } from 'node:worker_threads';";

const SHARED = [
  ['memory', () => `memory:${Math.random()}`],
  ['sqlite', (t) => `sqlite:${file(t)}`],
];

for (const [kind, url] of SHARED) {
  test(`each thread serves the handlers that it registered: ${kind}`, async (t) => {
    const store = url(t);
    const [app, here] = await started(t, { store }, (app) => app.task('here', () => 'main'));
    const { hear } = thread(t, `
      const app = new App({ store: workerData, keepAlive: true });
      app.task('there', () => threadId);
      await app.start();
      parentPort.postMessage(threadId);
      const handle = await app.submit('here');
      parentPort.postMessage(await handle.result());
    `, store);
    const id = await hear();
    assert.equal(await (await app.submit('there')).result(), id);
    assert.equal(await hear(), 'main');
    assert.equal(await (await here.submit()).result(), 'main');
  });

  test(`a handler that several threads have runs in all of them: ${kind}`, async (t) => {
    const store = url(t);
    const source = `
      const app = new App({ store: workerData, keepAlive: true });
      app.task('both', () => new Promise((resolve) => setImmediate(resolve, threadId)));
      await app.start();
      parentPort.postMessage('ready');
    `;
    const threads = [thread(t, source, store), thread(t, source, store)];
    for (const { hear } of threads) assert.equal(await hear(), 'ready');
    const app = new App({ store });
    t.after(() => app.stop({ timeout: 0 }));
    const handles = await Promise.all(Array.from({ length: 100 }, () => app.submit('both')));
    const ids = new Set(await Promise.all(handles.map((handle) => handle.result())));
    assert.deepEqual([...ids].sort(), threads.map(({ worker }) => worker.threadId).sort());
  });

  test(`what a terminated thread ran is given to another, at no cost: ${kind}`, async (t) => {
    const store = url(t);
    const { worker, hear, ended } = thread(t, `
      const app = new App({ store: workerData, keepAlive: true });
      app.task('job', () => { parentPort.postMessage('running'); return new Promise(() => {}); });
      await app.start();
      parentPort.postMessage('ready');
    `, store);
    assert.equal(await hear(), 'ready');
    const attempts = [];
    const app = new App({ store });
    t.after(() => app.stop({ timeout: 0 }));
    const handle = await app.submit('job');
    assert.equal(await hear(), 'running');
    app.task('job', (_, ctx) => attempts.push([ctx.task.attempt, ctx.task.failures]));
    await app.start();
    await worker.terminate();
    await ended;
    await handle.result();
    assert.deepEqual(attempts, [[2, 0]]);
  });
}

test('settings of one store must agree', async (t) => {
  const store = 'memory:agreed';
  const app = new App({ store, maxInFlight: 3 });
  const error = await thrown(async () => new App({ store, maxInFlight: 4 }));
  assert.equal(error.name, 'InvalidOptions');
  assert.match(error.message, /other settings/);
  assert.equal(new App({ store, maxInFlight: 3 }).store, app.store);
});

test('the engine goes on while one app of a store is started', async (t) => {
  const store = 'memory:going on';
  const [one] = await started(t, { store }, (app) => app.task('a', () => 'a'));
  const [two, b] = await started(t, { store }, (app) => app.task('b', () => 'b'));
  await one.stop();
  assert.equal(await (await b.submit()).result(), 'b');
  await two.stop();
  assert.equal((await thrown(() => b.submit())).name, 'ShutDown');
});

test("a private memory is nobody else's", async (t) => {
  const [one] = await started(t, {}, (app) => app.task('a', () => 'a'));
  const [two] = await started(t, {}, (app) => app.task('b', () => 'b'));
  await (await one.submit('a')).result();
  assert.deepEqual(await two.list(), []);
});

for (const [[kind, url], first] of STORES.flatMap((store) => ['main thread', 'thread that ends'].map((first) => [store, first]))) {
  test(`a thread that ends in the midst of its work leaves the process whole: ${kind}, loaded by a ${first}`, async (t) => {
    const { stdout } = await script(`
      import { Worker } from 'node:worker_threads';
      ${first === 'main thread' ? "import 'taskloom';" : ''}
      const source = \`
        const { App } = require('taskloom');
        const { parentPort } = require('node:worker_threads');
        const app = new App({ store: process.env.STORE });
        const job = app.task('job', async () => { await null; return 1; });
        app.start().then(async () => {
          parentPort.postMessage('ready');
          for (;;) await Promise.all(Array.from({ length: 100 }, () => job.submit()));
        });
      \`;
      for (let round = 0; round < 5; round++) {
        const worker = new Worker(source, { eval: true, execArgv: [] });
        await new Promise((resolve) => worker.once('message', resolve));
        await new Promise((resolve) => setImmediate(resolve));
        await worker.terminate();
      }
      console.log('whole');
    `, { env: { STORE: url(t) } });
    assert.equal(stdout, 'whole\n');
  });
}
