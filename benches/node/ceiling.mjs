// What a task costs the thread that JavaScript runs on, beside what it would cost if the native half were free.
//
//   node ceiling.mjs         a table: microseconds of the main thread's processor time for each task
//   node ceiling.mjs --quick fewer of everything: to see that it runs
//
// Processor time and not time by the clock: it hardly moves with what else the machine does, and the main thread is what
// every contender here waits for. (Linux only: it is read from /proc.) piscina's worker has a thread of its own, whose time
// is not in its figure.
//
// The floors, all in plain JavaScript, do for each task what the package's form asks for and nothing else; they run
// what they were given in batches:
//   two promises     a handle, a promise for the submit, a promise for the result: submit all, then await all
//   one promise      as `piscina.run` has it: no handle
//   …, JSON          the same with `JSON.stringify` and `JSON.parse` of the input and of the result
//
// # What came of it
// Node 20, two cores that others used too; medians of nine rounds, in microseconds:
//
//                        no-ops   130-byte JSON in and out
//   taskloom               1.77      3.69
//   piscina               12.37     13.81
//   fastq.promise          1.13      1.33
//   two promises           0.46      0.53
//   two promises, JSON     0.89      4.35
//   one promise            0.31      0.43
//   one promise, JSON      0.59      4.10
//
// So promises and handles are a quarter of what a no-op costs, and V8's own JSON would be more than all of a task with a
// payload: that is why `node/src/plain.ts` writes and copies by itself. By a profile, half of a no-op is the engine, with
// the allocator under it, a seventh the collector, and a fourteenth the package's own JavaScript. Twelve times piscina
// would leave the native half no more than a third of what it takes now, and that is mostly the engine's own path from
// submit to outcome: cheaper crossings alone do not get there.
//
// # What was tried and brought nothing
// mimalloc as the addon's allocator: its version 3 saved 6 %, and crashes where a worker thread is the first to load the
// addon and ends; its version 2 saved nothing. Ids that are told by the crossing and not by the task, so that no handle is
// touched when its submit is heard of, with starts of five words and not ten: nothing that could be told from chance.
import { readFileSync } from 'node:fs';

import { PAYLOAD } from './payload.mjs';
import { CONTENDERS } from './peers.mjs';
import { median } from './report.mjs';

const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 2 : 9;
const TASKS = quick ? 5_000 : 50_000;
const HANDLERS = { noop: () => null, echo: (input) => input };

let resolveLast;
const keepResolve = (resolve) => {
  resolveLast = resolve;
};

/** What runs tasks in batches, one for each turn of the loop. */
function batches(run) {
  let waiting = [];
  const drain = () => {
    const batch = waiting;
    waiting = [];
    batch.forEach(run);
  };
  return (task) => {
    if (waiting.push(task) === 1) setImmediate(drain);
  };
}

const asItIs = { say: (value) => value, hear: (said) => said };
const asJson = { say: JSON.stringify, hear: JSON.parse };

class Handle {
  constructor(kind, input) {
    this.kind = kind;
    this.value = input;
    this.isDone = false;
    this.resolve = undefined;
  }

  result() {
    if (this.isDone) return Promise.resolve(this.value);
    const promise = new Promise(keepResolve);
    this.resolve = resolveLast;
    return promise;
  }
}

function twoPromises({ say, hear }) {
  const push = batches((handle) => {
    handle.value = hear(say(HANDLERS[handle.kind](hear(handle.value))));
    handle.isDone = true;
    handle.resolve?.(handle.value);
  });
  const submit = (kind, input) => {
    const handle = new Handle(kind, say(input));
    push(handle);
    return Promise.resolve(handle);
  };
  return {
    all: async (kind, input, count) => {
      const handles = await Promise.all(Array.from({ length: count }, () => submit(kind, input)));
      return await Promise.all(handles.map((handle) => handle.result()));
    },
    close: async () => {},
  };
}

function onePromise({ say, hear }) {
  const push = batches(({ resolve, kind, said }) => resolve(hear(say(HANDLERS[kind](hear(said))))));
  return {
    run: (kind, input) => {
      const promise = new Promise(keepResolve);
      push({ resolve: resolveLast, kind, said: say(input) });
      return promise;
    },
    close: async () => {},
  };
}

const contenders = {
  taskloom: await CONTENDERS.taskloom(),
  piscina: await CONTENDERS.piscina(),
  'fastq.promise': await CONTENDERS['fastq.promise'](),
  'two promises': twoPromises(asItIs),
  'two promises, JSON': twoPromises(asJson),
  'one promise': onePromise(asItIs),
  'one promise, JSON': onePromise(asJson),
};

/** Nanoseconds that the main thread has run. */
function ran() {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]);
}

for (const [kind, input] of [['noop', 1], ['echo', PAYLOAD]]) {
  const spent = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  // One round to warm up, which does not count.
  for (let round = -1; round < ROUNDS; round += 1) {
    for (const [name, { all, run }] of Object.entries(contenders)) {
      const start = ran();
      if (all === undefined) await Promise.all(Array.from({ length: TASKS }, () => run(kind, input)));
      else await all(kind, input, TASKS);
      if (round >= 0) spent[name].push((ran() - start) / TASKS / 1e3);
    }
  }
  console.log(kind === 'noop' ? 'no-ops, µs of the main thread' : '130-byte JSON in and out, µs of the main thread');
  for (const [name, values] of Object.entries(spent)) {
    const ratio = median(values.map((value, round) => spent.taskloom[round] / value));
    console.log(`  ${name.padEnd(20)} ${median(values).toFixed(2).padStart(8)}  (from ${Math.min(...values).toFixed(2)}); taskloom needs ${ratio.toFixed(2)}× as much`);
  }
}
for (const { close } of Object.values(contenders)) await close();
