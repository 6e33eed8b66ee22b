/**
 * Children are killed while they send to or receive from this process: at each step of a transfer, and at random. What they acknowledged stands
 * in files, outside of shared memory. `GEVENTMP_STRESS` says how many are killed at random: 24 unless it is set.
 */
import { assert, assertEquals, assertLess, assertRejects } from "@std/assert";
import { afterAll, describe } from "@std/testing/bdd";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import {
  EOFError,
  Lock,
  Pipe,
  Process,
  session,
  SystemError,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import type { CrashPoint } from "../../multiprocessing/core/crash.ts";
import { checkItem, type Item, item, recvItems, sendItems } from "../fixtures/pipe_tasks.ts";
import { killProcess, signals } from "../../platform/mod.ts";
import { backTo, pause, STALL_MS, state, timed, use, within } from "./support.ts";

const KILLS = Number(process.env.GEVENTMP_STRESS ?? 24);
/** What may be slow on a busy machine still is no wait for a process that is stopped for good. */
const AT_ONCE_MS = 1500;
const w = { timeout: STALL_MS };
const folder = mkdtempSync(join(tmpdir(), "pipe-journals-"));

const SENDING: CrashPoint[] = [
  "transfer.made",
  "transfer.announced",
  "transfer.filled",
  "queue.written",
  "queue.published",
  "wait.woken",
];
const RECEIVING: CrashPoint[] = [
  "transfer.begun",
  "transfer.taken",
  "transfer.done",
  "queue.claimed",
  "queue.read",
  "queue.done",
];

let journals = 0;
function journal(): string {
  const path = join(folder, String(journals++));
  writeFileSync(path, "");
  return path;
}

/** What a journal tells; what follows its last line feed was not told to its end. */
function lines(path: string): string[] {
  return readFileSync(path, "utf8").split("\n").slice(0, -1);
}

describe("a sender killed at", () => {
  for (const point of SENDING) {
    for (const nth of [1, 4]) {
      timed(`${point}, time ${nth}: its messages come whole, each once, then the end`, 40_000, async () => {
        const before = use();
        const told = journal();
        const stop = new Lock();
        const [reader, writer] = Pipe<Item>({ duplex: false });
        const child = await new Process({ target: sendItems, args: [3, told, writer, stop, point, nth] })
          .start();
        writer.close();
        const got: string[] = [];
        await assertRejects(async () => {
          for (;;) got.push(checkItem(await reader.recv(w)));
        }, EOFError);
        assertEquals(await child.join(w), -9);
        assertEquals(got, got.map((_, n) => `3 ${n}`));
        const extra = got.length - lines(told).length;
        assert(extra === 0 || extra === 1, `${got.length} received, ${lines(told).length} acknowledged`);
        reader.close();
        stop[Symbol.dispose]();
        await backTo(before);
      });
    }
  }
});

describe("a receiver killed at", () => {
  for (const point of RECEIVING) {
    for (const nth of [1, 3]) {
      timed(`${point}, time ${nth}: what it had not received comes to another`, 40_000, async () => {
        const before = use();
        const told = journal();
        const [reader, writer] = Pipe<Item>({ duplex: false });
        const child = await new Process({ target: recvItems, args: [told, reader, point, nth] }).start();
        const sending = (async () => {
          for (let n = 0; n < 24; n++) await writer.send(item(0, n), w);
        })();
        assertEquals(await child.join(w), -9);
        const got: string[] = [];
        const receiving = (async () => {
          for await (const each of reader) got.push(checkItem(each));
        })();
        await sending;
        writer.close();
        await receiving;
        const all = [...lines(told), ...got];
        assertEquals(new Set(all).size, all.length, "received twice");
        const missing = Array.from({ length: 24 }, (_, n) => `0 ${n}`).filter((key) => !all.includes(key));
        assert(missing.length <= 1, `lost: ${missing}`);
        // Received to its end, and lost with its receiver only if that knew.
        if (!["transfer.done", "queue.done"].includes(point)) assertEquals(missing, []);
        reader.close();
        await backTo(before);
      });
    }
  }

  timed("any time, with nobody else to receive: the sender learns it", 40_000, async () => {
    const before = use();
    const [reader, writer] = Pipe<Item>({ duplex: false });
    const child = await new Process({ target: recvItems, args: [journal(), reader, "transfer.taken", 2] })
      .start();
    reader.close();
    const error = await assertRejects(async () => {
      for (let n = 0;; n++) await writer.send(item(0, n), w);
    }, SystemError);
    assertEquals((error as SystemError).code, "EPIPE");
    assertEquals(await child.join(w), -9);
    writer.close();
    await backTo(before);
  });
});

describe("stopped", () => {
  timed(
    "in the middle of sending: waits of the receiver end in time, and the message comes later",
    40_000,
    async () => {
      const before = use();
      const stop = new Lock();
      const [reader, writer] = Pipe<Item>({ duplex: false });
      const child = await new Process({
        target: sendItems,
        args: [3, journal(), writer, stop, "transfer.filled", 2, "stop"],
      }).start();
      writer.close();
      // Of the first, which is large, all slots but the second's count.
      const started = performance.now();
      await assertRejects(() => reader.recv({ timeout: 300 }), TimeoutError);
      assertLess(performance.now() - started, AT_ONCE_MS);
      await within(STALL_MS, "the stop", () => state(child.pid!) === "T");
      assertEquals(reader.tryRecv(), null);
      const aborter = new AbortController();
      const aborted = reader.recv({ signal: aborter.signal });
      aborter.abort(new Error("enough"));
      await assertRejects(() => aborted, Error, "enough");
      const guard = await stop.acquire();
      killProcess(child.pid!, signals.SIGCONT);
      assertEquals(checkItem(await reader.recv(w)), "3 0");
      assertEquals(await child.join(w), 0);
      await assertRejects(() => reader.recv(w), EOFError);
      guard.release();
      reader.close();
      stop[Symbol.dispose]();
      await backTo(before);
    },
  );

  timed(
    "in the middle of receiving: waits of the sender end in time, and what follows arrives",
    40_000,
    async () => {
      const before = use();
      const told = journal();
      const [reader, writer] = Pipe<Item>({ duplex: false });
      const child = await new Process({
        target: recvItems,
        args: [told, reader, "transfer.taken", 2, "stop"],
      }).start();
      reader.close();
      await assertRejects(() => writer.send(item(0, 3), { timeout: 2000 }), TimeoutError, "2000 ms");
      assertEquals(state(child.pid!), "T");
      // Small ones find room, and a time-out holds when there is none.
      await writer.send(item(0, 4), w);
      const started = performance.now();
      await assertRejects(() => writer.send(item(0, 7), { timeout: 100 }), TimeoutError);
      assertLess(performance.now() - started, AT_ONCE_MS);
      killProcess(child.pid!, signals.SIGCONT);
      writer.close();
      assertEquals(await child.join(w), 0);
      assertEquals(lines(told), ["0 4"]);
      await backTo(before);
    },
  );
});

describe("killed at random", () => {
  timed(`${KILLS} senders and receivers of one pipe`, 60_000 + KILLS * 2000, async () => {
    const before = use();
    const stop = new Lock();
    const [reader, writer] = Pipe<Item>({ duplex: false });
    interface Worker {
      readonly sends: boolean;
      readonly told: string;
      readonly process: Process<never[]>;
      killed: boolean;
    }
    const workers: Worker[] = [];
    const start = async (sends: boolean): Promise<Worker> => {
      const told = journal();
      const made = sends
        ? new Process({ target: sendItems, args: [workers.length, told, writer, stop] })
        : new Process({ target: recvItems, args: [told, reader] });
      const worker = { sends, told, process: made as unknown as Process<never[]>, killed: false };
      workers.push(worker);
      await made.start();
      return worker;
    };
    let living = [await start(true), await start(true), await start(false), await start(false)];
    const progress = (): number => workers.reduce((sum, { told }) => sum + lines(told).length, 0);
    for (let kill = 0; kill < KILLS; kill++) {
      // On a busy machine nothing may have happened yet.
      const seen = progress();
      await within(STALL_MS, "any message", () => progress() > seen + 2);
      await pause(Math.random() * 100);
      const victim = living[Math.floor(Math.random() * living.length)];
      assertEquals(victim.process.exitCode, null, "it ended by itself");
      victim.process.kill();
      victim.killed = true;
      assertEquals(await victim.process.join(w), -9);
      living = living.filter((worker) => worker !== victim);
      living.push(await start(victim.sends));
    }
    const guard = await stop.acquire();
    for (const { process } of living.filter(({ sends }) => sends)) assertEquals(await process.join(w), 0);
    writer.close();
    // Now nobody has the sending end.
    for (const { process } of living) assertEquals(await process.join(w), 0);
    await assertRejects(async () => assertEquals(await reader.recv(w), undefined as never), EOFError);

    const received = workers.filter(({ sends }) => !sends).flatMap(({ told }) => lines(told));
    const left = new Set(received);
    assertEquals(left.size, received.length, "received twice");
    let missing = 0;
    let acknowledged = 0;
    for (const [who, { sends, told, killed }] of workers.entries()) {
      if (!sends) continue;
      const sent = lines(told);
      acknowledged += sent.length;
      missing += sent.filter((key) => !left.delete(key)).length;
      // One send may have been cut off before it told.
      if (killed) left.delete(`${who} ${sent.length}`);
    }
    assertEquals([...left], [], "received, and never sent");
    const receivers = workers.filter(({ sends, killed }) => !sends && killed).length;
    assert(missing <= receivers, `${missing} of ${acknowledged} lost, ${receivers} receivers killed`);
    assert(acknowledged > KILLS, `only ${acknowledged} messages were sent`);
    guard.release();
    reader.close();
    stop[Symbol.dispose]();
    await backTo(before);
  });
});

afterAll(async () => {
  rmSync(folder, { recursive: true });
  await session()[Symbol.asyncDispose]();
});
