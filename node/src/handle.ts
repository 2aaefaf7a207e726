/** A submitted task, as its submitter sees it. */

import type { App } from './app.js';
import { type Duration, millis } from './durations.js';
import { Misuse, TaskloomError, WaitTimeout, type AttemptError } from './errors.js';
import { type LogLine, type Progress, type TaskInfo, infoFrom } from './info.js';
import { port } from './port.js';
import { idAt } from './wire.js';

/** Where a task is in its life. `docs/states.md` has the moves. */
export type TaskState =
  | 'pending'
  | 'queued'
  | 'running'
  | 'retrying'
  | 'succeeded'
  | 'failed'
  | 'timed_out'
  | 'cancelled'
  | 'expired'
  | 'skipped';

/** How to wait for a result. */
export interface WaitOptions {
  /** How long to wait; then `WaitTimeout` is thrown, and the task goes on. */
  timeout?: Duration;
  /** Ends the wait, and leaves the task alone. */
  signal?: AbortSignal;
}

interface Waiter {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** @internal */
export interface Submitting {
  resolve(handle: unknown): void;
  reject(error: unknown): void;
  /** Handles that are still to be accepted, of a submit of many. */
  left: number;
  /** What it resolves with. */
  value: unknown;
}

const enum Stage {
  Pending,
  Succeeded,
  Ended,
}

const STATES: Record<string, TaskState> = {
  TaskFailed: 'failed',
  TaskTimedOut: 'timed_out',
  TaskCancelled: 'cancelled',
  TaskExpired: 'expired',
};

/**
 * A submitted task. Dropping it leaves the task alone; holding it keeps its outcome.
 *
 * A handle is no promise: `await handle` is the handle itself, and `await handle.result()` waits for the task.
 *
 * ```js
 * const handle = await resize.submit({ path: 'a.png', width: 100 });
 * const path = await handle.result({ timeout: '10s' });
 * ```
 */
export class TaskHandle<Result = unknown> {
  /** @internal */ _app: App;
  /** @internal */ _slot = -1;
  /** The handler's name. */
  readonly name: string;
  private ids: Uint32Array | string;
  private at = 0;
  private stage: Stage = Stage.Pending;
  /** The result's text until it is asked for, then its value; or the error. */
  private outcome: unknown = undefined;
  private isText = false;
  private waiters: Waiter[] | undefined = undefined;
  private submitting: Submitting | undefined;

  /** @internal */
  constructor(app: App, name: string, submitting: Submitting | undefined, id: string) {
    this._app = app;
    this.name = name;
    this.submitting = submitting;
    this.ids = id;
  }

  /** The task's id. */
  get id(): string {
    return typeof this.ids === 'string' ? this.ids : idAt(this.ids, this.at);
  }

  /**
   * Where the task is in its life, as last heard in this process. On a file that other processes share, `info()` asks
   * the store.
   */
  get state(): TaskState {
    if (this.stage === Stage.Succeeded) return 'succeeded';
    if (this.stage === Stage.Ended) {
      const known = STATES[(this.outcome as Error).name];
      if (known !== undefined) return known;
    }
    const heard = this._slot < 0 ? null : port().native.state(this._slot);
    return (heard as TaskState | null) ?? this.lastState ?? 'pending';
  }

  private lastState: TaskState | undefined;

  /** Whether there is an outcome. */
  done(): boolean {
    return this.stage !== Stage.Pending;
  }

  /**
   * Waits for the task, and returns what its handler returned.
   *
   * Throws `TaskFailed`, `TaskTimedOut`, `TaskCancelled`, `TaskExpired`, or `ShutDown` if the app stops first;
   * `WaitTimeout` if `timeout` passes; what `signal` says if it is aborted.
   */
  result(options?: WaitOptions): Promise<Result> {
    if (this.stage === Stage.Succeeded) {
      return new Promise((resolve) => resolve(this.value() as Result));
    }
    if (this.stage === Stage.Ended) return Promise.reject(this.outcome);
    if (options === undefined) {
      return new Promise<Result>((resolve, reject) => {
        this.wait({ resolve: resolve as Waiter['resolve'], reject });
      });
    }
    return this.resultWithin(options);
  }

  private async resultWithin({ timeout, signal }: WaitOptions): Promise<Result> {
    const span = timeout === undefined ? undefined : millis('timeout', timeout);
    signal?.throwIfAborted();
    return await new Promise<Result>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const end = (): void => {
        if (timer !== undefined) clearTimeout(timer);
        signal?.removeEventListener('abort', aborted);
      };
      const waiter: Waiter = {
        resolve: (value) => {
          end();
          resolve(value as Result);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      const giveUp = (error: unknown): void => {
        const place = this.waiters?.indexOf(waiter) ?? -1;
        if (place >= 0) this.waiters!.splice(place, 1);
        waiter.reject(error);
      };
      const aborted = (): void => giveUp(signal!.reason);
      if (span !== undefined && span <= 0x7fffffff) {
        timer = setTimeout(() => {
          giveUp(new WaitTimeout(`${this.name} has not ended after ${span} ms: it is ${this.state}`, { task: this.id }));
        }, span);
      }
      signal?.addEventListener('abort', aborted, { once: true });
      this.wait(waiter);
    });
  }

