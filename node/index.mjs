// The package as an ES module: the same objects as for `require`, so that there is one of each class in a process.
import taskloom from './dist/index.js';

export const {
  App,
  Context,
  Duplicate,
  HandlerLost,
  IllegalTransition,
  InvalidOptions,
  InvalidPayload,
  LeaseLost,
  Misuse,
  PayloadTooLarge,
  PermanentError,
  QueueFull,
  RetryAfter,
  ShutDown,
  StoreError,
  TaskCancelled,
  TaskExpired,
  TaskFailed,
  TaskHandle,
  TaskTimedOut,
  TaskloomError,
  UnknownHandler,
  WaitTimeout,
  currentContext,
} = taskloom;
