/**
 * Large messages in parts, so that a large buffer goes from the sender's memory to where it is to stay in the receiver's with one copy on each
 * side.
 *
 * @module
 */
import { type Encoded, type HandleId, kHandle } from "../codec/mod.ts";

/** How a transfer's message is cut: in one part, or with a value's large buffers apart. */
export const ONE_PART = 0;
export const BUFFERS_APART = 1;

/** A large message: how it is cut, its parts, and the handles in it. */
export interface Large {
  readonly kind: number;
  readonly parts: Uint8Array[];
  readonly byteLength: number;
  readonly handles: readonly object[];
}

/** Bytes as a large message. */
export function largeBytes(bytes: Uint8Array): Large {
  return { kind: ONE_PART, parts: [bytes], byteLength: bytes.length, handles: [] };
}

/** A value as a large message: the first part begins with size and place of each buffer that follows. */
export function largeValue(message: Encoded): Large {
  const { rest, buffers } = message.parts();
  const head = 8 + 16 * buffers.length;
  const first = new Uint8Array(head + rest.length);
  const table = new Float64Array(first.buffer, 0, head / 8);
  table[0] = buffers.length;
  buffers.forEach(({ at, data }, i) => table.set([data.length, at], 1 + 2 * i));
  first.set(rest, head);
  return {
    kind: BUFFERS_APART,
    parts: [first, ...buffers.map(({ data }) => data)],
    byteLength: message.byteLength,
    // As they were when it was encoded: the program may let go of them while it is sent.
    handles: message.handles.map((handle) => {
      const id = (handle as { [kHandle](): HandleId })[kHandle]();
      return { [kHandle]: () => id };
    }),
  };
}

/** What stands before a value's first part. */
export function tableIn(first: Uint8Array): { head: number; sizes: number[]; places: number[] } {
  const whole = new DataView(first.buffer, first.byteOffset, first.length);
  const count = whole.getFloat64(0, true);
  const table = Array.from({ length: 2 * count }, (_, i) => whole.getFloat64(8 + 8 * i, true));
  return {
    head: 8 + 16 * count,
    sizes: table.filter((_, i) => i % 2 === 0),
    places: table.filter((_, i) => i % 2 === 1),
  };
}

/** The bytes that a value's parts are. */
export function joined([first, ...buffers]: readonly Uint8Array[], byteLength: number): Uint8Array {
  const { head, places } = tableIn(first);
  const whole = new Uint8Array(byteLength);
  let from = head;
  let to = 0;
  const copy = (end: number): void => {
    whole.set(first.subarray(from, end), to);
    to += end - from;
    from = end;
  };
  buffers.forEach((buffer, i) => {
    copy(head + places[i]);
    whole.set(buffer, to);
    to += buffer.length;
  });
  copy(first.length);
  return whole;
}
