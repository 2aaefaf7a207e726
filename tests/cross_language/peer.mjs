// The JavaScript process of the tests in this folder; `peers.py` has the protocol that all of them speak.
import { open } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// The packed package is installed where its own tests are.
const { App, PermanentError, RetryAfter, TaskloomError } = createRequire(
  new URL('../node/package.json', import.meta.url),
)('taskloom');

const PATIENCE = 60_000;
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

class Refused extends PermanentError {}

// ── handlers ────────────────────────────────────────────────────────────────────────────────────────────────────────

const handlers = {
  echo: ({ text, number, list }) => ({ by: 'node', text, number, list }),

  fail: ({ message }) => {
    throw new Refused(message);
  },

  /** Fails the first time, and goes on from its checkpoint the second time. */
  steady: async (_, ctx) => {
    const found = await ctx.loadCheckpoint();
    if (found !== undefined) {
      ctx.log.info('second by node');
      return { by: 'node', checkpoint: found, attempt: ctx.task.attempt };
    }
    say({ told: 'began' });
    ctx.progress(0.5, 'half by node');
    ctx.log.info('first by node');
    await ctx.saveCheckpoint({ by: 'node', seen: [1, 2] });
    throw new RetryAfter('1h', { message: 'not yet' });
  },

  parent: async ({ child, input }, ctx) => {
    const handle = await ctx.submit(child, input);
    return { by: 'node', child: await handle.result({ timeout: PATIENCE }) };
  },

  endless: async (_, ctx) => {
    say({ told: 'began' });
    await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
    say({ told: 'cancelled' });
  },

  /** Says in a file that it begins and that it ends. */
  slot: async ({ path }) => {
    const file = await open(path, 'a');
    await file.write('begin node\n');
    await file.sync();
    await file.write('end node\n');
    await file.close();
  },
};

// ── what it is asked ────────────────────────────────────────────────────────────────────────────────────────────────

const app = new App({ store: process.argv[2] });

const asked = {
  serve: async ({ names }) => {
    for (const name of names) app.task(name, handlers[name]);
    await app.start();
  },

  stop: () => app.stop(),

  submit: async ({ name, input, options }) => {
    const { unique_key: uniqueKey, on_conflict: onConflict, delay, ...rest } = options;
    const own = { ...rest, uniqueKey, onConflict, delay: delay === undefined ? undefined : delay * 1000 };
    for (const key of Object.keys(own)) if (own[key] === undefined) delete own[key];
    return (await app.submit(name, input, own)).id;
  },

  wait: async ({ id }) => {
    const handle = await app.get(id);
    await new Promise((resolve) => handle.onDone(resolve));
    const info = await handle.info();
    return {
      state: info.state,
      result: info.state === 'succeeded' ? ((await handle.result()) ?? null) : null,
      attempt: info.attempt,
      reason: info.reason ?? null,
      errors: info.errors.map(({ type, message }) => [type, message]),
      progress: info.progress ? [info.progress.value, info.progress.message] : null,
      log: info.log.map(({ level, message }) => [level, message]),
    };
  },

  cancel: async ({ id }) => (await app.cancel({ id, reason: 'by node' })) === 1,

  run_now: async ({ id }) => (await app.runNow(id)).id,

  schedule: async ({ name, input }) => {
    app.every('1h', { name: 'hourly', input }, app.task(name, handlers[name]));
    // Starting writes it down. Then it leaves, and what the schedule submits is for others.
    await app.start();
    await app.stop();
  },

  trigger: async ({ name }) => (await app.schedules.trigger(name)).id,

  list: async ({ name }) => (await app.list({ name })).map(({ id }) => id),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { ask, ...rest } = JSON.parse(line);
  try {
    say({ answer: (await asked[ask](rest)) ?? null });
  } catch (error) {
    if (!(error instanceof TaskloomError)) throw error;
    say({ error: error.code, message: error.message });
  }
}
await app.stop({ timeout: 0 });
