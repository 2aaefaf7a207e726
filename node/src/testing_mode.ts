/**
 * An app on a clock that a test turns. `app.testing()` makes one.
 *
 * In testing mode an app has the real engine, on a memory store, without threads. Nothing runs by itself: the test turns
 * the clock ({@link Testing.advance}), has what is eligible run ({@link Testing.drain}), or waits for a handle, and every
 * retry, timeout, delay and expiry happens at its time, in the same order each time.
 *
 * # How it rests
 * To drive is to go round, until there is nothing left that could go on at this time ({@link Testing.rest}): timers of
 * JavaScript that are due are called, the engine lets happen what is due there, a crossing starts handlers and brings
 * outcomes, and the event loop has a turn. It is quiet when two rounds in a row said and heard nothing, and no
 * `setImmediate` is left. Then the clock may be turned, to the next time that either the engine or a timer has.
 *
 * What waits for something real (a socket, a file, a thread) is not waited for, but by whoever awaits its handle.
 *
 * Drives of the test come one after the other. One that a handler asks for goes on inside of the one that runs it.
 */

import { AsyncLocalStorage } from 'node:async_hooks';

import type { App } from './app.js';
import type { Context } from './context.js';
import { type Duration, millis, shown, timeOf } from './durations.js';
import { InvalidOptions, Misuse, WaitTimeout, native } from './errors.js';
import { type TaskHandle, type WaitOptions, checkedWait } from './handle.js';
import { type TaskInfo, infoFrom } from './info.js';
import { isFields } from './lines.js';
import { callOptions, unknown } from './options.js';
import { port } from './port.js';
import { VirtualTimers, real } from './virtual_timers.js';

/** How testing mode begins. */
export interface TestingOptions {
  /** Whether a submit runs the task at once, before it resolves; false. What has a delay still waits for the clock. */
  inline?: boolean;
  /** When the clock begins; the present. */
  start?: Date;
  /** What decides about chance, such as the jitter of retries: a whole number; 0. The same seed, the same run. */
  seed?: number;
  /**
   * Whether `setTimeout`, `setInterval` and those of `node:timers/promises` go by the same clock, everywhere in this
   * thread, until the block is left; true.
   */
  timers?: boolean;
}

/** A span of time by its parts, which are added up. */
export interface Span {
  /** Seven days each. */
  weeks?: number;
  /** 24 hours each. */
  days?: number;
  /** 60 minutes each. */
  hours?: number;
  /** 60 seconds each. */
  minutes?: number;
  /** 1,000 milliseconds each. */
  seconds?: number;
  /** A thousandth of a second each. */
  milliseconds?: number;
}

/** What a task was submitted with, its handler's own options included. Durations are in milliseconds. */
export interface SubmittedOptions
  extends Pick<
    TaskInfo,
    | 'queue'
    | 'priority'
    | 'eta'
    | 'expires'
    | 'deadline'
    | 'timeout'
    | 'retries'
    | 'tags'
    | 'metadata'
    | 'key'
    | 'uniqueKey'
    | 'version'
    | 'correlationId'
    | 'traceparent'
  > {
  /** How long after its submit it was to begin. */
  readonly delay: number | undefined;
}

/** One task that was submitted in testing mode. */
export interface Submitted<Input = any> {
  /** Its handler's name. */
  readonly name: string;
  /** Its input, as it was encoded: a Date is a text here. */
  readonly input: Input;
  /** What it was submitted with. */
  readonly options: SubmittedOptions;
  /** Its handle. */
  readonly handle: TaskHandle;
}

const OPTIONS = [
  'queue',
  'priority',
  'eta',
  'expires',
  'deadline',
  'timeout',
  'retries',
  'tags',
  'metadata',
  'key',
  'uniqueKey',
  'version',
  'correlationId',
  'traceparent',
] as const;

const UNITS: Record<keyof Span, number> = {
  weeks: 604_800_000,
  days: 86_400_000,
  hours: 3_600_000,
  minutes: 60_000,
  seconds: 1_000,
  milliseconds: 1,
};

/** The last time that a Date can tell. */
const LAST = 8.64e15;

/** So many rounds in which only `setImmediate` went on, and it is taken that there is no end to them. */
const ROUNDS = 1_000;

/** In the handlers of an app in testing mode, and whatever follows from them. */
const inside = new AsyncLocalStorage<{ readonly mode: Testing; readonly ctx: Context }>();

