import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, it } from "@std/testing/bdd";
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";

const root = fileURLToPath(new URL("../../", import.meta.url));

function runScript(
  args: string[],
  env: Record<string, string> = {},
): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("node", args, {
    cwd: root,
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  return { status, output: stdout + stderr };
}

function lastLine(output: string): string {
  return output.trimEnd().split("\n").at(-1)!;
}

describe("the test command", () => {
  it("runs the files that a filter names, on the runtime that was asked for, and ends with the counts", () => {
    const { status, output } = runScript(["scripts/test.mjs", "project/counts"], {
      GEVENTMP_TEST_RUNTIME: "bun",
    });
    assertStringIncludes(output, "tests/project/counts_test.ts on bun");
    assertMatch(lastLine(output), /^[1-9]\d* passed, 0 failed$/);
    assertEquals(status, 0);
  });

  it("fails when the filter names no file", () => {
    const { status, output } = runScript(["scripts/test.mjs", "no such file"]);
    assertStringIncludes(output, "no such file");
    assertEquals(lastLine(output), "0 passed, 1 failed");
    assertEquals(status, 1);
  });

  it("fails when asked for a runtime that there is not", () => {
    const { status, output } = runScript(["scripts/test.mjs", "counts"], { GEVENTMP_TEST_RUNTIME: "node" });
    assertStringIncludes(output, "not deno or bun");
    assertEquals(lastLine(output), "0 passed, 1 failed");
    assertEquals(status, 1);
  });
});

describe("the command that runs a program on both runtimes", () => {
  it("fails when asked for a runtime or a program that there is not", () => {
    const runtime = runScript(["scripts/run.mjs", "demo"], { GEVENTMP_RUNTIME: "node" });
    assertStringIncludes(runtime.output, "not deno or bun");
    assertEquals(runtime.status, 1);
    const program = runScript(["scripts/run.mjs", "nothing"]);
    assertStringIncludes(program.output, "scripts/nothing.ts");
    assertEquals(program.status, 1);
  });
});

describe("the check for an await at top level", () => {
  it("knows its rule: an unknown one would find nothing", () => {
    const deno = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
    const { status, stderr } = spawnSync(deno, ["lint", "--rules-include=no-top-level-await", "-"], {
      cwd: root,
      input: "if (globalThis.name) {\n  await fetch('x');\n}\n",
      encoding: "utf8",
    });
    assertStringIncludes(stderr, "no-top-level-await");
    assertEquals(status, 1);
  });
});

describe("the programs that set-up finds", () => {
  for (
    const [name, args] of [["deno", ["eval", "Deno.kill(Deno.pid, 'SIGKILL')"]], ["bun", [
      "-e",
      "process.kill(process.pid, 'SIGKILL')",
    ]]] as const
  ) {
    it(`${name} ends by the signal that ends it, with no script in between`, () => {
      const program = fileURLToPath(new URL(`../../node_modules/.bin/${name}`, import.meta.url));
      assertEquals(spawnSync(program, args).signal, "SIGKILL");
    });
  }
});
