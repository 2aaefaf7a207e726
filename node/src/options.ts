/** Options: from what JavaScript users write to the plain values that the core reads. */

import { type Duration, seconds, shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { isFields, line } from './lines.js';

/** How important a task is among those of its queue. */
export type Priority = 'low' | 'normal' | 'high' | 'critical';

/** The waits between attempts: after the *n*-th failure a random part of `base × factor ** (n - 1)`, at most `cap`. */
export interface RetryPolicy {
  /** The longest wait after the first failure; 1 s. */
  base?: Duration;
  /** By how much the wait grows with each failure, at least 1; 2. */
  factor?: number;
  /** The longest wait of all; 30 s. */
  cap?: Duration;
}

/** What a submit may say, and a handler for all of its tasks. */
export interface CommonOptions {
  /** The queue; `'default'`. */
  queue?: string;
  /** The priority in its queue; `'normal'`. */
  priority?: Priority;
  /** A task that was not started by then has expired: so long after the submit, or at a time. */
  expires?: Duration | Date;
  /** How long one attempt may take. */
  timeout?: Duration;
  /** How long it may take in total, from the submit on; or until when. */
  deadline?: Duration | Date;
  /** How many failures are followed by another attempt; 0. */
  retries?: number;
  /** The waits between attempts. */
  retry?: RetryPolicy;
  /** How many lost workers make it fail; 3. */
  maxCrashes?: number;
  /** Words to find it by. */
  tags?: readonly string[];
  /** How many may run at once: of the handler, or, with a `key`, of all tasks that have it. */
  concurrency?: number;
  /** How many may start in a period, as in `'10/s'`: of the handler, or of all tasks with the `key`. */
  rate?: string;
  /** Free facts, such as `initiator`, `reason`, `sourceSystem`. */
  metadata?: Readonly<Record<string, string>>;
}

/** What a submit may say. */
export interface SubmitOptions extends CommonOptions {
  /** The task's id, a UUID; made if not given. */
  id?: string;
  /** Not before so long from now. */
  delay?: Duration;
  /** Not before this time; a past one is now. Text must say its offset, as in `'2030-01-01T00:00:00Z'`. */
  eta?: Date | string;
  /** The key whose limits it obeys, such as a tenant: `docs/limits.md`. */
  key?: string;
  /** The version of the handler; the newest. */
  version?: string;
  /** At most one live task of the handler has this key. */
  uniqueKey?: string;
  /** How long the key stays taken, even when the task has ended. */
  uniqueFor?: Duration;
  /** What a submit does when the key is taken: return the task that has it, replace that, or throw `Duplicate`. */
  onConflict?: 'return' | 'replace' | 'reject';
  /** Ties tasks of one request together. */
  correlationId?: string;
  /** W3C trace context. */
  traceparent?: string;
  /** A connection of your database: the submit is a row of its transaction, which `app.outbox` relays. */
  tx?: unknown;
}

/** What a submit by name may say. */
export interface NamedSubmitOptions extends SubmitOptions {
  /** On a file: whether the name need not have been registered by any process yet; false. */
  allowUnknown?: boolean;
}

/** What a child's submit may say. */
export interface ChildOptions extends Omit<SubmitOptions, 'tx' | 'id' | 'uniqueKey' | 'uniqueFor' | 'onConflict'> {
  /** Whether it outlives a parent that is cancelled. */
  detached?: boolean;
}

type Form = 'text' | 'texts' | 'pairs' | 'count' | 'span' | 'when' | 'time' | 'retry' | 'flag' | 'queues';

const COMMON: Record<string, Form> = {
  queue: 'text',
  priority: 'text',
  expires: 'when',
  timeout: 'span',
  deadline: 'when',
  retries: 'count',
  retry: 'retry',
  maxCrashes: 'count',
  concurrency: 'count',
  rate: 'text',
  tags: 'texts',
  metadata: 'pairs',
};

const SUBMIT: Record<string, Form> = {
  ...COMMON,
  id: 'text',
  key: 'text',
  delay: 'span',
  eta: 'time',
  version: 'text',
  uniqueKey: 'text',
  uniqueFor: 'span',
  onConflict: 'text',
  correlationId: 'text',
  traceparent: 'text',
  detached: 'flag',
};

/** What `SubmitOptions` and `ChildOptions` have: the core refuses the others, and says why. */
const OF_SUBMITS = [...Object.keys(SUBMIT).filter((name) => name !== 'detached'), 'tx'];
const OF_CHILDREN = Object.keys(SUBMIT).filter((name) => !['id', 'uniqueKey', 'uniqueFor', 'onConflict'].includes(name));

const HANDLER: Record<string, Form> = { ...COMMON, version: 'text', key: 'text' };

const SETTINGS: Record<string, Form> = {
  maxInFlight: 'count',
  queues: 'queues',
  capacity: 'count',
  onFull: 'text',
  durability: 'text',
  retention: 'span',
  requireMetadata: 'texts',
  name: 'text',
};

/** Options that this version knows of and refuses. */
const LATER = ['dependsOn', 'requires', 'agent', 'executor'];

/** How many letters two names differ in, up to swaps. */
function distance(a: string, b: string): number {
  let before = Array.from({ length: b.length + 1 }, (_, place) => place);
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    for (let place = 1; place <= b.length; place++) {
      const same = a[row - 1].toLowerCase() === b[place - 1].toLowerCase() ? 0 : 1;
      line.push(Math.min(before[place] + 1, line[place - 1] + 1, before[place - 1] + same));
    }
    before = line;
  }
  return before[b.length];
}

