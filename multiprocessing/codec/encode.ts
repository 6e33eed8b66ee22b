/**
 * Writes a value as the bytes of a message: the sending half of the codec (`decode.ts` is the other).
 *
 * The format is described in `mod.ts`. State lives in module variables, not in an object passed along: a
 * message is written in one synchronous go, and both engines reach a module variable faster than a field.
 * An accessor of the value may call {@link encode} itself; the state is then set aside and put back.
 *
 * @module
 */

/**
 * A handle is an object with a method under this key that returns its {@link HandleId}: a lock, a queue and
 * so on. It is written as three numbers, and made anew by the receiver's `revive`. What lives outside the session
 * returns a {@link NamedId}, and is found by the receiver under that name.
 */
export const kHandle: unique symbol = Symbol.for("geventmp.handle");

/** What a handle is on the wire: which kind of object, and where in the session's shared memory it is. */
export interface HandleId {
  /** Kind of object, 0 to 255. */
  readonly kind: number;
  /** Block of the arena that the object lives in, 0 to 2^32 - 1. */
  readonly block: number;
  /** Generation of that block, 0 to 2^32 - 1. */
  readonly generation: number;
}

/** What an object that belongs to the machine is on the wire: which kind, and its name there. */
export interface NamedId {
  /** Kind of object, 0 to 255. */
  readonly kind: number;
  /** What the receiver opens. */
  readonly name: string;
}

/**
 * An encoded value, ready to be written.
 *
 * It is valid until the next {@link encode} of this agent, because it lies in memory that every call uses
 * anew; afterwards each method throws. `keep()` makes it last. Buffers of 1 KiB and more are not copied by
 * `encode`, nor by `keep`: they are read when the message is written, so what the program changes in them
 * in between is what is sent.
 */
export interface Encoded {
  /** Size of the whole message, in bytes. */
  readonly byteLength: number;
  /** The handles to blocks met in the value, each once, in the order met. Empty (and shared) when there are none. */
  readonly handles: readonly object[];
  /**
   * Writes the whole message.
   *
   * @param target Memory to write to.
   * @param offset Where in `target` the message begins, in bytes.
   * @throws {RangeError} When the message does not fit.
   * @throws {TypeError} When the message is no longer valid, or a buffer in it was detached or shrunk since.
   */
  writeTo(target: Uint8Array, offset: number): void;
  /**
   * Writes the bytes `from` (included) to `to` (excluded) of the message, so that a message larger than
   * its channel goes in pieces. Pieces may be written in any order.
   *
   * @param target Memory to write to.
   * @param offset Where in `target` byte `from` of the message goes, in bytes.
   * @param from First byte of the message to write.
   * @param to End of the bytes to write, at most `byteLength`.
   * @throws {RangeError} When the range is not in the message, or does not fit into `target`.
   * @throws {TypeError} When the message is no longer valid, or a buffer in it was detached or shrunk since.
   */
  writePart(target: Uint8Array, offset: number, from: number, to: number): void;
  /**
   * The message without its large buffers, copied, and these buffers, not copied: what `decode` takes as `source` and `apart`, so that a large
   * buffer goes straight to where it is to stay.
   *
   * @throws {TypeError} When the message is no longer valid.
   */
  parts(): {
    rest: Uint8Array;
    buffers: { /** Where in `rest` it was taken out. */ at: number; data: Uint8Array }[];
  };
  /**
   * Makes the message outlive the next `encode()`, by a copy of everything but its large buffers.
   *
   * @throws {TypeError} When it is too late: the message is no longer valid.
   */
  keep(): void;
}

/** Nesting allowed in a message, in levels. As deep as a stack of half a megabyte carries unoptimized code. */
export const MAX_DEPTH = 1000;

/** Strings shorter than this, in UTF-16 units, are written by a loop; longer ones by the runtime. */
const SHORT_STRING = 32;
/** Strings of this length and more, in UTF-16 units, become a piece of their own. */
const LARGE_STRING = 65536;
/** Buffers of this size and more, in bytes, are not copied into the scratch. */
export const LARGE_BUFFER = 1024;
/**
 * Arrays longer than this travel without their named properties: to learn that there are none takes JavaScriptCore
 * 80 ns an element, which is more than all else that is done for it.
 */
const NAMED_ARRAY = 64;
/** Arrays longer than this write what follows their first hole as pairs of index and value. */
const SPARSE_ARRAY = 1024;
const FIRST_SCRATCH = 8192;
/** A scratch that grew past this is let go after its message. */
const LARGEST_KEPT_SCRATCH = 1 << 20;
/** Identity is looked up by a scan of this many objects at most, by a Map beyond. */
const SCANNED = 12;

const MAX_SHAPE_KEYS = 32;
const MAX_SHAPE_BYTES = 255;
const SHAPE_SLOTS = 256;

const NO_HANDLES: readonly object[] = Object.freeze([]);
const objectPrototype: object = Object.prototype;
const bufferPrototype: object = ArrayBuffer.prototype;
const { getPrototypeOf, getOwnPropertyDescriptor, keys: keysOf, hasOwn } = Object;
const { isArray } = Array;
const { isView } = ArrayBuffer;

/** Bytes that stand after byte `at` of the scratch, without being in it. */
interface Piece {
  readonly at: number;
  readonly data: Uint8Array;
  readonly byteLength: number;
  /** Whether it is a buffer of the value, rather than text. */
  readonly isBuffer: boolean;
}

