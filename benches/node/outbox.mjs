// The outbox: how many rows a relay moves from SQLite beside a busy store, and how soon after its commit a task starts.
//
// The peer of the relay is SQLite alone: the same rows are read and deleted in the same batches, and nothing is done with
// them. The peer of the commit is a submit without an outbox, straight into the same file. While the relay works the app
// submits to its store and runs tasks, on the same event loop: it is a busy one.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { App, outboxSchema } from '../../node/index.mjs';
import { median } from './report.mjs';

const BATCH = 1_024;

/** Between two commits, in milliseconds, so that each is the first for a while. */
const PAUSE = 50;

/** Opens a database by a path: with node:sqlite, or with better-sqlite3 where Node is older; which one, too. */
async function driver() {
  const warn = process.emitWarning;
  try {
    process.emitWarning = () => {}; // that it is new
    const { DatabaseSync } = await import('node:sqlite');
    return { name: 'node:sqlite', open: (path) => new DatabaseSync(path) };
  } catch (error) {
    if (error.code !== 'ERR_UNKNOWN_BUILTIN_MODULE') throw error;
    const { default: Database } = await import('better-sqlite3');
    return { name: 'better-sqlite3', open: (path) => new Database(path) };
  } finally {
    process.emitWarning = warn;
  }
}

/** A folder with a shop's database, and an app over a file beside it, for as long as `work` takes. */
async function inShop(open, work) {
  const folder = mkdtempSync(join(process.env.TASKLOOM_BENCH_DIR ?? tmpdir(), 'taskloom-bench-'));
  const connect = () => {
    const connection = open(join(folder, 'shop.db'));
    connection.exec('PRAGMA busy_timeout = 60000');
    return connection;
  };
  const connection = connect();
  try {
    connection.exec('PRAGMA journal_mode = WAL');
    for (const text of outboxSchema('sqlite')) connection.exec(text);
    // A relay that waits keeps no process.
    const app = new App({ store: `sqlite:${join(folder, 'tasks.db')}`, keepAlive: true });
    return await work({ app, connect, connection });
  } finally {
    connection.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function fill(connection, task, count) {
  for (let start = 0; start < count; start += 10_000) {
    connection.exec('BEGIN');
    await task.submitMany(
      Array.from({ length: Math.min(10_000, count - start) }, (_, place) => start + place),
      { tx: connection },
    );
    connection.exec('COMMIT');
  }
}

function left(connection) {
  return connection.prepare('SELECT 1 FROM taskloom_outbox LIMIT 1').get() !== undefined;
}

function perSecond(count, start) {
  return count / ((performance.now() - start) / 1e3);
}

function relayed(open, count) {
  return inShop(open, async ({ app, connect, connection }) => {
    const keep = app.task('keep', (number) => number);
    await fill(connection, keep, count);
    await app.start();
    let isOver = false;
    const busy = (async () => {
      while (!isOver) for (const handle of await keep.submitMany(Array.from({ length: 200 }, (_, place) => place))) await handle.result();
    })();
    const outbox = app.outbox(connect);
    const start = performance.now();
    while (left(connection)) await sleep(5);
    const rate = perSecond(count, start);
    isOver = true;
    await busy;
    await outbox.stop();
    if (outbox.relayed !== count) throw new Error(`${outbox.relayed} rows were relayed, and ${count} written`);
    await app.stop({ timeout: 0 });
    return rate;
  });
}

function readAndDeleted(open, count) {
  return inShop(open, async ({ app, connection }) => {
    await fill(connection, app.task('keep', (number) => number), count);
    const due = connection.prepare(
      'SELECT id, name, payload, options, created FROM taskloom_outbox WHERE failed IS NULL ORDER BY id LIMIT ?',
    );
    const gone = connection.prepare('DELETE FROM taskloom_outbox WHERE id = ?');
    const start = performance.now();
    for (let rows; (rows = due.all(BATCH)).length > 0; ) {
      connection.exec('BEGIN IMMEDIATE');
      for (const { id } of rows) gone.run(id);
      connection.exec('COMMIT');
    }
    return perSecond(count, start);
  });
}

/** Milliseconds from a commit, or a submit, until its handler runs: the median. */
function latency(open, count, throughOutbox) {
  return inShop(open, async ({ app, connect, connection }) => {
    let begun;
    const note = app.task('note', () => begun(performance.now()));
    app.outbox(connect);
    await app.start();
    const spans = [];
    for (let one = 0; one < count; one += 1) {
      await sleep(PAUSE);
      const starts = new Promise((resolve) => (begun = resolve));
      if (throughOutbox) {
        connection.exec('BEGIN');
        await note.submit(one, { tx: connection });
      }
      const start = performance.now();
      if (throughOutbox) connection.exec('COMMIT');
      else await note.submit(one);
      spans.push((await starts) - start);
    }
    await app.stop({ timeout: 0 });
    return median(spans);
  });
}

/** What is measured, of whom: as the figures of `run.mjs`; and what it must be. */
export async function outbox({ rounds, rows, commits }) {
  const { name, open } = await driver();
  const relay = `outbox: rows/s relayed from SQLite (${name}) beside a busy store`;
  const start = 'outbox: from a commit in SQLite to the start, ms, p50';
  const measures = {
    [relay]: { taskloom: () => relayed(open, rows), 'read, delete': () => readAndDeleted(open, rows) },
    [start]: { taskloom: () => latency(open, commits, true), 'plain submit': () => latency(open, commits, false) },
  };
  const figures = {};
  for (const [measure, sides] of Object.entries(measures)) {
    figures[measure] = {};
    for (const side of Object.keys(sides)) figures[measure][side] = [];
    for (let round = 0; round < rounds; round += 1) {
      for (const [side, take] of Object.entries(sides)) figures[measure][side].push(await take());
    }
  }
  const is = (measure) => median(figures[measure].taskloom);
  return {
    figures,
    floors: [
      { what: relay, bound: '≥ 5,000', is: Math.round(is(relay)).toLocaleString('en-US'), reached: is(relay) >= 5_000 },
      { what: start, bound: '≤ 20', is: is(start).toFixed(2), reached: is(start) <= 20 },
    ],
  };
}