/** What somebody may have meant. @internal */
export function nearest(name: string, names: readonly string[]): string | undefined {
  // Of one letter or two, half of all names are near.
  const most = name.length < 3 ? 1 : Math.max(2, Math.floor(name.length / 3));
  let best: [number, string] | undefined;
  for (const other of names) {
    const away = distance(name, other);
    if (away <= most && (best === undefined || away < best[0])) best = [away, other];
  }
  return best?.[1];
}

/** Refuses a name that is not known. @internal */
export function unknown(what: string, name: string, names: readonly string[], later: readonly string[]): InvalidOptions {
  if (later.includes(name)) {
    return new InvalidOptions(`the ${what} ${name} is not available in this version`, {
      code: 'TL1002',
      hint: `leave it out; there are: ${names.join(', ')}`,
    });
  }
  const near = nearest(name, names);
  return new InvalidOptions(`there is no ${what} ${name}`, {
    hint: near === undefined ? `there are: ${names.join(', ')}` : `did you mean ${near}?`,
  });
}

function wrong(name: string, value: unknown, wanted: string, hint?: string): InvalidOptions {
  return new InvalidOptions(`${name} is ${shown(value)}; it must be ${wanted}`, { hint });
}

const ON_HANDLER = "whether an error is worth a retry is said on the handler: app.task('fetch', { retry: … }, …)";

/** A time, as the core takes it. */
function at(name: string, date: Date): { at: number } {
  const time = date.getTime();
  if (Number.isNaN(time)) {
    throw new InvalidOptions(`${name} is an invalid Date; it must be one that tells a time`, { hint: 'such as new Date("2030-01-01T00:00:00Z")' });
  }
  return { at: Math.round(time * 1000) };
}

function plain(name: string, form: Form, value: unknown): unknown {
  switch (form) {
    case 'text':
      if (typeof value !== 'string') throw wrong(name, value, 'a text');
      return value;
    case 'flag':
      if (typeof value !== 'boolean') throw wrong(name, value, 'true or false');
      return value;
    case 'count':
      if (!Number.isSafeInteger(value)) throw wrong(name, value, 'a whole number');
      return value;
    case 'texts':
      if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) {
        throw wrong(name, value, 'an array of texts', typeof value === 'string' ? `write ${name}: [${shown(value)}]` : undefined);
      }
      return value;
    case 'pairs':
      if (!isFields(value)) {
        throw wrong(name, value, 'an object of texts', value instanceof Map ? 'pass Object.fromEntries(map)' : undefined);
      }
      for (const [key, own] of Object.entries(value)) {
        if (typeof own !== 'string') throw wrong(`${name}.${key}`, own, 'a text');
      }
      return value;
    case 'span':
      return seconds(name, value);
    case 'when':
      return value instanceof Date ? at(name, value) : seconds(name, value, 'a duration, or a Date');
    case 'time': {
      if (value instanceof Date) return at(name, value);
      const hint = name === 'eta' ? 'for a time from now there is delay' : 'for a time from now write new Date(Date.now() + 60_000)';
      if (typeof value !== 'string') throw wrong(name, value, 'a Date, or a text such as "2030-01-01T00:00:00Z"', hint);
      if (!/(?:Z|[+-]\d\d:?\d\d)$/i.test(value) || Number.isNaN(Date.parse(value))) {
        throw wrong(name, value, 'a time with its offset, such as "2030-01-01T00:00:00Z"', hint);
      }
      return at(name, new Date(value));
    }
    case 'queues': {
      const wanted = 'an array of queues, or an object of their weights';
      if (Array.isArray(value)) {
        if (value.some((item) => typeof item !== 'string')) throw wrong(name, value, wanted);
        return value;
      }
      if (!isFields(value)) {
        const hint = typeof value === 'string' ? `write queues: [${shown(value)}]` : 'as in [\'mail\', \'images\'], or { mail: 3, images: 1 }';
        throw wrong(name, value, wanted, value instanceof Map ? 'pass Object.fromEntries(map)' : hint);
      }
      for (const [queue, weight] of Object.entries(value)) {
        if (!Number.isSafeInteger(weight)) throw wrong(`queues.${queue}`, weight, 'a whole number from 1 to 1000');
      }
      return Object.keys(value).length === 0 ? [] : value;
    }
    case 'retry': {
      if (typeof value === 'function') throw wrong(name, value, 'an object { base, factor, cap }', ON_HANDLER);
      if (!isFields(value)) {
        throw wrong(name, value, 'an object { base, factor, cap }', 'how often it is tried again is retries');
      }
      const given: RetryPolicy = value;
      const names = ['base', 'factor', 'cap'];
      for (const key of Object.keys(given)) {
        if (['on', 'never', 'retryIf'].includes(key)) {
          throw new InvalidOptions(`retry has ${key} in it; a submit says only base, factor and cap`, { hint: ON_HANDLER });
        }
        if (!names.includes(key)) throw unknown('option of retry', key, names, []);
      }
      const factor = given.factor ?? 2;
      if (typeof factor !== 'number' || !(factor >= 1) || !Number.isFinite(factor)) {
        throw wrong('retry.factor', factor, 'a number of at least 1');
      }
      return {
        base: seconds('retry.base', given.base ?? 1_000),
        factor,
        cap: seconds('retry.cap', given.cap ?? 30_000),
      };
    }
  }
}

