/**
 * Reads a value back from the bytes of a message: the receiving half of the codec (`encode.ts` is the other).
 *
 * The bytes may be anything, and may change while they are read, because they lie in shared memory: every
 * length is compared with what is left before it is used, nothing that is returned aliases them, and no code of the
 * value runs.
 *
 * @module
 */

import { ERROR_NAMES, LARGE_BUFFER, MAX_DEPTH, VIEW_NAMES } from "./encode.ts";

/** The bytes of a message are malformed or end too early. */
export class CodecError extends Error {
  /** Name of the class. */
  override readonly name = "CodecError";
  /** Stays the same across versions and processes. */
  readonly code = "EBADMESSAGE";
}

/**
 * Gives the object of a handle met in a message.
 *
 * @param kind Kind of object, 0 to 255.
 * @param block Block of the arena, 0 to 2^32 - 1.
 * @param generation Generation of that block, 0 to 2^32 - 1.
 * @param name What lives outside the arena has a name instead; block and generation are 0.
 */
export type Revive = (kind: number, block: number, generation: number, name?: string) => object;

interface Shape {
  readonly block: Uint8Array;
  readonly keys: readonly string[];
  /** No key of it means something else than a property when it is assigned to. */
  readonly plain: boolean;
}

const SHAPE_SLOTS = 256;
/** UTF-16 units made into text by one call, which takes them as arguments. */
const CHUNK = 4096;
/** Bytes of the largest BigInt of any engine (V8: 2^30 bits). */
const LARGEST_BIGINT = 1 << 27;

// The message being read.
let bytes: Uint8Array = new Uint8Array(0);
let at = 0;
let end = 0;
let origin = 0;
let tracking = false;
let refs: unknown[] = [];
let messageShapes: Shape[] = [];
let messageShapeCount = 0;
let buffers: ReceivedBuffer[] | undefined;
/** Large buffers that are not in the message. */
let beside: readonly Uint8Array<ArrayBuffer>[] | undefined;
let reviver: Revive | undefined;
let busy = false;

interface ReceivedBuffer {
  readonly buffer: ArrayBuffer;
  /** Where in the sender's buffer this one begins, in bytes. */
  readonly base: number;
}

/** Stands for a missing element or property; never part of a value. */
const HOLE: unique symbol = Symbol("hole");
/** Stands for: the rest of this array is pairs of index and value. */
const SPARSE: unique symbol = Symbol("sparse");

const floatBox = new Float64Array(1);
const floatBytes = new Uint8Array(floatBox.buffer);
const bigintBox = new BigInt64Array(floatBox.buffer);
const shapes: (Shape | undefined)[] = new Array(SHAPE_SLOTS);
let textDecoder: TextDecoder | undefined;

/**
 * Reads one message.
 *
 * @param source Memory that holds the message; everything that is returned is a copy.
 * @param offset Where in `source` the message begins, in bytes.
 * @param byteLength Size of the message, in bytes.
 * @param revive Called for each handle, in the order sent. What it throws goes to the caller.
 * @param apart Buffers that stand beside the message instead of in it (see `Encoded.parts`): the value gets them, not copies.
 * @returns The value.
 * @throws {CodecError} When the bytes are no message, or only a part of one.
 * @throws {RangeError} When `offset` and `byteLength` are not inside `source`.
 */
export function decode(
  source: Uint8Array,
  offset: number,
  byteLength: number,
  revive: Revive,
  apart?: readonly Uint8Array<ArrayBuffer>[],
): unknown {
  if (!(offset >= 0 && byteLength >= 0 && offset + byteLength <= source.length)) {
    throw new RangeError(
      `Cannot read a message of ${byteLength} bytes at offset ${offset}: the memory has ${source.length} bytes; ` +
        "pass a range inside it",
    );
  }
  if (busy) return decodeNested(source, offset, byteLength, revive, apart);
  busy = true;
  beside = apart;
  try {
    return readMessage(source, offset, byteLength, revive);
  } finally {
    busy = false;
    reviver = undefined;
    if (tracking) refs = [];
    if (messageShapeCount > SHAPE_SLOTS) messageShapes = [];
    buffers = undefined;
    beside = undefined;
  }
}

