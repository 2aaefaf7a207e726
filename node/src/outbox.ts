/**
 * The outbox: tasks that are submitted inside the user's own transaction, and the relay that moves them into the store.
 *
 * The row, the table and the statements are the core's. A driver that is synchronous gets its insert inside the very call of
 * `submit`: its transaction ends when the function that it was given returns.
 */

import type { App } from './app.js';
import { shown } from './durations.js';
import { InvalidOptions, Misuse, StoreError, TaskloomError, WaitTimeout, native } from './errors.js';
import { TaskHandle, type TaskState, type WaitOptions, checkedWait } from './handle.js';
import { line } from './lines.js';
import { callOptions, submitLine, type SubmitOptions } from './options.js';
import { type Relaying, driverFor, isConnection } from './outbox-drivers.js';
import { copied, encode } from './payload.js';
import { port } from './port.js';
import { validate } from './schema.js';
import type { Handler } from './task.js';

/** A row of the outbox that cannot become a task. */
export interface RefusedRow {
  /** Its id. */
  id: string;
  /** The handler's name. */
  name: string;
  /** The payload, as it was written. */
  payload: string;
  /** The options, as they were written; null if there were none. */
  options: string | null;
  /** When it was written, as it says itself. */
  created: Date;
  /** When it was refused. */
  failed: Date;
  /** Why: the code, the message, and perhaps a hint on a line of its own. */
  error: string;
}

/** id, name, payload, options, created. */
type Row = [string, string, string, string | null, number];

/** What the core says of a row. */
type Said = null | [isForGood: boolean, code: string, message: string, hint: string | null];

/** How many rows are read at once, at least and at most. */
const [SMALLEST, LARGEST] = [64, 1024];

/** Batches of fewer characters than the one may grow, those of more than the other shrink. */
const [LIGHT, HEAVY] = [2 << 20, 8 << 20];

/** The shortest and the longest pause before what has failed is tried again. */
const [SOON, LATE] = [50, 5_000];

/** How often the store is asked whether somebody else has relayed a row. */
const LOOK = 50;

/** Relays of this environment that run. */
const running = new Set<Outbox>();

/** Called when rows have been relayed. */
const waiting = new Set<() => void>();

/**
 * The handle of a task that is a row of an outbox, as long as it is one. Its `id` is right at once; its `state` is
 * `'outbox'` until the row has been committed and relayed. If its transaction is rolled back that never comes, so wait for
 * a result with a timeout.
 */
export class OutboxHandle<Result = unknown> extends TaskHandle<Result> {
  private isThere = false;

  /** Whether the row has been relayed, so that there is a task. */
  async accepted(): Promise<boolean> {
    this.isThere ||= (await this._app.get(this.id)) !== undefined;
    return this.isThere;
  }

  override get state(): TaskState {
    return this.isThere || this.done() ? super.state : 'outbox';
  }

  override async result(options: WaitOptions = {}): Promise<Result> {
    const { span } = checkedWait(options);
    const end = span === undefined ? undefined : performance.now() + span;
    while (!(await this.accepted())) {
      options.signal?.throwIfAborted();
      const left = end === undefined ? LOOK : Math.min(LOOK, end - performance.now());
      if (left <= 0) {
        throw new WaitTimeout(`the row ${this.id} has not been relayed in time`, {
          task: this.id,
          hint: 'is its transaction committed, and does a relay run? app.outbox(connect)',
        });
      }
      await relayedOr(left);
    }
    if (end === undefined) return await super.result(options.signal === undefined ? undefined : { signal: options.signal });
    return await super.result({ ...options, timeout: Math.max(1, end - performance.now()) });
  }

  override onDone(listener: (handle: this) => void): void {
    if (!this.isThere) {
      throw new Misuse(`there is no task ${this.id} yet, only the row of an outbox`, { hint: 'await handle.accepted() first' });
    }
    super.onDone(listener);
  }
}

function relayedOr(span: number): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      waiting.delete(end);
      resolve();
    };
    const timer = setTimeout(end, span);
    waiting.add(end);
  });
}

