/**
 * Tasks on their way in: encoded, validated, given their key; and if there is no room, and the app waits for some, made
 * again when there may be.
 */

import type { App } from './app.js';
import { ChildHandle } from './child.js';
import type { Context } from './context.js';
import { shown } from './durations.js';
import { InvalidOptions, InvalidPayload, QueueFull } from './errors.js';
import { TaskHandle, type Together } from './handle.js';
import { checkText, textLine } from './lines.js';
import { type ChildOptions, type SubmitOptions, childLine, submitLine } from './options.js';
import { enqueueInputs } from './outbox.js';
import { copied, encode } from './payload.js';
import * as plain from './plain.js';
import { port } from './port.js';
import { registeredOf } from './registering.js';
import { validate } from './schema.js';
import { kept } from './scopes.js';
import type { Handler, Task } from './task.js';

/** A submit that waits for room. */
interface Parked {
  submit(): void;
}

/** A payload of so many bytes is not too large. */
const SMALL = 1 << 16;

/** The submits of an app. @internal */
export class Submitting {
  private readonly parked: Parked[] = [];
  /** In testing mode: submits for which room was made once. */
  private readonly tried = new WeakSet<() => void>();
  private retry: NodeJS.Timeout | undefined;

  constructor(
    private readonly app: App,
    /** Whether a submit waits when there is no room. */
    private readonly waits: boolean,
  ) {}

  /** Submits one task of a handler, or of the one that has a name. */
  one(handler: Handler | undefined, name: string | undefined, input: unknown, options: SubmitOptions | undefined, allowUnknown = false): Promise<TaskHandle> {
    if (options?.tx !== undefined) return enqueueInputs(this.app, handler, name, [input], options, keyed, allowUnknown).then(([handle]) => handle);
    const testing = this.app._testing;
    if (options === undefined && name === undefined && handler!.isPlain && this.app._acceptsAtOnce && testing === undefined && !this.app._isStopping) {
      const handle = this.atOnce(handler!, input);
      if (handle !== undefined) return Promise.resolve(handle);
    }
    const submitting = this.submitOne(handler, name, input, options, allowUnknown);
    return testing === undefined ? submitting : testing._submitted(submitting);
  }

  private submitOne(
    handler: Handler | undefined,
    name: string | undefined,
    input: unknown,
    options: SubmitOptions | undefined,
    allowUnknown: boolean,
  ): Promise<TaskHandle> {
    return new Promise((resolve, reject) => {
      this.app._check();
      const payload = encode(input, 'input');
      // Taken now: a key's function or a schema may encode something of its own.
      const given = copied;
      const line = submitLine(handler?.key === undefined ? options : keyed(handler, given, options), allowUnknown);
      if (handler?.schema !== undefined || this.waits) {
        this.submitLater(handler, name, line, payload, given, resolve, reject);
      } else {
        const handle = new TaskHandle(this.app, name ?? handler!.name, undefined, { resolve, reject });
        port().submit(this.app, handle, handler === undefined ? 0 : handler.number, name, line, payload, given);
      }
    });
  }

  /**
   * Submits a task that nobody can refuse. There is room for it, and it will have been handed over before anybody who
   * awaits its submit goes on; so it is accepted here and now, and its submit needs no promise that is kept. Nothing if
   * it cannot be done so.
   */
  private atOnce(handler: Handler, input: unknown): TaskHandle | undefined {
    const own = port();
    own.reserve(5);
    if (!own.hasRoom(this.app)) return undefined;
    const start = plain.length;
    if (!plain.writePlain(input)) return undefined;
    const size = plain.length - start;
    if (size > SMALL) {
      plain.takeBack(start);
      return undefined;
    }
    const handle = new TaskHandle(this.app, handler.name, undefined);
    own.submitAtOnce(this.app, handle, handler.number, size, plain.written);
    return handle;
  }

