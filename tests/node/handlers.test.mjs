// What handlers see, and what their throwing means.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';

import {
  App,
  LeaseLost,
  PermanentError,
  RetryAfter,
  TaskCancelled,
  TaskExpired,
  TaskFailed,
  TaskTimedOut,
  currentContext,
} from 'taskloom';

import { STORES, gate, started, thrown } from './helpers.mjs';

for (const [kind, url] of STORES) {
  test(`an error crosses with type, message, stack and code: ${kind}`, async (t) => {
    class NoSuchAccount extends Error {}
    const original = new NoSuchAccount('account 7');
    const [, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', async () => {
        throw original;
      }),
    );
    const handle = await job.submit();
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskFailed, String(error));
    assert.equal(error.code, 'TL2001');
    assert.equal(error.type, 'NoSuchAccount');
    assert.match(error.message, /NoSuchAccount: account 7/);
    assert.match(error.traceback, /handlers\.test/);
    assert.equal(error.cause, original, 'it was thrown in this process');
    assert.equal(error.task, handle.id);
    assert.equal(error.errors.length, 1);
    assert.ok(error.errors[0].at instanceof Date);
    assert.equal(handle.state, 'failed');
  });

  test(`retries spend failures, and every attempt's error is kept: ${kind}`, async (t) => {
    const attempts = [];
    const [, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', { retries: 2, retry: { base: 1 } }, (_, ctx) => {
        attempts.push(ctx.task.attempt);
        throw new Error(`attempt ${ctx.task.attempt}, ${ctx.task.failures} failures`);
      }),
    );
    const handle = await job.submit();
    const error = await thrown(() => handle.result());
    assert.deepEqual(attempts, [1, 2, 3]);
    assert.deepEqual(
      error.errors.map(({ message }) => message),
      ['attempt 1, 0 failures', 'attempt 2, 1 failures', 'attempt 3, 2 failures'],
    );
  });

  test(`PermanentError is final, RetryAfter says when: ${kind}`, async (t) => {
    const [, [never, soon]] = await started(t, { store: url(t) }, (app) => [
      app.task('never', { retries: 5 }, () => {
        throw new PermanentError('no such account');
      }),
      app.task('soon', { retries: 1, retry: { base: '1 hour', cap: '1 hour' } }, (_, ctx) => {
        if (ctx.task.attempt === 1) throw new RetryAfter(1);
        return ctx.task.attempt;
      }),
    ]);
    const error = await thrown(async () => (await never.submit()).result());
    assert.equal(error.type, 'PermanentError');
    assert.equal(error.errors.length, 1);
    assert.equal(await (await soon.submit()).result(), 2);
    assert.ok(new RetryAfter(new Date(Date.now() + 60_000)).delay > 50_000);
    assert.equal(new RetryAfter('2s').delay, 2_000);
  });

  test(`cancel aborts the signal, and the handle settles at once: ${kind}`, async (t) => {
    const running = gate();
    const aborted = gate();
    const [, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', (_, ctx) => {
        running.open();
        return new Promise((resolve) => {
          ctx.signal.addEventListener('abort', () => {
            aborted.open([ctx.signal.reason, ctx.cancelled]);
            resolve('too late');
          });
        });
      }),
    );
    const handle = await job.submit();
    await running.promise;
    assert.equal(await handle.cancel({ reason: 'not needed' }), true);
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskCancelled, String(error));
    assert.equal(error.reason, 'not needed');
    const [reason, cancelled] = await aborted.promise;
    assert.ok(reason instanceof TaskCancelled);
    assert.equal(cancelled, true);
    assert.equal(await handle.cancel(), false, 'it had ended');
    assert.equal(handle.state, 'cancelled');
  });

  test(`a timeout aborts the signal, and what comes later is refused: ${kind}`, async (t) => {
    const late = gate();
    const [app, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', { timeout: 20 }, async (_, ctx) => {
        await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
        late.open(ctx);
        throw new Error('rejected after the timeout');
      }),
    );
    const handle = await job.submit();
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskTimedOut, String(error));
    const ctx = await late.promise;
    assert.ok(ctx.signal.reason instanceof TaskTimedOut);
    assert.throws(() => ctx.raiseIfCancelled(), TaskTimedOut);
    await thrown(async () => ctx.progress(1));
    assert.equal(handle.state, 'timed_out');
    assert.equal((await app.stats()).tasks.timed_out, 1);
  });

  test(`progress, log, notes and metadata are kept with the task: ${kind}`, async (t) => {
    const [, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', async (_, ctx) => {
        ctx.progress(0.25, 'quarter');
        ctx.progress(0.5, 'half');
        ctx.log.info('a line');
        ctx.log.warn('another');
        ctx.resultMetadata.rows = 7;
        const { id, name, queue, tags, metadata } = ctx.task;
        return { id, name, queue, tags, metadata, deadline: ctx.deadline !== undefined };
      }),
    );
    const handle = await job.submit(null, { queue: 'img', tags: ['a'], metadata: { initiator: 'me' }, timeout: '1h' });
    assert.deepEqual(await handle.result(), {
      id: handle.id,
      name: 'job',
      queue: 'img',
      tags: ['a'],
      metadata: { initiator: 'me' },
      deadline: true,
    });
    const info = await handle.info();
    assert.equal(info.progress.message, 'half');
    assert.deepEqual(info.progress.history.map(({ value }) => value).at(-1), 0.5);
    assert.deepEqual(info.log.map(({ level, message }) => [level, message]), [
      ['info', 'a line'],
      ['warning', 'another'],
    ]);
    assert.deepEqual(info.resultMetadata, { rows: 7 });
    assert.equal(info.timeout, 3_600_000);
    assert.ok(info.finished >= info.created);
  });

  test(`half a character in what is told loses nothing: ${kind}`, async (t) => {
    const half = 'a😀'.slice(0, 2);
    class Odd extends PermanentError {}
    Object.defineProperty(Odd, 'name', { value: `Odd${half}` });
    const [app, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', { retries: 2, retry: { base: 1 } }, async (_, ctx) => {
        ctx.log.info(half);
        ctx.progress(0.5, half);
        ctx.resultMetadata.note = half;
        ctx.publish('job.noted', { [half]: half, escaped: '\\ud83d' });
        await ctx.saveCheckpoint(half);
        if (_ === 'throws') throw new Odd(half);
        return await ctx.loadCheckpoint();
      }),
    );
    const events = app.events('*.noted');
    const first = events.next();
    const [returns, throws] = [await job.submit('returns'), await job.submit('throws')];
    assert.equal(await returns.result(), half, 'what belongs to the user is as it was');
    const error = await thrown(() => throws.result());
    assert.deepEqual([error.type, error.errors.length, error.errors[0].message], ['Odda\ufffd', 1, 'a\ufffd'], 'it was permanent');
    assert.match(error.traceback, /handlers\.test/);
    const { log, progress, resultMetadata } = await returns.info();
    assert.deepEqual([log[0].message, progress.message, resultMetadata], ['a\ufffd', 'a\ufffd', { note: 'a\ufffd' }]);
    assert.deepEqual((await first).value.data, { 'a\ufffd': 'a\ufffd', escaped: '\\ud83d' });
    await app.publish('shop.noted', half);
    for (let event = await events.next(); event.value.data !== 'a\ufffd'; event = await events.next());
    await events.return();
    const waits = await job.submit('never', { delay: '1h' });
    await waits.cancel({ reason: half });
    assert.equal((await thrown(() => waits.result())).reason, 'a\ufffd');
  });

  test(`a checkpoint survives the attempt: ${kind}`, async (t) => {
    const [, job] = await started(t, { store: url(t) }, (app) =>
      app.task('job', { retries: 1, retry: { base: 1 } }, async (_, ctx) => {
        const from = await ctx.loadCheckpoint({ page: 0 });
        if (ctx.task.attempt === 1) {
          await ctx.saveCheckpoint({ page: 3 });
          throw new Error('lost the connection');
        }
        await ctx.clearCheckpoint();
        return [from, (await ctx.loadCheckpoint()) ?? null];
      }),
    );
    assert.deepEqual(await (await job.submit()).result(), [{ page: 3 }, null]);
  });

  test(`children: found again by a retry, cancelled with their parent: ${kind}`, async (t) => {
    const [, parent] = await started(t, { store: url(t), maxInFlight: 10 }, (app) => {
      const child = app.task('child', (n) => n + 1);
      return app.task('parent', { retries: 1, retry: { base: 1 } }, async (n, ctx) => {
        const handle = await ctx.submit(child, n);
        const byName = await ctx.submit('child', n + 10);
        if (ctx.task.attempt === 1) throw new Error('once more');
        return [await handle.result(), await byName.result()];
      });
    });
    const handle = await parent.submit(1);
    assert.deepEqual(await handle.result(), [2, 12]);
    assert.equal((await handle.children()).length, 2, 'and not four');
  });

  test(`a task that was not started in time has expired: ${kind}`, async (t) => {
    const app = new App({ store: url(t) });
    t.after(() => app.stop({ timeout: 0 }));
    const job = app.task('job', () => 1);
    const handle = await job.submit(null, { expires: new Date(Date.now() - 1_000) });
    await app.start();
    const error = await thrown(() => handle.result());
    assert.ok(error instanceof TaskExpired, String(error));
    assert.equal(handle.state, 'expired');
  });
}

