// Dead letters: listed, replayed one by one and by filter, discarded.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { IllegalTransition, InvalidOptions, Misuse } from 'taskloom';

import { STORES, started, thrown } from './helpers.mjs';

/** A task that fails until it is mended. */
async function fetching(t, url) {
  const broken = { mended: false };
  const [app, fetch] = await started(t, { store: url(t) }, (app) =>
    app.task('fetch', (page) => {
      if (!broken.mended) throw new RangeError(`no page ${page}`);
      return page;
    }),
  );
  return { app, fetch, broken };
}

async function failed(handle) {
  assert.equal((await thrown(() => handle.result())).name, 'TaskFailed');
}

for (const [kind, url] of STORES) {
  test(`replay one: a new generation, older handles keep their outcome: ${kind}`, async (t) => {
    const { app, fetch, broken } = await fetching(t, url);
    const old = await fetch.submit(7);
    await failed(old);
    assert.equal(await app.replay(old.id), 1);
    const failing = await app.get(old.id);
    await failed(failing);
    broken.mended = true;
    assert.equal(await app.replay({ id: old.id }), 1);
    const again = await app.get(old.id);
    assert.equal(await again.result(), 7);
    for (const handle of [old, failing]) {
      assert.equal(handle.state, 'failed');
      await failed(handle);
    }
    const info = await again.info();
    assert.deepEqual([info.generation, info.attempt, info.failures, info.crashes], [2, 3, 0, 0]);
    assert.deepEqual(info.errors.map(({ attempt, type }) => [attempt, type]), [[1, 'RangeError'], [2, 'RangeError']]);
    assert.deepEqual((await app.list()).map(({ id }) => id), [old.id]);
  });

  test(`replay by filter: ${kind}`, async (t) => {
    const { app, fetch, broken } = await fetching(t, url);
    const tagged = await fetch.submitMany([0, 1, 2, 3, 4], { tags: ['a'] });
    const other = await fetch.submit(5, { queue: 'mail' });
    for (const handle of [...tagged, other]) await failed(handle);
    const cancelled = await fetch.submit(6, { delay: '1h', tags: ['a'] });
    await cancelled.cancel();
    broken.mended = true;
    assert.equal(await app.replay({ tag: 'a', queue: 'mail' }), 0);
    assert.equal(await app.replay({ name: 'somebody' }), 0);
    assert.equal(await app.replay({ state: 'failed', tag: 'a' }), 5);
    assert.equal(await app.replay({ queue: 'mail' }), 1);
    assert.equal(await app.replay(), 1);
    const all = await Promise.all([...tagged, other, cancelled].map(({ id }) => app.get(id)));
    assert.deepEqual(await Promise.all(all.map((handle) => handle.result())), [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(await app.list({ state: 'failed' }), []);
  });

  test(`discard one, and by filter: ${kind}`, async (t) => {
    const { app, fetch, broken } = await fetching(t, url);
    const [one, two] = await fetch.submitMany([1, 2], { tags: ['a'] });
    await failed(one);
    await failed(two);
    const waits = await fetch.submit(3, { delay: '1h' });
    assert.ok((await thrown(() => app.discard(waits.id))) instanceof IllegalTransition);
    assert.equal(await app.discard(one.id), 1);
    assert.equal(await app.get(one.id), undefined);
    await failed(one);
    assert.equal(await app.discard({ tag: 'a' }), 1);
    broken.mended = true;
    await (await fetch.submit(4)).result();
    assert.equal(await app.discard(), 0, 'what has succeeded is no dead letter');
    assert.equal(await app.discard({ state: 'succeeded' }), 1);
    assert.deepEqual((await app.list()).map(({ id }) => id), [waits.id]);
  });

  test(`what cannot be replayed or discarded is refused: ${kind}`, async (t) => {
    const { app, fetch, broken } = await fetching(t, url);
    broken.mended = true;
    const done = await fetch.submit(1);
    await done.result();
    const refused = await thrown(() => app.replay(done.id));
    assert.ok(refused instanceof IllegalTransition);
    assert.match(refused.message, /is succeeded, and cannot be replayed/);
    for (const call of [() => app.replay('00000000-0000-7000-8000-000000000000'), () => app.discard('00000000-0000-7000-8000-000000000000')]) {
      const error = await thrown(call);
      assert.ok(error instanceof Misuse);
      assert.equal(error.code, 'TL1602');
    }
    for (const [call, message] of [
      [() => app.replay(undefined), /app\.replay was given undefined.*call app\.replay\(\) without an argument/s],
      [() => app.discard({ id: undefined }), /an id is undefined/],
      [() => app.replay({ id: done.id, tag: 'a' }), /takes an id, or what to choose tasks by, and not both/],
      [() => app.replay({ stat: 'failed' }), /no filter stat.*did you mean state/s],
      [() => app.replay({ state: 'succeeded' }), /succeeded/],
      [() => app.discard({ state: 'queued' }), /queued/],
      [() => app.discard('x'), /id "x" is not a UUID/],
    ]) {
      const error = await thrown(call);
      assert.ok(error instanceof InvalidOptions, String(error));
      assert.match(`${error.message} ${error.hint}`, message);
    }
    await app.stop();
    assert.equal((await thrown(() => app.replay())).name, 'ShutDown');
  });
}
