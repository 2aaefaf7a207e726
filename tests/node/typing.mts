// What TypeScript users get: this file is compiled, strictly, and not run.
import * as v from 'valibot';
import { z } from 'zod';

import {
  App,
  type Context,
  type LogStream,
  type Middleware,
  PermanentError,
  RetryAfter,
  type Task,
  TaskFailed,
  type TaskHandle,
  TaskloomError,
  type Testing,
  type Unsubscribe,
  events,
} from 'taskloom';
import { failures, withTesting } from 'taskloom/testing';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
function same<A, B>(..._: Equal<A, B> extends true ? [] : [never]): void {}

const app = new App({ store: 'memory:', maxInFlight: 1000, queues: ['a', 'b'], retention: '7 days' });
new App();
new App({ queues: { a: 2, b: 1 } });
// @ts-expect-error: no such setting
new App({ stoer: 'memory:' });

// The handler's own types.
const resize = app.task('resize', { retries: 3, timeout: '30s' }, async (input: { path: string; width: number }, ctx: Context) => {
  same<typeof ctx.signal, AbortSignal>();
  ctx.progress(0.4, 'resizing');
  return `${input.path} ${input.width}`;
});
same<typeof resize, Task<{ path: string; width: number }, string>>();
const handle = await resize.submit({ path: 'a.png', width: 100 }, { priority: 'high', delay: '5s', tags: ['img'] });
same<typeof handle, TaskHandle<string>>();
const out = await handle.result({ timeout: '10s', signal: new AbortController().signal });
same<typeof out, string>();
const many = await resize.submitMany([{ path: 'a.png', width: 100 }]);
same<typeof many, Array<TaskHandle<string>>>();
same<Awaited<ReturnType<typeof resize>>, string>();
// @ts-expect-error: width is missing
await resize.submit({ path: 'a.png' });
// @ts-expect-error: an input is wanted
await resize.submit();
// @ts-expect-error: no such priority
await resize.submit({ path: 'a.png', width: 1 }, { priority: 'urgent' });

// A handler without an input.
const tick = app.task('tick', () => 7);
await tick.submit();
same<Awaited<ReturnType<typeof tick>>, number>();

// zod: what is submitted is what the schema takes, what the handler gets is what it makes of it.
const schema = z.object({ path: z.string(), width: z.number().default(100), at: z.coerce.date().optional() });
const withZod = app.task('zod', { schema }, (input) => {
  same<typeof input.width, number>();
  same<typeof input.at, Date | undefined>();
  return { width: input.width };
});
const zodded = await withZod.submit({ path: 'a.png' });
same<typeof zodded, TaskHandle<{ width: number }>>();
// @ts-expect-error: path is a text
await withZod.submit({ path: 7 });

// An input that may be left out.
const withDefault = app.task('default', { schema: z.object({ n: z.number() }).default({ n: 5 }) }, (input) => {
  same<typeof input, { n: number }>();
  return input.n;
});
await withDefault.submit();
await withDefault.submit({ n: 7 });
await withDefault();
const withOptional = app.task('optional', { schema: v.optional(v.number()) }, (n) => same<typeof n, number | undefined>());
await withOptional.submit(undefined, { delay: '5s' });
await withOptional.submit();
// @ts-expect-error: n is a number
await withOptional.submit('7');

// valibot.
const withValibot = app.task('valibot', { schema: v.object({ n: v.number() }) }, async ({ n }) => n * 2);
same<typeof withValibot, Task<{ n: number }, number>>();
// @ts-expect-error: n is a number
await withValibot.submit({ n: '7' });

// In a thread: the types are those of the module's function.
const module = new URL('./modules/compute.mjs', import.meta.url);
const inThread = app.task<(input: { n: number }, ctx: Context) => Promise<string>>('thread', { thread: true, module, timeout: '1m' });
same<typeof inThread, Task<{ n: number }, string>>();
app.task('any', { thread: true, module: '/somewhere/hash.cjs', export: 'hash' });
new App({ threads: 4 });
new App({ threads: { size: 4, maxMemory: 512, maxTasksPerThread: 100 } });
// @ts-expect-error: a thread needs a module
app.task('none', { thread: true });
// @ts-expect-error: no such option
new App({ threads: { max: 4 } });

// By name, nothing is known.
const unknown = await app.submit('resize', { path: 'a.png' });
same<typeof unknown, TaskHandle<unknown>>();

// Children.
app.task('parent', async (_: null, ctx) => {
  const child = await ctx.submit(resize, { path: 'a.png', width: 1 }, { detached: true });
  same<typeof child, TaskHandle<string>>();
  // @ts-expect-error: not its input
  await ctx.submit(resize, { path: 7 });
  await ctx.submit('resize', { anything: true });
  const ticked = await ctx.submit(tick);
  same<typeof ticked, TaskHandle<number>>();
  await ctx.submit(withDefault);
  await ctx.submit(tick, undefined, { delay: '5s', detached: true });
  // @ts-expect-error: an input is wanted
  await ctx.submit(resize);
  // @ts-expect-error: no option of a child
  await ctx.submit(tick, undefined, { uniqueKey: 'a' });
  const saved = await ctx.loadCheckpoint({ page: 0 });
  same<typeof saved, { page: number }>();
  const perhaps = await ctx.loadCheckpoint<{ page: number }>();
  same<typeof perhaps, { page: number } | undefined>();
  const given = await ctx.loadCheckpoint<{ page?: number }>({});
  same<typeof given.page, number | undefined>();
});

