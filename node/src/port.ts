/**
 * This environment's way to the engines of the process.
 *
 * What is to be said (submits, outcomes of handlers, requests) is written down and handed over in one crossing at the
 * end of the microtasks that are under way; the same crossing brings what there is to hear. A crossing that brings
 * handlers to run is followed by another one for their outcomes, and so on in the same microtask, until there is nothing
 * left or the turn of the event loop has lasted long enough: then timers and sockets have theirs first. What is submitted
 * between such turns is handed over at the end of its microtasks, too, but nothing is run for it.
 *
 * So a submit's crossing is on its way before whoever awaits the submit can be. Where nothing can refuse it, it is accepted
 * at once ({@link Port.submitAtOnce}): each crossing says how many of those there is room for until the next one.
 *
 * The process stays alive while something is pending here: a submit, a task whose outcome somebody may want, a handler,
 * a request. Otherwise nothing of this keeps it alive.
 *
 * @internal
 */

import type { App } from './app.js';
import { type Blocked, warn } from './blocked.js';
import { type Described, errorFrom } from './errors.js';
import type { TaskHandle } from './handle.js';
import { load, type NativePort } from './addon.js';
import { Jobs } from './jobs.js';
import { line } from './lines.js';
import * as plain from './plain.js';
import { Scopes } from './scopes.js';
import { Table } from './table.js';
import { threadErrand } from './threads.js';
import { Command, Flag, HEAD, News, idAt } from './wire.js';

/** How long we may keep the event loop in one turn, in milliseconds. */
const TURN = 8;

/** So many words are handed over before the turn is over: about a thousand submits. */
const PASSING = 4_096;

/** So much text goes into one crossing at most; a single line may be longer. */
const MAX_TEXT = 16 << 20;

/** So many words are read in one crossing. */
const ROOM = 1 << 14;

/** Somebody who waits for an answer. */
interface Asking {
  resolve(answer: unknown): void;
  reject(error: unknown): void;
}

/** What hears the events of a subscription. */
export interface Listener {
  hear(events: unknown[], ended: boolean): void;
}

export class Port {
  readonly native: NativePort;
  private asked = new Uint32Array(1 << 12);
  private used = 0;
  private chars = 0;
  private lines: string[] = [];
  private readonly room = new Uint32Array(ROOM);
  /** Whether a crossing in full is on its way: at the end of the microtasks, or in the loop's next turn. */
  private isScheduled = false;
  /** Whether what is said now is handed over before any microtask that is queued from now on runs. */
  private isNear = false;
  /** So many submits there is room for, whatever else happens until the next crossing. */
  private credit = 0;
  private turn = 0;
  /** Who waits for a task's outcome. */
  readonly slots = new Table<TaskHandle>();
  /** Of slots whose task came from here and runs here: the input until it starts, then the result. */
  readonly values: unknown[] = [];
  private readonly requests = new Table<Asking>();
  private readonly listeners = new Map<number, Listener>();
  readonly apps = new Map<number, WeakRef<App>>();
  readonly scopes = new Scopes();
  readonly jobs = new Jobs(this);
  private readonly keeper = setInterval(() => {}, 0x7fffffff).unref();
  /** Whether this keeps the process alive. */
  isKept = false;
  /** Tasks, handlers and requests that keep the process alive. */
  busy = 0;
  /** How many crossings had something to say, or to tell. */
  activity = 0;
  private whenActive: Array<() => void> | undefined;

  constructor() {
    const { Port: Native } = load();
    this.native = new Native(() => this.pump());
    this.jobs.lendTo(this.native);
  }

  // ── saying ────────────────────────────────────────────────────────────────────────────────────────────────────

  private lengthen(words: number): void {
    const longer = new Uint32Array(Math.max(this.asked.length * 2, this.used + words));
    longer.set(this.asked);
    this.asked = longer;
  }

  /**
   * Something is about to be said: there is room for so many words of it, and it will be handed over. This may cross, so
   * what goes into the bytes is written after it.
   */
  reserve(words: number): void {
    if (this.used + words > this.asked.length) this.lengthen(words);
    if (!this.isNear) {
      this.isNear = true;
      queueMicrotask(this.isScheduled ? this.handOver : this.pump);
      this.isScheduled = true;
    } else if (!this.isReading && (this.used >= PASSING || this.chars + plain.length > MAX_TEXT) && !plain.isWriting) {
      // So much in one turn is handed over at once: what was accepted then need not outlive the turn.
      this.cross(true);
    }
  }

  private isReading = false;

  private line(line: string): void {
    this.lines.push(line);
    this.chars += line.length + 1;
  }

