/** An application: its store, its handlers, and what is asked of them. */

import { type Context, detachedContext, storage } from './context.js';
import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions, InvalidPayload, QueueFull, ShutDown, TaskloomError, native } from './errors.js';
import { type EventOptions, EventStream, subscribe, type TaskEvent, type Unsubscribe } from './events.js';
import { TaskHandle, type TaskState, type Together } from './handle.js';
import { type HandlerInfo, type Health, type Stats, type TaskInfo, infoFrom, statsFrom } from './info.js';
import { type ChildOptions, type SubmitOptions, handlerOptions, nearest, snake, submitLine, unknown } from './options.js';
import { copied, encode } from './payload.js';
import { port } from './port.js';
import { type InputOf, type OutputOf, type StandardSchema, isSchema, validate } from './schema.js';
import { type ScheduleChanges, type ScheduleOptions, Schedules, scheduleValues } from './schedules.js';
import type { Handler, HandlerFunction, Task, TaskOptions } from './task.js';

/** What an app is made with. */
export interface AppOptions {
  /** Where its tasks live: `'memory:'` (private to the app), `'memory:name'` (shared in the process), `'sqlite:FILE'`. */
  store?: string;
  /** How many handlers run at once; 1,000. */
  maxInFlight?: number;
  /** The queues that it serves: in their order, or by weight; all of them. */
  queues?: readonly string[] | Readonly<Record<string, number>>;
  /** How many unfinished tasks a memory store takes; 1,000,000. */
  capacity?: number;
  /** What a submit does when there is no room: `'raise'` throws `QueueFull`, `'wait'` waits for room. */
  onFull?: 'raise' | 'wait';
  /** What "accepted" means on a file: `'disk'` survives a power cut, `'process'` a crash of the process. */
  durability?: 'disk' | 'process';
  /** How long a file keeps ended tasks; seven days. */
  retention?: Duration;
  /** Keys that every task's metadata must have. */
  requireMetadata?: readonly string[];
  /** What it calls itself among the processes that share its store. */
  name?: string;
  /** Whether a started app keeps the process alive while it has nothing to do; false. */
  keepAlive?: boolean;
  /**
   * Whether handlers run in the async context of their submit: in every `AsyncLocalStorage` they find what the
   * submitter had there (if it was this thread), and `currentContext()` works after an `await`, too. It makes every
   * promise of the process dearer before Node 24, so it is off unless asked for.
   */
  asyncContext?: boolean;
}

/** Which tasks. */
export interface TaskFilter {
  /** In this state. */
  state?: TaskState;
  /** In this queue. */
  queue?: string;
  /** With this tag. */
  tag?: string;
  /** Of this handler. */
  name?: string;
  /** Only those that have not ended. */
  unfinished?: boolean;
  /** At most so many; 100. */
  limit?: number;
  /** Only those after the task with this id, in the order of their submission. */
  after?: string;
}

/** Which tasks to cancel: one by its id, or all that fit. */
export interface CancelFilter {
  id?: string;
  queue?: string;
  tag?: string;
  name?: string;
  /** Why; kept with the task. */
  reason?: string;
}

const SETTINGS = [
  'store',
  'maxInFlight',
  'queues',
  'capacity',
  'onFull',
  'durability',
  'retention',
  'requireMetadata',
  'name',
  'keepAlive',
  'asyncContext',
];

/** Settings that the engine knows nothing of. */
const OURS = ['store', 'keepAlive', 'asyncContext'];

const SETTINGS_LATER = ['lease', 'payloads'];

/** Options of a handler that are not options of its tasks. */
const OWN = ['replace', 'schema', 'onSuccess', 'onRetry', 'onFailure'];

/** What `stop` takes. */
export interface StopOptions {
  /** How long what runs may go on; for as long as it takes if not given. 0 calls off everything at once. */
  timeout?: Duration;
}

/** A submit that waits for room. */
interface Parked {
  submit(): void;
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
export class App {
  /** @internal */ readonly _number: number;
  /** @internal */ readonly _asyncContext: boolean;
  /** Whether its tasks live in this process only. @internal */ readonly _isLocal: boolean;
  /** @internal */ _pending = 0;
  /** @internal */ _isStarted = false;
  private readonly handlers: Handler[] = [];
  private readonly byName = new Map<string, Handler>();
  private readonly url: string;
  private readonly waits: boolean;
  private readonly keepAlive: boolean;
  /** Schedules that the program has said: like a timer, they keep the process. */
  private readonly said = new Set<string>();
  private isHeld = false;
  private isStopping = false;
  private isStopped = false;
  private readonly parked: Parked[] = [];
  private retry: NodeJS.Timeout | undefined;
  private look: NodeJS.Timeout | undefined;

