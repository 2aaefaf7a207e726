/**
 * Whether a failure is worth another attempt: what the retry policy of a handler says about its error.
 *
 * The rules stay with the handler, in the process that runs it: only there is the error an object. All that travels with a
 * task is how long to wait.
 */

import { type Duration, millis, shown } from './durations.js';
import { InvalidOptions, InvalidPayload, PayloadTooLarge } from './errors.js';
import { kindOfFunction } from './functions.js';
import { isFields } from './lines.js';
import type { RetryPolicy } from './options.js';
import { PermanentError, RetryAfter, isOf } from './verdicts.js';

/** A class of errors, or the name of one: its `name`, that of its class or of one above, or its `code`. */
export type ErrorKind = string | (abstract new (...args: any[]) => unknown);

/**
 * Says of an error, and of how often the task has failed with it, whether to try again: true, false, after how long; or
 * `undefined` for what the rest of the policy says.
 */
export type RetryFunction = (error: any, failures: number) => boolean | Duration | null | undefined;

/** The waits between attempts, and which errors are worth one. */
export interface RetryRules extends RetryPolicy {
  /** Only these errors are tried again. */
  on?: ErrorKind | readonly ErrorKind[];
  /** These errors are not tried again; it goes before `on`. */
  never?: ErrorKind | readonly ErrorKind[];
  /** Asked before both. */
  retryIf?: RetryFunction;
}

/** Whether a failure is permanent, and how long to wait in milliseconds, if that is said. @internal */
export interface Verdict {
  readonly permanent: boolean;
  readonly wait?: number;
}

const HINT = "give classes of errors, or their names, such as TypeError or 'AbortError'";

/** Some kinds of errors. */
class Kinds {
  constructor(readonly all: readonly ErrorKind[]) {}

  fit(error: unknown): boolean {
    const names = this.all.some((kind) => typeof kind === 'string') ? namesOf(error) : [];
    return this.all.some((kind) => (typeof kind === 'string' ? names.includes(kind) : error instanceof kind));
  }
}

/** By what an error may be called. */
function namesOf(error: unknown): unknown[] {
  if (typeof error !== 'object' || error === null) return [];
  const { name, code } = error as { name?: unknown; code?: unknown };
  const names = [name, code];
  for (let kind = Object.getPrototypeOf(error); kind !== null; kind = Object.getPrototypeOf(kind)) {
    names.push(kind.constructor?.name);
  }
  return names;
}

function kindsOf(option: string, given: unknown): Kinds | undefined {
  if (given === undefined || given === null) return undefined;
  const all: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (all.length === 0) {
    if (option === 'never') return undefined;
    throw new InvalidOptions('retry.on is []: no error would be tried again', {
      hint: 'leave on out to try all of them again, or set retries to 0',
    });
  }
  for (const kind of all) {
    if (typeof kind === 'string' && kind !== '') continue;
    if (typeof kind === 'function' && typeof kind.prototype === 'object') continue;
    throw new InvalidOptions(`retry.${option} has ${shown(kind)} in it, which is no class of errors`, { hint: HINT });
  }
  return new Kinds(all as ErrorKind[]);
}

/** A function that is asked of errors: one that answers at once. */
function decider(what: string, given: Function): RetryFunction {
  const kind = kindOfFunction(given);
  if (kind === 'plain') return given as RetryFunction;
  if (kind === 'class') {
    throw new InvalidOptions(`${what} is the class ${given.name || 'of no name'}; it must be a function of the error`, {
      hint: 'errors of a class are tried again with retry: { on: [TypeError] }, and all others with never',
    });
  }
  throw new InvalidOptions(`${what} is ${kind === 'async' ? 'an async function' : 'a generator function'}, which cannot answer at once`, {
    hint: 'what takes time belongs into the handler: throw PermanentError or RetryAfter there',
  });
}

/** The rules of a handler. @internal */
export class Rules {
  private constructor(
    private readonly name: string,
    private readonly decide: RetryFunction | undefined,
    private readonly on: Kinds | undefined,
    private readonly never: Kinds | undefined,
  ) {}

  /** Takes the rules out of what a handler's `retry` says; what is left is how long to wait. */
  static take(name: string, given: unknown): { rules: Rules | undefined; policy: unknown } {
    if (typeof given === 'function') return { rules: new Rules(name, decider('retry', given), undefined, undefined), policy: undefined };
    if (!isFields(given)) return { rules: undefined, policy: given };
    const { on, never, retryIf, ...policy } = given as RetryRules;
    if (retryIf !== undefined && typeof retryIf !== 'function') {
      throw new InvalidOptions(`retry.retryIf is ${shown(retryIf)}; it must be a function`, {
        hint: 'of the error and of how often the task has failed: (error, failures) => …',
      });
    }
    const decide = retryIf === undefined ? undefined : decider('retry.retryIf', retryIf);
    const [only, not] = [kindsOf('on', on), kindsOf('never', never)];
    for (const kind of only?.all ?? []) {
      const isShadowed = not?.all.some(
        (other) => other === kind || (typeof kind === 'function' && typeof other === 'function' && kind.prototype instanceof other),
      );
      if (isShadowed) {
        throw new InvalidOptions(`retry.on has ${shown(kind)} in it, and so has retry.never, which wins`, {
          hint: 'take it out of one of them',
        });
      }
    }
    if (retryIf === undefined && only === undefined && not === undefined) return { rules: undefined, policy: given };
    return { rules: new Rules(name, decide, only, not), policy };
  }

  /** What they say of an error; nothing if they leave it to the waits. `failures` counts this one. */
  verdict(error: unknown, failures: number): Verdict | undefined {
    // The handler's own word goes before the policy's.
    if (isOf(error, PermanentError, RetryAfter, InvalidPayload, PayloadTooLarge)) return undefined;
    return this.asked(error, failures) ?? this.byKind(error);
  }

  private asked(error: unknown, failures: number): Verdict | undefined {
    if (this.decide === undefined) return undefined;
    try {
      const said = this.decide(error, failures);
      if (said === undefined || said === null) return undefined;
      if (typeof said === 'boolean') return { permanent: !said };
      return { permanent: false, wait: millis('what the retry function returned', said) };
    } catch (failure) {
      // As if there were no function; but somebody should know.
      process.emitWarning(`the retry function of ${shown(this.name)} gives no answer: ${shown(String(failure))}`, {
        type: 'TaskloomWarning',
        code: 'TASKLOOM_RETRY_FUNCTION',
        detail: 'it is to return true, false, a duration, or undefined; the task is tried again as if there were none',
      });
      return undefined;
    }
  }

  private byKind(error: unknown): Verdict | undefined {
    try {
      if (this.never?.fit(error)) return { permanent: true };
      if (this.on !== undefined && !this.on.fit(error)) return { permanent: true };
    } catch {
      // An error that cannot be looked at is none that was named.
      if (this.on !== undefined) return { permanent: true };
    }
    return undefined;
  }
}
