import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  BlockingError,
  type Guard,
  Lock,
  Process,
  Queue,
  Semaphore,
  session,
  TimeoutError,
} from "../../mod.ts";
import { acquireSync, holdDropped, holdForEver, increment, pong, waitForEver } from "../fixtures/tasks.ts";

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

describe("Lock", () => {
  it("is held by one", async () => {
    using lock = new Lock();
    const guard = await lock.acquire();
    assertEquals(lock.locked(), true);
    assertStrictEquals(lock.tryAcquire(), null);
    assertEquals(guard.abandoned, false);
    guard.release();
    guard.release();
    assertEquals(lock.locked(), false);
    {
      using again = lock.tryAcquire();
      assert(again !== null);
    }
    assertEquals(lock.locked(), false);
  });

  it("serves sleepers in order", async () => {
    using lock = new Lock();
    const guard = await lock.acquire();
    const order: number[] = [];
    const waits = Array.from({ length: 20 }, (_, i) =>
      lock.run(async () => {
        order.push(i);
        await turn();
      }));
    guard.release();
    await Promise.all(waits);
    assertEquals(order, Array.from({ length: 20 }, (_, i) => i));
  });

  it("may be released by anyone, and only when held", () => {
    using lock = new Lock();
    lock.tryAcquire();
    lock.release();
    assertThrows(() => lock.release(), RangeError, "not held");
  });

  it("tells a guard whose lock was released behind its back", async () => {
    using lock = new Lock();
    const guard = await lock.acquire();
    lock.release();
    assertThrows(() => guard.release(), RangeError, "not held");
  });

  it("times out, and leaves nothing behind", async () => {
    using lock = new Lock();
    const guard = await lock.acquire();
    await assertRejects(() => lock.acquire({ timeout: 20 }), TimeoutError, "20 ms");
    await assertRejects(() => lock.acquire({ timeout: 0 }), TimeoutError);
    await assertRejects(() => lock.acquire({ timeout: -1 }), TimeoutError);
    guard.release();
    (await lock.acquire({ timeout: 0 })).release();
    await assertRejects(() => lock.acquire({ timeout: NaN }), TypeError, "NaN");
    for (const timeout of [undefined, null, Infinity]) (await lock.acquire({ timeout })).release();
  });

  it("is aborted with the signal's reason", async () => {
    using lock = new Lock();
    const guard = await lock.acquire();
    const controller = new AbortController();
    const first = lock.acquire({ signal: controller.signal });
    const second = lock.acquire();
    controller.abort(new RangeError("enough"));
    await assertRejects(() => first, RangeError, "enough");
    await assertRejects(() => lock.acquire({ signal: controller.signal }), RangeError, "enough");
    guard.release();
    (await second).release();
  });

  it("runs a function and releases whatever happens", async () => {
    using lock = new Lock();
    assertEquals(await lock.run((guard: Guard) => guard.abandoned), false);
    await assertRejects(
      () =>
        lock.run(() => {
          throw new RangeError("inside");
        }),
      RangeError,
      "inside",
    );
    assertEquals(lock.locked(), false);
  });

  it("refuses to block a main thread", () => {
    using lock = new Lock();
    assertThrows(() => lock.acquireSync(), BlockingError, "allowBlocking");
    lock.acquireSync({ allowBlocking: true }).release();
    const guard = lock.tryAcquire()!;
    assertThrows(() => lock.acquireSync({ allowBlocking: true, timeout: 20 }), TimeoutError);
    guard.release();
  });

  it("cannot be used once disposed", async () => {
    const lock = new Lock();
    const guard = await lock.acquire();
    lock[Symbol.dispose]();
    lock[Symbol.dispose]();
    guard.release();
    assertThrows(() => lock.tryAcquire(), TypeError, "disposed");
    await assertRejects(() => lock.acquire(), TypeError, "disposed");
    assertMatch(String(lock), /disposed/);
  });

  it("says who holds it", () => {
    using lock = new Lock();
    assertEquals(String(lock), "Lock(owner=None)");
    lock.tryAcquire();
    assertEquals(String(lock), "Lock(owner=MainProcess)");
  });

  it("passes on when its owner is killed, and says so", async () => {
    using lock = new Lock();
    using ready = new Queue<unknown>();
    await using owner = await new Process({ target: holdForEver, args: [lock, ready] }).start();
    assertEquals(await ready.get({ timeout: 20_000 }), "held");
    await using other = await new Process({ target: waitForEver, args: [lock, ready] }).start();
    assertEquals(await ready.get({ timeout: 20_000 }), "waiting");
    owner.kill();
    assertEquals(await ready.get({ timeout: 20_000 }), "acquired");
    assertEquals(await owner.join(), -9);
    assertEquals(await other.join({ timeout: 20_000 }), 0);
    const guard = await lock.acquire({ timeout: 20_000 });
    // The waiter ended while it held the lock.
    assertEquals(guard.abandoned, true);
    guard.release();
    assertEquals((await lock.acquire()).abandoned, false);
  });

  it("stays held by a living process that dropped it", async () => {
    using lock = new Lock();
    using ready = new Queue<unknown>();
    await using owner = await new Process({ target: holdDropped, args: [lock, ready] }).start();
    assertEquals(await ready.get({ timeout: 20_000 }), "held");
    await assertRejects(() => lock.acquire({ timeout: 300 }), TimeoutError);
    owner.kill();
    assertEquals((await lock.acquire({ timeout: 20_000 })).abandoned, true);
  });

  it("excludes each other's processes", async () => {
    using lock = new Lock();
    using total = new Queue<number>();
    await total.put(0);
    const processes = await Promise.all(
      Array.from({ length: 3 }, () => new Process({ target: increment, args: [lock, total, 200] }).start()),
    );
    assertEquals(await Promise.all(processes.map((process) => process.join({ timeout: 60_000 }))), [0, 0, 0]);
    assertEquals(await total.get(), 600);
  });

  it("can be waited for synchronously in a child", async () => {
    using lock = new Lock();
    using queue = new Queue<unknown>();
    const guard = await lock.acquire();
    await using child = await new Process({ target: acquireSync, args: [lock, queue] }).start();
    guard.release();
    assertEquals(await queue.get({ timeout: 20_000 }), "has it");
    await queue.put("back");
    assertEquals(await child.join({ timeout: 20_000 }), 0);
    assertEquals(await queue.get({ timeout: 20_000 }), "back");
  });
});

