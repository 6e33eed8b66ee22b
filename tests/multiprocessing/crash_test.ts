/**
 * A child is killed, or stopped, at every crash point while it shares a lock, a semaphore and queues with this process. What it acknowledged
 * stands in a file, outside of shared memory.
 */
import { assert, assertEquals, assertLess } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lock, Process, Queue, Semaphore, session, TimeoutError } from "../../mod.ts";
import { CRASH_POINTS, type CrashPoint } from "../../multiprocessing/core/crash.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { killProcess, signals } from "../../platform/mod.ts";
import { checksum, churn, type Plan, type Shared } from "../fixtures/crash_tasks.ts";

const STALL_MS = 20_000;
const PERMITS = 4;
const folder = mkdtempSync(join(tmpdir(), "crash-points-"));
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Points that a child reaches only while it does more than the common round. */
const LATE: Partial<Record<CrashPoint, number>> = {
  "arena.dying": 620,
  "arena.publish": 620,
  "handle.release": 610,
};

class Survivor {
  readonly shared: Shared = {
    lock: new Lock(),
    semaphore: new Semaphore(PERMITS),
    work: new Queue(),
    results: new Queue(),
  };
  readonly received: number[] = [];
  sent = 0;
  #stopped = false;
  readonly #loops: Promise<void>[];

  constructor() {
    this.#loops = [this.#contendLock(), this.#contendSemaphore(), this.#feed(), this.#drain()];
  }

  async #until(work: () => Promise<void>): Promise<void> {
    while (!this.#stopped) await work();
  }

  #contendLock(): Promise<void> {
    let n = 0;
    return this.#until(async () => {
      using _guard = await this.shared.lock.acquire({ timeout: STALL_MS });
      await pause(n++ % 2);
    });
  }

  #contendSemaphore(): Promise<void> {
    return this.#until(async () => {
      // All permits, so that the child has to wait.
      let held = 0;
      try {
        for (; held < PERMITS; held++) await this.shared.semaphore.acquire({ timeout: 50 });
      } catch (error) {
        // A permit that a killed process held is lost, as documented.
        if (!(error instanceof TimeoutError)) throw error;
      }
      await pause(1);
      if (held > 0) this.shared.semaphore.release(held);
      await pause(1);
    });
  }

  #feed(): Promise<void> {
    return this.#until(async () => {
      if (this.shared.work.qsize() < 5) {
        using handle = new Lock();
        const size = this.sent % 3 === 0 ? 3000 : 5;
        await this.shared.work.put([this.sent, this.sent % 2 === 0 ? handle : null, new Uint8Array(size)]);
        this.sent++;
      }
      await pause(1);
    });
  }

  #drain(): Promise<void> {
    return this.#until(async () => {
      try {
        this.take(await this.shared.results.get({ timeout: 20 }));
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error;
      }
    });
  }

  take([number, sum, filler]: [number, number, Uint8Array]): void {
    assertEquals(checksum(filler), sum, "a torn message");
    this.received.push(number);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#loops);
  }

  /** The rest, and what must hold of all of it. */
  async settle(journal: string): Promise<void> {
    await this.stop();
    for (let item = this.shared.results.tryGet(); item !== null; item = this.shared.results.tryGet()) {
      this.take(item.value);
    }
    const lines = readFileSync(journal, "utf8").split("\n").filter(Boolean).map((line) => line.split(" "));
    const acknowledged = lines.filter(([what]) => what === "put").map(([, n]) => Number(n));
    const taken = lines.filter(([what]) => what === "got").map(([, n]) => Number(n));
    // In order, each once; what was acknowledged is there, and at most one that was not.
    assertEquals(this.received, Array.from({ length: this.received.length }, (_, i) => i));
    assert(
      this.received.length - acknowledged.length >= 0 && this.received.length - acknowledged.length <= 1,
      `${acknowledged.length} acknowledged, ${this.received.length} received`,
    );
    const rest: number[] = [];
    for (let item = this.shared.work.tryGet(); item !== null; item = this.shared.work.tryGet()) {
      rest.push(item.value[0]);
      item.value[1]?.[Symbol.dispose]();
    }
    // One item may have been taken by the dead without having been told.
    const all = new Set([...taken, ...rest]);
    assertEquals(all.size, taken.length + rest.length, "an item was delivered twice");
    assert(
      this.sent - all.size >= 0 && this.sent - all.size <= 1,
      `${this.sent} sent, ${all.size} accounted for`,
    );
    // The objects work.
    using guard = await this.shared.lock.acquire({ timeout: STALL_MS });
    assertEquals(typeof guard.abandoned, "boolean");
    assert(this.shared.semaphore.getValue() >= PERMITS - 1);
    await this.shared.results.put([0, checksum(new Uint8Array(0)), new Uint8Array(0)]);
    await this.shared.results.get({ timeout: STALL_MS });
  }

  dispose(): void {
    for (const handle of Object.values(this.shared)) (handle as Disposable)[Symbol.dispose]();
  }
}

