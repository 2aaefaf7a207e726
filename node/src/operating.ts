/** Finding tasks, and operating an app: what an operator does with it. */

import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import type { TaskHandle, TaskState } from './handle.js';
import { type HandlerInfo, type Health, type Stats, type TaskInfo, infoFrom, statsFrom } from './info.js';
import { isFields } from './lines.js';
import { callOptions, handlerOptions, nearest, unknown } from './options.js';

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

/** The state of a dead letter. */
export type DeadState = 'failed' | 'timed_out' | 'cancelled' | 'expired';

/** Which dead letters; all that fit everything that is given. */
export interface DeadFilter {
  /** In this state. */
  state?: DeadState;
  /** In this queue. */
  queue?: string;
  /** With this tag. */
  tag?: string;
  /** Of this handler. */
  name?: string;
}

/** What to discard: dead letters, or tasks that ended in another way. */
export interface DiscardFilter extends Omit<DeadFilter, 'state'> {
  /** In this state. */
  state?: DeadState | 'succeeded' | 'skipped';
}

/** One task by its id, or those that fit; all of them if nothing is given. */
export type Chosen<Filter> = [] | [id: string] | [filter: Filter] | [one: { id: string }];

/** How much at once, and how often. */
export interface LimitOptions {
  /** Of all tasks that have this key; with a handler's name, of its tasks with the key. */
  key?: string;
  /** How many may run at once. */
  concurrency?: number;
  /** How many may start in a period: `'10/s'`, `'100/5m'`, `'1/day'`, with a burst `'10/s+20'`. */
  rate?: string;
}

/** A limit that is set. */
export interface Limit {
  /** The handler whose tasks it limits. */
  readonly name: string | undefined;
  /** The queue whose tasks it limits. */
  readonly queue: string | undefined;
  /** The key whose tasks it limits. */
  readonly key: string | undefined;
  /** How many may run at once. */
  readonly concurrency: number | undefined;
  /** How many may start in a period, such as `'10/s'`. */
  readonly rate: string | undefined;
  /** Whether the handler declares it; otherwise `app.limit` has set it. */
  readonly declared: boolean;
}

/** Which tasks to cancel: one by its id, or all that fit. */
export interface CancelFilter {
  /** This one. */
  id?: string;
  /** In this queue. */
  queue?: string;
  /** With this tag. */
  tag?: string;
  /** Of this handler. */
  name?: string;
  /** Why; kept with the task. */
  reason?: string;
}

/** The methods of an app that ask its store, or its engine, one thing. Each is one request. */
export abstract class Operating {
  /** Asks the engine for something. @internal */
  abstract _ask<T>(what: string, details?: Record<string, unknown>): Promise<T>;

  /** There may be tasks again that keep the process. @internal */
  abstract _lookAgain(): void;

  /** @internal */
  abstract _handleOf(found: Record<string, unknown>): TaskHandle;

  /** A handle for a task, from its id; nothing if there is no such task. */
  async get(id: string): Promise<TaskHandle | undefined> {
    const found = await this._ask<Record<string, unknown> | null>('get', { id: checkedId(id) });
    return found === null ? undefined : this._handleOf(found);
  }

  /** Tasks by filter, in the order of their submission. */
  async list(filter: TaskFilter = {}): Promise<TaskHandle[]> {
    return (await this.find('app.list', filter)).map((found) => this._handleOf(found));
  }

  /** The same with every field of each. */
  async listInfo(filter: TaskFilter = {}): Promise<TaskInfo[]> {
    return (await this.find('app.listInfo', filter)).map(infoFrom);
  }

  private async find(call: string, filter: TaskFilter): Promise<Array<Record<string, unknown>>> {
    checkFilter(call, filter, ['state', 'queue', 'tag', 'name', 'unfinished', 'limit', 'after'], "{ state: 'failed', queue: 'img' }");
    return await this._ask('list', { ...filter });
  }

