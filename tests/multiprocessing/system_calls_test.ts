import { assert } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { command, thisRuntime } from "./support.ts";

const traceable = spawnSync("strace", ["-o", "/dev/null", "true"]).status === 0;

/** System calls that the main thread of strace_program.ts made between its two calls of getppid. */
function between(what: string, times: number): string[] {
  const folder = mkdtempSync(join(tmpdir(), "strace-"));
  try {
    const [file, args] = command(thisRuntime, "strace_program.ts", [what, String(times)]);
    const log = join(folder, "log");
    const { status, stderr } = spawnSync("strace", ["-f", "-qq", "-o", log, file, ...args], {
      encoding: "utf8",
      timeout: 60_000,
    });
    assert(status === 0, `the traced program failed: ${stderr}`);
    const lines = readFileSync(log, "latin1").split("\n");
    const marks = lines.flatMap((line, at) => /^\d+ +getppid\(/.test(line) ? [at] : []);
    assert(marks.length >= 2, `${marks.length} marks in the trace`);
    const [from, to] = marks.slice(-2);
    const thread = lines[from].split(" ")[0];
    return lines.slice(from + 1, to).filter((line) => line.startsWith(`${thread} `))
      .map((line) => /^\d+ +(?:<\.\.\. )?(\w+)/.exec(line)?.[1] ?? "").filter((name) => name !== "");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What this module calls when it rings, parks, or looks whether somebody lives. What engines call for their heaps and loops is not in it. */
const OURS = /^(?:sendto|sendmsg|connect|fcntl|kill|eventfd2|memfd_create|fallocate)$/;

describe("system calls", () => {
  if (!traceable) {
    it("need strace to be counted", () => {
      assert(
        process.env.CI === undefined,
        "there is no working strace: install Debian's package of that name",
      );
      console.log("skipped: there is no working strace");
    });
    return;
  }

  for (
    const what of [
      "lock, tried",
      "lock, awaited",
      "semaphore, tried",
      "semaphore, awaited",
      "queue, awaited",
    ]
  ) {
    it(`${what}: none in 10,000 uncontended pairs`, () => {
      const calls = between(what, 10_000);
      const ours = calls.filter((name) => OURS.test(name));
      assert(ours.length === 0, `${ours.length} of ours: ${[...new Set(ours)]}`);
      // Collections, compilations and the turns of the loop that are taken about once a millisecond.
      assert(calls.length < 1000, `${calls.length} calls in all: ${[...new Set(calls)]}`);
    });
  }

  it("queue: one write for each put that wakes a getter", () => {
    const puts = 50;
    const calls = between("queue, whose getter sleeps", puts);
    const rings = calls.filter((name) => /^(?:sendto|sendmsg)$/.test(name)).length;
    // What loops write to wake their own threads is not a ring.
    assert(rings >= puts && rings <= puts * 1.2 + 5, `${rings} writes for ${puts} puts`);
  });
});
