/** JoinableQueue: rows JQ of the conformance list, and what kills do to its count. */
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { JoinableQueue, Process, Queue, session, TimeoutError } from "../../multiprocessing/mod.ts";
import type { CrashPoint } from "../../multiprocessing/core/crash.ts";
import { getAndHang, joiner, leaseAndHang, putAndDie, worker } from "../fixtures/queue_tasks.ts";
import { backTo, STALL_MS, timed, use } from "./support.ts";

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Whether a promise has settled, after two turns of the loop. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  promise.then(() => settled = true, () => settled = true);
  await turn();
  await turn();
  return settled;
}

describe("JoinableQueue", () => {
  timed("JQ-01 join waits for as many taskDone as puts", 60_000, async () => {
    using queue = new JoinableQueue<number | null>();
    const workers = await Promise.all(
      Array.from({ length: 4 }, () => new Process({ target: worker, args: [queue, 100] }).start()),
    );
    for (let i = 0; i < 10; i++) await queue.put(i);
    const start = performance.now();
    await queue.join({ timeout: STALL_MS });
    // Ten items, four workers, 100 ms each.
    assert(performance.now() - start > 200, "the queue was joined before its items were finished");
    for (const _ of workers) await queue.put(null);
    for (const process of workers) assertEquals(await process.join({ timeout: STALL_MS }), 0);
  });

  // Where CPython raises OSError, ours is a TypeError, as for every handle that was closed.
  it("JQ-02 a closed queue is empty if it was not used, else it is closed", async () => {
    const unused = new JoinableQueue<string>();
    unused.close();
    assertEquals(unused.empty(), true);
    const used = new JoinableQueue<string>();
    await used.put("foo");
    used.close();
    assertThrows(() => used.empty(), TypeError, "is closed");
    assertThrows(() => used.taskDone(), TypeError, "is closed");
    await assertRejects(() => used.join(), TypeError, "is closed");
  });

  timed("is joined at once while nothing was put, and refuses a taskDone too many", 10_000, async () => {
    using queue = new JoinableQueue<number>();
    await queue.join();
    assert(queue.tryJoin());
    assertThrows(() => queue.taskDone(), RangeError, "taskDone");
    await queue.put(1);
    const joined = queue.join();
    assertEquals(await queue.get(), 1);
    assertEquals(await isSettled(joined), false);
    assertEquals(queue.tryJoin(), false);
    queue.taskDone();
    await joined;
    assertThrows(() => queue.taskDone(), RangeError, "taskDone");
  });

  timed("joins by the time given, or until aborted, and leaves nothing behind", 10_000, async () => {
    using queue = new JoinableQueue<number>();
    await queue.put(1);
    await queue.put(2);
    await assertRejects(() => queue.join({ timeout: 10 }), TimeoutError, "2 items");
    await assertRejects(() => queue.join({ timeout: 0 }), TimeoutError);
    const aborter = new AbortController();
    const aborted = queue.join({ signal: aborter.signal });
    aborter.abort(new Error("enough"));
    await assertRejects(() => aborted, Error, "enough");
    assertThrows(() => queue.joinSync({ allowBlocking: true, timeout: 10 }), TimeoutError);
  });

  timed("lets go of all who joined before, though more was put since", 10_000, async () => {
    using queue = new JoinableQueue<number>();
    await queue.put(1);
    const joined = [queue.join(), queue.join()];
    await turn();
    await queue.get();
    queue.taskDone();
    await queue.put(2);
    await Promise.all(joined);
    assertEquals(queue.tryJoin(), false);
  });

  timed("lets joiners of several processes go at once", 60_000, async () => {
    using queue = new JoinableQueue<number>();
    using told = new Queue<string>();
    await queue.put(1);
    const joiners = await Promise.all(
      [false, false, true].map((sync) => new Process({ target: joiner, args: [queue, told, sync] }).start()),
    );
    for (const _ of joiners) assertEquals(await told.get({ timeout: STALL_MS }), "joins");
    await queue.get();
    queue.taskDone();
    for (const _ of joiners) assertEquals(await told.get({ timeout: STALL_MS }), "joined");
    for (const process of joiners) assertEquals(await process.join({ timeout: STALL_MS }), 0);
  });

  timed("shut down at once, waits only for what was taken", 10_000, async () => {
    using queue = new JoinableQueue<number>();
    for (let i = 0; i < 5; i++) await queue.put(i);
    await queue.get();
    const lease = await queue.lease();
    const joined = queue.join();
    queue.shutdown({ immediate: true });
    assertEquals(await isSettled(joined), false);
    queue.taskDone();
    assertEquals(await isSettled(joined), false);
    // It does not come back to a queue that drops what lies in it.
    lease.nack();
    await joined;
    using other = new JoinableQueue<number>();
    await other.put(1);
    const released = other.join();
    other.shutdown({ immediate: true });
    await released;
    using graceful = new JoinableQueue<number>();
    await graceful.put(1);
    const waits = graceful.join();
    graceful.shutdown();
    assertEquals(await isSettled(waits), false);
    await graceful.get();
    graceful.taskDone();
    await waits;
  });

  timed("waits for ever for what a killed consumer got, and not for what it leased", 40_000, async () => {
    using queue = new JoinableQueue<string>();
    using told = new Queue<unknown>();
    await queue.put("leased");
    const joined = queue.join({ timeout: STALL_MS });
    const leaser = await new Process({ target: leaseAndHang, args: [queue, told, 1] }).start();
    assertEquals(await told.get({ timeout: STALL_MS }), "leased");
    leaser.kill();
    const lease = await queue.lease({ timeout: STALL_MS });
    assertEquals(await isSettled(joined), false);
    lease.ack();
    await joined;
    await leaser.join({ timeout: STALL_MS });

    await queue.put("got");
    const getter = await new Process({ target: getAndHang, args: [queue, told] }).start();
    assertEquals(await told.get({ timeout: STALL_MS }), "got");
    getter.kill();
    await getter.join({ timeout: STALL_MS });
    await assertRejects(() => queue.join({ timeout: 150 }), TimeoutError, "1 items");
    // Whoever knows may say so.
    queue.taskDone();
    assert(queue.tryJoin());
  });

  for (
    const [point, nth] of [["queue.counted", 1], ["queue.counted", 2], ["queue.written", 1]] as [
      CrashPoint,
      number,
    ][]
  ) {
    timed(`counts no put that was killed at ${point}, time ${nth}`, 40_000, async () => {
      const before = use();
      const queue = new JoinableQueue<string>();
      const go = new Queue<string>();
      const child = await new Process({ target: putAndDie, args: [queue, go, point, nth] }).start();
      assertEquals(await queue.get({ timeout: STALL_MS }), "one");
      const joined = queue.join({ timeout: STALL_MS });
      queue.taskDone();
      await joined;
      await go.put("go");
      assertEquals(await child.join({ timeout: STALL_MS }), -9);
      await queue.join({ timeout: STALL_MS });
      // The dead producer's lane serves the next one, whose puts count.
      await queue.put("three");
      assertEquals(queue.tryJoin(), false);
      assertEquals(await queue.get(), "three");
      queue.taskDone();
      assert(queue.tryJoin());
      assertThrows(() => queue.taskDone(), RangeError);
      for (const each of [queue, go]) each[Symbol.dispose]();
      await backTo(before);
    });
  }

  timed("arrives as what it is", 10_000, async () => {
    using queue = new JoinableQueue<JoinableQueue<number>>();
    using sent = new JoinableQueue<number>();
    await sent.put(1);
    await queue.put(sent);
    using got = await queue.get();
    assertInstanceOf(got, JoinableQueue);
    assertEquals(await got.get(), 1);
    got.taskDone();
    assert(sent.tryJoin());
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
