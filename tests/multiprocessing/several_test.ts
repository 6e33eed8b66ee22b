/** Several processes killed at the same moment: the holder of a lock, who waits for it, and who is in the middle of a queue. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Lock, Process, Queue, Semaphore, session } from "../../multiprocessing/mod.ts";
import { addAlone } from "../fixtures/sync_tasks.ts";
import { holdForEver, produce, waitForEver } from "../fixtures/tasks.ts";
import { backTo, STALL_MS, timed, use } from "./support.ts";

const W = { timeout: STALL_MS };

describe("killed at the same moment", () => {
  timed("a holder, two waiters and a producer leave the others unharmed", 60_000, async () => {
    const before = use();
    for (let round = 0; round < 3; round++) {
      using lock = new Lock();
      using counter = new Semaphore(0);
      using ready = new Queue<unknown>();
      using bounded = new Queue<[number, number]>({ maxSize: 1 });
      const holder = await new Process({ target: holdForEver, args: [lock, ready] }).start();
      await ready.get(W);
      const doomed = [
        holder,
        await new Process({ target: waitForEver, args: [lock, ready] }).start(),
        await new Process({ target: waitForEver, args: [lock, ready] }).start(),
        await new Process({ target: produce, args: [bounded, 0, 1000] }).start(),
      ];
      for (let i = 0; i < 2; i++) await ready.get(W);
      const living = await Promise.all(
        [1, 2].map(() => new Process({ target: addAlone, args: [lock, counter, 20] }).start()),
      );
      const own = lock.acquire(W);
      await bounded.get(W);
      for (const child of doomed) child.kill();
      (await own).release();
      for (const child of living) assertEquals(await child.join(W), 0);
      for (const child of doomed) assertEquals(await child.join(W), -9);
      assertEquals(counter.getValue(), 40);
      // Room that the producer had claimed is free.
      while (bounded.tryGet() !== null);
      assert(bounded.tryPut([0, 0]));
    }
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
