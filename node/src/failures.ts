/** What handlers throw, as it is kept with the task. */

import { shown } from './durations.js';
import { tellable } from './lines.js';
import type { Verdict } from './retry_rules.js';
import { PermanentError, RetryAfter, isOf } from './verdicts.js';
import { InvalidPayload, PayloadTooLarge } from './errors.js';

/** Asks an object of a user's for something, which may throw. */
function ask(look: () => unknown): unknown {
  try {
    return look();
  } catch {
    return undefined;
  }
}

/** How much of a stack is kept. */
const MAX_STACK = 16_384;

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

/**
 * A thrown value as the native half reads it; `now` tells the time by the app's clock, in milliseconds; `verdict`
 * is what the handler's policy says of it. Anything can be
 * thrown, and looking at it must not throw.
 *
 * @internal
 */
export function describe(thrown: unknown, now: () => number, verdict?: Verdict): string {
  const isError = isOf(thrown, Error);
  const object = thrown as { name?: unknown; message?: unknown; stack?: unknown; constructor?: { name?: unknown } };
  let type = 'Error';
  let message = '';
  let stack = '';
  if (isError) {
    const own = textOf(ask(() => object.name));
    const made = textOf(ask(() => object.constructor?.name));
    type = (own === 'Error' || !own ? made : own) || 'Error';
    message = textOf(ask(() => object.message)) ?? '(its message cannot be read)';
    stack = textOf(ask(() => object.stack)) ?? '';
  } else {
    type = thrown === null ? 'null' : typeof thrown;
    message = textOf(thrown) ?? shown(thrown);
  }
  const isPermanent = isOf(thrown, PermanentError, InvalidPayload, PayloadTooLarge);
  const asks = isOf(thrown, RetryAfter) ? (thrown as RetryAfter) : undefined;
  const permanent = verdict?.permanent ?? isPermanent;
  const wait = asks?.at === undefined ? asks?.delay : Math.max(0, asks.at.getTime() - now());
  // A message, too, may end in half a character; a verdict with it must not be lost.
  return tellable(JSON.stringify({ type, message, stack: stack.slice(0, MAX_STACK), permanent, retryAfter: verdict?.wait ?? wait, key: asks?.key }));
}
