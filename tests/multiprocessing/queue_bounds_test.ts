/** Bounds in bytes, and room that somebody announced and never used. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Full, Process, Queue, session } from "../../multiprocessing/mod.ts";
import { stopWhileWriting } from "../fixtures/bounds_tasks.ts";
import { STALL_MS, state, timed, within } from "./support.ts";

const W = { timeout: STALL_MS };

describe("a bounded queue", () => {
  timed("that has room, but not enough, lets the loop turn", 20_000, async () => {
    using queue = new Queue<Uint8Array>({ maxBytes: 1000 });
    await queue.put(new Uint8Array(600));
    assert(!queue.full());
    let turns = 0;
    const timer = setInterval(() => turns++, 5);
    await assertRejects(() => queue.put(new Uint8Array(600), { timeout: 200 }), Full);
    clearInterval(timer);
    assert(turns > 3, `${turns} turns`);
    const late = queue.put(new Uint8Array(600), W);
    const small = queue.put(new Uint8Array(10), W);
    await queue.get(W);
    await late;
    await small;
    assertEquals([(await queue.get(W)).length, (await queue.get(W)).length].toSorted(), [10, 600]);
  });

  timed("takes an item of any size when it is empty", 20_000, async () => {
    using queue = new Queue<Uint8Array>({ maxBytes: 1000 });
    await queue.put(new Uint8Array(5000), W);
    await assertRejects(() => queue.put(new Uint8Array(1), { timeout: 20 }), Full);
    assertEquals((await queue.get(W)).length, 5000);
  });

  timed("does not hold who waits for room that a stopped process announced", 40_000, async () => {
    using queue = new Queue<number>({ maxSize: 1 });
    using ready = new Queue<string>();
    const child = await new Process({ target: stopWhileWriting, args: [queue, ready] }).start();
    await ready.get(W);
    await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
    const started = performance.now();
    await assertRejects(() => queue.put(7, { timeout: 100 }), Full);
    assert(performance.now() - started < 5000);
    // Its death is found by who waits.
    const late = queue.put(7, W);
    child.kill();
    await late;
    assertEquals(await queue.get(W), 7);
    assertEquals(await child.join(W), -9);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
