import { describe, it } from "@std/testing/bdd";
import { assertEquals, assertStringIncludes } from "@std/assert";

// By URL, because tsc knows no types of a script.
const script = new URL("../../scripts/check_imports.mjs", import.meta.url).href;
const { checkFile } = await import(script) as { checkFile(file: string, text: string): string[] };

function expectComplaint(file: string, text: string, part: string): void {
  const wrong = checkFile(file, text);
  assertEquals(wrong.length, 1, JSON.stringify({ text, wrong }));
  assertStringIncludes(wrong[0], part);
}

describe("the import check", () => {
  it("accepts imports along the arrow", () => {
    assertEquals(checkFile("platform/mod.ts", 'import { open } from "../ffi/mod.ts";\n'), []);
    assertEquals(checkFile("multiprocessing/a.ts", 'import { x } from "../platform/mod.ts";\n'), []);
    assertEquals(checkFile("patch/mod.ts", 'export * from "../multiprocessing/mod.ts";\n'), []);
    assertEquals(checkFile("mod.ts", 'export * from "./multiprocessing/mod.ts";\n'), []);
    assertEquals(checkFile("mod.ts", 'export * from "./patch/api.ts";\n'), []);
  });

  it("finds an import against the arrow, in every form", () => {
    expectComplaint("ffi/a.ts", 'import {\n  x,\n} from "../platform/mod.ts";\n', "arrow");
    expectComplaint("ffi/a.ts", 'import type { X } from "../platform/types.ts";\n', "arrow");
    expectComplaint("platform/linux/a.ts", 'import "../../multiprocessing/mod.ts";\n', "arrow");
    expectComplaint("platform/a.ts", "import { a } from '../multiprocessing/mod.ts';\n", "arrow");
    expectComplaint("multiprocessing/a.ts", 'export * from "../patch/mod.ts";\n', "arrow");
    expectComplaint("multiprocessing/a.ts", 'import { q } from "../mod.ts";\n', "arrow");
    expectComplaint("patch/a.ts", 'import { q } from "../mod.ts";\n', "arrow");
    expectComplaint("ffi/a.ts", 'const load = () => import("../platform/mod.ts");\n', "arrow");
  });

  it("ignores imports in comments", () => {
    assertEquals(checkFile("ffi/a.ts", '/*\nimport "../platform/mod.ts";\n*/\n'), []);
    assertEquals(checkFile("ffi/a.ts", '// import "../platform/mod.ts";\n'), []);
  });

  it("finds a static import of a built-in, with or without its scheme, but not one made when needed", () => {
    expectComplaint("ffi/a.ts", 'import fs from "node:fs";\n', "node:fs");
    expectComplaint("ffi/a.ts", 'import fs from "fs";\n', "statically");
    expectComplaint("multiprocessing/a.ts", 'import { dlopen } from "bun:ffi";\n', "bun:ffi");
    assertEquals(checkFile("ffi/a.ts", 'const load = () => import("node:fs");\n'), []);
  });

  it("finds a dependency on what is not published", () => {
    expectComplaint("platform/a.ts", 'import { x } from "fast-check";\n', "depends on nothing");
    expectComplaint("platform/a.ts", 'import { x } from "../tests/support.ts";\n', "not published");
  });

  it("finds the runtime's name above the platform layer", () => {
    for (
      const text of [
        "export const x = Deno.pid;",
        "export const x = Bun.version;",
        "export const x = process.platform;",
        "export const x = globalThis.Deno?.pid;",
        "export const x = `${Deno.pid}`;",
        "const { pid } = Deno;",
        'const pattern = /"/; const x = Deno.pid; // "',
      ]
    ) {
      expectComplaint("multiprocessing/a.ts", `${text}\n`, "runtime");
      assertEquals(checkFile("platform/a.ts", `${text}\n`), []);
    }
  });

  it("takes comments, texts and keys for what they are", () => {
    for (
      const text of ["// Deno.pid", "/* Bun */", 'export const x = "Bun";', "interface X { Deno?: string }"]
    ) {
      assertEquals(checkFile("multiprocessing/a.ts", `${text}\n`), []);
    }
  });

  it("finds what belongs to a machine, and unfinished marks", () => {
    // Put together here, so that this file itself passes the check.
    expectComplaint("README.md", "see /" + "home/someone/x\n", "absolute path");
    expectComplaint("README.md", "see `/" + "work/x`\n", "absolute path");
    expectComplaint("README.md", "registry." + "npmjs.org\n", "host");
    expectComplaint("README.md", "TO" + "DO: more\n", "unfinished");
  });
});
