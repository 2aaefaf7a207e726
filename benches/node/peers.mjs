// Those who are measured: each does the same work, a no-op or an echo, behind the same form. A contender has
// `run(kind, input)`, which resolves with the result, and `close()`; and `all(kind, input, count)` if one writes that
// another way for many at once.
import { fileURLToPath } from 'node:url';

import fastq from 'fastq';
import PQueue from 'p-queue';
import { Piscina } from 'piscina';

import { App } from '../../node/index.mjs';
import { times } from './times.mjs';

/** How many each may have in flight. */
const IN_FLIGHT = 64;

const HANDLERS = { noop: () => null, echo: (input) => input };

/** A started app, and its tasks by what they do. */
async function started() {
  const app = new App();
  const tasks = Object.fromEntries(Object.entries(HANDLERS).map(([kind, run]) => [kind, app.task(kind, run)]));
  await app.start();
  return [app, tasks];
}

export const CONTENDERS = {
  async taskloom() {
    const [app, tasks] = await started();
    return {
      run: async (kind, input) => (await tasks[kind].submit(input)).result(),
      // First all submits, then all results.
      all: async (kind, input, count) => {
        const handles = await Promise.all(times(count, () => tasks[kind].submit(input)));
        return await Promise.all(handles.map((handle) => handle.result()));
      },
      close: () => app.stop(),
    };
  },

  // The same with an async function around each task, whose promise and state are kept until it ends.
  async 'taskloom, each'() {
    const { run, close } = await CONTENDERS.taskloom();
    return { run, close };
  },

  // The same in one call for all of them.
  async 'taskloom, submitMany'() {
    const [app, tasks] = await started();
    const all = async (kind, input, count) => {
      const handles = await tasks[kind].submitMany(times(count, () => input));
      return await Promise.all(handles.map((handle) => handle.result()));
    };
    return { run: async (kind, input) => (await all(kind, input, 1))[0], all, close: () => app.stop() };
  },

  async piscina() {
    const filename = fileURLToPath(new URL('piscina_worker.mjs', import.meta.url));
    const pool = new Piscina({ filename, minThreads: 1, maxThreads: 1, concurrentTasksPerWorker: IN_FLIGHT });
    return { run: (kind, input) => pool.run(input, { name: kind }), close: () => pool.destroy() };
  },

  async 'fastq.promise'() {
    const queue = fastq.promise(async ([kind, input]) => HANDLERS[kind](input), IN_FLIGHT);
    return { run: (kind, input) => queue.push([kind, input]), close: async () => {} };
  },

  async 'p-queue'() {
    const queue = new PQueue({ concurrency: IN_FLIGHT });
    return { run: (kind, input) => queue.add(async () => HANDLERS[kind](input)), close: async () => {} };
  },

  async 'Promise.all'() {
    return { run: async (kind, input) => HANDLERS[kind](input), close: async () => {} };
  },

  async setImmediate() {
    return {
      run: (kind, input) => new Promise((resolve) => setImmediate(() => resolve(HANDLERS[kind](input)))),
      close: async () => {},
    };
  },
};
