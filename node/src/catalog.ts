/** The catalogue of events: what there is to subscribe to. `docs/events.md` is written from it. */

import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { nearest } from './options.js';
import { port } from './port.js';

/** One kind of event. */
export interface EventInfo {
  /** Its name, such as `'task.succeeded'`. */
  readonly name: string;
  /** `'task'`, `'step'`, `'workflow'` or `'observability'`. */
  readonly category: string;
  /** What it tells. */
  readonly description: string;
  /** Who fires it, and when. */
  readonly fired: string;
  /** The JSON Schema of its data. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** Data as it may be. */
  readonly example: Readonly<Record<string, unknown>>;
}

/** Every kind of event that the engine fires, in the order of `docs/events.md`. */
export function catalog(): EventInfo[] {
  return JSON.parse(port().native.eventCatalog()) as EventInfo[];
}

/**
 * The kind of event with this name. Throws `InvalidOptions` if there is none, with the nearest one.
 *
 * ```js
 * events.info('task.succeeded').category; // 'task'
 * ```
 */
export function info(name: string): EventInfo {
  const all = catalog();
  const found = all.find((event) => event.name === name);
  if (found !== undefined) return found;
  const near = typeof name === 'string' ? nearest(name, all.map((event) => event.name)) : undefined;
  throw new InvalidOptions(`there is no event ${shown(name)}`, {
    hint: near === undefined ? 'events.catalog() lists them' : `did you mean ${near}?`,
  });
}
