import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import process from "node:process";
import { setImmediate } from "node:timers";
import {
  Barrier,
  Condition,
  Lock,
  Process,
  Queue,
  RLock,
  Semaphore,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { threadCpuTime } from "../../platform/mod.ts";
import { startIn } from "../fixtures/places.ts";
import {
  blockAndTell,
  blockUntilNotified,
  notifyAfter,
  notifyAndHold,
  sleepOn,
  waitForEver,
  waitForFour,
  waitForFourInVain,
} from "../fixtures/sync_tasks.ts";
import { leaveLast, pause, STALL_MS, state, timed, use, within } from "./support.ts";

const W = { timeout: STALL_MS };

async function take(semaphore: Semaphore, n: number): Promise<void> {
  for (let i = 0; i < n; i++) await semaphore.acquire(W);
}

describe("Condition", () => {
  timed("COND-01 notify wakes one", 40_000, async () => {
    using condition = new Condition();
    using sleeping = new Semaphore(0);
    using woken = new Semaphore(0);
    const join = await startIn({ processes: 1, workers: 1 }, sleepOn, [condition, sleeping, woken, null]);
    await take(sleeping, 2);
    // Who has the lock now knows that both have released it, asleep.
    await condition.run(() => {}, W);
    await pause(100);
    assertEquals(woken.getValue(), 0);
    for (const count of [1, 2]) {
      await condition.run(() => condition.notify(), W);
      await within(STALL_MS, "one more", () => woken.getValue() === count);
      await pause(50);
      assertEquals(woken.getValue(), count);
    }
    await join();
    assertEquals(String(condition), "Condition(RLock(None, 0), waiters=0)");
  });

  timed("COND-02 notifyAll wakes all", 60_000, async () => {
    using condition = new Condition();
    using sleeping = new Semaphore(0);
    using woken = new Semaphore(0);
    const places = { processes: 2, workers: 1 };
    for (const timeout of [100, null]) {
      const join = await startIn(places, sleepOn, [condition, sleeping, woken, timeout]);
      const own = [1, 2, 3].map(() => sleepOn(condition, sleeping, woken, timeout));
      await take(sleeping, 6);
      if (timeout === null) {
        await condition.run(() => {}, W);
        await pause(50);
        assertEquals(woken.getValue(), 0);
        await condition.run(() => condition.notifyAll(), W);
      }
      await take(woken, 6);
      await Promise.all(own);
      await join();
      assertEquals(String(condition), "Condition(RLock(None, 0), waiters=0)");
    }
  });

  it("COND-04 times out, with the lock in hand again", async () => {
    using condition = new Condition();
    using _guard = await condition.acquire();
    const started = performance.now();
    await assertRejects(() => condition.wait({ timeout: 100 }), TimeoutError, "100 ms");
    assertGreaterOrEqual(performance.now() - started, 95);
    assertEquals(String(condition), "Condition(RLock(MainProcess, 1), waiters=0)");
  });

  timed("COND-05 waitFor waits for the predicate", 40_000, async () => {
    using condition = new Condition();
    using state = new Semaphore(0);
    using ready = new Semaphore(0);
    await using child = await new Process({ target: waitForFour, args: [condition, state, ready] }).start();
    {
      using _guard = await condition.acquire(W);
      assertEquals(await condition.waitFor(() => ready.getValue() === 1, W), true);
    }
    for (let i = 0; i < 4; i++) {
      await pause(10);
      await condition.run(() => {
        state.release();
        condition.notify();
      }, W);
    }
    assertEquals(await child.join(W), 0);
  });

  timed("COND-06 waitFor does not begin its time anew", 40_000, async () => {
    using condition = new Condition();
    using state = new Semaphore(0);
    using ready = new Semaphore(0);
    using result = new Queue<number>();
    await using child = await new Process({
      target: waitForFourInVain,
      args: [condition, state, ready, result],
    }).start();
    await ready.acquire(W);
    for (let i = 0; i < 3; i++) {
      await pause(10);
      await condition.run(() => {
        state.release();
        condition.notify();
      }, W);
    }
    const took = await result.get(W);
    assertGreaterOrEqual(took, 95);
    assertLess(took, 5000);
    assertEquals(await child.join(W), 0);
  });

  timed("COND-07 wait tells a time-out, a notification and an interruption apart", 40_000, async () => {
    using condition = new Condition();
    using guard = await condition.acquire();
    await using child = await new Process({ target: notifyAfter, args: [condition, 0] }).start();
    await assertRejects(() => condition.wait({ timeout: 0 }), TimeoutError);
    await condition.waitFor(() => true, { timeout: 100 });
    await condition.wait({ timeout: 60_000 });
    // What interrupts a wait here is a signal's AbortController.
    const aborter = new AbortController();
    setTimeout(() => aborter.abort(new Error("interrupted")), 20);
    await assertRejects(
      () => condition.wait({ timeout: 60_000, signal: aborter.signal }),
      Error,
      "interrupted",
    );
    assert(condition.locked());
    guard.release();
    assertEquals(await child.join(W), 0);
  });

  it("waitFor rejects with the reason of an abort, whatever that is", async () => {
    using condition = new Condition();
    using _guard = await condition.acquire();
    const reason = new TimeoutError("the caller's own");
    const aborter = new AbortController();
    setTimeout(() => aborter.abort(reason), 10);
    const error = await assertRejects(() => condition.waitFor(() => false, { signal: aborter.signal }));
    assertStrictEquals(error, reason);
  });

  it("wakes exactly n, those that wait longest", async () => {
    using condition = new Condition();
    const order: number[] = [];
    const waits = Array.from({ length: 10 }, (_, i) =>
      condition.run(async () => {
        await condition.wait(W);
        order.push(i);
      }));
    await within(STALL_MS, "all", () => / waiters=10/.test(String(condition)));
    for (const [n, upTo] of [[1, 1], [3, 4], [5, 9]]) {
      await condition.run(() => condition.notify(n));
      await within(STALL_MS, `${upTo}`, () => order.length === upTo);
      await pause(5);
      assertEquals(order, Array.from({ length: upTo }, (_, i) => i));
    }
    await condition.run(() => condition.notify(5));
    await Promise.all(waits);
  });

  timed("lets the loop turn while many go on", 60_000, async () => {
    using condition = new Condition(new Lock());
    const waits = Array.from({ length: 6000 }, () => condition.run(() => condition.wait(W), W));
    await within(STALL_MS, "all", () => / waiters=6000/.test(String(condition)));
    let turns = 0;
    let over = false;
    const turn = (): void => {
      turns++;
      if (!over) setImmediate(turn);
    };
    turn();
    const before = threadCpuTime();
    await condition.run(() => condition.notifyAll(), W);
    await Promise.all(waits);
    over = true;
    const worked = threadCpuTime() - before;
    // The loop turns for each millisecond of work, so a fast processor needs fewer turns. At once they were two.
    assertGreater(turns, Math.min(20, worked / 2), `in ${worked} ms`);
  });

  it("loses no notification to those who leave", async () => {
    using condition = new Condition();
    for (let round = 0; round < 100; round++) {
      let woken = 0;
      const aborter = new AbortController();
      const waits = Array.from({ length: 6 }, (_, i) =>
        condition.run(async () => {
          // Half leave at about the time of the notification.
          await condition.wait(i % 2 === 0 ? { signal: aborter.signal } : W);
          woken++;
        }).catch((error) => assertEquals(error, "left")));
      await within(STALL_MS, "all", () => / waiters=6/.test(String(condition)));
      const leave = (): void => aborter.abort("left");
      await condition.run(() => {
        if (round % 3 === 0) leave();
        condition.notify(3);
        if (round % 3 === 1) leave();
      });
      if (round % 3 === 2) leave();
      await within(STALL_MS, "three", () => woken >= 3);
      await condition.run(() => condition.notifyAll());
      await Promise.all(waits);
      assertGreaterOrEqual(woken, 3);
    }
  });

  it("is only for who has the lock", async () => {
    for (const condition of [new Condition(), new Condition(new Lock())]) {
      await assertRejects(() => condition.wait(), RangeError, "does not hold its lock");
      await assertRejects(() => condition.waitFor(() => true), RangeError, "does not hold its lock");
      assertThrows(() => condition.notify(), RangeError, "does not hold its lock");
      assertThrows(() => condition.notifyAll(), RangeError, "does not hold its lock");
      await condition.run(() => {
        for (const n of [0, 1.5, -1]) assertThrows(() => condition.notify(n), RangeError, String(n));
      });
      condition[Symbol.dispose]();
    }
    assertThrows(() => new Condition({} as Lock), TypeError, "Lock or an RLock");
  });

  it("releases a re-entrant lock fully, and takes it back as often", async () => {
    for (const lock of [new RLock(), new RLock({ owner: "agent" })]) {
      const condition = new Condition(lock);
      const guards = [await lock.acquire(), await lock.acquire(), await condition.acquire()];
      const waiting = condition.wait(W);
      assertEquals(String(lock), "RLock(None, 0)");
      await new Promise<void>((resolve) =>
        setTimeout(() => void lock.run(() => condition.notify()).then(resolve), 5)
      );
      await waiting;
      assertEquals(String(lock), "RLock(MainProcess, 3)");
      for (const guard of guards) guard.release();
      assertEquals(lock.locked(), false);
      condition[Symbol.dispose]();
      lock[Symbol.dispose]();
    }
  });

  timed("tells the guard when its lock was abandoned during a wait", 40_000, async () => {
    for (const lock of [new Lock(), new RLock()]) {
      using condition = new Condition(lock);
      using ready = new Semaphore(0);
      const child = await new Process({ target: notifyAndHold, args: [condition, ready] }).start();
      await ready.acquire(W);
      child.kill();
      assertEquals((await condition.acquire(W)).abandoned, true);
      condition.release();
      using guard = await condition.acquire(W);
      assertEquals(guard.abandoned, false);
      const second = await new Process({ target: notifyAndHold, args: [condition, ready] }).start();
      const waiting = condition.wait(W);
      await ready.acquire(W);
      second.kill();
      await waiting;
      assertEquals(guard.abandoned, true);
      assertEquals([await child.join(W), await second.join(W)], [-9, -9]);
      lock[Symbol.dispose]();
    }
  });

  it("shares a lock with other conditions", async () => {
    using lock = new Lock();
    using full = new Condition(lock);
    using empty = new Condition(lock);
    const items: number[] = [];
    const consumed: number[] = [];
    const produce = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) {
        using _guard = await lock.acquire(W);
        await full.waitFor(() => items.length < 3, W);
        items.push(i);
        empty.notify();
      }
    };
    const consume = async (): Promise<void> => {
      for (let i = 0; i < 50; i++) {
        using _guard = await lock.acquire(W);
        await empty.waitFor(() => items.length > 0, W);
        consumed.push(items.shift()!);
        full.notify();
      }
    };
    await Promise.all([produce(), consume()]);
    assertEquals(consumed, Array.from({ length: 50 }, (_, i) => i));
  });

  it("may be disposed while it is waited for", async () => {
    const before = use();
    const kept = new Condition();
    for (const condition of [kept, new Condition(new Lock())]) {
      await condition.acquire();
      const waiting = condition.wait({ timeout: 30 });
      condition[Symbol.dispose]();
      // Blocks that are free now are used again at once.
      const locks = Array.from({ length: 50 }, () => new Lock());
      await assertRejects(() => waiting, TimeoutError);
      assert(locks.every((lock) => !lock.locked()));
      for (const lock of locks) lock[Symbol.dispose]();
      await assertRejects(() => condition.wait(), TypeError, "disposed");
    }
    await within(STALL_MS, "one lock", () => use().blocks === before.blocks + 1);
  });

  it("travels with its lock", async () => {
    using queue = new Queue<Condition>();
    using condition = new Condition();
    await queue.put(condition);
    using same = await queue.get(W);
    using _guard = await condition.acquire();
    assertMatch(String(same), /RLock\(MainProcess, 1\)/);
    same.notify();
  });

  timed("notifies a blocked thread in its turn", 40_000, async () => {
    using condition = new Condition();
    using told = new Semaphore(0);
    await using child = await new Process({ target: blockAndTell, args: [condition, told] }).start();
    await within(STALL_MS, "the child", () => / waiters=1/.test(String(condition)));
    const later = condition.run(() => condition.wait(W), W);
    await within(STALL_MS, "both", () => / waiters=2/.test(String(condition)));
    await pause(50);
    await condition.run(() => condition.notify(), W);
    await told.acquire(W);
    assertMatch(String(condition), / waiters=1/);
    await condition.run(() => condition.notify(), W);
    await later;
    assertEquals(await child.join(W), 0);
  });

  timed("notifies a blocked thread of what a killed process was notified of", 40_000, async () => {
    using condition = new Condition();
    using told = new Semaphore(0);
    const first = await new Process({ target: waitForEver, args: [condition] }).start();
    await within(STALL_MS, "the first", () => / waiters=1/.test(String(condition)));
    await using child = await new Process({ target: blockAndTell, args: [condition, told] }).start();
    await within(STALL_MS, "both", () => / waiters=2/.test(String(condition)));
    process.kill(first.pid!, "SIGSTOP");
    await within(STALL_MS, "the stop", () => state(first.pid!) === "T");
    await condition.run(() => condition.notify(), W);
    await pause(50);
    first.kill();
    await told.acquire(W);
    assertEquals([await first.join(W), await child.join(W)], [-9, 0]);
  });

  timed("is waited for by blocked threads", 40_000, async () => {
    using condition = new Condition();
    using barrier = new Barrier(3);
    using ready = new Semaphore(0);
    using count = new Semaphore(0);
    const join = await startIn({ processes: 1, workers: 1 }, blockUntilNotified, [
      condition,
      barrier,
      ready,
      count,
    ]);
    await take(ready, 2);
    await condition.run(() => condition.notifyAll(), W);
    assertGreater(await barrier.wait(W), -1);
    await join();
    assertEquals(count.getValue(), 2);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await leaveLast();
  });
});
