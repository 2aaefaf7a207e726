/**
 * Timers on a virtual clock, for apps in testing mode: `setTimeout` and `setInterval`, as globals, of `node:timers` and of
 * `node:timers/promises`, while they are installed.
 *
 * A timer stands in a line by its time, and is called by {@link VirtualTimers.fire} once the clock shows that. Timers that
 * were set before go on by the real clock, and so do `setImmediate`, `AbortSignal.timeout` and whatever waits inside of
 * Node. {@link real} has the originals: what this package waits for itself does not depend on what is installed.
 *
 * @internal
 */

import { AsyncResource } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';

import { Misuse } from './errors.js';

// Not imported as a namespace: that would be a copy, and what is to be exchanged are the properties of these objects.
const timers = require('node:timers') as Record<string, unknown>;
const promises = require('node:timers/promises') as Record<string, unknown> & { scheduler: Record<string, unknown> };

/** The timers of Node. */
export const real = { setTimeout, clearTimeout, setImmediate };

/** What `setTimeout` returns while the clock is virtual. */
class VirtualTimer {
  /** @internal */ due = 0;
  /** @internal */ order = 0;
  private isReferenced = true;

  constructor(
    private readonly owner: VirtualTimers,
    /** @internal */ readonly call: () => void,
    /** @internal */ readonly span: number,
    /** @internal */ readonly repeats: boolean,
  ) {}

  ref(): this {
    this.isReferenced = true;
    return this;
  }

  unref(): this {
    this.isReferenced = false;
    return this;
  }

  hasRef(): boolean {
    return this.isReferenced;
  }

  refresh(): this {
    this.owner.set(this);
    return this;
  }

  close(): this {
    this.owner.clear(this);
    return this;
  }

