/** An application: its store, its handlers, and what is asked of them. */

import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions, ShutDown, native } from './errors.js';
import { type EventOptions, EventStream, checkEventName, subscribe, type TaskEvent, type Unsubscribe } from './events.js';
import { TaskHandle, type TaskState } from './handle.js';
import { tellHook } from './hooks.js';
import { type JsonLogOptions, type LogStream, jsonLogs } from './json_logs.js';
import { Lifetime } from './lifetime.js';
import { line, tellable } from './lines.js';
import { type Around, type Middleware, Stack } from './middleware.js';
import { Operating } from './operating.js';
import { type NamedSubmitOptions, callOptions, checkedOptions } from './options.js';
import type { Health } from './info.js';
import { Outbox } from './outbox.js';
import { encode } from './payload.js';
import { port } from './port.js';
import { readRegistration, registeredOf, taskOf } from './registering.js';
import type { InputOf, OutputOf, StandardSchema } from './schema.js';
import { checkSaid, type ScheduleChanges, type ScheduleOptions, Schedules, ruled, scheduleValues } from './schedules.js';
import { type AppOptions, type ThreadSettings, readSettings } from './settings.js';
import { Submitting, checkedName } from './submitting.js';
import type { Handler, HandlerFunction, Schedulable, Task, TaskOptions, ThreadTaskOptions } from './task.js';
import { Testing, type TestingOptions } from './testing_mode.js';
import { endThreads, forgetThreads, poolFor } from './threads.js';

/** What `stop` takes. */
export interface StopOptions {
  /** How long what runs may go on; for as long as it takes if not given. 0 calls off everything at once. */
  timeout?: Duration;
}

/**
 * An application over a store.
 *
 * ```js
 * import { App } from 'taskloom';
 *
 * const app = new App({ store: 'memory:' });
 * const double = app.task('double', (n) => n * 2);
 * await app.start();
 * const handle = await double.submit(21);
 * console.log(await handle.result()); // 42
 * await app.stop();
 * ```
 */
export class App extends Operating {
  /** @internal */ readonly _number: number;
  /** @internal */ readonly _asyncContext: boolean;
  /** Whether its tasks live in this process only. @internal */ _isLocal: boolean;
  /** Whether a plain submit is accepted at once while there is room. @internal */ readonly _acceptsAtOnce: boolean;
  /** @internal */ _pending = 0;
  /** @internal */ _isStarted = false;
  private readonly registered: Handler[] = [];
  private readonly byName = new Map<string, Handler>();
  private readonly middlewares = new Stack();
  private url: string;
  private readonly threads: ThreadSettings;
  private readonly lifetime: Lifetime;
  /** Handlers that were registered for a schedule that was refused then: their names are free. */
  private readonly spare = new Set<string>();
  /** @internal */ _isStopping = false;
  private isStopped = false;
  /** @internal */ readonly _submitting: Submitting;
  private readonly outboxes: Outbox[] = [];
  /** The testing mode that it is in. @internal */ _testing: Testing | undefined;
  /** What it was before that. */
  private untested: { isLocal: boolean; isStopped: boolean } | undefined;

  constructor(options: AppOptions = {}) {
    super();
    const settings = readSettings(options);
    this.url = settings.store;
    this._isLocal = settings.store.startsWith('memory:');
    this._asyncContext = settings.asyncContext;
    this._acceptsAtOnce = settings.isRoomy;
    this.lifetime = new Lifetime(this, this.byName, settings.keepAlive);
    this.threads = settings.threads;
    this._submitting = new Submitting(this, settings.waits);
    this._number = native(() => this._open(settings.line));
    port().apps.set(this._number, new WeakRef(this));
    abandoned.register(this, this._number);
  }

  /** Opens what is native of it; its number. @internal */
  _open(line: string): number {
    return port().native.open(this.url, line);
  }

  /** Where its tasks live. */
  get store(): string {
    return this.url;
  }

