/**
 * One number, or a boolean, in the session's memory.
 *
 * @module
 */
import { kHandle } from "../codec/mod.ts";
import type { Block } from "../core/arena.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { CLASS_128, CLASS_BYTES, K_VALUE, V_CELL, V_TYPE } from "../core/layout.ts";
import type { RLock } from "../synchronize/rlock.ts";
import { containsLock, fillLock, innerLock } from "./inner_lock.ts";

/** The types of a {@linkcode Value}: integers by sign and bits, floating-point numbers by bits, and booleans. */
export type ValueType = "i8" | "u8" | "i16" | "u16" | "i32" | "u32" | "i64" | "u64" | "f32" | "f64" | "bool";

/** What a value of a type is in JavaScript. */
export type ValueOf<T extends ValueType> = T extends "i64" | "u64" ? bigint
  : T extends "bool" ? boolean
  : number;

type Any = number | bigint | boolean;

// Its place in this list is a type's number in shared memory.
const TYPES: readonly ValueType[] = [
  "i8",
  "u8",
  "i16",
  "u16",
  "i32",
  "u32",
  "i64",
  "u64",
  "f32",
  "f64",
  "bool",
];

interface Integer {
  readonly least: bigint;
  readonly most: bigint;
}

function integer(signed: boolean, bits: number): Integer {
  const all = 1n << BigInt(bits);
  return signed ? { least: -all / 2n, most: all / 2n - 1n } : { least: 0n, most: all - 1n };
}

const INTEGERS: Partial<Record<ValueType, Integer>> = Object.fromEntries(
  TYPES.filter((type) => /^[iu]/.test(type)).map((type) => [type, integer(type[0] === "i", +type.slice(1))]),
);

// A float's bits are read and written by one 64-bit instruction, so half of one is never seen. f32 travels as the f64 that equals it.
const float = new Float64Array(1);
const bits = new BigInt64Array(float.buffer);

/**
 * A number that all processes and Workers of the session share: CPython's `multiprocessing.Value`. Reading and writing are atomic, whatever the
 * type, and need no lock; nor does `add`. `getLock()` is for what takes more than one step.
 *
 * @example
 * ```ts
 * import { Value } from "@karellen/geventmp";
 * using done = new Value("u32");
 * done.add(1); // 1
 * ```
 */
export class Value<T extends ValueType = ValueType> extends Handle {
  /** Its type. */
  readonly type: T;
  readonly #m: Int32Array;
  readonly #cell: number;
  #lock: RLock | undefined;