  [Symbol.toPrimitive](): number {
    return this.owner.numberOf(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Milliseconds as Node takes them, in microseconds. */
function spanOf(millis: unknown): number {
  const span = Number(millis);
  return Math.round((span >= 1 && span <= 0x7fffffff ? span : 1) * 1000);
}

interface WaitOptions {
  signal?: AbortSignal;
}

let installed: VirtualTimers | undefined;

/** The timers of one clock. */
export class VirtualTimers {
  /** In the order of their times, then of their setting. */
  private line: VirtualTimer[] = [];
  private made = 0;
  private readonly byNumber = new Map<number, VirtualTimer>();
  private readonly before: Array<() => void> = [];

  /** What handlers wait for: they are told when the clock goes away. */
  private readonly waits = new Set<() => void>();

  /**
   * @param now the time in microseconds, on a clock that only goes forward
   * @param isHandler whether the code that asks belongs to a handler
   */
  constructor(
    private readonly now: () => number,
    private readonly isHandler: () => boolean,
  ) {}

  /** How many wait. */
  get size(): number {
    return this.line.length;
  }

  /** In how many microseconds the next one is due, at least 0; nothing if none waits. */
  next(): number | undefined {
    return this.line.length === 0 ? undefined : Math.max(0, this.line[0].due - this.now());
  }

  /** Calls those that are due, each with what follows from it at once; whether there were any. */
  async fire(): Promise<boolean> {
    let any = false;
    while (this.line.length > 0 && this.line[0].due <= this.now()) {
      any = true;
      const timer = this.line.shift()!;
      if (timer.repeats) this.set(timer);
      try {
        timer.call();
      } catch (error) {
        // As Node does with what a timer throws.
        queueMicrotask(() => {
          throw error;
        });
      }
      await Promise.resolve();
    }
    return any;
  }

  /** @internal */
  set(timer: VirtualTimer): void {
    this.clear(timer);
    timer.due = this.now() + timer.span;
    timer.order = this.made++;
    // Most are set in the order of their times.
    let place = this.line.length;
    while (place > 0 && this.line[place - 1].due > timer.due) place -= 1;
    this.line.splice(place, 0, timer);
  }

  /** @internal */
  clear(timer: VirtualTimer): void {
    const place = this.line.indexOf(timer);
    if (place >= 0) this.line.splice(place, 1);
  }

  /** @internal */
  numberOf(timer: VirtualTimer): number {
    this.byNumber.set(timer.order, timer);
    return timer.order;
  }

  private make(call: unknown, millis: unknown, args: unknown[], repeats: boolean): VirtualTimer {
    if (typeof call !== 'function') {
      const error = new TypeError(`The "callback" argument must be of type function. Received ${typeof call}`);
      throw Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
    }
    // In the async context of whoever sets it, as Node's.
    const bound = AsyncResource.bind(() => call(...args) as void);
    const timer = new VirtualTimer(this, bound, spanOf(millis), repeats);
    this.set(timer);
    return timer;
  }

  private wait<T>(millis: unknown, value: T, { signal }: WaitOptions = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      let timer: VirtualTimer | undefined;
      const giveUp = (message: string, cause: unknown): void => {
        if (timer !== undefined) this.clear(timer);
        over();
        reject(Object.assign(new Error(message, { cause }), { name: 'AbortError', code: 'ABORT_ERR' }));
      };
      const aborted = (): void => giveUp('The operation was aborted', signal!.reason);
      const ended = (): void => giveUp('testing mode has ended, and with it the clock', undefined);
      const over = (): void => {
        signal?.removeEventListener('abort', aborted);
        this.waits.delete(ended);
      };
      if (signal?.aborted) return aborted();
      const done = (): void => {
        over();
        resolve(value);
      };
      timer = this.make(done, millis, [], false);
      signal?.addEventListener('abort', aborted, { once: true });
      if (this.isHandler()) this.waits.add(ended);
    });
  }

  /** Takes the place of Node's timers. Only one clock can. */
  install(): void {
    if (installed !== undefined) {
      throw new Misuse('timers go by the virtual clock of another app already', {
        code: 'TL1604',
        hint: 'leave its block first, or let timers be: app.testing({ timers: false })',
      });
    }
    installed = this;
    const own = this;
    const setTimer = (call: unknown, millis?: unknown, ...args: unknown[]): VirtualTimer => own.make(call, millis, args, false);
    const setRepeating = (call: unknown, millis?: unknown, ...args: unknown[]): VirtualTimer => own.make(call, millis, args, true);
    const waitFor = (millis?: unknown, value?: unknown, options?: WaitOptions): Promise<unknown> => own.wait(millis, value, options);
    async function* every(millis?: unknown, value?: unknown, options?: WaitOptions): AsyncGenerator {
      for (;;) yield await own.wait(millis, value, options);
    }
    Object.defineProperty(setTimer, promisify.custom, { value: waitFor });
    for (const name of ['clearTimeout', 'clearInterval'] as const) {
      const original = globalThis[name] as (timer: unknown) => void;
      const clear = (timer: unknown): void => {
        // A number, or a text of one, may stand for either.
        const isNumber = typeof timer === 'number' || typeof timer === 'string';
        const known = isNumber ? own.byNumber.get(Number(timer)) : timer;
        if (known instanceof VirtualTimer) own.clear(known);
        else original(timer);
      };
      this.exchange([globalThis as never, timers], name, clear);
    }
    this.exchange([globalThis as never, timers], 'setTimeout', setTimer);
    this.exchange([globalThis as never, timers], 'setInterval', setRepeating);
    this.exchange([promises], 'setTimeout', waitFor);
    this.exchange([promises], 'setInterval', every);
    this.exchange([promises.scheduler], 'wait', (millis: unknown, options?: WaitOptions) => own.wait(millis, undefined, options));
    syncBuiltinESMExports();
  }

  private exchange(objects: Array<Record<string, unknown>>, name: string, value: unknown): void {
    for (const object of objects) {
      const before = Object.getOwnPropertyDescriptor(object, name);
      Object.defineProperty(object, name, { configurable: true, enumerable: before?.enumerable ?? true, writable: true, value });
      this.before.push(() => {
        if (before === undefined) delete object[name];
        else Object.defineProperty(object, name, before);
      });
    }
  }

  /** Gives Node's timers back. Those that wait are dropped; a handler that awaits one is told, so that it can end. */
  uninstall(): void {
    if (installed !== this) return;
    installed = undefined;
    for (const restore of this.before.splice(0).reverse()) restore();
    syncBuiltinESMExports();
    for (const ended of [...this.waits]) ended();
    this.line = [];
    this.byNumber.clear();
  }
}
