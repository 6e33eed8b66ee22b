import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  childCommand,
  childMain,
  isMainThread,
  ownArguments,
  runtimeName,
  runtimeVersion,
} from "../../../platform/runtime/command_line.ts";
import { bunPath, denoPath, output } from "./runtimes.ts";

const starter = fileURLToPath(new URL("./fixtures/start_child.ts", import.meta.url));
const runtimes = [
  { name: "deno", file: denoPath, flags: ["run", "--no-lock", "--allow-ffi"] },
  { name: "bun", file: bunPath, flags: [] as string[] },
];

interface Started {
  command: { file: string; argv: string[]; env: Record<string, string> };
  isMainThread: boolean;
  mainModuleUrl: string | null;
  runtimeName: string;
  runtimeVersion: string;
}

function inFolder(body: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "geventmp-test-"));
  try {
    body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Runs a parent that prints its child's command, then that command. */
function child(file: string, flags: string[], script: string, target: string, childFolder = "/", cwd = "/") {
  const started = JSON.parse(output(file, [...flags, script, target], { cwd })) as Started;
  const { command } = started;
  const said = output(command.file, [...command.argv.slice(1), "x", "--y"], {
    cwd: childFolder,
    env: command.env,
  });
  return {
    started,
    said: JSON.parse(said.split("\n").findLast((line) => line.startsWith("{")) ?? "{}"),
    text: said,
  };
}

describe("the command of a child", () => {
  it("says who this is", () => {
    assertEquals(isMainThread(), true);
    assertEquals(/^\d+\.\d+\.\d+/.test(runtimeVersion), true);
    assertEquals(ownArguments()?.some((word) => word.includes(runtimeName)), true);
  });

  for (const { name, file, flags } of runtimes) {
    it(`${name}: runs a target without any permission but the parent's`, () => {
      inFolder((folder) => {
        writeFileSync(join(folder, "t.ts"), "export default (import.meta.main ? 0 : 7) as number;");
        const { started, said } = child(file, flags, starter, pathToFileURL(join(folder, "t.ts")).href);
        assertEquals(said, { result: 7, args: ["x", "--y"] });
        assertEquals(started.runtimeName, name);
        assertEquals(started.isMainThread, true);
        assertEquals(started.mainModuleUrl, pathToFileURL(starter).href);
        if (name === "deno") assertEquals(started.command.argv.slice(-3, -1), ["--allow-ffi", "--no-prompt"]);
      });
    });

    it(`${name}: any character in a path, and data: URLs`, () => {
      inFolder((folder) => {
        // Bun finds no module in a path with a question mark, in whatever program.
        const odd = join(folder, `a b'c"d#%25é${name === "bun" ? "" : "?"}€`);
        mkdirSync(odd);
        writeFileSync(join(odd, "t.ts"), "export default 8 as number;");
        assertEquals(child(file, flags, starter, pathToFileURL(join(odd, "t.ts")).href).said.result, 8);
        assertEquals(child(file, flags, starter, "data:text/javascript,export default 9").said.result, 9);
      });
    });

    it(`${name}: a target that does not exist or throws reaches the bootstrap`, () => {
      inFolder((folder) => {
        const missing = child(file, flags, starter, pathToFileURL(join(folder, "none.ts")).href).said;
        assertEquals(/none\.ts/.test(missing.error), true);
        writeFileSync(join(folder, "t.ts"), "throw new Error('boom')");
        assertEquals(
          child(file, flags, starter, pathToFileURL(join(folder, "t.ts")).href).said.error,
          "Error: boom",
        );
      });
    });

    it(`${name}: the parent's import names, wherever the child starts`, () => {
      inFolder((folder) => {
        writeFileSync(join(folder, "mapped.ts"), "export const value = 11;");
        writeFileSync(join(folder, "deno.json"), `{"imports":{"mapped":"./mapped.ts"}}`);
        writeFileSync(
          join(folder, "tsconfig.json"),
          `{"compilerOptions":{"paths":{"mapped":["./mapped.ts"]}}}`,
        );
        writeFileSync(join(folder, "t.ts"), `import { value } from "mapped"; export default value;`);
        writeFileSync(join(folder, "main.ts"), `import ${JSON.stringify(pathToFileURL(starter).href)};`);
        const target = pathToFileURL(join(folder, "t.ts")).href;
        assertEquals(child(file, flags, join(folder, "main.ts"), target).said.result, 11);
      });
    });

    it(`${name}: bare names of a package.json project`, () => {
      inFolder((folder) => {
        const pkg = join(folder, "node_modules/foo");
        mkdirSync(pkg, { recursive: true });
        writeFileSync(join(folder, "package.json"), `{"type":"module","dependencies":{"foo":"1.0.0"}}`);
        writeFileSync(
          join(pkg, "package.json"),
          `{"name":"foo","version":"1.0.0","exports":{"dev":"./d.mjs","default":"./i.mjs"}}`,
        );
        writeFileSync(join(pkg, "i.mjs"), "export default 12");
        writeFileSync(join(pkg, "d.mjs"), "export default 13");
        writeFileSync(join(folder, "t.ts"), `export { default } from "foo";`);
        writeFileSync(join(folder, "main.ts"), `import ${JSON.stringify(pathToFileURL(starter).href)};`);
        const target = pathToFileURL(join(folder, "t.ts")).href;
        assertEquals(child(file, flags, join(folder, "main.ts"), target).said.result, 12);
        assertEquals(
          child(file, [...flags, "--conditions=dev"], join(folder, "main.ts"), target).said.result,
          13,
        );
      });
    });

    it(`${name}: a relative preload module`, () => {
      inFolder((folder) => {
        writeFileSync(join(folder, "pre.ts"), "globalThis.preloaded = 14;");
        writeFileSync(join(folder, "t.ts"), "export default globalThis.preloaded;");
        const target = pathToFileURL(join(folder, "t.ts")).href;
        assertEquals(
          child(file, [...flags, "--preload", "./pre.ts"], starter, target, "/", folder).said.result,
          14,
        );
      });
    });
  }

  it("deno: permissions and engine flags are the parent's", () => {
    const flags = [
      "run",
      "--no-lock",
      "--allow-ffi",
      "--allow-env=HOME",
      "--v8-flags=--expose-gc",
      "--seed",
      "3",
    ];
    const target =
      "data:text/javascript,export default [typeof gc, Deno.permissions.querySync({name:'env',variable:'HOME'}).state," +
      "Deno.permissions.querySync({name:'env'}).state, Math.random()]";
    const first = child(denoPath, flags, starter, target).said.result;
    assertEquals(first.slice(0, 3), ["function", "granted", "prompt"]);
    assertEquals(child(denoPath, flags, starter, target).said.result, first);
  });

  it("deno: from standard input and eval", () => {
    const target = "data:text/javascript,export default 15";
    const program = `import ${JSON.stringify(pathToFileURL(starter).href)};`;
    for (
      const said of [
        output(denoPath, ["run", "-A", "--no-lock", "-", target], { input: program, cwd: "/" }),
        output(denoPath, ["eval", program, target], { cwd: "/" }),
      ]
    ) {
      const { command, mainModuleUrl } = JSON.parse(said) as Started;
      assertEquals(mainModuleUrl, null);
      assertEquals(command.argv.slice(-3, -1), ["--allow-all", "--no-prompt"]);
      assertEquals(JSON.parse(output(command.file, command.argv.slice(1))).result, 15);
    }
  });

  it("bun: flags are the parent's, .env files are not read again", () => {
    inFolder((folder) => {
      writeFileSync(join(folder, ".env"), "GMP_FROM_FILE=1");
      const target =
        "data:text/javascript,export default [process.execArgv, process.env.GMP_FROM_FILE || null]";
      const { result } = child(bunPath, ["--smol", "--expose-gc"], starter, target, folder).said;
      assertEquals(result, [["--smol", "--expose-gc", "--no-env-file"], null]);
    });
  });

  it("bun: a compiled executable runs modules that are outside of it, and refuses those inside", () => {
    inFolder((folder) => {
      const outside = pathToFileURL(join(folder, "t.ts")).href;
      writeFileSync(join(folder, "t.ts"), "export default 16");
      writeFileSync(
        join(folder, "main.ts"),
        `import { childCommand, childMain } from ${
          JSON.stringify(fileURLToPath(new URL("../../../platform/runtime/command_line.ts", import.meta.url)))
        };
        const bootstrap = ${JSON.stringify(new URL("./fixtures/run_target.ts", import.meta.url).href)};
        let refusal = "";
        try { childMain(import.meta.url, null); } catch (error) { refusal = error.message; }
        console.log(JSON.stringify({ refusal, command: childCommand(childMain(bootstrap, ${
          JSON.stringify(outside)
        })) }));`,
      );
      const app = join(folder, "app");
      output(bunPath, ["build", "--compile", join(folder, "main.ts"), "--outfile", app], { cwd: folder });
      const { refusal, command } = JSON.parse(output(app, ["--smol"]));
      assertEquals(/inside an executable/.test(refusal), true);
      assertEquals(command.file, app);
      assertEquals(JSON.parse(output(command.file, command.argv.slice(1), { env: command.env })).result, 16);
    });
  });

  it("from within this test runner", () => {
    const bootstrap = new URL("./fixtures/run_target.ts", import.meta.url).href;
    const { file, argv, env } = childCommand(childMain(bootstrap, "data:text/javascript,export default 17"));
    assertEquals(JSON.parse(output(file, argv.slice(1), { env, cwd: "/" })).result, 17);
  });

  it("a blob: URL cannot be a target", () => {
    assertThrows(
      () => childMain("file:///b.ts", "blob:null/1-2"),
      TypeError,
      "exists in its own process only",
    );
  });
});