  /** Submits one task: its outcome goes to the handle. */
  submit(app: App, handle: TaskHandle, handler: number, name: string | undefined, options: string | undefined, payload: string, input: unknown): void {
    this.reserve(5);
    this.credit -= 1;
    const slot = this.slots.add(handle);
    if (app._isLocal) this.values[slot] = input;
    handle._slot = slot;
    this.busy += 1;
    if (handle._app._asyncContext) this.scopes.submit([handle]);
    const asked = this.asked;
    let at = this.used;
    asked[at++] = Command.submit;
    asked[at++] = app._number;
    asked[at++] = slot;
    asked[at++] = handler;
    asked[at++] = (options === undefined ? 0 : Flag.options) | (name === undefined ? 0 : Flag.byName);
    this.used = at;
    if (name !== undefined) this.line(name);
    if (options !== undefined) this.line(options);
    this.line(payload);
  }

  /** Whether a plain submit of an app that accepts at once would be. */
  hasRoom(app: App): boolean {
    return this.credit > 0 && app._isStarted;
  }

  /** Submits a task that nobody can refuse (see {@link hasRoom}), and whose payload has just been written as it is. */
  submitAtOnce(app: App, handle: TaskHandle, handler: number, size: number, input: unknown): void {
    // What a getter of the input has said may have taken the room that was reserved.
    if (this.used + 5 > this.asked.length) this.lengthen(5);
    this.credit -= 1;
    const slot = this.slots.add(handle);
    this.values[slot] = input;
    handle._slot = slot;
    this.busy += 1;
    app._pending += 1;
    const asked = this.asked;
    let at = this.used;
    asked[at++] = Command.submitPlain;
    asked[at++] = app._number;
    asked[at++] = slot;
    asked[at++] = handler;
    asked[at++] = size;
    this.used = at;
  }

  /** Submits many tasks, all or none. */
  submitMany(app: App, handles: TaskHandle[], handler: number, options: string | undefined, keys: string[] | undefined, payloads: string[], inputs: unknown[]): void {
    this.reserve(5 + handles.length);
    this.credit -= handles.length;
    const flags = (options === undefined ? 0 : Flag.options) | (keys === undefined ? 0 : Flag.keys);
    this.say(Command.submitMany, app._number, handler, flags, handles.length);
    for (let place = 0; place < handles.length; place++) {
      const slot = this.slots.add(handles[place]);
      handles[place]._slot = slot;
      this.asked[this.used++] = slot;
      if (app._isLocal) this.values[slot] = inputs[place];
    }
    this.busy += handles.length;
    if (app._asyncContext) this.scopes.submit(handles);
    if (options !== undefined) this.line(options);
    for (let place = 0; place < payloads.length; place++) {
      if (keys !== undefined) this.line(keys[place]);
      this.line(payloads[place]);
    }
  }

  /** Submits many tasks, all or none, whose payloads stand one after the other where they are to be. */
  submitManyPlain(app: App, handles: TaskHandle[], handler: number, sizes: number[], inputs: unknown[]): void {
    const count = handles.length;
    // Not by `reserve`, which may cross and take with it what has been written.
    if (this.used + 4 + 2 * count > this.asked.length) this.lengthen(4 + 2 * count);
    this.credit -= count;
    this.say(Command.submitManyPlain, app._number, handler, count);
    const asked = this.asked;
    let at = this.used;
    for (let place = 0; place < count; place++) {
      const slot = this.slots.add(handles[place]);
      handles[place]._slot = slot;
      if (app._isLocal) this.values[slot] = inputs[place];
      asked[at++] = slot;
      asked[at++] = sizes[place];
    }
    this.used = at;
    this.busy += count;
    if (app._asyncContext) this.scopes.submit(handles);
  }

  /** Submits a child of the task that a handler runs; the handler's number is that of the app. */
  submitChild(job: number, app: App, handle: TaskHandle, handler: number, name: string | undefined, options: string | undefined, payload: string): void {
    this.reserve(6);
    this.credit -= 1;
    handle._slot = this.slots.add(handle);
    this.busy += 1;
    if (handle._app._asyncContext) this.scopes.submit([handle]);
    const flags = (options === undefined ? 0 : Flag.options) | (name === undefined ? 0 : Flag.byName);
    this.say(Command.submitChild, job, handle._slot, app._number, handler, flags);
    if (name !== undefined) this.line(name);
    if (options !== undefined) this.line(options);
    this.line(payload);
  }

  private say(...words: number[]): void {
    for (const word of words) this.asked[this.used++] = word;
  }