  constructor(options: AppOptions = {}) {
    if (typeof options !== 'object' || options === null) {
      throw new InvalidOptions(`an app is made with options, not with ${shown(options)}`, {
        hint: typeof options === 'string' ? `write new App({ store: ${shown(options)} })` : undefined,
      });
    }
    const settings: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(options)) {
      if (name === 'workers') {
        throw new InvalidOptions('there is no setting workers: handlers run on the event loop', {
          hint: 'how many run at once is maxInFlight',
        });
      }
      if (!SETTINGS.includes(name)) throw unknown('setting', name, SETTINGS, SETTINGS_LATER);
      if (value === undefined || OURS.includes(name)) continue;
      settings[snake(name)] = name === 'retention' ? millis(name, value) / 1000 : value;
    }
    const { store = 'memory:', keepAlive = false, asyncContext = false, onFull } = options;
    if (typeof store !== 'string') throw new InvalidOptions(`store is ${shown(store)}; it must be a text`);
    if (typeof keepAlive !== 'boolean') throw new InvalidOptions(`keepAlive is ${shown(keepAlive)}; it must be true or false`);
    if (typeof asyncContext !== 'boolean') {
      throw new InvalidOptions(`asyncContext is ${shown(asyncContext)}; it must be true or false`);
    }
    this._asyncContext = asyncContext;
    this._isLocal = store.startsWith('memory:');
    this.url = store;
    this.keepAlive = keepAlive;
    this.waits = onFull === 'wait';
    this._number = native(() => port().native.open(store, JSON.stringify(settings)));
    port().apps.set(this._number, new WeakRef(this));
    abandoned.register(this, this._number);
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
  task(name: string, first: TaskOptions | HandlerFunction<any, any>, second?: HandlerFunction<any, any>): Task<any, any> {
    const [options, handler] = typeof first === 'function' && second === undefined ? [{}, first] : [first as TaskOptions, second];
    if (typeof name !== 'string') throw new InvalidOptions(`a handler's name is ${shown(name)}; it must be a text`);
    if (typeof handler !== 'function') {
      throw new InvalidOptions(`the handler of ${shown(name)} is ${shown(handler)}; it must be a function`, {
        hint: "as in app.task('resize', async (input, ctx) => { … })",
      });
    }
    const { key, ...others } = options;
    const own = handlerOptions(typeof key === 'function' ? others : options, OWN);
    const { schema, replace = false } = options;
    if (schema !== undefined && !isSchema(schema)) {
      throw new InvalidOptions(`the schema of ${shown(name)} is ${shown(schema)}; it must be a Standard Schema`, {
        hint: 'zod, valibot and arktype make them: https://standardschema.dev',
      });
    }
    if (typeof replace !== 'boolean') throw new InvalidOptions(`replace is ${shown(replace)}; it must be true or false`);
    const hooks = [options.onSuccess, options.onRetry, options.onFailure];
    for (const [place, hook] of hooks.entries()) {
      if (hook !== undefined && typeof hook !== 'function') {
        throw new InvalidOptions(`${OWN[place + 2]} is ${shown(hook)}; it must be a function of the handle`);
      }
    }
    const registration = { name, options: own, replace, hooks: hooks.some((hook) => hook !== undefined) };
    native(() => port().native.register(this._number, JSON.stringify(registration)));
    const keyed = typeof key === 'function' ? key : undefined;
    const registered: Handler = { name, number: this.handlers.length, run: handler, schema, key: keyed, hooks };
    this.handlers.push(registered);
    this.byName.set(name, registered);
    return this.callable(registered);
  }

  private callable(handler: Handler): Task<unknown, unknown> {
    const call = async (input: unknown): Promise<unknown> => {
      const context = detachedContext(this, handler);
      const encoded: unknown = JSON.parse(encode(input, 'input'));
      const given = handler.schema === undefined ? encoded : await validate(handler.schema, handler.name, encoded);
      return await storage.run(context, () => handler.run(given, context));
    };
    const task = Object.assign(call, {
      taskName: handler.name,
      submit: (input?: unknown, options?: SubmitOptions) => this.submitTo(handler, undefined, input, options),
      submitMany: (inputs: Iterable<unknown>, options?: SubmitOptions) => this.submitManyTo(handler, inputs, options),
    });
    Object.defineProperty(task, 'name', { value: handler.name });
    own.set(task, handler);
    return task as unknown as Task<unknown, unknown>;
  }

