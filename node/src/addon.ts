/** The native half. */

import { TaskloomError } from './errors.js';

/** The class `Port` of `bindings/node/src/exchange.rs`. @internal */
export interface NativePort {
  exchange(asked: Uint32Array, count: number, text: string, bytes: Uint8Array, length: number, room: Uint32Array, inPassing: boolean): string;
  lend(word: Uint32Array): void;
  open(url: string, settings: string): number;
  close(app: number): void;
  register(app: number, registration: string): void;
  outboxRow(app: number, line: string): string;
  outboxTexts(dialect: string, style: string): string;
  schedule(app: number, schedule: string): void;
  eventCatalog(): string;
  checkPattern(pattern: string): void;
  firings(expression: string, tz: string, start: number, count: number): number[];
  state(slot: number): string | null;
  isDurable(app: number): boolean;
  job(job: number): string | null;
  now(job: number): number | null;
  checkpoint(job: number): string | null;
  lendPlace(job: number, lends: boolean): void;
  progress(job: number, value: number, message?: string | null): void;
  log(job: number, level: string, message: string): void;
  note(job: number, key: string, value: string): void;
  publish(job: number, name: string, data: string): void;
  beginTesting(app: number, options: string): void;
  endTesting(app: number): void;
  drive(app: number): number;
  turn(app: number, micros: number): void;
  setTime(app: number, micros: number): void;
  times(app: number): number[];
  submitted(app: number, known: number): string;
  unsubscribe(subscription: number): void;
  invite(app: number, maxTasks?: number | null): number;
  join(invitation: number): number;
  serve(app: number, thread: number): void;
  module(app: number, handler: number): string | null;
  awaits(app: number, thread: number, slot?: number | null): void;
  lent(app: number): number;
  threadEnded(app: number, thread: number, cause?: string | null): boolean;
  traffic(): { crossings: number; calls: number; started: number };
}

/** The class `Lifeline` of `bindings/node/src/worker.rs`: there on Unix. @internal */
export interface NativeLifeline {
  ready(port: NativePort, app: number, handlers: string[], counts: boolean): void;
  leave(): void;
}

interface Binding {
  Lifeline: new () => NativeLifeline;
  serveWith(port: NativePort, app: number, store: string | null, settings: string): void;
  Port: new (wake: () => void) => NativePort;
  command(args: string[], node: string, runtime: string, folder: string): number;
}

/** Where the addon of a platform comes from. */
function packageFor(): string {
  const libc = process.platform === 'linux' && !isGlibc() ? '-musl' : process.platform === 'linux' ? '-gnu' : '';
  const abi = process.platform === 'win32' ? '-msvc' : '';
  return `@taskloom/native-${process.platform}-${process.arch}${libc}${abi}`;
}

function isGlibc(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header?.glibcVersionRuntime !== undefined;
}

/** Loads the addon for this platform. @internal */
export function load(find: (path: string) => unknown = require): Binding {
  try {
    return find('./native.js') as Binding;
  } catch (cause) {
    throw new TaskloomError(`the native half of taskloom cannot be loaded on ${process.platform} ${process.arch}`, {
      code: 'TL1505',
      hint:
        `install it with: npm install ${packageFor()} (an install that leaves out optional dependencies leaves it out, ` +
        'too); from a checkout, run: make node',
      cause,
    });
  }
}