/** Everything that is asked of it throws. */
function revoked(target) {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}

test('with asyncContext the context is found deep inside, after an await too', async (t) => {
  async function helper() {
    await null;
    return currentContext().task.id;
  }
  const [, job] = await started(t, { asyncContext: true }, (app) =>
    app.task('job', async () => [currentContext().task.id, await helper()]),
  );
  const handle = await job.submit();
  assert.deepEqual(await handle.result(), [handle.id, handle.id]);
  assert.equal(currentContext(), undefined);
});

test('with asyncContext a handler finds what its submitter had', async (t) => {
  const request = new AsyncLocalStorage();
  const [, job] = await started(t, { asyncContext: true }, (app) =>
    app.task('job', { retries: 1, retry: { base: 1 } }, async (_, ctx) => {
      await null;
      if (ctx.task.attempt === 1) throw new Error('once more');
      return request.getStore();
    }),
  );
  const handles = await Promise.all(['a', 'b'].map((name) => request.run(name, () => job.submit())));
  assert.deepEqual(await Promise.all(handles.map((handle) => handle.result())), ['a', 'b']);
  assert.equal(await (await job.submit()).result(), null);
});

test('with asyncContext a child, too, finds what its submitter had, in each attempt', async (t) => {
  const request = new AsyncLocalStorage();
  const [, parent] = await started(t, { asyncContext: true }, (app) => {
    const child = app.task('child', { retries: 1, retry: { base: 1 } }, async (_, ctx) => {
      await null;
      if (ctx.task.attempt === 1) throw new Error('once more');
      return [request.getStore(), currentContext().task.id];
    });
    return app.task('parent', async (_, ctx) => {
      const submitted = ['a', 'b'].map((name) => request.run(name, () => ctx.submit(name === 'a' ? child : 'child')));
      const handles = await Promise.all(submitted);
      const found = await Promise.all(handles.map((handle) => handle.result()));
      return [request.getStore(), handles.map(({ id }) => id), found];
    });
  });
  const handle = await request.run('outside', () => parent.submit());
  const [own, ids, found] = await handle.result();
  assert.equal(own, 'outside');
  assert.deepEqual(found, [
    ['a', ids[0]],
    ['b', ids[1]],
  ]);
});