  // ── life ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Starts running tasks; again, if it was stopped. Starting twice is starting once. */
  async start(): Promise<this> {
    await port().request(this, 'start');
    this.isStopping = this.isStopped = false;
    port().count(this, true);
    rooted.add(this);
    this.settleKeepAlive();
    if (port().native.isDurable(this._number)) await this.lookForTasks();
    return this;
  }

  /** A file may hold tasks from before: while there are any that this app has a handler for, the process stays. */
  private async lookForTasks(): Promise<void> {
    if (this.look !== undefined || !this._isStarted) return;
    const isLeft = await port().request<boolean>(this, 'unfinished', { names: [...this.byName.keys()] });
    if (!isLeft || !this._isStarted) return;
    this.look = setTimeout(() => {
      this.look = undefined;
      this.lookForTasks().catch(() => {});
    }, 500);
  }

  /**
   * Stops: takes in nothing new, finishes what runs, and on a memory store all that is eligible. What is left when
   * `timeout` has passed is given back on a file; in memory its handles throw `ShutDown`.
   */
  async stop(options: StopOptions = {}): Promise<void> {
    const timeout = options.timeout === undefined ? undefined : millis('timeout', options.timeout);
    this.isStopping = true;
    for (const parked of this.parked.splice(0)) parked.submit();
    await port().request(this, 'stop', { timeout });
    this.isStopped = true;
    port().count(this, false);
    clearTimeout(this.look);
    this.look = undefined;
    rooted.delete(this);
    this.settleKeepAlive();
  }

  /** For `await using`: stops. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  private settleKeepAlive(): void {
    const holds = this._isStarted && (this.keepAlive || this.said.size > 0);
    if (holds === this.isHeld) return;
    this.isHeld = holds;
    port().hold(holds ? 1 : -1);
  }

  // ── submitting ────────────────────────────────────────────────────────────────────────────────────────────────

  /** Submits a task by name, for a handler of any language. */
  async submit(name: string, input?: unknown, options?: SubmitOptions): Promise<TaskHandle> {
    if (typeof name !== 'string') {
      throw new InvalidOptions(`a handler's name is ${shown(name)}; it must be a text`, {
        hint: typeof name === 'function' ? 'submit a task with task.submit(input)' : undefined,
      });
    }
    const handler = this.byName.get(name);
    return await (handler === undefined || options?.version !== undefined
      ? this.submitTo(handler, checkedName(name), input, options)
      : this.submitTo(handler, undefined, input, options));
  }

  private submitTo(handler: Handler | undefined, name: string | undefined, input: unknown, options: SubmitOptions | undefined): Promise<TaskHandle> {
    return new Promise((resolve, reject) => {
      this.check();
      const payload = encode(input, 'input');
      // Taken now: a key's function or a schema may encode something of its own.
      const given = copied;
      const line = submitLine(handler?.key === undefined ? options : keyed(handler, given, options));
      if (handler?.schema !== undefined || this.waits) {
        this.submitLater(handler, name, line, payload, given, resolve, reject);
      } else {
        const handle = new TaskHandle(this, name ?? handler!.name, undefined, resolve, reject);
        port().submit(this, handle, handler === undefined ? 0 : handler.number, name, line, payload, given);
      }
    });
  }

  /** A submit that waits for a schema's verdict, or for room. */
  private submitLater(
    handler: Handler | undefined,
    name: string | undefined,
    line: string | undefined,
    payload: string,
    given: unknown,
    resolve: (handle: TaskHandle) => void,
    reject: (error: unknown) => void,
  ): void {
    const send = (): void => {
      const refused = this.waits ? (error: unknown): void => this.parkIfFull(error, send, reject) : reject;
      const handle = new TaskHandle(this, name ?? handler!.name, undefined, resolve, refused);
      port().submit(this, handle, handler?.number ?? 0, name, line, payload, given);
    };
    const verdict = handler?.schema === undefined ? undefined : validate(handler.schema, handler.name, JSON.parse(payload));
    if (verdict instanceof Promise) verdict.then(send, reject);
    else send();
  }

