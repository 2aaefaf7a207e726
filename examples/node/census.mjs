/*
A census of source code: every .js file of an npm tree is a task.

    node census.mjs                            in memory
    node census.mjs --store sqlite:census.db   on a file
    node census.mjs --root ~/src/project       another tree than npm's own
    node census.mjs --threads 4 --limit 200

A task parses one file with acorn and counts what is in it, in a thread. Reading is made to fail on purpose now and then,
and is tried again; once a whole thread dies, and another takes its place. Files that are not valid JavaScript fail for
good. As soon as all files of a directory are done, one more task adds them up. At the end everything is counted once more
in a plain loop, and the two must agree.
*/
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';

import { App, TaskFailed } from 'taskloom';

import { NOTHING, add, countFile } from './count.mjs';

const ROWS = 15;
const TOP = '(top)'; // stands for the root itself in the table

/** npm itself, which is a tree of packages wherever there is Node. */
function npmTree() {
  const beside = join(dirname(realpathSync(process.execPath)), '..', 'lib', 'node_modules', 'npm');
  if (existsSync(beside)) return beside;
  const isWindows = process.platform === 'win32';
  return join(execFileSync(isWindows ? 'npm.cmd' : 'npm', ['root', '-g'], { encoding: 'utf8', shell: isWindows }).trim(), 'npm');
}

/** Paths below the root, in a stable order. */
function javaScriptFiles(root) {
  const found = readdirSync(root, { recursive: true, withFileTypes: true });
  return found
    .filter((entry) => entry.isFile() && /\.[cm]?js$/.test(entry.name))
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(root.length + 1))
    .sort();
}

/** The package that a file belongs to. */
function directoryOf(path) {
  const parts = path.split(sep);
  const place = parts.lastIndexOf('node_modules');
  if (place >= 0) return parts[place + 1].startsWith('@') ? parts.slice(place + 1, place + 3).join('/') : parts[place + 1];
  return parts.length > 1 ? parts[0] : TOP;
}

async function countByTasks(root, paths, { store, threads }) {
  const app = new App({ store, threads });
  const count = app.task('count', { thread: true, module: new URL('./count.mjs', import.meta.url), retries: 3, retry: { base: 10, cap: 100 } });
  const summarise = app.task('summarise', (counts) => counts.reduce(add, NOTHING));

  const start = performance.now();
  const middle = paths.length >> 1;
  const input = (path, place) => ({ root, path, trouble: place === middle ? 'exit' : place % 10 === 3 ? 'error' : undefined });
  const handles = await count.submitMany(paths.map(input));
  const census = { directories: {}, failures: {} };
  const counted = new Map();
  const left = new Map();
  for (const path of paths) left.set(directoryOf(path), (left.get(directoryOf(path)) ?? 0) + 1);
  const summaries = new Map();
  let done = 0;
  let shown = 0;
  await app.start();
  await Promise.all(
    handles.map(async (handle, place) => {
      const path = paths[place];
      const directory = directoryOf(path);
      if (!counted.has(directory)) counted.set(directory, []);
      try {
        counted.get(directory).push(await handle.result());
      } catch (error) {
        if (!(error instanceof TaskFailed)) throw error;
        census.failures[path] = error.errors.at(-1).message;
      }
      done += 1;
      const tenth = Math.floor((10 * done) / paths.length);
      if (tenth > shown) console.log(`${String(done).padStart(5)}/${paths.length} files, ${Object.keys(census.failures).length} failed`);
      shown = tenth;
      left.set(directory, left.get(directory) - 1);
      // `high`: what is nearly finished goes before what has not begun.
      if (left.get(directory) === 0) summaries.set(directory, await summarise.submit(counted.get(directory), { priority: 'high' }));
    }),
  );
  for (const [directory, summary] of summaries) census.directories[directory] = await summary.result();
  const seconds = (performance.now() - start) / 1000;
  const infos = await Promise.all(handles.map((handle) => handle.info()));
  await app.stop();

  const total = handles.length + summaries.size;
  const again = infos.filter((info) => info.failures > 0 && info.state === 'succeeded').length;
  const lost = infos.reduce((sum, info) => sum + info.crashes, 0);
  console.log(`\ntasks      ${total}, one for each file and directory, in ${seconds.toFixed(2)} s`);
  console.log(`threads    ${lost} died with its task in hand, on purpose, and another took its place`);
  console.log(`retries    ${again} reads failed at the first attempt, on purpose, and were tried again`);
  if (lost !== 1) throw new Error(`${lost} threads died, and it should be one`);
  return [census, seconds];
}

