/** What there is to know about a task, and about an app. */

import { type AttemptError, attemptErrors } from './errors.js';
import type { Priority } from './options.js';
import type { TaskState } from './handle.js';

/** One step of a task's progress. */
export interface ProgressStep {
  /** From 0 to 1. */
  readonly value: number;
  /** What the handler said. */
  readonly message: string | undefined;
  /** When. */
  readonly at: Date;
}

/** How far a task says it is. */
export interface Progress extends ProgressStep {
  /** All that it said, oldest first. */
  readonly history: readonly ProgressStep[];
}

/** A line that a handler logged. */
export interface LogLine {
  /** When. */
  readonly at: Date;
  /** `'debug'`, `'info'`, `'warning'` or `'error'`. */
  readonly level: string;
  /** What it said. */
  readonly message: string;
  /** The attempt that logged it. */
  readonly attempt: number;
}

/** Every field of a task. Durations are in milliseconds. */
export interface TaskInfo {
  /** Its id. */
  readonly id: string;
  /** Its handler's name. */
  readonly name: string;
  /** Its queue. */
  readonly queue: string;
  /** Its priority in the queue. */
  readonly priority: Priority;
  /** Where it is in its life. */
  readonly state: TaskState;
  /** What it waits for while it is pending: `'eta'`, `'key'` and the like. */
  readonly waitingFor: string | undefined;
  /** The version of the handler that it asks for. */
  readonly version: string | undefined;
  /** The number of its last attempt; 0 before the first. */
  readonly attempt: number;
  /** How many attempts have failed, in this generation. */
  readonly failures: number;
  /** How many lost their worker, in this generation. */
  readonly crashes: number;
  /** How often it was replayed. */
  readonly generation: number;
  /** How many failures are followed by another attempt. */
  readonly retries: number;
  /** How many crashes make it fail. */
  readonly maxCrashes: number;
  /** How long one attempt may take. */
  readonly timeout: number | undefined;
  /** Words to find it by. */
  readonly tags: readonly string[];
  /** Free facts. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The key whose limits it obeys. */
  readonly key: string | undefined;
  /** At most one live task of its handler has this key. */
  readonly uniqueKey: string | undefined;
  /** Ties tasks of one request together. */
  readonly correlationId: string | undefined;
  /** W3C trace context. */
  readonly traceparent: string | undefined;
  /** The id of the task that submitted it. */
  readonly parent: string | undefined;
  /** The schedule that submitted it. */
  readonly schedule: string | undefined;
  /** The time by that schedule's rule that it is for. */
  readonly tick: Date | undefined;
  /** How many children it has had. */
  readonly children: number;
  /** Why it was cancelled. */
  readonly reason: string | undefined;
  /** When it was submitted. */
  readonly created: Date;
  /** When it changed last. */
  readonly updated: Date;
  /** When it may run, or might since. */
  readonly eligible: Date | undefined;
  /** When its last attempt began. */
  readonly started: Date | undefined;
  /** When it ended. */
  readonly finished: Date | undefined;
  /** Not before this time. */
  readonly eta: Date | undefined;
  /** A task that was not started by then has expired. */
  readonly expires: Date | undefined;
  /** When it must have ended. */
  readonly deadline: Date | undefined;
  /** The errors of all attempts, oldest first, over all generations. */
  readonly errors: readonly AttemptError[];
  /** How far it says it is. */
  readonly progress: Progress | undefined;
  /** The lines that its handlers logged, the newest. */
  readonly log: readonly LogLine[];
  /** What its handler noted beside its result. */
  readonly resultMetadata: Readonly<Record<string, unknown>>;
}

const TIMES = ['created', 'updated', 'eligible', 'started', 'finished', 'eta', 'expires', 'deadline', 'tick'];

function dated<T extends { at: unknown }>(items: unknown): T[] {
  return (items as Array<{ at: number; message?: string | null }>).map((item) => ({
    ...item,
    message: item.message ?? undefined,
    at: new Date(item.at),
  })) as unknown as T[];
}

/** A task as the native half describes it. @internal */
export function infoFrom(described: Record<string, unknown>): TaskInfo {
  const info: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(described)) {
    if (value === null) info[name] = undefined;
    else info[name] = TIMES.includes(name) ? new Date(value as number) : value;
  }
  const history = dated<ProgressStep>(described.progress);
  const last = history.at(-1);
  info.errors = attemptErrors(described.errors as never);
  info.progress = last === undefined ? undefined : { ...last, history };
  info.log = dated<LogLine>(described.log);
  return info as unknown as TaskInfo;
}

