/**
 * A child is killed at every crash point while it shares a lock, a semaphore and queues with this process, or meets it at an event, a condition
 * and a barrier. What it acknowledged stands in a file, outside of shared memory.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { rmSync } from "node:fs";
import { Condition, Lock, Process, Queue, session } from "../../multiprocessing/mod.ts";
import { CRASH_POINTS } from "../../multiprocessing/core/crash.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { killProcess, signals } from "../../platform/mod.ts";
import { carryStopped, carryTwice, leaveTaker } from "../fixtures/crash_tasks.ts";
import { isMeetingPoint, startMeeting } from "../fixtures/meeting.ts";
import { dieNotified, leaveDying, waitFor } from "../fixtures/meeting_tasks.ts";
import { journals, startChurn } from "../fixtures/survivor.ts";
import { nothing } from "../fixtures/tasks.ts";
import {
  backTo,
  command,
  pause,
  Program,
  STALL_MS,
  state,
  thisRuntime,
  timed,
  use,
  within,
} from "./support.ts";

/** A session of its own, whose first process is killed. */
function orphaning(...args: string[]): Program {
  return new Program(command(thisRuntime, "orphan_program.ts", args), {
    env: { GEVENTMP_SESSION: undefined },
  });
}

describe("killed at", () => {
  for (const point of CRASH_POINTS.filter((point) => !isMeetingPoint(point))) {
    for (const nth of [1, 2, 10]) {
      timed(`${point}, time ${nth}`, 60_000, async () => {
        const before = use();
        const { survivor, child } = await startChurn(point, nth, "kill", 400);
        try {
          const code = await child.join({ timeout: 40_000 });
          assertEquals(code, -9, `the crash point was not reached: exit code ${code}`);
          await survivor.settle(true);
        } finally {
          child.kill();
          await survivor.stop();
        }
        survivor.dispose();
        await backTo(before);
      });
    }
  }
});

describe("killed in a meeting at", () => {
  for (const point of CRASH_POINTS.filter(isMeetingPoint)) {
    for (const nth of [1, 2, 10]) {
      timed(`${point}, time ${nth}`, 60_000, async () => {
        const before = use();
        const { survivor, child } = await startMeeting({ point, nth, action: "kill", rounds: 400 });
        try {
          const code = await child.join({ timeout: 40_000 });
          assertEquals(code, -9, `the crash point was not reached: exit code ${code}`);
          await survivor.settle();
        } finally {
          child.kill();
          await survivor.stop();
        }
        survivor.dispose();
        await backTo(before);
      });
    }
  }
});

describe("the session's first process killed in a meeting at", () => {
  for (const point of CRASH_POINTS.filter(isMeetingPoint)) {
    timed(point, 60_000, async () => {
      await using root = orphaning(point);
      assertEquals(JSON.parse(await root.line()), "settled");
    });
  }
});

describe("an item", () => {
  timed("is taken again though who took it was killed, and its parent was, too", 30_000, async () => {
    const queue = new Queue<Uint8Array>();
    const ready = new Queue<string>();
    const child = await new Process({ target: leaveTaker, args: [queue, ready] }).start();
    for (let i = 0; i < 2; i++) await ready.get({ timeout: STALL_MS });
    assertEquals(await child.join({ timeout: STALL_MS }), -9);
    assert(queue.tryPut(new Uint8Array(2000)));
    await pause(200);
    assertEquals((await queue.get({ timeout: STALL_MS })).length, 2000);
    for (const each of [queue, ready]) each[Symbol.dispose]();
  });
});

