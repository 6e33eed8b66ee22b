import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { onDeno, runScript } from "../platform/child.ts";

function run(...flags: string[]): Record<string, string> {
  // stdin is at its end, so anything that prompted would leave no result.
  const { text, status } = runScript(new URL("./fixtures/call.ts", import.meta.url), [], flags);
  assertEquals(status, 0);
  return JSON.parse(text);
}

describe("ffi: permission", () => {
  it("calls when it may", () => {
    assertEquals(run("--allow-ffi"), { open: "ok", processId: "ok", getenv: "ok" });
  });

  // Bun has no permissions.
  if (onDeno) {
    it("names the missing permission and the flag, and never prompts", () => {
      for (const flags of [[], ["--no-prompt"], ["--deny-ffi"]]) {
        for (const result of Object.values(run(...flags))) {
          assertStringIncludes(result, "FFI_DENIED");
          assertStringIncludes(result, "run with --allow-ffi");
        }
      }
    });

    it("says that a list of libraries is not enough", () => {
      for (const result of Object.values(run("--allow-ffi=libc.so.6"))) {
        assertStringIncludes(result, "FFI_DENIED");
        assertStringIncludes(result, "no list");
      }
    });
  }
});
