// Limits: how many tasks run at once, and who waits for whom. Rates are tested under the virtual clock.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, InvalidOptions, RetryAfter } from 'taskloom';

import { STORES, gate, started, thrown } from './helpers.mjs';

/** Handlers that count how many are inside at once. */
function counting() {
  const [running, most] = [{}, {}];
  const inside = async (name, during) => {
    running[name] = (running[name] ?? 0) + 1;
    most[name] = Math.max(most[name] ?? 0, running[name]);
    await during?.();
    await new Promise((resolve) => setImmediate(resolve));
    running[name] -= 1;
  };
  return { most, inside };
}

for (const [kind, url] of STORES) {
  test(`a handler runs so many at once: ${kind}`, async (t) => {
    const { most, inside } = counting();
    const met = gate();
    // The first two are inside until they have met.
    const meet = () => {
      if (most.one === 2) met.open();
      return met.promise;
    };
    const work = () => inside('one', meet);
    const [app, one] = await started(t, { store: url(t) }, (app) => app.task('one', { concurrency: 2 }, work));
    const handles = await one.submitMany(Array(20).fill(null));
    await Promise.all(handles.map((handle) => handle.result()));
    assert.deepEqual(most, { one: 2 });
    const limit = { name: 'one', queue: undefined, key: undefined, concurrency: 2, rate: undefined, declared: true };
    assert.deepEqual(await app.limits(), [limit]);
  });

  test(`a key from the input, of one and of many: ${kind}`, async (t) => {
    const { most, inside } = counting();
    const key = ({ tenant }) => (tenant === undefined ? undefined : `tenant-${tenant}`);
    const [app, keyed] = await started(t, { store: url(t) }, (app) =>
      app.task('keyed', { key, concurrency: 1 }, ({ tenant = 'nobody' }) => inside(tenant)),
    );
    const inputs = Array.from({ length: 20 }, (_, n) => ({ tenant: 'ab'[n % 2] }));
    const handles = [...(await keyed.submitMany(inputs)), ...(await Promise.all(inputs.map((input) => keyed.submit(input))))];
    handles.push(await app.submit('keyed', { tenant: 'c' }), await keyed.submit({}), ...(await keyed.submitMany([{}])));
    assert.equal((await handles[0].info()).key, 'tenant-a');
    assert.equal((await handles[21].info()).key, 'tenant-b');
    assert.equal((await handles.at(-1).info()).key, undefined);
    await Promise.all(handles.map((handle) => handle.result()));
    assert.deepEqual([most.a, most.b, most.c], [1, 1, 1]);
    assert.deepEqual(await app.limits(), [], 'each key has the limit, and the handler has none');
    const mine = await keyed.submitMany(inputs, { key: 'mine' });
    assert.equal((await mine[0].info()).key, 'mine');
    await Promise.all(mine.map((handle) => handle.result()));
  });

  test(`two keys run side by side: ${kind}`, async (t) => {
    const met = gate();
    const inside = new Set();
    const [, keyed] = await started(t, { store: url(t) }, (app) =>
      app.task('keyed', { key: (tenant) => tenant, concurrency: 1 }, async (tenant) => {
        if (inside.add(tenant).size === 2) met.open();
        await met.promise;
      }),
    );
    const handles = await Promise.all(['a', 'b'].map((tenant) => keyed.submit(tenant)));
    await Promise.all(handles.map((handle) => handle.result()));
  });

  test(`what waits for its key says so: ${kind}`, async (t) => {
    const [begun, free] = [gate(), gate()];
    const [, work] = await started(t, { store: url(t) }, (app) =>
      app.task('work', async (wait) => {
        if (!wait) return;
        begun.open();
        await free.promise;
      }),
    );
    const first = await work.submit(true, { key: 'a', concurrency: 1 });
    await begun.promise;
    const second = await work.submit(false, { key: 'a', concurrency: 1 });
    const { state, waitingFor, key } = await second.info();
    assert.deepEqual([state, waitingFor, key], ['pending', 'key', 'a']);
    free.open();
    await first.result();
    await second.result();
  });

  test(`limits are set, told and taken back: ${kind}`, async (t) => {
    const [app] = await started(t, { store: url(t) }, (app) => app.task('resize', { rate: '10/s' }, () => {}));
    assert.equal(await app.limit('resize', { concurrency: 4, rate: '2/s' }), true);
    assert.equal(await app.limit('resize', { concurrency: 4, rate: '2/s' }), false);
    assert.equal(await app.limit({ queue: 'default', concurrency: 50 }), true);
    assert.equal(await app.limit({ key: 'acme', rate: '100/5m' }), true);
    assert.equal(await app.limit('resize', { key: 'acme', concurrency: 1 }), true);
    const all = (await app.limits()).map(({ name, queue, key, concurrency, rate, declared }) =>
      [name, queue, key, concurrency, rate, declared].map(String).join(' '),
    );
    const none = 'undefined';
    assert.deepEqual(all.sort(), [
      `resize ${none} ${none} ${none} 10/s true`,
      `resize ${none} ${none} 4 2/s false`,
      `resize ${none} acme 1 ${none} false`,
      `${none} ${none} acme ${none} 100/5m false`,
      `${none} default ${none} 50 ${none} false`,
    ].sort());
    assert.equal(await app.limit('resize'), true);
    assert.equal(await app.limit('resize'), false);
    assert.equal((await app.limits()).length, 4);
  });

  test(`RetryAfter with a key puts all of it off, at no cost: ${kind}`, async (t) => {
    let tries = 0;
    const [, [call, other]] = await started(t, { store: url(t) }, (app) => [
      app.task('call', { key: 'api' }, (n) => {
        if (++tries === 1) throw new RetryAfter('20ms', { key: 'api', message: 'busy' });
        return n;
      }),
      app.task('other', { key: 'api' }, (n) => n),
    ]);
    const first = await call.submit(1);
    assert.equal(await first.result(), 1);
    assert.equal(await (await other.submit(2)).result(), 2);
    const { failures, attempt, errors } = await first.info();
    assert.deepEqual([failures, attempt, errors], [0, 2, []]);
  });
}