  private wait(waiter: Waiter): void {
    (this.waiters ??= []).push(waiter);
    if (this._slot >= 0 || this.submitting !== undefined) return;
    // A handle that was had from an id: until somebody waits, nothing is heard of its task.
    port()
      .watch(this._app, this)
      .then(
        (known) => {
          if (!known) this._ended(unknownTask(this.id));
        },
        (error) => this._ended(error as TaskloomError),
      );
  }

  /** Calls `listener` with this handle once there is an outcome, at once if there is. */
  onDone(listener: (handle: this) => void): void {
    if (typeof listener !== 'function') throw new Misuse('onDone takes a function of the handle');
    const told = (): void => {
      // What it throws is its own, and is seen as any uncaught error.
      queueMicrotask(() => listener(this));
    };
    if (this.stage !== Stage.Pending) told();
    else this.wait({ resolve: told, reject: told });
  }

  /** Cancels the task: true if it was or will be cancelled, false if it had ended. */
  async cancel(options: { reason?: string } = {}): Promise<boolean> {
    if (this.stage !== Stage.Pending) return false;
    return await this._app._cancelOne(this.id, options.reason);
  }

  /** Every field of the task, as the store has it now. */
  async info(): Promise<TaskInfo> {
    const found = await port().request<Record<string, unknown> | null>(this._app, 'get', { id: this.id });
    if (found === null) throw unknownTask(this.id);
    this.lastState = found.state as TaskState;
    return infoFrom(found);
  }

  /** How far the task says it is; nothing if it has not said. */
  async progress(): Promise<Progress | undefined> {
    return (await this.info()).progress;
  }

  /** The errors of all attempts, oldest first. */
  async errors(): Promise<readonly AttemptError[]> {
    return (await this.info()).errors;
  }

  /** The lines that its handlers logged. */
  async log(): Promise<readonly LogLine[]> {
    return (await this.info()).log;
  }

  /** The tasks that it submitted, in their order. */
  async children(): Promise<TaskHandle[]> {
    const found = await port().request<Array<Record<string, unknown>>>(this._app, 'children', { id: this.id });
    return found.map((child) => this._app._handleOf(child));
  }

  /** For `console.log`. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `TaskHandle { ${this.name} ${this.submitting === undefined ? this.id : '(not yet accepted)'} ${this.state} }`;
  }

  /** The task's id. */
  toString(): string {
    return this.id;
  }

  /** The task's id: a handle in an input is an id there. */
  toJSON(): string {
    return this.id;
  }

  private value(): unknown {
    if (this.isText) {
      this.outcome = JSON.parse(this.outcome as string);
      this.isText = false;
    }
    return this.outcome;
  }

  // ── what the port says ────────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  _accepted(ids: Uint32Array, at: number): void {
    this.ids = ids;
    this.at = at;
    const { submitting } = this;
    if (submitting !== undefined && --submitting.left === 0) submitting.resolve(submitting.value);
    this.submitting = undefined;
  }

  /** @internal */
  _refused(error: TaskloomError): void {
    const { submitting } = this;
    this._slot = -1;
    this.submitting = undefined;
    submitting?.reject(error);
  }

  /** @internal */
  _succeeded(text: string): void {
    this.stage = Stage.Succeeded;
    this.outcome = text;
    this.isText = true;
    this._app._ended();
    const { waiters } = this;
    if (waiters === undefined) return;
    this.waiters = undefined;
    for (const waiter of waiters) {
      try {
        waiter.resolve(this.value());
      } catch (error) {
        waiter.reject(error);
      }
    }
  }

  /** @internal */
  _ended(error: TaskloomError): void {
    this.stage = Stage.Ended;
    this.outcome = error;
    this._app._ended();
    const { waiters } = this;
    this.waiters = undefined;
    for (const waiter of waiters ?? []) waiter.reject(error);
  }

  /** What the store said of a task that was found there. @internal */
  _found(state: TaskState): this {
    this.lastState = state;
    return this;
  }
}

function unknownTask(id: string): Misuse {
  return new Misuse(`there is no task ${id}`, {
    code: 'TL1602',
    task: id,
    hint: 'the store keeps ended tasks for a while only; a held handle keeps its outcome',
  });
}
