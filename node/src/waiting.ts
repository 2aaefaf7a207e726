/**
 * Waits that nothing else keeps the process alive for.
 *
 * What is pending in an app that runs keeps the process by itself. An app that was never started, or has stopped, runs
 * nothing: its tasks are run by other processes, or by hand. So there it is whoever waits that keeps the process, for as
 * long as the wait lasts; also if nobody will ever run the task, which nobody here can know.
 *
 * @internal
 */

import type { TaskHandle } from './handle.js';
import { port } from './port.js';

/** What somebody waits for. */
const kept = new Set<TaskHandle>();

/** Somebody waits for the outcome of a task. */
export function waitBegins(handle: TaskHandle): void {
  if (handle._app._isStarted || kept.has(handle)) return;
  kept.add(handle);
  port().hold(1);
}

/** There is an outcome, or nobody waits for it any more. */
export function waitEnds(handle: TaskHandle): void {
  if (kept.size > 0 && kept.delete(handle)) port().hold(-1);
}
