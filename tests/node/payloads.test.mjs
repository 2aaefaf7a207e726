// What JSON can say, what is converted, and what is refused.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { App, InvalidPayload, PayloadTooLarge, TaskFailed } from 'taskloom';
import * as v from 'valibot';
import { z } from 'zod';

import { started, thrown } from './helpers.mjs';

const cycle = { a: [] };
cycle.a.push({ back: cycle });

const REFUSED = [
  ['a BigInt', { n: 1n }, /input\.n is a BigInt \(1n\)/],
  ['a function', { list: [1, function resize() {}] }, /input\.list\[1\] is the function resize/],
  ['a symbol', { a: { 'two words': Symbol('x') } }, /input\.a\["two words"\] is a symbol/],
  ['a cycle', cycle, /input\.a\[0\]\.back contains itself/],
  ['undefined in an array', [1, undefined], /input\[1\] is undefined/],
  ['a hole in an array', [1, , 3], /input\[1\] is undefined/], // eslint-disable-line no-sparse-arrays
  ['NaN', { ratio: NaN }, /input\.ratio is NaN/],
  ['Infinity', -Infinity, /input is -Infinity/],
  ['a Map', { m: new Map([['a', 1]]) }, /input\.m is a Map/],
  ['a Set', { s: new Set([1]) }, /input\.s is a Set/],
  ['bytes', { b: Buffer.from('abc') }, /input\.b is a Buffer/],
  ['a typed array', new Float64Array(2), /input is a Float64Array/],
  ['an invalid Date', { at: new Date(NaN) }, /input\.at is an invalid Date/],
  ['a RegExp', { r: /x/ }, /input\.r is a RegExp/],
  ['an Error', { e: new Error('x') }, /input\.e is a(n)? Error/],
  ['a promise', { p: Promise.resolve(1) }, /input\.p is a Promise/],
  ['a deep nest', Array.from({ length: 20_000 }).reduce((inner) => [inner], 1), /nested too deeply/],
  ['a toJSON that throws', { toJSON() { throw new Error('no'); } }, /no/],
];

for (const [what, value, message] of REFUSED) {
  test(`refused at submit: ${what}`, async (t) => {
    const [, echo] = await started(t, {}, (app) => app.task('echo', (x) => x));
    const error = await thrown(() => echo.submit(value));
    assert.match(error.message, message);
    if (what === 'a toJSON that throws') return;
    assert.ok(error instanceof InvalidPayload, String(error));
    assert.equal(error.code, 'TL1202');
    await assert.rejects(echo.submitMany([1, value]), InvalidPayload);
    await assert.rejects(echo(value), InvalidPayload, 'a plain call says the same');
  });

  test(`refused as a result: ${what}`, async (t) => {
    let runs = 0;
    const [, job] = await started(t, {}, (app) =>
      app.task('job', { retries: 3 }, () => {
        runs += 1;
        return value;
      }),
    );
    if (what === 'a toJSON that throws') return;
    const error = await thrown(async () => (await job.submit()).result());
    assert.ok(error instanceof TaskFailed, String(error));
    assert.equal(error.type, 'InvalidPayload');
    assert.equal(error.cause.code, 'TL1204');
    assert.equal(runs, 1, 'another attempt would return it again');
  });
}

