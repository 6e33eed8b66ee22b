import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";

const folder = fileURLToPath(new URL("../examples/", import.meta.url));
const LIMIT_MS = 60_000;

/** All that each example prints. */
const output = new Map([
  ["lease.ts", [
    "leased: first",
    "its taker ended with -9",
    "done: first",
    "done: second",
    "done: third",
    "all are finished: true",
  ]],
  ["barrier.ts", ["exit codes: 0 0 0", "work done: 300", "a party was killed: BrokenBarrierError"]],
  ["condition.ts", [
    "parts: 100",
    "within 20 ms: TimeoutError",
    "Condition(RLock(MainProcess, 1), waiters=0)",
  ]],
  ["lock.ts", [
    "counted to 300",
    "without waiting: null",
    "within 20 ms: TimeoutError",
    "its owner died: true with exit code -9",
  ]],
  ["named_semaphore.ts", [
    "Python did job 1",
    "Python did job 2",
    "Python did job 3",
    "it ended with 0",
    "the event loop turned: true",
  ]],
  ["pipe.ts", [
    "the first is ready: true with 1000000",
    "within 10 ms: 0 are",
    "closed, it ends with 0",
    "killed, it is the end: true",
    "and nobody receives: EPIPE",
  ]],
  ["queue.ts", [
    "sum of 1 to 1000: 500500",
    "maker ended with 0",
    "adder ended with 0",
    "nothing there: null",
    "within 10 ms: Empty",
    "after the shutdown: true",
  ]],
  ["semaphore.ts", ["visits: 6", "never more than two at once: true", "permits left: 2"]],
  ["shared_memory.ts", [
    "squared: 300000 and all are 9: true",
    "the last owner is alive: true",
    "it wrote: hello by name",
    "a view of closed memory: 0",
  ]],
  ["worker_thread.ts", [
    "the main thread may not block: true",
    "the Worker joined the session: true",
    "its child's result: 144 exit code: 0",
    "meanwhile the event loop turned: true",
  ]],
  ["workers.ts", [
    "primes up to 10: 4",
    "primes up to 100: 25",
    "primes up to 1000: 168",
    "primes up to 10000: 1229",
    "primes up to 100000: 9592",
    "primes up to 1000000: 78498",
    "exit codes are 0: true",
    "the event loop turned: true",
  ]],
]);

/** Each is the first of a session of its own. */
const { GEVENTMP_SESSION: _, ...inherited } = process.env;
const env = { ...inherited, NO_COLOR: "1" };

function run(path: string): { status: number | null; stderr: string; lines: string[] } {
  const flags = "Bun" in globalThis ? [] : ["run", "-A", "--no-prompt", "--no-check"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, path], {
    encoding: "utf8",
    timeout: LIMIT_MS,
    env,
  });
  return { status, stderr, lines: stdout.trimEnd().split("\n") };
}

describe("examples", () => {
  it("are all here", () => {
    assertEquals(
      readdirSync(folder).filter((name) => name.endsWith(".ts")).sort(),
      [...output.keys()].sort(),
    );
  });

  // In CI there must be one: the example then fails.
  const noPython = !process.env.CI && spawnSync("python3", ["--version"]).status !== 0;
  for (const [name, lines] of output) {
    if (noPython && name === "named_semaphore.ts") it.skip(`${name} (no python3 on this machine)`, () => {});
    else it(name, () => assertEquals(run(folder + name), { status: 0, stderr: "", lines }));
  }

  it("README's quick start", () => {
    const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
    const [program] = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, text]) => text).filter((text) =>
      text.startsWith("import")
    );
    const own = mkdtempSync(join(tmpdir(), "quick-start-"));
    try {
      const mod = new URL("../mod.ts", import.meta.url).href;
      writeFileSync(join(own, "main.ts"), program.replace('"@karellen/geventmp"', JSON.stringify(mod)));
      assertEquals(run(join(own, "main.ts")), { status: 0, stderr: "", lines: ["338350"] });
    } finally {
      rmSync(own, { recursive: true });
    }
  });
});
