import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joinPath } from "node:path";
import {
  Barrier,
  BlockingError,
  BrokenBarrierError,
  Lock,
  Process,
  Queue,
  Semaphore,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { waitAt } from "../fixtures/meeting_tasks.ts";
import { startIn } from "../fixtures/places.ts";
import {
  abortAndReset,
  abortThird,
  come,
  endLasting,
  endlessAction,
  failing,
  isLasting,
  lasting,
  lateThird,
  listOne,
  passBarrier,
  passWithAction,
  resetThird,
  tellPasses,
} from "../fixtures/sync_tasks.ts";
import { leaveLast, pause, STALL_MS, timed, within } from "./support.ts";

const W = { timeout: STALL_MS };
/** Where four of five parties are; the fifth is here. */
const FOUR = { processes: 2, workers: 2 };

describe("Barrier", () => {
  for (const [id, passes] of [["BARR-01", 1], ["BARR-02", 10]] as const) {
    timed(`${id} is passed ${passes} times in lockstep`, 60_000, async () => {
      using barrier = new Barrier(5, { timeout: 30_000 });
      using before = new Semaphore(0);
      using after = new Semaphore(0);
      const join = await startIn(FOUR, passBarrier, [barrier, before, after, passes, 5]);
      await passBarrier(barrier, before, after, passes, 5);
      await join();
      assertEquals(before.getValue(), 5 * passes);
      assertEquals(barrier.nWaiting, 0);
      assertEquals(barrier.broken, false);
    });
  }

  timed("BARR-04 runs its action once, before anybody goes on", 60_000, async () => {
    const folder = mkdtempSync(joinPath(tmpdir(), "barrier-"));
    const path = joinPath(folder, "list");
    writeFileSync(path, "");
    using barrier = new Barrier(5, { action: listOne, timeout: 30_000 });
    using lengths = new Queue<number>();
    const join = await startIn(FOUR, passWithAction, [barrier, path, lengths]);
    await passWithAction(barrier, path, lengths);
    for (let i = 0; i < 5; i++) assertEquals(await lengths.get(W), 1);
    await join();
    rmSync(folder, { recursive: true });
  });

  timed("BARR-05 abort breaks it", 60_000, async () => {
    using barrier = new Barrier(5, { timeout: 30_000 });
    using passed = new Semaphore(0);
    using broken = new Semaphore(0);
    const join = await startIn(FOUR, abortThird, [barrier, passed, broken]);
    await abortThird(barrier, passed, broken);
    await join();
    assertEquals([passed.getValue(), broken.getValue(), barrier.broken], [0, 4, true]);
  });

  timed("BARR-06 reset refuses who waits, and begins anew", 60_000, async () => {
    using barrier = new Barrier(5, { timeout: 30_000 });
    const counts = [new Semaphore(0), new Semaphore(0), new Semaphore(0)] as const;
    const join = await startIn(FOUR, resetThird, [barrier, ...counts]);
    await resetThird(barrier, ...counts);
    await join();
    assertEquals(counts.map((count) => count.getValue()), [0, 4, 5]);
    for (const count of counts) count[Symbol.dispose]();
  });

  timed("BARR-07 can be reset after it was broken", 60_000, async () => {
    using barrier = new Barrier(5, { timeout: 30_000 });
    using second = new Barrier(5, { timeout: 30_000 });
    const counts = [new Semaphore(0), new Semaphore(0), new Semaphore(0)] as const;
    const join = await startIn(FOUR, abortAndReset, [barrier, second, ...counts]);
    await abortAndReset(barrier, second, ...counts);
    await join();
    assertEquals(counts.map((count) => count.getValue()), [0, 4, 5]);
    for (const count of counts) count[Symbol.dispose]();
  });

  timed("BARR-09 has a time-out for waits that have none", 60_000, async () => {
    using barrier = new Barrier(5, { timeout: 500 });
    using broken = new Semaphore(0);
    const join = await startIn(FOUR, lateThird, [barrier, broken]);
    await lateThird(barrier, broken);
    await join();
    assertEquals(broken.getValue(), 5);
  });

  it("BARR-10 of one party never waits", async () => {
    using barrier = new Barrier(1);
    assertEquals(await barrier.wait(), 0);
    assertEquals(await barrier.wait({ timeout: 0 }), 0);
  });

  timed("BARR-11 lets nobody lap another in a thousand passes", 120_000, async () => {
    using barrier = new Barrier(5);
    using lock = new Lock();
    using passes = new Queue<number>();
    const join = await startIn({ processes: 5 }, tellPasses, [barrier, lock, passes, 1000]);
    for (let i = 0; i < 1000; i++) {
      for (let party = 0; party < 5; party++) assertEquals(await passes.get(W), i);
    }
    await join();
  });

  it("gives each an index, in order of arrival", async () => {
    using barrier = new Barrier(4);
    for (let pass = 0; pass < 3; pass++) {
      assertEquals(await Promise.all(Array.from({ length: 4 }, () => barrier.wait())), [0, 1, 2, 3]);
    }
    assertEquals(String(barrier), "Barrier(parties=4, waiting=0)");
    assertEquals(barrier.parties, 4);
  });

  it("serves more callers than parties", async () => {
    using barrier = new Barrier(3);
    const indices = await Promise.all(Array.from({ length: 300 }, () => barrier.wait(W)));
    assertEquals(indices.filter((index) => index === 2).length, 100);
  });

  timed("breaks when a party is killed while it waits, and says which", 40_000, async () => {
    using barrier = new Barrier(3);
    using ready = new Queue<string>();
    const child = await new Process({ target: waitAt, args: [barrier, ready] }).start();
    await ready.get(W);
    await within(STALL_MS, "the child", () => barrier.nWaiting === 1);
    const { pid } = child;
    const waiting = barrier.wait(W);
    child.kill();
    await assertRejects(() => waiting, BrokenBarrierError, `process ${pid} died`);
    await assertRejects(() => barrier.wait(), BrokenBarrierError, `process ${pid} died`);
    assertEquals(await child.join(W), -9);
    barrier.reset();
    assertEquals((await Promise.all([1, 2, 3].map(() => barrier.wait(W)))).sort(), [0, 1, 2]);
  });

  it("breaks for all when one times out or is aborted", async () => {
    using barrier = new Barrier(3);
    const aborter = new AbortController();
    const waits = [barrier.wait({ signal: aborter.signal }), barrier.wait()];
    aborter.abort(new RangeError("enough"));
    await assertRejects(() => waits[0], RangeError, "enough");
    await assertRejects(() => waits[1], BrokenBarrierError, "aborted");
    barrier.reset();
    const error = await assertRejects(() => barrier.wait({ timeout: 10 }), BrokenBarrierError, "10 ms");
    assertInstanceOf(error.cause, TimeoutError);
    assert(barrier.broken);
    assertEquals(String(barrier), "Barrier(parties=3, broken)");
  });

  it("breaks when its action fails", async () => {
    using barrier = new Barrier(2, { action: failing });
    const [first, last] = await Promise.allSettled([barrier.wait(W), barrier.wait(W)]);
    assertInstanceOf((first as PromiseRejectedResult).reason, BrokenBarrierError);
    assertInstanceOf((last as PromiseRejectedResult).reason, RangeError);
    assert(barrier.broken);
  });

  it("has who comes while the action runs wait for the next round", async () => {
    using barrier = new Barrier(2, { action: lasting });
    const first = Promise.all([barrier.wait(W), barrier.wait(W)]);
    await within(STALL_MS, "the action", isLasting);
    const early = barrier.wait(W);
    await pause(20);
    endLasting();
    assertEquals(await first, [0, 1]);
    await within(STALL_MS, "the early one", () => barrier.nWaiting === 1);
    const late = barrier.wait(W);
    await pause(20);
    endLasting();
    assertEquals(await Promise.all([early, late]), [0, 1]);
  });

  timed("breaks when its action's process is killed", 40_000, async () => {
    using barrier = new Barrier(2, { action: endlessAction });
    using results = new Queue<unknown>();
    const first = barrier.wait(W);
    const child = await new Process({ target: come, args: [barrier, results] }).start();
    await within(STALL_MS, "the action", () => barrier.nWaiting === 0);
    child.kill();
    await assertRejects(() => first, BrokenBarrierError, "died");
    assertEquals(await child.join(W), -9);
  });

  it("refuses what makes no sense", () => {
    for (const parties of [0, -1, 1.5, NaN, 70_000]) {
      assertThrows(() => new Barrier(parties), RangeError, String(parties));
    }
    assertThrows(() => new Barrier(2, { action: () => {} }), TypeError, "must be a task");
    assertThrows(() => new Barrier(2, { timeout: NaN }), TypeError, "NaN");
    using barrier = new Barrier(2);
    assertThrows(() => barrier.waitSync(), BlockingError);
    assertThrows(() => barrier.waitSync({ allowBlocking: true, timeout: 10 }), BrokenBarrierError);
    barrier[Symbol.dispose]();
    assertThrows(() => barrier.reset(), TypeError, "disposed");
    assertEquals(String(barrier), "Barrier(disposed)");
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await leaveLast();
  });
});
