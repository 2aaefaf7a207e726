// What TypeScript users get: this file is compiled, strictly, and not run.
import * as v from 'valibot';
import { z } from 'zod';

import { App, type Context, PermanentError, RetryAfter, type Task, TaskFailed, type TaskHandle, TaskloomError } from 'taskloom';

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

// valibot.
const withValibot = app.task('valibot', { schema: v.object({ n: v.number() }) }, async ({ n }) => n * 2);
same<typeof withValibot, Task<{ n: number }, number>>();
// @ts-expect-error: n is a number
await withValibot.submit({ n: '7' });

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
  const saved = await ctx.loadCheckpoint({ page: 0 });
  same<typeof saved, { page: number } | undefined>();
});

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

// Errors.
try {
  await handle.result();
} catch (error) {
  if (error instanceof TaskFailed) same<(typeof error.errors)[number]['at'], Date>();
  if (error instanceof TaskloomError) same<typeof error.hint, string | undefined>();
}
throw Math.random() < 0.5 ? new RetryAfter('30s') : new PermanentError('no such account');
