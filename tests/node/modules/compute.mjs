// Handlers that run in threads, in tests of those.
import { existsSync, writeFileSync } from 'node:fs';
import { isMainThread, threadId } from 'node:worker_threads';

import { PermanentError, RetryAfter, currentContext } from 'taskloom';

export default function double(n) {
  return n * 2;
}

export const where = () => ({ isMainThread, threadId });

/** Works until it is ended; `attempts` is how many of its attempts do. */
export function spin(input, ctx) {
  if (ctx.task.attempt > (input?.attempts ?? Infinity)) return ctx.task.attempt;
  ctx.progress(0.5, 'spins');
  for (;;);
}

/** Ends only together with the one whose input is the other way round. */
export function meet([mine, other]) {
  writeFileSync(mine, '');
  while (!existsSync(other));
  return threadId;
}

let inside = 0;
export async function alone() {
  inside += 1;
  await new Promise((resolve) => setImmediate(resolve));
  const seen = inside;
  inside -= 1;
  return seen;
}

/** Dies, in one way or another; `attempts` is in how many of its attempts. */
export async function die({ how, attempts = Infinity }, ctx) {
  if (ctx.task.attempt > attempts) return ctx.task.attempt;
  if (how === 'exit') process.exit(3);
  if (how === 'memory') for (const all = []; ; ) all.push(new Array(1e5).fill({}));
  setImmediate(() => {
    throw new RangeError('outside of everything');
  });
  return await new Promise(() => {});
}

export async function tell(input, ctx) {
  await null;
  const { task } = currentContext();
  ctx.progress(0.25, 'a quarter');
  ctx.log.info(`attempt ${task.attempt}`);
  const saved = await ctx.loadCheckpoint({ page: 0 });
  await ctx.saveCheckpoint({ page: saved.page + 1 });
  if (task.attempt === 1) throw new RetryAfter(1);
  const child = await ctx.submit('here', input);
  ctx.resultMetadata.thread = threadId > 0;
  ctx.publish('tell.done', { page: saved.page });
  return { child: await child.result(), page: saved.page, id: task.id, tags: task.tags, aborted: ctx.signal.aborted };
}

/** The sum of what its children say, which are of its own kind, and they of theirs. */
export async function tree(depth, ctx) {
  if (depth === 0) return 1;
  const children = [await ctx.submit('tree', depth - 1), await ctx.submit('tree', depth - 1)];
  const counts = await Promise.all(children.map((child) => child.result()));
  return counts[0] + counts[1];
}

export function far() {
  throw new RangeError('too far');
}

export function never() {
  throw new PermanentError('no such account');
}

export const notAFunction = 7;
