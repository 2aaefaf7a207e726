/** Facts about tasks, queues and the engine, told to whoever subscribes. `docs/events.md` lists them. */

import type { App } from './app.js';
import { shown } from './durations.js';
import { InvalidOptions, Misuse, native } from './errors.js';
import { callOptions } from './options.js';
import { type Listener, port } from './port.js';

/** A fact. */
export interface TaskEvent {
  /** What happened, such as `'task.succeeded'`. */
  readonly name: string;
  /** The event's own id. */
  readonly id: string;
  /** When. */
  readonly time: Date;
  /** The task that it is about. */
  readonly taskId: string | undefined;
  /** What else there is to say. */
  readonly data: Readonly<Record<string, unknown>>;
}

interface Told {
  name: string;
  id: string;
  time: string;
  task_id?: string | null;
  data: Record<string, unknown>;
}

function eventFrom(told: unknown): TaskEvent {
  const { name, id, time, task_id: taskId, data } = told as Told;
  return { name, id, time: new Date(time), taskId: taskId ?? undefined, data };
}

/** Ends a subscription. */
export type Unsubscribe = () => void;

/** How a subscription is made. */
export interface EventOptions {
  /** How many events are kept for a reader that is slow; older ones are dropped, and a gap is told. */
  capacity?: number;
}

const EXAMPLES = { on: "app.on('task.*', listener, { capacity: 1000 })", events: "app.events('task.*', { capacity: 1000 })" };

/** How many events are kept for it. */
function capacityOf(what: keyof typeof EXAMPLES, options: EventOptions): number | undefined {
  const { capacity } = callOptions(what, options, ['capacity'], EXAMPLES[what]);
  if (capacity === undefined || (Number.isSafeInteger(capacity) && capacity >= 1)) return capacity;
  throw new InvalidOptions(`capacity is ${shown(capacity)}; it must be a whole number of at least 1`);
}

function checked(pattern: unknown): asserts pattern is string {
  if (typeof pattern !== 'string') throw new InvalidOptions(`a pattern is ${shown(pattern)}; it must be a text, such as 'task.*'`);
  native(() => port().native.checkPattern(pattern));
}

/** Refuses what is no name for an event of the user's own; whether the name will do is for the core to say. @internal */
export function checkEventName(name: unknown): void {
  if (typeof name === 'string') return;
  throw new InvalidOptions(`the name of an event is ${shown(name)}; it must be a text`, { hint: "as in publish('order.paid', { id: 7 })" });
}

/** Has a listener told, whichever engines its app opens, until the function that this returns is called. @internal */
export function listen(app: App, details: { pattern: string } & Record<string, unknown>, listener: Listener): Unsubscribe {
  checked(details.pattern);
  let number: number | undefined;
  let isEnded = false;
  port()
    .subscribe(app, 'listen', details, listener)
    .then(
      (subscription) => {
        number = subscription;
        if (isEnded) port().unlisten(subscription);
      },
      (error) => {
        queueMicrotask(() => {
          throw error;
        });
      },
    );
  return () => {
    if (isEnded) return;
    isEnded = true;
    if (number !== undefined) port().unlisten(number);
  };
}

/** Subscribes a function. @internal */
export function subscribe(app: App, pattern: string, listener: (event: TaskEvent) => void, options: EventOptions): Unsubscribe {
  if (typeof listener !== 'function') {
    throw new Misuse(`a subscriber is ${shown(listener)}; it must be a function of the event`, { hint: "as in app.on('task.*', (event) => { … })" });
  }
  const hears: Listener = {
    hear(events) {
      for (const event of events) {
        try {
          listener(eventFrom(event));
        } catch (error) {
          // Its own affair, and seen as any uncaught error; the others are told all the same.
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
  };
  return listen(app, { pattern, capacity: capacityOf('on', options) }, hears);
}

/** Events as they come, for `for await`. @internal */
export class EventStream implements AsyncIterableIterator<TaskEvent> {
  private readonly waiting: TaskEvent[] = [];
  private readonly readers: Array<(next: IteratorResult<TaskEvent>) => void> = [];
  private readonly subscribed: Promise<number>;
  private isEnded = false;

  constructor(app: App, pattern: string, options: EventOptions) {
    this.subscribed = this.begin(app, pattern, options, {
      hear: (events, ended) => {
        for (const event of events) {
          const reader = this.readers.shift();
          const value = eventFrom(event);
          if (reader === undefined) this.waiting.push(value);
          else reader({ value, done: false });
        }
        if (ended) this.end();
      },
    });
    // Whoever reads is told why; nobody need read.
    this.subscribed.catch(() => this.end());
  }

  private async begin(app: App, pattern: string, options: EventOptions, listener: Listener): Promise<number> {
    checked(pattern);
    const capacity = capacityOf('events', options);
    return await port().subscribe(app, 'subscribe', { pattern, capacity }, listener);
  }

  private end(): void {
    this.isEnded = true;
    for (const reader of this.readers.splice(0)) reader({ value: undefined, done: true });
  }

  async next(): Promise<IteratorResult<TaskEvent>> {
    await this.subscribed;
    const value = this.waiting.shift();
    if (value !== undefined) return { value, done: false };
    if (this.isEnded) return { value: undefined, done: true };
    return await new Promise((resolve) => this.readers.push(resolve));
  }

  async return(): Promise<IteratorResult<TaskEvent>> {
    if (!this.isEnded) {
      this.end();
      port().unlisten(await this.subscribed);
    }
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