  /** A submit that waits for a schema's verdict, or for room. */
  private submitLater(
    handler: Handler | undefined,
    name: string | undefined,
    line: string | undefined,
    payload: string,
    given: unknown,
    resolve: (handle: TaskHandle) => void,
    reject: (error: unknown) => void,
  ): void {
    const send = kept(this.app, () => {
      const refused = this.waits ? (error: unknown): void => this.parkIfFull(error, send, reject) : reject;
      const handle = new TaskHandle(this.app, name ?? handler!.name, undefined, { resolve, reject: refused });
      port().submit(this.app, handle, handler?.number ?? 0, name, line, payload, given);
    });
    const verdict = handler?.schema === undefined ? undefined : validate(handler.schema, handler.name, JSON.parse(payload));
    if (verdict instanceof Promise) verdict.then(send, reject);
    else send();
  }

  /** Submits many tasks of a handler: all or none. */
  many(handler: Handler, inputs: Iterable<unknown>, options: SubmitOptions | undefined): Promise<TaskHandle[]> {
    if (options?.tx !== undefined) return enqueueInputs(this.app, handler, undefined, inputs, options, keyed);
    const submitting = this.submitMany(handler, inputs, options);
    const testing = this.app._testing;
    return testing === undefined ? submitting : testing._submitted(submitting);
  }

  private async submitMany(handler: Handler, inputs: Iterable<unknown>, options: SubmitOptions | undefined): Promise<TaskHandle[]> {
    this.app._check();
    const line = submitLine(options);
    const keys: string[] | undefined = handler.key === undefined || options?.key !== undefined ? undefined : [];
    if (typeof (inputs as Partial<Iterable<unknown>> | null)?.[Symbol.iterator] !== 'function' || typeof inputs === 'string') {
      throw new InvalidPayload(`submitMany was given ${shown(inputs)}; it takes an array of inputs`);
    }
    const payloads: string[] = [];
    const given: unknown[] = [];
    // Of an array only: what else makes inputs may submit something of its own, or use one object for all of them.
    if (Array.isArray(inputs) && inputs.length > 0 && line === undefined && keys === undefined && handler.schema === undefined && !this.waits) {
      const all: unknown[] = [...inputs];
      const submitted = this.manyPlain(handler, all, payloads, given);
      if (submitted !== undefined) return await submitted;
      inputs = all.slice(payloads.length);
    }
    for (const input of inputs) {
      const payload = encode(input, `inputs[${payloads.length}]`);
      const own = copied;
      given.push(own);
      if (keys !== undefined) {
        const key = keyOf(handler, own);
        keys.push(key === undefined ? '' : textLine('key', key));
      }
      if (handler.schema !== undefined) await validate(handler.schema, handler.name, JSON.parse(payload));
      payloads.push(payload);
    }
    if (payloads.length === 0) return [];
    return await new Promise((resolve, reject) => {
      const send = kept(this.app, () => {
        let isRefused = false;
        const refused = (error: unknown): void => {
          if (isRefused) return;
          isRefused = true;
          if (this.waits) this.parkIfFull(error, send, reject);
          else reject(error);
        };
        const together: Together = { handles: [], left: payloads.length, resolve, reject: refused };
        together.handles = payloads.map(() => new TaskHandle(this.app, handler.name, undefined, together));
        port().submitMany(this.app, together.handles, handler.number, line, keys, payloads, given);
      });
      send();
    });
  }

  /**
   * Submits many tasks whose inputs JSON says as they are. Nothing if one of them asks for a closer look: then those before
   * it are in `payloads` and `given`, since to read them again might read something else.
   */
  private manyPlain(handler: Handler, inputs: unknown[], payloads: string[], given: unknown[]): Promise<TaskHandle[]> | undefined {
    const own = port();
    own.reserve(0);
    const start = plain.length;
    const sizes: number[] = [];
    for (const input of inputs) {
      const from = plain.length;
      if (!plain.writePlain(input)) {
        let at = start;
        for (const size of sizes) {
          payloads.push(plain.text(at, size));
          at += size;
        }
        plain.takeBack(start);
        return undefined;
      }
      sizes.push(plain.length - from);
      given.push(plain.written);
    }
    return new Promise((resolve, reject) => {
      const together: Together = { handles: [], left: inputs.length, resolve, reject };
      together.handles = inputs.map(() => new TaskHandle(this.app, handler.name, undefined, together));
      own.submitManyPlain(this.app, together.handles, handler.number, sizes, given);
    });
  }

