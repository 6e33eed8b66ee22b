/** Leases: what a consumer has taken, and what becomes of it when it does not say that it is done. */
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  Empty,
  JoinableQueue,
  type Lease,
  Lock,
  Process,
  Queue,
  session,
  ShutDown,
} from "../../multiprocessing/mod.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { leaseAndClose, leaseAndEnd, leaseAndHang, leaseSync, reapAndDie } from "../fixtures/queue_tasks.ts";
import { backTo, STALL_MS, timed, use } from "./support.ts";

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

describe("a lease", () => {
  timed("takes an item away, for good once it is acknowledged", 10_000, async () => {
    const before = use();
    {
      using queue = new Queue<string>();
      await queue.put("a");
      await queue.put("b");
      const lease = await queue.lease();
      assertEquals(lease.value, "a");
      assertEquals(queue.qsize(), 1);
      lease.ack();
      lease.ack();
      lease.nack();
      assertEquals(await queue.get(), "b");
      assertStrictEquals(queue.tryLease(), null);
    }
    await backTo(before);
  });

  timed("that is given back comes before newer items, in the old order", 10_000, async () => {
    const before = use();
    {
      using queue = new Queue<number>();
      for (let i = 0; i < 6; i++) await queue.put(i);
      const leases: Lease<number>[] = [];
      for (let i = 0; i < 4; i++) leases.push(await queue.lease());
      leases[2].nack();
      {
        using _left = leases[1];
      }
      leases[0].ack();
      assertEquals(queue.qsize(), 4);
      assertThrows(() => leases[1].ack(), TypeError, "given back");
      assertEquals((await queue.lease()).value, 1);
      assertEquals(await queue.get(), 2);
      assertEquals([await queue.get(), await queue.get()], [4, 5]);
      assertStrictEquals(queue.tryGet(), null);
      leases[3].nack();
      assertEquals(queue.getNowait(), 3);
    }
    // Even what was leased still.
    await backTo(before);
  });

  timed("does not keep those behind it from being taken, nor their memory", 20_000, async () => {
    using queue = new Queue<Uint8Array>();
    await queue.put(new Uint8Array([7]));
    using lease = await queue.lease();
    const { extent } = current().use();
    for (let i = 0; i < 20_000; i++) {
      assert(queue.tryPut(new Uint8Array(1000)));
      queue.getNowait();
    }
    assert(current().use().extent <= extent + 64, "the lane grew");
    assertEquals(queue.qsize(), 0);
    assertEquals(lease.value, new Uint8Array([7]));
  });

  timed("leaves room for another item, and may come back to a full queue", 10_000, async () => {
    using queue = new Queue<number>({ maxSize: 1 });
    await queue.put(1);
    const second = queue.put(2);
    const lease = await queue.lease();
    await second;
    lease.nack();
    assertEquals(queue.qsize(), 2);
    assertEquals(queue.tryPut(3), false);
    assertEquals([await queue.get(), await queue.get()], [1, 2]);
    assert(queue.tryPut(3));
  });

  timed("carries large items and handles", 20_000, async () => {
    const before = use();
    {
      using queue = new Queue<unknown>();
      const large = new Uint8Array(300_000).map((_, i) => i);
      await queue.put(large);
      {
        using lock = new Lock();
        await queue.put({ lock });
      }
      for (let round = 0; round < 3; round++) {
        const first = await queue.lease();
        assertEquals(first.value, large);
        using second = await queue.lease();
        const { lock } = second.value as { lock: Lock };
        lock.tryAcquire()!.release();
        lock[Symbol.dispose]();
        current().references.sweep();
        first.nack();
      }
      assertEquals(await queue.get(), large);
      const last = await queue.lease();
      (last.value as { lock: Lock }).lock[Symbol.dispose]();
      const { blocks } = use();
      last.ack();
      // The message, and the lock that nobody has any more.
      assertEquals(use().blocks, blocks - 2);
    }
    await backTo(before);
  });

  timed("is waited for, and ends with what is given back", 10_000, async () => {
    using queue = new Queue<string>();
    const waiting = [queue.lease(), queue.get(), queue.lease()];
    await turn();
    for (const item of ["a", "b", "c"]) await queue.put(item);
    const [a, b, c] = await Promise.all(waiting) as [Lease<string>, string, Lease<string>];
    assertEquals([a.value, b, c.value], ["a", "b", "c"]);
    const again = queue.lease({ timeout: STALL_MS });
    await turn();
    c.nack();
    assertEquals((await again).value, "c");
    await assertRejects(() => queue.lease({ timeout: 5 }), Empty, "5 ms");
    await assertRejects(
      () => queue.lease({ signal: AbortSignal.abort(new Error("enough")) }),
      Error,
      "enough",
    );
  });

  timed("outlasts a shutdown, but not an immediate one", 10_000, async () => {
    using queue = new Queue<string>();
    await queue.put("a");
    const lease = await queue.lease();
    queue.shutdown();
    await assertRejects(() => queue.lease(), ShutDown);
    lease.nack();
    const again = await queue.lease();
    queue.shutdown({ immediate: true });
    again.nack();
    assertThrows(() => queue.tryLease(), ShutDown);
  });

  timed("of an item that cannot be read is none, and the item is gone", 10_000, async () => {
    using queue = new Queue<Lock>();
    using lock = new Lock();
    await queue.put(lock);
    // What no program can do: the object goes while its handle is on its way.
    const { arena } = current();
    const { block } = lock as unknown as { block: number };
    const head = arena.i32[block];
    arena.i32[block] = head + 0x1000;
    await assertRejects(() => queue.lease(), TypeError, "does not exist");
    arena.i32[block] = head;
    assertStrictEquals(queue.tryLease(), null);
  });
});

