// Measures the npm package beside its peers, in one run, and says whether the floors are reached.
//
//   node run.mjs             a table, and exit code 1 if a floor is missed
//   node run.mjs --write     writes the Node part of docs/benchmarks.md, too
//   node run.mjs --json      the figures as JSON, too
//   node run.mjs --quick     fewer of everything: to see that it runs
//
// The contenders take turns within each round, so that whatever else the machine does meets all of them. A figure is
// the median of the rounds, a ratio the median of the rounds' ratios. Only ratios mean anything across machines.
// `ceiling.mjs` says what of a task's cost is JavaScript's own promises and JSON, and what could be saved at most.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { outbox } from './outbox.mjs';
import { PAYLOAD } from './payload.mjs';
import { CONTENDERS } from './peers.mjs';
import { median, ratio, text, writePage } from './report.mjs';
import { times } from './times.mjs';

const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 2 : 7;
const TASKS = quick ? 5_000 : 50_000;
const LONE = quick ? 200 : 2_000;
const PENDING = quick ? 20_000 : 200_000;
const OUTBOX = quick ? { rounds: 1, rows: 5_000, commits: 10 } : { rounds: 3, rows: 50_000, commits: 200 };

/** How many are under way at once. The floors are those of the ten thousand; it is as many ended tasks as an app keeps. */
const UNDER_WAY = { '1,000': 1_000, '10,000': 10_000, all: TASKS };

/**
 * Tasks a second: so many are submitted, then all of these awaited, then the next ones.
 *
 * With fewer under way it is the contenders that are measured. With all of them V8's collector is, as much: it moves
 * every handle and every promise out of its young generation while the main thread waits, see `ceiling.mjs`.
 */
async function throughput(contender, kind, input, underWay) {
  const start = performance.now();
  for (let left = TASKS; left > 0; left -= underWay) {
    const count = Math.min(underWay, left);
    if (contender.all === undefined) await Promise.all(times(count, () => contender.run(kind, input)));
    else await contender.all(kind, input, count);
  }
  return TASKS / ((performance.now() - start) / 1e3);
}

/** Microseconds of one submit and its result, on an otherwise idle process: the median. */
async function latency(contender) {
  const spans = [];
  for (let one = 0; one < LONE; one += 1) {
    const start = performance.now();
    await contender.run('noop', one);
    spans.push((performance.now() - start) * 1e3);
  }
  return median(spans);
}

const NO_OPS = '50,000 no-ops';
const JSON_TASKS = '130-byte JSON in and out';

/** What is measured of so many tasks, in each number that may be under way. */
const throughputs = (what, kind, input) =>
  Object.entries(UNDER_WAY).map(([many, count]) => [
    `${what}, ${many} under way, tasks/s`,
    (contender) => throughput(contender, kind, input, count),
  ]);

const MEASURES = Object.fromEntries([
  ...throughputs(NO_OPS, 'noop', 1),
  ...throughputs(JSON_TASKS, 'echo', PAYLOAD),
  ['one submit and result, µs', latency],
]);

/** measure, peer, what the ratio of taskloom to the peer must be, in which form. */
const FLOORS = [
  ...['taskloom', 'taskloom, submitMany'].flatMap((form) => [
    [`${NO_OPS}, 10,000 under way, tasks/s`, 'piscina', 'at least', 12, form],
    [`${NO_OPS}, 10,000 under way, tasks/s`, 'fastq.promise', 'at least', 0.5, form],
  ]),
  ...Object.keys(UNDER_WAY).map((many) => [`${JSON_TASKS}, ${many} under way, tasks/s`, 'piscina', 'at least', 4]),
  ['one submit and result, µs', 'piscina', 'at most', 0.5],
];
const MOST_BYTES = 1_200;

const contenders = {};
for (const [name, make] of Object.entries(CONTENDERS)) contenders[name] = await make();
const figures = Object.fromEntries(
  Object.keys(MEASURES).map((measure) => [measure, Object.fromEntries(Object.keys(contenders).map((name) => [name, []]))]),
);
for (const [measure, take] of Object.entries(MEASURES)) {
  // One round to warm up, which does not count.
  for (let round = -1; round < ROUNDS; round += 1) {
    for (const [name, contender] of Object.entries(contenders)) {
      const figure = await take(contender);
      if (round >= 0) figures[measure][name].push(figure);
    }
  }
}
for (const contender of Object.values(contenders)) await contender.close();

const pending = JSON.parse(
  execFileSync(process.execPath, ['--expose-gc', fileURLToPath(new URL('pending.mjs', import.meta.url)), String(PENDING)], {
    encoding: 'utf8',
  }),
);

const relays = await outbox(OUTBOX);
Object.assign(figures, relays.figures);

const small = pending.bytes <= MOST_BYTES;
const floors = [
  ...FLOORS.map(([measure, peer, which, bound, form = 'taskloom']) => {
    const is = ratio(figures, measure, peer, form);
    return {
      what: `${form}: ${measure}, beside ${peer}`,
      bound: `${which === 'at least' ? '≥' : '≤'} ${bound}×`,
      is: `${is.toFixed(2)}×`,
      reached: which === 'at least' ? is >= bound : is <= bound,
    };
  }),
  {
    what: `bytes per pending task, 100-byte payload, ${pending.count.toLocaleString('en-US')} tasks: heap and native`,
    bound: `≤ ${MOST_BYTES.toLocaleString('en-US')}`,
    is: pending.bytes.toFixed(0),
    reached: small,
  },
  ...relays.floors,
];
console.log(text(figures, floors, ROUNDS));
if (process.argv.includes('--write')) writePage(figures, floors, ROUNDS);
if (process.argv.includes('--json')) console.log(JSON.stringify({ figures, pending }));
process.exitCode = floors.every((each) => each.reached) || quick ? 0 : 1;
