/** Handlers that are found in a module of their own, so that threads can load them. */

import { existsSync } from 'node:fs';
import { isAbsolute } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

import type { Context } from './context.js';
import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { kindOfFunction } from './functions.js';
import { type StandardSchema, isSchema, validate } from './schema.js';
import type { HandlerFunction, ThreadTaskOptions } from './task.js';
import { PermanentError } from './verdicts.js';

/** Where a handler is. @internal */
export interface ModulePlace {
  readonly name: string;
  readonly url: string;
  readonly export: string;
  /** Whether the app has a schema for it: then the module must have it, too. */
  readonly schema: boolean;
}

const EXAMPLE = "new URL('./hash.mjs', import.meta.url), or require.resolve('./hash.cjs')";

/** Where the module of a `thread: true` handler is; nothing if it is a handler like others. @internal */
export function readModule(name: string, options: Partial<ThreadTaskOptions>, handler: unknown): ModulePlace | undefined {
  const { thread, module, export: exported = 'default' } = options as { thread?: unknown; module?: unknown; export?: unknown };
  if (thread !== undefined && typeof thread !== 'boolean') throw new InvalidOptions(`thread is ${shown(thread)}; it must be true or false`);
  if (thread !== true) {
    if (module === undefined && options.export === undefined) return undefined;
    throw new InvalidOptions(`${shown(name)} has a module, and does not run in a thread`, {
      hint: 'add thread: true, or import the module and pass its function',
    });
  }
  if (handler !== undefined) {
    throw new InvalidOptions(`the handler of ${shown(name)} is to run in a thread, and a function cannot go there`, {
      hint: `put it into a module, as its default export, and pass that as module: ${EXAMPLE}`,
    });
  }
  const url = urlOf(name, module);
  if (typeof exported !== 'string') throw new InvalidOptions(`export is ${shown(exported)}; it must be the name of what the module exports`);
  return { name, url, export: exported, schema: options.schema !== undefined };
}

function urlOf(name: string, module: unknown): string {
  if (module === undefined) {
    throw new InvalidOptions(`the handler of ${shown(name)} is to run in a thread, and there is no module`, { hint: `pass ${EXAMPLE}` });
  }
  const isText = typeof module === 'string';
  if (!isText && !(module instanceof URL)) {
    throw new InvalidOptions(`the module of ${shown(name)} is ${shown(module)}; it must be a URL or an absolute path`, { hint: `pass ${EXAMPLE}` });
  }
  const isUrl = !isText || /^(?:file|data):/.test(module);
  if (!isUrl && !isAbsolute(module)) {
    // Relative to what, a thread could not tell.
    throw new InvalidOptions(`the module of ${shown(name)} is ${shown(module)}, which is no absolute path`, { hint: `pass ${EXAMPLE}` });
  }
  const url = isUrl ? new URL(module) : pathToFileURL(module);
  if (url.protocol === 'file:' && !existsSync(fileURLToPath(url))) {
    throw new InvalidOptions(`the module of ${shown(name)} is not there: ${fileURLToPath(url)}`, { hint: `pass ${EXAMPLE}` });
  }
  return url.href;
}

/** A module's handler. */
interface Loaded {
  readonly run: HandlerFunction<unknown, unknown>;
  readonly schema: StandardSchema | undefined;
}

/** A handler that loads its module when it first runs. @internal */
export function fromModule(place: ModulePlace): HandlerFunction<unknown, unknown> {
  let loaded: Loaded | undefined;
  return (input, context) => {
    if (loaded !== undefined) return call(loaded, place, input, context);
    return load(place).then((found) => call((loaded = found), place, input, context));
  };
}

function call({ run, schema }: Loaded, place: ModulePlace, input: unknown, context: Context): unknown {
  if (schema === undefined) return run(input, context);
  const verdict = validate(schema, place.name, input);
  return verdict instanceof Promise ? verdict.then((value: unknown) => run(value, context)) : run(verdict, context);
}

async function load(place: ModulePlace): Promise<Loaded> {
  let found: Record<string, unknown>;
  try {
    found = (await import(place.url)) as Record<string, unknown>;
  } catch (error) {
    const why = error instanceof Error ? `${error.name}: ${error.message}` : shown(error);
    // Node reads and evaluates a module once: another attempt would find the same.
    throw new PermanentError(`the module of ${shown(place.name)} does not load: ${place.url}: ${why}`, { cause: error });
  }
  // What `exports.default = …` makes of a CommonJS module is one level deeper.
  const inner = found.default as Record<string, unknown> | undefined;
  const of = (name: string): unknown =>
    name === 'default' && typeof inner !== 'function' ? (inner?.default ?? inner) : (found[name] ?? inner?.[name]);
  const run = of(place.export);
  if (typeof run !== 'function') {
    const names = Object.keys(found).filter((name) => name !== 'module.exports');
    throw new PermanentError(
      `the module of ${shown(place.name)} has no function ${shown(place.export)}: ${place.url} exports ${names.join(', ') || 'nothing'}`,
    );
  }
  if (kindOfFunction(run) === 'generator') {
    throw new PermanentError(`the handler of ${shown(place.name)} is a generator function, which to call runs nothing of: ${place.url}`);
  }
  const schema = of('schema');
  if (place.schema && !isSchema(schema)) {
    throw new PermanentError(
      `${shown(place.name)} has a schema, and its module has not: export it from ${place.url} as schema, since threads cannot be given it`,
    );
  }
  return { run: run as Loaded['run'], schema: isSchema(schema) ? schema : undefined };
}