  /**
   * Makes a value.
   *
   * @param type what it holds
   * @param value what it holds at first: a number; a bigint for i64 and u64, a boolean for bool. 0, 0n or false when left out
   * @throws {TypeError} there is no such type, or the value is of another
   * @throws {RangeError} the value is out of the type's bounds
   */
  constructor(type: T, value?: ValueOf<T>);
  /** @ignore */
  constructor(type: T | Existing, value?: ValueOf<T>);
  constructor(type: T | Existing, value?: ValueOf<T>) {
    super(
      K_VALUE,
      isExisting(type) ? type : null,
      CLASS_BYTES[CLASS_128],
      isExisting(type) ? () => {} : filled(type, value),
    );
    this.#m = this.session.arena.i32;
    this.#cell = this.block + V_CELL;
    this.type = TYPES[this.#m[this.block + V_TYPE]] as T;
  }

  /**
   * What it holds now. f32 rounds what is set.
   *
   * @throws {TypeError} set to what is of another type
   * @throws {RangeError} set to what is out of the type's bounds
   */
  get value(): ValueOf<T> {
    if (this.disposed) this.checkLive("read");
    return this.#read() as ValueOf<T>;
  }

  set value(value: ValueOf<T>) {
    if (this.disposed) this.checkLive("change");
    const { type } = this;
    const stored = checked(type, value);
    if (isWide(type)) Atomics.store(this.session.arena.i64, this.#cell / 2, bitsOf(type, stored));
    else Atomics.store(this.#m, this.#cell, Number(stored));
  }

  /**
   * Adds to it in one step that no other comes between.
   *
   * @param n what to add, of the type that `value` is of; negative to subtract
   * @returns what it holds then
   * @throws {TypeError} it is no integer
   * @throws {RangeError} the sum is out of the type's bounds; nothing is changed
   */
  add(n: ValueOf<T>): ValueOf<T> {
    if (this.disposed) this.checkLive("add to");
    const { type } = this;
    if (INTEGERS[type] === undefined) {
      throw new TypeError(
        `Cannot add to a value of type ${type} in one step: only integers can; take its lock with getLock()`,
      );
    }
    return (isBig(type) ? this.#addBig(n as bigint) : this.#addSmall(n as number)) as ValueOf<T>;
  }

  #addSmall(n: number): number {
    const m = this.#m;
    if (typeof n !== "number" || !Number.isInteger(n)) refuseType(this.type, n, "a whole number", "add");
    for (let seen = Atomics.load(m, this.#cell);;) {
      const sum = (this.type === "u32" ? seen >>> 0 : seen) + n;
      checked(this.type, sum);
      const found = Atomics.compareExchange(m, this.#cell, seen, sum);
      if (found === seen) return sum;
      seen = found;
    }
  }

  #addBig(n: bigint): bigint {
    const m = this.session.arena.i64;
    const at = this.#cell / 2;
    if (typeof n !== "bigint") refuseType(this.type, n, "a bigint", "add");
    for (let seen = Atomics.load(m, at);;) {
      const sum = (this.type === "u64" ? BigInt.asUintN(64, seen) : seen) + n;
      checked(this.type, sum);
      const found = Atomics.compareExchange(m, at, seen, BigInt.asIntN(64, sum));
      if (found === seen) return sum;
      seen = found;
    }
  }

  #read(): Any {
    const { type } = this;
    if (!isWide(type)) {
      const word = Atomics.load(this.#m, this.#cell);
      return type === "bool" ? word !== 0 : type === "u32" ? word >>> 0 : word;
    }
    const wide = Atomics.load(this.session.arena.i64, this.#cell / 2);
    if (type === "i64") return wide;
    if (type === "u64") return BigInt.asUintN(64, wide);
    bits[0] = wide;
    return float[0];
  }

  /**
   * The re-entrant lock that belongs to it, the same one for all who have it. It takes nobody's access away: it is a lock to agree on. It is let go of with
   * the value, so dispose the value last.
   */
  getLock(): RLock {
    this.checkLive("get the lock of");
    if (this.#lock === undefined || this.#lock.disposed) {
      this.#lock = innerLock(this.session, this[kHandle]());
    }
    return this.#lock;
  }

  /** Lets go of this agent's reference to it, and of its lock. */
  override [Symbol.dispose](): void {
    this.#lock?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /** For people: type and value. */
  override toString(): string {
    return this.disposed ? `Value(${this.type}, disposed)` : `Value(${this.type}, ${this.#read()})`;
  }
}

function isBig(type: ValueType): boolean {
  return type === "i64" || type === "u64";
}

function isWide(type: ValueType): boolean {
  return isBig(type) || type === "f64" || type === "f32";
}

/** Checks a first value, and gives what writes it into its block. */
function filled(type: ValueType, value: Any | undefined): (m: Int32Array, block: Block) => void {
  const index = TYPES.indexOf(type);
  if (index < 0) {
    throw new TypeError(
      `Cannot make a value of type ${JSON.stringify(type)}: bad typecode; it must be one of ${
        TYPES.join(", ")
      }`,
    );
  }
  const first = checked(type, value ?? (type === "bool" ? false : isBig(type) ? 0n : 0));
  return (m, block) => {
    fillLock(m, block);
    m[block + V_TYPE] = index;
    const cell = block + V_CELL;
    if (isWide(type)) new BigInt64Array(m.buffer, cell * 4, 1)[0] = bitsOf(type, first);
    else m[cell] = Number(first);
  };
}

/** What stands in shared memory for a value of 64 bits. */
function bitsOf(type: ValueType, value: Any): bigint {
  if (isBig(type)) return BigInt.asIntN(64, value as bigint);
  float[0] = value as number;
  return bits[0];
}

/** The value as it is stored. */
function checked(type: ValueType, value: Any): Any {
  if (type === "bool") return typeof value === "boolean" ? value : refuseType(type, value, "a boolean");
  if (isBig(type)) {
    if (typeof value !== "bigint") refuseType(type, value, "a bigint, such as 5n");
  } else if (typeof value !== "number") refuseType(type, value, "a number");
  if (type === "f64") return value;
  if (type === "f32") return Math.fround(value as number);
  const { least, most } = INTEGERS[type]!;
  // Numbers and bigints compare with each other by what they stand for.
  if (value >= least && value <= most && (typeof value === "bigint" || Number.isInteger(value))) return value;
  throw new RangeError(
    `Cannot store ${value} in a value of type ${type}: it must be a whole number from ${least} to ${most}`,
  );
}

function refuseType(type: ValueType, value: unknown, wanted: string, what = "store"): never {
  throw new TypeError(`Cannot ${what} a ${typeof value} in a value of type ${type}: it must be ${wanted}`);
}

reviver(K_VALUE, (existing) => new Value(existing as Existing & ValueType));
containsLock(K_VALUE);
