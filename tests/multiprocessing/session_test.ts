/** Many waits at once, and many objects one after the other. */
import { assert, assertEquals, assertLess, assertLessOrEqual, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { existsSync, readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type Guard,
  Lock,
  Process,
  Queue,
  Semaphore,
  session,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { agentAt } from "../../multiprocessing/core/agents.ts";
import { A_BELL_KEY, A_BELL_NAME, A_PID, H_NONCE, MAX_AGENTS } from "../../multiprocessing/core/layout.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { abstractNamesSupported, closeFd, reopen } from "../../platform/mod.ts";
import { holdThenRelease } from "../fixtures/tasks.ts";
import { backTo, command, descriptors, Program, STALL_MS, thisRuntime, timed, use } from "./support.ts";

const text = fileURLToPath(new URL("./session_test.ts", import.meta.url));

describe("waits pending at once", () => {
  for (const count of [33, 1000]) {
    timed(`${count}, and files can be read`, 60_000, async () => {
      const before = use();
      const open = descriptors();
      const queues = Array.from({ length: count }, () => new Queue<number>());
      const gets = queues.map((queue) => queue.get({ timeout: STALL_MS }));
      const semaphore = new Semaphore(0);
      const acquires = queues.map(() => semaphore.acquire({ timeout: STALL_MS }));
      const started = performance.now();
      for (let i = 0; i < 40; i++) assert((await readFile(text, "utf8")).includes("and files can be read"));
      assertLess(performance.now() - started, 5000);
      assertLessOrEqual(descriptors(), open + 4, "a wait costs a descriptor");
      queues.forEach((queue, i) => queue.tryPut(i));
      semaphore.release(count);
      assertEquals(await Promise.all(gets), queues.map((_, i) => i));
      await Promise.all(acquires);
      assertEquals(semaphore.getValue(), 0);
      for (const queue of queues) queue[Symbol.dispose]();
      semaphore[Symbol.dispose]();
      await backTo(before);
    });
  }

  timed(
    "1,000 for one lock that another process holds, of which 900 are aborted or time out",
    60_000,
    async () => {
      const before = use();
      const lock = new Lock();
      const ready = new Queue<string>();
      const go = new Queue<string>();
      const child = await new Process({ target: holdThenRelease, args: [lock, ready, go] }).start();
      assertEquals(await ready.get({ timeout: STALL_MS }), "held");
      const served: number[] = [];
      let inside = 0;
      const aborted: AbortController[] = [];
      const waits = Array.from({ length: 1000 }, (_, i) => {
        const enter = async (guard: Guard): Promise<string> => {
          assertEquals(++inside, 1);
          await Promise.resolve();
          inside--;
          served.push(i);
          guard.release();
          return "served";
        };
        if (i % 10 === 0) return lock.acquire({ timeout: STALL_MS }).then(enter);
        const aborter = new AbortController();
        if (i % 2 === 0) aborted.push(aborter);
        return lock.acquire({ timeout: i % 2 === 0 ? STALL_MS : 50, signal: aborter.signal }).then(
          enter,
          (error) => error instanceof TimeoutError ? "late" : String(error),
        );
      });
      // From the last to the first, so that each change of the list is in its middle or at its head.
      for (const aborter of aborted.reverse()) aborter.abort("aborted");
      await Promise.all(waits.filter((_, i) => i % 10 !== 0));
      await go.put("release");
      const ends = await Promise.all(waits);
      const count = (end: string): number => ends.filter((each) => each === end).length;
      assertEquals({ served: count("served"), late: count("late"), aborted: count("aborted") }, {
        served: 100,
        late: 500,
        aborted: 400,
      });
      assertEquals(served, Array.from({ length: 100 }, (_, i) => i * 10), "not in order");
      assertEquals(await child.join({ timeout: STALL_MS }), 0);
      assert(lock.tryAcquire() !== null);
      for (const handle of [lock, ready, go]) handle[Symbol.dispose]();
      await backTo(before);
    },
  );
});

describe("100,000 locks and queues", () => {
  for (const how of ["dispose", "drop"]) {
    timed(`that are ${how === "drop" ? "dropped" : "disposed"} leave nothing`, 110_000, async () => {
      await using program = new Program(command(thisRuntime, "cycle_program.ts", [how, "100000"]), {
        env: { GEVENTMP_SESSION: undefined },
      });
      const { before, after } = JSON.parse(await program.line());
      assertEquals({ ...after, descriptors: 0 }, { ...before, descriptors: 0 });
      // Deno opens a pair of sockets of its own at some time.
      assertLessOrEqual(after.descriptors, before.descriptors + 2);
      assertEquals(await program.exited, 0);
    });
  }
});

describe("a doorbell's name", () => {
  it("tells nothing that a ringer must know, nor the next agent's name", () => {
    const { arena, token, doorbell } = current();
    assert(doorbell.kind !== 0);
    const words = (first: number, count: number): string[] =>
      [...arena.i32.subarray(first, first + count)].map((word) => (word >>> 0).toString(16).padStart(8, "0"));
    const at = agentAt(token);
    const sockets = readFileSync("/proc/net/unix", "latin1");
    const [half] = words(at + A_BELL_NAME, 1);
    assertEquals(sockets.includes(`@geventmp-${half}`), abstractNamesSupported());
    const secrets = [...words(H_NONCE, 4), ...words(at + A_BELL_KEY, 2)];
    const zero = "00000000";
    assert(!secrets.includes(zero), "a secret was not made");
    const names = [...sockets.matchAll(/@geventmp-(\S+)/g)].map(([, name]) => name);
    for (const secret of secrets) assert(!names.some((name) => name.includes(secret)), secret);
  });
});

describe("the last member's end by an error that nobody catches", () => {
  const run = (how: string): Program =>
    new Program(command(thisRuntime, "uncaught_program.ts", [how]), { env: { GEVENTMP_SESSION: undefined } });
  for (const how of ["at the top level", "in a timer", "in a microtask", "in a promise"]) {
    timed(`${how}, leaves nothing`, 20_000, async () => {
      await using program = run(how);
      const paths: string[] = JSON.parse(await program.line());
      assertEquals(paths.length, abstractNamesSupported() ? 1 : 2);
      assertEquals(await program.exited, 1);
      assert(program.errors.includes("not caught"), program.errors);
      assertEquals(paths.map(existsSync), paths.map(() => false));
      if (paths.length > 1) assert(!existsSync(dirname(paths[1])), "the folder stays");
    });
  }

  // Bun knows no preventDefault there.
  const ways = thisRuntime === "bun" ? [] : ["prevented"];
  for (const how of [...ways, "prevented by Node's handlers"]) {
    timed(`takes nothing away when it is ${how}`, 20_000, async () => {
      await using program = run(how);
      const paths: string[] = JSON.parse(await program.line());
      assertEquals(await program.line(), "true");
      assertEquals(await program.exited, 0);
      assertEquals(paths.map(existsSync), paths.map(() => false));
    });
  }
});

describe("the table of agents", () => {
  timed("when it is full, a child is refused and nothing stays open", 20_000, async () => {
    const before = use();
    const me = current();
    const fd = reopen(me.arena.fd);
    for (let agents = before.agents; agents < MAX_AGENTS; agents++) me.agents.take(fd, me.token);
    const open = descriptors();
    assertThrows(() => me.reserve(), RangeError, "all 1024 places are taken");
    assertEquals(descriptors(), open);
    // Their locks go with the description that they were taken through.
    closeFd(fd);
    await backTo(before);
  });

  timed(
    "a parent that was stopped does not bring back the place of a child that is gone",
    20_000,
    async () => {
      const before = use();
      const { agents, arena, token } = current();
      const pid = (place: number): number => arena.i32[agentAt(place) + A_PID];
      const fd = reopen(arena.fd);
      const place = agents.take(fd, token);
      agents.handOver(place, 77);
      assertEquals(pid(place), 77);
      agents.handOver(place, 78);
      assertEquals(pid(place), 77, "it was handed over before");
      closeFd(fd);
      agents.reapAll();
      agents.handOver(place, 77);
      assertEquals(pid(place), 0);
      await backTo(before);
    },
  );
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
