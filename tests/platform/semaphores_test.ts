import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  addToEventFd,
  createEventFd,
  describeEventFd,
  takeFromEventFd,
  tryTakeFromEventFd,
} from "../../platform/linux/eventfd.ts";
import {
  closeFd,
  isCloexec,
  osName,
  processId,
  spawn,
  SystemError,
  waitReadable,
} from "../../platform/mod.ts";
import {
  closeSemaphore,
  openSemaphore,
  postSemaphore,
  semaphoreValue,
  tryWaitSemaphore,
  unlinkSemaphore,
  waitSemaphore,
} from "../../platform/posix/semaphores.ts";
import { reap, runScript } from "./child.ts";

describe("platform: semaphores", () => {
  it("count, wait, and share by name", () => {
    const name = `/geventmp-test-${processId()}`;
    const one = openSemaphore(name, { create: true, exclusive: true, value: 2 });
    try {
      if (osName === "linux") assertEquals(semaphoreValue(one), 2);
      assertEquals(
        assertThrows(() => openSemaphore(name, { create: true, exclusive: true }), SystemError).code,
        "EEXIST",
      );
      const two = openSemaphore(name);
      assertEquals(tryWaitSemaphore(two), true);
      assertEquals(waitSemaphore(one, Infinity), true);
      assertEquals(tryWaitSemaphore(one), false);
      const begin = performance.now();
      assertEquals(waitSemaphore(one, 30), false);
      assert(performance.now() - begin >= 25);
      assertEquals(waitSemaphore(one, 0), false);
      assertEquals(waitSemaphore(one, -5), false);
      postSemaphore(two);
      assertEquals(waitSemaphore(one, 10_000), true);
      closeSemaphore(two);
      const child = runScript(new URL("./fixtures/poster.ts", import.meta.url), [name]);
      assertEquals(child.status, 0);
      assertEquals(waitSemaphore(one, 10_000), true);
    } finally {
      closeSemaphore(one);
      assertEquals(unlinkSemaphore(name), true);
    }
    assertEquals(unlinkSemaphore(name), false);
    const error = assertThrows(() => openSemaphore(name), SystemError);
    assertEquals([error.code, error.syscall], ["ENOENT", "sem_open"]);
    assert(error.message.includes(name));
  });
});

if (osName === "linux") {
  describe("platform: eventfd", () => {
    it("adds up, exactly up to 64 bits", () => {
      const fd = createEventFd();
      assertEquals(isCloexec(fd), true);
      assertEquals(takeFromEventFd(fd), null);
      assertEquals(waitReadable(fd, 0), false);
      assertEquals(addToEventFd(fd), true);
      assertEquals(addToEventFd(fd, 9007199254740993n), true);
      assertEquals(waitReadable(fd, 0), true);
      assertEquals(takeFromEventFd(fd), 9007199254740994n);
      assertEquals(addToEventFd(fd, 2n ** 64n - 2n), true);
      assertEquals(addToEventFd(fd, 1), false);
      closeFd(fd);
    });

    it("is taken from without blocking, though it be a blocking one", () => {
      const fd = createEventFd({ value: 2, semaphore: true, nonblocking: false });
      assertEquals([1, 2, 3].map(() => tryTakeFromEventFd(fd)), [1n, 1n, null]);
      const begin = performance.now();
      assertEquals(waitReadable(fd, 20.5), false);
      assert(performance.now() - begin >= 20.5);
      assertEquals(describeEventFd(fd)?.eventFd, true);
      assertEquals(describeEventFd(fd)?.semaphore ?? true, true);
      closeFd(fd);
      for (const call of [tryTakeFromEventFd, describeEventFd]) {
        assertEquals(assertThrows(() => call(fd), SystemError).code, "EBADF");
      }
      const all = createEventFd({ value: 3 });
      assertEquals(describeEventFd(all)?.semaphore ?? false, false);
      assertEquals(tryTakeFromEventFd(all), 3n);
      closeFd(all);
    });

    it("is a semaphore on request, and a child of any language can post it", () => {
      const fd = createEventFd({ value: 2, semaphore: true });
      assertEquals([takeFromEventFd(fd), takeFromEventFd(fd), takeFromEventFd(fd)], [1n, 1n, null]);
      const argv = ["sh", "-c", "printf '\\003\\000\\000\\000\\000\\000\\000\\000' >&7"];
      assertEquals(reap(spawn({ file: "/bin/sh", argv, env: {}, fds: [[7, fd]] })), 0);
      assertEquals([1, 2, 3, 4].map(() => takeFromEventFd(fd)), [1n, 1n, 1n, null]);
      closeFd(fd);
    });
  });
}
