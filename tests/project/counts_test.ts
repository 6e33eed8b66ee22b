import { describe, it } from "@std/testing/bdd";
import { assertEquals } from "@std/assert";

interface Counts {
  passed: number;
  failed: number;
}

// By URL, because tsc knows no types of a script.
const script = new URL("../../scripts/counts.mjs", import.meta.url).href;
const { closingLine, countsOf } = await import(script) as {
  closingLine(passed: number, failed: number): string;
  countsOf(runtime: "deno" | "bun", code: number | null, output: string): Counts;
};

describe("the counts of a test run", () => {
  it("reads Deno's closing line, with and without steps", () => {
    assertEquals(countsOf("deno", 0, "ok | 3 passed | 0 failed (6ms)\n"), { passed: 3, failed: 0 });
    assertEquals(countsOf("deno", 0, "ok | 3 passed (5 steps) | 0 failed | 1 ignored (6ms)\n"), {
      passed: 3,
      failed: 0,
    });
    assertEquals(countsOf("deno", 1, "FAILED | 3 passed | 2 failed (6ms)\n"), { passed: 3, failed: 2 });
  });

  it("reads Bun's closing lines", () => {
    assertEquals(countsOf("bun", 0, " 16 pass\n 0 fail\nRan 16 tests\n"), { passed: 16, failed: 0 });
    assertEquals(countsOf("bun", 1, " 1 pass\n 1 skip\n 2 fail\nRan 4 tests\n"), { passed: 1, failed: 2 });
  });

  it("counts a suite that ran nothing as failed", () => {
    assertEquals(countsOf("deno", 0, "ok | 0 passed | 0 failed (0ms)\n"), { passed: 0, failed: 1 });
    assertEquals(countsOf("bun", 0, ""), { passed: 0, failed: 1 });
  });

  it("counts a suite that crashed or was killed as failed, whatever passed before", () => {
    assertEquals(countsOf("deno", null, ""), { passed: 0, failed: 1 });
    assertEquals(countsOf("bun", 139, " 5 pass\n 0 fail\n"), { passed: 5, failed: 1 });
  });

  it("ends with one line", () => {
    assertEquals(closingLine(12, 0), "12 passed, 0 failed");
  });
});
