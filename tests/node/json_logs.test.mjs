// Structured logs: events as lines of JSON.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

import { App } from 'taskloom';

import { STORES, script, thrown } from './helpers.mjs';

const ALWAYS = [
  ...['time', 'level', 'component', 'message', 'environment', 'version', 'process', 'thread', 'entity_type', 'entity_id'],
  ...['event_type', 'data'],
];

/** Keeps what is written to it. */
class Lines {
  text = '';
  write(lines) {
    this.text += lines;
  }
  /** By their events; of several the last one. */
  all() {
    return this.text.split('\n').slice(0, -1).map((line) => JSON.parse(line));
  }
  of(event) {
    return this.all().filter((line) => line.event_type === event);
  }
}

/** All that a program of one app said, in lines. Whatever happens until its stop has been written when that resolves. */
async function logged(options, store, program, before = () => {}) {
  const lines = new Lines();
  const app = new App({ store });
  await before(app);
  app.jsonLogs(lines, options);
  await program(app);
  await app.stop();
  return lines;
}

for (const [kind, url] of STORES) {
  test(`every event is a line of JSON: ${kind}`, async (t) => {
    process.env.TASKLOOM_ENVIRONMENT = 'staging';
    t.after(() => delete process.env.TASKLOOM_ENVIRONMENT);
    let handle;
    const lines = await logged(undefined, url(t), async (app) => {
      const work = app.task('work', (x) => x);
      await app.start();
      handle = await work.submit(1, { correlationId: 'req-7' });
      await handle.result();
    });
    for (const line of lines.all()) {
      const names = Object.keys(line).filter((name) => name !== 'correlation_id');
      assert.deepEqual(names, ALWAYS);
      assert.deepEqual(
        [line.component, line.environment, line.process, line.thread],
        ['taskloom', 'staging', process.pid, 'main'],
      );
      assert.match(line.version, /^\d+\.\d+\.\d+/);
      assert.match(line.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
      assert.equal(line.correlation_id, line.event_type.startsWith('task.') ? 'req-7' : undefined);
    }
    for (const name of ['engine.started', 'task.submitted', 'task.started', 'engine.stopped']) {
      assert.equal(lines.of(name).length, 1, name);
    }
    const [done] = lines.of('task.succeeded');
    assert.deepEqual([done.level, done.entity_type, done.entity_id], ['info', 'task', handle.id]);
    assert.equal(done.message, 'task.succeeded work');
    assert.equal(done.data.attempt, 1);
  });

  test(`the correlation id of a log is found where the submit was not heard: ${kind}`, async (t) => {
    let work;
    const submit = (app) => {
      work = app.task('work', () => 1);
      return work.submit(null, { correlationId: 'req-8' });
    };
    const lines = await logged({ events: 'task.started' }, url(t), (app) => app.start().then(async () => {
      const [handle] = await app.list();
      await handle.result();
    }), submit);
    assert.deepEqual(lines.all().map((line) => line.correlation_id), ['req-8']);
  });
}

test('the levels of a log follow its events', async () => {
  const lines = await logged({ events: 'task.*' }, 'memory:', async (app) => {
    const work = app.task('work', { retries: 1, retry: { base: 1 } }, (input, ctx) => {
      ctx.log.warn('it is höt');
      throw new TypeError('no');
    });
    await app.start();
    await thrown(async () => (await work.submit()).result());
  });
  const levels = Object.fromEntries(lines.all().map((line) => [line.event_type, line.level]));
  assert.deepEqual(
    ['task.submitted', 'task.log', 'task.retrying', 'task.failed'].map((name) => levels[name]),
    ['info', 'warning', 'warning', 'error'],
  );
  assert.equal(lines.of('task.failed')[0].message, 'task.failed work: TypeError: no');
  assert.equal(lines.of('task.log')[0].message, 'task.log work: it is höt');
  assert.doesNotMatch(lines.text, /[^\n -~]/, 'nothing but ASCII');
});

test('a log goes to standard error unless told otherwise, and nowhere unless asked', async () => {
  const program = (asked) => `
    import { App } from 'taskloom';
    const app = new App();
    ${asked}
    const work = app.task('work', () => 1);
    await app.start();
    await (await work.submit()).result();
    await app.stop();`;
  const { stderr } = await script(program("app.jsonLogs(undefined, { events: 'engine.*' });"));
  const events = stderr.trim().split('\n').map((line) => JSON.parse(line).event_type);
  assert.deepEqual(events, ['engine.started', 'engine.stopping', 'engine.stopped']);
  assert.equal((await script(program(''))).stderr, '');
});

test('a log can go to a stream, and be ended', async () => {
  const stream = new PassThrough();
  const app = new App();
  const end = app.jsonLogs(stream, { events: 'shop.*' });
  await app.start();
  await app.publish('shop.opened', ['Ünïcode', null]);
  const [chunk] = await once(stream, 'data');
  const line = JSON.parse(chunk);
  assert.deepEqual([line.entity_type, line.entity_id, line.data], [null, null, ['Ünïcode', null]]);
  end();
  const lines = new Lines();
  app.jsonLogs(lines, { events: 'shop.*' });
  await app.publish('shop.closed');
  await app.stop();
  assert.equal(lines.all().length, 1);
  assert.equal(stream.read(), null);
});

test('a log that cannot be written costs its lines, and one warning', async () => {
  const warned = once(process, 'warning');
  const broken = {
    write() {
      throw new Error('disk full');
    },
  };
  const app = new App();
  app.jsonLogs(broken);
  const work = app.task('work', () => 1);
  await app.start();
  assert.equal(await (await work.submit()).result(), 1);
  const [warning] = await warned;
  assert.deepEqual([warning.code, warning.message], ['TASKLOOM_LOG_LOST', 'lines of app.jsonLogs are lost: Error: disk full']);
  await app.stop();
});

test('what jsonLogs cannot do is refused at once', async () => {
  const app = new App();
  for (const [args, message] of [
    [[7], /app\.jsonLogs was given 7, which cannot be written to/],
    [[undefined, { events: 'tsak.*' }], /tsak/],
    [[undefined, { events: 3 }], /a pattern is 3/],
    [[undefined, { event: 'task.*' }], /there is no option of jsonLogs event/],
  ]) {
    const error = await thrown(() => app.jsonLogs(...args));
    assert.equal(error.name, 'InvalidOptions');
    assert.match(error.message, message);
  }
});
