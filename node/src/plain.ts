/**
 * Values that JSON says as they are, copied and encoded in one walk.
 *
 * The text goes straight into bytes that the native half reads where they are: no string is made of it, none is joined,
 * and none is decoded. The copy is what `JSON.parse` would make of the text, and cheaper: what runs on this very thread is
 * given that.
 *
 * What `JSON.stringify` would change, leave out or refuse is not written here: `payload.ts` takes a closer look at it.
 *
 * @internal
 */

/** How deep objects are walked before cycles are looked for. */
const DEEP = 64;

/** A text longer than this is left to what V8 has for long texts. */
const LONG = 256;

/** The longest that a number or a word of JSON is, with what stands beside it. */
const ROOM = 32;

/** More room than this is not kept. */
const LARGE = 1 << 20;

/** Stands for what asks for a closer look. */
const UNCLEAR = Symbol('unclear');

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const hasOwn = Object.prototype.hasOwnProperty;

/** What was written since it was handed over last. */
export let bytes = new Uint8Array(1 << 16);

/** How many bytes that is. */
export let length = 0;

/** What the last call of {@link writePlain} has written, as whoever decodes it finds it. */
export let written: unknown;

/** Whether a value is being written: then nothing can be handed over. What a getter does in the midst of that finds it. */
export let isWriting = false;

/** Appends a value; or says that it asks for a closer look, and appends nothing. */
export function writePlain(value: unknown): boolean {
  if (isWriting) return false;
  const start = length;
  let isWritten = false;
  isWriting = true;
  try {
    written = write(value === undefined ? null : value, 0);
    isWritten = written !== UNCLEAR;
  } catch {
    // A getter, or a proxy: a closer look says where.
  } finally {
    isWriting = false;
    if (!isWritten) length = start;
  }
  return isWritten;
}

/** So many bytes of what was written, as text. */
export function text(start: number, size: number): string {
  return decoder.decode(bytes.subarray(start, start + size));
}

/** Takes back what was written from there on. */
export function takeBack(start: number): void {
  length = start;
}

/** All that was written has been handed over. */
export function startAgain(): void {
  length = 0;
  if (bytes.length > LARGE) bytes = new Uint8Array(1 << 16);
}

function grow(room: number): void {
  const longer = new Uint8Array(Math.max(bytes.length * 2, length + room));
  longer.set(bytes);
  bytes = longer;
}

function writeWord(word: string): void {
  const into = bytes;
  let at = length;
  for (let place = 0; place < word.length; place++) into[at++] = word.charCodeAt(place);
  length = at;
}

function writeText(text: string): void {
  const size = text.length;
  if (size <= LONG) {
    if (length + size + ROOM > bytes.length) grow(size + ROOM);
    const into = bytes;
    let at = length;
    into[at++] = 0x22;
    let place = 0;
    for (; place < size; place++) {
      const code = text.charCodeAt(place);
      if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) break;
      into[at++] = code;
    }
    if (place === size) {
      into[at++] = 0x22;
      length = at;
      return;
    }
  }
  const quoted = JSON.stringify(text);
  if (length + quoted.length * 3 + ROOM > bytes.length) grow(quoted.length * 3 + ROOM);
  length += encoder.encodeInto(quoted, bytes.subarray(length)).written;
}

function writeNumber(value: number): void {
  if (value < 10 && value >= 0 && (value | 0) === value) bytes[length++] = 0x30 + value;
  else writeWord(String(value));
}

/** Writes a value that is no object; what it is copied as. */
function writeScalar(value: unknown): unknown {
  if (length + ROOM > bytes.length) grow(ROOM);
  switch (typeof value) {
    case 'string':
      writeText(value);
      return value;
    case 'number':
      if (!Number.isFinite(value)) return UNCLEAR;
      // JSON knows no -0.
      writeNumber(value + 0);
      return value + 0;
    case 'boolean':
      writeWord(value ? 'true' : 'false');
      return value;
    case 'object':
      // The most frequent result.
      bytes[length] = 0x6e;
      bytes[length + 1] = 0x75;
      bytes[length + 2] = bytes[length + 3] = 0x6c;
      length += 4;
      return null;
    default:
      return UNCLEAR;
  }
}

function write(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return writeScalar(value);
  if (depth > DEEP) return UNCLEAR;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (Array.isArray(value)) return prototype === Array.prototype ? writeItems(value, depth) : UNCLEAR;
  if (prototype !== Object.prototype && prototype !== null) return UNCLEAR;
  if (Object.getOwnPropertySymbols(value).length > 0) return UNCLEAR;
  return writeFields(value as Record<string, unknown>, depth);
}

function writeItems(value: unknown[], depth: number): unknown {
  // Spread first and then gone through, as objects are: so the copy has the shape of its original at once.
  const items: unknown[] = [...value];
  if (length + ROOM > bytes.length) grow(ROOM);
  bytes[length++] = 0x5b;
  for (let place = 0; place < items.length; place++) {
    if (place > 0) bytes[length++] = 0x2c;
    const item = items[place];
    if (typeof item === 'string') {
      writeText(item);
    } else {
      const own = write(item, depth + 1);
      if (own === UNCLEAR) return UNCLEAR;
      if (typeof item !== 'boolean' && (typeof item !== 'number' || item === 0)) items[place] = own;
    }
    if (length + ROOM > bytes.length) grow(ROOM);
  }
  bytes[length++] = 0x5d;
  return items;
}

function writeFields(value: Record<string, unknown>, depth: number): unknown {
  const fields: Record<string, unknown> = { ...value };
  if (length + ROOM > bytes.length) grow(ROOM);
  let [isFirst, isLacking] = [true, false];
  bytes[length++] = 0x7b;
  for (const key in fields) {
    if (!hasOwn.call(fields, key)) continue;
    const field = fields[key];
    if (field === undefined) {
      isLacking = true;
      continue;
    }
    if (isFirst) isFirst = false;
    else bytes[length++] = 0x2c;
    writeText(key);
    bytes[length++] = 0x3a;
    if (typeof field === 'string') {
      writeText(field);
    } else {
      const own = write(field, depth + 1);
      if (own === UNCLEAR) return UNCLEAR;
      if (typeof field !== 'boolean' && (typeof field !== 'number' || field === 0)) fields[key] = own;
    }
    if (length + ROOM > bytes.length) grow(ROOM);
  }
  bytes[length++] = 0x7d;
  return isLacking ? Object.fromEntries(Object.entries(fields).filter(([, field]) => field !== undefined)) : fields;
}