/** A buffer of the message, and the range of it that the message needs. */
interface BufferUse {
  readonly buffer: ArrayBuffer;
  from: number;
  to: number;
  /** Largest element of a view over it, in bytes: where the range may begin. */
  alignment: number;
}

/** A list of keys that objects share: its bytes are made once. */
interface Shape {
  readonly keys: readonly string[];
  readonly block: Uint8Array;
  /** Message that defined this shape last, and its number there. */
  message: number;
  id: number;
}

type PathStep = string | number | { readonly text: string };

// The message being written.
let bytes = new Uint8Array(FIRST_SCRATCH);
let floats = new DataView(bytes.buffer);
let capacity = FIRST_SCRATCH;
let at = 0;
let message = 0;
let shapeCount = 0;
let refUsed = false;
let seenCount = 0;
let seen: unknown[] = [];
let seenMap: Map<object, number> | undefined;
let path: PathStep[] = [];
let handles: object[] | undefined;
let buffers: BufferUse[] | undefined;
let bufferMap: Map<ArrayBuffer, number> | undefined;
let pieces: Piece[] | undefined;
let pieceBytes = 0;

/** True while a message is being written. */
let busy = false;
/** Number of messages begun by this agent. */
let messageCount = 0;
/** The message whose bytes are in the scratch. */
let valid = 0;

const shapes: (Shape | undefined)[] = new Array(SHAPE_SLOTS);
let textEncoder: TextEncoder | undefined;

/**
 * Writes a value, as `structuredClone` would copy it, into memory that this agent uses for every message.
 *
 * @param value What to send: see `mod.ts` for what is carried.
 * @returns The message, valid until the next call.
 * @throws {TypeError} When something in the value cannot be copied to another process; the message names
 * the path to it.
 * @throws {RangeError} When the value nests deeper than {@link MAX_DEPTH}.
 * @throws Whatever an accessor of the value throws.
 */
export function encode(value: unknown): Encoded {
  if (busy) return encodeNested(value);
  busy = true;
  valid = 0;
  try {
    return writeMessage(value);
  } finally {
    busy = false;
    forget();
  }
}

/** Writes a message inside another one: called by an accessor of the value being written. */
function encodeNested(value: unknown): Encoded {
  const outer = {
    bytes,
    floats,
    capacity,
    at,
    message,
    shapeCount,
    refUsed,
    seenCount,
    seen,
    seenMap,
    path,
    handles,
    buffers,
    bufferMap,
    pieces,
    pieceBytes,
  };
  useScratch(512);
  seenCount = 0;
  seen = [];
  path = [];
  seenMap = undefined;
  handles = undefined;
  buffers = undefined;
  bufferMap = undefined;
  pieces = undefined;
  pieceBytes = 0;
  try {
    return writeMessage(value);
  } finally {
    ({
      bytes,
      floats,
      capacity,
      at,
      message,
      shapeCount,
      refUsed,
      seenCount,
      seen,
      seenMap,
      path,
      handles,
      buffers,
      bufferMap,
      pieces,
      pieceBytes,
    } = outer);
  }
}

function writeMessage(value: unknown): Encoded {
  message = ++messageCount;
  shapeCount = 0;
  refUsed = false;
  at = 1;
  write(value, 0);
  let flags = refUsed ? 2 : 0;
  if (buffers !== undefined) {
    flags |= 1;
    writeBuffers(buffers);
  }
  bytes[0] = flags;
  valid = message;
  return new Message(message, bytes, at, pieces, pieceBytes, handles ?? NO_HANDLES);
}

/** Lets go of everything that belongs to the value, so that the codec keeps no object alive. */
function forget(): void {
  if (seenCount !== 0) {
    if (seenMap === undefined) {
      for (let i = 0; i < seenCount; i++) seen[i] = undefined;
    } else {
      seen = [];
      path = [];
      seenMap = undefined;
    }
    seenCount = 0;
    handles = undefined;
    buffers = undefined;
    bufferMap = undefined;
  }
  pieces = undefined;
  pieceBytes = 0;
  // The message just made holds the large scratch for as long as it lives; the next one starts small.
  if (capacity > LARGEST_KEPT_SCRATCH) useScratch(FIRST_SCRATCH);
}

function useScratch(size: number): void {
  bytes = new Uint8Array(size);
  floats = new DataView(bytes.buffer);
  capacity = size;
}

/** Makes room for `needed` bytes more. */
function grow(needed: number): void {
  const old = bytes;
  useScratch(Math.max(capacity * 2, at + needed + 64));
  bytes.set(old.subarray(0, at));
}

function write(value: unknown, depth: number): void {
  if (at + 16 > capacity) grow(16);
  switch (typeof value) {
    case "number":
      return writeNumber(value);
    case "string":
      return writeString(value);
    case "object":
      if (value === null) bytes[at++] = 0x81;
      else writeObject(value, depth);
      return;
    case "boolean":
      bytes[at++] = value ? 0x82 : 0x83;
      return;
    case "undefined":
      bytes[at++] = 0x80;
      return;
    case "bigint":
      return writeBigInt(value);
    case "function":
      throw refusal(depth, "a function cannot be copied to another process; send a task or data");
    default:
      throw refusal(depth, "a symbol cannot be copied to another process; send a string");
  }
}