  /** Cancels a task by its id, or all that fit and have not ended; how many were cancelled. */
  async cancel(filter: CancelFilter): Promise<number> {
    const hint = typeof filter === 'string' ? `{ id: ${shown(filter)} }` : "{ tag: 'img', reason: 'not needed' }";
    checkFilter('app.cancel', filter, ['id', 'queue', 'tag', 'name', 'reason'], hint);
    const { id, queue, tag, name, reason } = filter;
    if (id !== undefined) {
      if (queue !== undefined || tag !== undefined || name !== undefined) {
        throw new InvalidOptions('app.cancel takes an id, or what to choose tasks by, and was given both', { hint: 'app.cancel({ id }) cancels one task' });
      }
      return (await this._cancelOne(checkedId(id), reason)) ? 1 : 0;
    }
    if (queue === undefined && tag === undefined && name === undefined) {
      throw new InvalidOptions(`app.cancel was given ${nothing(filter)} to choose tasks by`, {
        hint: 'give it an id, a tag, a queue or a name',
      });
    }
    return await this._ask('cancelAll', { queue, tag, name, reason: checkedReason(reason) });
  }

  /** @internal */
  async _cancelOne(id: string, reason: string | undefined): Promise<boolean> {
    return await this._ask('cancel', { id, reason: checkedReason(reason) });
  }

  /**
   * Starts dead letters over: one by its id, or all that fit what is given; how many.
   *
   * A dead letter is a task that `failed`, `timed_out`, was `cancelled` or `expired`: all of these, unless `state` says
   * which. It becomes a new generation with the same id: its failures, its crashes and an expiry that has passed are
   * forgotten, its errors and its checkpoint kept. `app.get(id)` gives a handle of it; older handles keep their outcome.
   * Without an argument, all dead letters are replayed.
   *
   * One that has succeeded, was skipped or has not ended throws `IllegalTransition` by its id, and is left out otherwise;
   * so is one whose unique key another task has now (`Duplicate`). Throws `Misuse` (`TL1602`) for an id that nobody
   * knows, `InvalidOptions` for a state that is not a dead letter's, and `ShutDown` once the app has stopped.
   *
   * ```js
   * await app.replay(handle.id); // 1
   * await app.replay({ state: 'failed', tag: 'shop' });
   * ```
   */
  async replay(...which: Chosen<DeadFilter>): Promise<number> {
    const replayed = await this._ask<number>('replay', chosen('replay', which));
    this._lookAgain();
    return replayed;
  }

  /**
   * Forgets tasks that have ended, now: one by its id, or the dead letters that fit what is given; how many.
   *
   * Without `state` these are tasks that `failed`, `timed_out`, were `cancelled` or `expired`; it may also be
   * `'succeeded'` or `'skipped'`. By id it is any task that has ended. Nothing unfinished is ever discarded
   * (`IllegalTransition` by id), nor what may still be asked for: a child whose parent has not ended, and a task that
   * keeps its unique key (`uniqueFor`). Handles that are held keep their outcome. Without an argument, all dead letters
   * are discarded.
   *
   * Throws `Misuse` (`TL1602`) for an id that nobody knows, `InvalidOptions` for a state in which no task has ended.
   */
  async discard(...which: Chosen<DiscardFilter>): Promise<number> {
    return await this._ask('discard', chosen('discard', which));
  }