/** What an app is made with, for the core. @internal */
export function setting(name: string, value: unknown): unknown {
  return value === null ? null : plain(name, SETTINGS[name], value);
}

/** An option's name in the core. @internal */
export function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Options by the core's names. `skip` is read elsewhere; `names` is what a hint offers in the place of an unknown one. */
function read(
  options: object,
  forms: Record<string, Form>,
  skip: readonly string[],
  names: readonly string[] = [...Object.keys(forms), ...skip],
): Record<string, unknown> | undefined {
  let all: Record<string, unknown> | undefined;
  for (const name of Object.keys(options)) {
    if (skip.includes(name)) continue;
    if (name === 'tx') {
      if ((options as Record<string, unknown>)[name] === undefined) continue;
      throw new InvalidOptions('tx is for the submit of one task, inside a transaction', {
        hint: 'write task.submit(input, { tx: connection })',
      });
    }
    const form = forms[name];
    if (form === undefined) throw unknown('option', name, names, LATER);
    const value = (options as Record<string, unknown>)[name];
    if (value === undefined || value === null) continue;
    (all ??= {})[snake(name)] = plain(name, form, value);
  }
  return all;
}

/** Options of a call that knows these, and no other. @internal */
export function callOptions<T extends object>(what: string, options: T, names: ReadonlyArray<keyof T & string>, example: string): T {
  if (!isFields(options)) {
    throw new InvalidOptions(`the options of ${what} are ${shown(options)}; they must be an object`, { hint: `as in ${example}` });
  }
  for (const name of Object.keys(options)) {
    if (!(names as readonly string[]).includes(name)) throw unknown(`option of ${what}`, name, names, []);
  }
  return options;
}

/** Options of a submit, whatever is in them. @internal */
export function checkedOptions(options: NamedSubmitOptions | undefined): NamedSubmitOptions {
  return options === undefined ? {} : object(options);
}

function object(options: unknown): object {
  // The one is quickly seen, and so are nearly all.
  if ((options as object | null)?.constructor === Object || isFields(options)) return options as object;
  throw new InvalidOptions(`the options of a submit are ${shown(options)}; they must be an object`, {
    hint: 'options come after the input: submit(input, { … })',
  });
}

/** Options of a submit as a line for the core; nothing if there are none. @internal */
export function submitLine(options: SubmitOptions | undefined, allowUnknown = false): string | undefined {
  if (options === undefined && !allowUnknown) return undefined;
  const said = options === undefined ? undefined : read(object(options), SUBMIT, [], OF_SUBMITS);
  const all = allowUnknown ? { ...said, allow_unknown: true } : said;
  return all === undefined ? undefined : line(all);
}

/** Options of a child's submit, likewise. @internal */
export function childLine(options: ChildOptions | undefined): string | undefined {
  const said = options === undefined ? undefined : read(object(options), SUBMIT, [], OF_CHILDREN);
  return said === undefined ? undefined : line(said);
}

/** Options of a handler for the core. @internal */
export function handlerOptions(options: object, skip: readonly string[]): Record<string, unknown> {
  return read(options, HANDLER, skip) ?? {};
}

/** What belongs to one task, and cannot be said of all that a schedule submits. */
const OF_ONE_TASK = ['id', 'delay', 'eta', 'uniqueKey', 'uniqueFor', 'onConflict', 'detached'];

/** Options of a schedule, for the core: what is its own, and what is said of its tasks. @internal */
export function scheduleOptions(options: object, own: Record<string, string>): Record<string, unknown> {
  const forms: Record<string, Form> = { ...SUBMIT, ...(own as Record<string, Form>) };
  for (const name of OF_ONE_TASK) {
    delete forms[name];
    if ((options as Record<string, unknown>)[name] === undefined) continue;
    throw new InvalidOptions(`there is no option ${name} of a schedule: it is for the submit of one task`, {
      hint: ['delay', 'eta'].includes(name) ? 'app.at submits once, at a time; start says when a schedule begins' : 'leave it out',
    });
  }
  return read(options, forms, OF_ONE_TASK, Object.keys(forms)) ?? {};
}