test('what is converted', async (t) => {
  const [, echo] = await started(t, {}, (app) => app.task('echo', (x) => x));
  class Point {
    constructor(x) {
      this.x = x;
    }
  }
  for (const [value, comes] of [
    [undefined, null],
    [{ a: undefined, b: 1 }, { b: 1 }],
    [{ at: new Date(0) }, { at: '1970-01-01T00:00:00.000Z' }],
    [new URL('https://example.com/a'), 'https://example.com/a'],
    [new Point(7), { x: 7 }],
    [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
    [-0, 0],
    [{ n: new Number(7), s: new String('x'), b: new Boolean(false) }, { n: 7, s: 'x', b: false }],
    ['line\nbreak \u2028 \u0000 "quoted" 💡', 'line\nbreak \u2028 \u0000 "quoted" 💡'],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    [{ __proto__: null, 'toString': 1 }, { toString: 1 }],
  ]) {
    assert.deepEqual(await (await echo.submit(value)).result(), comes);
  }
});

test('a handler cannot change what was submitted, nor a result what was returned', async (t) => {
  const kept = { list: [1] };
  const [, job] = await started(t, {}, (app) =>
    app.task('job', (input) => {
      input.list.push(2);
      return kept;
    }),
  );
  const input = { list: [0] };
  const result = await (await job.submit(input)).result();
  assert.deepEqual(input, { list: [0] });
  result.list.push(9);
  assert.deepEqual(kept, { list: [1] });
});

const WRITTEN = [
  0, 7, 10, -5, 123456789, 2 ** 53, 0.1, -1.5e-7, 1e21, 5e-324, true, false, null, '', 'text', 'x'.repeat(257), 'y'.repeat(70_000),
  '"quoted" \\ \u0000 \u001f \u007f', 'größe 💡 \u2028', '\ud800 alone', `${'a'.repeat(200)}ü`, [], {}, [[], {}, [[1, [2]]]],
  { 'a "key"': 1, 'schlüssel': [null, 'ä', -0.5], '': { deep: [{ er: [] }] }, 7: 'number' },
  Array.from({ length: 5_000 }, (_, n) => ({ n, text: `text ${n}` })),
];

test('whoever reads a payload or a result elsewhere finds what JSON.stringify says', async (t) => {
  const seen = [];
  const [app, [again, echo]] = await started(t, {}, (app) => [
    // The second attempt is given what the store has.
    app.task('again', { retries: 1, retry: { base: 0 } }, (input, ctx) => {
      if (ctx.task.attempt === 1) throw new Error('not yet');
      seen.push(JSON.stringify(input));
      return seen.length;
    }),
    app.task('echo', (x) => x),
  ]);
  for (const value of WRITTEN) {
    const text = JSON.stringify(value);
    await (await again.submit(value)).result();
    assert.equal(seen.pop(), text);
    const { id } = await echo.submit(value).then((handle) => handle.result().then(() => handle));
    const found = await app.get(id);
    assert.equal(JSON.stringify(await found.result()), text);
  }
});

test('what a getter submits while its object is written has its own payload', async (t) => {
  const inner = [];
  let echo;
  const bursting = (n) => ({
    before: `before ${n}`,
    // So many that they are handed over before the turn is over.
    get burst() {
      for (let place = 0; place < 1_500; place += 1) inner.push(echo.submit([n, place]));
      return 'burst';
    },
    after: { n },
  });
  const [, make] = await started(t, {}, (app) => {
    echo = app.task('echo', { retries: 1, retry: { base: 0 } }, (input, ctx) => {
      if (ctx.task.attempt === 1) throw new Error('again, with what the store has');
      return input;
    });
    return app.task('make', bursting);
  });
  const comes = (n) => ({ before: `before ${n}`, burst: 'burst', after: { n } });
  const outer = [];
  for (let n = 0; n < 3; n += 1) outer.push(await echo.submit(bursting(n)));
  for (let n = 0; n < 3; n += 1) assert.deepEqual(await outer[n].result(), comes(n));
  for (let n = 3; n < 5; n += 1) assert.deepEqual(await (await make.submit(n)).result(), comes(n));
  assert.equal(inner.length, 5 * 1_500);
  for (const [place, submitted] of inner.entries()) {
    assert.deepEqual(await (await submitted).result(), [Math.floor(place / 1_500), place % 1_500]);
  }
});

test('a getter that throws leaves nothing behind', async (t) => {
  const [, echo] = await started(t, {}, (app) => app.task('echo', (x) => x));
  const first = echo.submit({ a: 1 });
  const bad = thrown(async () => await echo.submit({ a: 'something', get b() { throw new RangeError('no'); } }));
  const last = echo.submit({ c: 3 });
  const error = await bad;
  assert.equal(error.name, 'InvalidPayload');
  assert.match(error.message, /^input cannot be read: no$/);
  assert.equal(error.cause.name, 'RangeError');
  assert.deepEqual(await (await first).result(), { a: 1 });
  assert.deepEqual(await (await last).result(), { c: 3 });
});

test('an input over the limit is refused, a result over it fails for good', async (t) => {
  const big = 'x'.repeat(10 << 20);
  let runs = 0;
  const [, [take, make]] = await started(t, {}, (app) => [
    app.task('take', (text) => text.length),
    app.task('make', { retries: 3 }, () => {
      runs += 1;
      return big;
    }),
  ]);
  const error = await thrown(() => take.submit(big));
  assert.ok(error instanceof PayloadTooLarge, String(error));
  assert.match(error.message, /4194304/);
  const failed = await thrown(async () => (await make.submit()).result());
  assert.equal(failed.type, 'PayloadTooLarge');
  assert.equal(runs, 1);
  assert.equal(await (await take.submit('x'.repeat(4_000_000))).result(), 4_000_000);
});

test('the golden payloads come back as they went in', async (t) => {
  const golden = JSON.parse(readFileSync(new URL('../golden/payloads.json', import.meta.url), 'utf8'));
  const [, echo] = await started(t, {}, (app) => app.task('echo', (x) => x));
  const texts = JSON.stringify(golden);
  assert.ok(texts.length > 2);
  assert.equal(JSON.stringify(await (await echo.submit(golden)).result()), texts);
});

const LIBRARIES = [
  ['zod', z.object({ path: z.string(), width: z.number().default(100), at: z.coerce.date() })],
  [
    'valibot',
    v.object({
      path: v.string(),
      width: v.optional(v.number(), 100),
      at: v.pipe(v.string(), v.transform((text) => new Date(text))),
    }),
  ],
];

for (const [library, schema] of LIBRARIES) {
  test(`a schema refuses at submit, and makes what the handler gets: ${library}`, async (t) => {
    const [app, job] = await started(t, {}, (app) =>
      app.task('job', { schema }, ({ path, width, at }) => ({ path, width, year: at.getUTCFullYear() })),
    );
    const given = { path: 'a.png', at: '2030-01-01T00:00:00Z' };
    assert.deepEqual(await (await job.submit(given)).result(), { path: 'a.png', width: 100, year: 2030 });
    assert.deepEqual(await job(given), { path: 'a.png', width: 100, year: 2030 });
    assert.deepEqual(await (await job.submit({ ...given, at: new Date(given.at) })).result(), { path: 'a.png', width: 100, year: 2030 });
    for (const submit of [() => job.submit({ path: 7 }), () => job.submitMany([given, { path: 7 }]), () => app.submit('job', { path: 7 })]) {
      const error = await thrown(submit);
      assert.ok(error instanceof InvalidPayload, String(error));
      assert.equal(error.code, 'TL1203');
      assert.match(error.message, /input\.path/);
      assert.ok(error.issues.length > 0);
    }
  });
}

const later = (schema) => ({ '~standard': { ...schema['~standard'], validate: async (value) => schema['~standard'].validate(value) } });

for (const [what, schema, none, nothing] of [
  ['optional', z.object({ n: z.number() }).optional(), undefined, undefined],
  ['with a default', z.object({ n: z.number() }).default({ n: 5 }), { n: 5 }, { n: 5 }],
  ['with a default, by valibot', v.optional(v.number(), 7), 7, 7],
  ['that is undefined', z.undefined(), undefined, undefined],
  ['asynchronous', later(z.number().default(3)), 3, 3],
  // Without an input, null is what stands in JSON; who takes that is given it.
  ['null', z.number().nullable(), null, null],
  ['either', z.number().nullable().default(3), null, null],
]) {
  test(`a schema that needs no input is given none: ${what}`, async (t) => {
    const seen = [];
    const [app, job] = await started(t, {}, (app) => app.task('job', { schema }, (input) => seen.push(input)));
    await (await job.submit()).result();
    await (await job.submit(undefined, { tags: ['a'] })).result();
    await (await job.submitMany([undefined]))[0].result();
    await (await app.submit('job')).result();
    await job();
    assert.deepEqual(seen, [none, none, none, none, none]);
    await (await job.submit(null)).result();
    assert.deepEqual(seen[5], nothing);
  });
}

test('a schema that needs an input says what it says of null', async (t) => {
  const [, [first, second]] = await started(t, {}, (app) => [
    app.task('first', { schema: z.object({ n: z.number() }) }, () => 1),
    app.task('second', { schema: later(z.number().optional()) }, () => 1),
  ]);
  await assert.rejects(first.submit(), (error) => error instanceof InvalidPayload && error.issues.length === 1 && /received null/.test(error.message));
  await assert.rejects(second.submit('x'), InvalidPayload);
});

test('a schema is asked before the run, too', async (t) => {
  let strict = false;
  const schema = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: async (value) => (strict ? { issues: [{ message: 'no longer', path: ['a', { key: 0 }] }] } : { value }),
    },
  };
  const app = new App();
  t.after(() => app.stop({ timeout: 0 }));
  const job = app.task('job', { schema, retries: 3 }, () => 'ran');
  const handle = await job.submit({ a: [1] });
  strict = true;
  await app.start();
  const error = await thrown(() => handle.result());
  assert.equal(error.type, 'InvalidPayload');
  assert.match(error.message, /input\.a\[0\]: no longer/);
  assert.equal(error.errors.length, 1);
});
