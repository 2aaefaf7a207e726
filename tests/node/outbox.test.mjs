// The outbox through each of the drivers. What the core does with rows is tested in Python and Rust; here are the drivers
// and the relay of JavaScript.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { App, InvalidOptions, OutboxHandle, StoreError, UnknownHandler, WaitTimeout, outboxSchema } from 'taskloom';

import { file, thrown } from './helpers.mjs';

const LONG = { timeout: '30s' };

/** A module, if it is here. better-sqlite3 has to be compiled, and node:sqlite is of newer Nodes. */
async function module(name) {
  try {
    return await import(name);
  } catch (error) {
    if (error.code === 'ERR_MODULE_NOT_FOUND' || error.code === 'ERR_UNKNOWN_BUILTIN_MODULE') return undefined;
    throw error;
  }
}

const pg = (await import('pg')).default;
const better = (await module('better-sqlite3'))?.default;
const builtin = await module('node:sqlite');

let server;
let base;

before(async () => {
  const tool = fileURLToPath(new URL('../../tools/postgres.py', import.meta.url));
  server = spawn('python3', [tool], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: server.stdout });
  const [line] = await Promise.race([once(lines, 'line'), once(server, 'exit').then(([code]) => [`exit ${code}`])]);
  assert.match(line, /^postgresql:/, 'PostgreSQL is needed: apt-get install postgresql');
  base = line;
});

after(async () => {
  server.stdin.end();
  if (server.exitCode === null) await once(server, 'exit');
});

let databases = 0;

/** Ways to a database: how a connection is opened and ended, and how a statement is run on it. */
const WAYS = {
  pg: async (t) => {
    const admin = new pg.Client(base);
    await admin.connect();
    const name = `shop_${process.pid}_${databases++}`;
    await admin.query(`CREATE DATABASE ${name}`);
    t.after(async () => {
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    });
    const url = base.replace('/postgres', `/${name}`);
    const open = async () => {
      const client = new pg.Client(url);
      client.on('error', () => {});
      await client.connect();
      return client;
    };
    return {
      name: 'pg',
      dialect: 'postgresql',
      open,
      url,
      run: async (client, text) => void (await client.query(text)),
      count: async (client) => Number((await client.query('SELECT count(*) FROM taskloom_outbox')).rows[0].count),
      end: (client) => client.end(),
      cut: (client) => client.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()'),
    };
  },
  'better-sqlite3': better && (async (t) => sqlite(t, 'better-sqlite3', (path) => new better(path))),
  'node:sqlite': builtin && (async (t) => sqlite(t, 'node:sqlite', (path) => new builtin.DatabaseSync(path))),
};

function sqlite(t, name, make) {
  const path = file(t);
  const opened = [];
  return {
    name,
    dialect: 'sqlite',
    url: path,
    open: async () => {
      const connection = make(path);
      connection.exec('PRAGMA busy_timeout = 30000');
      opened.push(connection);
      return connection;
    },
    run: async (connection, text) => void connection.exec(text),
    count: async (connection) => Number(Object.values(connection.prepare('SELECT count(*) FROM taskloom_outbox').get())[0]),
    end: async (connection) => connection.close(),
    cut: async (keep) => opened.filter((each) => each !== keep).forEach((each) => each.close()),
  };
}

/** A test for each driver that is here. */
function each(title, body) {
  for (const [name, way] of Object.entries(WAYS)) {
    test(`${title}: ${name}`, { skip: way ? false : `${name} is not here` }, async (t) => {
      const shop = await way(t);
      const connection = await shop.open();
      for (const text of outboxSchema(shop.dialect)) await shop.run(connection, text);
      const app = new App({ store: `sqlite:${file(t)}` });
      const add = app.task('add', { retries: 2 }, ({ a, b }) => a + b);
      const events = [];
      app.on('outbox.*', (event) => events.push(event));
      // The relay is ended before the database goes.
      t.after(() => shop.end(connection).catch(() => {}));
      t.after(() => app.stop({ timeout: 0 }));
      await body({ t, shop, connection, app, add, events });
    });
  }
}