  /** Submits a child of the task that a handler runs; a task of its own from a plain call. */
  child(parent: Context | undefined, task: Task<never, unknown> | string, input: unknown, options: ChildOptions | undefined): Promise<TaskHandle> {
    const registered = typeof task === 'string' ? undefined : registeredOf(task);
    const handler = typeof task === 'string' ? this.app._named(task) : registered?.handler;
    // Its number is known to its own app; whether a child may be of that one is for the engine to say.
    const app = registered?.app ?? this.app;
    const name = typeof task === 'string' ? checkedName(task) : undefined;
    if (handler === undefined && name === undefined) {
      return Promise.reject(new InvalidOptions(`a child's task is ${shown(task)}; it must be a task, or the name of one`));
    }
    if (parent === undefined) {
      const { detached: _, ...rest } = options ?? {};
      return app._submitting.one(handler, handler === undefined ? name : undefined, input, rest);
    }
    return new Promise((resolve, reject) => {
      const job = parent._running();
      const payload = encode(input, 'input');
      const line = childLine(handler?.key === undefined ? options : keyed(handler, copied, options));
      const validated = handler?.schema === undefined ? undefined : validate(handler.schema, handler.name, JSON.parse(payload));
      const send = (): void => {
        const handle = new ChildHandle(this.app, name ?? handler!.name, { resolve, reject }, parent);
        const byName = handler === undefined ? name : undefined;
        port().submitChild(job, app, handle, handler?.number ?? 0, byName, line, payload);
      };
      if (validated instanceof Promise) validated.then(send, reject);
      else send();
    });
  }

  /** A submit was refused: if there was no room, it is made again when there may be. */
  private parkIfFull(error: unknown, submit: () => void, reject: (error: unknown) => void): void {
    if (!(error instanceof QueueFull)) return reject(error);
    const testing = this.app._testing;
    if (testing !== undefined) {
      // Nobody else makes room there. If there is none then, there is none before the clock is turned.
      if (this.tried.has(submit)) return reject(error);
      this.tried.add(submit);
      testing._makeRoom().then(submit, reject);
      return;
    }
    if (!this.app._isStarted) return reject(error);
    this.parked.push({
      submit: () => {
        if (this.app._isStopping) reject(error);
        else submit();
      },
    });
    this.lookForRoom();
  }

  /** A task of ours ended, so there is room; others may end theirs without our hearing of it. */
  private lookForRoom(): void {
    this.retry ??= setTimeout(() => {
      this.retry = undefined;
      this.unpark(this.parked.length);
    }, 20);
  }

  private unpark(count: number): void {
    for (const parked of this.parked.splice(0, count)) parked.submit();
  }

  /** A task has ended, so there is room for one. */
  roomFor(count: number): void {
    if (this.parked.length > 0) this.unpark(count);
  }

  /** The app stops: who waits for room is answered. */
  stop(): void {
    this.unpark(this.parked.length);
  }
}

/** Options with the key that a handler makes of the input; one that a submit gives goes first. */
function keyed<T extends SubmitOptions | ChildOptions>(handler: Handler, input: unknown, options: T | undefined): T | { key: string } | undefined {
  const key = options?.key ?? keyOf(handler, input);
  return key === undefined ? options : { ...options, key };
}

/** The key that a handler makes of an input; nothing for none. */
function keyOf(handler: Handler, input: unknown): string | undefined {
  const key: unknown = handler.key!(input);
  if (key === undefined || key === null || typeof key === 'string') return key ?? undefined;
  throw new InvalidOptions(`the key of ${shown(handler.name)} is ${shown(key)} for this input; it must be a text, or undefined for no key`, {
    hint: 'use String(…), or a template',
  });
}

/** A name goes over in a line of its own. @internal */
export function checkedName(name: string): string {
  checkText("a handler's name", name);
  if (name.includes('\n')) throw new InvalidOptions(`a handler's name is ${shown(name)}; it has a line break in it`);
  return name;
}

