/**
 * The codec of all channels: a value as bytes, with the meaning of `structuredClone`, the same bytes on Deno and Bun.
 *
 * ## What is carried
 *
 * undefined, null, booleans, numbers (-0, NaN and the infinities too), BigInt, strings (lone surrogates too), Date,
 * RegExp, Map, Set, arrays (holes too), plain objects, Boolean/Number/String/BigInt objects, Error and the error
 * classes of the language, DOMException, ArrayBuffer (resizable too), typed arrays, DataView, and handles (see
 * {@link kHandle}). Cycles and repeated references keep identity, and views over one buffer still share it. As in
 * structured clone, accessors are called, class instances become plain objects, symbol keys and what is not
 * enumerable stay behind, and `lastIndex` of a RegExp becomes 0.
 *
 * Everything else throws a `TypeError` that names the path to it: functions, symbols, promises, weak collections,
 * iterators, SharedArrayBuffer, and objects of the runtime.
 *
 * ## Where it differs from `structuredClone`
 *
 * - The buffer of a copied view holds only the bytes from the first to the last that any view in the message covers,
 *   so `byteOffset` may be smaller: a small view of a large buffer is a small message. A buffer that is itself in the
 *   value, and a resizable one, is carried whole.
 * - An array of more than 64 elements travels without its named properties (its elements and holes stay).
 * - An error keeps `cause` (Bun's clone drops it), `errors` of an AggregateError, a `name` of its own, and its own
 *   enumerable properties that are primitives, such as `code`. An error of a class that extends TypeError comes
 *   back as a TypeError.
 * - What belongs to the runtime is refused (Blob, AbortController, WebAssembly.Module, ...), even where the runtime's
 *   own clone is an empty object or another handle to the same thing; and so is an instance of a class with
 *   `[Symbol.dispose]` or `[Symbol.asyncDispose]`.
 * - A Proxy cannot be recognized: it is read as what it shows. `arguments` is read as a plain object.
 * - A value may nest {@link MAX_DEPTH} levels.
 * - A BigInt of more than 2^20 bits, which JavaScriptCore does not have, cannot be read on Bun.
 *
 * ## Format
 *
 * Numbers are little-endian. `varint` is LEB128, at most 2^53 - 1. A message is one byte of flags (bit 0: there are
 * buffers; bit 1: there are references), then the value, then the buffers:
 *
 * | tag | what follows |
 * |---|---|
 * | 00-3f | nothing: the integer 0 to 63 |
 * | 40-5f | a string of 0 to 31 characters up to U+00FF, a byte each |
 * | 60-6f | the elements of an array of 0 to 15 |
 * | 70-7f | the property values of an object of shape 0 to 15 of this message |
 * | 80 81 82 83 | undefined, null, true, false |
 * | 84 85 86 | an integer as u8, i16, i32 |
 * | 87 88 | f64; NaN |
 * | 89 | a BigInt as i64 |
 * | 8a 8b | a positive, a negative BigInt: varint size, magnitude |
 * | 8c | a string: varint length, UTF-16 units (what is short, or not well-formed) |
 * | 8d | a string: varint size, UTF-8 |
 * | 8e | nothing: a missing element of an array, or a property that an accessor deleted |
 * | 90 | a reference: varint number of the object, counted in the order of their tags |
 * | 91 | a handle: kind u8, block u32, generation u32 |
 * | 92 | nothing: an object without properties |
 * | 93 | an object that begins a shape: u8 count, u8 size, keys (u8 length and characters up to U+00FF), the values |
 * | 94 | any other object: varint count, keys (as strings) and values |
 * | 95 | as 70-7f, varint shape |
 * | 96 | as 60-6f, varint length |
 * | 97 | an array with named properties: varint length, elements, then as 94 |
 * | 98 | inside an array, in place of its remaining elements: varint count, then varint index and value of each |
 * | 99 | a Date: a number |
 * | 9a | a RegExp: source and flags, as strings |
 * | 9b 9c | a Map: varint count, keys and values; a Set: varint count, values |
 * | 9d | a Boolean, Number, String or BigInt object: its primitive |
 * | 9e | an error: u8 class, u8 flags (what is there of: 1 name, 2 message, 4 stack, 8 cause, 16 errors, 32 others), these |
 * | 9f | a DOMException: name, message, stack or undefined |
 * | a0 | an ArrayBuffer: varint number of the buffer |
 * | a1 a2 | a view: u8 class, varint number of the buffer, varint byte offset, and (a1 only) varint length in elements |
 * | a3 | an object of the machine: u8 kind, its name |
 *
 * The buffers: varint count; for each a u8 (1: resizable), varint offset of its first byte in the sender's buffer,
 * varint size, (resizable) varint largest size, and its bytes. The last 8 bytes of such a message are an f64: where
 * the buffers begin. An object counts (for 90) when it is met, before what is inside it; an ArrayBuffer counts too.
 *
 * @module
 */

export { encode, type Encoded, type HandleId, kHandle, MAX_DEPTH, type NamedId } from "./encode.ts";
export { CodecError, decode, type Revive } from "./decode.ts";
