/**
 * The databases of users, through their own drivers: better-sqlite3, node:sqlite and pg. Nothing here imports one: whoever
 * has a connection has its driver.
 *
 * How a commit is heard of: PostgreSQL notifies (the table has a trigger for it). With SQLite the relay looks at
 * `PRAGMA data_version`, a read of shared memory: every millisecond at first and every ten later while something has happened
 * lately, else every 30 ms. A submit of this environment wakes it, so that it is looking when the commit comes.
 *
 * A relay that waits does not keep the process alive: its timers and its socket are unreferenced. One that works does; that
 * is `outbox.ts`'s affair.
 */

import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { port } from './port.js';

type Values = readonly unknown[];

/** A connection, as a submit uses it. @internal */
export interface Driver {
  /** Whether an insert has happened when its call returns. */
  readonly isSync: boolean;
  /** Inserts rows, as a part of the connection's transaction. */
  insert(rows: readonly Values[]): Promise<void> | void;
  /** The same connection, as a relay uses one of its own. */
  relaying(): Relaying;
}

/** A relay's own connection. @internal */
export interface Relaying {
  /** Makes the table if it is not there. */
  prepare(): Promise<void>;
  /** From now on, `wait` is to hear of commits. */
  watch(): Promise<void>;
  /** Resolves when rows may have been committed, when woken, and now and then in any case. */
  wait(): Promise<void>;
  wake(): void;
  /** Resolves a `wait` at once, from now on: the relay is to end. */
  leave(): void;
  /** The next rows, which `settle` or `abandon` must follow. */
  read(limit: number): Promise<Values[]>;
  /** Deletes what is done, and marks what is refused: when, why, the row's id. */
  settle(done: readonly string[], refused: readonly Values[]): Promise<void>;
  abandon(): Promise<void>;
  fetch(statement: string, values: Values): Promise<Values[]>;
  /** How many rows it has changed. */
  run(statement: string, values: Values): Promise<number>;
  close(): Promise<void>;
}

const SUPPORTED = 'supported are: better-sqlite3, node:sqlite, pg (a client, or a client of a pool)';

/** How often, in milliseconds, a relay looks at the table though nothing has told it to; and where nothing could. */
const [LOOK, OFTEN] = [1_000, 20];

/** SQLite: the shortest and the longest pause between two looks lately, the usual one, and for how long "lately" is. */
const [FIRST, SLOWER, SELDOM, LATELY] = [1, 10, 30, 2_000];

/** SQLite: for how long, in milliseconds, a database that is locked is tried again before that is an error. */
const PATIENCE = 10_000;

interface Texts {
  schema: string[];
  statements: Record<string, string>;
}

const texts = new Map<string, Texts>();

function textsFor(dialect: string, style: string): Texts {
  let known = texts.get(dialect);
  if (known === undefined) texts.set(dialect, (known = JSON.parse(port().native.outboxTexts(dialect, style)) as Texts));
  return known;
}

/** Whether something is a connection that we know. @internal */
export function isConnection(value: unknown): boolean {
  return isSqlite(value) || isPostgres(value);
}

/** The driver of a connection. Throws `InvalidOptions` for what is none, or of a library that is not supported. @internal */
export function driverFor(connection: unknown): Driver {
  if (isSqlite(connection)) return new Sqlite(connection);
  if (isPostgres(connection)) {
    if ('totalCount' in connection) {
      throw new InvalidOptions('tx is a pool, each query of which goes to any of its connections', {
        hint: 'pass the client that the transaction is on: const client = await pool.connect()',
      });
    }
    return new Postgres(connection);
  }
  throw new InvalidOptions(`${shown(connection)} is no database connection that the outbox knows`, { hint: SUPPORTED });
}

/** A pause that a wake ends. */
class Sleep {
  private ends: (() => void) | undefined;
  private isWoken = false;

  /** Whether it was woken. */
  async for(span: number): Promise<boolean> {
    if (!this.isWoken) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, span);
        timer.unref();
        this.ends = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.ends = undefined;
    }
    const woken = this.isWoken;
    this.isWoken = false;
    return woken;
  }

  wake(): void {
    this.isWoken = true;
    this.ends?.();
  }
}

// ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────────────

interface Statement {
  run(...values: unknown[]): { changes: number | bigint };
  all(...values: unknown[]): unknown[];
  get(...values: unknown[]): unknown;
}

/** What better-sqlite3's `Database` and node:sqlite's `DatabaseSync` have in common. */
interface SqliteConnection {
  prepare(text: string): Statement;
  exec(text: string): unknown;
  close(): void;
}

