/**
 * What a process of `taskloom worker` does: `node worker.js FILE SETTINGS`.
 *
 * The supervisor (`core/cli/src/worker`) starts it, and only it: standard input is the process's tie to it. `FILE` is a
 * module with an app, `SETTINGS` a JSON object of what the command was told.
 *
 * The module is imported, the app is started, and the supervisor is told which handlers there are. SIGTERM lets what runs
 * finish within the grace; SIGINT gives it back at once. A second SIGTERM changes nothing: service managers send one to
 * every process, and the supervisor does too.
 *
 * Exit codes: 0 after a signal, 1 if the module or the store does not work, 2 if what was named is no app to serve.
 */

import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';

import { type NativeLifeline, load } from './addon.js';
import { App } from './app.js';
import { TaskloomError, native } from './errors.js';
import { port } from './port.js';

/** What the command was told. */
interface Settings {
  store: string | null;
  max_in_flight: number | null;
  queues: string[] | Record<string, number> | null;
  /** In seconds. */
  grace: number;
  /** Whether the supervisor wants to know how many tasks have ended. */
  counts: boolean;
}

/** What was named is no app that can be served; the message is for people. */
class Refused extends Error {}

async function main(target: string, settings: Settings): Promise<void> {
  const { Lifeline } = load();
  const lifeline = new Lifeline();
  const app = await find(target);
  const signals = new Signals();
  let ours = 2;
  try {
    configure(app, settings);
    ours = 1;
    await app.start();
  } catch (error) {
    if (error instanceof Refused || error instanceof TaskloomError) return leave(lifeline, tell(error, ours));
    throw error;
  }
  const handlers = (await app.handlers()).map((handler) => handler.name);
  lifeline.ready(port().native, app._number, handlers, settings.counts);
  // Signals keep no process alive; a worker without tasks waits for some.
  const hold = setInterval(() => {}, 2 ** 30);
  await signals.any;
  const finished = signals.isUrgent ? undefined : app.stop({ timeout: settings.grace * 1000 });
  await Promise.race([finished, signals.urgent]);
  // Also what has not finished when it became urgent.
  await app.stop({ timeout: 0 });
  clearInterval(hold);
  leave(lifeline, 0);
}

/** Has the command's settings go before the app's own. */
function configure(app: App, settings: Settings): void {
  const { store, max_in_flight, queues } = settings;
  if (store !== null || max_in_flight !== null || queues !== null) {
    native(() => load().serveWith(port().native, app._number, store, JSON.stringify({ max_in_flight, queues })));
    if (store !== null) app._moved(store);
  }
  if (app.store.startsWith('memory:')) {
    throw new Refused(
      `the app keeps its tasks in the memory of this process ("${app.store}"): nobody else could submit to it\n` +
        "hint: give it a store that processes share: --store sqlite:tasks.db, or new App({ store: 'sqlite:tasks.db' })",
    );
  }
}

/** SIGTERM and SIGINT, from now on. */
class Signals {
  isUrgent = false;
  /** SIGINT has come. */
  readonly urgent = new Promise<void>((come) => {
    process.on('SIGINT', () => {
      this.isUrgent = true;
      come();
    });
  });
  /** One of them has. */
  readonly any = Promise.race([this.urgent, new Promise<void>((come) => process.on('SIGTERM', () => come()))]);
}

/** The app of a file: its default export, or the one named `app`; of `file.mjs:name`, that one. */
async function find(target: string): Promise<App> {
  let file = resolve(target);
  let name: string | undefined;
  const colon = target.lastIndexOf(':');
  if (!existsSync(file) && colon > 0) {
    file = resolve(target.slice(0, colon));
    name = target.slice(colon + 1);
  }
  if (!existsSync(file)) throw new Refused(`there is no file ${file}\nhint: write taskloom worker tasks.mjs`);
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
  return typeof value === 'object' && value !== null && value.constructor.name === 'App' && 'handlers' in value;
}

function described(value: unknown): string {
  if (typeof value === 'function') return `a function (${value.name})`;
  if (typeof value === 'object' && value !== null) return `an object of ${value.constructor?.name ?? 'no class'}`;
  return `${typeof value} ${String(value)}`;
}

function tell(why: Error, code: number): number {
  const hint = why instanceof TaskloomError && why.hint !== undefined ? `\nhint: ${why.hint}` : '';
  process.stderr.write(`taskloom: ${why.message}${hint}\n`);
  return code;
}

function leave(lifeline: NativeLifeline, code: number): void {
  process.exitCode = code;
  // What a module keeps open (a server, a pool) would keep the process.
  process.on('exit', () => lifeline.leave());
  process.exit();
}

/** Takes our frames and Node's own out of an error's stack. */
function trim(error: unknown): void {
  if (!(error instanceof Error) || error.stack === undefined) return;
  const isOurs = (line: string): boolean => /^\s+at /.test(line) && (line.includes('node:internal/') || line.includes(__filename));
  error.stack = error.stack.split('\n').filter((line) => !isOurs(line)).join('\n');
}

main(process.argv[2]!, JSON.parse(process.argv[3]!) as Settings).catch((error: unknown) => {
  if (error instanceof Refused) process.exit(tell(error, 2));
  trim(error);
  // Only Node knows where it is, and says so for what nobody catches.
  if (error instanceof SyntaxError) setImmediate(() => void Promise.reject(error));
  else {
    process.stderr.write(`${inspect(error)}\n`);
    process.exit(1);
  }
});
