/** Reaping in pieces, between which the loop turns and others may reap. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Lock, Process, session } from "../../multiprocessing/mod.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { sleepSync } from "../../platform/mod.ts";
import { nothing } from "../fixtures/tasks.ts";
import { backTo, STALL_MS, timed, use, within } from "./support.ts";

/** Spans enough that the smallest pieces are many. */
const LOCKS = 2000;

function makeLocks(): Lock[] {
  return Array.from({ length: LOCKS }, () => new Lock());
}

/** Has a child be found dead, which begins its reap; the join that is returned resolves at the reap's end. */
async function endOfChild(): Promise<{ joined: Promise<number> }> {
  const child = await new Process({ target: nothing }).start();
  child.kill();
  // The loop must not turn before this test has looked.
  while (child.exitCode === null) sleepSync(1);
  assertEquals(child.exitCode, -9);
  return { joined: child.join({ timeout: STALL_MS }) };
}

describe("a reap in pieces", () => {
  timed("goes on while the loop turns, and comes to its end", 30_000, async () => {
    const before = use();
    const { agents } = current();
    const locks = makeLocks();
    const { sliceMs } = agents;
    agents.sliceMs = 0;
    try {
      const { joined } = await endOfChild();
      assertGreater(use().agents, before.agents, "it was done in one piece");
      let turns = 0;
      const reaped = within(
        STALL_MS,
        "the end of the reap",
        () => ++turns > 0 && use().agents === before.agents,
      );
      assertEquals(await joined, -9);
      assertEquals(use().agents, before.agents);
      await reaped;
      assertGreater(turns, 1);
    } finally {
      agents.sliceMs = sliceMs;
    }
    for (const lock of locks) lock[Symbol.dispose]();
    await backTo(before);
  });

  timed(
    "is left alone when another has reaped meanwhile, and when the place is taken anew",
    30_000,
    async () => {
      const before = use();
      const { agents, references } = current();
      const locks = makeLocks();
      const { sliceMs } = agents;
      agents.sliceMs = 0;
      try {
        for (let i = 0; i < 5; i++) {
          const { joined } = await endOfChild();
          assertGreater(use().agents, before.agents, "it was done in one piece");
          agents.reapAll();
          assertEquals(use().agents, before.agents);
          assertEquals(await joined, -9);
          using lock = new Lock();
          const next = await new Process({ target: nothing }).start();
          assertEquals(await next.join({ timeout: STALL_MS }), 0);
          references.sweep();
          assert(lock.tryAcquire() !== null);
        }
      } finally {
        agents.sliceMs = sliceMs;
      }
      for (const lock of locks) lock[Symbol.dispose]();
      await backTo(before);
    },
  );
});

describe("freeing", () => {
  timed("of many blocks in no order takes time by their number, not by its square", 20_000, async () => {
    const before = use();
    const locks = Array.from({ length: 60_000 }, () => new Lock());
    // A stride that comes by each once, and leaves no span empty before the end.
    for (let i = 0; i < locks.length; i++) locks[(i * 30_011) % locks.length][Symbol.dispose]();
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
