// When the process ends, and what goes with it. Each script is a process of its own, and must end by itself.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { App, TaskFailed } from 'taskloom';

import { STORES, file, gate, script, started } from './helpers.mjs';

const START = "import { App } from 'taskloom';";

test('an app that nobody started, and one that has nothing to do, let the process end', async () => {
  const { stdout } = await script(`${START}
    const idle = new App();
    const job = idle.task('job', () => 1);
    await job.submit();
    const app = new App();
    const double = app.task('double', (n) => n * 2);
    await app.start();
    console.log(await (await double.submit(2)).result());
    process.on('exit', () => console.log('ends'));
  `);
  assert.equal(stdout, '4\nends\n');
});

test('the process stays while tasks are pending, without anybody waiting', async () => {
  const { stdout } = await script(`${START}
    const app = new App();
    const job = app.task('job', async (n) => {
      console.log(n);
      if (n < 3) await job.submit(n + 1, { delay: 5 });
    });
    await app.start();
    await job.submit(0);
  `);
  assert.equal(stdout, '0\n1\n2\n3\n');
});

test('keepAlive keeps the process until the app stops', async () => {
  const { stdout } = await script(`${START}
    const app = new App({ keepAlive: true });
    await app.start();
    const timer = setTimeout(() => app.stop().then(() => console.log('stopped')), 20);
    timer.unref();
  `);
  assert.equal(stdout, 'stopped\n');
});

test('a started app runs what an earlier process left in the file, and then ends', async (t) => {
  const store = `sqlite:${file(t)}`;
  const app = new App({ store });
  const job = app.task('job', () => 'here');
  await job.submitMany([1, 2, 3]);
  await app.stop();
  const { stdout } = await script(`${START}
    const app = new App({ store: process.env.STORE });
    app.task('job', (n) => console.log('ran', n));
    await app.start();
  `, { env: { STORE: store } });
  assert.deepEqual(stdout.trim().split('\n').sort(), ['ran 1', 'ran 2', 'ran 3']);
  await app.start();
  const states = (await app.listInfo()).map((info) => info.state);
  await app.stop();
  assert.deepEqual(states, ['succeeded', 'succeeded', 'succeeded']);
});

