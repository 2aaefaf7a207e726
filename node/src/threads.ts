/**
 * The threads that run handlers with `thread: true`: started when a task waits for one, ended hard when its attempt no
 * longer counts, and forgotten with their app.
 *
 * Which thread runs what is known to the native half (`bindings/node/src/threads.rs`); here they are only started and
 * ended, since nobody else can. None of them keeps the process alive: the tasks that they run do.
 *
 * @internal
 */

import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { shown } from './durations.js';
import { port } from './port.js';
import type { ThreadSettings } from './settings.js';

/** What a thread is told. */
export interface Invited {
  readonly invitation: number;
  readonly thread: number;
  readonly store: string;
}

function said(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : shown(error);
}

/** The threads of an app. */
class Threads {
  private readonly all = new Map<number, Worker>();
  /** Those that were asked to end. */
  private readonly leaving = new Set<Worker>();
  private readonly invitation: number;
  private last = 0;

  constructor(
    private readonly app: number,
    private readonly store: string,
    private readonly settings: ThreadSettings,
  ) {
    this.invitation = port().native.invite(app, settings.maxTasksPerThread);
  }

  /** A task waits for a thread. */
  start(): void {
    // One that waits for another task lends its place.
    if (this.all.size >= this.settings.size + port().native.lent(this.app)) return;
    const thread = (this.last += 1);
    let worker: Worker;
    try {
      worker = this.worker(thread);
    } catch (error) {
      // As one that died at once: whoever waits for it hears why.
      port().native.threadEnded(this.app, thread, `could not be started: ${said(error)}`);
      return;
    }
    worker.unref();
    this.all.set(thread, worker);
    let cause: string | undefined;
    worker.on('error', (error: unknown) => (cause = this.told(error)));
    worker.on('exit', (code) => {
      this.all.delete(thread);
      const wanted = this.leaving.delete(worker);
      const waits = port().native.threadEnded(this.app, thread, wanted ? undefined : (cause ?? `called process.exit(${code})`));
      if (waits) this.start();
    });
  }

  private worker(thread: number): Worker {
    const taskloom: Invited = { invitation: this.invitation, thread, store: this.store };
    const { maxMemory } = this.settings;
    return new Worker(join(__dirname, 'thread.js'), {
      name: `taskloom-${thread}`,
      workerData: { taskloom },
      resourceLimits: maxMemory === undefined ? undefined : { maxOldGenerationSizeMb: maxMemory },
      // What a program was given on the command line is no file, and Node would take the thread's for it.
      execArgv: process.execArgv.some((option) => /^--(?:input-type|eval|print)|^-[ep]/.test(option)) ? [] : undefined,
    });
  }

  private told(error: unknown): string {
    if ((error as { code?: unknown } | null)?.code === 'ERR_WORKER_OUT_OF_MEMORY') {
      const { maxMemory } = this.settings;
      return `ran out of memory${maxMemory === undefined ? '' : ` (maxMemory is ${maxMemory} MB)`}`;
    }
    return `was ended by an error that nobody caught: ${said(error)}`;
  }

  /** Ends a thread, whatever it does. */
  async end(thread: number): Promise<void> {
    const worker = this.all.get(thread);
    if (worker === undefined) return;
    this.leaving.add(worker);
    await worker.terminate();
  }

  /** Ends all of them. */
  async close(): Promise<void> {
    await Promise.all([...this.all.keys()].map((thread) => this.end(thread)));
  }
}

/** By the numbers of their apps. */
const pools = new Map<number, Threads>();

/** An app has handlers that run in threads. */
export function poolFor(app: number, store: string, settings: ThreadSettings): void {
  if (!pools.has(app)) pools.set(app, new Threads(app, store, settings));
}

/** A task of an app waits for a thread (0), or a thread is to be ended. */
export function threadErrand(app: number, thread: number): void {
  const threads = pools.get(app);
  if (thread === 0) threads?.start();
  else void threads?.end(thread);
}

/** An app has stopped. It may start again. */
export async function endThreads(app: number): Promise<void> {
  await pools.get(app)?.close();
}

/** An app is gone. */
export function forgetThreads(app: number): void {
  void endThreads(app);
  pools.delete(app);
}