test('with asyncContext many tasks, and one that waits for room, find what their submitter had', async (t) => {
  const request = new AsyncLocalStorage();
  const both = gate();
  const [, job] = await started(t, { asyncContext: true, capacity: 2, onFull: 'wait' }, (app) =>
    app.task('job', { retries: 1, retry: { base: 1 } }, async (_, ctx) => {
      await both.promise;
      if (ctx.task.attempt === 1) throw new Error('once more');
      return request.getStore();
    }),
  );
  const many = await request.run('many', () => job.submitMany([1, 2]));
  const later = request.run('later', () => job.submit());
  both.open();
  const found = await Promise.all([...many, await later].map((handle) => handle.result()));
  assert.deepEqual(found, ['many', 'many', 'later']);
});

test('without it the context is known before the first await, and no other is given after it', async (t) => {
  const [, job] = await started(t, {}, (app) =>
    app.task('job', async () => {
      const { id } = currentContext().task;
      await null;
      return [id, await thrown(() => currentContext()).then((error) => error.name)];
    }),
  );
  const handle = await job.submit();
  assert.deepEqual(await handle.result(), [handle.id, 'Misuse']);
});

test('what is told after the end is refused', async (t) => {
  let kept;
  const [, job] = await started(t, {}, (app) =>
    app.task('job', (_, ctx) => {
      kept = ctx;
    }),
  );
  const handle = await job.submit();
  await handle.result();
  assert.equal(kept.cancelled, true);
  assert.throws(() => kept.raiseIfCancelled(), LeaseLost);
  const calls = [
    () => kept.progress(1),
    () => kept.publish('order.paid'),
    () => { kept.resultMetadata.rows = 7; },
    () => kept.saveCheckpoint(1),
    () => kept.loadCheckpoint(),
    () => kept.submit('job'),
  ];
  for (const call of calls) {
    const error = await thrown(call);
    assert.ok(error instanceof LeaseLost && error.message === `attempt 1 of task ${handle.id} is over`, String(error));
    assert.match(error.hint, /timer.*ctx\.signal.*finally.*ctx\.cancelled/);
  }
  // Nobody keeps what it logs now, as in Python; a line too many is no reason for anything to fail.
  kept.log.info('x');
  assert.deepEqual(await handle.log(), []);
});

