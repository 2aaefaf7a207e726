/** What an app is made with. */

import { availableParallelism } from 'node:os';

import { type Duration, shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { isFields, line } from './lines.js';
import { setting, snake, unknown } from './options.js';

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
  /** The threads that run handlers with `thread: true`: how many at most, or more about them. */
  threads?: number | ThreadOptions;
  /** Whether a started app keeps the process alive while it has nothing to do; false. */
  keepAlive?: boolean;
  /**
   * Whether handlers run in the async context of their submit: in every `AsyncLocalStorage` they find what the
   * submitter had there (if it was this thread), and `currentContext()` works after an `await`, too. It makes every
   * promise of the process dearer before Node 24, so it is off unless asked for.
   */
  asyncContext?: boolean;
}

/** The threads that run handlers with `thread: true`. */
export interface ThreadOptions {
  /** How many there are at most; as many as the machine runs at once. They are started when tasks wait for them. */
  size?: number;
  /** The heap of each, in megabytes: one that needs more dies. Node's own limit if not given. */
  maxMemory?: number;
  /** After so many tasks a thread is ended, and another takes its place; never if not given. */
  maxTasksPerThread?: number;
}

/** The same, complete. @internal */
export interface ThreadSettings extends ThreadOptions {
  readonly size: number;
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
  'threads',
  'keepAlive',
  'asyncContext',
];

/** Settings that the engine knows nothing of. */
const OURS = ['store', 'threads', 'keepAlive', 'asyncContext'];

const SETTINGS_LATER = ['lease', 'payloads'];

/** A capacity from which on the native half says how much room there is; `ROOMY` of `bindings/node/src/seat.rs`. */
const ROOMY = 1 << 17;

/** Settings, read and checked as far as JavaScript can. @internal */
export interface Settings {
  readonly store: string;
  readonly keepAlive: boolean;
  readonly asyncContext: boolean;
  readonly threads: ThreadSettings;
  /** Whether a submit waits when there is no room. */
  readonly waits: boolean;
  /** Whether nothing but a lack of room refuses a plain submit: nobody else has the store, and it is large. */
  readonly isRoomy: boolean;
  /** For the core, which checks the rest. */
  readonly line: string;
}

/** Reads what an app is made with. @internal */
export function readSettings(options: AppOptions): Settings {
  if (!isFields(options as unknown)) {
    throw new InvalidOptions(`an app is made with options, not with ${shown(options)}`, {
      hint: `write new App({ store: ${typeof options === 'string' ? shown(options) : "'sqlite:tasks.db'"} })`,
    });
  }
  const settings: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (name === 'workers') {
      throw new InvalidOptions('there is no setting workers: handlers run on the event loop', {
        hint: 'how many run at once is maxInFlight; how many threads run those with thread: true is threads',
      });
    }
    if (!SETTINGS.includes(name)) throw unknown('setting', name, SETTINGS, SETTINGS_LATER);
    if (value === undefined || OURS.includes(name)) continue;
    settings[snake(name)] = setting(name, value);
  }
  const { store = 'memory:', keepAlive = false, asyncContext = false, onFull } = options;
  if (typeof store !== 'string') throw new InvalidOptions(`store is ${shown(store)}; it must be a text`);
  if (typeof keepAlive !== 'boolean') throw new InvalidOptions(`keepAlive is ${shown(keepAlive)}; it must be true or false`);
  if (typeof asyncContext !== 'boolean') {
    throw new InvalidOptions(`asyncContext is ${shown(asyncContext)}; it must be true or false`);
  }
  const threads = readThreads(options.threads);
  settings.threads = threads.size;
  const { capacity = ROOMY, queues, requireMetadata } = options;
  const isPlain = onFull !== 'wait' && !asyncContext && queues === undefined && requireMetadata === undefined;
  const isRoomy = store === 'memory:' && isPlain && capacity >= ROOMY;
  return { store, keepAlive, asyncContext, threads, waits: onFull === 'wait', isRoomy, line: line(settings) };
}

function readThreads(given: unknown): ThreadSettings {
  if (typeof given === 'number') return readThreads({ size: given });
  if (given === undefined) return { size: availableParallelism() };
  if (!isFields(given)) {
    throw new InvalidOptions(`threads is ${shown(given)}; it must be a number, or an object such as { size: 4, maxMemory: 512 }`);
  }
  const names = ['size', 'maxMemory', 'maxTasksPerThread'];
  for (const [name, value] of Object.entries(given)) {
    if (!names.includes(name)) throw unknown('option of threads', name, names, []);
    if (value !== undefined && !(Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= MOST)) {
      throw new InvalidOptions(`threads.${name} is ${shown(value)}; it must be a whole number from 1 to ${MOST}`);
    }
  }
  const { size = availableParallelism(), ...others } = given as ThreadOptions;
  return { size, ...others };
}

/** As many workers as an engine may have, which is enough of everything else, too. */
const MOST = 10_000;
