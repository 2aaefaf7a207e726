// What the tests share. They wait for signals, and never sleep.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { App } from 'taskloom';

/** A promise, and what settles it. */
export function gate() {
  let open;
  let fail;
  const promise = new Promise((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}

/** A started app for one test. */
export async function started(t, options = {}, register = () => {}) {
  const app = new App(options);
  const tasks = register(app);
  await app.start();
  t.after(() => app.stop({ timeout: 0 }));
  return [app, tasks];
}

/** A path for a file that goes away with the test. */
export function file(t) {
  const folder = mkdtempSync(join(tmpdir(), 'taskloom-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'tasks.db');
}

/** Both kinds of store. */
export const STORES = [
  ['memory', () => 'memory:'],
  ['sqlite', (t) => `sqlite:${file(t)}`],
];

/** What something throws, now or later. */
export async function thrown(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

const run = promisify(execFile);

/** Runs a script in a process of its own: its output, once it has ended by itself. */
export async function script(source, { env = {}, args = [], code = 0 } = {}) {
  const here = fileURLToPath(new URL('.', import.meta.url));
  const options = { cwd: here, env: { ...process.env, ...env }, timeout: 60_000 };
  try {
    const { stdout, stderr } = await run(process.execPath, [...args, '--input-type=module', '--eval', source], options);
    if (code !== 0) throw new Error(`it ended well, and should have ended with ${code}`);
    return { stdout, stderr };
  } catch (error) {
    if (error.code !== code) throw error;
    return { stdout: error.stdout, stderr: error.stderr };
  }
}
