/**
 * Lines of JSON for the native half.
 *
 * What is asked of it must arrive as it was said: JSON would make `null` of NaN and of the infinities, and `{}` of a Map, and
 * the native half could not read half a character. So a line that asks for something is refused with the name of what JSON
 * has no form for ({@link line}). A line that tells of something that has happened, as of an error, must arrive whatever is
 * in it: there half a character becomes `�` ({@link tellable}).
 *
 * @internal
 */

import { shown } from './durations.js';
import { InvalidOptions } from './errors.js';

/** Parts of lines that are no part of the names of what is in them. */
const GROUPS = ['options', 'values', 'limit'];

/** Half a character, as `JSON.stringify` writes it; and any other escape, so that a backslash is not taken for its beginning. */
const ESCAPES = /\\(?:(ud[89a-f][\da-f]{2})|.)/g;

/** What is asked of the native half, as it reads it. Throws `InvalidOptions` for what JSON has no form for. @internal */
export function line(asked: object): string {
  checkFields(asked, '');
  return JSON.stringify(asked);
}

/** The same of a single text, which has this name. @internal */
export function textLine(name: string, text: string): string {
  checkText(name, text);
  return JSON.stringify(text);
}

/** JSON that tells of something, so that the native half can read it. @internal */
export function tellable(json: string): string {
  return json.includes('\\ud') ? json.replace(ESCAPES, (escape, half?: string) => (half === undefined ? escape : '\ufffd')) : json;
}

/** Refuses a text that has half a character in it. @internal */
export function checkText(name: string, text: string): void {
  if (text.isWellFormed()) return;
  throw new InvalidOptions(`${name} is ${shown(text)}, which has half a character in it (a lone surrogate)`, {
    hint: 'it was cut in the middle of a character: cut [...text] instead, or pass text.toWellFormed()',
  });
}

function checkFields(fields: object, path: string): void {
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null) continue;
    const isGroup = path === '' && typeof value === 'object' && GROUPS.includes(name);
    check(value, isGroup ? '' : path === '' ? optionName(name) : `${path}.${name}`);
    if (!name.isWellFormed()) checkText(`a name in ${path}`, name);
  }
}

/** What the option is called here whose name this is in the core. */
function optionName(name: string): string {
  return name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function check(value: unknown, path: string): void {
  switch (typeof value) {
    case 'boolean':
      return;
    case 'string':
      return checkText(path, value);
    case 'number':
      if (!Number.isFinite(value)) throw new InvalidOptions(`${path} is ${value}; it must be a finite number`);
      return;
    case 'object':
      if (Array.isArray(value)) return value.forEach((item, place) => item !== null && check(item, `${path}[${place}]`));
      if (isFields(value)) return checkFields(value, path);
  }
  throw new InvalidOptions(`${path} is ${shown(value)}, which no option can be`);
}

/** Whether a value is an object of names and values, and so neither a Map nor a Date, of which JSON would tell nothing. @internal */
export function isFields(value: unknown): value is Record<string, unknown> {
  return Object.prototype.toString.call(value) === '[object Object]';
}
