// Apps of one process that share a store, and come and go.
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { App } from 'taskloom';

import { file, script, started, thrown } from './helpers.mjs';

const module = new URL('./modules/compute.mjs', import.meta.url);

const SHARED = [
  ['memory', () => `memory:${Math.random()}`],
  ['sqlite', (t) => `sqlite:${file(t)}`],
];

for (const [kind, url] of SHARED) {
  test(`tasks wait while no thread has their handler: ${kind}`, async (t) => {
    const { stdout } = await script(`
      import { once } from 'node:events';
      import { setImmediate as turn } from 'node:timers/promises';
      import { Worker } from 'node:worker_threads';
      import { App } from 'taskloom';
      const store = process.env.STORE;
      const source = \`
        const { App } = require('taskloom');
        const { parentPort, workerData } = require('node:worker_threads');
        const app = new App({ store: workerData.store, keepAlive: true });
        app.task('job', (n) => {
          parentPort.postMessage('running');
          return workerData.hangs ? new Promise(() => {}) : n * 2;
        });
        app.start().then(() => parentPort.postMessage('ready'));
      \`;
      const thread = async (hangs) => {
        const worker = new Worker(source, { eval: true, execArgv: [], workerData: { store, hangs } });
        await once(worker, 'message');
        return worker;
      };
      const app = new App({ store });
      const here = app.task('here', () => 'here');
      await app.start();
      const first = await thread(true);
      const running = once(first, 'message');
      const handles = [await app.submit('job', 0)];
      await running;
      await first.terminate();
      for (const n of [1, 2, 3]) handles.push(await app.submit('job', n));
      handles.push(await app.submit('job', 4, { delay: 1 }));
      const unserved = async () => (await app.health()).unserved.map(({ name, count }) => [name, count]);
      while ((await unserved())[0]?.[1] !== 5) await turn();
      console.log(JSON.stringify([await unserved(), await (await here.submit()).result()]));
      const second = await thread(false);
      console.log(JSON.stringify(await Promise.all(handles.map((handle) => handle.result()))));
      const infos = await Promise.all(handles.map((handle) => handle.info()));
      console.log(JSON.stringify([infos.map((info) => info.failures + info.crashes), await unserved()]));
      await second.terminate();
      await app.stop();
    `, { env: { STORE: url(t) } });
    assert.deepEqual(stdout.trim().split('\n').map((line) => JSON.parse(line)), [
      [[['job', 5]], 'here'],
      [0, 2, 4, 6, 8],
      [[0, 0, 0, 0, 0], []],
    ]);
  });

  test(`tasks that compute wait while no app has threads for them: ${kind}`, async (t) => {
    const store = url(t);
    const [b, here] = await started(t, { store, threads: 1 }, (app) => app.task('here', () => 'here'));
    const a = new App({ store, threads: 1 });
    const where = a.task('where', { thread: true, module, export: 'where' });
    t.after(() => a.stop({ timeout: 0 }));
    await a.start();
    assert.equal((await (await where.submit()).result()).isMainThread, false);
    await a.stop();
    const handle = await b.submit('where');
    assert.equal(await (await here.submit()).result(), 'here');
    assert.equal(handle.state, 'queued');
    await a.start();
    assert.equal((await handle.result()).isMainThread, false);
  });

  test(`an app that was stopped takes nothing, until it starts again: ${kind}`, async (t) => {
    const store = url(t);
    const [a, ofA] = await started(t, { store }, (app) => app.task('job', () => 'a'));
    const [b, ofB] = await started(t, { store }, (app) => app.task('job', () => 'b'));
    const never = new App({ store });
    never.task('job', () => 'an app that was never started');
    const ran = async (task) => {
      const handles = await Promise.all(Array.from({ length: 20 }, () => task.submit()));
      return [...new Set(await Promise.all(handles.map((handle) => handle.result())))].sort();
    };
    // Those that are started share them as they like.
    assert.ok((await ran(ofB)).every((said) => said.length === 1));
    await a.stop();
    assert.deepEqual(await ran(ofB), ['b']);
    await a.start();
    await b.stop();
    assert.deepEqual(await ran(ofA), ['a']);
  });

  test(`an app on a store that another one has stopped is as any: ${kind}`, async (t) => {
    const store = url(t);
    const [a, ofA] = await started(t, { store }, (app) => app.task('job', () => 'a'));
    const handle = await ofA.submit();
    await handle.result();
    await a.stop();
    const b = new App({ store });
    t.after(() => b.stop({ timeout: 0 }));
    const ofB = b.task('other', () => 'b');
    assert.equal((await b.get(handle.id))?.state, kind === 'memory' ? undefined : 'succeeded');
    assert.equal((await b.list()).length, kind === 'memory' ? 0 : 1);
    const waiting = await ofB.submit();
    assert.equal((await b.stats()).tasks.queued, 1);
    assert.equal((await thrown(() => ofA.submit())).name, 'ShutDown', 'the one that was stopped takes in nothing');
    await b.start();
    assert.equal(await waiting.result(), 'b');
    await a.start();
    assert.equal(await (await b.submit('job')).result(), 'a');
  });
}

test('a file is one store, however it is spelled', async (t) => {
  const path = file(t);
  const folder = dirname(path);
  mkdirSync(join(folder, 'deep'));
  const spellings = [path, `${folder}/./tasks.db`, `${folder}/deep/../tasks.db`];
  if (process.platform !== 'win32') {
    symlinkSync(path, join(folder, 'link.db'));
    symlinkSync(folder, join(folder, 'linked'));
    spellings.push(join(folder, 'link.db'), join(folder, 'linked', 'tasks.db'));
  }
  const stores = spellings.map((spelling) => `sqlite:${spelling}`);
  // Neither before the file is there, nor after, is there another engine; that would not mind these settings.
  const alike = async (store) => {
    const error = await thrown(async () => new App({ store, maxInFlight: 7 }));
    assert.match(error.message, /other settings/, store);
    return new App({ store });
  };
  const [first, ...others] = stores;
  const app = new App({ store: first });
  const job = app.task('job', () => 'ran');
  for (const store of others) await alike(store);
  await app.start();
  t.after(() => app.stop({ timeout: 0 }));
  assert.equal(await (await job.submit()).result(), 'ran');
  for (const store of others) assert.equal(await (await (await alike(store)).submit('job')).result(), 'ran');
});

test('a relative file is in the directory that was the working one when its app was made', async (t) => {
  const folder = dirname(file(t));
  const { stdout } = await script(`
    import { existsSync, mkdirSync } from 'node:fs';
    import { App } from 'taskloom';
    const [first, second] = ['first', 'second'].map((name) => process.env.FOLDER + '/' + name);
    for (const path of [first, second]) mkdirSync(path);
    process.chdir(first);
    const app = new App({ store: 'sqlite:tasks.db' });
    const job = app.task('job', (n) => n + 1);
    process.chdir(second);
    await app.start();
    const handle = await job.submit(1);
    console.log(await handle.result(), app.store, existsSync(first + '/tasks.db'), existsSync(second + '/tasks.db'));
    const other = new App({ store: 'sqlite:tasks.db' });
    console.log(await other.get(handle.id));
    process.chdir(first);
    const again = new App({ store: 'sqlite:///tasks.db' });
    console.log((await again.get(handle.id)).state);
    process.chdir(second);
    await app.stop();
    await app.start();
    console.log((await app.get(handle.id)).state);
    await app.stop();
  `, { env: { FOLDER: folder } });
  assert.equal(stdout, '2 sqlite:tasks.db true false\nundefined\nsucceeded\nsucceeded\n');
});
