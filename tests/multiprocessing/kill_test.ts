/**
 * Processes killed from outside at any time, and all processes of a session at once. `GEVENTMP_STRESS` says how many are killed: 120 unless
 * it is set.
 */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { Lock, Process, Queue, session } from "../../multiprocessing/mod.ts";
import { fallbacksForced } from "../../platform/mod.ts";
import { consume, hold, type Item, produce } from "../fixtures/kill_tasks.ts";
import { checksum } from "../fixtures/crash_tasks.ts";
import {
  backTo,
  command,
  otherRuntime,
  pause,
  Program,
  STALL_MS,
  state,
  thisRuntime,
  timed,
  use,
  within,
} from "./support.ts";

const KILLS = Number(process.env.GEVENTMP_STRESS ?? 120);
const ROLES = ["produce", "consume", "hold"] as const;
type Role = typeof ROLES[number];

interface Worker {
  readonly role: Role;
  readonly who: number;
  readonly process: Process<never[]>;
  readonly journal: string;
  killed: boolean;
}

function lines(journal: string): string[] {
  try {
    // What follows the last line feed was not told to its end.
    return readFileSync(journal, "utf8").split("\n").slice(0, -1);
  } catch {
    return [];
  }
}

describe("killed at random", () => {
  timed(`${KILLS} producers, consumers and lock holders`, 60_000 + KILLS * 1000, async () => {
    const before = use();
    const folder = mkdtempSync(join(tmpdir(), "killed-at-random-"));
    const critical = join(folder, "critical");
    writeFileSync(critical, "");
    const queue = new Queue<Item>({ maxSize: 40 });
    const [lock, stop] = [new Lock(), new Lock()];
    const workers: Worker[] = [];
    const start = async (role: Role): Promise<Worker> => {
      const who = workers.length;
      const journal = join(folder, `${role}-${who}`);
      const made = role === "hold"
        ? new Process({ target: hold, args: [who, critical, lock, stop] })
        : new Process({ target: role === "produce" ? produce : consume, args: [who, journal, queue, stop] });
      const worker = { role, who, journal, process: made as unknown as Process<never[]>, killed: false };
      workers.push(worker);
      await made.start();
      return worker;
    };
    // A seed that stands in the failure's message would be of no use: what races is not in our hands.
    let living = await Promise.all([...ROLES, ...ROLES].map(start));
    for (let kill = 0; kill < KILLS; kill++) {
      await pause(Math.random() * 60);
      const victim = living[Math.floor(Math.random() * living.length)];
      assertEquals(victim.process.exitCode, null, `${victim.role} ended by itself`);
      victim.process.kill();
      victim.killed = true;
      assertEquals(await victim.process.join({ timeout: STALL_MS }), -9);
      living = living.filter((worker) => worker !== victim);
      living.push(await start(victim.role));
    }
    const guard = await stop.acquire();
    for (const worker of living.filter(({ role }) => role !== "consume")) {
      assertEquals(await worker.process.join({ timeout: STALL_MS }), 0, worker.role);
    }
    for (const worker of living) {
      assertEquals(await worker.process.join({ timeout: STALL_MS }), 0, worker.role);
    }

    const delivered = new Map<string, number>();
    const note = (key: string): void => void delivered.set(key, (delivered.get(key) ?? 0) + 1);
    for (const { journal } of workers.filter(({ role }) => role === "consume")) lines(journal).forEach(note);
    for (let got = queue.tryGet(); got !== null; got = queue.tryGet()) {
      const [who, n, sum, filler] = got.value;
      assertEquals(checksum(filler), sum, "a torn message");
      note(`${who} ${n}`);
    }
    const twice = [...delivered].filter(([, times]) => times > 1).map(([key]) => key);
    assertEquals(twice, [], "delivered twice");
    const killed = (role: Role): number =>
      workers.filter((worker) => worker.role === role && worker.killed).length;
    let missing = 0;
    let told = 0;
    for (const { who, journal, killed } of workers.filter(({ role }) => role === "produce")) {
      const acknowledged = lines(journal);
      told += acknowledged.length;
      missing += acknowledged.filter((n) => !delivered.delete(`${who} ${n}`)).length;
      // One put may have been cut off before it told.
      if (killed) delivered.delete(`${who} ${acknowledged.length}`);
    }
    assertEquals([...delivered.keys()], [], "delivered, and never put");
    assert(
      missing <= killed("consume"),
      `${missing} of ${told} items lost, ${killed("consume")} consumers killed`,
    );
    assert(told > KILLS * 5, `only ${told} items were put`);
    assert(queue.tryPut([0, 0, 0, new Uint8Array(0)]), "the queue counts items that are gone");
    {
      using again = await lock.acquire({ timeout: STALL_MS });
      assert(readFileSync(critical, "utf8") === "" || again.abandoned);
    }
    guard.release();
    for (const handle of [queue, lock, stop]) handle[Symbol.dispose]();
    rmSync(folder, { recursive: true });
    await backTo(before);
  });
});

describe("killed all at once", () => {
  timed("a session leaves nothing", 60_000, async () => {
    const traces = (): string[] =>
      [
        // All but CPython's, of a benchmark that runs beside.
        ...readdirSync("/dev/shm").filter((name) => !name.startsWith("sem.mp-")),
        ...readdirSync(tmpdir()).filter((name) => name.startsWith("geventmp")),
      ].sort();
    const before = traces();
    // A session of its own, not one of this process's.
    await using root = new Program(command(thisRuntime, "kill_root.ts"), {
      env: { GEVENTMP_SESSION: undefined },
    });
    const { pids, record } = JSON.parse(await root.line()) as { pids: number[]; record: string };
    const [, nonce, , , , path] = record.split(":");
    assertEquals(pids.length, 5);
    // Stopped first, so that none sees another's end before its own.
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    for (const pid of pids) process.kill(pid, "SIGKILL");
    assertEquals(await root.exited, "SIGKILL");
    await within(STALL_MS, "the end of all", () => pids.every((pid) => [null, "Z"].includes(state(pid))));
    await within(STALL_MS, "no socket left", () => !readFileSync("/proc/net/unix", "latin1").includes(nonce));
    if (fallbacksForced()) {
      // Memory that has a name, for want of a memfd: its folder is all that a kill of the last member leaves, until a session is made there.
      assertEquals(statSync(dirname(path)).mode & 0o777, 0o700);
      await using next = new Program(command(otherRuntime, "sweep_program.ts", ["1"]), {
        env: { GEVENTMP_SESSION: undefined },
      });
      assertEquals(await next.exited, 0, next.errors);
    } else assertEquals(path, undefined);
    // Sessions of other programs may come and go meanwhile.
    await within(STALL_MS, "nothing left", () => traces().every((name) => before.includes(name)));
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
