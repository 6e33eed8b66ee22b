import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { afterAll, beforeAll, describe, it } from "@std/testing/bdd";
import { FileCounter } from "../../scripts/demo/count.ts";
import { filesUnder } from "../../scripts/demo/files.ts";
import { Progress } from "../../scripts/demo/progress.ts";
import { StallWatch } from "../../scripts/demo/stall.ts";

const demo = fileURLToPath(new URL("../../scripts/demo.ts", import.meta.url));
const LIMIT_MS = 60_000;

/** Each run is the first process of a session of its own. */
const { GEVENTMP_SESSION: _, ...inherited } = process.env;

function run(args: readonly string[], env: Record<string, string> = {}) {
  const before = totalFolders();
  const flags = "Bun" in globalThis ? [] : ["run", "-A", "--no-prompt", "--no-check"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, demo, ...args], {
    encoding: "utf8",
    timeout: LIMIT_MS,
    env: { ...inherited, NO_COLOR: "1", ...env },
  });
  assertEquals(totalFolders(), before, "the demo left its total behind");
  return { status, stdout, stderr };
}

const totalFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith("demo-total-"));

describe("demo", () => {
  let folder = "";
  const texts = new Map<string, Uint8Array>();

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "demo-test-"));
    mkdirSync(join(folder, "below", "deeper"), { recursive: true });
    mkdirSync(join(folder, "empty"));
    const encoder = new TextEncoder();
    texts.set("empty file", new Uint8Array());
    texts.set("spaces only", encoder.encode(" \n\t\r\v\f "));
    texts.set("below/größe 日本.txt", encoder.encode("größe  日本\nthree"));
    texts.set("below/deeper/zero bytes", Uint8Array.of(0, 0, 32, 0));
    // A word lies across each border of the pieces that files are read in.
    texts.set("below/large", encoder.encode("five5 ".repeat(300_000)));
    for (let i = 0; i < 40; i++) texts.set(`below/small ${i}`, encoder.encode("word ".repeat(i)));
    for (const [name, text] of texts) writeFileSync(join(folder, name), text);
    symlinkSync(join(folder, "below"), join(folder, "link to a folder"));
    symlinkSync(join(folder, "below", "large"), join(folder, "link to a file"));
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  it("lists regular files only, largest first", async () => {
    const files = await filesUnder(folder);
    assertEquals(new Set(files.map(({ name }) => name)), new Set(texts.keys()));
    assertEquals(files[0], { name: "below/large", size: 1_800_000 });
    assert(files.every(({ size }, i) => i === 0 || size <= files[i - 1].size));
  });

  it("counts a file as wc -w and sha256sum do", async () => {
    const counter = new FileCounter();
    const words = new Map([
      ["empty file", 0],
      ["spaces only", 0],
      ["below/größe 日本.txt", 3],
      ["below/deeper/zero bytes", 2],
      ["below/large", 300_000],
    ]);
    for (const [name, count] of words) {
      assertEquals(await counter.count(join(folder, name)), {
        bytes: texts.get(name)!.length,
        words: count,
        digest: createHash("sha256").update(texts.get(name)!).digest("hex"),
      });
    }
  });

  it("counts a folder with several processes and finds the same", () => {
    const { status, stdout, stderr } = run([folder, "--processes", "3"]);
    assertEquals({ status, stderr }, { status: 0, stderr: "" }, stdout);
    const bytes = [...texts.values()].reduce((sum, text) => sum + text.length, 0).toLocaleString("en");
    const words = (300_005 + 40 * 39 / 2).toLocaleString("en");
    for (const name of ["sequential run", "3 processes"]) {
      assertMatch(stdout, new RegExp(`^${name} +${texts.size} +${bytes} +${words} `, "m"));
    }
    assertStringIncludes(stdout, "speed-up");
    assertMatch(stdout, /longest stall of the parent's event loop: \d+\.\d ms/);
    assertStringIncludes(stdout, `all ${texts.size} digests and the total under the lock are as`);
  });

  it("exits with 1 when a digest differs", () => {
    const { status, stderr } = run([folder], { GEVENTMP_DEMO_FAULT: "digest:below/small 7" });
    assertEquals(status, 1);
    assertMatch(
      stderr,
      /different: below\/small 7\n +sequential run: .*SHA-256.*\n +\d+ process(es)?: .*SHA-256/,
    );
    assertMatch(stderr, /^1 differences?$/m);
  });

  it("exits with 1 when the total under the lock differs", () => {
    const { status, stderr } = run([folder], { GEVENTMP_DEMO_FAULT: "total:below/small 7" });
    assertEquals(status, 1);
    assertStringIncludes(stderr, "the total under the lock is");
  });

  it("exits with 1, and does not hang, when a process is killed", () => {
    const { status, stderr } = run([folder], { GEVENTMP_DEMO_FAULT: "death:below/small 7" });
    assertEquals(status, 1);
    assertMatch(stderr, /Cannot finish: counter \d ended with exit code -9/);
  });

  it("refuses what it cannot do with exit code 2", () => {
    assertMatch(run([join(folder, "nowhere")]).stderr, /Cannot list the files under .*nowhere/);
    assertMatch(run([join(folder, "empty")]).stderr, /there is no file under/);
    assertMatch(run([folder, "--processes", "none"]).stderr, /must be a whole number/);
    const { status, stderr } = run([folder, folder]);
    assertEquals(status, 2);
    assertStringIncludes(stderr, "usage:");
  });

  it("draws its progress on a terminal only", () => {
    const draw = (isTTY: boolean) => {
      let drawn = "";
      {
        using progress = new Progress({ isTTY, columns: 80, write: (text) => drawn += text }, "files", 4);
        for (const end = performance.now() + 60; performance.now() < end;);
        progress.advance(2);
      }
      return drawn;
    };
    assertEquals(draw(false), "");
    assertEquals(draw(true).split("\r\x1b[K"), [
      "",
      `files ${"░".repeat(30)} 0%`,
      `files ${"█".repeat(15)}${"░".repeat(15)} 50%`,
      "",
    ]);
  });

  it("notices a stalled loop", async () => {
    using watch = new StallWatch();
    for (const end = performance.now() + 40; performance.now() < end;);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { longest, busiest } = watch.take();
    assert(longest.late > 30, `found ${longest.late} ms`);
    assert(busiest.own > 0 && busiest.own <= busiest.late);
  });
});
