/** Which ways of patching reach which ways of importing, as patch/child_process.ts and README.md say. */
import { assertEquals, assertMatch } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { thisRuntime, timed } from "../multiprocessing/support.ts";
import { patchModule, said } from "./support.ts";

const node = ["named spawnSync", "named execSync", "named execFileSync", "default", "namespace"];
const own = thisRuntime === "bun"
  ? ["Bun.spawnSync", "named from bun"]
  : ["Deno.Command", "Deno.spawnAndWaitSync"];
const everything = { patched: [...node, ...own], unpatched: [], isPatched: true, childProcess: true };
/** Node's layer is left alone on Deno, until the program asks for it. */
const byDefault = thisRuntime === "bun"
  ? everything
  : { patched: own, unpatched: node, isPatched: true, childProcess: false };
const nothing = { patched: [], unpatched: [...node, ...own], isPatched: false, childProcess: false };

const cases: [string, Parameters<typeof said>[1], Parameters<typeof said>[2], unknown][] = [
  ["a first import", "patch_first.ts", {}, byDefault],
  ["--preload", "patch_imports.ts", { flags: ["--preload", patchModule] }, byDefault],
  ["patchAll() twice", "patch_by_hand.ts", { args: ["twice"] }, byDefault],
  ["patchAll(), then a look at process", "patch_by_hand.ts", { args: ["process"] }, everything],
  ["patchAll({ subprocess: true })", "patch_by_hand.ts", { args: ["subprocess"] }, everything],
  ["patchAll({ subprocess: false })", "patch_by_hand.ts", { args: ["no subprocess"] }, nothing],
  ["nothing but importing mod.ts", "patch_by_hand.ts", { args: ["no way"] }, nothing],
  ["GEVENTMP=0 and a first import", "patch_first.ts", { env: { GEVENTMP: "0" } }, nothing],
  ["GEVENTMP=0 and --preload", "patch_imports.ts", {
    flags: ["--preload", patchModule],
    env: { GEVENTMP: "0" },
  }, nothing],
];

describe("what is patched by", () => {
  for (const [name, fixture, options, expected] of cases) {
    timed(name, 20_000, async () => {
      const { lines, errors, ended } = await said(thisRuntime, fixture, options);
      assertEquals({ ended, errors }, { ended: 0, errors: "" });
      assertEquals(JSON.parse(lines[0]), expected);
    });
  }
});

if (thisRuntime === "deno") {
  describe("without the ffi permission", () => {
    for (const how of [[], ["--deny-ffi"], ["--allow-ffi=libc.so.6"]]) {
      timed(
        `the program runs unpatched, with one warning and no prompt (${how[0] ?? "no flag"})`,
        20_000,
        async () => {
          const { lines, errors, ended } = await said("deno", "patch_by_hand.ts", {
            args: ["twice"],
            permissions: ["--allow-run", "--allow-read", "--allow-env", ...how],
          });
          assertEquals(ended, 0, errors);
          assertEquals(JSON.parse(lines[0]), nothing);
          assertMatch(
            errors,
            /^geventmp: nothing is patched: the ffi permission is not granted; run with --allow-ffi, or set GEVENTMP=0\n$/,
          );
        },
      );
    }

    timed("GEVENTMP=0 silences the warning", 20_000, async () => {
      const { lines, errors, ended } = await said("deno", "patch_by_hand.ts", {
        args: ["twice"],
        permissions: ["--allow-run", "--allow-read", "--allow-env"],
        env: { GEVENTMP: "0" },
      });
      assertEquals({ ended, errors }, { ended: 0, errors: "" });
      assertEquals(JSON.parse(lines[0]), nothing);
    });

    timed("the ffi permission alone is enough to read GEVENTMP", 20_000, async () => {
      const options = { args: ["ask"], permissions: ["--allow-ffi"] };
      assertEquals((await said("deno", "patch_by_hand.ts", options)).lines, ["true"]);
      const off = await said("deno", "patch_by_hand.ts", { ...options, env: { GEVENTMP: "0" } });
      assertEquals(off.lines, ["false"]);
    });
  });
}
