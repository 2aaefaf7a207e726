/**
 * What this environment runs: handlers, from the message that starts one to the one that tells how it ended.
 *
 * A job has a number, which the native half gave it, and a context, which the handler is given. Only contexts of handlers
 * that are awaited are kept here: the others have ended before anybody could ask for them. No handler's error goes any
 * further than its outcome does.
 *
 * @internal
 */

import type { NativePort } from './addon.js';
import type { App } from './app.js';
import { type Context, endedContext, makeContext, storage } from './context.js';
import { describe } from './failures.js';
import { RESULT, copied, encode } from './payload.js';
import * as plain from './plain.js';
import type { Port } from './port.js';
import { validate } from './schema.js';
import type { Handler } from './task.js';

/** Errors that handlers threw here, for those who wait here: the newest. */
const KEPT_ERRORS = 1_000;

export class Jobs {
  /** Of handlers that are awaited. */
  private readonly contexts: Array<Context | undefined> = [];
  /** While messages are read: the app that the last handler is of. */
  private near: App | undefined;
  private readonly thrown = new Map<string, unknown>();
  /** For the watchdog: the job whose synchronous part runs, plus one; and how many handlers are awaited. */
  private readonly running = new Uint32Array(2);
  /** The handler whose synchronous part runs. */
  current: Context | undefined;

  constructor(private readonly port: Port) {}

  /**
   * Runs the handler that a message tells of. Its input is the line, or what was kept in the slot.
   *
   * Whatever it throws, here or later, is its outcome; nothing of it comes back to the reader of the messages.
   */
  start(words: Uint32Array, at: number, payload: string | undefined, slot: number): void {
    const app = this.near !== undefined && this.near._number === words[at + 1] ? this.near : this.port.apps.get(words[at + 1])?.deref();
    const job = words[at + 3];
    const handler = app?._handler(words[at + 2]);
    if (app === undefined || handler === undefined) {
      this.port.failed(job, describe(new Error('the app that has this handler is gone'), Date.now));
      return;
    }
    this.near = app;
    const context = makeContext(app, handler, job, words[at + 4], words, at + 5);
    this.port.busy += 1;
    this.current = context;
    this.running[0] = job + 1;
    try {
      let input: unknown;
      if (payload === undefined) {
        const { values, slots } = this.port;
        input = values[slot];
        values[slot] = undefined;
        context._handle = slots.rows[slot];
      } else {
        input = JSON.parse(payload);
      }
      const output = handler.schema === undefined ? this.call(handler, input, context) : this.validated(handler, input, context);
      if (isThenable(output)) {
        this.running[1] += 1;
        this.contexts[job] = context;
        const ended = (): void => {
          this.running[1] -= 1;
          this.contexts[job] = undefined;
        };
        output.then(
          (value) => {
            ended();
            this.succeeded(context, value);
          },
          (error) => {
            ended();
            this.threw(context, error);
          },
        );
      } else {
        this.succeeded(context, output);
      }
    } catch (error) {
      this.threw(context, error);
    } finally {
      this.current = undefined;
      this.running[0] = 0;
    }
  }

  private call(handler: Handler, input: unknown, context: Context): unknown {
    if (!context._app._asyncContext) return handler.run(input, context);
    const submitted = this.port.scopes.of(context.task.id);
    if (submitted === undefined) return storage.run(context, handler.run, input, context);
    return submitted.runInAsyncScope(() => storage.run(context, handler.run, input, context));
  }

  private validated(handler: Handler, input: unknown, context: Context): unknown {
    const verdict = validate(handler.schema!, handler.name, input);
    return verdict instanceof Promise
      ? verdict.then((value) => this.call(handler, value, context))
      : this.call(handler, verdict, context);
  }

  private succeeded(context: Context, value: unknown): void {
    const { port } = this;
    port.reserve(3);
    const start = plain.length;
    let line: string | undefined;
    let kept: unknown;
    try {
      if (plain.writePlain(value)) {
        kept = plain.written;
      } else {
        line = encode(value, RESULT + context._handler.name);
        kept = copied;
      }
    } catch (error) {
      this.threw(context, error);
      return;
    }
    const handle = context._handle;
    // The slot may be another task's by now, if this one was cancelled.
    if (handle !== undefined && handle._slot >= 0 && port.slots.rows[handle._slot] === handle) {
      port.values[handle._slot] = kept;
    }
    port.succeeded(this.release(context), line, plain.length - start);
  }

  private threw(context: Context, error: unknown): void {
    if (!context._isCalledOff) {
      const { id } = context.task;
      this.thrown.delete(id);
      this.thrown.set(id, error);
      if (this.thrown.size > KEPT_ERRORS) this.thrown.delete(this.thrown.keys().next().value!);
    }
    const line = describe(error, () => context.now.getTime(), context._verdict(error));
    this.port.failed(this.release(context), line);
  }

  /** A handler has ended; its job's number. */
  private release(context: Context): number {
    if (!context._isCalledOff) this.port.busy -= 1;
    endedContext(context);
    return context._job;
  }

  /** An attempt no longer counts. */
  callOff(job: number, why: string): void {
    const context = this.contexts[job];
    if (context === undefined || context._isCalledOff) return;
    // A handler that does not come back must not keep the process alive.
    this.port.busy -= 1;
    context._callOff(why);
  }

  /** What a handler threw here that ended a task, for those who wait for that here; it is told once. */
  takeThrown(id: string): unknown {
    const cause = this.thrown.get(id);
    this.thrown.delete(id);
    return cause;
  }

  /** Lets the native half see what runs. */
  lendTo(native: NativePort): void {
    native.lend(this.running);
  }

  /** All that one crossing has brought has been read. */
  wereRead(): void {
    this.near = undefined;
  }

  /** Whether a handler of an app is in flight. */
  hasJobs(app: App): boolean {
    return this.current?._app === app || this.contexts.some((context) => context !== undefined && context._app === app);
  }

  /** Whether a handler is in flight whose continuations cannot be told from other code. */
  hasUntoldContexts(): boolean {
    return this.contexts.some((context) => context !== undefined && !context._isOver && !context._app._asyncContext);
  }

  /** What still runs of an app is over, whether or not it comes back. */
  abandon(app: App): void {
    for (const context of this.contexts) if (context !== undefined && context._app === app) endedContext(context);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    value !== null &&
    (typeof value === 'object' || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}