/** Needs room for 9 bytes. */
function writeNumber(value: number): void {
  if ((value | 0) === value && (value !== 0 || 1 / value > 0)) {
    if (value >= 0 && value < 64) {
      bytes[at++] = value;
    } else if (value >= 0 && value < 256) {
      bytes[at] = 0x84;
      bytes[at + 1] = value;
      at += 2;
    } else if (value >= -32768 && value < 32768) {
      bytes[at] = 0x85;
      bytes[at + 1] = value;
      bytes[at + 2] = value >> 8;
      at += 3;
    } else {
      bytes[at] = 0x86;
      bytes[at + 1] = value;
      bytes[at + 2] = value >> 8;
      bytes[at + 3] = value >> 16;
      bytes[at + 4] = value >> 24;
      at += 5;
    }
  } else if (value === value) {
    bytes[at] = 0x87;
    floats.setFloat64(at + 1, value, true);
    at += 9;
  } else {
    // NaN has many bit patterns, and which one a computation leaves differs between engines.
    bytes[at++] = 0x88;
  }
}

function writeBigInt(value: bigint): void {
  if (BigInt.asIntN(64, value) === value) {
    bytes[at] = 0x89;
    floats.setBigInt64(at + 1, value, true);
    at += 9;
    return;
  }
  const negative = value < 0n;
  // Hexadecimal is the one form that engines make and read in time proportional to its length.
  const digits = (negative ? -value : value).toString(16);
  const size = (digits.length + 1) >> 1;
  if (at + size + 16 > capacity) grow(size + 16);
  bytes[at++] = negative ? 0x8b : 0x8a;
  writeVarint(size);
  for (let end = digits.length; end > 0; end -= 2) {
    const high = end > 1 ? hexDigit(digits.charCodeAt(end - 2)) : 0;
    bytes[at++] = (high << 4) | hexDigit(digits.charCodeAt(end - 1));
  }
}

function hexDigit(code: number): number {
  return code < 58 ? code - 48 : code - 87;
}

/** Needs room for 8 bytes. At most 2^53 - 1. */
function writeVarint(value: number): void {
  while (value >= 128) {
    bytes[at++] = (value & 127) | 128;
    value = value < 0x80000000 ? value >>> 7 : Math.floor(value / 128);
  }
  bytes[at++] = value;
}

function writeString(text: string): void {
  const length = text.length;
  if (length >= SHORT_STRING) return writeLongString(text);
  if (at + length + 1 > capacity) grow(length + 1);
  const target = bytes;
  const start = at + 1;
  let i = 0;
  for (; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255) break;
    target[start + i] = code;
  }
  if (i < length) return writeWideString(text);
  target[at] = 0x40 | length;
  at = start + length;
}

function writeLongString(text: string): void {
  // UTF-8 has no place for a lone surrogate.
  if (!text.isWellFormed()) return writeWideString(text);
  textEncoder ??= new TextEncoder();
  const length = text.length;
  if (length >= LARGE_STRING) {
    const data = textEncoder.encode(text);
    if (at + 16 > capacity) grow(16);
    bytes[at++] = 0x8d;
    writeVarint(data.byteLength);
    addPiece(data, false);
    return;
  }
  if (at + 3 * length + 16 > capacity) grow(3 * length + 16);
  // Room for a length of three bytes, which is as much as 3 * 65535 needs.
  const start = at + 4;
  const { written } = textEncoder.encodeInto(text, bytes.subarray(start));
  bytes[at] = 0x8d;
  bytes[at + 1] = (written & 127) | 128;
  bytes[at + 2] = ((written >> 7) & 127) | 128;
  bytes[at + 3] = written >> 14;
  at = start + written;
}

function writeWideString(text: string): void {
  const length = text.length;
  const large = length >= LARGE_STRING;
  if (at + 16 > capacity) grow(16);
  bytes[at++] = 0x8c;
  writeVarint(length);
  if (!large && at + 2 * length > capacity) grow(2 * length);
  const target = large ? new Uint8Array(2 * length) : bytes;
  let to = large ? 0 : at;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    target[to] = code;
    target[to + 1] = code >> 8;
    to += 2;
  }
  if (large) addPiece(target, false);
  else at = to;
}

function addPiece(data: Uint8Array, isBuffer: boolean): void {
  (pieces ??= []).push({ at, data, byteLength: data.byteLength, isBuffer });
  pieceBytes += data.byteLength;
}

function writeObject(value: object, depth: number): void {
  if (seenMap === undefined) {
    for (let i = 0; i < seenCount; i++) {
      if (seen[i] === value) return writeReference(i);
    }
    seen[seenCount++] = value;
    if (seenCount > SCANNED) {
      seenMap = new Map();
      for (let i = 0; i < seenCount; i++) seenMap.set(seen[i] as object, i);
    }
  } else {
    const id = seenMap.get(value);
    if (id !== undefined) return writeReference(id);
    seenMap.set(value, seenCount++);
  }
  if (depth >= MAX_DEPTH) {
    throw new RangeError(
      `Cannot send ${pathText(12)}...: the value nests more than ${MAX_DEPTH} levels deep; ` +
        "send it as a flat list",
    );
  }
  const prototype = getPrototypeOf(value) as object | null;
  if (prototype === objectPrototype || prototype === null) {
    if (typeof (value as Partial<Handle>)[kHandle] === "function") writeHandle(value as Handle);
    else writeProperties(value as Record<string, unknown>, depth);
  } else if (isArray(value)) {
    writeArray(value, depth);
  } else {
    writeSpecial(value, prototype, depth);
  }
}

interface Handle {
  [kHandle](): HandleId | NamedId;
}

function writeReference(id: number): void {
  refUsed = true;
  bytes[at++] = 0x90;
  writeVarint(id);
}

