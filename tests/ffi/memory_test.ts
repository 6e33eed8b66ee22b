import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { addressOf, cString, cStringArray, keepAlive, open, readCString, viewAt } from "../../ffi/mod.ts";
import { libraries } from "../../platform/posix/system.ts";

const libc = open(libraries, {
  // void *malloc(size_t size);
  malloc: { parameters: ["usize"], result: "address" },
  // void free(void *ptr);
  free: { parameters: ["address"], result: "void" },
  // void *memcpy(void *dest, const void *src, size_t n);
  memcpy: { parameters: ["address", "buffer", "usize"], result: "address" },
});

describe("ffi: memory", () => {
  it("passes text beyond ASCII as UTF-8 and back", () => {
    for (const text of ["", "plain", "größe ✓ 日本語 😀"]) {
      const bytes = cString(text);
      assertEquals(bytes.at(-1), 0);
      assertEquals(readCString(addressOf(bytes)), text);
    }
  });

  it("refuses a NUL inside a text", () => {
    assertThrows(() => cString("a\0b"), TypeError, "NUL");
    assertThrows(() => cStringArray(["ok", "a\0b"]), TypeError, "NUL");
  });

  it("replaces bytes that are no UTF-8", () => {
    const bytes = new Uint8Array([0xff, 65, 0]);
    assertEquals(readCString(addressOf(bytes)), "\ufffdA");
  });

  it("refuses NULL", () => {
    assertThrows(() => viewAt(0, 8), TypeError, "NULL");
    assertThrows(() => readCString(0), TypeError, "NULL");
  });

  it("shows C's memory without copying, and detaches", () => {
    const address = libc.malloc(64);
    libc.memcpy(address, new Uint8Array([1, 2, 3, 4]), 4);
    const buffer = viewAt(address, 64);
    const view = new Uint8Array(buffer);
    assertEquals([...view.subarray(0, 4)], [1, 2, 3, 4]);
    view[0] = 99;
    assertEquals(new Uint8Array(viewAt(address, 1))[0], 99);
    assertEquals(addressOf(view.subarray(3)), address + 3);
    buffer.transfer();
    assertEquals(view.length, 0);
    libc.free(address);
  });

  it("keeps the address of small arrays", () => {
    const small = new Uint8Array(4);
    const address = addressOf(small);
    const junk: Uint8Array[] = [];
    for (let i = 0; i < 10_000; i++) junk.push(new Uint8Array(i % 64));
    libc.memcpy(address, new Uint8Array([5, 6, 7, 8]), 4);
    assertEquals([...small], [5, 6, 7, 8]);
    keepAlive(small, junk);
  });

  it("lays out argv", () => {
    const { pointers, keep } = cStringArray(["sh", "", "größe"]);
    assertEquals(pointers.length, 4);
    assertEquals(pointers[3], 0n);
    assertEquals([...pointers.subarray(0, 3)].map((pointer) => readCString(Number(pointer))), [
      "sh",
      "",
      "größe",
    ]);
    keepAlive(keep);
    assertEquals([...cStringArray([]).pointers], [0n]);
  });
});