/** Reads a message inside another one: called by a `revive`. */
function decodeNested(
  source: Uint8Array,
  offset: number,
  byteLength: number,
  revive: Revive,
  apart: readonly Uint8Array<ArrayBuffer>[] | undefined,
): unknown {
  const outer = {
    bytes,
    at,
    end,
    origin,
    tracking,
    refs,
    messageShapes,
    messageShapeCount,
    buffers,
    beside,
    reviver,
  };
  beside = apart;
  refs = [];
  messageShapes = [];
  buffers = undefined;
  try {
    return readMessage(source, offset, byteLength, revive);
  } finally {
    ({ bytes, at, end, origin, tracking, refs, messageShapes, messageShapeCount, buffers, beside, reviver } =
      outer);
  }
}

function readMessage(source: Uint8Array, offset: number, byteLength: number, revive: Revive): unknown {
  // Of a subclass, `slice` and `subarray` may mean something else: Buffer's do.
  bytes = Object.getPrototypeOf(source) === Uint8Array.prototype
    ? source
    : new Uint8Array(source.buffer, source.byteOffset, source.length);
  origin = at = offset;
  end = offset + byteLength;
  reviver = revive;
  tracking = false;
  messageShapeCount = 0;
  const flags = readByte();
  if (flags > 3) throw malformed(`its flags are ${flags}`);
  tracking = (flags & 2) !== 0;
  if ((flags & 1) !== 0) readBuffers();
  const value = read(0);
  if (value === HOLE || value === SPARSE) throw malformed("a hole stands where a value must");
  if (at !== end) throw malformed(`${end - at} bytes follow its value`);
  return value;
}

function truncated(): CodecError {
  return new CodecError(
    `Cannot read a message: it ends too early, at byte ${end - origin}; send the whole message again`,
  );
}

function malformed(what: string): CodecError {
  return new CodecError(
    `Cannot read a message: ${what}, at byte ${at - origin}; check that both sides use the same version`,
  );
}

/** What an engine's constructor had to say against the bytes. */
function refusedBy(error: unknown): CodecError {
  return new CodecError(
    `Cannot read a message: ${(error as Error).message}, at byte ${at - origin}; ` +
      "check that both sides use the same version of the module and of the runtime",
    { cause: error },
  );
}

function readByte(): number {
  if (at >= end) throw truncated();
  return bytes[at++];
}

/** Claims `size` bytes and gives where they begin. */
function take(size: number): number {
  const start = at;
  if (size > end - start) throw truncated();
  at = start + size;
  return start;
}

function readVarint(): number {
  let result = 0;
  let scale = 1;
  for (let i = 0; i < 8; i++) {
    const byte = readByte();
    result += (byte & 127) * scale;
    if (byte < 128) {
      if (result > Number.MAX_SAFE_INTEGER) break;
      return result;
    }
    scale *= 128;
  }
  throw malformed("a length is out of range");
}

function readFloat(): number {
  const from = take(8);
  for (let i = 0; i < 8; i++) floatBytes[i] = bytes[from + i];
  return floatBox[0];
}