describe("a consumer", () => {
  timed("that is killed gives back all it had leased, before newer items", 40_000, async () => {
    const before = use();
    {
      using queue = new Queue<unknown>();
      using told = new Queue<unknown>();
      {
        using lock = new Lock();
        await queue.put({ lock });
      }
      for (let i = 1; i < 5; i++) await queue.put(i);
      const child = await new Process({ target: leaseAndHang, args: [queue, told, 4] }).start();
      for (const value of ["an object", 1, 2, 3]) assertEquals(await told.get({ timeout: STALL_MS }), value);
      assertEquals(queue.qsize(), 1);
      current().references.sweep();
      const newest = await queue.lease();
      assertEquals(newest.value, 4);
      newest.nack();
      const waiting = [queue, queue, queue, queue].map((each) => each.lease({ timeout: STALL_MS }));
      child.kill();
      assertEquals((await waiting[0]).value, 4);
      const [first, ...others] = await Promise.all(waiting.slice(1));
      // Its creator and its taker are gone: the item alone has kept it.
      const { lock } = first.value as { lock: Lock };
      lock.tryAcquire()!.release();
      lock[Symbol.dispose]();
      assertEquals(others.map((lease) => lease.value), [1, 2]);
      assertEquals(await queue.get({ timeout: STALL_MS }), 3);
      assertEquals(await child.join({ timeout: STALL_MS }), -9);
    }
    await backTo(before);
  });

  for (const point of ["lease.returned", "agent.reap", "agent.reaped"] as const) {
    timed(`whose reaper is killed at ${point} gives back once`, 40_000, async () => {
      const before = use();
      const queue = new Queue<unknown>();
      const told = new Queue<unknown>();
      for (const item of ["a", "b"]) await queue.put(item);
      await using reaper = await new Process({ target: reapAndDie, args: [queue, told, point] }).start();
      assertEquals(await told.get({ timeout: STALL_MS }), "both are leased");
      await queue.put("go");
      assertEquals(await reaper.join({ timeout: STALL_MS }), -9);
      for (const item of ["a", "b"]) assertEquals((await queue.lease({ timeout: STALL_MS })).value, item);
      assertStrictEquals(queue.tryLease(), null);
      for (const each of [queue, told]) each[Symbol.dispose]();
      await backTo(before);
    });
  }

  timed("that ends without a word gives back, too", 40_000, async () => {
    using queue = new Queue<string>();
    await queue.put("a");
    await using child = await new Process({ target: leaseAndEnd, args: [queue] }).start();
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    assertEquals((await queue.lease({ timeout: STALL_MS })).value, "a");
  });

  timed("that closes the queue has given back, and cannot acknowledge any more", 40_000, async () => {
    using queue = new Queue<string>();
    using told = new Queue<unknown>();
    await queue.put("a");
    await using _child = await new Process({ target: leaseAndClose, args: [queue, told] }).start();
    const message = await told.get({ timeout: STALL_MS });
    assert(String(message).startsWith("Cannot acknowledge"), String(message));
    assertEquals((await queue.lease({ timeout: STALL_MS })).value, "a");
  });

  timed("may block its thread, and finishes what it acknowledges", 40_000, async () => {
    using queue = new JoinableQueue<number>();
    using told = new Queue<number>();
    await using child = await new Process({ target: leaseSync, args: [queue, told, 4] }).start();
    for (const i of [0, 1, 2, 3]) {
      await queue.put(i);
      assertEquals(await told.get({ timeout: STALL_MS }), i);
    }
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    assertEquals(queue.qsize(), 2);
    for (const odd of [1, 3]) {
      assertEquals(queue.tryJoin(), false);
      const lease = await queue.lease({ timeout: STALL_MS });
      assertEquals(lease.value, odd);
      lease.ack();
    }
    assert(queue.tryJoin());
    assertThrows(() => queue.taskDone(), RangeError);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
