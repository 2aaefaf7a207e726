/**
 * What runs in a thread of a pool: an app with a seat at the engine of the one that started it. It has no handlers of its
 * own, and loads those that it is given tasks for.
 *
 * @internal
 */

import { workerData } from 'node:worker_threads';

import { App } from './app.js';
import { TaskHandle } from './handle.js';
import { fromModule, type ModulePlace } from './modules.js';
import { port } from './port.js';
import type { Handler } from './task.js';
import type { Invited } from './threads.js';

const { invitation, thread, store } = (workerData as { taskloom: Invited }).taskloom;

class ThreadApp extends App {
  private readonly loaded = new Map<number, Handler>();

  constructor() {
    // One task at a time: there is no doubt whose context it is.
    super({ store, asyncContext: true });
  }

  override _open(): number {
    return port().native.join(invitation);
  }

  override _handler(number: number): Handler | undefined {
    let handler = this.loaded.get(number);
    if (handler === undefined) {
      const found = port().native.module(this._number, number);
      if (found === null) return undefined;
      const place = JSON.parse(found) as ModulePlace;
      const run = fromModule(place);
      handler = { name: place.name, number, plain: run, run, rules: undefined, schema: undefined, isPlain: false, key: undefined, hooks: [] } satisfies Handler;
      this.loaded.set(number, handler);
    }
    return handler;
  }
}

const app = new ThreadApp();

/** The tasks that the handler waits for. */
const awaited = new Set<TaskHandle>();

function tell(): void {
  const [handle] = awaited;
  port().native.awaits(app._number, thread, handle === undefined || handle._slot < 0 ? null : handle._slot);
}

const { result } = TaskHandle.prototype;

// Nowhere but in a thread, where one task is all that runs.
TaskHandle.prototype.result = async function (this: TaskHandle, options) {
  if (this.done()) return await result.call(this, options);
  const waits = result.call(this, options);
  awaited.add(this);
  tell();
  try {
    return await waits;
  } finally {
    awaited.delete(this);
    tell();
  }
};

// Until it is ended.
port().hold(1);
port().native.serve(app._number, thread);
