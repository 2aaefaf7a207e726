/** Events as structured logs: one JSON object a line. What a line holds is said in Rust: `bindings/bridge/src/json_logs.rs`. */

import { isMainThread, threadId } from 'node:worker_threads';

import type { App } from './app.js';
import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { type Unsubscribe, listen } from './events.js';
import { callOptions } from './options.js';
import type { Listener } from './port.js';

/** What lines are written to: a stream of Node's, or anything with such a method. */
export interface LogStream {
  /** Takes some lines, each with its end. */
  write(lines: string): unknown;
}

/** Which events become lines. */
export interface JsonLogOptions {
  /** A pattern, as for `app.on`; all events. */
  events?: string;
}

/** Lines that are kept for an event loop that is slow, as in Python. */
const CAPACITY = 10_000;

/** Has events written to a stream, each as a line. @internal */
export function jsonLogs(app: App, stream: LogStream | undefined, options: JsonLogOptions): Unsubscribe {
  if (stream !== undefined && typeof (stream as LogStream | null)?.write !== 'function') {
    throw new InvalidOptions(`app.jsonLogs was given ${shown(stream)}, which cannot be written to`, {
      hint: 'give it a stream, such as createWriteStream(path), or undefined for process.stderr',
    });
  }
  const { events = '*' } = callOptions('jsonLogs', options, ['events'], "app.jsonLogs(process.stdout, { events: 'task.*' })");
  let isBroken = false;
  const writer: Listener = {
    hear([lines]) {
      try {
        if (lines !== '') (stream ?? process.stderr).write(lines as string);
      } catch (error) {
        // A log that cannot be written must not end what it is about; and one warning is enough.
        if (isBroken) return;
        isBroken = true;
        process.emitWarning(`lines of app.jsonLogs are lost: ${String(error)}`, { type: 'TaskloomWarning', code: 'TASKLOOM_LOG_LOST' });
      }
    },
  };
  const logs = isMainThread ? 'main' : `worker-${threadId}`;
  return listen(app, { pattern: events, capacity: CAPACITY, logs, environment: process.env.TASKLOOM_ENVIRONMENT ?? '' }, writer);
}
