/** What a handler may ask and tell while it works. */

import { AsyncLocalStorage } from 'node:async_hooks';

import type { App } from './app.js';
import { shown } from './durations.js';
import { checkEventName } from './events.js';
import { InvalidOptions, LeaseLost, Misuse, TaskCancelled, TaskTimedOut, native } from './errors.js';
import type { TaskHandle } from './handle.js';
import { infoFrom, type TaskInfo } from './info.js';
import { tellable } from './lines.js';
import type { ChildOptions } from './options.js';
import { encode } from './payload.js';
import { port } from './port.js';
import type { Verdict } from './retry_rules.js';
import type { Handler, Submission, Task } from './task.js';
import { idAt } from './wire.js';

/** A handler's own log: kept with the task, within bounds. */
export interface TaskLog {
  /** Says something at level debug. */
  debug(message: string): void;
  /** Says something at level info. */
  info(message: string): void;
  /** Says something at level warning. */
  warn(message: string): void;
  /** Says something at level error. */
  error(message: string): void;
}

/** What a handler sees of its task. */
export interface ContextTask {
  /** The task's id. */
  readonly id: string;
  /** The handler's name. */
  readonly name: string;
  /** Which attempt this is: 1 for the first. */
  readonly attempt: number;
  /** The queue that it came from. */
  readonly queue: string;
  /** How many attempts have failed before. */
  readonly failures: number;
  /** Words to find it by. */
  readonly tags: readonly string[];
  /** Free facts. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Ties tasks of one request together. */
  readonly correlationId: string | undefined;
  /** The schedule that submitted it. */
  readonly schedule: string | undefined;
  /** The time by that schedule's rule that it is for, which may be some time ago. */
  readonly tick: Date | undefined;
}

/** What is known of an attempt; times are in milliseconds. */
type Details = TaskInfo & { now?: number; timeLeft?: number };

class TaskView implements ContextTask {
  readonly name: string;
  readonly attempt: number;

  constructor(
    private readonly context: Context,
    private readonly ids: Uint32Array,
    private readonly at: number,
    name: string,
    attempt: number,
  ) {
    this.name = name;
    this.attempt = attempt;
  }

  get id(): string {
    return idAt(this.ids, this.at);
  }

  get queue(): string {
    return this.context._info().queue;
  }

  get failures(): number {
    return this.context._info().failures;
  }

  get tags(): readonly string[] {
    return this.context._info().tags;
  }

  get metadata(): Readonly<Record<string, string>> {
    return this.context._info().metadata;
  }

  get correlationId(): string | undefined {
    return this.context._info().correlationId;
  }

  get schedule(): string | undefined {
    return this.context._info().schedule;
  }

  get tick(): Date | undefined {
    return this.context._info().tick;
  }
}

const OVER =
  'the task was cancelled, timed out, or its handler has returned: end what still works for it, such as a timer, when ' +
  'ctx.signal is aborted and in a finally block; or ask ctx.cancelled first';

/** The task of a plain call. */
class NoTask implements ContextTask {
  readonly id = '00000000-0000-0000-0000-000000000000';
  readonly attempt = 1;
  readonly queue = 'default';
  readonly failures = 0;
  readonly tags = [];
  readonly metadata = {};
  readonly correlationId = undefined;
  readonly schedule = undefined;
  readonly tick = undefined;

  constructor(readonly name: string) {}
}

/**
 * What a handler is given beside its input.
 *
 * ```js
 * app.task('resize', async (input, ctx) => {
 *   ctx.progress(0.5, 'half way');
 *   await fetch(input.url, { signal: ctx.signal });
 * });
 * ```
 *
 * It may be kept beyond the attempt's end; what it tells then is refused with `LeaseLost`, but for its log: what that is
 * told is not kept. So a timer or a stream that tells how far the task is ends with the handler: stop it in a `finally`
 * block, and when `ctx.signal` is aborted.
 */
export class Context {
  /** @internal */ _isCalledOff = false;
  /** @internal */ _isOver = false;
  /** The handle of its task, if that was submitted here and its input was kept. @internal */
  _handle: TaskHandle | undefined = undefined;
  /** How many children it waits for. */
  private children = 0;
  // There is one of these for each attempt, and most handlers ask for none of the following: so they have no place in it.
  declare private controller: AbortController | undefined;
  declare private why: unknown;
  declare private view: ContextTask | undefined;
  declare private details: Details | undefined;
  declare private lines: TaskLog | undefined;
  declare private saved: string | undefined;
  declare private notes: Record<string, unknown> | undefined;