  /**
   * Limits how many tasks run at once (`concurrency`), and how many start in a period (`rate`); whether that is new.
   *
   * Of a handler (its name), of a queue, or with a key; a name and a key together mean that handler's tasks with the
   * key. It holds for all processes that share the store, until it is set again, and goes before what the handler
   * declares. Without `concurrency` and `rate` it is taken back. What runs goes on, even if that is more than may run
   * now.
   *
   * Throws `InvalidOptions`, and `UnknownHandler` for a handler that a memory app does not have.
   *
   * ```js
   * await app.limit('resize', { concurrency: 4, rate: '10/s' });
   * await app.limit({ queue: 'img', concurrency: 50 });
   * await app.limit({ key: 'tenant-acme', rate: '1/s' });
   * await app.limit('resize'); // as the handler declares it
   * ```
   */
  async limit(name: string, options?: LimitOptions): Promise<boolean>;
  async limit(options: (LimitOptions & { key: string }) | (Omit<LimitOptions, 'key'> & { queue: string })): Promise<boolean>;
  async limit(first: string | (LimitOptions & { name?: string; queue?: string }), options: LimitOptions = {}): Promise<boolean> {
    const given: object = typeof first === 'string' ? options : first;
    const names = typeof first === 'string' ? LIMITED : [...LIMITED, 'name', 'queue'];
    checkFilter('app.limit', given, names, "app.limit('resize', { concurrency: 4 })", 'option of limit');
    const all = (typeof first === 'string' ? { ...options, name: first } : first) as LimitOptions & { name?: string; queue?: string };
    const { name, queue, key, ...limit } = all;
    if ((name === undefined && key === undefined) === (queue === undefined)) {
      throw new InvalidOptions("app.limit takes a handler's name, a queue, or a key", {
        hint: "app.limit('resize', { concurrency: 4 }), app.limit({ queue: 'img', rate: '10/s' }), app.limit({ key: 'acme', … })",
      });
    }
    return await this._ask('limit', { name, queue, key, limit: handlerOptions(limit, []) });
  }

  /** The limits that are set: what handlers declare, and what {@link limit} has set. */
  async limits(): Promise<Limit[]> {
    const all = await this._ask<Array<Record<string, unknown>>>('limits');
    const without = ([name, value]: [string, unknown]): [string, unknown] => [name, value ?? undefined];
    return all.map((one) => Object.fromEntries(Object.entries(one).map(without)) as unknown as Limit);
  }

  /** Runs one task now, whatever it waits for. */
  async runNow(id: string): Promise<TaskHandle> {
    return this._handleOf(await this._ask('runNow', { id: checkedId(id) }));
  }

  /** Pauses a queue: what runs goes on, nothing new begins. Whether that was new. */
  async pause(queue: string): Promise<boolean> {
    return await this._ask('pause', { queue: checkedQueue(queue) });
  }

  /** Lets a paused queue go on; whether it was paused. */
  async resume(queue: string): Promise<boolean> {
    return await this._ask('resume', { queue: checkedQueue(queue) });
  }

  /** Cancels everything in a queue that is not running; how many tasks. */
  async purge(queue: string): Promise<number> {
    return await this._ask('purge', { queue: checkedQueue(queue) });
  }

  /** Forgets tasks that ended longer ago than this; how many. */
  async sweep(options: { olderThan: Duration }): Promise<number> {
    const { olderThan } = callOptions('sweep', options, ['olderThan'], "app.sweep({ olderThan: '30 days' })");
    return await this._ask('sweep', { olderThan: Math.min(millis('olderThan', olderThan), AGES) });
  }

  /** The app in figures. */
  async stats(): Promise<Stats> {
    return statsFrom(await this._ask('stats'));
  }

  /** Whether all is well. */
  async health(): Promise<Health> {
    type Told = Omit<Health, 'unserved'> & { unserved: Array<{ name: string; count: number; since: number }> };
    const found = await this._ask<Told | null>('health');
    if (found === null) return { ok: false, ready: false, problems: ['the app was not started'], warnings: [], unserved: [] };
    return { ...found, unserved: found.unserved.map((tasks) => ({ ...tasks, since: new Date(tasks.since) })) };
  }

  /** The handlers, by name and version. */
  async handlers(): Promise<HandlerInfo[]> {
    const found = await this._ask<Array<Omit<HandlerInfo, 'registered'> & { registered: number }>>('handlers');
    return found.map((handler) => ({ ...handler, registered: new Date(handler.registered) }));
  }
}

/** Nothing is older: so far back goes a Date. A span that the native half cannot count would be none to it. */
const AGES = 8.64e15;

