/** Schedules: rules that submit tasks. `docs/schedules.md` has them. */

import { isDeepStrictEqual } from 'node:util';

import type { App } from './app.js';
import { type Duration, shown, timeOf } from './durations.js';
import { InvalidOptions, native } from './errors.js';
import type { TaskHandle } from './handle.js';
import { isFields } from './lines.js';
import { type SubmitOptions, callOptions, scheduleOptions } from './options.js';
import { encode } from './payload.js';
import { port } from './port.js';

/** What happens when a firing comes while the last one's task has not ended. */
export type Overlap = 'skip' | 'queue' | 'replace';

/** What happens to missed firings: none, the last, all (100 at most), or how many at most are made up for. */
export type CatchUp = 'none' | 'last' | 'all' | number;

/** What is said of a schedule, beside options of the tasks that it submits. */
export interface ScheduleOptions extends Omit<SubmitOptions, 'id' | 'delay' | 'eta' | 'uniqueKey' | 'uniqueFor' | 'onConflict'> {
  /** Its name in the store; the task's, if not given. */
  name?: string;
  /** The input of its tasks. */
  input?: unknown;
  /** The time zone of a cron expression, as in `'Europe/Rome'`; UTC. */
  tz?: string;
  /** What happens when a firing comes while the last one's task has not ended; `'skip'`. */
  overlap?: Overlap;
  /** What happens to missed firings; `'last'`. */
  catchUp?: CatchUp;
  /** At most so much is added at random to each firing. */
  jitter?: Duration;
  /** No firing before it. */
  start?: Date | string | null;
  /** No firing after it. */
  end?: Date | string | null;
}

/** What `update` changes: another rule, or anything else that is said of a schedule. What is not named stays. */
export interface ScheduleChanges extends Omit<ScheduleOptions, 'name'> {
  /** Another cron expression. */
  cron?: string;
  /** Another interval. */
  every?: Duration;
  /** Another time. */
  at?: Date | string;
}

/** A schedule, as it was when it was asked for. Spans are in milliseconds. */
export interface Schedule {
  /** Its name in the store. */
  readonly name: string;
  /** The handler that it submits tasks for. */
  readonly task: string;
  /** What its tasks are called with. */
  readonly input: unknown;
  /** The queue of its tasks. */
  readonly queue: string;
  /** Its cron expression. */
  readonly cron: string | undefined;
  /** The zone whose clocks that goes by. */
  readonly tz: string | undefined;
  /** Its interval. */
  readonly every: number | undefined;
  /** Its only time. */
  readonly at: Date | undefined;
  /** What happens when a firing comes while the last one's task has not ended. */
  readonly overlap: Overlap;
  /** What happens to missed firings. */
  readonly catchUp: CatchUp;
  /** At most so much is added at random to each firing. */
  readonly jitter: number;
  /** Whether it fires. */
  readonly enabled: boolean;
  /** How many tasks it has submitted. */
  readonly runs: number;
  /** How many of them failed, timed out or expired. */
  readonly failures: number;
  /** How many firings were left out, since an earlier one's task had not ended. */
  readonly skipped: number;
  /** How many firings wait for the last one's task to end. */
  readonly waiting: number;
  /** The id of its last task. */
  readonly lastTask: string | undefined;
  /** No firing before it. */
  readonly start: Date | undefined;
  /** No firing after it. */
  readonly end: Date | undefined;
  /** When it was made. */
  readonly created: Date;
  /** Its next time, by its rule; nothing once it is over. */
  readonly next: Date | undefined;
  /** When it fired last, by its rule. */
  readonly last: Date | undefined;
}

const TIMES = ['at', 'start', 'end', 'created', 'next', 'last'];

function scheduleFrom(described: Record<string, unknown>): Schedule {
  const all: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(described)) {
    if (name === 'input') all[name] = value;
    else if (value === null) all[name] = undefined;
    else all[name] = TIMES.includes(name) ? new Date(value as number) : value;
  }
  return all as unknown as Schedule;
}