/**
 * An app on a virtual clock: `await using t = app.testing()`, or `const t = app.testing()` and `await t.end()` at last.
 *
 * ```js
 * import { App } from 'taskloom';
 *
 * const app = new App({ store: 'sqlite:shop.db' });
 * const remind = app.task('remind', async (who) => `reminded ${who}`);
 *
 * const t = app.testing();
 * try {
 *   const handle = await remind.submit('Ada', { delay: '3 days' });
 *   await t.advance({ days: 3 });
 *   console.log(await handle.result()); // reminded Ada
 * } finally {
 *   await t.end();
 * }
 * ```
 */
export class Testing {
  /** So many rounds at one and the same time, and it is taken that there is no end to them. @internal */
  static _most = 100_000;
  /** The app that is tested. */
  readonly app: App;
  private readonly inline: boolean;
  private readonly timers: VirtualTimers | undefined;
  private readonly all: Submitted[] = [];
  private isOver = false;
  private lastTime: Date | undefined;
  /** The drive that is under way, and those that wait for it. */
  private drives: Promise<unknown> = Promise.resolve();
  /** What was waited for before the mode began: it says nothing about handlers. */
  private readonly before: Map<string, number>;

  /** @internal */
  constructor(app: App, options: TestingOptions = {}) {
    const { inline, start, seed, timers } = checked(options);
    this.app = app;
    this.inline = inline;
    this.timers = timers ? new VirtualTimers(() => this.times()[1], () => this.handler() !== undefined) : undefined;
    this.timers?.install();
    try {
      const line = JSON.stringify({ start: start === undefined ? null : start.getTime() * 1000, seed });
      native(() => port().native.beginTesting(app._number, line));
    } catch (error) {
      this.timers?.uninstall();
      throw inUse(error);
    }
    this.before = waits();
    app._beginTesting(this, (ctx, run) => inside.run({ mode: this, ctx }, run));
  }

  /** The time on the virtual clock. When the block has been left, what it was then. */
  get now(): Date {
    return this.lastTime ?? new Date(this.times()[0] / 1000);
  }

  /**
   * Everything that was submitted since the mode began, oldest first, by whomever: children too. It can be looked at
   * after the end, too.
   */
  get submitted(): Submitted[] {
    if (!this.isOver) this.note();
    return [...this.all];
  }

  /** Those of {@link submitted} that have failed or timed out for good. */
  get failures(): Submitted[] {
    return this.submitted.filter(({ handle }) => handle.state === 'failed' || handle.state === 'timed_out');
  }

  /**
   * Turns the clock on by a span. What is due meanwhile happens at its time, in order; what is eligible runs first.
   *
   * @param span milliseconds, a text such as `'3 days'`, or its parts: `{ days: 3, hours: 1 }`
   *
   * Throws `InvalidOptions` for a span that is none, `Misuse` outside of the block.
   */
  async advance(span: Duration | Span): Promise<void> {
    const length = spanOf(span);
    if (!(this.now.getTime() + length <= LAST)) {
      throw new InvalidOptions(`the span to advance is ${shown(span)}, which leads past the last time that a Date can tell`);
    }
    await this.drive(() => this.pass(Math.round(length * 1000)));
  }

  /**
   * Turns the clock to a time: to a later one as {@link advance} does; to an earlier one as somebody sets a wall clock
   * back, and no time goes by for timeouts.
   */
  async setTime(at: Date): Promise<void> {
    const time = timeOf('a time', at) * 1000;
    await this.drive(async () => {
      const left = time - this.times()[0];
      if (left >= 0) return await this.pass(left);
      native(() => port().native.setTime(this.app._number, time));
      await this.rest();
    });
  }

  /**
   * Runs everything that is eligible, and what becomes so by that, without turning the clock.
   *
   * A handler that waits for something real, such as a socket, is left waiting: await its handle.
   */
  async drain(): Promise<void> {
    await this.drive(() => this.rest());
  }

  /** Leaves testing mode: what has not run is dropped, and the app is as it was before. Ending twice is ending once. */
  async end(): Promise<void> {
    if (this.isOver) return;
    this.note();
    this.lastTime = this.now;
    this.isOver = true;
    port().native.endTesting(this.app._number);
    this.app._endTesting();
    port().come();
    // What was called off gets a moment to clean up; the timers that it may set are real ones already.
    this.timers?.uninstall();
    for (let turn = 0; turn < 3; turn++) await loopTurn();
    port().jobs.abandon(this.app);
  }

