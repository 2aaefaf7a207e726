/** What a handler throws to say whether there is to be another attempt. */

import { shown, waitFor } from './durations.js';
import { InvalidOptions, TaskloomError } from './errors.js';
import { checkText } from './lines.js';

/** What a {@link RetryAfter} may say besides when. */
export interface RetryAfterOptions {
  /** Puts off every task that has this key, whatever its handler and queue; then it costs no retry. */
  key?: string;
  /** Why. */
  message?: string;
  /** The error underneath. */
  cause?: unknown;
}

/**
 * Thrown by a handler: the task is tried again no sooner than this, and the usual cap does not apply.
 *
 * It spends a retry, unless a `key` is given: then every task with that key waits until then, and no failure is counted.
 *
 * ```js
 * throw new RetryAfter('30s');
 * throw new RetryAfter(response.headers.get('retry-after') * 1000, { key: 'payments-api' });
 * ```
 */
export class RetryAfter extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL0000';
  /** How long to wait, in milliseconds: from when it was made, if it was given a time. */
  readonly delay: number;
  /** The time, if one was given. A past one is now. */
  readonly at: Date | undefined;
  /** The key to put off, if one was given. */
  readonly key: string | undefined;

  /**
   * @param when how long to wait (milliseconds, or a text such as `'30s'`), or until when, as HTTP's `Retry-After` says
   * @param message why, or options with a `message`
   * @param options a `key`, and the `cause`
   */
  constructor(when: number | string | Date, message?: string | RetryAfterOptions, options?: RetryAfterOptions) {
    const said: RetryAfterOptions = { ...(typeof message === 'object' ? message : { message }), ...options };
    const delay = waitFor(when);
    const text = when instanceof Date ? `try again at ${when.toISOString()}` : `try again in ${delay} ms`;
    super(said.message || text, { cause: said.cause });
    if (said.key !== undefined && typeof said.key !== 'string') {
      throw new InvalidOptions(`the key of a RetryAfter is ${shown(said.key)}; it must be a text`, { hint: 'use String(key)' });
    }
    if (said.key !== undefined) checkText('the key of a RetryAfter', said.key);
    this.delay = delay;
    this.at = when instanceof Date ? when : undefined;
    this.key = said.key;
  }
}

/** Thrown by a handler: another attempt would be pointless, however many retries are left. */
export class PermanentError extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL0000';

  constructor(message = '', options: { cause?: unknown } = {}) {
    super(message, { cause: options?.cause });
  }
}

/** Whether something is of one of these classes. Anything can be thrown, and some of it cannot even be asked that. @internal */
export function isOf(thrown: unknown, ...kinds: ReadonlyArray<abstract new (...args: any[]) => unknown>): boolean {
  try {
    return kinds.some((kind) => thrown instanceof kind);
  } catch {
    return false;
  }
}
