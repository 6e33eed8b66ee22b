/**
 * All synchronization objects at once, by processes with Workers, while processes are killed at random. `GEVENTMP_STRESS` says how many: 12
 * unless it is set; with it there are 8 processes of 4 Workers each.
 */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Barrier, Condition, Event, Lock, Process, RLock, Semaphore } from "../../multiprocessing/mod.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { actWithWorkers, type Objects, PERMITS } from "../fixtures/stress_tasks.ts";
import { backTo, leaveLast, pause, STALL_MS, timed, use, within } from "./support.ts";

const KILLS = Number(process.env.GEVENTMP_STRESS ?? 12);
const [PROCESSES, WORKERS] = process.env.GEVENTMP_STRESS === undefined ? [3, 1] : [8, 4];

describe("all objects", () => {
  timed(`hold while ${KILLS} processes are killed`, 60_000 + KILLS * 2000, async () => {
    const before = use();
    const folder = mkdtempSync(join(tmpdir(), "stress-"));
    mkdirSync(join(folder, "permits"));
    for (const name of ["lock", "rlock", "condition"]) writeFileSync(join(folder, name), "");
    const stop = new Event();
    const counter = new Semaphore(0);
    const objects: Objects = [
      new Lock(),
      new RLock(),
      new Condition(),
      new Semaphore(PERMITS, { robust: true }),
      new Event(),
      new Barrier(2),
      stop,
      counter,
    ];
    const start = (): Promise<Process<[number, string, ...Objects]>> =>
      new Process({ target: actWithWorkers, args: [WORKERS, folder, ...objects] }).start();
    const living = await Promise.all(Array.from({ length: PROCESSES }, start));
    try {
      for (let kill = 0; kill < KILLS; kill++) {
        await pause(Math.random() * 100);
        const i = Math.floor(Math.random() * living.length);
        assertEquals(living[i].exitCode, null, "a process ended by itself: its error stands on stderr");
        living[i].kill();
        assertEquals(await living[i].join({ timeout: STALL_MS }), -9);
        living[i] = await start();
        // All go on: nobody waits for the dead.
        const done = counter.getValue();
        await within(STALL_MS, "progress", () => counter.getValue() > done + 20);
      }
      stop.set();
      for (const each of living) assertEquals(await each.join({ timeout: 2 * STALL_MS }), 0);
    } finally {
      for (const each of living) if (each.exitCode === null) each.kill();
    }
    assertGreater(counter.getValue(), KILLS * 20);
    const [lock, rlock, condition, robust, event, barrier] = objects;
    current().agents.reapAll();
    for (const each of [lock, rlock, condition]) (await each.acquire({ timeout: STALL_MS })).release();
    assertEquals(String(condition), "Condition(RLock(None, 0), waiters=0)");
    await within(STALL_MS, "all permits", () => robust.getValue() === PERMITS);
    event.set();
    await event.wait({ timeout: STALL_MS });
    barrier.reset();
    assertEquals((await Promise.all([barrier.wait(), barrier.wait()])).sort(), [0, 1]);
    assert(!barrier.broken);
    for (const each of objects) each[Symbol.dispose]();
    rmSync(folder, { recursive: true });
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await leaveLast();
  });
});