/** The calls that make a schedule, and what each takes as its rule. */
const RULES = { cron: 'a cron expression', every: 'an interval', at: 'a time' };

const EXAMPLES = {
  cron: "app.cron('0 3 * * *', { name: 'nightly' }, async () => { … })",
  every: "app.every('1m', { name: 'heartbeat' }, async () => { … })",
  at: "app.at(new Date('2038-01-19T03:14:08Z'), { name: 'overflow' }, async () => { … })",
};

/** What is said of a schedule together with its rule, of which there is one. @internal */
export function ruled(rule: keyof typeof RULES, when: Duration | Date, options: ScheduleOptions = {}): ScheduleOptions & ScheduleChanges {
  if (when === undefined || when === null) {
    throw new InvalidOptions(`app.${rule} was given ${when}; it must be ${RULES[rule]}`, { hint: `as in ${EXAMPLES[rule]}` });
  }
  if (!isFields(options)) {
    throw new InvalidOptions(`the options of app.${rule} are ${shown(options)}; they must be an object`, { hint: `as in ${EXAMPLES[rule]}` });
  }
  for (const other of Object.keys(RULES) as Array<keyof typeof RULES>) {
    const value = (options as ScheduleChanges)[other];
    if (value === undefined) continue;
    throw new InvalidOptions(`app.${rule} takes ${RULES[rule]}, and was given ${other}: ${shown(value)} in its options, too`, {
      hint: other === rule ? 'leave that out: a schedule has one rule' : `for ${RULES[other]} there is app.${other}; a schedule has one rule`,
    });
  }
  return { ...options, [rule]: when };
}

/** The plain values of what is said of a schedule. @internal */
export function scheduleValues(options: ScheduleChanges): Record<string, unknown> {
  const { catchUp, input: _, ...rest } = options;
  const values = scheduleOptions(rest, {
    cron: 'text',
    every: 'span',
    at: 'time',
    tz: 'text',
    overlap: 'text',
    jitter: 'span',
    start: 'time',
    end: 'time',
  });
  for (const bound of ['start', 'end'] as const) if (options[bound] === null) values[bound] = null;
  if (catchUp !== undefined) {
    const isWord = typeof catchUp === 'string' && ['none', 'last', 'all'].includes(catchUp);
    if (!isWord && !(Number.isSafeInteger(catchUp) && (catchUp as number) >= 1 && (catchUp as number) <= 1_000)) {
      throw new InvalidOptions(`catchUp is ${shown(catchUp)}; it must be "none", "last", "all", or how many at most, from 1 to 1000`);
    }
    values.catch_up = catchUp;
  }
  return values;
}

/** What a program has said about a schedule. @internal */
export interface Said {
  readonly handler: string;
  readonly payload: string;
  readonly values: Record<string, unknown>;
}

/** Refuses a second schedule of one name, which would take the place of the first. The same may be said again. @internal */
export function checkSaid(name: string, before: Said | undefined, now: Said): void {
  if (before === undefined || isDeepStrictEqual(before, now)) return;
  throw new InvalidOptions(`there are two schedules of the name ${shown(name)}: ${written(before)}, and ${written(now)}`, {
    code: 'TL1008',
    hint: 'give each a name of its own: { name: … }; what a schedule says is changed by app.schedules.update(…)',
  });
}

function written({ handler, payload, values }: Said): string {
  return `one for ${shown(handler)} with ${JSON.stringify(values)} and the input ${payload}`;
}

/** The schedules of an app's store: `app.schedules`. Those methods that name one throw `Misuse` if there is none. */
export class Schedules {
  /** @internal */
  constructor(private readonly app: App) {}

  /** All of them, by name. */
  async list(): Promise<Schedule[]> {
    return (await port().request<Array<Record<string, unknown>>>(this.app, 'schedules')).map(scheduleFrom);
  }