  /** @internal */
  constructor(
    /** @internal */ readonly _app: App,
    /** @internal */ readonly _handler: Handler,
    /** @internal */ readonly _job: number,
    private readonly attempt: number,
    private readonly ids: Uint32Array | undefined,
    private readonly at: number,
  ) {}

  /** The task. */
  get task(): ContextTask {
    return (this.view ??=
      this.ids === undefined
        ? new NoTask(this._handler.name)
        : new TaskView(this, this.ids, this.at, this._handler.name, this.attempt));
  }

  /** Aborted when the attempt no longer counts: the task was cancelled, timed out, or the app stops. */
  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this._isCalledOff) this.controller.abort(this.why);
    }
    return this.controller.signal;
  }

  /** Whether the attempt no longer counts: it was called off, or its handler has returned. */
  get cancelled(): boolean {
    return this._isCalledOff || this._isOver;
  }

  /** Throws what the signal was aborted with, if it was; `LeaseLost` once the handler has returned. */
  raiseIfCancelled(): void {
    if (this._isCalledOff) throw this.why;
    if (this._isOver) throw this.over();
  }

  /** The time by the app's clock: in testing mode (`app.testing()`) the one that the test turns. */
  get now(): Date {
    const now = this.ids === undefined || this._isOver ? null : port().native.now(this._job);
    return now === null ? new Date() : new Date(now);
  }

  /** When the attempt must have ended, if it has a timeout or its task a deadline: the earlier of them. */
  get deadline(): Date | undefined {
    const { now, timeLeft, deadline } = this._info();
    const times = timeLeft === undefined || now === undefined ? [] : [now + timeLeft];
    if (deadline !== undefined) times.push(deadline.getTime());
    return times.length === 0 ? undefined : new Date(Math.min(...times));
  }

  /**
   * Tells how far the task is.
   *
   * Throws `LeaseLost` if the attempt no longer counts, so that the handler ends. In a timer or a listener nobody catches
   * that: stop it with the handler.
   *
   * @param value from 0 to 1
   * @param message what it does
   */
  progress(value: number, message?: string): void {
    if (typeof value !== 'number' || Number.isNaN(value)) {
      throw new InvalidOptions(`progress is ${shown(value)}; it must be a number from 0 to 1`);
    }
    if (message !== undefined && message !== null && typeof message !== 'string') {
      throw new InvalidOptions(`the message of progress is ${shown(message)}; it must be a text`, { hint: "as in ctx.progress(0.5, 'half way')" });
    }
    this.tell((job) => port().native.progress(job, value, message ?? null));
  }

  /** The task's log. What it is told once the attempt no longer counts is not kept. */
  get log(): TaskLog {
    if (this.lines === undefined) {
      const at =
        (level: string) =>
        (message: string): void =>
          this.note(level, String(message));
      this.lines = { debug: at('debug'), info: at('info'), warn: at('warning'), error: at('error') };
    }
    return this.lines;
  }

  /** A line too many is no reason to end what still works: a handler that cleans up, or a timer that it has forgotten. */
  private note(level: string, message: string): void {
    try {
      this.tell((job) => port().native.log(job, level, message));
    } catch (error) {
      if (!(error instanceof LeaseLost)) throw error;
    }
  }

  /**
   * Publishes an event of your own, about this task. Its name has a point in it, as in `'order.paid'`.
   *
   * Throws `LeaseLost` once the handler has returned.
   */
  publish(name: string, data: unknown = null): void {
    const line = tellable(encode(data, 'data'));
    checkEventName(name);
    this.tell((job) => port().native.publish(job, name, line));
  }

  /** Notes beside the result, kept with the task if the attempt succeeds: `ctx.resultMetadata.rows = 7`. */
  get resultMetadata(): Record<string, unknown> {
    return (this.notes ??= new Proxy(
      {},
      {
        set: (notes: Record<string, unknown>, key, value: unknown) => {
          const line = tellable(encode(value, `resultMetadata.${String(key)}`));
          this.tell((job) => port().native.note(job, String(key), line));
          notes[String(key)] = value;
          return true;
        },
      },
    ));
  }

  /** Saves where the next attempt can go on from. When it resolves, it is as durable as the store. */
  async saveCheckpoint(value: unknown): Promise<void> {
    await this.checkpoint(encode(value, 'checkpoint'));
  }

  /** What this attempt or an earlier one saved last; `otherwise` if there is nothing. */
  async loadCheckpoint<T = unknown>(): Promise<T | undefined>;
  async loadCheckpoint<T>(otherwise: T): Promise<T>;
  async loadCheckpoint<T>(otherwise?: T): Promise<T | undefined> {
    const saved = this.ids === undefined ? this.saved : port().native.checkpoint(this._running());
    return saved === undefined || saved === null ? otherwise : (JSON.parse(saved) as T);
  }

  /** Forgets the checkpoint. */
  async clearCheckpoint(): Promise<void> {
    await this.checkpoint(undefined);
  }

  private async checkpoint(value: string | undefined): Promise<void> {
    if (this.ids === undefined) this.saved = value;
    else await port().request(this._app, 'saveCheckpoint', { job: this._running(), value });
  }

  /**
   * Submits a child of this task.
   *
   * Children are keyed by the order in which they are submitted: an attempt that submits again finds the ones of an
   * earlier attempt. Cancelling the task cancels its children, unless they are `detached`.
   *
   * @param task the task, or the name of one
   */
  async submit<Input, Result>(task: Task<Input, Result>, ...input: Submission<Input, ChildOptions>): Promise<TaskHandle<Result>>;
  async submit(task: string, input?: unknown, options?: ChildOptions): Promise<TaskHandle>;
  async submit(task: Task<never, unknown> | string, input?: unknown, options?: ChildOptions): Promise<TaskHandle> {
    return await this._app._submitting.child(this.ids === undefined ? undefined : this, task, input, options);
  }

  /** The number of its job; throws once the attempt is over. @internal */
  _running(): number {
    if (this._isOver) throw this.over();
    return this._job;
  }

  private over(): LeaseLost {
    return new LeaseLost(`attempt ${this.attempt} of task ${this.task.id} is over`, { task: this.task.id, hint: OVER });
  }

  private tell(tell: (job: number) => void): void {
    if (this.ids === undefined) return;
    const job = this._running();
    try {
      native(() => tell(job));
    } catch (error) {
      throw error instanceof LeaseLost ? this.over() : error;
    }
  }

  /** @internal */
  _info(): Details {
    if (this.details === undefined) {
      const described = this.ids === undefined || this._isOver ? null : port().native.job(this._job);
      this.details =
        described === null
          ? ({ queue: 'default', failures: 0, tags: [], metadata: {} } as unknown as Details)
          : (infoFrom(JSON.parse(described) as Record<string, unknown>) as Details);
    }
    return this.details;
  }

  /** It begins or ends to wait for a child: while it waits for any, it lends its place. @internal */
  _waits(by: 1 | -1): void {
    this.children += by;
    if (this._isOver || this.children !== (by === 1 ? 1 : 0)) return;
    port().native.lendPlace(this._job, by === 1);
  }

  /** What its handler's policy says of an error that ends the attempt, if another one could follow. @internal */
  _verdict(error: unknown): Verdict | undefined {
    const { rules } = this._handler;
    // An attempt that was called off has had its verdict.
    if (rules === undefined || this._isCalledOff) return undefined;
    const { failures, retries } = this._info();
    return failures < retries ? rules.verdict(error, failures + 1) : undefined;
  }

  /** @internal */
  _callOff(why: string): void {
    this._isCalledOff = true;
    const { id, name } = this.task;
    this.why =
      why === 'timed out'
        ? new TaskTimedOut(`${name} took too long`, { task: id })
        : new TaskCancelled(`${name} was ${why === 'cancelled' ? 'cancelled' : 'called off: its app stops'}`, { task: id });
    this.controller?.abort(this.why);
  }
}

/** The context of an attempt. @internal */
export function makeContext(app: App, handler: Handler, job: number, attempt: number, ids: Uint32Array, at: number): Context {
  return new Context(app, handler, job, attempt, ids, at);
}

/** The context of a plain call, which has no task. @internal */
export function detachedContext(app: App, handler: Handler): Context {
  return new Context(app, handler, -1, 1, undefined, 0);
}

/** @internal */
export function endedContext(context: Context): void {
  context._isOver = true;
}

/** @internal */
export const storage = new AsyncLocalStorage<Context>();

/**
 * The context of the handler that this code runs in, however deep; `undefined` elsewhere.
 *
 * After an `await` it is known only for apps with `asyncContext: true`. Where it cannot be told, `Misuse` is thrown.
 *
 * ```js
 * function helper() {
 *   currentContext()?.log.info('deep inside');
 * }
 * ```
 */
export function currentContext(): Context | undefined {
  const found = storage.getStore() ?? port().jobs.current;
  if (found === undefined && port().jobs.hasUntoldContexts()) {
    throw new Misuse('handlers are in flight, and it cannot be told whether this code belongs to one of them', {
      code: 'TL1602',
      hint: 'make the app with asyncContext: true, or pass the context on',
    });
  }
  return found;
}
