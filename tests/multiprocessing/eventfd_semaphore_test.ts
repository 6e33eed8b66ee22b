/** Eventfd semaphores: errors, waits of one agent, and children in other languages. */
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import {
  BlockingError,
  EventFdSemaphore,
  Process,
  Queue,
  session,
  TimeoutError,
  UnsupportedPlatformError,
} from "../../multiprocessing/mod.ts";
import { createEventFd } from "../../platform/linux/eventfd.ts";
import {
  closeFd,
  fallbacksForced,
  isCloexec,
  killProcess,
  osName,
  pipe,
  signals,
  spawn,
  SystemError,
  waitProcess,
} from "../../platform/mod.ts";
import { echo } from "../fixtures/tasks.ts";
import { each, removePeers } from "./foreign_peers.ts";
import { descriptors, STALL_MS, state, within } from "./support.ts";

const LIMIT = { timeout: STALL_MS };

if (osName !== "linux" || fallbacksForced()) {
  describe("EventFdSemaphore", () => {
    it("says what to use instead where there is no eventfd", () => {
      for (const options of [{}, { value: 1 }, { fd: 0 }]) {
        const error = assertThrows(() => new EventFdSemaphore(options), UnsupportedPlatformError);
        assert(error.message.includes("use a NamedSemaphore"), error.message);
      }
    });
    afterAll(removePeers);
  });
} else {
  describe("EventFdSemaphore", () => {
    it("counts, exactly", async () => {
      using semaphore = new EventFdSemaphore({ value: 2 });
      assertEquals(isCloexec(semaphore.fd), true);
      assertEquals([1, 2, 3].map(() => semaphore.tryAcquire()), [true, true, false]);
      semaphore.release(2);
      await semaphore.acquire();
      semaphore.acquireSync({ allowBlocking: true });
      assertEquals(semaphore.tryAcquire(), false);
      assertEquals(String(semaphore), `EventFdSemaphore(fd ${semaphore.fd})`);
      // 2^64 - 2 is the most.
      for (let i = 0; i < 2 ** 11 - 1; i++) semaphore.release(Number.MAX_SAFE_INTEGER);
      assertThrows(
        () => {
          for (let i = 0; i < 3; i++) semaphore.release(Number.MAX_SAFE_INTEGER);
        },
        RangeError,
        "2^64 - 2",
      );
      assertEquals(semaphore.tryAcquire(), true);
    });

    it("adopts what another made, and never blocks on it", async () => {
      const fd = createEventFd({ value: 1, semaphore: true, nonblocking: false });
      using semaphore = new EventFdSemaphore({ fd });
      assertEquals(semaphore.fd, fd);
      assertEquals([semaphore.tryAcquire(), semaphore.tryAcquire()], [true, false]);
      await assertRejects(() => semaphore.acquire({ timeout: 10 }), TimeoutError);
      const wait = semaphore.acquire(LIMIT);
      semaphore.release();
      await wait;
    });

    it("refuses what is no semaphore, and says why", async () => {
      const [reading, writing] = pipe();
      const all = createEventFd({ value: 3 });
      assertThrows(() => new EventFdSemaphore({ fd: reading }), TypeError, "no eventfd");
      assertThrows(() => new EventFdSemaphore({ fd: all }), TypeError, "EFD_SEMAPHORE");
      for (const fd of [reading, writing, all]) closeFd(fd);
      assertEquals(assertThrows(() => new EventFdSemaphore({ fd: all }), SystemError).code, "EBADF");
      for (const fd of [-1, 0.5, NaN]) {
        assertThrows(() => new EventFdSemaphore({ fd }), TypeError, "whole number");
      }
      assertThrows(() => new EventFdSemaphore({ fd: 1, value: 1 } as never), TypeError, "has one already");
      for (const value of [-1, 0.5, NaN, 2 ** 32]) {
        assertThrows(() => new EventFdSemaphore({ value }), RangeError, "whole number");
      }
      using semaphore = new EventFdSemaphore();
      for (const n of [0, -1, 0.5, NaN, 2 ** 53]) assertThrows(() => semaphore.release(n), RangeError);
      assertThrows(() => semaphore.acquireSync(), BlockingError);
      await assertRejects(() => semaphore.acquire({ timeout: NaN }), TypeError);
    });

    it("cannot be sent, and says what to use instead", async () => {
      using semaphore = new EventFdSemaphore();
      using queue = new Queue<unknown>();
      await assertRejects(() => queue.put([semaphore]), TypeError, "NamedSemaphore");
      const process = new Process({ target: echo, args: [semaphore as never, queue] });
      await assertRejects(() => process.start(), TypeError, "NamedSemaphore");
    });

    it("waits are served in order; time-outs and aborts leave every permit to others", async () => {
      using semaphore = new EventFdSemaphore();
      const begin = performance.now();
      assertThrows(() => semaphore.acquireSync({ timeout: 120, allowBlocking: true }), TimeoutError);
      assert(performance.now() - begin > 100);
      await assertRejects(() => semaphore.acquire({ timeout: 5 }), TimeoutError, "5 ms");
      const order: number[] = [];
      const controller = new AbortController();
      const waits = Array.from(
        { length: 20 },
        (_, i) => semaphore.acquire(i % 2 ? { signal: controller.signal } : LIMIT).then(() => order.push(i)),
      );
      const over = Promise.allSettled(waits);
      controller.abort("enough");
      semaphore.release(10);
      assertEquals(
        (await over).map(({ status }) => status),
        waits.map((_, i) => i % 2 ? "rejected" : "fulfilled"),
      );
      assertEquals(order, order.toSorted((a, b) => a - b));
      assertEquals(semaphore.tryAcquire(), false);
    });

    it("closing ends its waits, and nothing works afterwards", async () => {
      const before = descriptors();
      const semaphore = new EventFdSemaphore();
      const wait = semaphore.acquire();
      semaphore.close();
      semaphore.close();
      assertInstanceOf(await wait.catch((error) => error), TypeError);
      for (
        const use of [
          () => semaphore.fd,
          () => semaphore.tryAcquire(),
          () => semaphore.release(),
          () => semaphore.acquireSync({ allowBlocking: true }),
        ]
      ) assertThrows(use, TypeError, "closed");
      await assertRejects(() => semaphore.acquire(), TypeError, "closed");
      assertEquals(descriptors(), before);
    });

    it("a descriptor closed behind its back ends its waits", async () => {
      using semaphore = new EventFdSemaphore({ fd: createEventFd({ semaphore: true }) });
      using other = new EventFdSemaphore();
      const [wait, others] = [semaphore.acquire(LIMIT), other.acquire(LIMIT)];
      closeFd(semaphore.fd);
      const error = await wait.catch((error) => error);
      // For close(), which must not meet another descriptor of this number.
      const again = createEventFd();
      assertEquals([error.code, again], ["EBADF", semaphore.fd]);
      other.release();
      await others;
    });

    it("the session's end ends waits and leaves nothing in the loop", {
      sanitizeOps: true,
      sanitizeResources: true,
    }, async () => {
      using semaphore = new EventFdSemaphore();
      await using _session = session();
      const over = Promise.allSettled([semaphore.acquire(), semaphore.acquire({ timeout: 60_000 })]);
      await session()[Symbol.asyncDispose]();
      for (const result of await over) {
        assertEquals(result.status === "rejected" && result.reason.code, "ERR_SESSION");
      }
    });
  });

  describe("EventFdSemaphore with a child", () => {
    /** Starts a child that takes `count` permits from one and adds them to the other. */
    const relay = (
      [file, ...args]: readonly string[],
      from: EventFdSemaphore,
      to: EventFdSemaphore,
      count: number,
    ): number =>
      spawn({
        file,
        argv: [file, ...args, "relay", "7", "8", String(count)],
        env: {},
        fds: [[7, from.fd], [8, to.fd]],
      });
    const ended = async (pid: number): Promise<number> => {
      let status: number | "gone" | null = null;
      await within(STALL_MS, "the child's end", () => (status = waitProcess(pid)) !== null);
      return status as unknown as number;
    };

    each("hands permits over both ways, 1,000 waits and file reads side by side", async (program) => {
      using from = new EventFdSemaphore();
      using to = new EventFdSemaphore();
      const order: number[] = [];
      const waits = Array.from({ length: 1000 }, (_, i) => to.acquire(LIMIT).then(() => order.push(i)));
      const pid = relay(program, from, to, 1010);
      const own = fileURLToPath(import.meta.url);
      const texts = await Promise.all(Array.from({ length: 64 }, () => readFile(own, "utf8")));
      assertEquals([texts.length, order], [64, []]);
      from.release(1000);
      await Promise.all(waits);
      assertEquals(order, [...order.keys()]);
      for (let i = 0; i < 10; i++) {
        from.release();
        await to.acquire(LIMIT);
      }
      assertEquals(await ended(pid), 0);
      assertEquals([from.tryAcquire(), to.tryAcquire()], [false, false]);
    });

    each("a killed child leaves the permits that it had not taken", async (program) => {
      using from = new EventFdSemaphore();
      using to = new EventFdSemaphore();
      const pid = relay(program, from, to, 10);
      from.release();
      await to.acquire(LIMIT);
      killProcess(pid, signals.SIGSTOP);
      await within(STALL_MS, "the stop", () => state(pid) === "T");
      from.release(3);
      killProcess(pid, signals.SIGKILL);
      assertEquals(await ended(pid), -signals.SIGKILL);
      assertEquals([1, 2, 3, 4].map(() => from.tryAcquire()), [true, true, true, false]);
    });

    afterAll(removePeers);
  });
}

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