  /** A handler has returned: the line of its result, or how many bytes of it stand where they are to be. Room is reserved. */
  succeeded(job: number, line: string | undefined, size: number): void {
    // What a getter of the result has said may have taken it.
    if (this.used + 3 > this.asked.length) this.lengthen(3);
    const asked = this.asked;
    asked[this.used++] = line === undefined ? Command.succeededPlain : Command.succeeded;
    asked[this.used++] = job;
    if (line === undefined) asked[this.used++] = size;
    else this.line(line);
  }

  /** A handler has thrown: the line of that. */
  failed(job: number, line: string): void {
    this.reserve(2);
    this.say(Command.failed, job);
    this.line(line);
  }

  /** Asks the engine of an app for something. */
  request<T>(app: App, what: string, details: Record<string, unknown> = {}): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.ask(app, what, details, { resolve: resolve as Asking['resolve'], reject });
    });
  }

  private ask(app: App, what: string, details: Record<string, unknown>, asking: Asking): void {
    const said = line({ do: what, ...details });
    this.reserve(3);
    // It may be one that brings tasks of its own.
    this.credit = 0;
    this.busy += 1;
    this.say(Command.request, app._number, this.requests.add(asking));
    this.line(said);
  }

  /** Has the outcome of a task that somebody else submitted told to a handle. */
  async watch(app: App, handle: TaskHandle): Promise<boolean> {
    const slot = this.slots.add(handle);
    handle._slot = slot;
    this.keep(app, 1);
    let known = false;
    try {
      known = await this.request<boolean>(app, 'watch', { id: handle.id, slot });
    } finally {
      if (!known) this.freeSlot(slot);
    }
    return known;
  }

  private freeSlot(slot: number): TaskHandle | undefined {
    const handle = this.slots.take(slot);
    this.values[slot] = undefined;
    if (handle !== undefined) {
      this.scopes.end(handle);
      handle._slot = -1;
      this.keep(handle._app, -1);
    }
    return handle;
  }

  // ── crossing ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Crosses, and again for what came of it, for as long as the turn lasts. */
  private readonly pump = (): void => {
    if (this.isReading || plain.isWriting) return;
    if (this.turn === 0) {
      this.turn = performance.now();
      setImmediate(this.turned);
    }
    this.isScheduled = this.isNear = true;
    while (this.cross(false) || this.used > 0) {
      if (performance.now() - this.turn < TURN) continue;
      setImmediate(this.pump);
      this.handOver();
      this.settleKeeper();
      return;
    }
    this.isScheduled = this.isNear = false;
    this.settleKeeper();
  };

  /** Hands over what was said, and no more: nothing that runs code of a user's. */
  private readonly handOver = (): void => {
    if (this.isReading) return;
    this.isNear = false;
    if (this.used > 0) this.cross(true);
  };

  private readonly turned = (): void => {
    this.turn = 0;
  };

  /** Crosses now, if that can be. */
  come(): void {
    if (!this.isReading) this.pump();
  }

  private active(): void {
    this.activity += 1;
    if (this.whenActive === undefined) return;
    for (const told of this.whenActive) told();
    this.whenActive = undefined;
  }

  /** The next crossing that has something to say, or to tell. */
  nextActivity(): Promise<void> {
    return new Promise((resolve) => (this.whenActive ??= []).push(resolve));
  }

  private cross(inPassing: boolean): boolean {
    const { asked, used, room } = this;
    const text = this.chars === 0 ? '' : `${this.lines.join('\n')}\n`;
    this.used = this.chars = 0;
    this.lines = [];
    const said = this.native.exchange(asked, used, text, plain.bytes, plain.length, room, inPassing);
    plain.startAgain();
    const end = room[0] + HEAD;
    if (used > 0 || end > HEAD) this.active();
    const more = room[1] !== 0;
    this.credit = room[2];
    if (end > HEAD) {
      this.isReading = true;
      try {
        this.read(said, end);
      } finally {
        this.isReading = false;
        this.jobs.wereRead();
      }
    }
    return more;
  }

  private read(said: string, end: number): void {
    // Handles and contexts show ids from it when they are asked.
    const words = this.room.slice(0, end);
    const lines = said === '' ? [] : said.split('\n');
    let line = 0;
    for (let at = HEAD; at < end; ) {
      switch (words[at]) {
        case News.accepted: {
          const last = at + 2 + 5 * words[at + 1];
          for (at += 2; at < last; at += 5) {
            const handle = this.slots.rows[words[at]];
            if (handle === undefined) continue;
            if (!handle._accepted(words, at + 1)) continue;
            this.busy -= 1;
            this.keep(handle._app, 1);
            this.scopes.accept(words[at], words, at + 1);
          }
          break;
        }
        case News.refused: {
          const error = errorFrom(JSON.parse(lines[line++]) as Described);
          this.busy -= 1;
          this.values[words[at + 1]] = undefined;
          this.scopes.refuse(words[at + 1]);
          const handle = this.slots.take(words[at + 1]);
          if (handle?._refused(error)) handle._app._pending -= 1;
          at += 2;
          break;
        }
        case News.start:
          this.jobs.start(words, at, lines[line++], -1);
          at += 9;
          break;
        case News.startOwn:
          this.jobs.start(words, at, undefined, words[at + 9]);
          at += 10;
          break;
        case News.succeededOwn: {
          const slot = words[at + 1];
          const value = this.values[slot];
          this.values[slot] = undefined;
          this.freeSlot(slot)?._returned(value);
          at += 2;
          break;
        }
        case News.succeeded:
          this.freeSlot(words[at + 1])?._succeeded(lines[line++]);
          at += 2;
          break;
        case News.ended:
          this.ended(words[at + 1], JSON.parse(lines[line++]) as Described);
          at += 2;
          break;
        case News.callOff: {
          this.jobs.callOff(words[at + 1], lines[line++]);
          at += 2;
          break;
        }
        case News.answer:
          this.busy -= 1;
          this.requests.take(words[at + 1])?.resolve(JSON.parse(lines[line++]));
          at += 2;
          break;
        case News.refusal:
          this.busy -= 1;
          this.requests.take(words[at + 1])?.reject(errorFrom(JSON.parse(lines[line++]) as Described));
          at += 2;
          break;
        case News.events: {
          const listener = this.listeners.get(words[at + 1]);
          const ended = words[at + 2] !== 0;
          if (ended) this.listeners.delete(words[at + 1]);
          listener?.hear(JSON.parse(lines[line++]) as unknown[], ended);
          at += 3;
          break;
        }
        case News.hook:
          this.apps.get(words[at + 1])?.deref()?._hooked(words[at + 2], idAt(words, at + 3), lines[line++]);
          at += 7;
          break;
        case News.thread:
          threadErrand(words[at + 1], words[at + 2]);
          at += 3;
          break;
        case News.blocked:
          warn(JSON.parse(lines[line++]) as Blocked);
          at += 1;
          break;
        default:
          throw new Error(`taskloom: the native half said ${words[at]}, which is none of its words`);
      }
    }
  }

  // ── hearing ───────────────────────────────────────────────────────────────────────────────────────────────────

  private ended(slot: number, described: Described): void {
    const handle = this.freeSlot(slot);
    if (handle === undefined) return;
    const cause = described.kind === 'TaskFailed' ? this.jobs.takeThrown(handle.id) : undefined;
    handle._ended(errorFrom(described, cause));
  }

  /** Subscribes a listener, to the engine that there is or (`listen`) to all of them: what happens after this call is heard. */
  subscribe(app: App, how: 'subscribe' | 'listen', details: Record<string, unknown>, listener: Listener): Promise<number> {
    return new Promise((resolve, reject) => {
      const subscribed = (number: unknown): void => {
        // At once: the first events may stand in the same crossing.
        this.listeners.set(number as number, listener);
        resolve(number as number);
      };
      this.ask(app, how, details, { resolve: subscribed, reject });
    });
  }

  unlisten(subscription: number): void {
    this.listeners.delete(subscription);
    this.native.unsubscribe(subscription);
  }

  // ── staying alive ─────────────────────────────────────────────────────────────────────────────────────────────

  /**
   * Tasks of an app become pending, or end. They keep the process alive only while the app could run them; a submit
   * does until it is answered.
   */
  private keep(app: App, tasks: number): void {
    app._pending += tasks;
    if (app._isStarted) this.busy += tasks;
  }

  /** An app starts or stops: what is pending counts, or does no longer. */
  count(app: App, isStarted: boolean): void {
    if (app._isStarted === isStarted) return;
    app._isStarted = isStarted;
    this.busy += isStarted ? app._pending : -app._pending;
    this.settleKeeper();
  }

  /** Keeps the process alive for a reason of its own, or no longer. */
  hold(by: 1 | -1): void {
    this.busy += by;
    this.settleKeeper();
  }

  private settleKeeper(): void {
    const wanted = this.busy > 0;
    if (wanted === this.isKept) return;
    this.isKept = wanted;
    if (wanted) this.keeper.ref();
    else this.keeper.unref();
  }
}

let own: Port | undefined;

/** This environment's port, made when it is first needed. */
export function port(): Port {
  return (own ??= new Port());
}
