/** Rows QUEUE of the conformance list (start method spawn). */
import { assert, assertEquals, assertLess, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Empty, Full, JoinableQueue, Process, Queue, session } from "../../multiprocessing/mod.ts";
import { nested, putFive, slowPartner, takeSix } from "../fixtures/queue_tasks.ts";
import { STALL_MS, timed } from "./support.ts";

/** Milliseconds that something took. */
async function took(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

describe("Queue", () => {
  timed("QUEUE-01 put", 60_000, async () => {
    using queue = new Queue<number>({ maxSize: 6 });
    using go = new Queue<string>();
    using done = new Queue<number[]>();
    await using child = await new Process({ target: takeSix, args: [queue, go, done] }).start();
    assertEquals([queue.empty(), queue.full()], [true, false]);
    // Python's forms of block and timeout, in ours.
    await queue.put(1);
    await queue.put(2, {});
    await queue.put(3, { timeout: null });
    assert(queue.tryPut(4));
    await queue.put(5, { timeout: 0 });
    queue.putNowait(6);
    assertEquals([queue.empty(), queue.full()], [false, true]);
    assertThrows(() => queue.putNowait(7), Full);
    assertEquals(queue.tryPut(7), false);
    for (const timeout of [0, -1]) await assertRejects(() => queue.put(7, { timeout }), Full);
    for (let i = 0; i < 2; i++) {
      assertLess(99, await took(() => assertRejects(() => queue.put(7, { timeout: 100 }), Full)));
    }
    await go.put("go");
    assertEquals(await done.get({ timeout: STALL_MS }), [1, 2, 3, 4, 5, 6]);
    assertEquals([queue.empty(), queue.full()], [true, false]);
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
  });

  timed("QUEUE-02 get", 60_000, async () => {
    using queue = new Queue<number>();
    using go = new Queue<string>();
    using done = new Queue<string>();
    await using child = await new Process({ target: putFive, args: [queue, go, done] }).start();
    assertEquals(queue.empty(), true);
    await go.put("go");
    await done.get({ timeout: STALL_MS });
    assertEquals(queue.empty(), false);
    assertEquals(await queue.get({ timeout: undefined }), 1);
    assertEquals(await queue.get({ timeout: null }), 2);
    assertEquals(await queue.get({ timeout: 1000 }), 3);
    assertEquals(queue.tryGet(), { value: 4 });
    assertEquals(queue.getNowait(), 5);
    assertEquals(queue.empty(), true);
    assertThrows(() => queue.getNowait(), Empty);
    assertEquals(queue.tryGet(), null);
    for (const timeout of [0, -1]) await assertRejects(() => queue.get({ timeout }), Empty);
    for (let i = 0; i < 2; i++) {
      assertLess(99, await took(() => assertRejects(() => queue.get({ timeout: 100 }), Empty)));
    }
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
  });

  it("QUEUE-04 qsize", async () => {
    using queue = new Queue<number>();
    const sizes = [queue.qsize()];
    for (const step of [() => queue.put(1), () => queue.put(5), () => queue.get(), () => queue.get()]) {
      await step();
      sizes.push(queue.qsize());
    }
    assertEquals(sizes, [0, 1, 2, 1, 0]);
  });

  it("QUEUE-05 works while its module is being evaluated", async () => {
    const { got } = await import("../fixtures/queue_at_load.ts");
    assertEquals(got, "knowledge");
  });

  it("QUEUE-06 a time-out is not early", async () => {
    using queue = new Queue<number>();
    assertLess(199, await took(() => assertRejects(() => queue.get({ timeout: 200 }), Empty)));
  });

  // CPython drops the item in a feeder thread and reports it on stderr. Here its put rejects, so that who put it knows.
  timed("QUEUE-07 an item that cannot be copied does not stop those behind it", 10_000, async () => {
    for (const options of [{}, { maxSize: 1 }]) {
      using queue = new Queue<unknown>(options);
      await assertRejects(() => queue.put(() => {}), TypeError);
      await queue.put(true);
      assertEquals(queue.qsize(), 1);
      assertEquals(await queue.get({ timeout: 1000 }), true);
      assertEquals(queue.empty(), true);
    }
  });

  // There is no sender to join: what was put is sent. Where CPython raises OSError, ours is a TypeError, as for every handle that was closed.
  it("QUEUE-09 a closed queue is empty if it was not used, else it is closed", async () => {
    const unused = new Queue<string>();
    unused.close();
    assertEquals(unused.empty(), true);
    const used = new Queue<string>();
    await used.put("foo");
    used.close();
    assertThrows(() => used.empty(), TypeError, "is closed");
  });

  it("QUEUE-10 a closed queue neither puts nor gets", async () => {
    const queue = new Queue<string>();
    queue.close();
    queue.close();
    await assertRejects(() => queue.put("foo"), TypeError, "is closed");
    await assertRejects(() => queue.get(), TypeError, "is closed");
    await assertRejects(() => queue.lease(), TypeError, "is closed");
    assertThrows(() => queue.qsize(), TypeError, "is closed");
  });
});

describe("processes and queues", () => {
  // LOOP-04 is about the forkserver, which is not there yet: the same with joinable queues and spawn.
  for (const [id, Kind] of [["LOOP-01", Queue], ["LOOP-04", JoinableQueue as typeof Queue]] as const) {
    timed(`${id} put, get and join let the loop run`, 60_000, async () => {
      using there = new Kind<string>();
      using back = new Kind<string>();
      let ticks = 0;
      const ticker = setInterval(() => ticks++, 1);
      /** What a wait gives, after it was seen that the loop ran meanwhile. */
      const whileTicking = async <T>(wait: Promise<T>): Promise<T> => {
        const before = ticks;
        const value = await wait;
        assert(ticks > before, "the loop did not run");
        return value;
      };
      try {
        const child = await new Process({ target: slowPartner, args: [there, back] }).start();
        await there.put("master", { timeout: 5000 });
        assertEquals(await whileTicking(back.get({ timeout: 20_000 })), "test_queues");
        if (back instanceof JoinableQueue) back.taskDone();
        assertEquals(await whileTicking(child.join({ timeout: 15_000 })), 10);
        assertEquals([child.isAlive(), child.exitCode], [false, 10]);
      } finally {
        clearInterval(ticker);
      }
    });
  }

  timed("START-14 a queue that a child was handed can be passed on", 60_000, async () => {
    using queue = new Queue<number>();
    const child = await new Process({ target: nested, args: [queue, 2] }).start();
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    const results = new Set<number>();
    while (!queue.empty()) results.add(await queue.get());
    assertEquals(results, new Set([1, 2]));
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