function isSqlite(value: unknown): value is SqliteConnection {
  const given = value as Partial<SqliteConnection> & { transaction?: unknown };
  if (typeof value !== 'object' || value === null || typeof given.prepare !== 'function') return false;
  return value.constructor?.name === 'DatabaseSync' || (typeof given.transaction === 'function' && 'inTransaction' in value);
}

/** A column of text, also where somebody has written bytes. */
function textOf(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(value);
  } catch {
    return '\ufffd'; // which is no JSON
  }
}

class Sqlite implements Driver, Relaying {
  readonly isSync = true;
  private readonly texts = textsFor('sqlite', 'qmark');
  private readonly prepared = new Map<string, Statement>();
  private readonly sleep = new Sleep();
  private version: unknown;
  private active = -Infinity;
  private pause = FIRST;
  private isLeaving = false;

  constructor(private readonly connection: SqliteConnection) {}

  private statement(name: string): Statement {
    let known = this.prepared.get(name);
    if (known === undefined) this.prepared.set(name, (known = this.connection.prepare(this.texts.statements[name] ?? name)));
    return known;
  }

  private rows(name: string, values: Values): Values[] {
    return (this.statement(name).all(...values) as object[]).map((row) => Object.values(row).map(textOf));
  }

  insert(rows: readonly Values[]): void {
    for (const row of rows) this.statement('insert').run(...row);
  }

  relaying(): Relaying {
    return this;
  }

  async prepare(): Promise<void> {
    // Whoever holds the lock may be on this very thread: SQLite must not wait for it, and block the loop.
    this.connection.exec('PRAGMA busy_timeout = 0');
    const files = await this.fetch('PRAGMA database_list', []);
    if (!files.some(([, name, file]) => name === 'main' && file)) {
      throw new InvalidOptions('the outbox is to be relayed from a SQLite database in memory, of which every connection has its own', {
        hint: "let connect open the file that the program writes to: () => new Database('shop.db')",
      });
    }
    const there = await this.fetch('exists', []);
    if (Number(there[0]![0]) === 0) {
      await this.write(() => {
        for (const text of this.texts.schema) this.connection.exec(text);
      });
    }
  }

  /** Tries again, while the loop goes on, for as long as the database is locked. */
  private async patiently<T>(work: () => T): Promise<T> {
    const end = performance.now() + PATIENCE;
    for (let span = 1; ; span = Math.min(span * 2, 20)) {
      try {
        return work();
      } catch (error) {
        const isLocked = /locked|busy/i.test(String(error));
        if (!isLocked || performance.now() >= end) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, span));
    }
  }

  /** In one transaction. It is over before the loop goes on, so nobody else on this thread meets it. */
  private async write<T>(work: () => T): Promise<T> {
    return await this.patiently(() => {
      this.connection.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        this.connection.exec('COMMIT');
        return result;
      } catch (error) {
        try {
          this.connection.exec('ROLLBACK');
        } catch {
          // It was rolled back by what has failed.
        }
        throw error;
      }
    });
  }

  private look(): unknown {
    return Object.values(this.statement('PRAGMA data_version').get() as object)[0];
  }

  async watch(): Promise<void> {
    this.version = await this.patiently(() => this.look());
  }

  async wait(): Promise<void> {
    const end = performance.now() + LOOK;
    for (;;) {
      const version = await this.patiently(() => this.look());
      const now = performance.now();
      if (version !== this.version) {
        [this.version, this.active, this.pause] = [version, now, FIRST];
        return;
      }
      if (now >= end || this.isLeaving) return;
      const isLately = now - this.active < LATELY;
      const span = isLately ? this.pause : SELDOM;
      this.pause = Math.min(this.pause * 2, SLOWER);
      if (await this.sleep.for(span)) {
        [this.active, this.pause] = [performance.now(), FIRST];
        if (!isLately) return; // to be told to stop, or of a row that was committed before the wake
      }
    }
  }

  wake(): void {
    this.sleep.wake();
  }

  leave(): void {
    this.isLeaving = true;
    this.sleep.wake();
  }

  async read(limit: number): Promise<Values[]> {
    return await this.fetch('due', [limit]);
  }

  async settle(done: readonly string[], refused: readonly Values[]): Promise<void> {
    if (done.length + refused.length === 0) return;
    await this.write(() => {
      for (const id of done) this.statement('delete').run(id);
      for (const mark of refused) this.statement('refuse').run(...mark);
    });
  }

  async abandon(): Promise<void> {}

  async fetch(statement: string, values: Values): Promise<Values[]> {
    return await this.patiently(() => this.rows(statement, values));
  }

  async run(statement: string, values: Values): Promise<number> {
    return await this.write(() => Number(this.statement(statement).run(...values).changes));
  }

  async close(): Promise<void> {
    this.connection.close();
  }
}

// ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** What we use of pg's `Client`, and of what a pool lends. */
interface PostgresConnection {
  query(text: string | { text: string; values?: Values; rowMode: 'array' }, values?: Values): Promise<{ rows: Values[]; rowCount: number | null }>;
  on(event: string, listener: (...values: any[]) => void): unknown;
  end?(): Promise<void>;
  release?(destroy: boolean): void;
  connection?: { stream?: { unref?(): void } };
}

function isPostgres(value: unknown): value is PostgresConnection {
  const given = value as Partial<PostgresConnection> & { connect?: unknown };
  return typeof value === 'object' && value !== null && typeof given.query === 'function' && typeof given.connect === 'function' && typeof given.on === 'function';
}

class Postgres implements Driver, Relaying {
  readonly isSync = false;
  private readonly texts = textsFor('postgresql', 'dollar');
  private readonly sleep = new Sleep();
  private isHeard = false;
  private isOpen = false;
  private lost: Error | undefined;
  private span = LOOK;

  constructor(private readonly connection: PostgresConnection) {}

  async insert(rows: readonly Values[]): Promise<void> {
    // A client sends one query after the other in any case, and soon takes no second one before the first is over.
    for (const row of rows) await this.connection.query(this.texts.statements.insert!, row);
  }

  relaying(): Relaying {
    // Without a listener, a connection that is lost would end the process.
    this.connection.on('error', (error: Error) => this.lose(error));
    this.connection.on('end', () => this.lose(new Error('the connection has ended')));
    return this;
  }

  private lose(error: Error): void {
    this.lost ??= error;
    this.sleep.wake();
  }

  async prepare(): Promise<void> {
    if (Number((await this.fetch('exists', []))[0]![0]) !== 0) return;
    await this.connection.query('BEGIN');
    try {
      // Of several that find no table one makes it, and the others wait here.
      await this.connection.query('SELECT pg_advisory_xact_lock(8317987319222330741)');
      for (const text of this.texts.schema) await this.connection.query(text);
      await this.connection.query('COMMIT');
    } catch (error) {
      await this.connection.query('ROLLBACK').catch(() => {});
      throw error;
    }
  }

  async watch(): Promise<void> {
    this.connection.on('notification', () => {
      this.isHeard = true;
      this.sleep.wake();
    });
    await this.connection.query('LISTEN taskloom_outbox');
    if (Number((await this.fetch('notifies', []))[0]![0]) === 0) this.span = OFTEN;
    this.connection.connection?.stream?.unref?.();
  }

  async wait(): Promise<void> {
    if (!this.isHeard && this.lost === undefined) await this.sleep.for(this.span);
    this.isHeard = false;
    if (this.lost !== undefined) throw this.lost;
  }

  wake(): void {
    this.sleep.wake();
  }

  leave(): void {
    this.isHeard = true;
    this.sleep.wake();
  }

  async read(limit: number): Promise<Values[]> {
    await this.connection.query('BEGIN');
    this.isOpen = true;
    return await this.fetch('due', [limit]);
  }

  async settle(done: readonly string[], refused: readonly Values[]): Promise<void> {
    // All of them by one statement.
    if (done.length > 0) await this.connection.query(this.texts.statements.delete!.replace('= $1', '= ANY($1)'), [done]);
    for (const mark of refused) await this.connection.query(this.texts.statements.refuse!, mark);
    await this.connection.query('COMMIT');
    this.isOpen = false;
  }

  async abandon(): Promise<void> {
    if (!this.isOpen) return;
    this.isOpen = false;
    await this.connection.query('ROLLBACK').catch(() => {});
  }

  async fetch(statement: string, values: Values): Promise<Values[]> {
    return (await this.connection.query({ text: this.texts.statements[statement]!, values, rowMode: 'array' })).rows;
  }

  async run(statement: string, values: Values): Promise<number> {
    return (await this.connection.query(this.texts.statements[statement]!, values)).rowCount ?? 0;
  }

  async close(): Promise<void> {
    if (this.connection.release !== undefined) this.connection.release(true);
    else await this.connection.end?.();
  }
}
