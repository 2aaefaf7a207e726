/** Spans of time as people write them. */

import { InvalidOptions } from './errors.js';

/** Milliseconds, or a text such as `'500ms'`, `'30s'`, `'1h 30m'` or `'3 days'`. */
export type Duration = number | string;

const UNITS: Record<string, number> = {};
for (const [names, millis] of [
  ['ms msec msecs millisecond milliseconds', 1],
  ['s sec secs second seconds', 1_000],
  ['m min mins minute minutes', 60_000],
  ['h hr hrs hour hours', 3_600_000],
  ['d day days', 86_400_000],
  ['w week weeks', 604_800_000],
] as const) {
  for (const name of names.split(' ')) UNITS[name] = millis;
}

const FORM = "milliseconds, or a text such as '500ms', '30s', '1h 30m' or '3 days'";

/** The core counts no further; in milliseconds. */
const MOST = 1e22;

/** A span in seconds, as the core takes it. `name` is the option that it was given for. @internal */
export function seconds(name: string, value: unknown, wanted?: string): number {
  const span = millis(name, value, wanted);
  if (span < MOST) return span / 1000;
  throw new InvalidOptions(`${name} is ${shown(value)}; it must be a duration of less than ${MOST} milliseconds`, { hint: 'for no limit, leave it out' });
}

/** A span in milliseconds. `name` is the option that it was given for, `wanted` what may be given. @internal */
export function millis(name: string, value: unknown, wanted = 'a duration'): number {
  const wrong = (what: string): InvalidOptions =>
    new InvalidOptions(`${name} is ${shown(value)}; it must be ${what}`, { hint: `durations are ${FORM}` });
  const endless = (): InvalidOptions =>
    new InvalidOptions(`${name} is ${shown(value)}; it must be a duration that ends`, { hint: `durations are ${FORM}; for none, leave it out` });
  if (typeof value === 'number') {
    if (!(value >= 0)) throw wrong('a duration of at least 0');
    if (value === Infinity) throw endless();
    return value;
  }
  if (typeof value !== 'string') throw wrong(wanted);
  const form = /(\d+(?:\.\d+)?)\s*([a-z]+)\s*/gy;
  const text = value.trim().toLowerCase();
  let total = 0;
  let end = 0;
  for (let part = form.exec(text); part !== null; part = form.exec(text)) {
    const unit = UNITS[part[2]];
    if (unit === undefined) throw wrong(wanted);
    total += Number(part[1]) * unit;
    end = form.lastIndex;
  }
  if (end === 0 || end !== text.length) throw wrong(wanted);
  if (total === Infinity) throw endless();
  return total;
}

/** The time of a Date. @internal */
export function timeOf(name: string, at: unknown): number {
  const time = at instanceof Date ? at.getTime() : NaN;
  if (!Number.isNaN(time)) return time;
  throw new InvalidOptions(`${name} is ${at instanceof Date ? 'an invalid Date' : shown(at)}; it must be a Date`, {
    hint: "such as new Date('2026-03-29T01:00:00Z')",
  });
}

/** How long to wait for a span, or until a time. @internal */
export function waitFor(when: number | string | Date): number {
  if (!(when instanceof Date)) return millis('RetryAfter', when);
  const time = when.getTime();
  if (Number.isNaN(time)) {
    throw new InvalidOptions('RetryAfter was given an invalid Date', { hint: 'it takes a duration, or a Date that tells a time' });
  }
  return Math.max(0, time - Date.now());
}

/** A value in a message: short, and never failing. @internal */
export function shown(value: unknown): string {
  let text: string;
  try {
    if (typeof value === 'string') text = JSON.stringify(value);
    else if (typeof value === 'bigint') text = `${value}n`;
    else if (typeof value === 'function') text = value.name ? `the function ${value.name}` : 'a function';
    else if (typeof value === 'object' && value !== null) {
      const name = Object.getPrototypeOf(value)?.constructor?.name;
      text = typeof name === 'string' && name !== 'Object' && name !== 'Array' ? `a ${name}` : JSON.stringify(value);
    } else text = String(value);
  } catch {
    text = `a value of type ${typeof value}`;
  }
  return text.length > 80 ? `${text.slice(0, 77).toWellFormed()}…` : text;
}
