// Measures the npm package beside its peers, in one run, and says whether the floors are reached.
//
//   node run.mjs             a table, and exit code 1 if a floor is missed
//   node run.mjs --json      the figures as JSON, too
//   node run.mjs --quick     fewer of everything: to see that it runs
//
// The contenders take turns within each round, so that whatever else the machine does meets all of them. A figure is
// the median of the rounds, a ratio the median of the rounds' ratios. Only ratios mean anything across machines.
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

import { CONTENDERS } from './peers.mjs';

const quick = process.argv.includes('--quick');
const ROUNDS = quick ? 2 : 7;
const TASKS = quick ? 5_000 : 50_000;
const LONE = quick ? 200 : 2_000;
const PENDING = quick ? 20_000 : 200_000;

/** About 130 bytes of JSON. */
const PAYLOAD = {
  id: 123456,
  name: 'a name of a thing',
  tags: ['alpha', 'beta', 'gamma'],
  ok: true,
  ratio: 0.12345,
  text: 'x'.repeat(26),
};

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Tasks a second: all are submitted, then all awaited. */
async function throughput(contender, kind, input) {
  const start = performance.now();
  if (contender.all === undefined) await Promise.all(Array.from({ length: TASKS }, () => contender.run(kind, input)));
  else await contender.all(kind, input, TASKS);
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

const MEASURES = {
  'no-ops, tasks/s': (contender) => throughput(contender, 'noop', 1),
  '130-byte JSON in and out, tasks/s': (contender) => throughput(contender, 'echo', PAYLOAD),
  'one submit and result, µs': latency,
};

/** measure, peer, what the ratio of taskloom to the peer must be. */
const FLOORS = [
  ['no-ops, tasks/s', 'piscina', 'at least', 12],
  ['no-ops, tasks/s', 'fastq.promise', 'at least', 0.5],
  ['130-byte JSON in and out, tasks/s', 'piscina', 'at least', 4],
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

console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}; ${ROUNDS} rounds\n`);
for (const [measure, all] of Object.entries(figures)) {
  console.log(`${measure}`);
  for (const [name, values] of Object.entries(all)) {
    const ratio = median(values.map((value, round) => all.taskloom[round] / value));
    const spread = `${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)}`;
    console.log(`  ${name.padEnd(14)} ${median(values).toFixed(1).padStart(12)}  (${spread}); taskloom is ${ratio.toFixed(2)}×`);
  }
}
console.log(`bytes per pending task, 100-byte payload, ${pending.count} tasks: ${pending.bytes.toFixed(0)}\n`);

let missed = 0;
for (const [measure, peer, which, bound] of FLOORS) {
  const ratio = median(figures[measure][peer].map((value, round) => figures[measure].taskloom[round] / value));
  const reached = which === 'at least' ? ratio >= bound : ratio <= bound;
  missed += reached ? 0 : 1;
  console.log(`${reached ? 'reached' : 'MISSED '}  ${measure}: ${ratio.toFixed(2)}× ${peer}, wanted ${which} ${bound}×`);
}
const small = pending.bytes <= MOST_BYTES;
missed += small ? 0 : 1;
console.log(`${small ? 'reached' : 'MISSED '}  ${pending.bytes.toFixed(0)} bytes per pending task, wanted at most ${MOST_BYTES}`);
if (process.argv.includes('--json')) console.log(JSON.stringify({ figures, pending }));
process.exitCode = missed > 0 && !quick ? 1 : 0;