function read(depth: number): unknown {
  if (at >= end) throw truncated();
  const tag = bytes[at++];
  if (tag < 0x40) return tag;
  if (tag < 0x60) return readLatin1(tag & 31);
  if (tag < 0x70) return readArray(tag & 15, depth);
  if (tag < 0x80) return readShaped(tag & 15, depth);
  switch (tag) {
    case 0x80:
      return undefined;
    case 0x81:
      return null;
    case 0x82:
      return true;
    case 0x83:
      return false;
    case 0x84:
      return readByte();
    case 0x85: {
      const from = take(2);
      return (bytes[from] | (bytes[from + 1] << 8)) << 16 >> 16;
    }
    case 0x86: {
      const from = take(4);
      return bytes[from] | (bytes[from + 1] << 8) | (bytes[from + 2] << 16) | (bytes[from + 3] << 24);
    }
    case 0x87:
      return readFloat();
    case 0x88:
      return NaN;
    case 0x89:
      readFloat();
      return bigintBox[0];
    case 0x8a:
      return readBigInt();
    case 0x8b:
      return -readBigInt();
    case 0x8c:
      return readWide();
    case 0x8d:
      return readUtf8();
    case 0x8e:
      return HOLE;
    case 0x90:
      return readReference();
    case 0x91:
      return readHandle();
    case 0x92:
      return remember({});
    case 0x93:
      return readNewShape(depth);
    case 0x94: {
      const object = remember({} as Record<string, unknown>);
      readPairs(object, depth);
      return object;
    }
    case 0x95:
      return readShaped(readVarint(), depth);
    case 0x96:
      return readArray(readVarint(), depth);
    case 0x97: {
      const array = readArray(readVarint(), depth);
      readPairs(array as unknown as Record<string, unknown>, depth);
      return array;
    }
    case 0x98:
      return SPARSE;
    case 0x99:
      return readDate(depth);
    case 0x9a:
      return readRegExp(depth);
    case 0x9b:
      return readMap(depth);
    case 0x9c:
      return readSet(depth);
    case 0x9d:
      return readBoxed(depth);
    case 0x9e:
      return readError(depth);
    case 0x9f:
      return readDOMException(depth);
    case 0xa0:
      return remember(bufferAt(readVarint()).buffer);
    case 0xa1:
      return readView(false);
    case 0xa2:
      return readView(true);
    case 0xa3: {
      const kind = readByte();
      return remember((reviver as Revive)(kind, 0, 0, readText()));
    }
    default:
      at--;
      throw malformed(`${tag} is no tag`);
  }
}

/** Reads what may not be a hole. */
function readSolid(depth: number): unknown {
  const value = read(depth);
  if (value === HOLE || value === SPARSE) throw malformed("a hole stands where a value must");
  return value;
}

/** Reads a string. Anything that nests is refused, at this depth, so that no chain of such reads outgrows the stack. */
function readText(): string {
  const value = read(MAX_DEPTH);
  if (typeof value !== "string") throw malformed("something else stands where a string must");
  return value;
}

/** Gives an object its number in the message. References to a number not given yet are malformed. */
function remember<T extends object>(object: T): T {
  if (tracking) refs.push(object);
  return object;
}

function enter(depth: number): void {
  if (depth >= MAX_DEPTH) throw malformed(`it nests more than ${MAX_DEPTH} levels deep`);
}

const { fromCharCode } = String;

/** An array for each length of a short string: to pass one on as arguments is faster than to join characters. */
const units: number[][] = [];

function unitsFor(length: number): number[] {
  return units[length] ??= new Array(length).fill(0);
}

/** Reads at most 31 characters, of one byte each. */
function readLatin1(length: number): string {
  const from = take(length);
  const codes = unitsFor(length);
  for (let i = 0; i < length; i++) codes[i] = bytes[from + i];
  return fromCharCode.apply(undefined, codes);
}

function readUtf8(): string {
  const length = readVarint();
  const from = take(length);
  // A leading U+FEFF is part of the text. Deno takes twice as long when told to be strict, so that is for the rare
  // text which may have been wrong: what stands in place of a wrong byte also stands for itself.
  textDecoder ??= new TextDecoder("utf-8", { ignoreBOM: true });
  const encoded = bytes.subarray(from, from + length);
  const text = textDecoder.decode(encoded);
  if (text.includes("\ufffd")) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(encoded);
    } catch (error) {
      throw refusedBy(error);
    }
  }
  return text;
}

