/**
 * Every error of Taskloom. All of them derive from {@link TaskloomError} and carry a stable `code` (a paragraph in
 * `docs/errors.md` each), a `message` that says what was wrong, with which value and where, and, where there is
 * something to do about it, a `hint`.
 */

/** What an error may say besides its message. */
export interface ErrorDetails {
  /** The stable code, such as `'TL1203'`. */
  code?: string;
  /** What to do about it. */
  hint?: string | null;
  /** The id of the task that it is about. */
  task?: string | null;
  /** The error underneath. */
  cause?: unknown;
}

/**
 * The base of every error that Taskloom throws: catch it to catch them all.
 *
 * ```js
 * try {
 *   await handle.result();
 * } catch (error) {
 *   if (error instanceof TaskloomError) console.log(error.code, error.hint);
 *   else throw error;
 * }
 * ```
 */
export class TaskloomError extends Error {
  /** The stable code of what went wrong, such as `'TL1203'`. */
  readonly code: string;
  /** What to do about it, if there is something to say. */
  readonly hint: string | undefined;
  /** The id of the task that it is about. */
  readonly task: string | undefined;

  constructor(message = '', details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    const own = new.target as typeof TaskloomError & { defaultCode?: string };
    this.code = details.code ?? own.defaultCode ?? 'TL0000';
    this.hint = details.hint ?? undefined;
    this.task = details.task ?? undefined;
  }

  /** @internal */
  static defaultCode = 'TL0000';

  override get name(): string {
    return this.constructor.name;
  }

  override toString(): string {
    return this.hint === undefined ? `${this.name}: ${this.message}` : `${this.name}: ${this.message}\nhint: ${this.hint}`;
  }
}

/** An option, a registration or a store's URL is wrong, or not available in this version. */
export class InvalidOptions extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1001';
}

/** No handler has this name. */
export class UnknownHandler extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1101';
}

/** The input cannot be encoded as JSON, or its schema refuses it. */
export class InvalidPayload extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1201';
  /** What a schema has found, as it says it. */
  readonly issues: readonly Issue[];

  constructor(message = '', details: ErrorDetails & { issues?: readonly Issue[] } = {}) {
    super(message, details);
    this.issues = details.issues ?? [];
  }
}

/** One thing that a schema has found. */
export interface Issue {
  /** What is wrong. */
  readonly message: string;
  /** Where it is. */
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined;
}

/** More than 4 MiB of input or result. */
export class PayloadTooLarge extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1205';
}

/** The store holds as many unfinished tasks as it may. */
export class QueueFull extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1301';
}

/** A task with this id or unique key exists. */
export class Duplicate extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1302';
}

/** A move that the table of states does not have. */
export class IllegalTransition extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1401';
}

/** The attempt that reports no longer owns its task. */
export class LeaseLost extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1402';
}

/** A handler went away without an outcome. */
export class HandlerLost extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1403';
}

/** The store could not be read or written. */
export class StoreError extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1501';
}

/** A call that could only hang, or that asks for what does not exist. */
export class Misuse extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1602';
}

/** The app has stopped. */
export class ShutDown extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL1701';
}

/** The error of one attempt, as it is kept with the task. */
export interface AttemptError {
  /** The error's class in its own language. */
  readonly type: string;
  /** Its message. */
  readonly message: string;
  /** Its stack, as its language prints it. */
  readonly traceback: string;
  /** Which attempt. */
  readonly attempt: number;
  /** When. */
  readonly at: Date;
}

/** What the error of a task that has ended may say. */
export interface OutcomeDetails extends ErrorDetails {
  /** The errors of all attempts, oldest first. */
  errors?: readonly AttemptError[];
  /** Why it was cancelled. */
  reason?: string | null;
}

/** The task failed for good: what its last attempt threw, in `type`, `message` and `traceback`. */
export class TaskFailed extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL2001';
  /** The class of the last attempt's error, in its own language. */
  readonly type: string;
  /** The stack of the last attempt's error, as its language prints it. */
  readonly traceback: string;
  /** The errors of all attempts, oldest first. */
  readonly errors: readonly AttemptError[];

  constructor(message = '', details: OutcomeDetails = {}) {
    super(message, details);
    this.errors = details.errors ?? [];
    const last = this.errors.at(-1);
    this.type = last?.type ?? '';
    this.traceback = last?.traceback ?? '';
  }
}

/** The task's last attempt took longer than its timeout, or its deadline passed. */
export class TaskTimedOut extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL2002';
  /** The errors of all attempts, oldest first. */
  readonly errors: readonly AttemptError[];

  constructor(message = '', details: OutcomeDetails = {}) {
    super(message, details);
    this.errors = details.errors ?? [];
  }
}

/** The task was cancelled. */
export class TaskCancelled extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL2003';
  /** What the caller of `cancel` said. */
  readonly reason: string | undefined;

  constructor(message = '', details: OutcomeDetails = {}) {
    super(message, details);
    this.reason = details.reason ?? undefined;
  }
}

/** The task was not started before it expired. */
export class TaskExpired extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL2004';
}

/** `result({ timeout })` ran out. The task goes on. */
export class WaitTimeout extends TaskloomError {
  /** @internal */
  static override defaultCode = 'TL2005';
}

type Kind = new (message: string, details: OutcomeDetails) => TaskloomError;

const KINDS: Record<string, Kind> = {
  InvalidOptions,
  UnknownHandler,
  InvalidPayload,
  PayloadTooLarge,
  QueueFull,
  Duplicate,
  IllegalTransition,
  LeaseLost,
  HandlerLost,
  StoreError,
  ShutDown,
  TaskFailed,
  TaskTimedOut,
  TaskCancelled,
  TaskExpired,
  WaitTimeout,
  Misuse,
};

/** An error as the native half describes it. @internal */
export interface Described {
  kind: string;
  code: string;
  message: string;
  hint: string | null;
  task?: string | null;
  errors?: Array<Omit<AttemptError, 'at'> & { at: number }>;
  reason?: string | null;
}

/** The names that options have in the core, and what they are called here. */
const NAMES =
  /\b(max_in_flight|on_full|require_metadata|max_crashes|unique_key|unique_for|on_conflict|correlation_id|catch_up|allow_unknown)\b/g;

/** Names and examples of the core, as JavaScript writes them. */
function inJavaScript(text: string): string {
  return text
    .replace(NAMES, (name) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase()))
    .replace(/\b([a-zA-Z]+)=(\{[^}]*\}|\[[^\]]*\]|"[^"]*"|…)/g, '$1: $2')
    .replace(/=True\b/g, ': true')
    // Here a name is no option.
    .replace(' with name: …', '');
}

/** An error of the native half as one of ours. @internal */
export function errorFrom(described: Described, cause?: unknown): TaskloomError {
  const Class = KINDS[described.kind] ?? TaskloomError;
  const speaksOfOptions = described.code.startsWith('TL1');
  const say = speaksOfOptions ? inJavaScript : (text: string) => text;
  return new Class(say(described.message), {
    code: described.code,
    hint: described.hint === null ? undefined : say(described.hint),
    task: described.task,
    errors: attemptErrors(described.errors),
    reason: described.reason,
    cause,
  });
}

/** @internal */
export function attemptErrors(errors: Described['errors']): AttemptError[] {
  return (errors ?? []).map((error) => ({ ...error, at: new Date(error.at) }));
}

/** Calls the native half: what it throws is a description. @internal */
export function native<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    let described: Described;
    try {
      described = JSON.parse((error as Error).message);
    } catch {
      throw error;
    }
    throw errorFrom(described);
  }
}
