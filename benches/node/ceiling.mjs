// What a task costs the thread that JavaScript runs on, beside what it would cost if the native half were free.
//
//   node ceiling.mjs         a table: microseconds of the main thread's processor time for each task, and by the clock
//   node ceiling.mjs --quick fewer of everything: to see that it runs
//   node ceiling.mjs --under-way=1000
//                            so many are submitted, then awaited, then the next ones; all at once if it is not said
//
// Processor time hardly moves with what else the machine does, and the main thread is what every contender here waits for.
// (Linux only: it is read from /proc.) piscina's worker has a thread of its own, whose time is not in its figure. By the
// clock there is what the main thread waits for besides, above all the collector, whose threads share its work: that
// counts in `run.mjs`, and is to be trusted on a quiet machine only. Each contender has a process of its own, so that none
// pays for another's heap; they take turns.
//
// The floors do for each task what the package's form asks for, and nothing else:
//   no engine        all of the package's own JavaScript, over a native half that only answers (`no_engine.mjs`): what a
//                    perfect engine behind perfect crossings would leave
//   two promises     a handle, a promise for the submit, a promise for the result: submit all, then await all
//   one promise      as `piscina.run` has it: no handle
//   …, JSON          the same with `JSON.stringify` and `JSON.parse` of the input and of the result
// The last two kinds are plain JavaScript without the package, and run what they were given in batches.
//
// # What came of it
// Node 20, two cores that were loaded with far more than they can do; no-ops, nine rounds, two runs. The main thread's
// processor in microseconds, and what piscina takes in its place; then the same by the clock, where only ratios mean
// anything under such a load:
//
//                   processor, µs     piscina needs     by the clock
//   taskloom         1.70   2.33       8.1×    6.5×      6.7×    3.3×
//   no engine        0.88   1.09      16.8×   13.6×      7.2×    7.6×
//   fastq.promise    1.36   1.61      10.7×   10.4×      4.9×    4.9×
//   two promises     0.55   0.62      27.5×   24.4×     13.3×   10.1×
//   piscina         13.86  16.26
//
// By the clock twelve times piscina is what the bare promises of this form come to, without a queue, a task or the package.
// A perfect engine behind the package's JavaScript stayed below eight. What is between processor and clock is the collector:
// submit all, then await all keeps every handle and promise alive until the end, so four scavenges of V8's young generation
// copy nearly all of 16 MB each, about 8 ms at a time, for which the main thread waits. With a young generation of 128 MB
// (`--max-semi-space-size=128 --min-semi-space-size=128`) the best round by the clock went from 2.0 to 1.4 µs for taskloom,
// and from 0.8 to 0.3 for two promises. That is a flag of the program, and not a library's to set.
//
// Where the processor time of the main thread goes, by `perf record -F 3000 -g node --perf-basic-prof`, of 1.3 µs, before
// attempts were counted a batch at a time:
//   0.48 native code    0.23 its allocator, and copying     0.18 the collector    0.17 V8's promises and microtasks
//   0.10 the package's JavaScript     0.12 the rest of Node, and the kernel
// No part of the native code is more than a twentieth of it. Besides, the thread that forgets ended tasks takes 0.13 µs
// for each, and V8's own threads half as much as the main one.
//
// With a payload V8's own JSON would be more than all of a task: that is why `node/src/plain.ts` writes and copies by itself.
//
// # What was tried since
// mimalloc as the addon's allocator, in its version 2: with a thousand under way a third more tasks a second in one run, and
// half as many more in another. The thread that forgets ended tasks frees what the main thread has allocated; with the
// system's allocator the main thread waited for it there, a tenth of its time. It is what the package has now.
//
// That the main thread forgets them itself: a third slower. The last ten thousand that have ended are more than its caches
// hold, and to forget one is to fetch it.
//
// Since then the native half takes half of what it took, which was 1.5 of 2.2 µs on the machine where that was measured.
// By the samples of a profile, an atomic instruction takes 8 ns and a task had some fifty; now it has some twenty. What
// brought it, each some 20 to 150 ns: tasks go through a lock for each lot on their way to a loop, and out of it, and not
// through lock-free queues one by one; an attempt is noted in a list in the moment of its claim, and not in a hash table
// after it; handles, handlers and notes are not counted for each task; payloads and results of up to seven bytes, and the note
// of where JavaScript waits, lie in the task; the memory of forgotten tasks comes back in lots, of which the addresses are
// known (an allocator's list has to be walked, through memory that another core has written); and the thread that forgets is
// woken eight times less often. What is left has no large part any more.
//
// Then two allocations and two frees for each task were found that nothing asked for (a completion that was dropped after its
// end made the words of an error first; `core/engine/tests/allocations.rs` counts them now), and four atomic instructions:
// a task's end takes no lock unless somebody has left word for it (`taskloom_sync::Ending`), and a slot of JavaScript's holds
// no task. Together 7 % of the main thread's time with ten thousand under way in one series, 15 % in another. `submitMany` went through strings until then;
// now its inputs are bytes from the first, a quarter less.
//
// Nothing came of leaving out the weak references by which ended tasks stand in line, nor of linking all as one piece (`lto =
// "fat"`), nor of fields that classes do not define before they set them.
//
// Nothing that could be told from chance came of ids that are told by the crossing and not by the task, so that no handle is
// touched when its submit is heard of, with starts of five words and not ten; and of fewer handlers started in one crossing
// (64 to 512 in the place of 1,000), for the processor's caches.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { PAYLOAD } from './payload.mjs';
import { median } from './report.mjs';
import { times } from './times.mjs';