function state(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
}

async function within(ms: number, what: string, condition: () => boolean): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > ms) throw new Error(`${what} did not come within ${ms} ms`);
    await pause(2);
  }
}

async function start(
  plan: Omit<Plan, "journal">,
): Promise<{ survivor: Survivor; child: Process<[Plan, Shared]>; journal: string }> {
  const journal = join(folder, `${plan.point}-${plan.action}`);
  writeFileSync(journal, "");
  const survivor = new Survivor();
  const child = new Process({ target: churn, args: [{ ...plan, journal }, survivor.shared] });
  await child.start();
  return { survivor, child, journal };
}

const use = (): { blocks: number; agents: number; held: number } => {
  current().agents.reapAll();
  const { blocks, agents, held } = current().use();
  return { blocks, agents, held };
};

describe("killed at", () => {
  for (const point of CRASH_POINTS) {
    it(point, async () => {
      const before = use();
      const { survivor, child, journal } = await start({
        point,
        nth: LATE[point] ?? 1,
        action: "kill",
        rounds: 400,
      });
      try {
        const code = await child.join({ timeout: 60_000 });
        assertEquals(code, -9, `the crash point was not reached: exit code ${code}`);
        await survivor.settle(journal);
      } finally {
        child.kill();
        await survivor.stop();
      }
      survivor.dispose();
      // Handles that were on their way to the dead are seen to be lost when it is scrubbed.
      await within(STALL_MS, "the arena as it was", () => JSON.stringify(use()) === JSON.stringify(before));
    });
  }
});

describe("stopped at", () => {
  for (const point of CRASH_POINTS) {
    it(point, async () => {
      const { survivor, child, journal } = await start({
        point,
        nth: LATE[point] ?? 1,
        action: "stop",
        rounds: 25,
      });
      try {
        await within(
          60_000,
          "the stop",
          () => child.pid !== undefined && (child.exitCode !== null || state(child.pid) === "T"),
        );
        assertEquals(child.exitCode, null, "the crash point was not reached");
        const time = (work: () => void): void => {
          const started = performance.now();
          work();
          assertLess(performance.now() - started, 1000, "a stopped process stopped this one");
        };
        for (let i = 0; i < 20; i++) {
          time(() => void survivor.shared.semaphore.release());
          time(() => void survivor.shared.semaphore.tryAcquire());
          time(() => void survivor.shared.lock.tryAcquire()?.release());
          time(() => {
            using lock = new Lock();
            lock.tryAcquire()!.release();
          });
          time(() => {
            using queue = new Queue<number>();
            assert(queue.tryPut(1));
            assertEquals(queue.tryGet(), { value: 1 });
          });
          time(() => void assert(survivor.shared.work.tryPut([survivor.sent++, null, new Uint8Array(100)])));
        }
        const started = performance.now();
        await survivor.shared.lock.acquire({ timeout: 30 }).then(
          (guard) => guard.release(),
          (error) => assert(error instanceof TimeoutError),
        );
        assertLess(performance.now() - started, 5000, "a time-out did not hold");
        killProcess(child.pid!, signals.SIGCONT);
        assertEquals(await child.join({ timeout: 60_000 }), 0);
        await survivor.settle(journal);
      } finally {
        if (child.exitCode === null) child.kill();
        await survivor.stop();
      }
      survivor.dispose();
    });
  }
});

describe("the end", () => {
  it("leaves the session", async () => {
    rmSync(folder, { recursive: true });
    await session()[Symbol.asyncDispose]();
  });
});
