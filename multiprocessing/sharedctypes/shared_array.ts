/**
 * Arrays of numbers in the session's memory.
 *
 * @module
 */
import { kHandle } from "../codec/mod.ts";
import type { Block } from "../core/arena.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { AR_BYTES, AR_DATA, AR_TYPE, K_ARRAY } from "../core/layout.ts";
import { Window } from "../core/windows.ts";
import { showMemory } from "../../platform/mod.ts";
import type { RLock } from "../synchronize/rlock.ts";
import { containsLock, fillLock, innerLock } from "./inner_lock.ts";

/** The views that a {@linkcode SharedArray} can have; where the runtime has it, `Float16Array` too. */
export type TypedArray =
  | Int8Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Uint8ClampedArray<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>;

/** What an element of a view is in JavaScript. */
export type TypedArrayElement<T extends TypedArray> = T extends
  BigInt64Array<ArrayBuffer> | BigUint64Array<ArrayBuffer> ? bigint : number;

/** The class of a view. */
export interface TypedArrayConstructor<T extends TypedArray> {
  /** A view of a part of a buffer. */
  new (buffer: ArrayBuffer, byteOffset?: number, length?: number): T;
  /** Its name. */
  readonly name: string;
  /** Bytes of an element. */
  readonly BYTES_PER_ELEMENT: number;
}

// Its place in this list is a class's number in shared memory.
const NAMES = [
  "Int8Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
  "Float16Array",
] as const;

type AnyConstructor = TypedArrayConstructor<TypedArray>;

function constructorOf(name: string): AnyConstructor | undefined {
  return (globalThis as unknown as Record<string, AnyConstructor | undefined>)[name];
}

/**
 * An array that all processes and Workers of the session share: CPython's `multiprocessing.Array`. It lies in the session's memory, so it has no
 * name, and nothing of it is left when all are killed.
 *
 * Elements are read and written as those of any typed array, by every agent at any time. `Atomics` work on integers; `getLock()` is for what takes
 * more than one step.
 *
 * @example
 * ```ts
 * import { SharedArray } from "@karellen/geventmp";
 * using sums = new SharedArray(Float64Array, [0.5, 1.5]);
 * sums.view[0] += sums.view[1];
 * ```
 */
export class SharedArray<T extends TypedArray = TypedArray> extends Handle {
  /** How many elements it has. */
  readonly length: number;
  readonly #view: T;
  readonly #window: Window | null;
  #lock: RLock | undefined;

  /**
   * Makes an array. A large one takes 1 to 2 ms a MiB; it must fit in the session's memory (512 MiB unless
   * `GEVENTMP_ARENA_MIB` says otherwise), so use {@linkcode SharedMemory} for the largest.
   *
   * @param ctor class of its view, for example `Float64Array`
   * @param lengthOrValues how many elements, which are 0 then; or the elements themselves
   * @throws {TypeError} the class is none of the numeric typed arrays
   * @throws {RangeError} the length is no whole number from 0 on, or the session's memory is full
   */
  constructor(
    ctor: TypedArrayConstructor<T>,
    lengthOrValues: number | ArrayLike<TypedArrayElement<T>> | Iterable<TypedArrayElement<T>>,
  );
  /** @ignore */
  constructor(
    ctor: TypedArrayConstructor<T> | Existing,
    lengthOrValues?: number | ArrayLike<TypedArrayElement<T>> | Iterable<TypedArrayElement<T>>,
  );
  constructor(
    ctor: TypedArrayConstructor<T> | Existing,
    lengthOrValues: number | ArrayLike<TypedArrayElement<T>> | Iterable<TypedArrayElement<T>> = 0,
  ) {
    const made = isExisting(ctor) ? null : plan(ctor as AnyConstructor, lengthOrValues);
    super(
      K_ARRAY,
      made === null ? ctor as Existing : null,
      AR_DATA * 4 + (made?.bytes ?? 0),
      made?.fill ?? (() => {}),
    );
    const { arena, windows } = this.session;
    const bytes = arena.i32[this.block + AR_BYTES] >>> 0;
    const name = NAMES[arena.i32[this.block + AR_TYPE]];
    const Type = constructorOf(name);
    if (Type === undefined) {
      super[Symbol.dispose]();
      throw new TypeError(`Cannot receive an array: this runtime has no ${name}`);
    }
    this.length = bytes / Type.BYTES_PER_ELEMENT;
    if (bytes === 0) {
      this.#window = null;
      this.#view = new Type(new ArrayBuffer(0)) as T;
    } else {
      // A buffer of its own for this part of the arena: it can be detached alone, and shows nothing else.
      const address = arena.address + (this.block + AR_DATA) * 4;
      const buffer = showMemory(address, bytes);
      this.#view = new Type(buffer) as T;
      this.#window = new Window(windows, { address, buffer }, this, false);
    }
  }