const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 2 : 9;
const TASKS = quick ? 5_000 : 50_000;
const UNDER_WAY = Number(process.argv.find((argument) => argument.startsWith('--under-way='))?.slice('--under-way='.length) ?? TASKS);
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
      const handles = await Promise.all(times(count, () => submit(kind, input)));
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

/** A contender of `peers.mjs`. */
const peer = (name) => async () => (await import('./peers.mjs')).CONTENDERS[name]();

const contenders = {
  taskloom: peer('taskloom'),
  'no engine': async () => {
    await import('./no_engine.mjs');
    return peer('taskloom')();
  },
  piscina: peer('piscina'),
  'fastq.promise': peer('fastq.promise'),
  'two promises': () => twoPromises(asItIs),
  'two promises, JSON': () => twoPromises(asJson),
  'one promise': () => onePromise(asItIs),
  'one promise, JSON': () => onePromise(asJson),
};

/** Nanoseconds that the main thread has run. */
function ran() {
  return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]);
}

/** In a contender's own process: one round whenever it is asked for. */
async function contend(name) {
  const { all, run } = await contenders[name]();
  process.on('message', async (kind) => {
    const input = kind === 'noop' ? 1 : PAYLOAD;
    const [before, start] = [ran(), performance.now()];
    for (let left = TASKS; left > 0; left -= UNDER_WAY) {
      const count = Math.min(UNDER_WAY, left);
      if (all === undefined) await Promise.all(times(count, () => run(kind, input)));
      else await all(kind, input, count);
    }
    const clock = ((performance.now() - start) * 1e3) / TASKS;
    process.send({ clock, processor: (ran() - before) / TASKS / 1e3 });
  });
  process.send('ready');
}

async function compare() {
  const processes = {};
  for (const name of Object.keys(contenders)) {
    processes[name] = fork(fileURLToPath(import.meta.url), [`--contender=${name}`, ...process.argv.slice(2)]);
    await once(processes[name], 'message');
  }
  for (const kind of ['noop', 'echo']) {
    const spent = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
    // One round to warm up, which does not count.
    for (let round = -1; round < ROUNDS; round += 1) {
      for (const [name, child] of Object.entries(processes)) {
        child.send(kind);
        const [took] = await once(child, 'message');
        if (round >= 0) spent[name].push(took);
      }
    }
    console.log(`${kind === 'noop' ? 'no-ops' : '130-byte JSON in and out'}, µs for each: the main thread's processor; by the clock`);
    for (const [name, rounds] of Object.entries(spent)) {
      const columns = ['processor', 'clock'].map((what) => {
        const beside = median(rounds.map((took, round) => spent.piscina[round][what] / took[what]));
        const least = Math.min(...rounds.map((took) => took[what]));
        return `${median(rounds.map((took) => took[what])).toFixed(2).padStart(7)} (from ${least.toFixed(2)}; piscina needs ${beside.toFixed(1)}×)`;
      });
      console.log(`  ${name.padEnd(20)} ${columns.join('   ')}`);
    }
  }
  for (const child of Object.values(processes)) child.kill();
}

const contender = process.argv.find((argument) => argument.startsWith('--contender='));
if (contender === undefined) await compare();
else await contend(contender.slice('--contender='.length));