  private async submitManyTo(handler: Handler, inputs: Iterable<unknown>, options: SubmitOptions | undefined): Promise<TaskHandle[]> {
    this.check();
    if (handler.key !== undefined && options?.key === undefined) {
      throw new InvalidOptions(`each task of ${shown(handler.name)} has a key of its own, and submitMany has one for all`, {
        code: 'TL1002',
        hint: 'give the key with the options, or submit them one by one',
      });
    }
    const line = submitLine(options);
    if (typeof (inputs as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] !== 'function' || typeof inputs === 'string') {
      throw new InvalidPayload(`submitMany was given ${shown(inputs)}; it takes an array of inputs`);
    }
    const payloads: string[] = [];
    const given: unknown[] = [];
    for (const input of inputs) {
      const payload = encode(input, `inputs[${payloads.length}]`);
      given.push(copied);
      if (handler.schema !== undefined) await validate(handler.schema, handler.name, JSON.parse(payload));
      payloads.push(payload);
    }
    if (payloads.length === 0) return [];
    return await new Promise((resolve, reject) => {
      const send = (): void => {
        let isRefused = false;
        const refused = (error: unknown): void => {
          if (isRefused) return;
          isRefused = true;
          if (this.waits) this.parkIfFull(error, send, reject);
          else reject(error);
        };
        const together: Together = { handles: [], left: payloads.length, resolve, reject: refused };
        together.handles = payloads.map(() => new TaskHandle(this, handler.name, undefined)._with(together));
        port().submitMany(this, together.handles, handler.number, line, payloads, given);
      };
      send();
    });
  }

  /** @internal */
  _submitChild(job: number | undefined, task: Task<never, unknown> | string, input: unknown, options: ChildOptions | undefined): Promise<TaskHandle> {
    const handler = typeof task === 'string' ? this.byName.get(task) : own.get(task);
    const name = typeof task === 'string' ? checkedName(task) : undefined;
    if (handler === undefined && name === undefined) {
      return Promise.reject(new InvalidOptions(`a child's task is ${shown(task)}; it must be a task of this app, or a name`));
    }
    if (job === undefined) {
      const { detached: _, ...rest } = options ?? {};
      return this.submitTo(handler, handler === undefined ? name : undefined, input, rest);
    }
    return new Promise((resolve, reject) => {
      const payload = encode(input, 'input');
      const line = submitLine(handler?.key === undefined ? options : keyed(handler, copied, options));
      const validated = handler?.schema === undefined ? undefined : validate(handler.schema, handler.name, JSON.parse(payload));
      const send = (): void => {
        const handle = new TaskHandle(this, name ?? handler!.name, undefined, resolve, reject);
        const byName = handler === undefined ? name : undefined;
        port().submitChild(job, this, handle, handler?.number ?? 0, byName, line, payload);
      };
      if (validated instanceof Promise) validated.then(send, reject);
      else send();
    });
  }

  private check(): void {
    // Handlers may go on submitting while the app stops; after an await, whoever submits may be one of them.
    if (this.isStopped || (this.isStopping && !port().hasJobs(this))) {
      throw new ShutDown('the app has been stopped', {
        hint: 'start it again before submitting, or submit before stopping it',
      });
    }
  }

  /** A submit was refused: if there was no room, it is made again when there may be. */
  private parkIfFull(error: unknown, submit: () => void, reject: (error: unknown) => void): void {
    if (!(error instanceof QueueFull) || !this._isStarted) return reject(error);
    this.parked.push({
      submit: () => {
        if (this.isStopping) reject(error);
        else submit();
      },
    });
    this.lookForRoom();
  }

  /** A task of ours ended, so there is room; others may end theirs without our hearing of it. */
  private lookForRoom(): void {
    this.retry ??= setTimeout(() => {
      this.retry = undefined;
      this.unpark(this.parked.length);
    }, 20);
  }

  private unpark(count: number): void {
    for (const parked of this.parked.splice(0, count)) parked.submit();
  }