  /**
   * The elements. Once the array is disposed, views that were taken before have length 0: the memory may be another object's by then.
   *
   * @throws {TypeError} the array was disposed
   */
  get view(): T {
    if (this.disposed) this.checkLive("use the view of");
    return this.#view;
  }

  /**
   * The re-entrant lock that belongs to it, the same one for all who have it. It takes nobody's access away: it is a lock to agree on. It is let go of with
   * the array, so dispose the array last.
   */
  getLock(): RLock {
    this.checkLive("get the lock of");
    if (this.#lock === undefined || this.#lock.disposed) {
      this.#lock = innerLock(this.session, this[kHandle]());
    }
    return this.#lock;
  }

  /** Lets go of this agent's reference to it, and of its lock, and detaches its views. */
  override [Symbol.dispose](): void {
    // Before the reference: without one the memory may be somebody else's.
    this.#window?.close();
    this.#lock?.[Symbol.dispose]();
    super[Symbol.dispose]();
  }

  /** For people: its class and length. */
  override toString(): string {
    return `SharedArray(${this.#view.constructor.name}, ${this.length}${this.disposed ? ", disposed" : ""})`;
  }
}

/** Checks what an array is to be, and gives what writes it into its block. */
function plan(
  ctor: AnyConstructor,
  lengthOrValues: number | ArrayLike<number | bigint> | Iterable<number | bigint>,
): { bytes: number; fill: (m: Int32Array, block: Block) => void } {
  const type = NAMES.findIndex((name) => ctor !== undefined && constructorOf(name) === ctor);
  if (type < 0) {
    const shown = typeof ctor === "function" ? (ctor as { name: string }).name : JSON.stringify(ctor);
    throw new TypeError(
      `Cannot make an array of ${shown}: bad typecode; it must be a numeric typed array's class, such as Float64Array`,
    );
  }
  const values = typeof lengthOrValues === "number" ? null : elements(ctor, lengthOrValues);
  const length = values?.length ?? lengthOrValues as number;
  const bytes = length * ctor.BYTES_PER_ELEMENT;
  if (!Number.isInteger(length) || length < 0 || bytes >= 2 ** 32) {
    throw new RangeError(
      `Cannot make an array of ${length} elements: the length must be a whole number from 0 on, and all of it less than 4 GiB`,
    );
  }
  return {
    bytes,
    fill(m, block) {
      fillLock(m, block);
      m[block + AR_TYPE] = type;
      m[block + AR_BYTES] = bytes;
      // The block may be used memory.
      const view = new ctor(m.buffer as ArrayBuffer, (block + AR_DATA) * 4, length) as Uint8Array;
      if (values !== null) view.set(values as Uint8Array);
      else new Uint8Array(m.buffer, view.byteOffset, bytes).fill(0);
    },
  };
}

/** The elements as the class has them, which may throw, and may run the caller's code. */
function elements(
  ctor: AnyConstructor,
  values: ArrayLike<number | bigint> | Iterable<number | bigint>,
): ArrayLike<number | bigint> {
  if (values instanceof ctor) return values as unknown as ArrayLike<number | bigint>;
  return (ctor as unknown as { from(values: unknown): ArrayLike<number | bigint> }).from(values);
}

reviver(K_ARRAY, (existing) => new SharedArray(existing as Existing & AnyConstructor));
containsLock(K_ARRAY);
