/** What a handler throws to say whether there is to be another attempt. */

import { waitFor } from './durations.js';
import { TaskloomError } from './errors.js';

/** Thrown by a handler: the task is tried again no sooner than this, and the usual cap does not apply. */
export class RetryAfter extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL0000';
  /** How long to wait, in milliseconds. */
  readonly delay: number;

  /**
   * @param when how long to wait (milliseconds, or a text such as `'30s'`), or until when, as HTTP's `Retry-After` says
   * @param message why
   */
  constructor(when: number | string | Date, message = '', options: { cause?: unknown } = {}) {
    const delay = waitFor(when);
    super(message || `try again in ${delay} ms`, options);
    this.delay = delay;
  }
}

/** Thrown by a handler: another attempt would be pointless, however many retries are left. */
export class PermanentError extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL0000';

  constructor(message = '', options: { cause?: unknown } = {}) {
    super(message, options);
  }
}