  /** A task whose outcome we heard has ended. @internal */
  _ended(): void {
    if (this.parked.length > 0) this.unpark(1);
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
  cron<Input, Result>(expression: string, options: ScheduleOptions, task: Task<Input, Result> | HandlerFunction<Input, Result>): Task<Input, Awaited<Result>> {
    if (typeof expression !== 'string') throw new InvalidOptions(`cron is ${shown(expression)}; it must be a text, such as '0 3 * * *'`);
    return this.scheduled({ ...options, cron: expression }, task as HandlerFunction<any, any>);
  }

  /** Submits a task at a fixed interval, as `cron` does. */
  every<Input, Result>(interval: Duration, options: ScheduleOptions, task: Task<Input, Result> | HandlerFunction<Input, Result>): Task<Input, Awaited<Result>> {
    return this.scheduled({ ...options, every: interval }, task as HandlerFunction<any, any>);
  }

  /** Submits a task once, at a time, as `cron` does. */
  at<Input, Result>(when: Date | string, options: ScheduleOptions, task: Task<Input, Result> | HandlerFunction<Input, Result>): Task<Input, Awaited<Result>> {
    return this.scheduled({ ...options, at: when }, task as HandlerFunction<any, any>);
  }

  private scheduled({ name, ...options }: ScheduleOptions & ScheduleChanges, given: HandlerFunction<any, any>): Task<any, any> {
    const known = own.get(given);
    if (typeof given !== 'function') throw new InvalidOptions(`a schedule's task is ${shown(given)}; it must be a task, or a function`);
    const called = name ?? known?.name ?? given.name;
    if (typeof called !== 'string' || called === '') {
      throw new InvalidOptions(`a schedule's name is ${shown(called)}; it must be a text`, { hint: "give it one: { name: 'nightly' }" });
    }
    const values = scheduleValues(options);
    const payload = encode(options.input, 'input');
    const task = known === undefined ? this.task(called, given) : (given as unknown as Task<any, any>);
    const schedule = { name: called, handler: known?.name ?? called, payload, values };
    native(() => port().native.schedule(this._number, JSON.stringify(schedule)));
    this.said.add(called);
    this.settleKeepAlive();
    return task;
  }

  // ── finding and operating ─────────────────────────────────────────────────────────────────────────────────────

  /** A handle for a task, from its id; nothing if there is no such task. */
  async get(id: string): Promise<TaskHandle | undefined> {
    const found = await port().request<Record<string, unknown> | null>(this, 'get', { id: checkedId(id) });
    return found === null ? undefined : this._handleOf(found);
  }

  /** Tasks by filter, in the order of their submission. */
  async list(filter: TaskFilter = {}): Promise<TaskHandle[]> {
    return (await this.find(filter)).map((found) => this._handleOf(found));
  }

  /** The same with every field of each. */
  async listInfo(filter: TaskFilter = {}): Promise<TaskInfo[]> {
    return (await this.find(filter)).map(infoFrom);
  }

  private async find(filter: TaskFilter): Promise<Array<Record<string, unknown>>> {
    checkFilter(filter, ['state', 'queue', 'tag', 'name', 'unfinished', 'limit', 'after']);
    return await port().request(this, 'list', { ...filter });
  }

  /** Cancels a task by its id, or all that fit and have not ended; how many were cancelled. */
  async cancel(filter: CancelFilter): Promise<number> {
    checkFilter(filter, ['id', 'queue', 'tag', 'name', 'reason']);
    const { id, queue, tag, name, reason } = filter;
    if (id !== undefined) {
      if (queue !== undefined || tag !== undefined || name !== undefined) {
        throw new InvalidOptions('cancel takes an id, or a filter, and was given both');
      }
      return (await this._cancelOne(checkedId(id), reason)) ? 1 : 0;
    }
    if (queue === undefined && tag === undefined && name === undefined) {
      throw new InvalidOptions('cancel was given nothing to choose tasks by', {
        hint: 'give it an id, a tag, a queue or a name',
      });
    }
    return await port().request(this, 'cancelAll', { queue, tag, name, reason });
  }

  /** @internal */
  async _cancelOne(id: string, reason: string | undefined): Promise<boolean> {
    if (reason !== undefined && typeof reason !== 'string') throw new InvalidOptions(`reason is ${shown(reason)}; it must be a text`);
    return await port().request(this, 'cancel', { id, reason });
  }

  /** Runs one task now, whatever it waits for. */
  async runNow(id: string): Promise<TaskHandle> {
    return this._handleOf(await port().request(this, 'runNow', { id: checkedId(id) }));
  }

  /** Pauses a queue: what runs goes on, nothing new begins. Whether that was new. */
  async pause(queue: string): Promise<boolean> {
    return await port().request(this, 'pause', { queue: checkedQueue(queue) });
  }

  /** Lets a paused queue go on; whether it was paused. */
  async resume(queue: string): Promise<boolean> {
    return await port().request(this, 'resume', { queue: checkedQueue(queue) });
  }

  /** Cancels everything in a queue that is not running; how many tasks. */
  async purge(queue: string): Promise<number> {
    return await port().request(this, 'purge', { queue: checkedQueue(queue) });
  }

  /** Forgets tasks that ended longer ago than this; how many. */
  async sweep(options: { olderThan: Duration }): Promise<number> {
    return await port().request(this, 'sweep', { olderThan: millis('olderThan', options?.olderThan) });
  }

  /** The app in figures. */
  async stats(): Promise<Stats> {
    return statsFrom(await port().request(this, 'stats'));
  }

  /** Whether all is well. */
  async health(): Promise<Health> {
    const found = await port().request<Health | null>(this, 'health');
    return found ?? { ok: false, ready: false, problems: ['the app was not started'] };
  }

  /** The handlers, by name and version. */
  async listHandlers(): Promise<HandlerInfo[]> {
    const found = await port().request<Array<Omit<HandlerInfo, 'registered'> & { registered: number }>>(this, 'handlers');
    return found.map((handler) => ({ ...handler, registered: new Date(handler.registered) }));
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
    await port().request(this, 'publish', { name, data: encode(data, 'data') });
  }

  // ── for the other modules ─────────────────────────────────────────────────────────────────────────────────────

  /** The program no longer says this schedule. @internal */
  _unsaid(name: string): void {
    this.said.delete(name);
    this.settleKeepAlive();
  }

  /** @internal */
  _handler(number: number): Handler | undefined {
    return this.handlers[number];
  }

  /** @internal */
  _handleOf(found: Record<string, unknown>): TaskHandle {
    const handle = new TaskHandle(this, found.name as string, found.id as string);
    return handle._found(found.state as TaskState);
  }

  /** @internal */
  _hooked(moment: number, id: string, name: string): void {
    const hook = this.byName.get(name)?.hooks[moment];
    if (hook === undefined) return;
    const handle = new TaskHandle(this, name, id);
    queueMicrotask(() => hook(handle));
  }
}

/** The handlers of tasks, for those who submit children. */
const own = new WeakMap<object, Handler>();

/** Apps that run: they stay, whoever holds them. */
const rooted = new Set<App>();

/** Native parts of apps that nobody can use any more. */
const abandoned = new FinalizationRegistry<number>((number) => {
  port().apps.delete(number);
  port().native.close(number);
});

/** Options with the key that a handler makes of the input; one that a submit gives goes first. */
function keyed<T extends SubmitOptions | ChildOptions>(handler: Handler, input: unknown, options: T | undefined): T | { key: string } {
  if (options?.key !== undefined) return options;
  const key: unknown = handler.key!(input);
  if (typeof key !== 'string') {
    throw new InvalidOptions(`the key of ${shown(handler.name)} is ${shown(key)} for this input; it must be a text`);
  }
  return { ...options, key };
}

function checkFilter(filter: object, names: readonly string[]): void {
  if (typeof filter !== 'object' || filter === null) throw new InvalidOptions(`a filter is an object, not ${shown(filter)}`);
  for (const [name, value] of Object.entries(filter)) {
    if (!names.includes(name)) throw unknown('filter', name, names, []);
    if (value === undefined) continue;
    const wanted = name === 'limit' ? 'number' : name === 'unfinished' ? 'boolean' : 'string';
    if (typeof value !== wanted) throw new InvalidOptions(`${name} is ${shown(value)}; it must be a ${wanted}`);
    if (name === 'limit' && (!Number.isSafeInteger(value) || value < 1)) {
      throw new InvalidOptions(`limit is ${shown(value)}; it must be a whole number of at least 1`);
    }
    if (name === 'state' && !STATES.includes(value)) {
      const near = nearest(value, STATES);
      throw new InvalidOptions(`there is no state ${shown(value)}`, {
        hint: near === undefined ? `there are: ${STATES.join(', ')}` : `did you mean ${shown(near)}?`,
      });
    }
  }
}

const STATES = ['pending', 'queued', 'running', 'retrying', 'succeeded', 'failed', 'timed_out', 'cancelled', 'expired', 'skipped'];

/** A name goes over in a line of its own. */
function checkedName(name: string): string {
  if (name.includes('\n')) throw new InvalidOptions(`a handler's name is ${shown(name)}; it has a line break in it`);
  return name;
}

function checkedId(id: unknown): string {
  if (typeof id !== 'string') throw new InvalidOptions(`an id is ${shown(id)}; it must be a text`);
  return id;
}

function checkedQueue(queue: unknown): string {
  if (typeof queue !== 'string') throw new InvalidOptions(`a queue is ${shown(queue)}; it must be a text`);
  return queue;
}

export { type Context, TaskloomError };
