/// <reference lib="esnext.disposable" preserve="true" />
/**
 * A task engine that lives in your process.
 *
 * @packageDocumentation
 */

export { App, type StopOptions } from './app.js';
export { Context, currentContext, type ContextTask, type TaskLog } from './context.js';
export type { Duration } from './durations.js';
export {
  type AttemptError,
  Duplicate,
  HandlerLost,
  IllegalTransition,
  InvalidOptions,
  InvalidPayload,
  type Issue,
  LeaseLost,
  Misuse,
  PayloadTooLarge,
  QueueFull,
  ShutDown,
  StoreError,
  TaskCancelled,
  TaskExpired,
  TaskFailed,
  TaskTimedOut,
  TaskloomError,
  UnknownHandler,
  WaitTimeout,
} from './errors.js';
export * as events from './catalog.js';
export type { EventOptions, TaskEvent, Unsubscribe } from './events.js';
export type { JsonLogOptions, LogStream } from './json_logs.js';
export { TaskHandle, type TaskState, type WaitOptions } from './handle.js';
export type {
  Counts,
  Figures,
  HandlerInfo,
  Health,
  Latency,
  LogLine,
  Progress,
  ProgressStep,
  Stats,
  TaskInfo,
  Unserved,
} from './info.js';
export type { Middleware } from './middleware.js';
export type { CancelFilter, Chosen, DeadFilter, DeadState, DiscardFilter, Limit, LimitOptions, TaskFilter } from './operating.js';
export type { ChildOptions, CommonOptions, NamedSubmitOptions, Priority, RetryPolicy, SubmitOptions } from './options.js';
export { Outbox, OutboxHandle, outboxSchema, type RefusedRow } from './outbox.js';
export { type CatchUp, nextFirings, type Overlap, type Schedule, type ScheduleChanges, type ScheduleOptions, Schedules } from './schedules.js';
export type { ErrorKind, RetryFunction, RetryRules } from './retry_rules.js';
export type { InputOf, OutputOf, StandardSchema } from './schema.js';
export type { AppOptions, ThreadOptions } from './settings.js';
export type { HandlerFunction, Schedulable, Task, TaskOptions, ThreadTaskOptions } from './task.js';
export type { Span, Submitted, SubmittedOptions, Testing, TestingOptions } from './testing_mode.js';
export { PermanentError, RetryAfter, type RetryAfterOptions } from './verdicts.js';