function writeHandle(handle: Handle): void {
  const id = handle[kHandle]();
  // The method above may have encoded something; it put the scratch back, but the room was checked before.
  if (at + 16 > capacity) grow(16);
  const { kind } = id;
  if ("name" in id) {
    bytes[at++] = 0xa3;
    bytes[at++] = kind;
    return writeString(id.name);
  }
  const { block, generation } = id;
  bytes[at] = 0x91;
  bytes[at + 1] = kind;
  floats.setUint32(at + 2, block, true);
  floats.setUint32(at + 6, generation, true);
  at += 10;
  (handles ??= []).push(handle);
}

/** Writes own enumerable properties with string keys: what structured clone keeps of an object. */
function writeProperties(value: Record<string, unknown>, depth: number): void {
  const keys = keysOf(value);
  const count = keys.length;
  if (count === 0) {
    bytes[at++] = 0x92;
    return;
  }
  const shape = shapeOf(keys);
  if (shape === undefined) {
    bytes[at++] = 0x94;
    writePairs(value, keys, 0, depth);
    return;
  }
  if (shape.message === message) {
    if (shape.id < 16) {
      bytes[at++] = 0x70 | shape.id;
    } else {
      bytes[at++] = 0x95;
      writeVarint(shape.id);
    }
  } else {
    shape.message = message;
    shape.id = shapeCount++;
    const { block } = shape;
    const size = block.length;
    if (at + size + 4 > capacity) grow(size + 4);
    const target = bytes;
    const start = at + 3;
    target[at] = 0x93;
    target[at + 1] = count;
    target[at + 2] = size;
    for (let i = 0; i < size; i++) target[start + i] = block[i];
    at = start + size;
  }
  for (let i = 0; i < count; i++) {
    const key = keys[i];
    const property = value[key];
    if (property === undefined && !hasOwn(value, key)) {
      // An accessor of this value deleted it.
      writeHole();
    } else {
      path[depth] = key;
      write(property, depth + 1);
    }
  }
}

function writeHole(): void {
  if (at + 1 > capacity) grow(1);
  bytes[at++] = 0x8e;
}

/** Writes a count, then keys and values, beginning at key number `first`. */
function writePairs(value: object, keys: readonly string[], first: number, depth: number): void {
  if (at + 16 > capacity) grow(16);
  writeVarint(keys.length - first);
  for (let i = first; i < keys.length; i++) {
    const key = keys[i];
    if (at + 16 > capacity) grow(16);
    writeString(key);
    const property = (value as Record<string, unknown>)[key];
    if (property === undefined && !hasOwn(value, key)) {
      writeHole();
    } else {
      path[depth] = key;
      write(property, depth + 1);
    }
  }
}

/** The shape with these keys, or undefined when they are no fields but a dictionary's. */
function shapeOf(keys: readonly string[]): Shape | undefined {
  const count = keys.length;
  if (count > MAX_SHAPE_KEYS) return undefined;
  const first = keys[0];
  const last = keys[count - 1];
  const slot = (count * 7 + first.length * 31 + last.length * 57 + first.charCodeAt(0) * 13 +
    last.charCodeAt(last.length - 1) * 101) & (SHAPE_SLOTS - 1);
  const known = shapes[slot];
  if (known !== undefined) {
    const knownKeys = known.keys;
    if (knownKeys.length === count) {
      let i = 0;
      while (i < count && knownKeys[i] === keys[i]) i++;
      if (i === count) return known;
    }
  }
  const firstCode = first.charCodeAt(0);
  if (firstCode >= 48 && firstCode <= 57) return undefined;
  let size = count;
  for (const key of keys) size += key.length;
  if (size > MAX_SHAPE_BYTES) return undefined;
  const block = new Uint8Array(size);
  let to = 0;
  for (const key of keys) {
    block[to++] = key.length;
    for (let i = 0; i < key.length; i++) {
      const code = key.charCodeAt(i);
      if (code > 255) return undefined;
      block[to++] = code;
    }
  }
  return shapes[slot] = { keys, block, message: 0, id: 0 };
}

function writeArray(value: unknown[], depth: number): void {
  const { length } = value;
  const extra = length > NAMED_ARRAY ? undefined : extraKeys(value);
  if (extra !== undefined) {
    bytes[at++] = 0x97;
    writeVarint(length);
  } else if (length < 16) {
    bytes[at++] = 0x60 | length;
  } else {
    bytes[at++] = 0x96;
    writeVarint(length);
  }
  for (let i = 0; i < length; i++) {
    const element = value[i];
    if (typeof element === "number") {
      if (at + 16 > capacity) grow(16);
      writeNumber(element);
    } else if (element === undefined && !hasOwn(value, i)) {
      if (length > SPARSE_ARRAY) {
        writeSparse(value, i, depth);
        break;
      }
      writeHole();
    } else {
      path[depth] = i;
      write(element, depth + 1);
    }
  }
  if (extra !== undefined) writePairs(value, extra, 0, depth);
}

/** Writes the elements from index `from` on, of which most may be missing, as pairs of index and value. */
function writeSparse(value: unknown[], from: number, depth: number): void {
  const indexes: number[] = [];
  for (const key of keysOf(value)) {
    const index = Number(key);
    if (String(index >>> 0) !== key || index === 4294967295) break;
    if (index >= from) indexes.push(index);
  }
  if (at + 16 > capacity) grow(16);
  bytes[at++] = 0x98;
  writeVarint(indexes.length);
  for (const index of indexes) {
    if (at + 16 > capacity) grow(16);
    writeVarint(index);
    const element = value[index];
    if (element === undefined && !hasOwn(value, index)) {
      writeHole();
    } else {
      path[depth] = index;
      write(element, depth + 1);
    }
  }
}