each('a commit runs the task, and a rollback leaves nothing', async ({ shop, connection, app, add }) => {
  const outbox = app.outbox(shop.open);
  await app.start();
  assert.ok(outbox.isRunning);
  await shop.run(connection, 'BEGIN');
  const gone = await add.submit({ a: 1, b: 2 }, { tx: connection });
  await shop.run(connection, 'ROLLBACK');
  await shop.run(connection, 'BEGIN');
  const kept = await add.submit({ a: 3, b: 4 }, { tx: connection, tags: ['t'] });
  assert.ok(kept instanceof OutboxHandle);
  assert.match(kept.id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
  assert.equal(kept.state, 'outbox');
  await shop.run(connection, 'COMMIT');
  assert.equal(await kept.result(LONG), 7);
  assert.equal(kept.state, 'succeeded');
  assert.deepEqual((await kept.info()).tags, ['t']);
  assert.equal(await gone.accepted(), false);
  assert.ok((await thrown(() => gone.result({ timeout: 1 }))) instanceof WaitTimeout);
  await app.stop();
  assert.equal(await shop.count(connection), 0);
  assert.equal(outbox.relayed, 1);
  assert.equal(outbox.isRunning, false);
});

each('many rows are relayed, by two relays too', async ({ shop, connection, app }) => {
  let ran = 0;
  const note = app.task('note', () => void (ran += 1));
  app.outbox(shop.open);
  app.outbox(shop.open);
  await app.start();
  await shop.run(connection, 'BEGIN');
  const handles = await note.submitMany(Array.from({ length: 1_000 }, (_, number) => number), { tx: connection });
  await shop.run(connection, 'COMMIT');
  for (const handle of handles) await handle.result(LONG);
  await app.stop();
  assert.equal(ran, 1_000);
  assert.equal(await shop.count(connection), 0);
});

each('bad rows are kept, shown, corrected and tried again', async ({ shop, connection, app, add, events }) => {
  const outbox = app.outbox(shop.open);
  await shop.run(connection, `INSERT INTO taskloom_outbox (name, payload) VALUES ('add', '{')`);
  await shop.run(connection, `INSERT INTO taskloom_outbox (name, payload) VALUES ('ad', '{}')`);
  await shop.run(connection, `INSERT INTO taskloom_outbox (name, payload, options) VALUES ('add', '{"a":1,"b":2}', '{"retries":-1}')`);
  const good = await add.submit({ a: 1, b: 2 }, { tx: connection });
  assert.equal(await outbox.runOnce(), 1);
  const refused = await outbox.refused();
  assert.deepEqual(refused.map((row) => row.error.slice(0, 6)).sort(), ['TL1001', 'TL1101', 'TL1201']);
  assert.ok(refused.every((row) => row.failed >= row.created));
  await app.start();
  assert.equal(await good.result(LONG), 3);
  assert.ok((await app.health()).warnings.some((warning) => /cannot become tasks: 3/.test(warning)));
  const broken = refused.find((row) => row.payload === '{');
  await shop.run(connection, `UPDATE taskloom_outbox SET payload = '{"a": 20, "b": 22}' WHERE id = '${broken.id}'`);
  assert.equal(await outbox.retry(broken.id), 1);
  assert.equal(await new OutboxHandle(app, 'add', broken.id).result(LONG), 42);
  for (const row of refused) await outbox.discard(row.id);
  assert.equal(await shop.count(connection), 0);
  assert.equal(events.filter((event) => event.name === 'outbox.refused').length, 3);
});

each('a connection that is lost is opened again, which is told once', async ({ shop, connection, app, add, events }) => {
  const outbox = app.outbox(shop.open);
  await app.start();
  const interrupted = new Promise((resolve) => app.on('outbox.interrupted', resolve));
  const resumed = new Promise((resolve) => app.on('outbox.resumed', resolve));
  await shop.cut(connection);
  await interrupted;
  const handle = await add.submit({ a: 1, b: 2 }, { tx: connection });
  assert.equal(await handle.result(LONG), 3);
  await resumed;
  assert.equal(outbox.trouble, undefined);
  assert.deepEqual(events.map((event) => event.name), ['outbox.interrupted', 'outbox.resumed']);
});

each('a submit is validated as any other', async ({ shop, connection, app, add }) => {
  assert.ok((await thrown(() => add.submit({}, { tx: connection, timeout: 0 }))) instanceof InvalidOptions);
  assert.ok((await thrown(() => add.submit({}, { tx: connection, retires: 1 }))) instanceof InvalidOptions);
  assert.ok((await thrown(() => app.submit('ad', {}, { tx: connection }))) instanceof UnknownHandler);
  assert.equal(await shop.count(connection), 0);
  await shop.run(connection, 'DROP TABLE taskloom_outbox');
  const error = await thrown(() => add.submit({}, { tx: connection }));
  assert.ok(error instanceof StoreError);
  assert.match(error.hint, /outboxSchema/);
});

each('a stop does not wait for the next look', async ({ t, shop, connection, app, add }) => {
  if (shop.dialect !== 'sqlite') return t.skip('it waits to be told, and not to look');
  let looks = 0;
  app.outbox(async () => {
    const own = await shop.open();
    const prepare = own.prepare.bind(own);
    own.prepare = (sql) => {
      const statement = prepare(sql);
      if (sql !== 'PRAGMA data_version') return statement;
      return { get: () => ((looks += 1), statement.get()) };
    };
    return own;
  });
  await app.start();
  const handle = await add.submit({ a: 1, b: 2 }, { tx: connection });
  assert.equal(await handle.result(LONG), 3);
  const before = looks;
  await app.stop();
  assert.ok(looks <= before + 2, `it looked ${looks - before} times after the stop`);
});

const RELAY = fileURLToPath(new URL('./modules/relay.mjs', import.meta.url));

each('relays that are killed lose and repeat nothing', async ({ t, shop, connection, app }) => {
  const note = app.task('note', (number) => number);
  const committed = new Map();
  const undone = [];
  let last = 0;
  // More than is read at once, so that there are two batches.
  const write = async (ends) => {
    await shop.run(connection, 'BEGIN');
    const numbers = Array.from({ length: 90 }, () => (last += 1));
    const handles = await note.submitMany(numbers, { tx: connection });
    await shop.run(connection, ends);
    if (ends === 'COMMIT') handles.forEach((handle, place) => committed.set(handle, numbers[place]));
    else undone.push(...handles);
  };
  const relay = (point, count) => {
    const child = spawn(process.execPath, [RELAY, shop.name, shop.url, app.store, point, String(count)], {
      stdio: ['pipe', 'ignore', 'inherit'],
      env: { ...process.env, NODE_NO_WARNINGS: '1' },
    });
    t.after(() => child.kill('SIGKILL'));
    return { child, ended: once(child, 'exit') };
  };
  // In SQLite each row is deleted by itself, in PostgreSQL all of a batch are by one statement.
  const many = shop.dialect === 'sqlite' ? 70 : 2;
  const points = [
    ['before submit', 1],
    ['after submit', 1],
    ['after submit', 2],
    ['before delete', many],
    ['after delete', 1],
    ['after delete', many],
    ['before commit', 1],
    ['after commit', 1],
    ['after commit', 2],
  ];
  for (const [point, count] of points) {
    await write('COMMIT');
    await write('ROLLBACK');
    const { ended } = relay(point, count);
    assert.deepEqual(await ended, [null, 'SIGKILL'], `${point} ${count}`);
  }
  const { child, ended } = relay('', 0);
  for (const [handle, number] of committed) assert.equal(await handle.result({ timeout: '60s' }), number);
  child.stdin.end();
  assert.deepEqual(await ended, [0, null]);
  assert.equal(await shop.count(connection), 0);
  const found = await app.listInfo({ limit: 10_000 });
  assert.deepEqual(found.map(({ id }) => id).sort(), [...committed.keys()].map(({ id }) => id).sort());
  for (const handle of undone) assert.equal(await handle.accepted(), false);
});

test('what is no connection is refused with a list of those that are supported', async () => {
  const app = new App();
  const add = app.task('add', () => 1);
  for (const tx of [7, {}, 'shop.db', () => {}]) {
    const error = await thrown(() => add.submit(1, { tx }));
    assert.ok(error instanceof InvalidOptions, String(tx));
    assert.match(error.hint, /better-sqlite3, node:sqlite, pg/);
  }
  const pool = new pg.Pool({ connectionString: base });
  assert.match((await thrown(() => add.submit(1, { tx: pool }))).hint, /pool\.connect/);
  await pool.end();
  assert.match((await thrown(() => app.every('1m', { name: 'x', tx: {} }, add))).message, /tx is for the submit of one task/);
  assert.match((await thrown(() => app.outbox({}))).message, /must be a function/);
  await assert.rejects(app.outbox(() => ({})).start(), InvalidOptions);
  assert.throws(() => outboxSchema('oracle'), InvalidOptions);
});

test('a client of a pool is a connection too', async (t) => {
  const shop = await WAYS.pg(t);
  const pool = new pg.Pool({ connectionString: shop.url });
  pool.on('error', () => {});
  const app = new App();
  const add = app.task('add', ({ a, b }) => a + b);
  t.after(() => pool.end());
  t.after(() => app.stop({ timeout: 0 }));
  app.outbox(() => pool.connect());
  await app.start(); // it makes the table
  const client = await pool.connect();
  await client.query('BEGIN');
  const handle = await add.submit({ a: 1, b: 2 }, { tx: client });
  await client.query('COMMIT');
  client.release();
  assert.equal(await handle.result(LONG), 3);
});
