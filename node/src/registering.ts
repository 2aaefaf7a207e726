/** Handlers: from what `app.task` is given to what an app keeps of it. */

import type { App } from './app.js';
import { detachedContext, storage } from './context.js';
import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';
import { kindOfFunction } from './functions.js';
import { isFields, line } from './lines.js';
import { type ModulePlace, fromModule, readModule } from './modules.js';
import { type SubmitOptions, handlerOptions } from './options.js';
import { encode } from './payload.js';
import { Rules } from './retry_rules.js';
import { isSchema, validate } from './schema.js';
import type { Handler, HandlerFunction, Task, TaskOptions } from './task.js';

/** Options of a handler that are not options of its tasks. */
const OWN = ['replace', 'schema', 'onSuccess', 'onRetry', 'onFailure', 'namespace', 'thread', 'module', 'export'];

/** Options that hold up or refuse no submit, whatever they say. */
const PLAIN = ['priority', 'timeout', 'retries', 'retry', 'maxCrashes', 'tags', 'metadata', 'replace', 'onSuccess', 'onRetry', 'onFailure', 'namespace'];

function isPlain(options: TaskOptions): boolean {
  return Object.entries(options).every(([name, value]) => value === undefined || PLAIN.includes(name));
}

/** What an app was asked to register. @internal */
export interface Registration {
  /** Where it is, if it runs in threads. */
  readonly module: ModulePlace | undefined;
  readonly handler: Omit<Handler, 'number'>;
  /** For the core. */
  readonly line: string;
}

function noFunction(name: string, given: unknown): InvalidOptions {
  return new InvalidOptions(`the handler of ${shown(name)} is ${shown(given)}; it must be a function`, {
    hint: "as in app.task('resize', async (input, ctx) => { … })",
  });
}

function checkHandler(name: string, handler: unknown): void {
  if (typeof handler !== 'function') throw noFunction(name, handler);
  if (kindOfFunction(handler) === 'generator') {
    throw new InvalidOptions(`the handler of ${shown(name)} is a generator function: to call it runs nothing of it`, {
      hint: 'make it an async function that returns its result; ctx.progress and ctx.publish tell of what comes before',
    });
  }
}

/** Reads what `app.task` was given. @internal */
export function readRegistration(own: string, options: TaskOptions, handler: HandlerFunction<any, any> | undefined): Registration {
  if (!isFields(options as unknown)) {
    if (handler === undefined && typeof own === 'string') throw noFunction(own, options);
    throw new InvalidOptions(`the options of ${shown(own)} are ${shown(options)}; they must be an object`, {
      hint: "as in app.task('resize', { retries: 3 }, async (input, ctx) => { … })",
    });
  }
  const name = fullName(own, options);
  const module = readModule(name, options, handler);
  if (module === undefined) checkHandler(name, handler);
  const { rules, policy } = Rules.take(name, options.retry);
  if (module !== undefined && rules !== undefined) {
    throw new InvalidOptions(`the retry policy of ${shown(name)} looks at errors, which it cannot do from another thread`, {
      hint: 'throw PermanentError or RetryAfter in the module',
    });
  }
  const plain: Record<string, unknown> = { ...options, retry: policy };
  const { key } = options;
  if (typeof key === 'function') delete plain.key;
  const values = handlerOptions(plain, OWN);
  const { schema, replace = false } = options;
  if (schema !== undefined && !isSchema(schema)) {
    throw new InvalidOptions(`the schema of ${shown(name)} is ${shown(schema)}; it must be a Standard Schema`, {
      hint: 'zod, valibot and arktype make them: https://standardschema.dev',
    });
  }
  if (typeof replace !== 'boolean') throw new InvalidOptions(`replace is ${shown(replace)}; it must be true or false`);
  const hooks = [options.onSuccess, options.onRetry, options.onFailure];
  for (const [place, hook] of hooks.entries()) {
    if (hook !== undefined && typeof hook !== 'function') {
      throw new InvalidOptions(`${OWN[place + 2]} is ${shown(hook)}; it must be a function of the handle`);
    }
  }
  const run = module === undefined ? handler! : fromModule(module);
  return {
    module,
    handler: { name, plain: run, run, rules, schema, isPlain: isPlain(options), key: typeof key === 'function' ? key : undefined, hooks, isInModule: module !== undefined },
    line: line({ name, options: values, perKey: typeof key === 'function', replace, hooks: hooks.some((hook) => hook !== undefined), module }),
  };
}

/** A handler's name, with its namespace before it. */
function fullName(name: unknown, { namespace }: TaskOptions): string {
  if (typeof name !== 'string') throw new InvalidOptions(`a handler's name is ${shown(name)}; it must be a text`);
  if (namespace === undefined) return name;
  if (typeof namespace !== 'string') throw new InvalidOptions(`namespace is ${shown(namespace)}; it must be a text`);
  return namespace === '' ? name : `${namespace}/${name}`;
}

/** The task of a registered handler: to call, and to submit. @internal */
export function taskOf(app: App, handler: Handler): Task<any, any> {
  const call = async (input: unknown): Promise<unknown> => {
    const context = detachedContext(app, handler);
    const encoded: unknown = JSON.parse(encode(input, 'input'));
    const given = handler.schema === undefined || handler.isInModule ? encoded : await validate(handler.schema, handler.name, encoded);
    return await storage.run(context, () => handler.plain(given, context));
  };
  const task = Object.assign(call, {
    taskName: handler.name,
    submit: (input?: unknown, options?: SubmitOptions) => app._submitting.one(handler, undefined, input, options),
    submitMany: (inputs: Iterable<unknown>, options?: SubmitOptions) => app._submitting.many(handler, inputs, options),
  });
  Object.defineProperty(task, 'name', { value: handler.name });
  tasks.set(task, { app, handler });
  return task as unknown as Task<unknown, unknown>;
}

const tasks = new WeakMap<object, Registered>();

/** A task's app, and the handler there. @internal */
export interface Registered {
  readonly app: App;
  readonly handler: Handler;
}

/** What a task stands for; nothing if it is none. @internal */
export function registeredOf(task: unknown): Registered | undefined {
  return typeof task === 'function' ? tasks.get(task) : undefined;
}
