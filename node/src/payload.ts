/**
 * Inputs and results as JSON.
 *
 * What JSON has no form for is refused, with the place where it stands: a task must find in its input what was
 * submitted, in memory as on a file, and `JSON.stringify` by itself would leave functions out, and make `null` of NaN
 * and `{}` of a Map. What is converted instead: a `Date` becomes its ISO text, an object with a `toJSON` what that
 * returns, a property that is `undefined` is left out, and an input or result that is `undefined` is `null`.
 */

import { shown } from './durations.js';
import { InvalidPayload } from './errors.js';
import * as plain from './plain.js';
import { isOf } from './verdicts.js';

/** What the path of a result begins with. @internal */
export const RESULT = 'the result of ';

/** What a value lacks a form for, and what to do instead. */
const HINTS: Array<[(value: object) => boolean, string]> = [
  [(value) => value instanceof Map, 'pass Object.fromEntries(map), or [...map]'],
  [(value) => value instanceof Set, 'pass [...set]'],
  [(value) => value instanceof RegExp, 'pass its source'],
  [(value) => value instanceof Error, 'pass its message'],
  [(value) => value instanceof Promise, 'await it first'],
  [(value) => value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef, 'leave it out'],
  [(value) => ArrayBuffer.isView(value) || value instanceof ArrayBuffer, "pass text, such as Buffer.from(bytes).toString('base64')"],
];

function refuse(path: string, what: string, hint: string): never {
  throw unsayable(path, `is ${what}, which JSON cannot say`, { hint });
}

/** An error of an input, or of a result. */
function unsayable(path: string, what: string, details: { hint?: string; cause?: unknown }): InvalidPayload {
  return new InvalidPayload(`${path} ${what}`, { code: path.startsWith(RESULT) ? 'TL1204' : 'TL1202', ...details });
}

/** Looks at every value, and says where the first one is that cannot be encoded. */
function check(value: unknown, path: string, above: object[]): void {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return;
    case 'number':
      if (!Number.isFinite(value)) refuse(path, String(value), 'pass null, or a text');
      return;
    case 'bigint':
      return refuse(path, `a BigInt (${shown(value)})`, 'pass a number, or a text');
    case 'function':
      return refuse(path, shown(value), 'pass data: a handler is called by its name');
    case 'symbol':
      return refuse(path, `a symbol (${String(value)})`, 'pass a text');
    case 'undefined':
      return refuse(path, 'undefined', 'pass null');
  }
  if (value === null) return;
  const object = value as object;
  if (above.includes(object)) {
    throw unsayable(path, 'contains itself, which JSON cannot say', { hint: 'pass ids, or a copy without the cycle' });
  }
  if (object instanceof Date && Number.isNaN(object.getTime())) refuse(path, 'an invalid Date', 'pass null');
  const toJSON = (object as { toJSON?: unknown }).toJSON;
  if (typeof toJSON === 'function') {
    const said: unknown = toJSON.call(object, '');
    if (said !== object) return ArrayBuffer.isView(object) ? typed(path, object) : check(said, path, [...above, object]);
  }
  if (object instanceof Number || object instanceof String || object instanceof Boolean) {
    return check(object.valueOf(), path, above);
  }
  typed(path, object);
  const inside = [...above, object];
  if (Array.isArray(object)) {
    // Not forEach: it leaves out holes, and JSON would make null of them.
    for (let place = 0; place < object.length; place++) check(object[place], `${path}[${place}]`, inside);
    return;
  }
  for (const key of Object.keys(object)) {
    const own = (object as Record<string, unknown>)[key];
    if (own !== undefined) check(own, /^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`, inside);
  }
}

function typed(path: string, object: object): void {
  for (const [is, hint] of HINTS) if (is(object)) refuse(path, shown(object), hint);
}

/** What the last call of {@link encode} has encoded, as whoever decodes it finds it. @internal */
export let copied: unknown;

/** Encodes what JSON says as it is; nothing if that asks for a closer look. */
function encodePlain(value: unknown): string | undefined {
  const start = plain.length;
  if (!plain.writePlain(value)) return undefined;
  copied = plain.written;
  const text = plain.text(start, plain.length - start);
  plain.takeBack(start);
  return text;
}

/** Encodes; `path` is what the value is called in messages. @internal */
export function encode(value: unknown, path: string): string {
  const plain = encodePlain(value);
  if (plain !== undefined) return plain;
  try {
    check(value, path, []);
  } catch (error) {
    if (error instanceof InvalidPayload) throw error;
    if (isOf(error, RangeError) && (error as RangeError).message.includes('call stack')) refuse(path, 'nested too deeply', 'flatten it');
    // What it throws that was asked for: a getter, a toJSON, a proxy.
    throw unsayable(path, `cannot be read: ${isOf(error, Error) ? (error as Error).message : shown(error)}`, { cause: error });
  }
  let text: string;
  try {
    text = JSON.stringify(value) ?? 'null';
  } catch (error) {
    if (error instanceof RangeError) refuse(path, 'nested too deeply, or too long', 'pass less at once');
    throw unsayable(path, `cannot be encoded: ${error instanceof Error ? error.message : shown(error)}`, { cause: error });
  }
  copied = JSON.parse(text);
  return text;
}
