/** A registered handler, and ways to submit tasks for it. */

import type { Context } from './context.js';
import type { Duration } from './durations.js';
import type { TaskHandle } from './handle.js';
import type { CommonOptions, SubmitOptions } from './options.js';
import type { RetryFunction, RetryRules, Rules } from './retry_rules.js';
import type { StandardSchema } from './schema.js';

/** What is said once of a handler, and holds for all of its tasks unless a submit says otherwise. */
export interface TaskOptions extends Omit<CommonOptions, 'retry'> {
  /** The waits between attempts, and which errors are worth one; or a function that says so of each. */
  retry?: RetryRules | RetryFunction;
  /** Goes before the name: `img` and `resize` make `img/resize`. */
  namespace?: string;
  /** Its version, as in `'1.2.0'`; several versions of a name can be registered. */
  version?: string;
  /** The key whose limits its tasks obey: a text, or a function of the input that gives each its own, or none. */
  key?: string | ((input: any) => string | null | undefined);
  /** Whether it may take the place of one with the same name and version. */
  replace?: boolean;
  /** Types and validates the input: any Standard Schema (zod, valibot, arktype). */
  schema?: StandardSchema<any, any>;
  /** Called with the handle of a task that has succeeded here. */
  onSuccess?: (handle: TaskHandle) => void;
  /** Called with the handle of a task whose attempt has failed here, and that will be tried again. */
  onRetry?: (handle: TaskHandle) => void;
  /** Called with the handle of a task that has failed for good here. */
  onFailure?: (handle: TaskHandle) => void;
}

/** What is said of a handler that computes, and so runs in a thread of the app's pool. */
export interface ThreadTaskOptions extends TaskOptions {
  /** It runs in a thread, which is ended if it takes too long or is cancelled. */
  thread: true;
  /** The module that the handler is in: a URL, such as `new URL('./hash.mjs', import.meta.url)`, or an absolute path. */
  module: URL | string;
  /** The name under which the module exports it; `'default'`. */
  export?: string;
}

/** What runs a task. */
export type HandlerFunction<Input, Result> = (input: Input, ctx: Context) => Result | PromiseLike<Result>;

/**
 * A registered handler. Calling it runs the function here and now, without a queue.
 *
 * ```js
 * const double = app.task('double', (n) => n * 2);
 * await double(4); // 8
 * const handle = await double.submit(4);
 * await handle.result(); // 8
 * ```
 */
export interface Task<Input, Result> {
  (...input: Arguments<Input>): Promise<Result>;
  /** The name that it was registered under. */
  readonly taskName: string;
  /**
   * Submits a task. When the promise resolves, the task is as durable as the store; its handle tells the rest.
   *
   * Throws `InvalidPayload` for an input that JSON cannot say or that the schema refuses, `PayloadTooLarge`,
   * `InvalidOptions`, `QueueFull`, `Duplicate`, `ShutDown`, `StoreError`.
   */
  submit(...input: Submission<Input>): Promise<TaskHandle<Result>>;
  /** Submits many tasks at once: all or none. The options are those of each. */
  submitMany(inputs: Iterable<Input>, options?: SubmitOptions): Promise<Array<TaskHandle<Result>>>;
}

/**
 * What a schedule submits: a task, or a function to register. Only one of the two says how it is called: of two, TypeScript
 * would take no types for the function's parameters.
 */
export type Schedulable<Input, Result> = HandlerFunction<Input, Result> | Pick<Task<Input, Result>, 'taskName' | 'submit' | 'submitMany'>;

/** An input that may be left out if it may be `undefined`. */
type Arguments<Input> = undefined extends Input ? [input?: Input] : [input: Input];

/** The same, with options after it. */
export type Submission<Input, Options = SubmitOptions> = undefined extends Input
  ? [input?: Input, options?: Options]
  : [input: Input, options?: Options];

/** A handler as its app keeps it. @internal */
export interface Handler {
  readonly name: string;
  readonly number: number;
  /** The function itself. */
  readonly plain: HandlerFunction<unknown, unknown>;
  /** The function, with the app's middleware around it. */
  run: HandlerFunction<unknown, unknown>;
  readonly schema: StandardSchema | undefined;
  /** Which errors are worth another attempt. */
  readonly rules: Rules | undefined;
  /** Whether nothing about its tasks could have one refused that a payload of JSON is given. */
  readonly isPlain: boolean;
  /** Gives each task its key. */
  readonly key: ((input: unknown) => string | null | undefined) | undefined;
  /** Whether its module validates the input itself, wherever it runs. */
  readonly isInModule?: boolean;
  readonly hooks: ReadonlyArray<((handle: TaskHandle) => void) | undefined>;
}

/** How long ended tasks are kept, and the like. */
export type { Duration };
