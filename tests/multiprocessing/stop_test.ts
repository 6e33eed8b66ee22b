/** A child is stopped (SIGSTOP) at every crash point: it is slow, not dead, and nobody waits for it who does not need what it holds. */
import { assert, assertEquals, assertLess, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { rmSync } from "node:fs";
import {
  Barrier,
  BrokenBarrierError,
  Condition,
  Empty,
  Event,
  Full,
  Lock,
  Process,
  Queue,
  Semaphore,
  session,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { CRASH_POINTS } from "../../multiprocessing/core/crash.ts";
import { killProcess, signals } from "../../platform/mod.ts";
import { isMeetingPoint, startMeeting } from "../fixtures/meeting.ts";
import { journals, startChurn } from "../fixtures/survivor.ts";
import { getStopped, putStopped } from "../fixtures/crash_tasks.ts";
import { holdThenRelease } from "../fixtures/tasks.ts";
import { backTo, pause, STALL_MS, state, timed, use, within } from "./support.ts";

/** Most that the median may be of several calls that are done at once: a busy machine holds up one or two of them, a stopped process each. */
const AT_ONCE_MS = 5;
/** The same for waits that time out after 30 ms. */
const TIMEOUT_MS = 250;
const TRIES = 3;

class Times {
  readonly #samples = new Map<string, number[]>();

  #add(what: string, started: number): void {
    const samples = this.#samples.get(what) ?? [];
    samples.push(performance.now() - started);
    this.#samples.set(what, samples);
  }

  atOnce(what: string, work: () => void): void {
    const started = performance.now();
    work();
    this.#add(what, started);
  }

  /** Checks them all, and forgets them. */
  check(most: number): void {
    for (const [what, samples] of this.#samples) {
      const median = samples.sort((a, b) => a - b)[samples.length >> 1];
      assertLess(median, most, `${what} waited for a stopped process`);
    }
    this.#samples.clear();
  }

  /** Repeats a wait, and checks that its time-outs hold. */
  async timeOut(what: string, work: () => Promise<void>): Promise<void> {
    for (let i = 0; i < TRIES; i++) {
      const started = performance.now();
      await work();
      this.#add(what, started);
    }
    this.check(TIMEOUT_MS);
  }
}

describe("stopped at", () => {
  for (const point of CRASH_POINTS.filter((point) => !isMeetingPoint(point))) {
    timed(point, 60_000, async () => {
      const before = use();
      const times = new Times();
      const { survivor, child } = await startChurn(point, 1, "stop", 40);
      const { lock, semaphore, work, results, jobs } = survivor.shared;
      try {
        await within(40_000, "the stop", () => child.exitCode !== null || state(child.pid!) === "T");
        assertEquals(child.exitCode, null, "the crash point was not reached");
        for (let i = 0; i < 20; i++) {
          times.atOnce("Semaphore.release", () => semaphore.release());
          times.atOnce("Semaphore.tryAcquire", () => assert(semaphore.tryAcquire()));
          times.atOnce("Lock.tryAcquire and release", () => lock.tryAcquire()?.release());
          times.atOnce("new Lock", () => {
            using own = new Lock();
            own.tryAcquire()!.release();
          });
          times.atOnce("new Queue", () => {
            using own = new Queue<number>();
            assert(own.tryPut(1));
            assertEquals(own.tryGet(), { value: 1 });
          });
          const filler = new Uint8Array(100).fill(survivor.sent);
          times.atOnce("tryPut", () => assert(work.tryPut([survivor.sent++, null, filler])));
          times.atOnce("tryPut, tryLease, nack and ack", () => {
            survivor.putJob();
            const lease = jobs.tryLease()!;
            // Every third carries a handle, which would go with a collection only.
            lease.value[1]?.[Symbol.dispose]();
            lease.nack();
            assert(survivor.doJob());
          });
        }
        times.check(AT_ONCE_MS);
        // Time-outs and aborts hold, whatever the stopped process is in the middle of.
        await times.timeOut("a lock's time-out", () =>
          lock.acquire({ timeout: 30 }).then(
            (guard) => guard.release(),
            (error) => assert(error instanceof TimeoutError, String(error)),
          ));
        await survivor.stop();
        while (survivor.takeOne());
        await times.timeOut("a queue's time-out or abort", async () => {
          await assertRejects(() => results.get({ timeout: 30 }), Empty);
          const aborter = new AbortController();
          const aborted = results.get({ signal: aborter.signal });
          aborter.abort(new Error("enough"));
          await assertRejects(() => aborted, Error, "enough");
        });
        survivor.goOn();
        killProcess(child.pid!, signals.SIGCONT);
        assertEquals(await child.join({ timeout: 40_000 }), 0);
        await survivor.settle(false);
      } finally {
        if (child.exitCode === null) child.kill();
        await survivor.stop();
      }
      survivor.dispose();
      await backTo(before);
    });
  }
});

describe("stopped in a meeting at", () => {
  for (const point of CRASH_POINTS.filter(isMeetingPoint)) {
    timed(point, 60_000, async () => {
      const before = use();
      const times = new Times();
      const { survivor, child } = await startMeeting({ point, nth: 1, action: "stop", rounds: 20 });
      const { robust, there, back, condition, barrier } = survivor.shared;
      try {
        await within(40_000, "the stop", () => child.exitCode !== null || state(child.pid!) === "T");
        assertEquals(child.exitCode, null, "the crash point was not reached");
        await survivor.pause();
        for (let i = 0; i < 20; i++) {
          times.atOnce("robust tryAcquire and release", () => robust.tryAcquire() && robust.release());
          times.atOnce("Event.set", () => back.set());
          times.atOnce("Event.clear", () => back.clear());
          times.atOnce("Condition.tryAcquire, notify and release", () => {
            using guard = condition.tryAcquire();
            if (guard !== null) condition.notify();
          });
          times.atOnce("Barrier.abort", () => barrier.abort());
          assert(barrier.broken);
          times.atOnce("Barrier.reset", () => barrier.reset());
          times.atOnce("new objects", () => {
            using _event = new Event();
            using _condition = new Condition();
            using _barrier = new Barrier(2);
            using own = new Semaphore(1, { robust: true });
            assert(own.tryAcquire());
          });
        }
        times.check(AT_ONCE_MS);
        // What the stopped process is in the middle of holds no time-out up.
        await times.timeOut("a barrier's time-out", async () => {
          barrier.reset();
          await assertRejects(() => barrier.wait({ timeout: 30 }), BrokenBarrierError);
        });
        await times.timeOut("an event's time-out", async () => {
          there.clear();
          await assertRejects(() => there.wait({ timeout: 30 }), TimeoutError);
        });
        await times.timeOut("a condition's time-out", () =>
          condition.acquire({ timeout: 30 }).then(
            async (guard) => {
              await assertRejects(() => condition.wait({ timeout: 30 }), TimeoutError);
              guard.release();
            },
            (error) => assert(error instanceof TimeoutError, String(error)),
          ));
        survivor.goOn();
        killProcess(child.pid!, signals.SIGCONT);
        assertEquals(await child.join({ timeout: 40_000 }), 0);
        await survivor.settle();
      } finally {
        if (child.exitCode === null) child.kill();
        await survivor.stop();
      }
      survivor.dispose();
      await backTo(before);
    });
  }
});

describe("a stopped process", () => {
  timed("keeps the lock that it holds, and gives it on when it goes on", 30_000, async () => {
    using lock = new Lock();
    using ready = new Queue<string>();
    using go = new Queue<string>();
    await using child = await new Process({ target: holdThenRelease, args: [lock, ready, go] }).start();
    assertEquals(await ready.get({ timeout: STALL_MS }), "held");
    killProcess(child.pid!, signals.SIGSTOP);
    await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
    await assertRejects(() => lock.acquire({ timeout: 500 }), TimeoutError);
    assertEquals(lock.tryAcquire(), null);
    const waiting = lock.acquire({ timeout: STALL_MS });
    await go.put("release");
    await pause(100);
    killProcess(child.pid!, signals.SIGCONT);
    const guard = await waiting;
    assertEquals(guard.abandoned, false);
    guard.release();
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
  });

  for (const end of ["goes on", "is killed"] as const) {
    timed(
      `that is about to put has others wait asleep for the last place, until it ${end}`,
      30_000,
      async () => {
        using queue = new Queue<string>({ maxSize: 1 });
        using ready = new Queue<string>();
        await using child = await new Process({ target: putStopped, args: [queue, ready] }).start();
        await ready.get({ timeout: STALL_MS });
        await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
        await assertRejects(() => queue.put("too late", { timeout: 150 }), Full);
        const ours = queue.put("ours", { timeout: STALL_MS });
        await pause(0);
        killProcess(child.pid!, end === "is killed" ? signals.SIGKILL : signals.SIGCONT);
        if (end === "goes on") assertEquals(await queue.get({ timeout: STALL_MS }), "theirs");
        await ours;
        assertEquals(await queue.get({ timeout: STALL_MS }), "ours");
        assertEquals(await child.join({ timeout: STALL_MS }), end === "is killed" ? -9 : 0);
      },
    );
  }

  timed("that takes an item leaves room for two once it and a later one are taken", 30_000, async () => {
    using queue = new Queue<Uint8Array>({ maxSize: 2 });
    using ready = new Queue<string>();
    using go = new Queue<string>();
    for (const size of [2000, 3]) assert(queue.tryPut(new Uint8Array(size)));
    await using child = await new Process({ target: getStopped, args: [queue, ready, go] }).start();
    await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
    assertEquals(queue.tryGet()?.value.length, 3);
    killProcess(child.pid!, signals.SIGCONT);
    assertEquals(await ready.get({ timeout: STALL_MS }), "taken");
    assertEquals(queue.qsize(), 0);
    for (const size of [4, 5]) assert(queue.tryPut(new Uint8Array(size)));
    await go.put("end");
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
  });
});

describe("a bounded queue", () => {
  timed(
    "whose getter is stopped refuses at once and times out, and goes on when it does",
    30_000,
    async () => {
      using lock = new Lock();
      using ready = new Queue<string>();
      using go = new Queue<string>({ maxSize: 1 });
      const times = new Times();
      await using child = await new Process({ target: holdThenRelease, args: [lock, ready, go] }).start();
      assertEquals(await ready.get({ timeout: STALL_MS }), "held");
      killProcess(child.pid!, signals.SIGSTOP);
      await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
      assert(go.tryPut("one"));
      for (let i = 0; i < 20; i++) {
        times.atOnce("tryPut where there is none", () => assert(!go.tryPut("more")));
        times.atOnce("Queue.full", () => assert(go.full()));
      }
      times.check(AT_ONCE_MS);
      await times.timeOut("put", async () => {
        await assertRejects(() => go.put("more", { timeout: 30 }), Full);
      });
      const waiting = go.put("two", { timeout: STALL_MS });
      killProcess(child.pid!, signals.SIGCONT);
      await waiting;
      assertEquals(await go.get({ timeout: STALL_MS }), "two");
      assertEquals(await child.join({ timeout: STALL_MS }), 0);
    },
  );
});

describe("the end", () => {
  it("leaves the session", async () => {
    rmSync(journals, { recursive: true });
    await session()[Symbol.asyncDispose]();
  });
});
