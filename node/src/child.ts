/** A child, as the handler sees it that submitted it: who waits for it lends its place. */

import type { App } from './app.js';
import type { Context } from './context.js';
import { TaskHandle, type WaitOptions, type Waiter } from './handle.js';

/**
 * The handle of a child, in the hands of its parent. While the parent waits for it, it takes no place among the handlers in
 * flight (`maxInFlight`); so a parent can wait for its child where there is only one place.
 *
 * @internal
 */
export class ChildHandle<Result = unknown> extends TaskHandle<Result> {
  constructor(app: App, name: string, waits: Waiter, private readonly parent: Context) {
    super(app, name, undefined, waits);
  }

  override result(options?: WaitOptions): Promise<Result> {
    const result = super.result(options);
    if (this.done()) return result;
    this.parent._waits(1);
    return result.finally(() => this.parent._waits(-1));
  }
}