for (const [ended, end] of [
  ['has timed out', async () => {}],
  ['was cancelled', (handle) => handle.cancel()],
]) {
  test(`what a handler tells whose task ${ended} ends it, and what it logs does not`, async (t) => {
    const calledOff = gate();
    const heard = gate();
    const [, job] = await started(t, {}, (app) =>
      app.task('job', { timeout: ended === 'has timed out' ? 20 : '1h' }, async (_, ctx) => {
        ctx.signal.addEventListener('abort', calledOff.open);
        await calledOff.promise;
        ctx.log.warn('cleaning up');
        ctx.publish('job.undone', { id: ctx.task.id });
        heard.open([
          await thrown(() => ctx.progress(0.5)),
          await thrown(() => { ctx.resultMetadata.rows = 7; }),
          await thrown(() => ctx.saveCheckpoint(1)),
        ]);
      }),
    );
    const handle = await job.submit();
    await end(handle);
    const errors = await heard.promise;
    for (const error of errors) assert.ok(error instanceof LeaseLost && /timed out, or/.test(error.hint), `${error}`);
  });
}

for (const [input, states] of [
  ['succeeds', ['succeeded']],
  ['fails', ['retrying', 'failed']],
  ['takes too long', ['retrying', 'timed_out']],
]) {
  test(`the handle of a hook says how it went: a task ${input}`, async (t) => {
    const seen = [];
    const last = gate();
    const hook = ({ state }) => {
      if (seen.push(state) === states.length) last.open();
    };
    const [, job] = await started(t, {}, (app) =>
      app.task('job', { retries: 1, retry: { base: 1 }, timeout: 50, onSuccess: hook, onRetry: hook, onFailure: hook }, (what, ctx) => {
        if (what === 'fails') throw new Error('no');
        if (what === 'takes too long') return new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)));
      }),
    );
    await job.submit(input, input === 'takes too long' ? undefined : { timeout: '1h' });
    await last.promise;
    assert.deepEqual(seen, states);
  });
}

test('hooks hear of success, retry and failure', async (t) => {
  const heard = [];
  const last = gate();
  const [, job] = await started(t, {}, (app) =>
    app.task(
      'job',
      {
        retries: 1,
        retry: { base: 1 },
        onSuccess: (handle) => heard.push(['success', handle.id]),
        onRetry: (handle) => heard.push(['retry', handle.id]),
        onFailure: (handle) => last.open(heard.push(['failure', handle.id])),
      },
      (fails) => {
        if (fails) throw new Error('no');
      },
    ),
  );
  const good = await job.submit(false);
  await good.result();
  const bad = await job.submit(true);
  await thrown(() => bad.result());
  await last.promise;
  assert.deepEqual(heard, [
    ['success', good.id],
    ['retry', bad.id],
    ['failure', bad.id],
  ]);
});