/**
 * Submits inputs as rows of a transaction. With a synchronous driver it all happens inside this call.
 *
 * @internal
 */
export async function enqueueInputs(
  app: App,
  handler: Handler | undefined,
  name: string | undefined,
  inputs: Iterable<unknown>,
  options: SubmitOptions,
  keyed: (handler: Handler, input: unknown, options: SubmitOptions) => SubmitOptions | undefined,
  allowUnknown = false,
): Promise<OutboxHandle[]> {
  const { isSync } = driverFor(options.tx);
  const payloads: string[] = [];
  const own: SubmitOptions[] = [];
  for (const input of inputs) {
    const payload = encode(input, 'input');
    own.push((handler?.key === undefined ? undefined : keyed(handler, copied, options)) ?? options);
    const verdict = handler?.schema === undefined ? undefined : validate(handler.schema, handler.name, JSON.parse(payload));
    if (verdict instanceof Promise) {
      if (isSync) {
        verdict.catch(() => {});
        throw new InvalidOptions(`the schema of ${shown(handler!.name)} is asynchronous, and the transaction is not`, {
          hint: 'its verdict would come when the transaction is over: use a synchronous schema, or pg',
        });
      }
      await verdict;
    }
    payloads.push(payload);
  }
  return payloads.length === 0 ? [] : await enqueue(app, name ?? handler!.name, payloads, own, allowUnknown);
}

/** Submits as rows of a transaction: all, or an error before any is inserted. */
async function enqueue(
  app: App,
  name: string,
  payloads: readonly string[],
  options: readonly SubmitOptions[],
  allowUnknown: boolean,
): Promise<OutboxHandle[]> {
  const driver = driverFor(options[0]!.tx);
  const rows = payloads.map((payload, place) => {
    const { tx: _, ...rest } = options[place]!;
    const said = submitLine(rest);
    const asked = { name, payload, options: said === undefined ? null : (JSON.parse(said) as unknown), allowUnknown };
    return JSON.parse(native(() => port().native.outboxRow(app._number, line(asked)))) as Row;
  });
  try {
    const inserted = driver.insert(rows);
    // Awaited only where there is something to wait for: with a synchronous driver all has happened by now.
    if (inserted instanceof Promise) await inserted;
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    if (!/taskloom_outbox/.test(said) || !/no such|not exist/.test(said)) throw error;
    throw new StoreError(`the database has no table taskloom_outbox (${said})`, {
      hint: 'make it in a migration with the statements of outboxSchema(…), or by a relay: app.outbox(connect)',
    });
  }
  for (const outbox of running) outbox._wake();
  return rows.map(([id]) => new OutboxHandle(app, name, id));
}

function rowId(id: unknown): string {
  if (typeof id !== 'string') throw new InvalidOptions(`the id of a row is ${shown(id)}; it must be a text`, { hint: 'outbox.refused() has the ids' });
  return id;
}

/** The statements that make the table, for a migration: for `'sqlite'` or `'postgresql'`. */
export function outboxSchema(dialect: 'sqlite' | 'postgresql'): string[] {
  const texts = typeof dialect === 'string' ? (JSON.parse(port().native.outboxTexts(dialect, 'dollar')) as { schema: string[] } | null) : null;
  if (texts === null) {
    throw new InvalidOptions(`there is no outbox for databases of the kind ${shown(dialect)}`, { hint: 'there are: sqlite, postgresql' });
  }
  return texts.schema;
}

/**
 * Relays the rows of a database's `taskloom_outbox` into an app's store. `app.outbox(connect)` makes one; it is started and
 * stopped with its app, and by itself in a program that only relays.
 */
export class Outbox {
  private life: Promise<void> | undefined;
  private relaying: Relaying | undefined;
  private isStopping = false;
  private limit = SMALLEST;
  private moved = 0;
  private refusedRows = 0;
  private wrong: string | undefined;
  private restEnds: (() => void) | undefined;

  /** @internal */
  constructor(
    private readonly app: App,
    private readonly connect: () => unknown,
  ) {
    if (typeof connect !== 'function' || isConnection(connect)) {
      throw new InvalidOptions(`app.outbox got ${shown(connect)}; it must be a function that opens a connection`, {
        hint: "such as () => new Database('shop.db'): the relay needs a connection of its own",
      });
    }
  }