  /** For `await using`: ends the mode. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }

  // ── driving ───────────────────────────────────────────────────────────────────────────────────────────────────

  private times(): number[] {
    return native(() => port().native.times(this.app._number));
  }

  private async drive<T>(work: () => Promise<T>): Promise<T> {
    this.check();
    const own = this.handler();
    if (own !== undefined) {
      // What a handler asks for must not wait for the drive that runs the handler.
      const value = await work();
      // It may have called off the very handler.
      own.raiseIfCancelled();
      return value;
    }
    const drive = this.drives.then(work);
    this.drives = drive.catch(() => {});
    return await drive;
  }

  /** The context of the handler that this code belongs to, if it is one of this app's. */
  private handler(): Context | undefined {
    const store = inside.getStore();
    return store?.mode === this ? store.ctx : undefined;
  }

  private check(): void {
    if (!this.isOver) return;
    throw new Misuse('the clock is the real one: testing mode has ended', {
      code: 'TL1603',
      hint: 'await using t = app.testing(); and keep to the inside of its block',
    });
  }

  /** Lets so many microseconds go by. */
  private async pass(micros: number): Promise<void> {
    for (let left = micros; ; ) {
      const wait = await this.rest();
      if (this.isOver) return;
      const step = wait === undefined || wait > left ? left : Math.max(1, wait);
      port().native.turn(this.app._number, step);
      left -= step;
      if (step === 0 || left <= 0) break;
    }
    await this.rest();
  }

  /** Runs what can be run; how many microseconds it is until more can, if ever. */
  private async rest(): Promise<number | undefined> {
    let wait = -1;
    for (let quiet = 0, rounds = 0, all = 0; quiet < 2 && !this.isOver; all++) {
      if (all >= Testing._most) throw endless(all, this.now);
      const before = port().activity;
      const fired = this.timers === undefined ? false : await this.timers.fire();
      if (this.isOver) return undefined;
      wait = native(() => port().native.drive(this.app._number));
      port().come();
      await loopTurn();
      const isBusy = fired || port().activity !== before;
      rounds = isBusy ? 0 : rounds + 1;
      quiet = isBusy || (rounds < ROUNDS && hasImmediates()) ? 0 : quiet + 1;
    }
    const timer = this.timers?.next();
    return wait < 0 ? timer : Math.min(wait, timer ?? wait);
  }

  // ── what the app says ─────────────────────────────────────────────────────────────────────────────────────────

  /** Something was submitted; with `inline` it runs now. @internal */
  async _submitted<T>(submitting: Promise<T>): Promise<T> {
    const submitted = await submitting;
    if (this.inline && !this.isOver && this.handler() === undefined) await this.drain();
    return submitted;
  }

  /** There is no room: what is eligible runs, and then there may be. @internal */
  async _makeRoom(): Promise<void> {
    await this.drive(() => this.rest());
  }

  /** Somebody waits for a task: what it waits for has to run. @internal */
  async _result<T>(handle: TaskHandle<T>, options: WaitOptions = {}): Promise<T> {
    const { span, signal } = checkedWait(options);
    if (this.handler() !== undefined || this.isOver) return await handle._wait(options);
    signal?.throwIfAborted();
    const outcome = handle._wait({ signal });
    outcome.catch(() => {});
    for (;;) {
      const wait = await this.drive(() => this.rest());
      if (handle.done() || signal?.aborted) return await outcome;
      if (!this.mayGoOn(handle, wait)) break;
      // It waits for something real.
      const late = await somethingHappens(outcome, span);
      if (late) break;
    }
    const what = `${handle.name} has not ended: it is ${handle.state}`;
    if (span !== undefined) throw new WaitTimeout(`${what}, and the clock stands still`, { task: handle.id });
    throw new Misuse(`task ${handle.id} would never end: it is ${handle.state}, and the clock stands still`, {
      code: 'TL1601',
      task: handle.id,
      hint: "turn the clock before: await t.advance('1h'); or resume its queue",
    });
  }

  /** Whether a task runs that may wait for something else than time. */
  private mayGoOn(handle: TaskHandle<any>, wait: number | undefined): boolean {
    if (handle.state !== 'running') return false;
    if (wait === undefined) return true;
    for (const [what, count] of waits()) if (count > (this.before.get(what) ?? 0)) return true;
    return false;
  }

