import { assertEquals, assertGreaterOrEqual, assertLess, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  Barrier,
  BlockingError,
  BrokenBarrierError,
  Condition,
  Event,
  Lock,
  Process,
  Queue,
  Semaphore,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { startIn } from "../fixtures/places.ts";
import { blockUntilSet, countWhenSet, setAfter, waitBusily, waitIdly } from "../fixtures/sync_tasks.ts";
import { leaveLast, STALL_MS, timed, within } from "./support.ts";

const W = { timeout: STALL_MS };

describe("Event", () => {
  timed("EVENT-01 is waited for, set, and cleared", 40_000, async () => {
    using event = new Event();
    assertEquals(event.isSet(), false);
    await assertRejects(() => event.wait({ timeout: 0 }), TimeoutError);
    const started = performance.now();
    await assertRejects(() => event.wait({ timeout: 100 }), TimeoutError, "100 ms");
    assertGreaterOrEqual(performance.now() - started, 95);
    event.set();
    assertEquals(event.isSet(), true);
    await event.wait();
    await event.wait({ timeout: 100 });
    event.clear();
    await using child = await new Process({ target: setAfter, args: [event, 100] }).start();
    await event.wait(W);
    assertEquals(event.isSet(), true);
    assertEquals(await child.join(W), 0);
  });

  it("EVENT-02 says whether it is set", () => {
    using event = new Event();
    assertEquals(String(event), "Event(unset)");
    event.set();
    assertEquals(String(event), "Event(set)");
    event.clear();
    assertEquals(String(event), "Event(unset)");
    event[Symbol.dispose]();
    assertEquals(String(event), "Event(disposed)");
    assertThrows(() => event.set(), TypeError, "disposed");
  });

  it("shows itself to consoles", async () => {
    using event = new Event();
    const { inspect } = await import("node:util");
    assertEquals(inspect(event), "Event(unset)");
    const scope = globalThis as unknown as {
      Deno?: { inspect(value: unknown): string };
      Bun?: { inspect(value: unknown): string };
    };
    assertEquals((scope.Deno ?? scope.Bun)!.inspect(event), "Event(unset)");
  });

  timed("wakes everybody, though it is cleared at once", 40_000, async () => {
    using event = new Event();
    using ready = new Semaphore(0);
    using count = new Semaphore(0);
    const join = await startIn({ processes: 2, workers: 1 }, countWhenSet, [event, ready, count]);
    const own = Array.from({ length: 20 }, () => event.wait(W));
    for (let i = 0; i < 3; i++) await ready.acquire(W);
    event.set();
    event.clear();
    await Promise.all(own);
    await join();
    assertEquals(count.getValue(), 3);
    assertEquals(event.isSet(), false);
  });

  it("does not wake who comes after it was cleared", async () => {
    using event = new Event();
    event.set();
    event.clear();
    await assertRejects(() => event.wait({ timeout: 20 }), TimeoutError);
  });

  it("can be aborted", async () => {
    using event = new Event();
    const aborter = new AbortController();
    const first = event.wait({ signal: aborter.signal });
    const second = event.wait(W);
    aborter.abort(new RangeError("enough"));
    await assertRejects(() => first, RangeError, "enough");
    event.set();
    await second;
    assertEquals(event.tryWait(), true);
  });

  timed("is waited for by blocked threads", 40_000, async () => {
    using event = new Event();
    using ready = new Semaphore(0);
    using count = new Semaphore(0);
    assertThrows(() => event.waitSync(), BlockingError);
    assertThrows(() => event.waitSync({ allowBlocking: true, timeout: 10 }), TimeoutError);
    const join = await startIn({ processes: 1, workers: 1 }, blockUntilSet, [event, ready, count]);
    for (let i = 0; i < 2; i++) await ready.acquire(W);
    await within(STALL_MS, "the sleep of both", () => true);
    event.set();
    await join();
    assertEquals(count.getValue(), 2);
    event.waitSync({ allowBlocking: true });
  });

  timed("keeps a process that waits alive, unless told not to", 40_000, async () => {
    using event = new Event();
    using ready = new Semaphore(0);
    using condition = new Condition();
    using barrier = new Barrier(2);
    using lock = new Lock();
    using _guard = await lock.acquire();
    const idle = await new Process({ target: waitIdly, args: [lock, event, condition, barrier] }).start();
    assertEquals(await idle.join(W), 0);
    // It ended as a party of the barrier.
    await assertRejects(() => barrier.wait(W), BrokenBarrierError);
    const busy = await new Process({ target: waitBusily, args: [event, ready] }).start();
    await ready.acquire(W);
    await assertRejects(() => busy.join({ timeout: 300 }), TimeoutError);
    event.set();
    assertEquals(await busy.join(W), 0);
  });

  it("travels, and is the same everywhere", async () => {
    using event = new Event();
    using queue = new Queue<Event>();
    await queue.put(event);
    using same = await queue.get(W);
    same.set();
    assertEquals(event.isSet(), true);
  });

  it("serves 1,000 waiters in a few milliseconds of the loop", async () => {
    using event = new Event();
    let done = 0;
    const waits = Array.from({ length: 1000 }, () => event.wait(W).then(() => done++));
    event.set();
    const started = performance.now();
    await Promise.all(waits);
    assertEquals(done, 1000);
    assertLess(performance.now() - started, 1000);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await leaveLast();
  });
});
