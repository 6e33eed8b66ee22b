import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { addressOf, cString, ForeignCallError, open, readCString, symbolAddress } from "../../ffi/mod.ts";
import { libraries, osName } from "../../platform/posix/system.ts";

const libc = open(libraries, {
  // size_t strlen(const char *s);
  strlen: { parameters: ["buffer"], result: "usize" },
  // size_t strlen(const char *s);
  strlenAt: { name: "strlen", parameters: ["address"], result: "usize", hot: true },
  // char *strchr(const char *s, int c);
  strchr: { parameters: ["buffer", "i32"], result: "address" },
  // long labs(long j);
  labs: { parameters: ["i64"], result: "i64" },
  // long labs(long j);
  labsHot: { name: "labs", parameters: ["i64"], result: "i64", hot: true },
  // long labs(long j);
  labsSize: { name: "labs", parameters: ["isize"], result: "isize" },
  // int abs(int j);
  abs: { parameters: ["i32"], result: "i32", hot: true },
  // unsigned long long strtoull(const char *nptr, char **endptr, int base);
  strtoull: { parameters: ["buffer", "buffer", "i32"], result: "u64" },
  // unsigned long long strtoull(const char *nptr, char **endptr, int base);
  strtoullHot: { name: "strtoull", parameters: ["buffer", "buffer", "i32"], result: "u64", hot: true },
  // unsigned long long strtoull(const char *nptr, char **endptr, int base);
  strtoullSize: { name: "strtoull", parameters: ["buffer", "buffer", "i32"], result: "usize" },
  // void *memset(void *s, int c, size_t n);
  memset: { parameters: ["buffer", "i32", "usize"], result: "address" },
});

function codeOf(call: () => unknown): string {
  const error = assertThrows(call);
  assertInstanceOf(error, ForeignCallError);
  return `${error.code} ${error.message}`;
}

describe("ffi: open", () => {
  it("binds a function at its first use and then is a plain property", () => {
    const table = open(libraries, { getpid: { parameters: [], result: "i32" } });
    assertEquals(Object.hasOwn(table, "getpid"), false);
    assert("getpid" in table);
    const pid = table.getpid();
    assert(pid > 0);
    assertEquals(Object.hasOwn(table, "getpid"), true);
    assertEquals(table.getpid, table.getpid);
    assertEquals(table.getpid(), pid);
  });

  it("passes every view by its own first byte", () => {
    const bytes = new Uint8Array([97, 98, 99, 100, 0, 0, 0, 0]);
    assertEquals(libc.strlen(bytes), 4);
    assertEquals(libc.strlen(bytes.subarray(1)), 3);
    assertEquals(libc.strlen(new DataView(bytes.buffer, 2)), 2);
    assertEquals(libc.strlen(new Int32Array(bytes.buffer)), 4);
    assertEquals(libc.strlen(new BigUint64Array(bytes.buffer)), 4);
    assertEquals(libc.strlenAt(addressOf(bytes)), 4);
  });

  it("keeps 64-bit values exact both ways, in both kinds of binding", () => {
    for (const labs of [libc.labs, libc.labsHot]) {
      assertEquals(labs(-9007199254740993n), 9007199254740993n);
      assertEquals(labs(-9223372036854775807n), 9223372036854775807n);
      assertEquals(labs(-5), 5n);
      assertEquals(labs(-(2 ** 53 - 1)), 9007199254740991n);
    }
    for (const parse of [libc.strtoull, libc.strtoullHot]) {
      assertEquals(parse(cString("18446744073709551615"), null, 10), 18446744073709551615n);
      assertEquals(parse(cString("42"), null, 10), 42n);
    }
    for (let i = 0; i < 20_000; i++) assertEquals(libc.labsHot(-i), BigInt(i));
  });

  it("gives sizes as numbers, and refuses one that no number holds", () => {
    assertEquals(libc.labsSize(-5), 5);
    assertEquals(libc.strtoullSize(cString("9007199254740991"), null, 10), 9007199254740991);
    const error = assertThrows(() => libc.strtoullSize(cString("9007199254740993"), null, 10), RangeError);
    assertStringIncludes(error.message, "strtoull");
  });

  it("takes and gives addresses as numbers, NULL as 0", () => {
    const text = cString("hello");
    assertEquals(libc.strchr(text, 108), addressOf(text) + 2);
    assertEquals(libc.strchr(text, 122), 0);
    const bytes = new Uint8Array(16);
    assertEquals(libc.memset(bytes.subarray(4, 8), 7, 4), addressOf(bytes) + 4);
    assertEquals([...bytes], [0, 0, 0, 0, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it("puts variadic arguments after eight registers on request", () => {
    const apple = open(libraries, {
      // int snprintf(char *s, size_t n, const char *format, ...);
      snprintf: { parameters: ["buffer", "usize", "buffer", "i32", "u32"], result: "i32", fixed: 3 },
    }, { variadicOnStack: true });
    const out = new Uint8Array(64);
    // With the convention of other systems the five places before them show as zeros.
    apple.snprintf(out, out.length, cString("%d %d %d %d %d %d %u"), -7, 4_000_000_000);
    assertEquals(readCString(addressOf(out)), "0 0 0 0 0 -7 4000000000");
  });

  it("tries libraries in order", () => {
    const table = open(["libgeventmp-is-not-here.so.1", ...libraries()], {
      getppid: { parameters: [], result: "i32" },
    });
    assert(table.getppid() >= 0);
  });

  it("keeps a library loaded whose function it gave", () => {
    const table = open(osName === "darwin" ? "/usr/lib/libm.dylib" : "libm.so.6", {
      // int fegetround(void);
      fegetround: { parameters: [], result: "i32" },
      // int fegetround(void);
      fegetroundHot: { name: "fegetround", parameters: [], result: "i32", hot: true },
    });
    for (let i = 0; i < 1000; i++) assertEquals(table.fegetround(), table.fegetroundHot());
  });

  it("names a missing library and a missing symbol", () => {
    const noLibrary = open("libgeventmp-is-not-here.so.1", { getpid: { parameters: [], result: "i32" } });
    const library = codeOf(() => noLibrary.getpid());
    assertStringIncludes(library, "FFI_NO_LIBRARY");
    assertStringIncludes(library, "libgeventmp-is-not-here.so.1");
    const noSymbol = open(libraries, { geventmp_no_such_function: { parameters: [], result: "i32" } });
    const symbol = codeOf(() => noSymbol.geventmp_no_such_function());
    assertStringIncludes(symbol, "FFI_NO_SYMBOL");
    assertStringIncludes(symbol, "geventmp_no_such_function");
  });

  it("finds the address of a symbol", () => {
    assert((symbolAddress(libraries(), "getpid") ?? 0) > 0);
    assertEquals(symbolAddress(libraries(), "geventmp_no_such_function"), null);
  });
});
