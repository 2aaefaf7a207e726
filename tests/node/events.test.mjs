// Events.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, events } from 'taskloom';

import { STORES, gate, started, thrown } from './helpers.mjs';

test('subscribers hear what fits their pattern, in order', async (t) => {
  const [app, job] = await started(t, {}, (app) => app.task('job', (n) => n));
  const heard = [];
  const last = gate();
  app.on('task.*', (event) => {
    heard.push(event.name);
    if (event.name === 'task.succeeded') last.open(event);
  });
  const handle = await job.submit(1);
  const event = await last.promise;
  assert.deepEqual(heard.filter((name) => name !== 'task.queued'), ['task.submitted', 'task.started', 'task.succeeded']);
  assert.equal(event.taskId, handle.id);
  assert.ok(event.time instanceof Date && !Number.isNaN(event.time.getTime()));
  assert.equal(typeof event.data, 'object');
  assert.match(event.id, /^[0-9a-f-]{36}$/);
});

test('events can be iterated, and their own be published', async (t) => {
  const [app, job] = await started(t, {}, (app) =>
    app.task('job', (_, ctx) => {
      ctx.publish('order.paid', { amount: 7 });
    }),
  );
  const orders = app.events('order.*');
  const first = orders.next();
  await job.submit();
  const { value } = await first;
  assert.deepEqual([value.name, value.data], ['order.paid', { amount: 7 }]);
  await app.publish('order.sent', { by: 'post' });
  for await (const event of orders) {
    assert.deepEqual([event.name, event.data, event.taskId], ['order.sent', { by: 'post' }, undefined]);
    break;
  }
  assert.deepEqual(await orders.next(), { value: undefined, done: true });
});

test('a subscription can be ended; an iterator ends with the app', async (t) => {
  const [app, job] = await started(t, {}, (app) => app.task('job', (n) => n));
  let heard = 0;
  const off = app.on('task.succeeded', () => (heard += 1));
  await (await job.submit()).result();
  const events = app.events('task.succeeded');
  const next = events.next();
  await (await job.submit()).result();
  assert.equal((await next).done, false);
  off();
  off();
  const before = heard;
  await (await job.submit()).result();
  await events.next();
  assert.equal(heard, before);
  const end = events.next();
  await app.stop();
  assert.deepEqual(await end, { value: undefined, done: true });
});

test('a pattern that no event can fit is refused', async (t) => {
  const [app] = await started(t);
  const error = await thrown(() => app.events('tsak.*').next());
  assert.equal(error.name, 'InvalidOptions');
  assert.equal((await thrown(() => app.on('tsak.*', () => {}))).name, 'InvalidOptions');
  assert.match((await thrown(() => app.on(7, () => {}))).message, /a pattern is 7; it must be a text/);
  assert.equal((await thrown(async () => app.on('task.*', 7))).name, 'Misuse');
  await assert.rejects(app.publish('no point in it', {}));
});

for (const [kind, url] of STORES) {
  test(`a listener goes on when the app is started again, and is no use of it: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    const job = app.task('job', (n) => n);
    const heard = [];
    const ended = [gate(), gate(), gate()];
    const off = app.on('task.succeeded', ({ data }) => ended[heard.push(data.name) - 1].open());
    const clock = app.testing();
    await (await job.submit(1)).result();
    await clock.drain();
    await ended[0].promise;
    await clock.end();
    for (const place of [1, 2]) {
      await app.start();
      await (await job.submit(place)).result();
      await ended[place].promise;
      await app.stop();
    }
    off();
    assert.deepEqual(heard, ['job', 'job', 'job']);
  });
}

test('the catalogue of events', async () => {
  const all = events.catalog();
  assert.ok(all.length > 20);
  const { name, category, schema, example } = events.info('task.succeeded');
  assert.deepEqual([name, category], ['task.succeeded', 'task']);
  assert.equal(schema.type, 'object');
  assert.equal(typeof example, 'object');
  assert.equal((await thrown(() => events.info('task.suceeded'))).hint, 'did you mean task.succeeded?');
});