  /** Whether it relays, or tries to. */
  get isRunning(): boolean {
    return this.life !== undefined;
  }

  /** How many rows it has relayed and deleted. */
  get relayed(): number {
    return this.moved;
  }

  /** What keeps it from relaying at the moment, if anything does. */
  get trouble(): string | undefined {
    return this.wrong;
  }

  /**
   * Starts relaying; starting twice is starting once. The table is made if it is not there. A database that does not answer
   * is no error: it is tried again until it does. Throws `InvalidOptions` for a connection of a library that is not
   * supported.
   */
  async start(): Promise<void> {
    if (this.life !== undefined) return;
    this.isStopping = false;
    let opened = (): void => {};
    let refused = (_: unknown): void => {};
    const open = new Promise<void>((resolve, reject) => ([opened, refused] = [resolve, reject]));
    running.add(this);
    this.life = this.live(opened, refused);
    await open;
  }

  /** Stops when the batch that is under way is finished; rows that are left are for the next relay. */
  async stop(): Promise<void> {
    this.isStopping = true;
    this.relaying?.leave();
    this.restEnds?.();
    await this.life;
  }

  /** Relays what is committed now, on a connection of its own; how many rows. */
  async runOnce(): Promise<number> {
    return await this.ask(async (relaying) => {
      const before = this.moved;
      await this.drain(relaying);
      return this.moved - before;
    });
  }

  /** The rows that cannot become tasks, in the order of their ids; the next page begins after an id. */
  async refused(options: { limit?: number; after?: string } = {}): Promise<RefusedRow[]> {
    const { limit = 100, after = '' } = callOptions('refused', options, ['limit', 'after'], 'outbox.refused({ limit: 10 })');
    if (!Number.isSafeInteger(limit) || limit < 1) throw new InvalidOptions(`limit is ${shown(limit)}; it must be a whole number of at least 1`);
    if (typeof after !== 'string') throw new InvalidOptions(`after is ${shown(after)}; it must be the id of a row`);
    const found = await this.ask((relaying) => relaying.fetch('refused', [after, limit]));
    return found.map(([id, name, payload, given, created, failed, error]) => ({
      id: String(id),
      name: String(name),
      payload: String(payload),
      options: given === null ? null : String(given),
      created: new Date(Number(created) / 1000),
      failed: new Date(Number(failed) / 1000),
      error: String(error),
    }));
  }

  /** Has a refused row tried again, by its id, or all of them; how many. */
  async retry(id?: string): Promise<number> {
    return await this.change(id === undefined ? 'retry_all' : 'retry', id === undefined ? [] : [rowId(id)]);
  }

  /** Deletes a refused row; 0 if there is none with this id. */
  async discard(id: string): Promise<number> {
    return await this.change('discard', [rowId(id)]);
  }

  /** @internal */
  _wake(): void {
    this.relaying?.wake();
  }

  /** What `app.health()` says of it. @internal */
  _warnings(): string[] {
    const found: string[] = [];
    if (this.wrong !== undefined) found.push(`the outbox is not relayed: ${this.wrong}`);
    if (this.refusedRows > 0) {
      found.push(`rows of the outbox that cannot become tasks: ${this.refusedRows}; look at outbox.refused()`);
    }
    return found;
  }

  private async change(statement: string, values: unknown[]): Promise<number> {
    const count = await this.ask(async (relaying) => {
      const changed = await relaying.run(statement, values);
      this.refusedRows = Number((await relaying.fetch('count_refused', []))[0]![0]);
      return changed;
    });
    this._wake();
    return count;
  }

  private async ask<T>(work: (relaying: Relaying) => Promise<T>): Promise<T> {
    const relaying = await this.open();
    try {
      return await work(relaying);
    } finally {
      await relaying.close();
    }
  }

  private async open(): Promise<Relaying> {
    const relaying = driverFor(await this.connect()).relaying();
    try {
      await relaying.prepare();
    } catch (error) {
      await relaying.close().catch(() => {});
      throw error;
    }
    return relaying;
  }

