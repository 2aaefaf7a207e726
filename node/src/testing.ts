/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Helpers for tests of tasks, with `node:test`, Vitest, or any other runner whose tests are functions.
 *
 * ```js
 * import { test } from 'node:test';
 * import { withTesting } from 'taskloom/testing';
 *
 * test('a reminder is sent after three days', withTesting(makeShop, async (t, { remind }) => {
 *   const handle = await remind.submit('Ada', { delay: '3 days' });
 *   await t.advance('3 days');
 *   assert.equal(await handle.result(), 'reminded Ada');
 * }));
 * ```
 *
 * @packageDocumentation
 */

import { App } from './app.js';
import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { type Submitted, Testing, type TestingOptions } from './testing_mode.js';

export type { Span, Submitted, SubmittedOptions, Testing, TestingOptions } from './testing_mode.js';

/** An app, or something that has one: `{ app, remind }`. */
export type HasApp = App | { readonly app: App };

/** How many failed tasks a report shows. */
const SHOWN = 20;

/** How many characters of a task's input a report shows. */
const LONGEST = 2_000;

/**
 * Makes a test of a function: before it runs, its app goes into testing mode, and when it has run, out of it.
 *
 * @param made the app; or better a function that makes one for each test, alone or as `{ app, … }` with its tasks
 * @param options as `app.testing` takes them
 * @param body the test: it is given what turns the clock, what was made, and what the runner gives to tests
 *
 * When it fails, the error's message also tells of the tasks that failed in it: name, input, and each attempt's error.
 */
export function withTesting<Made extends HasApp, Context = unknown>(
  made: Made | (() => Made | PromiseLike<Made>),
  body: (t: Testing, made: Made, context: Context) => unknown,
): (context?: Context) => Promise<void>;
export function withTesting<Made extends HasApp, Context = unknown>(
  made: Made | (() => Made | PromiseLike<Made>),
  options: TestingOptions,
  body: (t: Testing, made: Made, context: Context) => unknown,
): (context?: Context) => Promise<void>;
export function withTesting<Made extends HasApp, Context>(
  made: Made | (() => Made | PromiseLike<Made>),
  ...rest: [TestingOptions, Body<Made, Context>] | [Body<Made, Context>]
): (context?: Context) => Promise<void> {
  const [options, body] = rest.length === 1 ? [{}, rest[0]] : rest;
  if (typeof body !== 'function') {
    throw new InvalidOptions(`withTesting was given ${shown(body)} for a test; it must be a function`, {
      hint: 'as in withTesting(makeApp, async (t, app) => { … })',
    });
  }
  // No parameter: a runner may take one that is declared for a callback.
  return async (...args: [context?: Context]) => {
    const own: unknown = typeof made === 'function' ? await (made as () => Made | PromiseLike<Made>)() : made;
    const t = appOf(own).testing(options);
    try {
      await body(t, own as Made, args[0] as Context);
    } catch (error) {
      tell(error, t);
      throw error;
    } finally {
      await t.end();
    }
  };
}

type Body<Made, Context> = (t: Testing, made: Made, context: Context) => unknown;

function appOf(made: unknown): App {
  if (made instanceof App) return made;
  const app = (made as { app?: unknown } | null | undefined)?.app;
  if (app instanceof App) return app;
  throw new InvalidOptions(`withTesting was given ${shown(made)}, which is no app and has none`, {
    hint: 'give it an App, or a function that returns one, or { app, … }',
  });
}

/**
 * What became of tasks that failed for good, in words; an empty text if none did.
 *
 * ```js
 * assert.equal(failures(t), '');
 * ```
 */
export function failures(t: Testing): string {
  if (!(t instanceof Testing)) {
    throw new InvalidOptions(`failures was given ${shown(t)}; it takes what app.testing() returns`, { hint: 'as in withTesting(makeApp, async (t) => { …; failures(t) })' });
  }
  const failed = t.failures;
  const parts = failed.slice(0, SHOWN).map(one);
  if (failed.length > SHOWN) parts.push(`… and ${failed.length - SHOWN} more`);
  return parts.join('\n\n');
}

function one({ name, input, handle }: Submitted): string {
  const text = JSON.stringify(input) ?? 'null';
  const lines = [`${name} ${handle.state} (${handle.id})`, `  input: ${text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text}`];
  for (const error of handle._attempts()) {
    lines.push(`  attempt ${error.attempt}: ${error.type}: ${error.message}`);
    // Frames of this package and of Node say nothing of what went wrong.
    const own = error.traceback.split('\n').filter((line) => line.trim() !== '' && !line.includes(__dirname) && !line.includes('(node:'));
    // Not "at", by which runners know the frames of the test itself: they show the code at the first one that they find.
    lines.push(...own.map((line) => `    ${line.replace(/^(\s*)at /, '$1in ')}`));
  }
  return lines.join('\n');
}

/** Adds what failed to an error, where runners show it. */
function tell(error: unknown, t: Testing): void {
  const told = failures(t);
  if (told === '' || !(error instanceof Error)) return;
  const report = `\n\ntaskloom: tasks that failed\n\n${told}`;
  try {
    const { message, stack } = error;
    error.message = message + report;
    // A stack begins with the message as it was when the error was made.
    if (typeof stack === 'string') error.stack = stack.includes(report) ? stack : stack.replace(message, () => message + report);
  } catch {
    // It cannot be changed; it is thrown as it is.
  }
}