function readWide(): string {
  const length = readVarint();
  const from = take(length * 2);
  let text = "";
  for (let done = 0; done < length; done += CHUNK) {
    const count = Math.min(length - done, CHUNK);
    const codes = count < 32 ? unitsFor(count) : new Array<number>(count);
    for (let i = 0, p = from + 2 * done; i < count; i++, p += 2) codes[i] = bytes[p] | (bytes[p + 1] << 8);
    text += fromCharCode.apply(undefined, codes);
  }
  return text;
}

function readBigInt(): bigint {
  const size = readVarint();
  if (size > LARGEST_BIGINT) throw malformed(`a BigInt has ${size} bytes`);
  const from = take(size);
  const digits: string[] = [];
  for (let i = size - 1; i >= 0; i--) digits.push((bytes[from + i] + 256).toString(16).slice(1));
  try {
    return BigInt(`0x0${digits.join("")}`);
  } catch (error) {
    // JavaScriptCore's largest is 2^20 bits, V8's 2^30.
    throw refusedBy(error);
  }
}

function readReference(): unknown {
  const id = readVarint();
  if (id >= refs.length) throw malformed(`it refers to object ${id} before it is there`);
  return refs[id];
}

function readHandle(): object {
  const from = take(9);
  const b = bytes;
  const kind = b[from];
  const block = (b[from + 1] | (b[from + 2] << 8) | (b[from + 3] << 16) | (b[from + 4] << 24)) >>> 0;
  const generation = (b[from + 5] | (b[from + 6] << 8) | (b[from + 7] << 16) | (b[from + 8] << 24)) >>> 0;
  // Takes its number after the call, which is before any later object: a handle has nothing inside.
  return remember((reviver as Revive)(kind, block, generation));
}

function readNewShape(depth: number): object {
  const count = readByte();
  const size = readByte();
  const from = take(size);
  const b = bytes;
  const slot = (count * 7 + size * 31 + (size > 1 ? b[from + 1] * 13 + b[from + size - 1] * 101 : 0)) &
    (SHAPE_SLOTS - 1);
  let shape = shapes[slot];
  if (shape === undefined || !sameBlock(shape, count, size, from)) {
    shape = makeShape(count, size, from);
    shapes[slot] = shape;
  }
  messageShapes[messageShapeCount++] = shape;
  return fill(shape, depth);
}

function sameBlock(shape: Shape, count: number, size: number, from: number): boolean {
  const { block, keys } = shape;
  if (block.length !== size || keys.length !== count) return false;
  const b = bytes;
  for (let i = 0; i < size; i++) {
    if (block[i] !== b[from + i]) return false;
  }
  return true;
}

function makeShape(count: number, size: number, from: number): Shape {
  // The keys are read from the copy: the shared memory may change.
  const block = new Uint8Array(size);
  for (let i = 0; i < size; i++) block[i] = bytes[from + i];
  const keys: string[] = [];
  let place = 0;
  while (place < size) {
    const start = place + 1;
    place = start + block[place];
    if (place > size) throw malformed("a list of keys is broken");
    keys.push(fromCharCode.apply(undefined, block.subarray(start, place) as unknown as number[]));
  }
  if (keys.length !== count || new Set(keys).size !== count) throw malformed("a list of keys is broken");
  return { block, keys, plain: !keys.includes("__proto__") };
}

function readShaped(id: number, depth: number): object {
  if (id >= messageShapeCount) throw malformed(`it refers to shape ${id} before it is there`);
  return fill(messageShapes[id], depth);
}

function fill(shape: Shape, depth: number): object {
  enter(depth);
  const { keys, plain } = shape;
  const object: Record<string, unknown> = {};
  if (tracking) refs.push(object);
  for (let i = 0; i < keys.length; i++) {
    const value = read(depth + 1);
    if (value === HOLE) continue;
    if (value === SPARSE) throw malformed("a hole stands where a value must");
    if (plain) object[keys[i]] = value;
    else define(object, keys[i], value);
  }
  return object;
}

