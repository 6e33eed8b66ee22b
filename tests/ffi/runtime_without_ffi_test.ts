import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { bunBackend } from "../../ffi/bun.ts";
import { denoBackend } from "../../ffi/deno.ts";
import { ForeignCallError } from "../../ffi/mod.ts";

describe("ffi: a runtime without FFI", () => {
  // Each backend is asked for on the runtime that is not its own, which offers nothing it needs.
  it("is a clear error", () => {
    const other = "Bun" in globalThis ? denoBackend : bunBackend;
    const error = assertThrows(() => other(ForeignCallError), ForeignCallError);
    assertEquals(error.code, "FFI_UNAVAILABLE");
  });
});