for (const [what, value, type, message] of [
  ['a string', 'just text', 'string', 'just text'],
  ['null', null, 'null', 'null'],
  ['undefined', undefined, 'undefined', 'undefined'],
  ['a number', 7, 'number', '7'],
  ['a frozen object', Object.freeze({ a: 1 }), 'object', '{"a":1}'],
  ['a frozen Error', Object.freeze(new TypeError('frozen')), 'TypeError', 'frozen'],
  ['what cannot be looked at', revoked(new Error('x')), 'object', 'a value of type object'],
]) {
  test(`a handler throws ${what}`, async (t) => {
    const [, job] = await started(t, {}, (app) =>
      app.task('job', () => {
        throw value;
      }),
    );
    const error = await thrown(async () => (await job.submit()).result());
    assert.equal(error.type, type);
    assert.equal(error.errors[0].message, message);
  });
}

test('a stack that is cut in the midst of a character is kept, and so is the verdict', async (t) => {
  const [, job] = await started(t, {}, (app) =>
    app.task('job', { retries: 2, retry: { base: 1 } }, () => {
      const error = new PermanentError('long');
      error.stack = `x${'😀'.repeat(20_000)}`;
      throw error;
    }),
  );
  const { errors } = await thrown(async () => (await job.submit()).result());
  assert.equal(errors.length, 1);
  assert.match(errors[0].traceback, /^x😀+/u);
});

test('a retry policy leaves alone what cannot be looked at', async (t) => {
  const retry = { base: 1, on: TypeError };
  const [, job] = await started(t, {}, (app) =>
    app.task('job', { retries: 1, retry }, () => {
      throw revoked(new TypeError('x'));
    }),
  );
  const error = await thrown(async () => (await job.submit()).result());
  assert.deepEqual([error.type, error.errors.length], ['object', 1]);
});

test('a handler throws an Error whose getters throw', async (t) => {
  const [, job] = await started(t, {}, (app) =>
    app.task('job', () => {
      const error = new Error('x');
      // The stack first: to make it, V8 reads the others.
      for (const name of ['stack', 'name', 'message', 'constructor']) {
        Object.defineProperty(error, name, {
          get() {
            throw new Error('a getter');
          },
        });
      }
      throw error;
    }),
  );
  const error = await thrown(async () => (await job.submit()).result());
  assert.equal(error.type, 'Error');
  assert.match(error.message, /cannot be read/);
});

test('a thenable that is no promise is awaited', async (t) => {
  const [, job] = await started(t, {}, (app) => app.task('job', () => ({ then: (resolve) => resolve('then') })));
  assert.equal(await (await job.submit()).result(), 'then');
});

test('sync and async handlers share maxInFlight, and places are given back', async (t) => {
  let running = 0;
  let most = 0;
  const [, job] = await started(t, { maxInFlight: 3 }, (app) =>
    app.task('job', async () => {
      most = Math.max(most, ++running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    }),
  );
  const handles = await job.submitMany(Array.from({ length: 50 }, () => null));
  await Promise.all(handles.map((handle) => handle.result()));
  assert.equal(most, 3);
});

for (const [kind, url] of STORES) {
  test(`a parent that waits lends its place: ${kind}`, async (t) => {
    const most = { running: 0, at: 0 };
    const [, grandparent] = await started(t, { store: url(t), maxInFlight: 1 }, (app) => {
      const child = app.task('child', async (n) => {
        most.at = Math.max(most.at, ++most.running);
        await null;
        most.running -= 1;
        return n * 2;
      });
      const parent = app.task('parent', async (_, ctx) => {
        const children = await Promise.all([0, 1, 2, 3, 4].map((n) => ctx.submit(child, n)));
        const all = await Promise.all(children.map((handle) => handle.result()));
        return all.reduce((sum, n) => sum + n);
      });
      return app.task('grandparent', async (_, ctx) => await (await ctx.submit(parent)).result());
    });
    assert.equal(await (await grandparent.submit()).result(), 20);
    assert.equal(most.at, 1);
  });
}

test('a handler that does not end after its timeout holds up nobody', async (t) => {
  const ended = gate();
  const [app, job] = await started(t, { maxInFlight: 1 }, (app) =>
    app.task('job', { timeout: 20 }, async (n) => {
      if (n === 1) await ended.promise;
      return n;
    }),
  );
  const [stays, next] = await job.submitMany([1, 2]);
  assert.equal((await thrown(() => stays.result())).name, 'TaskTimedOut');
  assert.equal(await next.result(), 2);
  const { warnings } = await app.health();
  assert.deepEqual(warnings, ['handlers on an event loop that do not end although they were called off: 1']);
  ended.open();
});
