/** Functions of a handler that are told how its attempts ended. */

import type { App } from './app.js';
import { TaskHandle, type TaskState } from './handle.js';
import { port } from './port.js';

/** The moments of `onSuccess`, `onRetry` and `onFailure`, and what the task's state is then. */
const STATES: readonly TaskState[] = ['succeeded', 'retrying', 'failed'];

/** Calls a hook with the handle of a task. What it throws is seen as any uncaught error. @internal */
export function tellHook(app: App, hook: (handle: TaskHandle) => void, moment: number, id: string, name: string): void {
  const tell = (state: TaskState): void => {
    const handle = new TaskHandle(app, name, id)._found(state);
    queueMicrotask(() => hook(handle));
  };
  const state = STATES[moment];
  if (state !== 'failed') return tell(state);
  // It may have timed out for good, which only the store can tell.
  port()
    .request<{ state: TaskState } | null>(app, 'get', { id })
    .then(
      (found) => tell(found?.state === 'timed_out' ? 'timed_out' : state),
      () => tell(state),
    );
}