  /**
   * Registers a function under a name, and returns the task for it.
   *
   * With a `schema`, the input has its type: what is submitted is what the schema takes, what the handler gets is what
   * it makes of it.
   *
   * Throws `InvalidOptions` for a name that is taken (unless `replace`), and for options that cannot be.
   */
  task<Schema extends StandardSchema<any, any>, Result>(
    name: string,
    options: TaskOptions & { schema: Schema },
    handler: HandlerFunction<OutputOf<Schema>, Result>,
  ): Task<InputOf<Schema>, Awaited<Result>>;
  task<Input, Result>(
    name: string,
    options: TaskOptions & { schema?: undefined },
    handler: HandlerFunction<Input, Result>,
  ): Task<Input, Awaited<Result>>;
  task<Input, Result>(name: string, handler: HandlerFunction<Input, Result>): Task<Input, Awaited<Result>>;
  /**
   * Registers a handler that computes: it runs in a thread of the app's pool, and is found in a module. Its type can be
   * said: `app.task<typeof import('./hash.mjs').default>('hash', { thread: true, module })`.
   */
  task<Function extends HandlerFunction<any, any>>(
    name: string,
    options: ThreadTaskOptions,
  ): Task<Parameters<Function>[0], Awaited<ReturnType<Function>>>;
  task(name: string, first: TaskOptions | HandlerFunction<any, any>, second?: HandlerFunction<any, any>): Task<any, any> {
    const [options, handler] = typeof first === 'function' && second === undefined ? [{}, first] : [first as TaskOptions, second];
    const given = this.spare.has(name) ? { ...options, replace: true } : options;
    const { handler: read, line, module } = readRegistration(name, given, handler);
    native(() => port().native.register(this._number, line));
    this.spare.delete(name);
    if (module !== undefined) poolFor(this._number, this.url, this.threads);
    const made: Handler = { ...read, number: this.registered.length };
    this.middlewares.surround(made);
    this.registered.push(made);
    this.byName.set(made.name, made);
    return taskOf(this, made);
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Starts running tasks; again, if it was stopped. Starting twice is starting once. */
  async start(): Promise<this> {
    // In testing mode there is an engine until the end of it.
    if (this._testing !== undefined) return this;
    await port().request(this, 'start');
    this._isStopping = this.isStopped = false;
    port().count(this, true);
    rooted.add(this);
    await this.lifetime.begin();
    await this.startOutboxes();
    return this;
  }

  private async startOutboxes(): Promise<void> {
    try {
      for (const outbox of this.outboxes) await outbox.start();
    } catch (error) {
      await this.stop({ timeout: 0 });
      throw error;
    }
  }

  /**
   * Stops: takes in nothing new, finishes what runs, and on a memory store all that is eligible. What is left when
   * `timeout` has passed is given back on a file; in memory its handles throw `ShutDown`.
   */
  async stop(options: StopOptions = {}): Promise<void> {
    const given = callOptions('stop', options, ['timeout'], "stop({ timeout: '30s' })").timeout;
    const timeout = given === undefined ? undefined : millis('timeout', given);
    if (this._testing !== undefined) return await this._testing.drain();
    this._isStopping = true;
    this._submitting.stop();
    await Promise.all(this.outboxes.map((outbox) => outbox.stop()));
    await port().request(this, 'stop', { timeout });
    await endThreads(this._number);
    this.isStopped = true;
    port().count(this, false);
    this.lifetime.end();
    rooted.delete(this);
  }

  /** For `await using`: stops. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Submits a task by name, for a handler of any language.
   *
   * On a file the handler may be another process's: any name is taken that some process has ever registered there, with
   * `allowUnknown` also one that none has yet. Its own options and schema are known only where it is, so neither applies
   * to such a submit. Throws `UnknownHandler`, with the nearest name.
   */
  async submit(name: string, input?: unknown, options?: NamedSubmitOptions): Promise<TaskHandle> {
    if (typeof name !== 'string') {
      throw new InvalidOptions(`a handler's name is ${shown(name)}; it must be a text`, {
        hint: typeof name === 'function' ? 'submit a task with task.submit(input)' : undefined,
      });
    }
    const { allowUnknown = false, ...rest } = checkedOptions(options);
    if (typeof allowUnknown !== 'boolean') {
      throw new InvalidOptions(`allowUnknown is ${shown(allowUnknown)}; it must be true or false`);
    }
    const own = options !== undefined && 'allowUnknown' in options ? rest : options;
    const handler = this.byName.get(name);
    return await (handler === undefined || options?.version !== undefined
      ? this._submitting.one(handler, checkedName(name), input, own, allowUnknown)
      : this._submitting.one(handler, undefined, input, own));
  }

  /** Throws if no tasks are taken in. @internal */
  _check(): void {
    // Handlers may go on submitting while the app stops; after an await, whoever submits may be one of them.
    if (this.isStopped || (this._isStopping && !port().jobs.hasJobs(this))) {
      throw new ShutDown('the app has been stopped', {
        hint: 'start it again before submitting, or submit before stopping it',
      });
    }
  }

  // ── outbox ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Relays tasks that `task.submit(input, { tx: connection })` wrote inside your own transaction, from when the app starts
   * (now, if it runs) until it stops.
   *
   * `connect` opens a new connection to your database at each call, with the same library: better-sqlite3, node:sqlite, or
   * pg. `docs/outbox.md` is the guide.
   *
   * ```js
   * app.outbox(() => new Database('shop.db'));
   * ```
   */
  outbox(connect: () => unknown): Outbox {
    const outbox = new Outbox(this, connect);
    this.outboxes.push(outbox);
    // What is wrong with it is told by `trouble`, and by whoever starts it.
    if (this._isStarted) outbox.start().catch(() => {});
    return outbox;
  }

  /** Whether all is well. Its warnings also tell of outboxes. */
  override async health(): Promise<Health> {
    const found = await super.health();
    const warnings = this.outboxes.flatMap((outbox) => outbox._warnings());
    return warnings.length === 0 ? found : { ...found, warnings: [...found.warnings, ...warnings] };
  }

  // ── schedules ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** The schedules of its store. */
  readonly schedules = new Schedules(this);

  /**
   * Submits a task at the times of a cron expression: of a task that there is, or of a function, which is registered
   * under the schedule's name.
   *
   * ```js
   * app.cron('0 3 * * *', { name: 'nightly', tz: 'Europe/Rome', overlap: 'skip' }, async () => cleanUp());
   * ```
   */
  cron<Input, Result>(expression: string, options: ScheduleOptions, task: Schedulable<Input, Result>): Task<Input, Awaited<Result>> {
    if (typeof expression !== 'string') throw new InvalidOptions(`cron is ${shown(expression)}; it must be a text, such as '0 3 * * *'`);
    return this.scheduled(ruled('cron', expression, options), task as HandlerFunction<any, any>);
  }

  /** Submits a task at a fixed interval, as `cron` does. */
  every<Input, Result>(interval: Duration, options: ScheduleOptions, task: Schedulable<Input, Result>): Task<Input, Awaited<Result>> {
    return this.scheduled(ruled('every', interval, options), task as HandlerFunction<any, any>);
  }

  /** Submits a task once, at a time, as `cron` does. */
  at<Input, Result>(when: Date | string, options: ScheduleOptions, task: Schedulable<Input, Result>): Task<Input, Awaited<Result>> {
    return this.scheduled(ruled('at', when, options), task as HandlerFunction<any, any>);
  }

  private scheduled({ name, ...options }: ScheduleOptions & ScheduleChanges, given: HandlerFunction<any, any>): Task<any, any> {
    const registered = registeredOf(given);
    if (registered !== undefined && registered.app !== this) {
      throw new InvalidOptions(`the task ${shown(registered.handler.name)} belongs to another app`, {
        hint: 'a schedule submits tasks of its own app',
      });
    }
    const known = registered?.handler;
    if (typeof given !== 'function') {
      throw new InvalidOptions(`a schedule's task is ${shown(given)}; it must be a task, or a function`, { hint: "as in app.every('1m', { name: 'heartbeat' }, ping)" });
    }
    const called = name ?? known?.name ?? given.name;
    if (typeof called !== 'string' || called === '') {
      throw new InvalidOptions(`a schedule's name is ${shown(called)}; it must be a text`, { hint: "give it one: { name: 'nightly' }" });
    }
    const values = scheduleValues(options);
    const payload = encode(options.input, 'input');
    const said = { handler: known?.name ?? called, payload, values };
    checkSaid(called, this.lifetime.said.get(called), said);
    const task = known === undefined ? this.task(called, given) : (given as unknown as Task<any, any>);
    try {
      native(() => port().native.schedule(this._number, line({ name: called, ...said })));
    } catch (error) {
      if (known === undefined) this.spare.add(called);
      throw error;
    }
    this.lifetime.said.set(called, said);
    this.lifetime.lookAtSchedules();
    return task;
  }

  // ── events ────────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Has a function told of events whose name fits a pattern, such as `'task.*'`, from now on.
   *
   * It returns a function that ends the subscription.
   */
  on(pattern: string, listener: (event: TaskEvent) => void, options: EventOptions = {}): Unsubscribe {
    return subscribe(this, pattern, listener, options);
  }

  /** Events whose name fits a pattern, as they come. */
  events(pattern: string, options: EventOptions = {}): AsyncIterableIterator<TaskEvent> {
    return new EventStream(this, pattern, options);
  }

  /** Publishes an event of your own. Its name has a point in it, as in `'order.paid'`. */
  async publish(name: string, data: unknown = null): Promise<void> {
    checkEventName(name);
    await port().request(this, 'publish', { name, data: tellable(encode(data, 'data')) });
  }

  /**
   * Has events written to `stream` (`process.stderr`), each as one line of JSON, from now on.
   *
   * `events` is a pattern, as for {@link on}. Each line has `time`, `level`, `component`, `message`, `environment` (of the
   * variable `TASKLOOM_ENVIRONMENT`), `version`, `process`, `thread`, `correlation_id` (if the task has one),
   * `entity_type`, `entity_id`, `event_type` and `data`: the same as in Python. The level is `error` for what failed,
   * `warning` for what is tried again, took too long, was lost or dropped, that of the line for what a handler logged, and
   * otherwise `info`.
   *
   * It returns a function that ends it. Throws `InvalidOptions` for a pattern that no event can fit, or what cannot be
   * written to. It keeps no process alive; what a stream emits is its owner's to hear.
   *
   * ```js
   * app.jsonLogs(process.stdout, { events: 'task.*' });
   * ```
   */
  jsonLogs(stream?: LogStream, options: JsonLogOptions = {}): Unsubscribe {
    return jsonLogs(this, stream, options);
  }

  /**
   * Puts a function around every execution of a handler from now on; the first one is the outermost. Returns it.
   *
   * It is called with the context and with `next`, which runs what it stands around, and returns what the handler is to
   * have returned. What it throws is the attempt's outcome. Plain calls of a task go past it.
   *
   * ```js
   * app.middleware(async (ctx, next) => {
   *   const start = performance.now();
   *   try {
   *     return await next();
   *   } finally {
   *     console.log(ctx.task.name, performance.now() - start);
   *   }
   * });
   * ```
   *
   * Throws `InvalidOptions` for what is no function.
   */
  middleware<Function extends Middleware>(middleware: Function): Function {
    this.middlewares.add(middleware);
    for (const handler of this.registered) this.middlewares.surround(handler);
    return middleware;
  }

  // ── testing ───────────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Puts the app on a clock that a test turns, until the end of the block; `docs/testing-your-tasks.md`.
   *
   * In it, the app has the real engine without threads, on a memory store, also if it is one of a file.
   * `await t.advance({ days: 3 })` lets three days go by in a moment, with every retry and timeout at its time;
   * `await t.drain()` runs what is eligible; `t.submitted` is what was submitted; `t.now` is the time. With
   * `inline: true` a submit runs the task at once. The clock begins at `start`, or at the present; `seed` decides what is
   * left to chance, such as the jitter of retries.
   *
   * When the block is left, or `await t.end()` is called, the app is as it was before. Throws `Misuse` if it is in use:
   * started, or submitted to.
   *
   * ```js
   * await using t = app.testing();
   * const handle = await remind.submit('Ada', { delay: '3 days' });
   * await t.advance('3 days');
   * await handle.result();
   * ```
   */
  testing(options: TestingOptions = {}): Testing {
    return new Testing(this, options);
  }

  /** `taskloom worker` has given it another store, before it was used. @internal */
  _moved(store: string): void {
    this.url = store;
    this._isLocal = store.startsWith('memory:');
  }

  // ── for the other modules ─────────────────────────────────────────────────────────────────────────────────────

  /** @internal */
  _beginTesting(testing: Testing, around: Around): void {
    this._testing = testing;
    this.untested = { isLocal: this._isLocal, isStopped: this.isStopped };
    this._isLocal = true;
    this._isStopping = this.isStopped = false;
    this.surround(around);
  }

  /** @internal */
  _endTesting(): void {
    if (this.untested === undefined) return;
    this._testing = undefined;
    this._isLocal = this.untested.isLocal;
    this._isStopping = this.isStopped = this.untested.isStopped;
    this.untested = undefined;
    this.surround(undefined);
  }

  private surround(around: Around | undefined): void {
    this.middlewares.setOutermost(around);
    for (const handler of this.registered) this.middlewares.surround(handler);
  }

  /** The program no longer says this schedule. @internal */
  _unsaid(name: string): void {
    this.lifetime.said.delete(name);
    this._changed();
  }

  /** What is known of its schedules may no longer be true. @internal */
  _changed(): void {
    this.lifetime.lookAtSchedules();
  }

  /** A task whose outcome we heard has ended. @internal */
  _ended(): void {
    this._submitting.roomFor(1);
  }

  /** @internal */
  _ask<T>(what: string, details?: Record<string, unknown>): Promise<T> {
    return port().request<T>(this, what, details);
  }

  /** There may be tasks again that keep the process. @internal */
  _lookAgain(): void {
    if (!this._isLocal) this.lifetime.lookForTasks().catch(() => {});
  }

  /** @internal */
  _named(name: string): Handler | undefined {
    return this.byName.get(name);
  }

  /** @internal */
  _handler(number: number): Handler | undefined {
    return this.registered[number];
  }

  /** @internal */
  _handleOf(found: Record<string, unknown>): TaskHandle {
    const handle = new TaskHandle(this, found.name as string, found.id as string);
    return handle._found(found.state as TaskState);
  }

  /** @internal */
  _hooked(moment: number, id: string, name: string): void {
    const hook = this.byName.get(name)?.hooks[moment];
    if (hook !== undefined) tellHook(this, hook, moment, id, name);
  }
}

/** Apps that run: they stay, whoever holds them. */
const rooted = new Set<App>();

/** Native parts of apps that nobody can use any more. */
const abandoned = new FinalizationRegistry<number>((number) => {
  try {
    port().apps.delete(number);
    port().native.close(number);
    forgetThreads(number);
  } catch {
    // Its environment ends, so that nothing native can be called; that takes it along, and an error here would abort it.
  }
});
