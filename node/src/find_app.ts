/** Finding the app that a command names: `file.mjs`, or `file.mjs:name`. */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

import { App } from './app.js';
import { TaskloomError } from './errors.js';

/** What was named is no app that can be served; the message is for people. */
export class Refused extends Error {}

/**
 * The app of a file: its default export, or the one named `app`; of `file.mjs:name`, that one. `example` is what people
 * are told to write who named no file.
 *
 * Throws {@link Refused}, and whatever the module throws when it is imported.
 */
export async function find(target: string, example: string): Promise<App> {
  let file = resolve(target);
  let name: string | undefined;
  const colon = target.lastIndexOf(':');
  if (!existsSync(file) && colon > 0) {
    file = resolve(target.slice(0, colon));
    name = target.slice(colon + 1);
  }
  if (!existsSync(file)) throw new Refused(`there is no file ${file}\nhint: write ${example}`);
  const module = (await import(pathToFileURL(file).href)) as Record<string, unknown>;
  // What a CommonJS module exports is its default, whatever is in it.
  const all = { ...(module.default as object | undefined), ...module };
  const apps = Object.keys(all).filter((each) => all[each as keyof typeof all] instanceof App);
  const found: unknown = name === undefined ? (module.default instanceof App ? module.default : all.app) : all[name as keyof typeof all];
  if (found instanceof App) return found;
  const hint = apps.length === 0 ? 'export an app: export default app' : `did you mean ${apps.map((each) => `${target.slice(0, name === undefined ? undefined : colon)}:${each}`).join(' or ')}?`;
  if (isForeign(found)) {
    throw new Refused(
      `the app of ${file} is of another copy of taskloom than this command\n` +
        'hint: run the command of that copy: npx taskloom, in the folder of the project',
    );
  }
  const what = name === undefined ? `${file} exports no app: neither as its default nor as app` : `${file} exports no app named ${name}`;
  const is = found === undefined ? '' : `; that is ${described(found)}`;
  throw new Refused(`${what}${is}\nhint: ${hint}`);
}

function isForeign(value: unknown): boolean {
  return typeof value === 'object' && value !== null && value.constructor?.name === 'App' && 'handlers' in value;
}

function described(value: unknown): string {
  if (typeof value === 'function') return `a function (${value.name})`;
  if (typeof value === 'object' && value !== null) return `an object of ${value.constructor?.name ?? 'no class'}`;
  return `${typeof value} ${String(value)}`;
}

/** An error of ours, or a refusal, as people are told it. */
export function told(why: Refused | TaskloomError): string {
  const hint = why instanceof TaskloomError && why.hint !== undefined ? `\nhint: ${why.hint}` : '';
  return `taskloom: ${why.message}${hint}\n`;
}

/** Tells people what a module has thrown, without our frames and Node's own, and ends the process with 1. */
export function endWith(error: unknown): void {
  const isOurs = (line: string): boolean => /^\s+at /.test(line) && (line.includes('node:internal/') || line.includes(__dirname));
  if (error instanceof Error && error.stack !== undefined) {
    error.stack = error.stack.split('\n').filter((line) => !isOurs(line)).join('\n');
  }
  // Only Node knows where it is, and says so for what nobody catches.
  if (error instanceof SyntaxError) setImmediate(() => void Promise.reject(error));
  else process.stderr.write(`${inspect(error)}\n`, () => process.exit(1));
}