describe("Semaphore", () => {
  it("counts", async () => {
    using semaphore = new Semaphore(2);
    assertEquals(semaphore.getValue(), 2);
    await semaphore.acquire();
    assertEquals(semaphore.tryAcquire(), true);
    assertEquals(semaphore.tryAcquire(), false);
    semaphore.release(2);
    assertEquals(semaphore.getValue(), 2);
    assertEquals(new Semaphore().getValue(), 1);
    assertThrows(() => new Semaphore(-1), RangeError);
    assertThrows(() => new Semaphore(1.5), RangeError);
    assertThrows(() => semaphore.release(0), RangeError);
    assertThrows(() => semaphore.release(2 ** 29), RangeError, "most");
  });

  it("wakes as many as there are permits, in order", async () => {
    using semaphore = new Semaphore(0);
    const order: number[] = [];
    const waits = [0, 1, 2, 3].map((i) => semaphore.acquire().then(() => order.push(i)));
    semaphore.release(3);
    await Promise.all(waits.slice(0, 3));
    assertEquals(order, [0, 1, 2]);
    semaphore.release();
    await waits[3];
  });

  it("loses no permit to a time-out or an abort", async () => {
    using semaphore = new Semaphore(0);
    const late = assertRejects(() => semaphore.acquire({ timeout: 10 }), TimeoutError);
    const aborted = assertRejects(() => semaphore.acquire({ signal: AbortSignal.timeout(10) }), DOMException);
    await Promise.all([late, aborted]);
    semaphore.release();
    assertEquals(semaphore.getValue(), 1);
  });

  it("plays ping-pong between processes", async () => {
    using ping = new Semaphore(0);
    using back = new Semaphore(0);
    await using child = await new Process({ target: pong, args: [ping, back, 2000] }).start();
    for (let i = 0; i < 2000; i++) {
      ping.release();
      await back.acquire({ timeout: 20_000 });
    }
    assertEquals(await child.join({ timeout: 20_000 }), 0);
  });

  it("holds 1,000 waits at once, and aborts 900 of them", async () => {
    using semaphore = new Semaphore(0);
    const order: number[] = [];
    const controllers = Array.from({ length: 1000 }, () => new AbortController());
    const waits = controllers.map((controller, i) =>
      semaphore.acquire({ signal: controller.signal }).then(
        () => void order.push(i),
        (error) => assertInstanceOf(error, DOMException),
      )
    );
    const { readFile } = await import("node:fs/promises");
    assert((await readFile(new URL(import.meta.url))).length > 1000);
    controllers.forEach((controller, i) => i % 10 !== 0 && controller.abort());
    for (let i = 0; i < 100; i++) {
      semaphore.release();
      await turn();
    }
    await Promise.all(waits);
    assertEquals(order, Array.from({ length: 100 }, (_, i) => i * 10));
    assertEquals(semaphore.getValue(), 0);
  });
});

describe("session", () => {
  it("leaves nothing open", { sanitizeOps: true, sanitizeResources: true }, async () => {
    await using _session = session();
    using lock = new Lock();
    const guard = await lock.acquire();
    const waiting = assertRejects(() => lock.acquire({ timeout: 10 }), TimeoutError);
    await waiting;
    guard.release();
  });

  it("rejects what waits when it ends", async () => {
    const joined = session();
    const lock = new Lock();
    await lock.acquire();
    const waiting = assertRejects(() => lock.acquire(), Error, "session was disposed");
    await joined[Symbol.asyncDispose]();
    await waiting;
    assertThrows(() => lock.tryAcquire(), TypeError, "session was disposed");
    using next = new Lock();
    assertEquals(next.locked(), false);
  });

  it("waits in spite of fake timers", async () => {
    const real = globalThis.setTimeout;
    const scope = globalThis as { setTimeout: unknown; setInterval: unknown };
    const interval = globalThis.setInterval;
    scope.setTimeout = scope.setInterval = () => 0;
    try {
      using lock = new Lock();
      await lock.acquire();
      await assertRejects(() => lock.acquire({ timeout: 20 }), TimeoutError);
    } finally {
      scope.setTimeout = real;
      scope.setInterval = interval;
    }
  });
});

// "bun test" ends without an exit event, in which a session with a path would be left.
describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