describe("a notification", () => {
  timed("of the session's first process, killed, goes to who waits", 40_000, async () => {
    await using root = orphaning();
    assertEquals(JSON.parse(await root.line()), "notified");
  });

  timed("that a killed process did not live to see goes to the next", 40_000, async () => {
    const before = use();
    const condition = new Condition();
    const ready = new Queue<string>();
    const child = await new Process({ target: dieNotified, args: [condition, ready] }).start();
    await ready.get({ timeout: STALL_MS });
    const second = condition.run(() => condition.wait({ timeout: STALL_MS }));
    await within(STALL_MS, "both", () => / waiters=2/.test(String(condition)));
    await condition.run(() => condition.notify());
    assertEquals(await child.join({ timeout: STALL_MS }), -9);
    await second;
    for (const each of [condition, ready]) each[Symbol.dispose]();
    await backTo(before);
  });

  timed("goes to the next also when it is killed before it has the lock back", 30_000, async () => {
    const before = use();
    const condition = new Condition();
    const ready = new Queue<string>();
    const child = await new Process({ target: waitFor, args: [condition, ready] }).start();
    await ready.get({ timeout: STALL_MS });
    const second = condition.run(() => condition.wait({ timeout: STALL_MS }));
    await within(STALL_MS, "both", () => / waiters=2/.test(String(condition)));
    {
      using _guard = await condition.acquire();
      condition.notify();
      await pause(200);
      child.kill();
      assertEquals(await child.join({ timeout: STALL_MS }), -9);
    }
    await second;
    for (const each of [condition, ready]) each[Symbol.dispose]();
    await backTo(before);
  });

  timed("goes to the next also when its parent is dead, and nobody reaps it", 30_000, async () => {
    const condition = new Condition();
    const ready = new Queue<string>();
    const child = await new Process({ target: leaveDying, args: [condition, ready] }).start();
    for (let i = 0; i < 2; i++) await ready.get({ timeout: STALL_MS });
    assertEquals(await child.join({ timeout: STALL_MS }), -9);
    const second = condition.run(() => condition.wait({ timeout: STALL_MS }));
    await within(STALL_MS, "both", () => / waiters=2/.test(String(condition)));
    await condition.run(() => condition.notify());
    await second;
    for (const each of [condition, ready]) each[Symbol.dispose]();
  });
});

describe("a condition's lock", () => {
  timed("lives as long as the condition, whoever has handles to it", 40_000, async () => {
    const before = use();
    const queue = new Queue<Condition>();
    {
      using lock = new Lock();
      using condition = new Condition(lock);
      await queue.put(condition);
    }
    current().references.sweep();
    const condition = await queue.get({ timeout: STALL_MS });
    {
      using guard = await condition.acquire({ timeout: STALL_MS });
      assertEquals(guard.abandoned, false);
      assert(condition.locked());
    }
    for (const each of [condition, queue]) each[Symbol.dispose]();
    await backTo(before);
  });
});

describe("a handle on its way", () => {
  timed("arrives though its sender died when it sent it again", 40_000, async () => {
    const before = use();
    const queue = new Queue<Lock>();
    const ready = new Queue<string>();
    const go = new Queue<string>();
    const child = await new Process({ target: carryTwice, args: [queue, ready, go] }).start();
    await ready.get({ timeout: STALL_MS });
    await go.put("go");
    assertEquals(await child.join({ timeout: STALL_MS }), -9);
    assertEquals(queue.qsize(), 1);
    current().references.sweep();
    using lock = await queue.get({ timeout: STALL_MS });
    assert(lock.tryAcquire() !== null);
    lock[Symbol.dispose]();
    for (const each of [queue, ready, go]) each[Symbol.dispose]();
    await backTo(before);
  });

  timed("arrives though others were reaped while its sender noted it", 40_000, async () => {
    const before = use();
    const queue = new Queue<Lock>();
    const ready = new Queue<string>();
    const go = new Queue<string>();
    const sent = new Lock();
    const child = await new Process({ target: carryStopped, args: [queue, ready, go, sent] }).start();
    await ready.get({ timeout: STALL_MS });
    (await queue.get({ timeout: STALL_MS }))[Symbol.dispose]();
    sent[Symbol.dispose]();
    await go.put("go");
    await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
    await (await new Process({ target: nothing }).start()).join({ timeout: STALL_MS });
    current().references.sweep();
    killProcess(child.pid!, signals.SIGCONT);
    // The sender has let go of it, and has ended, when it arrives.
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    using lock = await queue.get({ timeout: STALL_MS });
    assert(lock.tryAcquire() !== null);
    lock[Symbol.dispose]();
    for (const each of [queue, ready, go]) each[Symbol.dispose]();
    await backTo(before);
  });

  timed("does not outlive the queue that nobody took it from", 10_000, async () => {
    const before = use();
    const queue = new Queue<Lock>();
    for (let i = 0; i < 100; i++) {
      using lock = new Lock();
      await queue.put(lock);
    }
    assertEquals(use().blocks > before.blocks + 100, true);
    queue[Symbol.dispose]();
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    rmSync(journals, { recursive: true });
    await session()[Symbol.asyncDispose]();
  });
});
