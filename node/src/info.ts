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
  readonly at: Date;
  readonly level: string;
  readonly message: string;
  /** The attempt that logged it. */
  readonly attempt: number;
}

/** Every field of a task. Durations are in milliseconds. */
export interface TaskInfo {
  readonly id: string;
  readonly name: string;
  readonly queue: string;
  readonly priority: Priority;
  readonly state: TaskState;
  readonly waitingFor: string | undefined;
  readonly version: string | undefined;
  readonly attempt: number;
  readonly failures: number;
  readonly crashes: number;
  readonly generation: number;
  readonly retries: number;
  readonly maxCrashes: number;
  readonly timeout: number | undefined;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  /** The key whose limits it obeys. */
  readonly key: string | undefined;
  readonly uniqueKey: string | undefined;
  readonly correlationId: string | undefined;
  readonly traceparent: string | undefined;
  readonly parent: string | undefined;
  /** The schedule that submitted it. */
  readonly schedule: string | undefined;
  /** The time by that schedule's rule that it is for. */
  readonly tick: Date | undefined;
  /** How many children it has had. */
  readonly children: number;
  /** Why it was cancelled. */
  readonly reason: string | undefined;
  readonly created: Date;
  readonly updated: Date;
  readonly eligible: Date | undefined;
  readonly started: Date | undefined;
  readonly finished: Date | undefined;
  readonly eta: Date | undefined;
  readonly expires: Date | undefined;
  readonly deadline: Date | undefined;
  readonly errors: readonly AttemptError[];
  readonly progress: Progress | undefined;
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
  readonly count: number;
  readonly mean: number | null;
  readonly min: number | null;
  readonly max: number | null;
  readonly p50: number | null;
  readonly p90: number | null;
  readonly p95: number | null;
  readonly p99: number | null;
}

/** What ran in this process. */
export interface Figures {
  readonly started: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly retried: number;
  readonly timedOut: number;
  readonly cancelled: number;
  readonly expired: number;
  readonly released: number;
  readonly late: number;
  /** Ended tasks a second, over the last second, ten seconds and minute. */
  readonly throughput: { readonly second: number; readonly tenSeconds: number; readonly minute: number };
  readonly wait: Latency;
  readonly run: Latency;
}

/** Tasks in each state. */
export type Counts = Readonly<Record<TaskState, number>>;

/** An app in figures. */
export interface Stats {
  readonly at: Date;
  readonly tasks: Counts;
  readonly total: Figures;
  readonly queues: Readonly<Record<string, { tasks: Counts; paused: boolean; figures: Figures }>>;
  readonly handlers: Readonly<Record<string, Figures>>;
  readonly running: ReadonlyArray<{ id: string; name: string; attempt: number; runningFor: number }>;
  readonly inFlight: number;
  readonly lateReports: number;
  readonly subscribers: number;
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
  readonly name: string;
  readonly version: string;
  /** How it runs: on a thread of the engine, or on an event loop. */
  readonly kind: 'async' | 'blocking';
  readonly queue: string;
  readonly retries: number;
  readonly registered: Date;
}
