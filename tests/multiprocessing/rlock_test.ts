import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  BlockingError,
  Condition,
  Event,
  type Guard,
  Process,
  Queue,
  RLock,
  Semaphore,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { inWorker, startIn } from "../fixtures/places.ts";
import { addAlone, endHolding, holdAndTell, tryIt } from "../fixtures/sync_tasks.ts";
import { leaveLast, pause, STALL_MS, timed, within } from "./support.ts";

const W = { timeout: STALL_MS };

describe("RLock", () => {
  timed("RLOCK-01 says who holds it, and how often", 40_000, async () => {
    using lock = new RLock();
    using texts = new Queue<string>();
    using go = new Event();
    assertEquals(String(lock), "RLock(None, 0)");
    const guards = [await lock.acquire(), await lock.acquire(), await lock.acquire()];
    assertEquals(String(lock), "RLock(MainProcess, 3)");
    for (const guard of guards) guard.release();
    for (const times of [1, 2]) {
      go.clear();
      const worker = inWorker(holdAndTell, [lock, times, texts, go]);
      assertMatch(await texts.get(W), new RegExp(`^RLock\\(MainProcess\\|Worker \\d+, ${times}\\)$`));
      assertMatch(String(lock), /^RLock\(SomeOtherThread \d+, nonzero\)$/);
      go.set();
      await worker.done;
      worker.terminate();
    }
    go.clear();
    const child = await new Process({ target: holdAndTell, args: [lock, 1, texts, go], name: "P1" }).start();
    assertEquals(await texts.get(W), "RLock(P1, 1)");
    assertEquals(String(lock), `RLock(SomeOtherProcess ${child.pid}, nonzero)`);
    assertEquals(lock.locked(), true);
    go.set();
    assertEquals(await child.join(W), 0);
    const ended = await new Process({ target: endHolding, args: [lock] }).start();
    assertEquals(await ended.join(W), 0);
    // The stronger behaviour: a lock whose owner ended passes on.
    using guard = await lock.acquire(W);
    assertEquals(guard.abandoned, true);
  });

  it("RLOCK-02 is taken and released as often, and not once more", async () => {
    using lock = new RLock();
    for (let i = 0; i < 3; i++) await lock.acquire();
    lock.release();
    assertEquals(lock.locked(), true);
    lock.release();
    assertEquals(lock.locked(), true);
    lock.release();
    assertEquals(lock.locked(), false);
    assertThrows(() => lock.release(), RangeError, "not held");
  });

  it("RLOCK-04 is a scope", async () => {
    using lock = new RLock();
    {
      using guard = await lock.acquire();
      assertEquals(guard.abandoned, false);
      assert(lock.locked());
    }
    assertEquals(lock.locked(), false);
  });

  it("excludes functions that are started side by side", async () => {
    for (const lock of [new RLock()]) {
      let inside = 0;
      const alone = async (): Promise<void> => {
        using _guard = await lock.acquire(W);
        assertEquals(++inside, 1);
        await pause(1);
        using _again = await lock.acquire(W);
        await pause(1);
        assertEquals(inside--, 1);
      };
      await Promise.all([alone(), alone(), alone()]);
      await Promise.all([lock.run(alone), alone(), lock.run(alone)]);
      // With tryAcquire, too: what another function of this very piece of code has asked for is nobody's yet.
      const asked = lock.acquire();
      assertStrictEquals(lock.tryAcquire(), null);
      (await asked).release();
      assertEquals(String(lock), "RLock(None, 0)");
      lock[Symbol.dispose]();
    }
  });

  it("is one flow in what the owner calls and awaits, also when it had to wait", async () => {
    using lock = new RLock();
    const inner = async (): Promise<string> => {
      await pause(1);
      using _guard = await lock.acquire({ timeout: 0 });
      return String(lock);
    };
    const outer = async (): Promise<string> => {
      using _guard = await lock.acquire(W);
      return await inner();
    };
    assertEquals(await outer(), "RLock(MainProcess, 2)");
    assertEquals(await Promise.all([outer(), outer()]), ["RLock(MainProcess, 2)", "RLock(MainProcess, 2)"]);
    assertEquals(await lock.run(() => inner()), "RLock(MainProcess, 2)");
    assertEquals(await lock.run(() => lock.run(() => lock.run(() => String(lock)))), "RLock(MainProcess, 3)");
  });

  it("excludes functions that are started side by side and do not wait for it", async () => {
    using lock = new RLock();
    const B = { allowBlocking: true };
    const attempt = async (take: () => Guard | null): Promise<boolean> => {
      const guard = take();
      if (guard === null) return false;
      await pause(5);
      // The flow has it, and takes it again.
      lock.tryAcquire()!.release();
      lock.acquireSync(B).release();
      guard.release();
      return true;
    };
    const tryIt = (): Promise<boolean> => attempt(() => lock.tryAcquire());
    assertEquals(await Promise.all([tryIt(), tryIt(), tryIt()]), [true, false, false]);
    const block = (): Promise<boolean> => attempt(() => lock.acquireSync(B));
    const [first, second] = await Promise.allSettled([block(), block()]);
    assertEquals(first, { status: "fulfilled", value: true });
    assert(second.status === "rejected");
    assertMatch(String(second.reason), /^RangeError: .*runSync/);
    assertEquals(lock.locked(), false);
  });

  it("is released at once by the code that took it at once", async () => {
    using lock = new RLock();
    using condition = new Condition(lock);
    assert(lock.tryAcquire() !== null);
    condition.notify();
    lock.release();
    assertEquals(lock.locked(), false);
    lock.acquireSync({ allowBlocking: true });
    assertEquals(String(lock), "RLock(MainProcess, 1)");
    await assertRejects(() => condition.wait({ timeout: 1 }), TimeoutError);
    lock.release();
    assertEquals(lock.locked(), false);
  });

  it("is released by the code that took several together, and not taken again", async () => {
    using a = new RLock();
    using b = new RLock();
    await Promise.all([a.acquire(), b.acquire()]);
    assertStrictEquals(a.tryAcquire(), null);
    b.tryAcquire()!.release();
    a.release();
    b.release();
    assertEquals([a.locked(), b.locked()], [false, false]);
    // What makes it necessary: the second of two functions takes another lock first, and then the one that the first has.
    let inside = false;
    const first = async (): Promise<void> => {
      using _guard = await a.acquire(W);
      inside = true;
      await pause(5);
      inside = false;
    };
    const second = async (): Promise<void> => {
      using _other = await b.acquire(W);
      using _guard = await a.acquire(W);
      assertEquals(inside, false);
    };
    await Promise.all([first(), second()]);
  });

  it("runSync() is a flow", async () => {
    using lock = new RLock();
    const B = { allowBlocking: true };
    const depth = (n: number): string => lock.runSync(() => n === 1 ? String(lock) : depth(n - 1), B);
    assertEquals(depth(3), "RLock(MainProcess, 3)");
    assertEquals(
      lock.runSync(() => [lock.tryAcquire(), lock.acquireSync(B)].map((guard) => guard!.release()).length, B),
      2,
    );
    assertEquals(await lock.run(() => depth(2)), "RLock(MainProcess, 3)");
    const error = new Error("thrown");
    assertStrictEquals(
      assertThrows(() =>
        lock.runSync(() => {
          throw error;
        }, B)
      ),
      error,
    );
    assertThrows(() => lock.runSync(async () => await pause(1), B), TypeError, "returned a promise");
    assertEquals(lock.locked(), false);
    const guard = lock.tryAcquire()!;
    assertThrows(() => lock.runSync(() => {}, B), RangeError, "runSync");
    guard.release();
    assertThrows(() => lock.runSync(() => {}), BlockingError);
    using whole = new RLock({ owner: "agent" });
    assertEquals(whole.runSync(() => whole.runSync(() => String(whole), B), B), "RLock(MainProcess, 2)");
    assertEquals(whole.locked(), false);
  });

  it("is released by its owner only, or by its guard", async () => {
    using lock = new RLock();
    let release = (): void => {};
    const held = new Promise<void>((resolve) => release = resolve);
    let guard: Guard | undefined;
    const other = lock.run(async (own) => {
      guard = own;
      await held;
    });
    await within(STALL_MS, "the other", () => guard !== undefined);
    assertThrows(() => lock.release(), RangeError, "another flow");
    await assertRejects(() => lock.acquire({ timeout: 10 }), TimeoutError);
    assertThrows(() => lock.acquireSync({ allowBlocking: true }), RangeError, "another flow");
    assertThrows(() => lock.acquireSync(), BlockingError);
    guard!.release();
    assertEquals(lock.locked(), false);
    release();
    await other;
    lock.acquireSync({ allowBlocking: true }).release();
  });

  it("is the whole agent's with owner agent", async () => {
    using lock = new RLock({ owner: "agent" });
    const guards = await Promise.all([lock.acquire(), lock.acquire()]);
    assertEquals(String(lock), "RLock(MainProcess, 2)");
    for (const guard of guards) guard.release();
    assertEquals(await lock.run(() => lock.run(() => String(lock))), "RLock(MainProcess, 2)");
    assertThrows(() => lock.release(), RangeError, "not held");
    assertThrows(() => new RLock({ owner: "me" as "agent" }), TypeError, "me");
  });

  timed("owner agent: all of an agent's waiters go on together", 40_000, async () => {
    using lock = new RLock({ owner: "agent" });
    using texts = new Queue<string>();
    using results = new Queue<boolean>();
    using go = new Event();
    const child = await new Process({ target: holdAndTell, args: [lock, 1, texts, go] }).start();
    await texts.get(W);
    const waiting = Promise.all([lock.acquire(W), lock.acquire(W), lock.acquire(W)]);
    await pause(10);
    go.set();
    const guards = await waiting;
    assertEquals(String(lock), "RLock(MainProcess, 3)");
    guards[0].release();
    guards[1].release();
    const prober = await new Process({ target: tryIt, args: [lock, results] }).start();
    assertEquals(await results.get(W), true);
    guards[2].release();
    assertEquals(lock.locked(), false);
    assertEquals([await child.join(W), await prober.join(W)], [0, 0]);
  });

  timed("excludes processes, Workers and flows", 60_000, async () => {
    using lock = new RLock();
    using counter = new Semaphore(0);
    const join = await startIn({ processes: 2, workers: 1 }, addAlone, [lock, counter, 150]);
    const own = [addAlone(lock, counter, 150), addAlone(lock, counter, 150)];
    await Promise.all(own);
    await join();
    assertEquals(counter.getValue(), 750);
  });

  it("times out and aborts, and leaves nothing behind", async () => {
    using lock = new RLock();
    await lock.run(async () => {
      const outside = new AbortController();
      const timedOut = new Promise<unknown>((resolve) => setTimeout(() => resolve(0), 0));
      await timedOut;
      outside.abort(new RangeError("enough"));
      await assertRejects(() => new RLock().acquire({ signal: outside.signal }), RangeError, "enough");
    });
    assertEquals(String(lock), "RLock(None, 0)");
    lock[Symbol.dispose]();
    await assertRejects(() => lock.acquire(), TypeError, "disposed");
    await assertRejects(() => lock.run(() => {}), TypeError, "disposed");
    assertEquals(String(lock), "RLock(disposed)");
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await leaveLast();
  });
});
