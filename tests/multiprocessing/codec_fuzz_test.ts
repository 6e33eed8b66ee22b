import { describe, it } from "@std/testing/bdd";
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CodecError, decode, encode, kHandle } from "../../multiprocessing/codec/mod.ts";
import { difference } from "./codec_compare.ts";
import { fixtureValues } from "./codec_fixture.ts";

/** Decodes bytes that may be wrong: the outcome is a value or a CodecError, nothing else. */
function attempt(memory: Uint8Array, offset: number, size: number): boolean {
  try {
    decode(memory, offset, size, (kind, block, generation) => ({ kind, block, generation }));
    return true;
  } catch (error) {
    if (error instanceof CodecError) return false;
    throw new Error(`bytes ${[...memory.subarray(offset, offset + size)].join(",")}`, { cause: error });
  }
}

function bytesOf(value: unknown): Uint8Array<ArrayBuffer> {
  const encoded = encode(value);
  const bytes = new Uint8Array(encoded.byteLength);
  encoded.writeTo(bytes, 0);
  return bytes;
}

const seeds = fixtureValues().map(([, value]) => bytesOf(value)).filter((bytes) => bytes.length < 3000);

/** Bytes that start like a message and go on with tags rather than with noise. */
const tagBytes = fc.array(fc.oneof(fc.integer({ min: 0x80, max: 0xa4 }), fc.nat(255), fc.nat(9)), {
  maxLength: 60,
}).chain((bytes) => fc.nat(3).map((flags) => new Uint8Array([flags, ...bytes])));

describe("codec: hostile bytes", () => {
  it("gives a value or a CodecError for any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        attempt(bytes, 0, bytes.length);
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(tagBytes, (bytes) => {
        attempt(bytes, 0, bytes.length);
      }),
      { numRuns: 10_000 },
    );
  });

  it("gives a value or a CodecError for messages with wrong bytes in them", () => {
    const change = fc.tuple(fc.nat(), fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 127, 128, 255)));
    fc.assert(
      fc.property(
        fc.nat(seeds.length - 1),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        (which, changes) => {
          const bytes = seeds[which].slice();
          for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
          attempt(bytes, 0, bytes.length);
        },
      ),
      { numRuns: 10_000 },
    );
  });

  it("refuses every message that ends too early, and reads nothing behind it", () => {
    for (const seed of seeds) {
      const memory = new Uint8Array(seed.length + 64).fill(0x40);
      memory.set(seed);
      for (let size = 0; size < seed.length; size++) {
        assert(!attempt(memory, 0, size), `the first ${size} of ${seed.length} bytes are no message`);
      }
    }
  });

  it("refuses every message with bytes behind it", () => {
    for (const seed of seeds) {
      const memory = new Uint8Array(seed.length + 1);
      memory.set(seed);
      assert(!attempt(memory, 0, memory.length));
    }
  });

  it("survives memory that changes while it is read", () => {
    for (const seed of seeds) {
      for (let at = 1; at < seed.length; at += 3) {
        const memory = seed.slice();
        const changed = [{ [kHandle]: () => ({ kind: 1, block: 2, generation: 3 }) }, 1];
        const first = bytesOf(changed);
        const both = new Uint8Array(first.length + memory.length);
        both.set(first);
        both.set(memory, first.length);
        try {
          decode(both, 0, first.length, () => {
            both.fill(both[at % both.length] ^ 0xff);
            return {};
          });
        } catch (error) {
          assert(error instanceof CodecError);
        }
      }
    }
  });

  it("allocates nothing large for a small message", () => {
    const huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    const four = [0xff, 0xff, 0xff, 0xff, 0x0f];
    const start = [
      [0x96, ...huge],
      [0x96, ...four],
      [0x97, ...four],
      [0x8c, ...huge],
      [0x8d, ...huge],
      [0x8a, ...huge],
      [0x8a, 0xff, 0xff, 0xff, 0x3f],
      [0x94, ...huge],
      [0x9b, ...huge],
      [0x9c, ...huge],
    ];
    for (const bytes of start) assert(!attempt(new Uint8Array([0, ...bytes]), 0, bytes.length + 1));
    const many: unknown[] = [];
    for (let i = 0; i < 20_000; i++) {
      // An array of 2^32 - 1 holes, and one of 30,000,000, which engines would reserve at once.
      for (const length of [four, [0x80, 0x87, 0xa7, 0x0e]]) {
        const bytes = new Uint8Array([0, 0x96, ...length, 0x98, 0]);
        const array = decode(bytes, 0, bytes.length, () => ({})) as unknown[];
        assertEquals(Object.keys(array).length, 0);
        many.push(array);
      }
    }
    assertEquals(many.length, 40_000);
  });

  it("does not outgrow the stack", () => {
    // Each of these nests by one byte or a few, for a hundred thousand levels.
    const wraps = [
      [0x61],
      [0x9d],
      [0x99],
      [0x9a],
      [0x9f],
      [0x9b, 1],
      [0x9c, 1],
      [0x9e, 0, 8],
      [0x9e, 0, 1],
      [0x9e, 7, 16],
      [0x94, 1, 0x41, 0x61],
      [0x94, 1],
      [0x97, 0, 1, 0x41, 0x61],
      [0x93, 1, 2, 1, 0x61],
    ];
    for (const wrap of wraps) {
      const bytes = new Uint8Array(1 + wrap.length * 100_000);
      for (let at = 1; at < bytes.length; at += wrap.length) bytes.set(wrap, at);
      assert(!attempt(bytes, 0, bytes.length));
    }
  });

  it("never reaches a setter or a prototype", () => {
    const key = (text: string): number[] => [0x40 | text.length, ...[...text].map((c) => c.charCodeAt(0))];
    const proto = key("__proto__");
    const inner = [0x94, 1, ...key("polluted"), 1];
    const messages = [
      [0, 0x94, 1, ...proto, ...inner],
      [0, 0x94, 2, ...proto, ...inner, ...proto, ...inner],
      [0, 0x93, 1, 10, 9, ...proto.slice(1), ...inner],
      [0, 0x97, 0, 1, ...proto, ...inner],
      [0, 0x9e, 0, 32, 1, ...proto, ...inner],
    ];
    for (const message of messages) {
      const bytes = new Uint8Array(message);
      const value = decode(bytes, 0, bytes.length, () => ({})) as Record<string, unknown>;
      assert(Object.hasOwn(value, "__proto__"));
      assertEquals((value as { polluted?: unknown }).polluted, undefined);
    }
    assertEquals(({} as { polluted?: unknown }).polluted, undefined);
    // `length` of an array is its own and not configurable.
    const length = new Uint8Array([0, 0x97, 1, 5, 1, ...key("length"), 0x86, 0xff, 0xff, 0xff, 0x7f]);
    assertThrows(() => decode(length, 0, length.length, () => ({})), CodecError);
    // The same key twice in a list of keys.
    const twice = new Uint8Array([0, 0x93, 2, 4, 1, 0x61, 1, 0x61, 1, 2]);
    assertThrows(() => decode(twice, 0, twice.length, () => ({})), CodecError, "a list of keys is broken");
  });

  it("reads good messages as before, after all that", () => {
    for (const [name, value] of fixtureValues()) {
      const bytes = bytesOf(value);
      const got = decode(bytes, 0, bytes.length, () => ({}));
      const found = difference(got, value);
      assert(name === "class instance" || name === "handle" || found === undefined, `${name}: ${found}`);
    }
  });
});
