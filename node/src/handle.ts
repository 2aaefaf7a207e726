/** A submitted task, as its submitter sees it. */

import type { App } from './app.js';
import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions, Misuse, TaskloomError, WaitTimeout, type AttemptError } from './errors.js';
import { type LogLine, type Progress, type TaskInfo, infoFrom } from './info.js';
import { callOptions } from './options.js';
import { port } from './port.js';
import { waitBegins, waitEnds } from './waiting.js';
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
  | 'skipped'
  /** Of a handle that `tx` gave: the row of an outbox, which is no task yet. */
  | 'outbox';

/** How to wait for a result. */
export interface WaitOptions {
  /** How long to wait; then `WaitTimeout` is thrown, and the task goes on. */
  timeout?: Duration;
  /** Ends the wait, and leaves the task alone. */
  signal?: AbortSignal;
}

type Settle = (value: any) => void;

/** Somebody who waits for a submit, or for an outcome. @internal */
export interface Waiter {
  resolve: Settle;
  reject: Settle;
}

/** Who waits for an outcome: a promise, by what resolves it, or somebody who wants to hear of an error as such. */
type Waits = Settle | Waiter;

/** What resolves the promise that was made last. */
let resolveLast: Settle;

/** Makes a promise of which only what resolves it is kept: what rejects it, and a closure for each, would outlive it. */
const keepResolve = (resolve: Settle): void => {
  resolveLast = resolve;
};

function tell(waits: Waits, value: unknown, error: unknown): void {
  if (typeof waits === 'function') waits(error === undefined ? value : Promise.reject(error));
  else if (error === undefined) waits.resolve(value);
  else waits.reject(error);
}

/** A submit of many, while it is under way. @internal */
export interface Together {
  handles: TaskHandle[];
  /** How many are still to be accepted. */
  left: number;
  resolve: Settle;
  reject: Settle;
}

