import { describe, it } from "@std/testing/bdd";
import { assert, assertEquals } from "@std/assert";
import { decode, encode } from "../../multiprocessing/codec/mod.ts";
import { difference } from "./codec_compare.ts";
import { fixtureBytes } from "./codec_fixture_bytes.ts";
import { fixtureValues } from "./codec_fixture.ts";

function hexOf(value: unknown): string {
  const encoded = encode(value);
  const bytes = new Uint8Array(encoded.byteLength);
  encoded.writeTo(bytes, 0);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A change of these bytes is a change of the format: it needs a new layout version.
describe("codec: the bytes are the same on every runtime", () => {
  it("has bytes for every value", () => {
    assertEquals(Object.keys(fixtureBytes), fixtureValues().map(([name]) => name));
  });

  for (const [name, value] of fixtureValues()) {
    it(`writes ${name}`, () => {
      assertEquals(hexOf(value), fixtureBytes[name]);
      assertEquals(hexOf(value), fixtureBytes[name], "the same again, with warm caches");
    });

    it(`reads ${name}`, () => {
      const bytes = Uint8Array.from(fixtureBytes[name].match(/../g)!, (pair) => parseInt(pair, 16));
      const got = decode(bytes, 0, bytes.length, (kind, block, generation) => ({ kind, block, generation }));
      const expected = name === "handle" ? { kind: 7, block: 4000000000, generation: 9 } : value;
      const found = difference(got, name === "class instance" ? { ...(value as object) } : expected);
      assert(found === undefined, found);
    });
  }
});