test('a limit that cannot be is refused', async (t) => {
  const [app] = await started(t, {}, (app) => app.task('resize', () => {}));
  for (const [call, message] of [
    [() => app.limit({}), /takes a handler's name, a queue, or a key/],
    [() => app.limit({ queue: 'a', key: 'b', rate: '1/s' }), /takes a handler's name, a queue, or a key/],
    [() => app.limit('resize', { concurency: 1 }), /no option of limit concurency.*did you mean concurrency/s],
    [() => app.limit('resize', { queue: 'a' }), /no option of limit queue/],
    [() => app.limit('resize', { concurrency: 0 }), /concurrency is 0/],
    [() => app.limit('resize', { rate: '10/fortnight' }), /"fortnight" is no unit/],
    [() => app.limit(7), /app\.limit was given 7; it takes an object/],
  ]) {
    const error = await thrown(call);
    assert.ok(error instanceof InvalidOptions, String(error));
    assert.match(`${error.message} ${error.hint}`, message);
  }
  assert.equal((await thrown(() => app.limit('resise', { concurrency: 1 }))).name, 'UnknownHandler');
});

test('a RetryAfter says what it was given', async () => {
  const at = new Date(Date.now() + 60_000);
  const one = new RetryAfter(at, 'busy', { key: 'api' });
  assert.deepEqual([one.at, one.key, one.message], [at, 'api', 'busy']);
  assert.ok(one.delay > 0 && one.delay <= 60_000);
  const two = new RetryAfter('1s', { key: 'api', cause: one });
  assert.deepEqual([two.at, two.key, two.delay, two.cause], [undefined, 'api', 1_000, one]);
  assert.match((await thrown(() => new RetryAfter(1, { key: 7 }))).message, /the key of a RetryAfter is 7/);
});

test('what makes no key is refused, and nothing is submitted', async (t) => {
  const [app, keyed] = await started(t, {}, (app) => app.task('keyed', { key: ({ tenant }) => tenant }, () => {}));
  for (const call of [() => keyed.submit({ tenant: 7 }), () => keyed.submitMany([{ tenant: 'a' }, { tenant: 7 }])]) {
    assert.match((await thrown(call)).message, /the key of "keyed" is 7 for this input; it must be a text/);
  }
  assert.deepEqual(await app.list(), []);
});

test("a child is of its parent's app", async (t) => {
  const other = new App();
  t.after(() => other.stop({ timeout: 0 }));
  const stranger = other.task('stranger', (n) => n * 2);
  const [app, parent] = await started(t, {}, (app) => {
    app.task('mine', () => 'mine');
    return app.task('parent', async (n, ctx) => await (await ctx.submit(stranger, n)).result());
  });
  const error = await thrown(async () => (await parent.submit(3)).result());
  assert.match(error.message, /"stranger" is a task of another app, and cannot be a child/);
  assert.deepEqual((await app.list({ name: 'stranger' })).length, 0);
  assert.throws(() => app.every('1h', { name: 'x' }, stranger), /belongs to another app/);
});

test("apps that share a store may have each other's tasks for children", async (t) => {
  const store = 'memory:children';
  const [, child] = await started(t, { store }, (app) => app.task('child', (n) => n * 2));
  const [, parent] = await started(t, { store }, (app) =>
    app.task('parent', async (n, ctx) => await (await ctx.submit(child, n)).result()),
  );
  assert.equal(await (await parent.submit(3)).result(), 6);
});