  /** What it works at keeps the process, and not what it waits for. */
  private async idly(wait: () => Promise<void>): Promise<void> {
    port().hold(-1);
    try {
      await wait();
    } finally {
      port().hold(1);
    }
  }

  private async live(opened: () => void, refused: (error: unknown) => void): Promise<void> {
    let pause = SOON;
    port().hold(1);
    while (!this.isStopping) {
      try {
        this.relaying = await this.open();
        try {
          await this.relaying.watch();
          this.refusedRows = Number((await this.relaying.fetch('count_refused', []))[0]![0]);
          opened();
          while (!this.isStopping) {
            await this.drain(this.relaying);
            pause = SOON;
            const { relaying } = this;
            await this.idly(() => relaying.wait());
          }
        } finally {
          const over = this.relaying;
          this.relaying = undefined;
          await over.close().catch(() => {});
        }
      } catch (error) {
        await this.interrupted(error);
        if (error instanceof InvalidOptions) {
          refused(error);
          break;
        }
        opened();
        if (!this.isStopping) await this.idly(() => this.rest(pause));
        pause = Math.min(pause * 2, LATE);
      }
    }
    opened();
    port().hold(-1);
    running.delete(this);
    this.life = undefined;
  }

  private rest(span: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, span);
      timer.unref();
      this.restEnds = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  private async interrupted(error: unknown): Promise<void> {
    const isNew = this.wrong === undefined;
    this.wrong = (error instanceof TaskloomError ? `${error.code}: ${error.message}` : String(error).split('\n')[0]!).toWellFormed();
    if (isNew) await port().request(this.app, 'outboxTell', { interrupted: this.wrong }).catch(() => {});
  }

  /** Relays until nothing is due. Throws what keeps it from that. */
  private async drain(relaying: Relaying): Promise<void> {
    for (;;) {
      const isFull = await this.batch(relaying);
      if (this.wrong !== undefined) {
        this.wrong = undefined;
        await port().request(this.app, 'outboxTell', {});
      }
      if (!isFull || this.isStopping) return;
    }
  }

  /** One batch; whether there may be more. */
  private async batch(relaying: Relaying): Promise<boolean> {
    const rows = (await relaying.read(this.limit)) as Row[];
    if (rows.length === 0) {
      await relaying.settle([], []);
      return false;
    }
    const done: string[] = [];
    const refused: Array<[id: string, name: string, code: string, message: string, error: string]> = [];
    let later: TaskloomError | undefined;
    try {
      const plain = rows.map(([id, name, payload, options, created]) => [id, name, payload, options, Number(created)]);
      const said = await port().request<Said[]>(this.app, 'outboxRelay', { rows: plain });
      for (const [place, verdict] of said.entries()) {
        const [id, name] = rows[place]!;
        if (verdict === null) done.push(id);
        else if (verdict[0]) {
          const [, code, message, hint] = verdict;
          refused.push([id, name, code, message, `${code}: ${message}${hint === null ? '' : `\nhint: ${hint}`}`]);
        } else later ??= new TaskloomError(verdict[2], { code: verdict[1], hint: verdict[3] ?? undefined });
      }
      await relaying.settle(
        done,
        refused.map(([id, , , , error]) => [Date.now() * 1000, error, id]),
      );
    } catch (error) {
      await relaying.abandon();
      throw error;
    }
    this.moved += done.length;
    if (done.length > 0) for (const tell of [...waiting]) tell();
    if (refused.length > 0) {
      this.refusedRows += refused.length;
      await port().request(this.app, 'outboxTell', { refused: refused.map((row) => row.slice(0, 4)) });
    }
    if (later !== undefined) throw later;
    const isFull = rows.length >= this.limit;
    const size = rows.reduce((sum, row) => sum + row[2].length, 0);
    if (size > HEAVY) this.limit = Math.max(1, this.limit >> 1);
    else if (size < LIGHT && isFull) this.limit = Math.min(LARGEST, this.limit * 2);
    return isFull;
  }
}

