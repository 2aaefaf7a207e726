// The helpers of taskloom/testing.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { App } from 'taskloom';
import { failures, withTesting } from 'taskloom/testing';

import { script, thrown } from './helpers.mjs';

const made = [];

function makeShop() {
  const app = new App();
  made.push(app);
  const charge = app.task('charge', async ({ order }) => {
    if (order === 13) throw new RangeError('no such order');
    return `order ${order} is paid`;
  });
  return { app, charge };
}

test('each test has an app of its own', withTesting(makeShop, async (t, { app, charge }, context) => {
  assert.equal(t.app, app);
  assert.equal(context.name, 'each test has an app of its own');
  const handle = await charge.submit({ order: 1 }, { delay: '1 day' });
  await t.advance('1 day');
  assert.equal(await handle.result(), 'order 1 is paid');
}));

test('the mode has ended when the test has', async () => {
  let seen;
  await withTesting(makeShop, { inline: true }, async (t, { charge }) => {
    seen = t;
    assert.equal((await charge.submit({ order: 1 })).state, 'succeeded');
  })();
  assert.equal((await thrown(() => seen.drain())).code, 'TL1603');
  assert.equal(new Set(made).size, made.length);
});

test('an app by itself, and one that is made later', async () => {
  const app = new App();
  for (const given of [app, () => app, async () => app, { app }]) {
    let t;
    await withTesting(given, (mode) => {
      t = mode;
    })();
    assert.equal(t.app, app);
  }
});

test('a test that fails tells of the tasks that failed in it', async () => {
  const failing = withTesting(makeShop, async (t, { charge }) => {
    await charge.submitMany([{ order: 1 }, { order: 13 }]);
    await t.drain();
    assert.match(failures(t), /^charge failed/);
    throw Object.assign(new TypeError('one is not two'), { code: 'ERR_OWN' });
  });
  const error = await thrown(failing);
  assert.match(error.message, /^one is not two\n\ntaskloom: tasks that failed\n\ncharge failed \([0-9a-f-]{36}\)\n {2}input: {"order":13}\n {2}attempt 1: RangeError: no such order\n {4}RangeError: no such order\n {8}in [^\n]*with_testing\.test\.mjs/);
  assert.doesNotMatch(error.message, /dist.port\.js/, 'frames of the package itself say nothing');
  assert.match(error.stack, /tasks that failed.*at .*with_testing\.test\.mjs/s);
  // Runners such as Vitest show the code at the first frame that they find, which is the test's own.
  const [report, frames] = error.stack.split('{"order":13}')[1].split(/^(?= {4}at )/m);
  assert.match(report, /no such order/);
  assert.match(frames, /^ {4}at .*with_testing\.test\.mjs/);
  assert.deepEqual([error.name, error.code], ['TypeError', 'ERR_OWN']);
});

test('a test that passes says nothing of them, and what cannot be changed is thrown as it is', async () => {
  await withTesting(makeShop, async (t, { charge }) => {
    await charge.submit({ order: 13 });
    await t.drain();
    assert.equal(t.failures.length, 1);
  })();
  for (const what of ['a text', Object.freeze(new Error('frozen'))]) {
    const failing = withTesting(makeShop, async (t, { charge }) => {
      await charge.submit({ order: 13 });
      await t.drain();
      throw what;
    });
    assert.equal(await thrown(failing), what);
  }
});

test('a runner finds no parameter, which some take for a callback', () => {
  assert.equal(withTesting(makeShop, async (t, shop, context) => context).length, 0);
});

test('what is no app, and no test', async () => {
  assert.match((await thrown(withTesting(() => ({ shop: 1 }), () => {}))).message, /which is no app and has none/);
  assert.throws(() => withTesting(makeShop), /it must be a function/);
});

test('CommonJS has the same', async () => {
  const required = createRequire(import.meta.url)('taskloom/testing');
  assert.deepEqual(Object.keys(required).sort(), ['failures', 'withTesting']);
  assert.equal(required.withTesting, withTesting);
});

test('the report of node:test shows it', async () => {
  const source = `
    import { test } from 'node:test';
    import { App } from 'taskloom';
    import { withTesting } from 'taskloom/testing';
    const make = () => {
      const app = new App();
      return { app, charge: app.task('charge', () => { throw new RangeError('no such order'); }) };
    };
    test('it fails', withTesting(make, async (t, { charge }) => {
      await charge.submit({ order: 13 });
      await t.drain();
      throw new Error('stop here');
    }));
  `;
  const { stdout } = await script(source, { code: 1 });
  assert.match(stdout, /stop here\s+taskloom: tasks that failed\s+charge failed.*input: {"order":13}.*attempt 1: RangeError: no such order/s);
});