/** How long something took, in milliseconds; nothing if it never happened. */
export interface Latency {
  /** How often it was measured. */
  readonly count: number;
  /** The mean. */
  readonly mean: number | null;
  /** The least. */
  readonly min: number | null;
  /** The most. */
  readonly max: number | null;
  /** Half of them took no longer. */
  readonly p50: number | null;
  /** Of ten, nine took no longer. */
  readonly p90: number | null;
  /** Of a hundred, 95 took no longer. */
  readonly p95: number | null;
  /** Of a hundred, 99 took no longer. */
  readonly p99: number | null;
}

/** What ran in this process. */
export interface Figures {
  /** Attempts that began. */
  readonly started: number;
  /** Tasks that succeeded. */
  readonly succeeded: number;
  /** Tasks that failed for good. */
  readonly failed: number;
  /** Attempts that failed and were followed by another. */
  readonly retried: number;
  /** Tasks that timed out for good. */
  readonly timedOut: number;
  /** Tasks that were cancelled. */
  readonly cancelled: number;
  /** Tasks that expired. */
  readonly expired: number;
  /** Attempts that were given back, when an app stopped say. */
  readonly released: number;
  /** Reports that came when the attempt no longer counted. */
  readonly late: number;
  /** Ended tasks a second, over the last second, ten seconds and minute. */
  readonly throughput: { readonly second: number; readonly tenSeconds: number; readonly minute: number };
  /** How long tasks waited from when they were eligible. */
  readonly wait: Latency;
  /** How long attempts took. */
  readonly run: Latency;
}

/** Tasks in each state. */
export type Counts = Readonly<Record<TaskState, number>>;

/** An app in figures. */
export interface Stats {
  /** When. */
  readonly at: Date;
  /** The store's tasks by state. */
  readonly tasks: Counts;
  /** What ran in this process, in all. */
  readonly total: Figures;
  /** The same for each queue, and whether it is paused. */
  readonly queues: Readonly<Record<string, { tasks: Counts; paused: boolean; figures: Figures }>>;
  /** What ran in this process, for each handler. */
  readonly handlers: Readonly<Record<string, Figures>>;
  /** The attempts in progress; `runningFor` in milliseconds. */
  readonly running: ReadonlyArray<{ id: string; name: string; attempt: number; runningFor: number }>;
  /** How many handlers are in flight. */
  readonly inFlight: number;
  /** How many reports came too late, in all. */
  readonly lateReports: number;
  /** How many listen to events. */
  readonly subscribers: number;
  /** What is registered. */
  readonly registry: {
    readonly names: number;
    readonly handlers: number;
    readonly namespaces: readonly string[];
    readonly lastRegistration: Date | undefined;
  };
}

/** @internal */
export function statsFrom(described: Record<string, unknown>): Stats {
  const registry = described.registry as Record<string, unknown>;
  const last = registry.lastRegistration as number | null;
  return {
    ...(described as unknown as Stats),
    at: new Date(described.at as number),
    registry: { ...(registry as Stats['registry']), lastRegistration: last === null ? undefined : new Date(last) },
  };
}

/** Whether all is well. */
export interface Health {
  /** Whether it is: no problem is listed. */
  readonly ok: boolean;
  /** Whether tasks that are submitted now would be run. */
  readonly ready: boolean;
  /** What is wrong, in words. */
  readonly problems: readonly string[];
  /** What somebody should look at, in words, though this process is well: tasks that no process runs, say. */
  readonly warnings: readonly string[];
  /** Queued tasks that no process runs which is there now. Each entry is among the warnings too. */
  readonly unserved: readonly Unserved[];
}

/** Queued tasks of a handler that no process which works on the store has registered. */
export interface Unserved {
  /** The handler's name. */
  readonly name: string;
  /** How many there are. */
  readonly count: number;
  /** Since when the first of them could have been run. */
  readonly since: Date;
}

/** A registered handler. */
export interface HandlerInfo {
  /** Its name. */
  readonly name: string;
  /** Its version; `'0.0.0'` if it was not given one. */
  readonly version: string;
  /** How it runs: on a thread of the engine, or on an event loop. */
  readonly kind: 'async' | 'blocking';
  /** The queue of its tasks, where a submit says nothing else. */
  readonly queue: string;
  /** How many failures are followed by another attempt, where a submit says nothing else. */
  readonly retries: number;
  /** When it was registered. */
  readonly registered: Date;
}