function define(object: object, key: string, value: unknown): void {
  if (!Reflect.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })) {
    throw malformed(`a property ${JSON.stringify(key)} cannot be`);
  }
}

function readPairs(object: Record<string, unknown>, depth: number): void {
  enter(depth);
  const count = readVarint();
  for (let i = 0; i < count; i++) {
    const key = readText();
    const value = read(depth + 1);
    if (value === HOLE) continue;
    if (value === SPARSE) throw malformed("a hole stands where a value must");
    // Nothing of the message may reach a setter: `__proto__` of an object, `length` of an array.
    if (key in object) define(object, key, value);
    else object[key] = value;
  }
}

function readArray(length: number, depth: number): unknown[] {
  enter(depth);
  const array: unknown[] = [];
  if (tracking) refs.push(array);
  for (let i = 0; i < length; i++) {
    // Small integers need no call.
    const tag = at < end ? bytes[at] : 255;
    if (tag < 0x40) {
      at++;
      array[i] = tag;
      continue;
    }
    const value = read(depth + 1);
    if (value === HOLE) {
      array.length = i + 1;
    } else if (value === SPARSE) {
      readSparse(array, i, length, depth);
      break;
    } else {
      array[i] = value;
    }
  }
  return array;
}

function readSparse(array: unknown[], from: number, length: number, depth: number): void {
  if (length > 4294967295) throw malformed(`an array has ${length} elements`);
  // A length beyond what engines store densely makes the array a table: a few bytes must not reserve gigabytes.
  if (length > end - at) array.length = 4294967295;
  array.length = length;
  const count = readVarint();
  for (let i = 0; i < count; i++) {
    const index = readVarint();
    if (index < from || index >= length) throw malformed(`an array of ${length} has an element ${index}`);
    const value = read(depth + 1);
    if (value === SPARSE) throw malformed("a hole stands where a value must");
    if (value !== HOLE) array[index] = value;
  }
}

// Everything below is off the path of the common values.

function readDate(depth: number): Date {
  enter(depth);
  const time = read(MAX_DEPTH);
  if (typeof time !== "number") throw malformed("a date has no number");
  return remember(new Date(time));
}

function readRegExp(depth: number): RegExp {
  enter(depth);
  const source = readText();
  const flags = readText();
  try {
    return remember(new RegExp(source, flags));
  } catch (error) {
    throw refusedBy(error);
  }
}

function readMap(depth: number): Map<unknown, unknown> {
  enter(depth);
  const count = readVarint();
  const map = remember(new Map<unknown, unknown>());
  for (let i = 0; i < count; i++) {
    const key = readSolid(depth + 1);
    map.set(key, readSolid(depth + 1));
  }
  return map;
}

function readSet(depth: number): Set<unknown> {
  enter(depth);
  const count = readVarint();
  const set = remember(new Set<unknown>());
  for (let i = 0; i < count; i++) set.add(readSolid(depth + 1));
  return set;
}

function readBoxed(depth: number): object {
  enter(depth);
  const primitive = read(MAX_DEPTH);
  switch (typeof primitive) {
    case "boolean":
    case "number":
    case "string":
    case "bigint":
      return remember(Object(primitive) as object);
    default:
      throw malformed("something else stands where a boxed value must");
  }
}

function readError(depth: number): Error {
  enter(depth);
  const type = readByte();
  const flags = readByte();
  const className = ERROR_NAMES[type];
  if (className === undefined || flags > 63) throw malformed("an error is of no known class");
  const name = (flags & 1) !== 0 ? readText() : undefined;
  const text = (flags & 2) !== 0 ? readText() : undefined;
  const stack = (flags & 4) !== 0 ? readText() : undefined;
  const error = remember(makeError(className, text));
  hide(error, "stack", stack);
  if (name !== undefined) hide(error, "name", name);
  if ((flags & 8) !== 0) hide(error, "cause", readSolid(depth + 1));
  if ((flags & 16) !== 0) hide(error, "errors", readSolid(depth + 1));
  if ((flags & 32) !== 0) readPairs(error as unknown as Record<string, unknown>, depth);
  return error;
}