/** The enumerable keys of an array that are no indexes, or undefined when there are none. */
function extraKeys(value: unknown[]): string[] | undefined {
  const keys = keysOf(value);
  if (keys.length === value.length && (keys.length === 0 || isIndex(keys[keys.length - 1]))) return undefined;
  let first = keys.length;
  while (first > 0 && !isIndex(keys[first - 1])) first--;
  return first === keys.length ? undefined : keys.slice(first);
}

function isIndex(key: string): boolean {
  const code = key.charCodeAt(0);
  if (!(code >= 48 && code <= 57)) return false;
  const index = Number(key) >>> 0;
  return String(index) === key && index !== 4294967295;
}

// Everything below is off the path of the common values.

/** Kinds of object with a form of their own. */
const PLAIN = 0,
  DATE = 1,
  REGEXP = 2,
  MAP = 3,
  SET = 4,
  ERROR = 5,
  DOM_EXCEPTION = 6,
  BUFFER = 7,
  BOXED = 8,
  REFUSED = 9;

interface Kind {
  readonly id: number;
  /** Name of the class that decided it. */
  readonly name: string;
}

const PLAIN_KIND: Kind = { id: PLAIN, name: "Object" };

const KIND_OF_CLASS: Readonly<Record<string, number>> = {
  Date: DATE,
  RegExp: REGEXP,
  Map: MAP,
  Set: SET,
  Error: ERROR,
  ArrayBuffer: BUFFER,
  Boolean: BOXED,
  Number: BOXED,
  String: BOXED,
  BigInt: BOXED,
  DOMException: DOM_EXCEPTION,
};

/** The error classes of the language; the place in this list is the number on the wire. */
export const ERROR_NAMES: readonly string[] = [
  "Error",
  "EvalError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "TypeError",
  "URIError",
  "AggregateError",
];

/** The views; the place in this list is the number on the wire. */
export const VIEW_NAMES: readonly string[] = [
  "Int8Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "Float16Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
  "DataView",
];

/** What was found out about each prototype. */
const kinds: WeakMap<object, Kind> = new WeakMap();

function writeSpecial(value: object, prototype: object, depth: number): void {
  if (isView(value)) return writeView(value, depth);
  if (typeof (value as Partial<Handle>)[kHandle] === "function") return writeHandle(value as Handle);
  let kind = kinds.get(prototype);
  if (kind === undefined) {
    kind = kindOf(prototype);
    kinds.set(prototype, kind);
  }
  switch (kind.id) {
    case DATE:
      if (writeDate(value)) return;
      break;
    case REGEXP:
      if (writeRegExp(value)) return;
      break;
    case MAP:
      if (writeMap(value, depth)) return;
      break;
    case SET:
      if (writeSet(value, depth)) return;
      break;
    case ERROR:
      if (isError(value)) return writeError(value, depth);
      break;
    case DOM_EXCEPTION:
      if (brandOf(() => (value as DOMException).name, value) !== undefined) {
        return writeDOMException(value as DOMException);
      }
      break;
    case BUFFER:
      if (brandOf(bufferSize, value) === undefined) break;
      checkAttached(value as ArrayBuffer, depth);
      bytes[at++] = 0xa0;
      return writeVarint(useBuffer(value as ArrayBuffer, 0, (value as ArrayBuffer).byteLength, 1));
    case BOXED:
      if (writeBoxed(value, kind.name)) return;
      break;
    case REFUSED:
      throw refusal(depth, whyRefused(kind.name));
  }
  // A class instance, or an object that only inherits from a built-in class: a plain object, as in structured clone.
  writeProperties(value as Record<string, unknown>, depth);
}

/** What objects with this prototype are, by the first class of the language or the runtime they inherit from. */
function kindOf(prototype: object): Kind {
  for (let link: object | null = prototype; link !== null; link = getPrototypeOf(link)) {
    const parent: object | null = getPrototypeOf(link);
    const maker: unknown = getOwnPropertyDescriptor(link, "constructor")?.value;
    if (typeof maker !== "function") {
      // Generators and built-in iterators have no class of their own, but a tag that cannot be written.
      const tag = getOwnPropertyDescriptor(link, Symbol.toStringTag);
      if (tag !== undefined && typeof tag.value === "string" && tag.writable === false) {
        return { id: REFUSED, name: tag.value };
      }
      continue;
    }
    const { name } = maker;
    if (parent === null && name === "Object") break;
    if (!belongsToRuntime(maker as RuntimeClass, name)) continue;
    const id = ERROR_NAMES.includes(name)
      ? ERROR
      : hasOwn(KIND_OF_CLASS, name)
      ? KIND_OF_CLASS[name]
      : REFUSED;
    return { id, name };
  }
  // Files, sockets, listeners, timers: what must be closed belongs to one process.
  for (const symbol of [Symbol.dispose, Symbol.asyncDispose]) {
    if (symbol !== undefined && symbol in prototype) {
      return { id: REFUSED, name: (prototype.constructor as RuntimeClass | undefined)?.name ?? "resource" };
    }
  }
  return PLAIN_KIND;
}

type RuntimeClass = (...args: never[]) => unknown;