const LIMITED = ['key', 'concurrency', 'rate'];

/** What to replay or discard. Nothing at all is everything, but a value that is missing is a mistake. */
function chosen(what: string, which: readonly unknown[]): Record<string, unknown> {
  if (which.length === 0) return {};
  const [given] = which;
  if (typeof given === 'string') return { id: given };
  if (given === undefined || given === null) {
    throw new InvalidOptions(`app.${what} was given ${given}`, {
      hint: `for one task give its id; for all dead letters call app.${what}() without an argument`,
    });
  }
  checkFilter(`app.${what}`, given, ['id', 'state', 'queue', 'tag', 'name'], "{ state: 'failed', tag: 'img' }");
  const filter = given as Record<string, unknown>;
  if ('id' in filter) {
    const id = checkedId(filter.id);
    if (Object.keys(filter).length === 1) return { id };
    throw new InvalidOptions(`app.${what} takes an id, or what to choose tasks by, and not both`, {
      hint: `app.${what}(handle.id), or app.${what}({ state: 'failed', tag: 'img' })`,
    });
  }
  if (Object.keys(filter).length > 0 && Object.values(filter).every((value) => value === undefined)) {
    throw new InvalidOptions(`app.${what} was given ${nothing(filter)} to choose tasks by`, {
      hint: `for all dead letters call app.${what}() without an argument`,
    });
  }
  return { ...filter };
}

/** A filter that chooses nothing, in words. */
function nothing(filter: object): string {
  const missing = Object.keys(filter).filter((name) => name !== 'reason');
  return missing.length === 0 ? 'nothing' : `no ${missing.join(', no ')} (undefined)`;
}

function checkFilter(call: string, filter: unknown, names: readonly string[], example: string, what = 'filter'): void {
  if (!isFields(filter)) throw new InvalidOptions(`${call} was given ${shown(filter)}; it takes an object`, { hint: `as in ${example}` });
  for (const [name, value] of Object.entries(filter)) {
    if (!names.includes(name)) throw unknown(what, name, names, []);
    if (name === 'concurrency' || name === 'rate') continue;
    if (value === undefined) continue;
    if (name === 'limit') {
      if (Number.isSafeInteger(value) && (value as number) >= 1) continue;
      throw new InvalidOptions(`limit is ${shown(value)}; it must be a whole number of at least 1`);
    }
    if (name === 'unfinished') {
      if (typeof value === 'boolean') continue;
      throw new InvalidOptions(`unfinished is ${shown(value)}; it must be true or false`);
    }
    if (typeof value !== 'string') throw new InvalidOptions(`${name} is ${shown(value)}; it must be a text`);
    if (name === 'state' && !STATES.includes(value)) {
      const near = nearest(value, STATES);
      throw new InvalidOptions(`there is no state ${shown(value)}`, {
        hint: near === undefined ? `there are: ${STATES.join(', ')}` : `did you mean ${shown(near)}?`,
      });
    }
  }
}

const STATES = ['pending', 'queued', 'running', 'retrying', 'succeeded', 'failed', 'timed_out', 'cancelled', 'expired', 'skipped'];

/** Why: for people to read, whatever is in it. */
function checkedReason(reason: unknown): string | undefined {
  if (reason === undefined) return undefined;
  if (typeof reason !== 'string') throw new InvalidOptions(`reason is ${shown(reason)}; it must be a text`);
  return reason.toWellFormed();
}

function checkedId(id: unknown): string {
  if (typeof id !== 'string') {
    throw new InvalidOptions(`an id is ${shown(id)}; it must be a text`, {
      hint: typeof (id as { id?: unknown } | null | undefined)?.id === 'string' ? 'pass handle.id' : undefined,
    });
  }
  return id;
}

function checkedQueue(queue: unknown): string {
  if (typeof queue !== 'string') throw new InvalidOptions(`a queue is ${shown(queue)}; it must be a text`);
  return queue;
}
