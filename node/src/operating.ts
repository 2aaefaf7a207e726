/** Finding tasks, and operating an app: what an operator does with it. */

import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import type { TaskHandle, TaskState } from './handle.js';
import { type HandlerInfo, type Health, type Stats, type TaskInfo, infoFrom, statsFrom } from './info.js';
import { nearest, unknown } from './options.js';

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

/** The methods of an app that ask its store, or its engine, one thing. Each is one request. */
export abstract class Operating {
  /** Asks the engine for something. @internal */
  abstract _ask<T>(what: string, details?: Record<string, unknown>): Promise<T>;

  /** @internal */
  abstract _handleOf(found: Record<string, unknown>): TaskHandle;

  /** A handle for a task, from its id; nothing if there is no such task. */
  async get(id: string): Promise<TaskHandle | undefined> {
    const found = await this._ask<Record<string, unknown> | null>('get', { id: checkedId(id) });
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
    return await this._ask('list', { ...filter });
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
    return await this._ask('cancelAll', { queue, tag, name, reason });
  }

  /** @internal */
  async _cancelOne(id: string, reason: string | undefined): Promise<boolean> {
    if (reason !== undefined && typeof reason !== 'string') throw new InvalidOptions(`reason is ${shown(reason)}; it must be a text`);
    return await this._ask('cancel', { id, reason });
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
    return await this._ask('sweep', { olderThan: millis('olderThan', options?.olderThan) });
  }

  /** The app in figures. */
  async stats(): Promise<Stats> {
    return statsFrom(await this._ask('stats'));
  }

  /** Whether all is well. */
  async health(): Promise<Health> {
    const found = await this._ask<Health | null>('health');
    return found ?? { ok: false, ready: false, problems: ['the app was not started'] };
  }

  /** The handlers, by name and version. */
  async listHandlers(): Promise<HandlerInfo[]> {
    const found = await this._ask<Array<Omit<HandlerInfo, 'registered'> & { registered: number }>>('handlers');
    return found.map((handler) => ({ ...handler, registered: new Date(handler.registered) }));
  }
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

function checkedId(id: unknown): string {
  if (typeof id !== 'string') throw new InvalidOptions(`an id is ${shown(id)}; it must be a text`);
  return id;
}

function checkedQueue(queue: unknown): string {
  if (typeof queue !== 'string') throw new InvalidOptions(`a queue is ${shown(queue)}; it must be a text`);
  return queue;
}