/** Whether a class is the engine's (from any realm), or a global of the runtime, and not the program's. */
function belongsToRuntime(maker: RuntimeClass, name: string): boolean {
  if (/\{\s*\[native code\]\s*\}$/.test(Function.prototype.toString.call(maker))) return true;
  if (!/^[A-Z]/.test(name)) return false;
  const scope = globalThis as unknown as Record<string, unknown>;
  for (const place of [scope, scope.Deno, scope.Bun]) {
    if (typeof place === "object" && place !== null && hasOwn(place, name)) {
      if ((place as Record<string, unknown>)[name] === maker) return true;
    }
  }
  return false;
}

/** The result of a built-in's method or getter when it accepts the object as its own, or undefined. */
function brandOf(method: ((this: never) => unknown) | undefined, value: object): unknown {
  if (method === undefined) return undefined;
  try {
    return method.call(value as never);
  } catch {
    return undefined;
  }
}

function getterOf(prototype: object, key: string | symbol): ((this: never) => unknown) | undefined {
  return getOwnPropertyDescriptor(prototype, key)?.get as ((this: never) => unknown) | undefined;
}

const bufferSize = getterOf(ArrayBuffer.prototype, "byteLength");
const mapSize = getterOf(Map.prototype, "size");
const setSize = getterOf(Set.prototype, "size");
const regExpSource = getterOf(RegExp.prototype, "source");
/** Gives the class's name of a typed array, and undefined for everything else. */
const viewName = getterOf(getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag) as (
  this: never,
) => unknown;

function writeDate(value: object): boolean {
  const time = brandOf(Date.prototype.getTime as (this: never) => unknown, value);
  if (time === undefined) return false;
  bytes[at++] = 0x99;
  writeNumber(time as number);
  return true;
}

function writeRegExp(value: object): boolean {
  // The getter of `source` accepts RegExp.prototype too, which is no regular expression.
  const source = value === RegExp.prototype ? undefined : brandOf(regExpSource, value);
  if (typeof source !== "string") return false;
  bytes[at++] = 0x9a;
  write(source, 0);
  write((value as RegExp).flags, 0);
  return true;
}

function writeMap(value: object, depth: number): boolean {
  if (brandOf(mapSize, value) === undefined) return false;
  // An accessor of an entry may change the map: the entries are those of now.
  const entries: unknown[] = [];
  Map.prototype.forEach.call(value as Map<unknown, unknown>, (item, key) => {
    entries.push(key, item);
  });
  bytes[at++] = 0x9b;
  writeVarint(entries.length / 2);
  for (let i = 0; i < entries.length; i += 2) {
    const key = entries[i];
    const item = entries[i + 1];
    if (!isPrimitive(key)) path[depth] = { text: `.keys()[${i / 2}]` };
    write(key, depth + 1);
    if (!isPrimitive(item)) path[depth] = { text: `.get(${keyText(key)})` };
    write(item, depth + 1);
  }
  return true;
}

function keyText(key: unknown): string {
  return typeof key === "string" ? JSON.stringify(key) : typeof key === "object" ? "..." : String(key);
}

function writeSet(value: object, depth: number): boolean {
  if (brandOf(setSize, value) === undefined) return false;
  const items: unknown[] = [];
  Set.prototype.forEach.call(value as Set<unknown>, (item) => {
    items.push(item);
  });
  bytes[at++] = 0x9c;
  writeVarint(items.length);
  for (let i = 0; i < items.length; i++) {
    if (!isPrimitive(items[i])) path[depth] = { text: `.values()[${i}]` };
    write(items[i], depth + 1);
  }
  return true;
}

function writeBoxed(value: object, name: string): boolean {
  const prototype = { Boolean, Number, String, BigInt }[name]?.prototype;
  const primitive = brandOf(prototype?.valueOf as ((this: never) => unknown) | undefined, value);
  if (primitive === undefined) return false;
  bytes[at++] = 0x9d;
  write(primitive, 0);
  return true;
}

function isError(value: object): boolean {
  const test = (Error as unknown as { isError?: (value: unknown) => boolean }).isError;
  return test !== undefined ? test(value) : Object.prototype.toString.call(value) === "[object Error]";
}

function writeError(value: object, depth: number): void {
  const error = value as Error & Record<string, unknown>;
  const name = String(error.name);
  let type = ERROR_NAMES.indexOf(name);
  const ownName = type < 0;
  if (ownName) {
    type = ERROR_NAMES.length - 1;
    while (type > 0 && !(inherits(value, ERROR_NAMES[type]))) type--;
  }
  const text = getOwnPropertyDescriptor(value, "message");
  const hasMessage = text !== undefined && hasOwn(text, "value");
  const { stack } = error;
  const cause = getOwnPropertyDescriptor(value, "cause");
  const errors = ERROR_NAMES[type] === "AggregateError"
    ? getOwnPropertyDescriptor(value, "errors")
    : undefined;
  // What tells errors apart for a program: `code`, `errno`, `syscall` and their like.
  const extra = keysOf(value).filter((key) =>
    key !== "name" && key !== "message" && key !== "stack" && key !== "cause" && key !== "errors" &&
    isPrimitive(getOwnPropertyDescriptor(value, key)?.value)
  );
  if (at + 16 > capacity) grow(16);
  bytes[at++] = 0x9e;
  bytes[at++] = type;
  bytes[at++] = (ownName ? 1 : 0) | (hasMessage ? 2 : 0) | (typeof stack === "string" ? 4 : 0) |
    (cause !== undefined ? 8 : 0) | (errors !== undefined ? 16 : 0) | (extra.length > 0 ? 32 : 0);
  if (ownName) write(name, 0);
  if (hasMessage) write(String(text.value), 0);
  if (typeof stack === "string") write(stack, 0);
  if (cause !== undefined) {
    path[depth] = "cause";
    write(error.cause, depth + 1);
  }
  if (errors !== undefined) {
    path[depth] = "errors";
    write(error.errors, depth + 1);
  }
  if (extra.length > 0) writePairs(value, extra, 0, depth);
}

