/** Middleware: functions of the user around every execution of a handler. */

import type { Context } from './context.js';
import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import type { Handler, HandlerFunction } from './task.js';

/**
 * A function around every execution of a handler. It is given the context and what it stands around, and returns what
 * the handler is to have returned. `next()` runs the next one, or the handler itself, and promises what that returns.
 */
export type Middleware = (ctx: Context, next: () => Promise<unknown>) => unknown;

/** What is around a whole execution. @internal */
export type Around = (ctx: Context, run: () => unknown) => unknown;

/** The middleware of an app. @internal */
export class Stack {
  private readonly all: Middleware[] = [];
  /** Around all of it, in testing mode. */
  private outermost: Around | undefined;

  /** One more, inside of the others. */
  add(middleware: Middleware): void {
    if (typeof middleware !== 'function') {
      throw new InvalidOptions(`app.middleware got ${shown(middleware)}, which is no function`, {
        hint: 'pass a function of the context and of what it stands around: async (ctx, next) => await next()',
      });
    }
    this.all.push(middleware);
  }

  /** Has a handler run inside of it. A handler costs nothing more before there is any. */
  surround(handler: Handler): void {
    const { plain } = handler;
    if (this.all.length === 0 && this.outermost === undefined) {
      handler.run = plain;
      return;
    }
    handler.run = (input, ctx) =>
      this.outermost === undefined ? this.enter(0, plain, input, ctx) : this.outermost(ctx, () => this.enter(0, plain, input, ctx));
  }

  /** Has all executions run inside of a function, or no longer. Whoever calls it surrounds the handlers anew. */
  setOutermost(around: Around | undefined): void {
    this.outermost = around;
  }

  private enter(place: number, plain: HandlerFunction<unknown, unknown>, input: unknown, ctx: Context): unknown {
    if (place === this.all.length) return plain(input, ctx);
    // A promise always, so that `next().finally(…)` may be written whatever stands inside.
    return this.all[place](ctx, async () => await this.enter(place + 1, plain, input, ctx));
  }
}
