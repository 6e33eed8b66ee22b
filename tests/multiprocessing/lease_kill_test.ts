/** Consumers that lease, and producers, killed from outside at any time. `GEVENTMP_STRESS` says how many: 60 unless it is set. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { JoinableQueue, Lock, Process, session } from "../../multiprocessing/mod.ts";
import { checksum } from "../fixtures/crash_tasks.ts";
import { type Item, produce } from "../fixtures/kill_tasks.ts";
import { lease } from "../fixtures/queue_tasks.ts";
import { backTo, pause, STALL_MS, timed, use, within } from "./support.ts";

const KILLS = Number(process.env.GEVENTMP_STRESS ?? 60);

interface Worker {
  readonly produces: boolean;
  readonly who: number;
  readonly process: Process<never[]>;
  readonly journal: string;
  killed: boolean;
}

/** Lines of a journal; what follows the last line feed was not told to its end. */
function lines(journal: string): string[] {
  try {
    return readFileSync(journal, "utf8").split("\n").slice(0, -1);
  } catch {
    return [];
  }
}

describe("killed at random", () => {
  timed(`${KILLS} consumers that lease, and producers`, 60_000 + KILLS * 1000, async () => {
    const before = use();
    const folder = mkdtempSync(join(tmpdir(), "leases-killed-"));
    const queue = new JoinableQueue<Item>({ maxSize: 40 });
    const stop = new Lock();
    const workers: Worker[] = [];
    const start = async (produces: boolean): Promise<Worker> => {
      const who = workers.length;
      const journal = join(folder, String(who));
      const made = new Process({ target: produces ? produce : lease, args: [who, journal, queue, stop] });
      const worker = { produces, who, journal, process: made as unknown as Process<never[]>, killed: false };
      workers.push(worker);
      await made.start();
      return worker;
    };
    let living = await Promise.all([true, true, false, false, false].map(start));
    for (let kill = 0; kill < KILLS; kill++) {
      await pause(Math.random() * 60);
      const victim = living[Math.floor(Math.random() * living.length)];
      // On a busy machine it takes a while until one has begun.
      if (victim.produces) await within(STALL_MS, "a put", () => lines(victim.journal).length > 5);
      assertEquals(victim.process.exitCode, null, "a worker ended by itself");
      victim.process.kill();
      victim.killed = true;
      assertEquals(await victim.process.join({ timeout: STALL_MS }), -9);
      living = living.filter((worker) => worker !== victim);
      living.push(await start(victim.produces));
    }
    const guard = await stop.acquire();
    for (const worker of living) assertEquals(await worker.process.join({ timeout: STALL_MS }), 0);

    const done = new Set(
      workers.filter(({ produces }) => !produces).flatMap(({ journal }) => lines(journal)),
    );
    for (let last = queue.tryLease(); last !== null; last = queue.tryLease()) {
      const [who, n, sum, filler] = last.value;
      assertEquals(checksum(filler), sum, "a torn message");
      done.add(`${who} ${n}`);
      last.ack();
    }
    // The count is what is left of puts and acknowledgements of all who were killed.
    await queue.join({ timeout: STALL_MS });
    assertThrows(() => queue.taskDone(), RangeError);
    assertEquals(queue.qsize(), 0);
    assert(queue.tryPut([0, 0, 0, new Uint8Array(0)]), "the queue counts items that are gone");
    assertEquals(queue.tryJoin(), false, "an item counts as finished that was not");

    let told = 0;
    const lost: string[] = [];
    for (const { who, journal, killed } of workers.filter(({ produces }) => produces)) {
      const acknowledged = lines(journal);
      told += acknowledged.length;
      lost.push(...acknowledged.map((n) => `${who} ${n}`).filter((item) => !done.delete(item)));
      // One put may have been cut off before it told.
      if (killed) done.delete(`${who} ${acknowledged.length}`);
    }
    assertEquals(lost, [], "lost");
    assertEquals([...done], [], "done, and never put");
    assert(told > KILLS * 5, `only ${told} items were put`);
    guard.release();
    for (const handle of [queue, stop]) handle[Symbol.dispose]();
    rmSync(folder, { recursive: true });
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
