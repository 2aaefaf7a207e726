// Middleware: functions around every execution of a handler.
import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { test } from 'node:test';

import { App, Context, InvalidOptions, currentContext } from 'taskloom';

import { started, thrown } from './helpers.mjs';

test('the first one is outermost', async (t) => {
  const order = [];
  const [, [soon, now]] = await started(t, {}, (app) => {
    for (const name of ['one', 'two']) {
      app.middleware(async (ctx, next) => {
        order.push(`${name} in`);
        try {
          return await next();
        } finally {
          order.push(`${name} out`);
        }
      });
    }
    const work = (n) => order.push('work') && n;
    return [app.task('soon', async (n) => work(n)), app.task('now', work)];
  });
  for (const task of [soon, now]) {
    order.length = 0;
    assert.equal(await (await task.submit(1)).result(), 1);
    assert.deepEqual(order, ['one in', 'two in', 'work', 'two out', 'one out']);
  }
});

test('it is given the context', async (t) => {
  const seen = [];
  const [, work] = await started(t, {}, (app) => {
    app.middleware((ctx, next) => {
      assert.ok(ctx instanceof Context);
      ctx.log.info('around');
      seen.push([ctx.task.id, ctx.task.attempt, currentContext().task.id, ...ctx.task.tags]);
      return next();
    });
    return app.task('work', { tags: ['img'] }, (n) => n);
  });
  const handle = await work.submit(1);
  assert.equal(await handle.result(), 1);
  assert.deepEqual(seen, [[handle.id, 1, handle.id, 'img']]);
  assert.deepEqual((await handle.log()).map(({ message }) => message), ['around']);
});

test('what it returns is the result', async (t) => {
  const [, [work, skipped, wrong]] = await started(t, {}, (app) => {
    app.middleware(async (ctx, next) => (await next()) * 2);
    app.middleware((ctx, next) => (ctx.task.name === 'skipped' ? -1 : next()));
    app.middleware(async (ctx, next) => (ctx.task.name === 'wrong' ? 10n : await next()));
    return [
      app.task('work', (n) => n),
      app.task('skipped', () => assert.fail('it is not to run')),
      app.task('wrong', (n) => n),
    ];
  });
  assert.equal(await (await work.submit(3)).result(), 6);
  assert.equal(await (await skipped.submit(3)).result(), -2);
  assert.match((await thrown(async () => (await wrong.submit(3)).result())).message, /BigInt/);
});

test('what it throws is the outcome', async (t) => {
  const attempts = [];
  const [, work] = await started(t, {}, (app) => {
    app.middleware((ctx, next) => {
      attempts.push(ctx.task.attempt);
      if (attempts.length < 3) throw new RangeError('not you');
      return next();
    });
    return app.task('work', { retries: 5, retry: { base: 0 } }, () => 1);
  });
  const handle = await work.submit();
  assert.equal(await handle.result(), 1);
  assert.deepEqual(attempts, [1, 2, 3]);
  assert.deepEqual((await handle.errors()).map(({ type }) => type), ['RangeError', 'RangeError']);
});

test('what the handler throws passes through it', async (t) => {
  const seen = [];
  const [, work] = await started(t, {}, (app) => {
    app.middleware((ctx, next) =>
      next().catch((error) => {
        seen.push(error.message);
        return 'saved';
      }),
    );
    return app.task('work', () => {
      throw new Error('no');
    });
  });
  assert.equal(await (await work.submit()).result(), 'saved');
  assert.deepEqual(seen, ['no']);
});

test('async context is the handler\u2019s', async (t) => {
  const user = new AsyncLocalStorage();
  const [, work] = await started(t, { asyncContext: true }, (app) => {
    app.middleware((ctx, next) => user.run(`${user.getStore()} as ${ctx.task.name}`, next));
    return app.task('work', async () => {
      await null;
      return `${user.getStore()}, ${currentContext().task.name}`;
    });
  });
  const handles = await user.run('me', () => Promise.all([work.submit(), work.submit()]));
  for (const handle of handles) assert.equal(await handle.result(), 'me as work, work');
});

test('one that comes while it runs counts from then on', async (t) => {
  const [app, work] = await started(t, {}, (app) => app.task('work', (n) => n));
  assert.equal(await (await work.submit(1)).result(), 1);
  app.middleware(async (ctx, next) => (await next()) * 2);
  assert.equal(await (await work.submit(1)).result(), 2);
  app.middleware(async (ctx, next) => (await next()) + 1);
  assert.equal(await (await work.submit(1)).result(), 4);
});

test('plain calls go past it', async () => {
  const app = new App();
  const double = app.middleware(async (ctx, next) => (await next()) * 2);
  assert.equal(typeof double, 'function');
  assert.equal(await app.task('work', (n) => n)(3), 3);
});

test('a task may be cancelled in it', async (t) => {
  const [, work] = await started(t, {}, (app) => {
    app.middleware(async (ctx, next) => {
      await app.cancel({ id: ctx.task.id, reason: 'not today' });
      ctx.raiseIfCancelled();
      return await next();
    });
    return app.task('work', () => assert.fail('it is not to run'));
  });
  const error = await thrown(async () => (await work.submit()).result());
  assert.deepEqual([error.name, error.reason], ['TaskCancelled', 'not today']);
});

test('what is no function is refused', async () => {
  const error = await thrown(() => new App().middleware(3));
  assert.ok(error instanceof InvalidOptions);
  assert.match(error.hint, /\(ctx, next\)/);
});