/** What is known of a task's outcome. */
const enum Stage {
  /** The submit is under way. */
  Submitting,
  Pending,
  /** It succeeded, and nobody has asked for the value yet: the outcome is its text. */
  Text,
  /** It succeeded: the outcome is the value. */
  Value,
  /** The outcome is the error. */
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
  // Few fields: there may be a million of these, and what survives the collector's first rounds is what it costs.
  /** @internal */ readonly _app: App;
  /** The handler's name. */
  readonly name: string;
  /** @internal */ _slot = -1;
  /** The id as text, or where it stands in words. */
  private ids: Uint32Array | string;
  private at = 0;
  private stage: Stage;
  /** See the stages; while it is pending, the state that a store has told. */
  private outcome: unknown = undefined;
  /** Whoever waits for the submit, or the submit of many that it is part of; then whoever waits for the outcome. */
  private waits: Waits | Waits[] | Together | undefined;

  /**
   * Of a task that has an id, or whose submit somebody waits for; with neither, of one that is accepted at once.
   *
   * @internal
   */
  constructor(app: App, name: string, id: string | undefined, waits?: Waiter | Together) {
    this._app = app;
    this.name = name;
    this.ids = id ?? '';
    this.stage = waits === undefined ? Stage.Pending : Stage.Submitting;
    this.waits = waits;
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
    if (this.stage >= Stage.Text) {
      if (this.stage < Stage.Ended) return 'succeeded';
      const known = STATES[(this.outcome as Error).name];
      if (known !== undefined) return known;
    }
    const heard = this._slot < 0 ? null : port().native.state(this._slot);
    if (heard !== null) return heard as TaskState;
    return this.stage === Stage.Pending && this.outcome !== undefined ? (this.outcome as TaskState) : 'pending';
  }

  /** Whether there is an outcome. */
  done(): boolean {
    return this.stage >= Stage.Text;
  }

  /**
   * Waits for the task, and returns what its handler returned.
   *
   * The process stays alive for it, in an app that was never started, too: until some process has run the task, however
   * long that takes.
   *
   * Throws `TaskFailed`, `TaskTimedOut`, `TaskCancelled`, `TaskExpired`, or `ShutDown` if the app stops first;
   * `WaitTimeout` if `timeout` passes; what `signal` says if it is aborted.
   */
  result(options?: WaitOptions): Promise<Result> {
    if (options !== undefined && this.stage >= Stage.Text) return this.resultAfter(options);
    switch (this.stage) {
      case Stage.Value:
        return Promise.resolve(this.outcome as Result);
      case Stage.Text:
        return new Promise((resolve) => resolve(this.value() as Result));
      case Stage.Ended:
        return Promise.reject(this.outcome);
    }
    const testing = this._app._testing;
    if (testing !== undefined) return testing._result(this, options);
    return this._wait(options);
  }

  /** Waits for the outcome, and does nothing for it. @internal */
  _wait(options?: WaitOptions): Promise<Result> {
    if (options !== undefined) return this.resultWithin(options);
    const promise = new Promise<Result>(keepResolve);
    this.wait(resolveLast);
    return promise;
  }

  /** There is an outcome; a mistake in the options is none the less told. */
  private async resultAfter(options: WaitOptions): Promise<Result> {
    checkedWait(options);
    return await this.result();
  }

  private async resultWithin(options: WaitOptions): Promise<Result> {
    const { span, signal } = checkedWait(options);
    signal?.throwIfAborted();
    if (this.done()) return await this.result();
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
        this.forget(waiter);
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

  private wait(waits: Waits): void {
    this.listen();
    const others = this.waits as Waits | Waits[] | undefined;
    if (others === undefined) this.waits = waits;
    else if (Array.isArray(others)) others.push(waits);
    else this.waits = [others, waits];
    waitBegins(this);
  }

  private forget(waits: Waits): void {
    const all = this.waits as Waits | Waits[] | undefined;
    const others = Array.isArray(all) ? all.filter((other) => other !== waits) : [];
    if (others.length > 0) {
      this.waits = others;
    } else if (all === waits || Array.isArray(all)) {
      this.waits = undefined;
      waitEnds(this);
    }
  }

  /** For a handle that was had from an id: until somebody waits, nothing is heard of its task. */
  private listen(): void {
    if (this._slot >= 0) return;
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
    if (typeof listener !== 'function') throw new Misuse(`onDone was given ${shown(listener)}; it takes a function of the handle`);
    const told = (): void => {
      // What it throws is its own, and is seen as any uncaught error.
      queueMicrotask(() => listener(this));
    };
    if (this.done()) told();
    else this.wait({ resolve: told, reject: told });
  }

  /** Cancels the task: true if it was or will be cancelled, false if it had ended. */
  async cancel(options: { reason?: string } = {}): Promise<boolean> {
    const { reason } = callOptions('cancel', options, ['reason'], "cancel({ reason: 'the customer has left' })");
    if (this.done()) return false;
    return await this._app._cancelOne(this.id, reason);
  }

  /** Every field of the task, as the store has it now. */
  async info(): Promise<TaskInfo> {
    const found = await port().request<Record<string, unknown> | null>(this._app, 'get', { id: this.id });
    if (found === null) throw unknownTask(this.id);
    if (this.stage === Stage.Pending) this.outcome = found.state;
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
    return `TaskHandle { ${this.name} ${this.stage === Stage.Submitting ? '(not yet accepted)' : this.id} ${this.state} }`;
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
    if (this.stage === Stage.Text) {
      this.outcome = JSON.parse(this.outcome as string);
      this.stage = Stage.Value;
    }
    return this.outcome;
  }

  // ── what the port says ────────────────────────────────────────────────────────────────────────────────────────

  /** The task has its id; whether somebody has waited for that. @internal */
  _accepted(ids: Uint32Array, at: number): boolean {
    this.ids = ids;
    this.at = at;
    if (this.stage !== Stage.Submitting) return false;
    this.stage = Stage.Pending;
    const waits = this.waits as Waiter | Together;
    this.waits = undefined;
    if ('left' in waits) {
      if (--waits.left === 0) waits.resolve(waits.handles);
    } else {
      waits.resolve(this);
    }
    return true;
  }

  /** Its submit was refused; whether it had been accepted at once all the same. @internal */
  _refused(error: TaskloomError): boolean {
    this._slot = -1;
    if (this.stage !== Stage.Submitting) {
      this._ended(error);
      return true;
    }
    const waits = this.waits as Waiter | Together;
    this.waits = undefined;
    waits.reject(error);
    return false;
  }

  /** @internal */
  _succeeded(text: string): void {
    this.stage = Stage.Text;
    this.outcome = text;
    this._app._ended();
    if (this.waits === undefined) return;
    let value: unknown;
    try {
      value = this.value();
    } catch (error) {
      this.settle(undefined, error);
      return;
    }
    this.settle(value, undefined);
  }

  /** It succeeded here, and this is its value. @internal */
  _returned(value: unknown): void {
    this.stage = Stage.Value;
    this.outcome = value;
    this._app._ended();
    if (this.waits !== undefined) this.settle(value, undefined);
  }

  /** @internal */
  _ended(error: TaskloomError): void {
    this.stage = Stage.Ended;
    this.outcome = error;
    this._app._ended();
    this.settle(undefined, error);
  }

  private settle(value: unknown, error: unknown): void {
    const waits = this.waits as Waits | Waits[] | undefined;
    this.waits = undefined;
    waitEnds(this);
    if (Array.isArray(waits)) for (const one of waits) tell(one, value, error);
    else if (waits !== undefined) tell(waits, value, error);
  }

  /** The errors of all attempts, if it has failed for good, as they came with that. @internal */
  _attempts(): readonly AttemptError[] {
    return this.stage === Stage.Ended ? ((this.outcome as { errors?: readonly AttemptError[] }).errors ?? []) : [];
  }

  /** What the store said of a task that was found there. @internal */
  _found(state: TaskState): this {
    this.outcome = state;
    return this;
  }
}

/** How long somebody waits, in milliseconds, and what may call that off. Refuses what says nothing of a wait, as a number does. @internal */
export function checkedWait(options: WaitOptions): { span: number | undefined; signal: AbortSignal | undefined } {
  const { timeout, signal } = callOptions('result', options, ['timeout', 'signal'], "result({ timeout: '10s' })");
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw new InvalidOptions(`signal is ${shown(signal)}; it must be an AbortSignal`, { hint: 'of an AbortController, or AbortSignal.any(…)' });
  }
  return { span: timeout === undefined ? undefined : millis('timeout', timeout), signal };
}

function unknownTask(id: string): Misuse {
  return new Misuse(`there is no task ${id}`, {
    code: 'TL1602',
    task: id,
    hint: 'the store keeps ended tasks for a while only; a held handle keeps its outcome',
  });
}
