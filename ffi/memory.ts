/**
 * Memory as C sees it: addresses, views, C strings.
 *
 * @module
 */
import { backend } from "./backend.ts";
import type { Address } from "./types.ts";

const encoder = new TextEncoder();

/**
 * The address of a view's first byte. It stays valid as long as the view is reachable: keep the view in a variable
 * that is used after the call, or hand it to {@linkcode keepAlive}.
 *
 * @param view any view; an empty one has no meaningful address
 */
export function addressOf(view: ArrayBufferView): Address {
  return backend().addressOf(view);
}

/**
 * An ArrayBuffer over memory that is already there. Nothing is copied, and nothing is freed when the buffer is
 * collected. Call `buffer.transfer()` before the memory goes away: reading a view of unmapped memory kills the process.
 *
 * @param address where it begins
 * @param byteLength its size in bytes
 * @throws {TypeError} the address is NULL
 */
export function viewAt(address: Address, byteLength: number): ArrayBuffer {
  return backend().viewAt(address, byteLength);
}

/**
 * A text as C wants it: UTF-8 with a NUL at the end.
 *
 * @param text without a NUL inside, which C would take for the end
 * @throws {TypeError} the text holds a NUL
 */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) {
    throw new TypeError(`Cannot pass ${JSON.stringify(text)} to C: it holds a NUL character; remove it`);
  }
  return encoder.encode(text + "\0");
}

/**
 * The text at an address up to the first NUL. Bytes that are not UTF-8 become U+FFFD.
 *
 * @param address of a `char *`
 * @throws {TypeError} the address is NULL
 */
export function readCString(address: Address): string {
  return backend().readCString(address);
}

/** An array of C strings with a NULL at its end, as `argv` and `envp` are. */
export interface CStringArray {
  /** The `char **` itself. */
  readonly pointers: BigUint64Array<ArrayBuffer>;
  /** What the pointers point into; keep it reachable until C has read it. */
  readonly keep: Uint8Array<ArrayBuffer>;
}

/**
 * Lays out texts as `char *const argv[]`, all in one block of memory.
 *
 * @param texts the elements, without the NULL at the end
 * @throws {TypeError} a text holds a NUL
 */
export function cStringArray(texts: readonly string[]): CStringArray {
  const parts = texts.map(cString);
  const keep = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 1));
  const pointers = new BigUint64Array(texts.length + 1);
  const base = addressOf(keep);
  let offset = 0;
  parts.forEach((part, index) => {
    keep.set(part, offset);
    pointers[index] = BigInt(base + offset);
    offset += part.length;
  });
  return { pointers, keep };
}

let kept: unknown;

/**
 * Keeps values reachable up to this call. An engine may collect a view right after its last use, although an
 * address taken from it is still in C's hands.
 *
 * @param values what C was using until now
 */
export function keepAlive(...values: readonly unknown[]): void {
  kept = values;
  kept = undefined;
  void kept;
}