function isPrimitive(value: unknown): boolean {
  const type = typeof value;
  return value === null || type === "string" || type === "number" || type === "boolean" || type === "bigint";
}

function inherits(value: object, name: string): boolean {
  for (let link: object | null = getPrototypeOf(value); link !== null; link = getPrototypeOf(link)) {
    const maker: unknown = getOwnPropertyDescriptor(link, "constructor")?.value;
    if (typeof maker === "function" && maker.name === name) return true;
  }
  return false;
}

function writeDOMException(value: DOMException): void {
  const { name, message: text, stack } = value;
  bytes[at++] = 0x9f;
  write(String(name), 0);
  write(String(text), 0);
  write(typeof stack === "string" ? stack : undefined, 0);
}

function writeView(view: ArrayBufferView, depth: number): void {
  const name = (viewName.call(view as never) as string | undefined) ?? "DataView";
  const type = VIEW_NAMES.indexOf(name);
  if (type < 0) throw refusal(depth, `a ${name} is not known to this version; send an array`);
  const { buffer } = view;
  if (getPrototypeOf(buffer) !== bufferPrototype && brandOf(bufferSize, buffer) === undefined) {
    throw refusal(depth, whyRefused("SharedArrayBuffer"));
  }
  checkAttached(buffer as ArrayBuffer, depth);
  const { byteOffset, byteLength } = view;
  const elementSize = name === "DataView" ? 1 : (view as Uint8Array).BYTES_PER_ELEMENT;
  const tracking = (buffer as ArrayBuffer).resizable === true &&
    tracksLength(view, buffer as ArrayBuffer, elementSize);
  const id = useBuffer(buffer as ArrayBuffer, byteOffset, byteOffset + byteLength, elementSize);
  if (at + 32 > capacity) grow(32);
  bytes[at++] = tracking ? 0xa2 : 0xa1;
  bytes[at++] = type;
  writeVarint(id);
  writeVarint(byteOffset);
  if (!tracking) writeVarint(byteLength / elementSize);
}

/**
 * Whether a view was made without a length, so that it follows the size of its buffer. The language has no question
 * for it, so the buffer is made one element larger (or smaller, when it is at its limit) and then put back.
 */
function tracksLength(view: ArrayBufferView, buffer: ArrayBuffer, elementSize: number): boolean {
  const size = buffer.byteLength;
  const before = view.byteLength;
  if (view.byteOffset + before + elementSize <= size) return false;
  const grows = size + elementSize <= buffer.maxByteLength;
  if (!grows && before <= elementSize) return false;
  const change = grows ? elementSize : -elementSize;
  const lost = grows ? undefined : new Uint8Array(buffer.slice(size - elementSize));
  try {
    buffer.resize(size + change);
  } catch {
    // WebAssembly's memory grows by pages and never shrinks.
    return false;
  }
  // Out of its buffer, a typed array has 0 bytes and a DataView throws.
  const after = brandOf(() => view.byteLength, view);
  buffer.resize(size);
  if (lost !== undefined) new Uint8Array(buffer, size - elementSize).set(lost);
  return after === before + change;
}

function checkAttached(buffer: ArrayBuffer, depth: number): void {
  if (buffer.byteLength === 0 && buffer.detached === true) {
    throw refusal(depth, "its ArrayBuffer was transferred away; send it before the transfer, or a copy");
  }
}

/** Notes that the message needs a range of a buffer, and gives the buffer's number in the message. */
function useBuffer(buffer: ArrayBuffer, from: number, to: number, alignment: number): number {
  if (buffer.resizable === true) {
    from = 0;
    to = buffer.byteLength;
  }
  const list = buffers ??= [];
  let id = -1;
  if (bufferMap !== undefined) {
    id = bufferMap.get(buffer) ?? -1;
  } else {
    for (let i = 0; i < list.length; i++) {
      if (list[i].buffer === buffer) id = i;
    }
  }
  if (id < 0) {
    list.push({ buffer, from, to, alignment });
    if (bufferMap !== undefined) bufferMap.set(buffer, list.length - 1);
    else if (list.length > SCANNED) bufferMap = new Map(list.map((use, i) => [use.buffer, i]));
    return list.length - 1;
  }
  const use = list[id];
  if (from < use.from) use.from = from;
  if (to > use.to) use.to = to;
  if (alignment > use.alignment) use.alignment = alignment;
  return id;
}

/** Writes the buffers behind the value: only now is it known which range of each one the value needs. */
function writeBuffers(list: readonly BufferUse[]): void {
  const start = at + pieceBytes;
  if (at + 16 > capacity) grow(16);
  writeVarint(list.length);
  for (const { buffer, from, to, alignment } of list) {
    const begin = from - from % alignment;
    const size = to - begin;
    const resizable = buffer.resizable === true;
    if (at + 32 > capacity) grow(32);
    bytes[at++] = resizable ? 1 : 0;
    writeVarint(begin);
    writeVarint(size);
    if (resizable) writeVarint(buffer.maxByteLength);
    const data = new Uint8Array(buffer, begin, size);
    if (size >= LARGE_BUFFER) {
      addPiece(data, true);
    } else {
      if (at + size > capacity) grow(size);
      bytes.set(data, at);
      at += size;
    }
  }
  if (at + 8 > capacity) grow(8);
  floats.setFloat64(at, start, true);
  at += 8;
}