function makeError(className: string, text: string | undefined): Error {
  if (className === "AggregateError") return new AggregateError([], text);
  const Class = (globalThis as unknown as Record<string, ErrorConstructor>)[className];
  return new Class(text);
}

/** Defines a property as the properties of errors are: not enumerable. */
function hide(object: object, key: string, value: unknown): void {
  Object.defineProperty(object, key, { value, writable: true, enumerable: false, configurable: true });
}

function readDOMException(depth: number): Error {
  enter(depth);
  const name = readText();
  const text = readText();
  const stack = read(MAX_DEPTH);
  const error = remember(new DOMException(text, name) as unknown as Error);
  if (typeof stack === "string") hide(error, "stack", stack);
  return error;
}

/** Reads the buffers that stand behind the value, and leaves the value as what is to be read. */
function readBuffers(): void {
  const valueStart = at;
  const whole = end;
  if (whole - at < 8) throw truncated();
  end = whole;
  at = whole - 8;
  const start = origin + readFloat();
  if (!(Number.isSafeInteger(start) && start >= valueStart && start <= whole - 8)) {
    throw malformed("its buffers are out of range");
  }
  end = whole - 8;
  at = start;
  const count = readVarint();
  const list: ReceivedBuffer[] = [];
  let adopted = 0;
  for (let i = 0; i < count; i++) {
    const flags = readByte();
    if (flags > 1) throw malformed("a buffer is of no known kind");
    const base = readVarint();
    const size = readVarint();
    const largest = flags === 1 ? readVarint() : undefined;
    if (beside !== undefined && size >= LARGE_BUFFER) {
      list.push({ buffer: adopt(beside[adopted++], size, largest), base });
      continue;
    }
    const from = take(size);
    list.push({ buffer: copyBuffer(bytes, from, size, largest), base });
  }
  if (at !== end) throw malformed(`${end - at} bytes follow its buffers`);
  buffers = list;
  at = valueStart;
  end = start;
}

/** A buffer that stands beside the message. */
function adopt(
  whole: Uint8Array<ArrayBuffer> | undefined,
  size: number,
  largest: number | undefined,
): ArrayBuffer {
  if (whole?.length !== size || whole.buffer.byteLength !== size) {
    throw malformed(`a buffer of ${size} bytes is not beside it`);
  }
  return largest === undefined ? whole.buffer : copyBuffer(whole, 0, size, largest);
}

function copyBuffer(
  source: Uint8Array,
  from: number,
  size: number,
  largest: number | undefined,
): ArrayBuffer {
  let buffer: ArrayBuffer;
  try {
    buffer = largest === undefined
      ? new ArrayBuffer(size)
      : new ArrayBuffer(size, { maxByteLength: largest });
  } catch (error) {
    throw refusedBy(error);
  }
  new Uint8Array(buffer).set(source.subarray(from, from + size));
  return buffer;
}

function bufferAt(id: number): ReceivedBuffer {
  const received = buffers?.[id];
  if (received === undefined) throw malformed(`it refers to buffer ${id}, which is not there`);
  return received;
}

type ViewClass = new (buffer: ArrayBuffer, offset: number, length?: number) => ArrayBufferView;

function readView(tracksLength: boolean): ArrayBufferView {
  const type = readByte();
  const { buffer, base } = bufferAt(readVarint());
  const offset = readVarint() - base;
  const length = tracksLength ? undefined : readVarint();
  const name = VIEW_NAMES[type];
  if (name === undefined || offset < 0) throw malformed("a view is of no known kind");
  const Class = (globalThis as unknown as Record<string, ViewClass | undefined>)[name];
  if (Class === undefined) {
    throw new CodecError(`Cannot read a message: this runtime has no ${name}; send another kind of array`);
  }
  try {
    return remember(new Class(buffer, offset, length));
  } catch (error) {
    throw refusedBy(error);
  }
}
