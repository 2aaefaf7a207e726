/**
 * What surrounded submits, for the tasks of apps that want that around their handlers, too (`asyncContext: true`).
 *
 * It is kept from the submit to the task's end, since each attempt runs in it: by the slot of the task's handle until the
 * task has an id, and then by that.
 *
 * @internal
 */

import { AsyncResource } from 'node:async_hooks';

import type { App } from './app.js';
import type { TaskHandle } from './handle.js';
import { idAt } from './wire.js';

export class Scopes {
  private readonly submitted: Array<AsyncResource | undefined> = [];
  private readonly accepted = new Map<string, AsyncResource>();

  /** Tasks are submitted here and now: their handles have slots. */
  submit(handles: readonly TaskHandle[]): void {
    const scope = new AsyncResource('TASKLOOM', { requireManualDestroy: true });
    for (const { _slot } of handles) this.submitted[_slot] = scope;
  }

  /** The task of a slot has its id, which stands there in the words. */
  accept(slot: number, words: Uint32Array, at: number): void {
    const scope = this.submitted[slot];
    if (scope === undefined) return;
    this.submitted[slot] = undefined;
    this.accepted.set(idAt(words, at), scope);
  }

  /** The task of a slot was refused. */
  refuse(slot: number): void {
    this.submitted[slot] = undefined;
  }

  /** The task of a handle has ended. */
  end(handle: TaskHandle): void {
    if (handle._app._asyncContext) this.accepted.delete(handle.id);
  }

  /** What surrounded the submit of a task. */
  of(id: string): AsyncResource | undefined {
    return this.accepted.get(id);
  }
}

/** A submit that may be made again later: then, too, it is made in what surrounds it now. */
export function kept(app: App, submit: () => void): () => void {
  return app._asyncContext ? AsyncResource.bind(submit) : submit;
}
