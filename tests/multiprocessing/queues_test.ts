import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  Empty,
  Full,
  Lock,
  Process,
  Queue,
  Semaphore,
  session,
  ShutDown,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { Consumer } from "../../multiprocessing/core/lanes.ts";
import {
  CLAIMED,
  COMMITTED,
  LN_NEXT,
  LN_READ_RING,
  N_HAZARD,
  N_HAZARD_LANE,
  Q_LANES,
  RING_HEADER_UNITS,
  STATE_TOKEN_SHIFT,
} from "../../multiprocessing/core/layout.ts";
import type { Held } from "../../multiprocessing/core/references.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { putAndStay } from "../fixtures/queue_tasks.ts";
import { consume, echo, produce, useHandles } from "../fixtures/tasks.ts";

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

describe("Queue", () => {
  it("gives back what was put, in order", async () => {
    using queue = new Queue<unknown>();
    const items = [
      1,
      "two",
      { three: [3] },
      null,
      undefined,
      -0,
      10n ** 30n,
      new Map([[1, new Date(5)]]),
      new Uint8Array([1, 2]),
    ];
    for (const item of items) await queue.put(item);
    assertEquals(queue.qsize(), items.length);
    assertEquals(queue.empty(), false);
    for (const item of items) assertEquals(await queue.get(), item);
    assertEquals(queue.empty(), true);
    assertStrictEquals(queue.tryGet(), null);
  });

  it("grows without a limit and gives the memory back", async () => {
    using queue = new Queue<number>();
    for (let i = 0; i < 200_000; i++) assert(queue.tryPut(i));
    assertEquals(queue.qsize(), 200_000);
    for (let i = 0; i < 200_000; i++) assertEquals(await queue.get(), i);
    assertEquals(queue.qsize(), 0);
  });

  it("carries messages larger than a ring", async () => {
    using queue = new Queue<Uint8Array>();
    for (const size of [0, 1000, 31_000, 33_000, 1 << 20, 9 << 20]) {
      const sent = new Uint8Array(size).map((_, i) => i * 7 + size);
      await queue.put(sent);
      assertEquals(await queue.get(), sent);
    }
  });

  it("lets the loop turn while there is always something to take", async () => {
    using queue = new Queue<number>();
    using lock = new Lock();
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const start = performance.now();
    while (performance.now() - start < 200) {
      await queue.put(1);
      await queue.get();
      (await lock.acquire()).release();
    }
    clearInterval(timer);
    // Without turns of the loop it would be 0.
    assert(turns >= 5, `${turns} turns in 200 ms`);
  });

  it("waits for an item", async () => {
    using queue = new Queue<string>();
    const got = [queue.get(), queue.get()];
    await turn();
    await queue.put("a");
    await queue.put("b");
    assertEquals(await Promise.all(got), ["a", "b"]);
  });

  it("keeps to its limit of items", async () => {
    using queue = new Queue<number>({ maxSize: 2 });
    await queue.put(1);
    assert(queue.tryPut(2));
    assertEquals(queue.full(), true);
    assertEquals(queue.tryPut(3), false);
    assertThrows(() => queue.putNowait(3), Full, "limit 2");
    await assertRejects(() => queue.put(3, { timeout: 10 }), Full);
    const [third, fourth] = [queue.put(3), queue.put(4)];
    assertEquals(await queue.get(), 1);
    await third;
    assertEquals(await queue.get(), 2);
    await fourth;
    assertEquals([await queue.get(), await queue.get()], [3, 4]);
  });

  it("keeps to its limit of bytes, but takes one large item", async () => {
    using queue = new Queue<Uint8Array>({ maxBytes: 1000 });
    await queue.put(new Uint8Array(5000));
    assertEquals(queue.tryPut(new Uint8Array(1)), false);
    await queue.get();
    for (let i = 0; i < 3; i++) assert(queue.tryPut(new Uint8Array(200)));
    assertEquals(queue.tryPut(new Uint8Array(600)), false);
  });

  it("waits asleep while there is some room, and not enough", async () => {
    using queue = new Queue<Uint8Array>({ maxBytes: 1000 });
    assert(queue.tryPut(new Uint8Array(500)));
    const larger = queue.put(new Uint8Array(600));
    const smaller = queue.put(new Uint8Array(10));
    await turn();
    assertEquals((await queue.get()).length, 500);
    await Promise.all([larger, smaller]);
    assertEquals([(await queue.get()).length, (await queue.get()).length], [600, 10]);
  });

  it("says that it is empty, full or timed out by errors that are TimeoutErrors", async () => {
    using queue = new Queue<number>();
    assertThrows(() => queue.getNowait(), Empty);
    const error = await assertRejects(() => queue.get({ timeout: 10 }), Empty, "10 ms");
    assert(error instanceof TimeoutError);
    await assertRejects(() => queue.get({ timeout: 0 }), Empty);
  });

  it("loses no item to a time-out or an abort", async () => {
    using queue = new Queue<number>();
    await assertRejects(() => queue.get({ timeout: 5 }), Empty);
    await assertRejects(() => queue.get({ signal: AbortSignal.timeout(5) }), DOMException);
    await queue.put(1);
    assertEquals(await queue.get(), 1);
  });

  it("is shut down: getters drain, then reject", async () => {
    using queue = new Queue<number>();
    using other = new Queue<number>();
    const waiting = assertRejects(() => other.get(), ShutDown);
    await queue.put(1);
    queue.shutdown();
    other.shutdown();
    await waiting;
    await assertRejects(() => queue.put(2), ShutDown);
    assertThrows(() => queue.tryPut(2), ShutDown);
    assertEquals(await queue.get(), 1);
    await assertRejects(() => queue.get(), ShutDown);
    assertThrows(() => queue.tryGet(), ShutDown);
  });

  it("is shut down at once", async () => {
    using queue = new Queue<number>();
    await queue.put(1);
    queue.shutdown({ immediate: true });
    await assertRejects(() => queue.get(), ShutDown);
  });

  it("is iterated until it is shut down", async () => {
    using queue = new Queue<number>();
    for (const i of [1, 2, 3]) await queue.put(i);
    queue.shutdown();
    const got: number[] = [];
    for await (const item of queue) got.push(item);
    assertEquals(got, [1, 2, 3]);
  });

  it("refuses what cannot be copied, and says where it is", async () => {
    using queue = new Queue<unknown>();
    await assertRejects(() => queue.put({ a: [{ callback: () => {} }] }), TypeError, "a[0].callback");
    assertEquals(queue.qsize(), 0);
    assertThrows(() => new Queue({ maxSize: 1.5 }), RangeError, "maxSize");
  });

  it("carries handles, which stay alive on the way", async () => {
    using queue = new Queue<{ lock: Lock }>();
    {
      using lock = new Lock();
      lock.tryAcquire()!;
      await queue.put({ lock });
      await queue.put({ lock });
      // Given up with this agent's last handle.
    }
    const [first, second] = [await queue.get(), await queue.get()];
    assertEquals(first.lock.locked(), false);
    const guard = await first.lock.acquire();
    assertEquals(guard.abandoned, true);
    assertEquals(second.lock.locked(), true);
    guard.release();
  });

  it("crosses processes there and back", async () => {
    using there = new Queue<unknown>();
    using back = new Queue<unknown>();
    await using child = await new Process({ target: echo, args: [there, back] }).start();
    for (let i = 0; i < 500; i++) {
      await there.put({ i, text: "x".repeat(i * 10) });
      assertEquals(await back.get({ timeout: 20_000 }), { i, text: "x".repeat(i * 10) });
    }
    there.shutdown();
    assertEquals(await child.join({ timeout: 20_000 }), 0);
  });

  it("serves several producers and consumers, each item once and in each producer's order", async () => {
    using queue = new Queue<[number, number]>({ maxSize: 50 });
    using results = new Queue<[number, number][]>();
    const consumers = await Promise.all(
      [0, 1].map(() => new Process({ target: consume, args: [queue, results] }).start()),
    );
    const producers = await Promise.all(
      [0, 1, 2].map((who) => new Process({ target: produce, args: [queue, who, 1000] }).start()),
    );
    await Promise.all(producers.map((process) => process.join({ timeout: 60_000 })));
    queue.shutdown();
    const got = [await results.get({ timeout: 60_000 }), await results.get({ timeout: 60_000 })];
    await Promise.all(consumers.map((process) => process.join({ timeout: 20_000 })));
    for (const items of got) {
      for (const who of [0, 1, 2]) {
        const mine = items.filter(([by]) => by === who).map(([, i]) => i);
        assertEquals(mine, [...mine].sort((a, b) => a - b));
      }
    }
    assertEquals(new Set(got.flat().map(([who, i]) => who * 1000 + i)).size, 3000);
    assertEquals(got.flat().length, 3000);
  });

  it("keeps the record that is read from being overwritten, whatever it saw in other lanes", async () => {
    using queue = new Queue<string>();
    using ready = new Queue<string>();
    await using _child = await new Process({ target: putAndStay, args: [queue, ready] }).start();
    await ready.get({ timeout: 20_000 });
    await queue.put("in the newest lane");
    const { block, held } = queue as unknown as { block: number; held: Held };
    const session = current();
    const m = session.arena.i32;
    const newest = m[block + Q_LANES];
    const childs = m[newest + LN_NEXT];
    assert(childs !== 0);
    // As if another consumer were at the child's record: there is nothing to take in that lane, but to look at.
    const record = m[childs + LN_READ_RING] + RING_HEADER_UNITS * 4;
    assertEquals(
      Atomics.exchange(m, record, (session.token << STATE_TOKEN_SHIFT) | CLAIMED),
      COMMITTED,
    );
    let kept: number[] = [];
    new Consumer(session, block, held.node).take(() => {
      kept = [m[held.node + N_HAZARD_LANE], m[held.node + N_HAZARD] & 1];
    });
    assertEquals(kept, [newest, 1]);
    Atomics.store(m, record, COMMITTED);
    assertEquals(await queue.get(), "in the child's lane");
  });

  it("carries live handles to a child and back", async () => {
    using lock = new Lock();
    using semaphore = new Semaphore(0);
    using queue = new Queue<unknown>();
    await using child = await new Process({ target: useHandles, args: [{ lock, semaphore, queue }] }).start();
    const back = await queue.get({ timeout: 20_000 }) as { lock: Lock; semaphore: Semaphore };
    assertEquals(back.semaphore.getValue(), 1);
    await semaphore.acquire();
    assertEquals(back.semaphore.getValue(), 0);
    assertEquals(await child.join({ timeout: 20_000 }), 0);
  });
});

// "bun test" ends without an exit event, in which a session with a path would be left.
describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
