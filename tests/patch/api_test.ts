/** Patching by hand: options, originals, and two copies of the module in one agent. */
import { assert, assertEquals, assertNotStrictEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Lock, session } from "../../multiprocessing/mod.ts";
import { isPatched, onLoopBlocked, original, patchAll, type PatchedFunction } from "../../patch/api.ts";
import { agentAt } from "../../multiprocessing/core/agents.ts";
import { holders } from "../../multiprocessing/core/holders.ts";
import { A_HELD } from "../../multiprocessing/core/layout.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { thisRuntime } from "../multiprocessing/support.ts";
import { ownCalls } from "../fixtures/patch_blocking.ts";

const { Deno, Bun } = globalThis as unknown as {
  Deno: { Command: { prototype: { outputSync: unknown } } };
  Bun: { spawnSync: unknown };
};
const FUNCTION: PatchedFunction = thisRuntime === "bun"
  ? "Bun.spawnSync"
  : "Deno.Command.prototype.outputSync";
const OTHER: PatchedFunction = thisRuntime === "bun" ? "Deno.Command.prototype.outputSync" : "Bun.spawnSync";
const now = (): unknown => thisRuntime === "bun" ? Bun.spawnSync : Deno.Command.prototype.outputSync;
const [, run] = Object.entries(ownCalls)[0];

// A whole copy, as an application and a library may each bring one.
const folder = mkdtempSync(join(tmpdir(), "copy-"));
for (const part of ["mod.ts", "dist", "ffi", "platform", "multiprocessing", "patch"]) {
  cpSync(fileURLToPath(new URL(`../../${part}`, import.meta.url)), join(folder, part), { recursive: true });
}
const copy: typeof import("../../mod.ts") = await import(pathToFileURL(join(folder, "mod.ts")).href);
rmSync(folder, { recursive: true });

describe("patchAll", () => {
  it("refuses what is not available, and what it does not know, and then changes nothing", () => {
    for (const key of ["worker", "children"]) {
      assertThrows(
        () => patchAll({ [key]: true }),
        RangeError,
        `{ ${key}: true }: it is not available in this version`,
      );
    }
    assertThrows(() => patchAll({ subproces: true } as never), RangeError, 'there is no option "subproces"');
    assert(!isPatched());
    assertThrows(() => original(FUNCTION), RangeError, "call patchAll() first");
  });

  it("does nothing with { geventmp: false }", () => {
    const before = now();
    patchAll({ geventmp: false });
    assert(!isPatched());
    assertStrictEquals(now(), before);
  });

  it("patches once, whoever calls it, and gives the original to all", () => {
    const before = now();
    patchAll({ worker: false, children: false });
    const patched = now();
    assertNotStrictEquals(patched, before);
    patchAll({ subprocess: true });
    copy.patchAll();
    assertStrictEquals(now(), patched);
    for (const module of [{ isPatched, original }, copy]) {
      assert(module.isPatched());
      assert(module.isPatched(thisRuntime === "bun" ? "Bun.spawnSync" : "Deno.Command"));
      assert(module.isPatched("node:child_process"));
      assert(!module.isPatched(thisRuntime === "bun" ? "Deno.Command" : "Bun.spawnSync"));
      assertStrictEquals(module.original(FUNCTION), before);
      assertEquals(
        module.original("node:child_process.spawnSync")("echo", ["out"]).stdout.toString(),
        "out\n",
      );
      assertThrows(() => module.original(OTHER), RangeError, "it is not patched here");
    }
  });
});

describe("a patched call", () => {
  it("holds the sessions of both copies, and tells the watchers of both, once", async () => {
    using _lock = new Lock();
    using _other = new copy.Lock();
    assertEquals(holders().size, 2);
    let told = 0;
    using _watch = onLoopBlocked(() => told++, { threshold: 0 });
    using _theirs = copy.onLoopBlocked(() => told++, { threshold: 0 });
    const began: number[] = [];
    const ended: number[] = [];
    const all = [...holders()];
    const undo = all.map((holder, i) => {
      const { beginHold, endHold } = holder;
      holder.beginHold = () => (began.push(i), beginHold.call(holder));
      holder.endHold = () => (ended.push(i), endHold.call(holder));
      return () => Object.assign(holder, { beginHold, endHold });
    });
    run("true", []);
    for (const restore of undo) restore();
    assertEquals([began, ended, told], [[0, 1], [0, 1], 2]);
    for (const name of ["spawnSync", "execSync", "execFileSync"] as const) {
      const patched = now();
      assertEquals(String(original(`node:child_process.${name}`)("true").stdout ?? ""), "");
      assertStrictEquals(now(), patched);
    }
    assertEquals(told, 2, "an original is nobody's to be told of");
    await copy.session()[Symbol.asyncDispose]();
    assertEquals(holders().size, 1);
    assertEquals(run("echo", ["out"]), "out\n");
  });

  it("leaves the agent held while another one is around it", () => {
    const { waits, arena, token } = current();
    const held = (): number => Atomics.load(arena.i32, agentAt(token) + A_HELD);
    assertEquals(held(), 0);
    waits.held(() => {
      run("true", []);
      assertEquals(held(), 1);
    });
    assertEquals(held(), 0);
  });

  it("ends with its session", async () => {
    await session()[Symbol.asyncDispose]();
    assertEquals(holders().size, 0);
    assertEquals(run("echo", ["out"]), "out\n");
    assertEquals(holders().size, 0);
  });
});