  /** Looks at what was submitted meanwhile. */
  private note(): void {
    const { app, all } = this;
    const new_ = JSON.parse(native(() => port().native.submitted(app._number, all.length))) as Array<Record<string, unknown>>;
    for (const described of new_) {
      const { input, ...rest } = described;
      const info = infoFrom(rest);
      const options = Object.fromEntries(OPTIONS.map((name) => [name, info[name]]));
      const delay = info.eta === undefined ? undefined : Math.max(0, info.eta.getTime() - info.created.getTime());
      const handle = app._handleOf(rest);
      // So that it hears of the outcome, and keeps it.
      port().watch(app, handle).catch(() => {});
      all.push({ name: info.name, input, options: { ...options, delay } as SubmittedOptions, handle });
    }
    if (new_.length > 0) port().come();
  }
}

function endless(rounds: number, now: Date): Misuse {
  return new Misuse(`the event loop went round ${rounds} times at ${now.toISOString()}, and there is more to do`, {
    code: 'TL1601',
    hint: 'a task that submits itself anew needs a delay, or this has no end',
  });
}

/** A turn of the event loop. */
function loopTurn(): Promise<void> {
  return new Promise((resolve) => real.setImmediate(resolve));
}

function hasImmediates(): boolean {
  return process.getActiveResourcesInfo().includes('Immediate');
}

/** What keeps the event loop, by kind; but for what only takes turns. */
function waits(): Map<string, number> {
  const all = new Map<string, number>();
  for (const what of process.getActiveResourcesInfo()) {
    if (what !== 'Immediate') all.set(what, (all.get(what) ?? 0) + 1);
  }
  // The one that keeps the process alive while something is pending.
  if (port().isKept) all.set('Timeout', (all.get('Timeout') ?? 1) - 1);
  return all;
}

/** Waits for an outcome, or for anything else that this environment's port says or hears; whether it took too long. */
async function somethingHappens(outcome: Promise<unknown>, span: number | undefined): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<true>((resolve) => {
    if (span !== undefined) timer = real.setTimeout(() => resolve(true), span);
  });
  const happened = Promise.race([outcome.then(() => {}, () => {}), port().nextActivity()]).then((): false => false);
  try {
    return await Promise.race([happened, late]);
  } finally {
    real.clearTimeout(timer);
  }
}

function inUse(error: unknown): unknown {
  if (!(error instanceof Misuse) || error.code !== 'TL1604') return error;
  return new Misuse(error.message, {
    code: error.code,
    hint: 'stop it first; in a test, call app.testing() in the place of app.start(), and submit after it',
  });
}

function checked(options: TestingOptions): { inline: boolean; start: Date | undefined; seed: number; timers: boolean } {
  const names = ['inline', 'start', 'seed', 'timers'] as const;
  const { inline = false, start, seed = 0, timers = true } = callOptions('testing', options, names, 'app.testing({ inline: true })');
  for (const [name, value] of [['inline', inline], ['timers', timers]] as const) {
    if (typeof value !== 'boolean') throw new InvalidOptions(`${name} is ${shown(value)}; it must be true or false`);
  }
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new InvalidOptions(`seed is ${shown(seed)}; it must be a whole number of at least 0`);
  }
  if (start !== undefined) timeOf('start', start);
  return { inline, start, seed, timers };
}

/** A span in milliseconds. */
function spanOf(span: Duration | Span): number {
  if (typeof span !== 'object' || span === null) return millis('the span to advance', span);
  if (!isFields(span)) {
    throw new InvalidOptions(`the span to advance is ${shown(span)}; it must be a duration, or its parts`, {
      hint: span instanceof Date ? 't.setTime(…) turns the clock to a time' : "such as '3 days', or { days: 3, hours: 1 }",
    });
  }
  let total = 0;
  for (const [name, count] of Object.entries(span)) {
    const unit = UNITS[name as keyof Span];
    if (unit === undefined) throw unknown('unit of time', name, Object.keys(UNITS), []);
    if (typeof count !== 'number' || !Number.isFinite(count)) {
      throw new InvalidOptions(`${name} is ${shown(count)}; it must be a number`);
    }
    total += count * unit;
  }
  if (total >= 0) return total;
  throw new InvalidOptions(`the span to advance is ${total} ms, and time goes forward`, {
    hint: 't.setTime(…) sets the clock back, as somebody might set a wall clock',
  });
}