  /** The one of this name, if there is one. */
  async get(name: string): Promise<Schedule | undefined> {
    const found = await port().request<Record<string, unknown> | null>(this.app, 'schedule', { name: checked(name) });
    return found === null ? undefined : scheduleFrom(found);
  }

  /** Changes what is named of one, and returns it as it is then. */
  async update(name: string, changes: ScheduleChanges): Promise<Schedule> {
    if (!isFields(changes)) {
      throw new InvalidOptions(`the changes of a schedule are ${shown(changes)}; they must be an object`, {
        hint: "as in app.schedules.update('nightly', { cron: '0 4 * * *' })",
      });
    }
    if ('name' in changes) {
      throw new InvalidOptions(`a schedule keeps its name, and was given ${shown(changes.name)} for another`, {
        hint: 'remove it, and make one of the other name',
      });
    }
    const values = scheduleValues(changes);
    const payload = changes.input === undefined ? undefined : encode(changes.input, 'input');
    const updated = await port().request<Record<string, unknown>>(this.app, 'updateSchedule', { name: checked(name), values, payload });
    this.app._changed();
    return scheduleFrom(updated);
  }

  /** Lets one fire, from now on; whether that was new. */
  async enable(name: string): Promise<boolean> {
    const isNew = await port().request<boolean>(this.app, 'enableSchedule', { name: checked(name) });
    this.app._changed();
    return isNew;
  }

  /** Stops one from firing until it is enabled; whether that was new. */
  async disable(name: string): Promise<boolean> {
    return await port().request(this.app, 'disableSchedule', { name: checked(name) });
  }

  /** Submits a task of one now; the next time stays. */
  async trigger(name: string): Promise<TaskHandle> {
    const found = await port().request<Record<string, unknown>>(this.app, 'triggerSchedule', { name: checked(name) });
    this.app._changed();
    return this.app._handleOf(found);
  }

  /** Takes one away, with its counts. What it has submitted goes on. */
  async remove(name: string): Promise<void> {
    await port().request(this.app, 'removeSchedule', { name: checked(name) });
    this.app._unsaid(name);
  }

  /** The next times at which one fires, by its rule. */
  async next(name: string, options: { count?: number } = {}): Promise<Date[]> {
    const count = checkedCount(callOptions('next', options, ['count'], "app.schedules.next('nightly', { count: 5 })").count);
    const times = await port().request<number[]>(this.app, 'scheduleFirings', { name: checked(name), count });
    return times.map((time) => new Date(time));
  }
}

function checked(name: unknown): string {
  if (typeof name !== 'string') throw new InvalidOptions(`a schedule's name is ${shown(name)}; it must be a text`);
  return name;
}

function checkedCount(count: unknown = 5): number {
  if (!Number.isSafeInteger(count) || (count as number) < 0 || (count as number) > 100_000) {
    throw new InvalidOptions(`count is ${shown(count)}; it must be a whole number from 0 to 100000`);
  }
  return count as number;
}

/**
 * The next times at which a cron expression fires, after `start` (now).
 *
 * ```js
 * nextFirings('0 3 * * *', { tz: 'Europe/Rome', start: new Date('2026-03-01T00:00:00Z'), count: 2 });
 * ```
 */
export function nextFirings(cron: string, options: { tz?: string; start?: Date; count?: number } = {}): Date[] {
  if (typeof cron !== 'string') throw new InvalidOptions(`cron is ${shown(cron)}; it must be a text, such as '0 3 * * *'`);
  const { tz = 'UTC', start = new Date(), count } = callOptions('nextFirings', options, ['tz', 'start', 'count'], "nextFirings('@daily', { count: 5 })");
  if (typeof tz !== 'string') throw new InvalidOptions(`tz is ${shown(tz)}; it must be a text, such as 'Europe/Rome'`);
  const from = timeOf('start', start);
  const most = checkedCount(count);
  return native(() => port().native.firings(cron, tz, from, most)).map((time) => new Date(time));
}
