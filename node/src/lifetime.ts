/**
 * How long a started app keeps the process, beyond what is pending at the port: for `keepAlive`; for schedules that may
 * fire, as a timer would; and after the start on a file, for tasks that it holds from before.
 *
 * A schedule that goes on for ever keeps the process until it is taken away, so nobody looks at it. One that ends (it has
 * a single time, or an `end`) is looked at from its end on: once it is over, and none of its handler's tasks is left, it
 * keeps nothing. Whoever changes or triggers one has it looked at again.
 *
 * @internal
 */

import type { App } from './app.js';
import { port } from './port.js';
import type { Said } from './schedules.js';

/** The first pause between two looks at what ends soon, the longest one, and the longest that a timer knows; in milliseconds. */
const SOON = 10;
const LONGEST = 500;
const TIMER = 0x7fffffff;

/** What is looked at of a schedule. */
interface Row {
  readonly at: number | null;
  readonly end: number | null;
  readonly next: number | null;
  readonly enabled: boolean;
  readonly waiting: number;
}

export class Lifetime {
  /** Schedules that the program has said. */
  readonly said = new Map<string, Said>();
  /** Whether one of them, or a task of one, may be to come. */
  private mayFire = true;
  private isHeld = false;
  private tasks: NodeJS.Timeout | undefined;
  private schedules: NodeJS.Timeout | undefined;
  private pause = SOON;
  /** So many times were schedules said or changed: what was asked before that is no longer true. */
  private changes = 0;

  constructor(
    private readonly app: App,
    /** Its handlers, by name. */
    private readonly handlers: ReadonlyMap<string, unknown>,
    private readonly keepAlive: boolean,
  ) {}

  /** The app has started. */
  async begin(): Promise<void> {
    this.lookAtSchedules();
    if (port().native.isDurable(this.app._number)) await this.lookForTasks();
  }

  /** The app has stopped. */
  end(): void {
    clearTimeout(this.tasks);
    this.tasks = undefined;
    this.lookAtSchedules();
  }

  /** A file may hold tasks from before: while there are any that this app has a handler for, the process stays. */
  async lookForTasks(): Promise<void> {
    if (this.tasks !== undefined || !this.app._isStarted) return;
    const isLeft = await this.areLeft(this.handlers.keys());
    if (!isLeft || !this.app._isStarted) return;
    this.tasks = setTimeout(() => {
      this.tasks = undefined;
      this.lookForTasks().catch(() => {});
    }, LONGEST);
  }

  private areLeft(names: Iterable<string>): Promise<boolean> {
    return port().request<boolean>(this.app, 'unfinished', { names: [...new Set(names)] });
  }

  /** Schedules were said, changed, triggered or taken away; or the app has started or stopped. */
  lookAtSchedules(): void {
    this.changes += 1;
    clearTimeout(this.schedules);
    this.pause = SOON;
    this.mayFire = this.said.size > 0;
    this.settle();
    if (this.isHeld && !this.keepAlive) this.look();
  }

  private look(): void {
    const { changes } = this;
    const again = (after: number | undefined): void => {
      if (changes !== this.changes) return;
      if (after !== undefined) return this.lookAgain(after);
      this.mayFire = false;
      this.settle();
    };
    // What cannot be told now may be later; nothing can once the app stops.
    this.untilNext().then(again, () => again(LONGEST));
  }

  /** How long nothing can change, as far as is known; nothing if the schedules are over, and their tasks, too. */
  private async untilNext(): Promise<number | undefined> {
    const names = [...this.said.keys()];
    const rows = await Promise.all(names.map((name) => port().request<Row | null>(this.app, 'schedule', { name })));
    const now = Date.now();
    const coming = rows.filter((row): row is Row => row !== null && !isOver(row, now));
    if (coming.length > 0) return Math.max(...coming.map((row) => row.at ?? row.end ?? Infinity)) - now;
    return (await this.areLeft([...this.said.values()].map(({ handler }) => handler))) ? 0 : undefined;
  }

  /** Looks again after so long; soon, if that has passed. */
  private lookAgain(after: number): void {
    if (after === Infinity || !this.app._isStarted) return;
    const wait = after > 0 ? Math.min(after, TIMER) : this.pause;
    if (after <= 0) this.pause = Math.min(this.pause * 2, LONGEST);
    this.schedules = setTimeout(() => this.look(), wait).unref();
  }

  private settle(): void {
    const holds = this.app._isStarted && (this.keepAlive || this.mayFire);
    if (holds === this.isHeld) return;
    this.isHeld = holds;
    port().hold(holds ? 1 : -1);
  }
}

/** Whether a schedule will not fire any more, whoever enables it: what it misses while it is disabled is past. */
function isOver({ at, end, next, enabled, waiting }: Row, now: number): boolean {
  if (waiting > 0) return false;
  return next === null || (!enabled && (at ?? end ?? Infinity) <= now);
}
