/**
 * What `taskloom tasks run` does in a process of its own: `node run_task.js FILE ID`.
 *
 * `FILE` names an app, as for `taskloom worker`. It is imported, and started for a queue that nobody uses, so that nothing
 * else is run. The task's outcome is in the store; the command tells it from there.
 *
 * Exit codes: 0 when the attempt has ended, however it did; 1 if the app cannot be loaded or the task cannot be run; 2 if
 * what was named is no app; 3 if the app's store has no such task, or the app no handler for it.
 */

import { load } from './addon.js';
import type { App } from './app.js';
import { TaskloomError, native } from './errors.js';
import { Refused, endWith, find, told } from './find_app.js';
import { port } from './port.js';

/** No task is ever submitted to it. */
const NOBODYS = 'taskloom-tasks-run';

let said = '';

function tell(why: Refused | TaskloomError, code: number): number {
  said = told(why);
  return code;
}

async function main(target: string, id: string): Promise<number> {
  let app: App;
  try {
    app = await find(target, '--app tasks.mjs');
  } catch (error) {
    if (error instanceof Refused) return tell(error, 2);
    throw error;
  }
  try {
    // Handlers of JavaScript run in an app that was started, and a task by hand is of no queue.
    const settings = JSON.stringify({ max_in_flight: null, queues: [NOBODYS] });
    native(() => load().serveWith(port().native, app._number, null, settings));
    await app.start();
    if ((await app.get(id)) === undefined) {
      return tell(new Refused(`the app's store, ${app.store}, has no task ${id}\nhint: --store has to name the store of the app`), 3);
    }
    const handle = await app.runNow(id);
    // A retry is another attempt, and not this one's to wait for.
    const { attempt } = await handle.info();
    const ended = handle.result().then(
      () => true,
      () => true,
    );
    const pause = (): Promise<boolean> => new Promise((wake) => setTimeout(wake, 50, false));
    while (!(await Promise.race([ended, pause()]))) {
      const info = await handle.info();
      if (info.state !== 'running' || info.attempt !== attempt) break;
    }
    await app.stop({ timeout: 5000 });
    return 0;
  } catch (error) {
    if (error instanceof TaskloomError) return tell(error, error.code === 'TL1101' ? 3 : 1);
    throw error;
  }
}

/** Ends the process when what is to be said has been written, whatever the module has left behind. */
function leave(code: number): void {
  if (said === '') process.exit(code);
  process.stderr.write(said, () => process.exit(code));
}

if (process.argv.length !== 4) {
  console.error('this program is started by `taskloom tasks run`, and by nobody else');
  process.exitCode = 1;
} else {
  main(process.argv[2], process.argv[3]).then(leave, endWith);
}
