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

import { type NativeLifeline, load } from './addon.js';
import type { App } from './app.js';
import { TaskloomError, native } from './errors.js';
import { Refused, endWith, find, told } from './find_app.js';
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

async function main(target: string, settings: Settings): Promise<void> {
  const { Lifeline } = load();
  const lifeline = new Lifeline();
  const app = await find(target, 'taskloom worker tasks.mjs');
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

function tell(why: Refused | TaskloomError, code: number): number {
  process.stderr.write(told(why));
  return code;
}

function leave(lifeline: NativeLifeline, code: number): void {
  process.exitCode = code;
  // What a module keeps open (a server, a pool) would keep the process.
  process.on('exit', () => lifeline.leave());
  process.exit();
}

main(process.argv[2]!, JSON.parse(process.argv[3]!) as Settings).catch((error: unknown) => {
  if (error instanceof Refused) process.exit(tell(error, 2));
  endWith(error);
});