/** The same without a queue: what the census must agree with. */
function countInALoop(root, paths) {
  const census = { directories: {}, failures: {} };
  const start = performance.now();
  for (const path of paths) {
    const directory = directoryOf(path);
    census.directories[directory] ??= NOTHING;
    try {
      census.directories[directory] = add(census.directories[directory], countFile(join(root, path)));
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      census.failures[path] = error.message;
    }
  }
  return [census, (performance.now() - start) / 1000];
}

function print({ directories, failures }) {
  const rows = Object.entries(directories).sort(([a, one], [b, other]) => other.lines - one.lines || (a < b ? -1 : 1));
  const line = (name, counts) => console.log(name.slice(0, 28).padEnd(28) + Object.values(counts).map((n) => n.toLocaleString('en').padStart(11)).join(''));
  console.log(`\n${'package'.padEnd(28)}${Object.keys(NOTHING).map((name) => name.padStart(11)).join('')}`);
  for (const [name, counts] of rows.slice(0, ROWS)) line(name, counts);
  if (rows.length > ROWS) line(`${rows.length - ROWS} more`, rows.slice(ROWS).map(([, counts]) => counts).reduce(add, NOTHING));
  line(`all ${rows.length}`, rows.map(([, counts]) => counts).reduce(add, NOTHING));
  const failed = Object.entries(failures);
  console.log(`\nfailed for good, without a retry, since they are not valid JavaScript: ${failed.length}`);
  for (const [path, message] of failed.slice(0, ROWS)) console.log(`  ${path}\n      ${message}`);
}

const { values } = parseArgs({
  options: {
    store: { type: 'string', default: 'memory:' },
    root: { type: 'string' },
    threads: { type: 'string' },
    limit: { type: 'string' },
  },
});
const root = resolve(values.root ?? npmTree());
let paths = javaScriptFiles(root);
if (values.limit !== undefined) {
  const limit = Number(values.limit);
  const stride = Math.max(1, Math.floor(paths.length / limit));
  paths = paths.filter((_, place) => place % stride === 0).slice(0, limit);
}
if (paths.length === 0) throw new Error(`there are no .js files in ${root}`);
console.log(`${paths.length} files in ${root}`);
const threads = values.threads === undefined ? undefined : Number(values.threads);
const [counted, seconds] = await countByTasks(root, paths, { store: values.store, threads });
print(counted);
const [plain, loop] = countInALoop(root, paths);
console.log(`\nas tasks: ${seconds.toFixed(2)} s; in a plain loop: ${loop.toFixed(2)} s (and that finds the files in the system's cache)`);
if (!isDeepStrictEqual(counted, plain)) {
  for (const name of Object.keys(plain.directories)) {
    const [one, other] = [counted.directories[name], plain.directories[name]];
    if (!isDeepStrictEqual(one, other)) console.log(`DIFFERENT ${name}:`, one, 'in the loop', other);
  }
  for (const path of new Set([...Object.keys(plain.failures), ...Object.keys(counted.failures)])) {
    if (plain.failures[path] !== counted.failures[path]) console.log(`DIFFERENT failure: ${path}`);
  }
  process.exit(1);
}
console.log("both agree: every package's counts, and every failure");
