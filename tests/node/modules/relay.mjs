// A relay that kills itself between what it does: `node relay.mjs DRIVER DATABASE STORE POINT COUNT`.
//
// `POINT` is "before" or "after", and one of submit, delete, commit; `COUNT` says which time. Without a point it relays until
// its standard input ends.
import { createRequire } from 'node:module';

import { App } from 'taskloom';

const [driver, database, store, point, times] = process.argv.slice(2);
const [when, what] = point.split(' ');
let left = Number(times);

function strike(at, of) {
  if (when !== at || what !== of) return;
  left -= 1;
  if (left === 0) process.kill(process.pid, 'SIGKILL');
}

/** Has a function strike around those of its calls that are of interest. */
function around(owner, name, kindOf) {
  const real = owner[name];
  owner[name] = function (...args) {
    const kind = kindOf(...args);
    if (kind === undefined) return real.apply(this, args);
    strike('before', kind);
    const result = real.apply(this, args);
    if (typeof result?.then !== 'function') {
      strike('after', kind);
      return result;
    }
    return result.then((value) => {
      strike('after', kind);
      return value;
    });
  };
}

const kindOf = (sql) => {
  const text = typeof sql === 'string' ? sql : sql.text;
  return text.startsWith('DELETE') ? 'delete' : text === 'COMMIT' ? 'commit' : undefined;
};

async function connect() {
  if (driver === 'pg') {
    const { default: pg } = await import('pg');
    const client = new pg.Client(database);
    await client.connect();
    around(client, 'query', kindOf);
    return client;
  }
  const found = await import(driver);
  const connection = driver === 'node:sqlite' ? new found.DatabaseSync(database) : new found.default(database);
  connection.exec('PRAGMA busy_timeout = 30000');
  around(connection, 'exec', kindOf);
  const prepare = connection.prepare.bind(connection);
  connection.prepare = (sql) => {
    const statement = prepare(sql);
    if (kindOf(sql) !== undefined) around(statement, 'run', () => kindOf(sql));
    return statement;
  };
  return connection;
}

const { port } = createRequire(import.meta.url)('../node_modules/taskloom/dist/port.js');
around(port(), 'request', (app, name) => (name === 'outboxRelay' ? 'submit' : undefined));

const app = new App({ store });
app.task('note', (number) => number);
app.outbox(connect);
await app.start();
process.stdin.resume();
process.stdin.on('end', () => app.stop());
