/** SimpleQueue: rows SQ of the conformance list. */
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Process, Queue, session, SimpleQueue } from "../../multiprocessing/mod.ts";
import { putEmpty } from "../fixtures/queue_tasks.ts";
import { STALL_MS, timed } from "./support.ts";

describe("SimpleQueue", () => {
  // Where CPython raises OSError, ours is a TypeError, as for every handle that was closed.
  it("SQ-01 empty() of a closed queue is an error, though it was never used", () => {
    const queue = new SimpleQueue<number>();
    queue.close();
    assertThrows(() => queue.empty(), TypeError, "is closed");
  });

  timed("SQ-02 empty() says what it is now, in each process", 40_000, async () => {
    using queue = new SimpleQueue<boolean>();
    using go = new Queue<string>();
    using done = new Queue<string>();
    await using child = await new Process({ target: putEmpty, args: [queue, go, done] }).start();
    assertEquals(queue.empty(), true);
    await go.put("go");
    await done.get({ timeout: STALL_MS });
    assertEquals(queue.empty(), false);
    assertEquals(await queue.get({ timeout: STALL_MS }), true);
    assertEquals(await queue.get({ timeout: STALL_MS }), false);
    assertEquals(queue.empty(), true);
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
  });

  // There are no two descriptors here: the one handle neither puts nor gets any more.
  it("SQ-04 close() closes both ends", async () => {
    const queue = new SimpleQueue<number>();
    assertEquals(queue.closed, false);
    queue.close();
    queue.close();
    assert(queue.closed);
    await assertRejects(() => queue.put(1), TypeError, "is closed");
    await assertRejects(() => queue.get(), TypeError, "is closed");
  });

  timed("gives back what was put, waiting or not", 10_000, async () => {
    using queue = new SimpleQueue<unknown>();
    const waiting = queue.get();
    await queue.put({ a: [1] });
    assertEquals(await waiting, { a: [1] });
    assertEquals(queue.tryGet(), null);
    assert(queue.tryPut(2));
    assertEquals(queue.getSync({ allowBlocking: true }), 2);
    await queue.put(queue);
    using got = await queue.get() as SimpleQueue<unknown>;
    assertInstanceOf(got, SimpleQueue);
    assertEquals(
      got.toString(),
      "SimpleQueue(the queue holds 0 items (limit none) and 0 bytes (limit none))",
    );
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
