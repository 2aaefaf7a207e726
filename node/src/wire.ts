/**
 * How messages to and from the native half are written down. `bindings/node/src/wire.rs` is the other side, and must be
 * changed along with this.
 *
 * @internal
 */

/** What we say. */
export const Command = {
  submit: 1,
  submitMany: 2,
  succeeded: 3,
  failed: 4,
  request: 5,
  submitChild: 6,
  submitPlain: 7,
  succeededPlain: 8,
  submitManyPlain: 9,
} as const;

/** Which lines a submit has besides its payload; `keys`: before each payload of many its key in JSON, or nothing. */
export const Flag = { options: 1, byName: 2, keys: 4 } as const;

/** What comes before what we hear: how many words follow, whether to come again at once, how many submits there is room for. */
export const HEAD = 3;

/** What we hear. */
export const News = {
  accepted: 1,
  refused: 2,
  start: 3,
  succeeded: 4,
  ended: 5,
  callOff: 6,
  answer: 7,
  refusal: 8,
  events: 9,
  hook: 10,
  blocked: 11,
  startOwn: 12,
  succeededOwn: 13,
  thread: 14,
} as const;

const hex: string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

function group(word: number): string {
  return hex[word >>> 24] + hex[(word >>> 16) & 255] + hex[(word >>> 8) & 255] + hex[word & 255];
}

/** The id that stands in four words. */
export function idAt(words: Uint32Array, at: number): string {
  const second = group(words[at + 1]);
  const third = group(words[at + 2]);
  return `${group(words[at])}-${second.slice(0, 4)}-${second.slice(4)}-${third.slice(0, 4)}-${third.slice(4)}${group(words[at + 3])}`;
}