function whyRefused(name: string): string {
  switch (name) {
    case "SharedArrayBuffer":
      return "a SharedArrayBuffer is the memory of one process; use SharedMemory or SharedArray, or send a copy";
    case "Promise":
      return "a Promise cannot be copied to another process; await it and send the result";
    case "Symbol":
      return "a symbol cannot be copied to another process; send a string";
    case "Function":
      return "a function cannot be copied to another process; send a task or data";
  }
  const article = /^[AEIO]/.test(name) ? "an" : "a";
  if (/Iterator$|Generator$/.test(name)) {
    return `${article} ${name} cannot be copied to another process; collect it into an array`;
  }
  return `${article} ${name} belongs to this process and cannot be copied to another; send the data that it stands for`;
}

function refusal(depth: number, why: string): TypeError {
  return new TypeError(`Cannot send ${pathText(depth)}: ${why}`);
}

/** The way from the value to the place that is being written, as a program would write it. */
function pathText(depth: number): string {
  let text = "value";
  for (let i = 0; i < depth; i++) {
    const step = path[i];
    if (typeof step === "number") text += `[${step}]`;
    else if (typeof step === "object") text += step.text;
    else if (/^[A-Za-z_$][\w$]*$/.test(step)) text += `.${step}`;
    else text += `[${JSON.stringify(step)}]`;
  }
  return text;
}

class Message implements Encoded {
  readonly byteLength: number;
  readonly handles: readonly object[];
  /** Number of the message, or 0 once its bytes are its own. */
  #message: number;
  #bytes: Uint8Array;
  readonly #size: number;
  readonly #pieces: readonly Piece[] | undefined;

  constructor(
    number: number,
    scratch: Uint8Array,
    size: number,
    parts: readonly Piece[] | undefined,
    partBytes: number,
    handlesMet: readonly object[],
  ) {
    this.byteLength = size + partBytes;
    this.handles = handlesMet;
    this.#message = number;
    this.#bytes = scratch;
    this.#size = size;
    this.#pieces = parts;
  }

  writeTo(target: Uint8Array, offset: number): void {
    const size = this.#size;
    if (this.#pieces !== undefined || size > 128) return this.writePart(target, offset, 0, this.byteLength);
    this.#check();
    if (!(offset >= 0 && offset + size <= target.length)) throw doesNotFit(size, offset, target);
    const source = this.#bytes;
    for (let i = 0; i < size; i++) target[offset + i] = source[i];
  }

  writePart(target: Uint8Array, offset: number, from: number, to: number): void {
    this.#check();
    if (!(from >= 0 && from <= to && to <= this.byteLength)) {
      throw new RangeError(
        `Cannot write bytes ${from} to ${to} of a message: it has ${this.byteLength} bytes; pass a range inside it`,
      );
    }
    if (!(offset >= 0 && offset + (to - from) <= target.length)) throw doesNotFit(to - from, offset, target);
    // `start` is where in the message the next stretch begins; stretches of the scratch and pieces alternate.
    let start = 0;
    let scratchAt = 0;
    const copy = (source: Uint8Array, sourceAt: number, length: number): void => {
      const first = Math.max(from, start);
      const last = Math.min(to, start + length);
      if (first < last) {
        target.set(
          source.subarray(sourceAt + first - start, sourceAt + last - start),
          offset + first - from,
        );
      }
      start += length;
    };
    for (const { at: pieceAt, data, byteLength } of this.#pieces ?? []) {
      copy(this.#bytes, scratchAt, pieceAt - scratchAt);
      scratchAt = pieceAt;
      if (data.byteLength !== byteLength) {
        throw new TypeError(
          "Cannot write a message: a buffer in it was transferred away or shrunk after it was encoded; " +
            "keep it until the message is sent, or send a copy",
        );
      }
      copy(data, 0, byteLength);
      if (start >= to) return;
    }
    copy(this.#bytes, scratchAt, this.#size - scratchAt);
  }

  parts(): { rest: Uint8Array; buffers: { at: number; data: Uint8Array }[] } {
    this.#check();
    const pieces = this.#pieces ?? [];
    const inBuffers = pieces.reduce((sum, { isBuffer, byteLength }) => isBuffer ? sum + byteLength : sum, 0);
    const rest = new Uint8Array(this.byteLength - inBuffers);
    const buffers: { at: number; data: Uint8Array }[] = [];
    let from = 0;
    let inPieces = 0;
    let at = 0;
    for (const { at: pieceAt, data, byteLength, isBuffer } of pieces) {
      if (isBuffer) {
        const end = pieceAt + inPieces;
        this.writePart(rest, at, from, end);
        at += end - from;
        from = end + byteLength;
        buffers.push({ at, data });
      }
      inPieces += byteLength;
    }
    this.writePart(rest, at, from, this.byteLength);
    return { rest, buffers };
  }

  keep(): void {
    this.#check();
    if (this.#message === 0) return;
    this.#bytes = this.#bytes.slice(0, this.#size);
    this.#message = 0;
  }

  #check(): void {
    if (this.#message !== valid && this.#message !== 0) {
      throw new TypeError(
        "Cannot use an encoded message: encode() was called again since; write it first, or call keep()",
      );
    }
  }
}

function doesNotFit(size: number, offset: number, target: Uint8Array): RangeError {
  return new RangeError(
    `Cannot write ${size} bytes of a message at offset ${offset}: the target has ${target.length} bytes; ` +
      "make room first",
  );
}