// Schedules: of functions, whose parameters have types, and of tasks.
const hourly = app.every('1h', { name: 'hourly' }, async (_, ctx) => {
  same<typeof ctx, Context>();
  return 7;
});
same<Awaited<ReturnType<typeof hourly>>, number>();
app.cron('@daily', { name: 'nightly' }, async (input: { city: string }, ctx) => ctx.log.info(input.city)) satisfies Task<{ city: string }, void>;
app.at(new Date(), { name: 'once' }, (_, ctx) => same<typeof ctx.task.tick, Date | undefined>());
const resized = app.cron('@daily', { input: { path: 'a.png', width: 1 } }, resize);
same<typeof resized, Task<{ path: string; width: number }, string>>();
same<Awaited<ReturnType<ReturnType<typeof app.every<unknown, number>>['submit']>>, TaskHandle<number>>();
app.every('1h', {}, tick);
// @ts-expect-error: it is neither
app.every('1h', {}, 7);

// Events, figures, lists.
const off = app.on('task.*', (event) => same<typeof event.taskId, string | undefined>());
off();
for await (const event of app.events('task.succeeded')) same<typeof event.time, Date>();
const failed = await app.list({ state: 'failed', limit: 10 });
same<typeof failed, TaskHandle[]>();
const { tasks } = await app.stats();
same<(typeof tasks)['timed_out'], number>();
// @ts-expect-error: no such state
await app.list({ state: 'done' });

// Dead letters, limits, keys.
const replayed = [await app.replay(), await app.replay('id'), await app.replay({ id: 'id' }), await app.replay({ state: 'failed', tag: 'a' })];
same<typeof replayed, number[]>();
await app.discard({ state: 'succeeded' });
// @ts-expect-error: what has succeeded is no dead letter
await app.replay({ state: 'succeeded' });
// @ts-expect-error: an id may be missing
await app.replay(app.task('x', () => 1) as unknown as string | undefined);
const isNew = await app.limit('resize', { key: 'acme', concurrency: 4, rate: '10/s' });
same<typeof isNew, boolean>();
await app.limit({ queue: 'img', rate: '1/s' });
await app.limit({ key: 'acme' });
// @ts-expect-error: of what?
await app.limit({ rate: '1/s' });
same<Awaited<ReturnType<typeof app.limits>>[number]['rate'], string | undefined>();
app.task('keyed', { key: (input: { tenant?: string }) => input.tenant }, (input: { tenant?: string }, ctx) => {
  same<typeof ctx.now, Date>();
  same<typeof ctx.task.tick, Date | undefined>();
  throw new RetryAfter(new Date(), { key: 'acme', message: 'busy' });
});

// Retry policies, namespaces, names of others, the catalogue.
app.task('fetch', { namespace: 'web', retries: 3, retry: { base: '1s', on: [TypeError, 'AbortError'], never: RangeError } }, () => 1);
app.task('fetch', { retry: (error, failures) => (failures < 3 ? '1m' : false) }, () => 1);
// @ts-expect-error: no answer
app.task('fetch', { retry: () => ({}) }, () => 1);
// @ts-expect-error: whether is said on the handler
await resize.submit({ path: 'a.png', width: 1 }, { retry: { on: TypeError } });
await app.submit('elsewhere', 7, { allowUnknown: true });
// @ts-expect-error: only by name
await resize.submit({ path: 'a.png', width: 1 }, { allowUnknown: true });
same<ReturnType<typeof events.info>, events.EventInfo>();
same<Awaited<ReturnType<typeof app.health>>['unserved'][number]['since'], Date>();

// Middleware.
const timed = app.middleware(async (ctx, next) => {
  same<typeof ctx, Context>();
  return await next();
});
timed satisfies Middleware;
same<ReturnType<typeof app.jsonLogs>, Unsubscribe>();
app.jsonLogs();
app.jsonLogs(process.stdout, { events: 'task.*' });
app.jsonLogs({ write: (lines: string) => lines.length } satisfies LogStream);
// @ts-expect-error: it cannot be written to
app.jsonLogs(7);
// @ts-expect-error: no function
app.middleware(7);

// Testing.
{
  await using t = app.testing({ inline: true, start: new Date(), seed: 7, timers: false });
  same<typeof t, Testing>();
  await t.advance({ days: 3, hours: 1 });
  await t.advance('3 days');
  await t.advance(1_000);
  await t.setTime(new Date());
  await t.drain();
  same<typeof t.now, Date>();
  const [first] = t.submitted;
  if (first !== undefined) same<typeof first.options.delay, number | undefined>();
  // @ts-expect-error: no such unit
  await t.advance({ months: 1 });
}
const makeShop = async () => {
  const app = new App();
  return { app, double: app.task('double', (n: number) => n * 2) };
};
void withTesting(makeShop, async (t, { double }) => {
  same<typeof t, Testing>();
  const { handle } = t.submitted[0]!;
  same<typeof handle, TaskHandle>();
  same<typeof double, Task<number, number>>();
});
void withTesting(app, { seed: 1 }, (t, own) => same<typeof own, App>());
void withTesting(() => new App(), (t, own) => same<typeof own, App>());
// @ts-expect-error: it has no app
void withTesting(() => ({ shop: 1 }), () => {});
same<ReturnType<typeof failures>, string>();

// Errors.
try {
  await handle.result();
} catch (error) {
  if (error instanceof TaskFailed) same<(typeof error.errors)[number]['at'], Date>();
  if (error instanceof TaskloomError) same<typeof error.hint, string | undefined>();
}
throw Math.random() < 0.5 ? new RetryAfter('30s') : new PermanentError('no such account');