for (const [kind, url] of STORES) {
  test(`a schedule that has fired for the last time keeps nothing, once its tasks have ended: ${kind}`, async (t) => {
    const { stdout } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      const soon = (millis) => new Date(Date.now() + millis);
      app.at(soon(300), { name: 'once', retries: 1, retry: { base: 20 } }, async (_, ctx) => {
        if (ctx.task.attempt === 1) throw new Error('again');
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log('once');
      });
      app.at(soon(330), { name: 'lasting' }, () => console.log('lasting'));
      let ticks = 0;
      app.every(15, { name: 'season', end: soon(450) }, () => { ticks += 1; });
      await app.start();
      process.on('exit', () => console.log(ticks > 1));
    `, { env: { STORE: url(t) } });
    assert.deepEqual(stdout.trim().split('\n').sort(), ['lasting', 'once', 'true']);
  });

  test(`a schedule that is over keeps the process again when it is triggered, or given another time: ${kind}`, async (t) => {
    const { stdout } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      let ended;
      const job = app.task('job', async (n, ctx) => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        console.log(ctx.task.schedule);
        ended?.();
      });
      const first = new Promise((resolve) => { ended = resolve; });
      app.at(new Date(Date.now() + 300), { name: 'once' }, job);
      await app.start();
      await first;
      // Nothing is pending but a task that nobody awaits, then a time that is to come.
      await app.schedules.trigger('once');
      const second = new Promise((resolve) => { ended = resolve; });
      await second;
      await app.schedules.update('once', { at: new Date(Date.now() + 50) });
      process.on('exit', () => console.log('ends'));
    `, { env: { STORE: url(t) } });
    assert.equal(stdout, 'once\nonce\nonce\nends\n');
  });

  test(`a schedule that is said when all others are over keeps the process: ${kind}`, async (t) => {
    const { stdout } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      const job = app.task('job', (n) => {
        console.log(n);
        if (n < 3) app.at(new Date(Date.now() + 30), { name: 'after-' + n, input: n + 1 }, job);
      });
      app.at(new Date(Date.now() + 300), { name: 'first', input: 1 }, job);
      await app.start();
    `, { env: { STORE: url(t) } });
    assert.equal(stdout, '1\n2\n3\n');
  });
}

test('a schedule that goes on, and one that is disabled, keep the process until they are removed', async () => {
  const { stdout } = await script(`${START}
    const app = new App();
    app.every('1h', { name: 'often' }, () => 1);
    app.cron('@daily', { name: 'daily' }, () => 1);
    await app.start();
    await app.schedules.disable('often');
    const turns = [() => app.schedules.remove('daily'), () => app.schedules.remove('often')];
    const next = () => {
      const turn = turns.shift();
      if (turn === undefined) return;
      console.log('still here');
      turn().then(() => setTimeout(next, 20).unref());
    };
    setTimeout(next, 20).unref();
  `);
  assert.equal(stdout, 'still here\nstill here\n');
});

for (const [kind, url] of [
  ['memory', () => 'memory:'],
  ['sqlite', (t) => `sqlite:${file(t)}`],
]) {
  test(`process.exit with tasks running ends at once: ${kind}`, async (t) => {
    const { stdout } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      const job = app.task('job', () => new Promise(() => {
        console.log('running');
        setImmediate(() => process.exit(7));
      }));
      await app.start();
      await job.submit();
      await (await job.submit()).result();
    `, { env: { STORE: url(t) }, code: 7 });
    assert.match(stdout, /running/);
  });

  test(`an exception that nobody catches ends the process: ${kind}`, async (t) => {
    const { stderr } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      const job = app.task('job', () => { setImmediate(() => { throw new Error('outside of everything'); }); return new Promise(() => {}); });
      await app.start();
      await job.submit();
    `, { env: { STORE: url(t) }, code: 1 });
    assert.match(stderr, /outside of everything/);
  });
}

test("an unhandled rejection inside a handler is the program's, and the task ends as its handler does", async () => {
  const { stdout } = await script(`${START}
    process.on('unhandledRejection', (error) => console.log('unhandled:', error.message));
    const app = new App();
    const job = app.task('job', () => { Promise.reject(new Error('forgotten')); return 'done'; });
    await app.start();
    console.log(await (await job.submit()).result());
  `);
  assert.deepEqual(stdout.trim().split('\n').sort(), ['done', 'unhandled: forgotten']);
});

test('an app that nobody holds is collected with its native part; a handle keeps its outcome', async () => {
  const { stdout } = await script(`${START}
    import { createRequire } from 'node:module';
    import { setImmediate as turn } from 'node:timers/promises';
    const { port } = createRequire(process.cwd() + '/x.js')('./node_modules/taskloom/dist/port.js');
    let made = [];
    async function use() {
      const app = new App();
      const job = app.task('job', (n) => ({ n }));
      await app.start();
      const handle = await job.submit(7);
      await handle.result();
      await app.stop();
      made.push(new WeakRef(app), new WeakRef(handle));
    }
    for (let round = 0; round < 20; round++) await use();
    for (let round = 0; round < 200 && port().apps.size > 0; round++) {
      await turn();
      globalThis.gc();
    }
    console.log(port().apps.size, made.filter((weak) => weak.deref() !== undefined).length);
  `, { args: ['--expose-gc'] });
  assert.equal(stdout, '0 0\n');
});

test('an app that is collected while its thread ends, where nothing native can be called, does no harm', async () => {
  const { stdout } = await script(`${START}
    import { createRequire } from 'node:module';
    import { setImmediate as turn } from 'node:timers/promises';
    const { port } = createRequire(process.cwd() + '/x.js')('./node_modules/taskloom/dist/port.js');
    let asked = 0;
    port().native.close = () => {
      asked += 1;
      throw new Error('as in an environment that ends');
    };
    (() => new App())();
    while (asked === 0) {
      await turn();
      globalThis.gc();
    }
    await turn();
    console.log('goes on');
  `, { args: ['--expose-gc'] });
  assert.equal(stdout, 'goes on\n');
});

test('what failed in another process has its type, message and stack, and no cause', async (t) => {
  const store = `sqlite:${file(t)}`;
  const app = new App({ store });
  const job = app.task('job', () => 'here');
  const handle = await job.submit();
  await script(`${START}
    const app = new App({ store: process.env.STORE });
    app.task('job', () => { throw new RangeError('over there'); });
    await app.start();
  `, { env: { STORE: store } });
  const error = await handle.result().catch((error) => error);
  await app.stop();
  assert.ok(error instanceof TaskFailed, String(error));
  assert.deepEqual([error.type, error.cause], ['RangeError', undefined]);
  assert.match(error.traceback, /over there/);
});

test('the addon of a platform that has none says what to install', async () => {
  const { createRequire } = await import('node:module');
  const { load } = createRequire(import.meta.url)('./node_modules/taskloom/dist/addon.js');
  const missing = () => {
    throw new Error('Cannot find native binding');
  };
  assert.throws(
    () => load(missing),
    (error) => error.name === 'TaskloomError' && /npm install @taskloom\/native-/.test(error.hint) && /native binding/.test(error.cause.message),
  );
});

test('the watchdog names the handler that blocks the loop', async () => {
  const { stdout } = await script(`${START}
    const app = new App();
    // Until somebody else has seen that it blocks: the event is published by the watchdog's own thread.
    const spin = (until) => { while (!until()) ; };
    const busy = app.task('busy', () => { const end = performance.now() + 600; spin(() => performance.now() > end); });
    const later = app.task('later', async () => { await null; const end = performance.now() + 600; spin(() => performance.now() > end); });
    await app.start();
    const events = app.events('loop.blocked');
    const warned = [];
    process.on('warning', (warning) => warned.push([warning.code, warning.message]));
    for (const job of [busy, later]) {
      const next = events.next();
      const handle = await job.submit();
      const { value } = await next;
      console.log(value.name, value.data.handler, value.taskId === handle.id);
      await handle.result();
    }
    await events.return();
    await new Promise((resolve) => setImmediate(resolve));
    for (const [code, message] of warned) console.log(code, /handler "(busy|later)"(, or code beside it,)? blocked/.exec(message)[1]);
  `);
  assert.equal(stdout, [
    'loop.blocked busy true',
    'loop.blocked later true',
    'TASKLOOM_LOOP_BLOCKED busy',
    'TASKLOOM_LOOP_BLOCKED later',
    '',
  ].join('\n'));
});

for (const [kind, url] of STORES) {
  test(`whoever awaits a task that was run by hand in a thread keeps the process: ${kind}`, async (t) => {
    const { stdout } = await script(`${START}
      const app = new App({ store: process.env.STORE });
      const double = app.task('double', { thread: true, module: new URL(process.env.MODULE) });
      const { id } = await double.submit(21);
      console.log(await (await app.runNow(id)).result());
    `, { env: { STORE: url(t), MODULE: new URL('./modules/compute.mjs', import.meta.url).href } });
    assert.equal(stdout, '42\n');
  });
}

/** Starts a script that says `waits` once its event loop has nothing left to do; what it said in all, and its exit code. */
function waiter(t, source, env) {
  const cwd = fileURLToPath(new URL('.', import.meta.url));
  const options = { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] };
  const child = spawn(process.execPath, ['--input-type=module', '--eval', source], options);
  t.after(() => child.kill('SIGKILL'));
  const waits = gate();
  let said = '';
  child.stdout.on('data', (data) => {
    said += data;
    if (said.includes('waits')) waits.open();
  });
  const ended = new Promise((resolve) => child.on('close', (code) => resolve([code, said])));
  ended.then(waits.open);
  return { waits: waits.promise, ended };
}

const WAITS = "setImmediate(() => setImmediate(() => console.log('waits')));";

for (const [what, had] of [
  ['submitted', "await app.submit('job', 20)"],
  ['found by its id', 'await app.get(process.env.ID)'],
]) {
  test(`a program that only awaits a task stays until another process has run it: ${what}`, async (t) => {
    const store = `sqlite:${file(t)}`;
    const may = gate();
    const [app, job] = await started(t, { store }, (app) => app.task('job', async (n) => {
      await may.promise;
      return n + 1;
    }));
    const { id } = await job.submit(20);
    const { waits, ended } = waiter(t, `${START}
      const app = new App({ store: process.env.STORE });
      const handle = ${had};
      ${WAITS}
      console.log(await handle.result());
    `, { STORE: store, ID: id });
    await waits;
    may.open();
    assert.deepEqual(await ended, [0, 'waits\n21\n']);
    await app.stop();
  });
}

test('a listener keeps the process, too, until it has been told', async (t) => {
  const store = `sqlite:${file(t)}`;
  const may = gate();
  const [, job] = await started(t, { store }, (app) => app.task('job', () => may.promise));
  const { id } = await job.submit();
  const { waits, ended } = waiter(t, `${START}
    const app = new App({ store: process.env.STORE });
    (await app.get(process.env.ID)).onDone((handle) => console.log(handle.state));
    ${WAITS}
  `, { STORE: store, ID: id });
  await waits;
  may.open();
  assert.deepEqual(await ended, [0, 'waits\nsucceeded\n']);
});

test('whoever has given up waiting keeps nothing', async (t) => {
  const { stdout } = await script(`${START}
    const app = new App({ store: process.env.STORE });
    const job = app.task('job', () => 1);
    const handle = await job.submit();
    const both = [handle.result({ timeout: 10 }), handle.result({ signal: AbortSignal.timeout(5) })];
    for (const { reason } of await Promise.allSettled(both)) console.log(reason.name);
  `, { env: { STORE: `sqlite:${file(t)}` } });
  assert.equal(stdout, 'WaitTimeout\nTimeoutError\n');
});

test('a wait that began before the start of its app, or outlasts it, ends with the task', async (t) => {
  const { stdout } = await script(`${START}
    const app = new App();
    const job = app.task('job', (n) => n);
    const first = (await job.submit(1)).result();
    await app.start();
    console.log(await first);
    const never = (await job.submit(2, { delay: '1 day' })).result();
    await app.stop({ timeout: 0 });
    console.log(await never.catch((error) => error.name));
  `);
  assert.equal(stdout, '1\nShutDown\n');
});
