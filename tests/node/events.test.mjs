// Events.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { gate, started, thrown } from './helpers.mjs';

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
  const events = app.events('order.*');
  const first = events.next();
  await job.submit();
  const { value } = await first;
  assert.deepEqual([value.name, value.data], ['order.paid', { amount: 7 }]);
  await app.publish('order.sent', { by: 'post' });
  for await (const event of events) {
    assert.deepEqual([event.name, event.data, event.taskId], ['order.sent', { by: 'post' }, undefined]);
    break;
  }
  assert.deepEqual(await events.next(), { value: undefined, done: true });
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
  await thrown(async () => app.on('task.*', 7));
  await assert.rejects(app.publish('no point in it', {}));
});
