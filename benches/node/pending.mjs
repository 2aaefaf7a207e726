// How much memory pending tasks take, heap and native together: a process of its own, which prints bytes per task.
import { App } from '../../node/index.mjs';
import { times } from './times.mjs';

const COUNT = Number(process.argv[2] ?? 200_000);
const app = new App();
const job = app.task('job', () => null);
const payload = { text: 'x'.repeat(100 - '{"text":""}'.length) };

// Whatever the first thousand bring along is not the tasks' own.
const kept = [...(await job.submitMany(times(1_000, () => payload)))];
globalThis.gc();
const before = process.memoryUsage.rss();
for (let place = 0; place < COUNT; place += 1_000) {
  kept.push(...(await Promise.all(times(1_000, () => job.submit(payload)))));
}
globalThis.gc();
const after = process.memoryUsage.rss();
console.log(JSON.stringify({ count: COUNT, held: kept.length, bytes: (after - before) / COUNT }));
process.exit(0);
