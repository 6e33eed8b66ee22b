import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  closeFd,
  duplicate,
  isCloexec,
  openFile,
  osName,
  pipe,
  readFd,
  readSmallFile,
  setCloexec,
  setNonblocking,
  SystemError,
  waitReadable,
  writeFd,
} from "../../platform/mod.ts";

describe("platform: descriptors", () => {
  it("makes pipes that are closed on exec, blocking or not", () => {
    for (const nonblocking of [false, true]) {
      const [reading, writing] = pipe({ nonblocking });
      assertEquals([isCloexec(reading), isCloexec(writing)], [true, true]);
      assertEquals(writeFd(writing, new Uint8Array([1, 2, 3])), 3);
      const bytes = new Uint8Array(8);
      assertEquals(readFd(reading, bytes.subarray(2)), 3);
      assertEquals([...bytes], [0, 0, 1, 2, 3, 0, 0, 0]);
      if (nonblocking) assertEquals(readFd(reading, bytes), -1);
      closeFd(writing);
      assertEquals(readFd(reading, bytes), 0);
      closeFd(reading);
    }
  });

  it("says -1 when a non-blocking pipe is full", () => {
    const [reading, writing] = pipe({ nonblocking: true });
    const block = new Uint8Array(4096);
    let written = 0;
    for (let count = 0; count >= 0; count = writeFd(writing, block)) written += count;
    assert(written >= 4096);
    closeFd(reading);
    // Both runtimes ignore SIGPIPE, so this is an error and not the end.
    assertEquals(assertThrows(() => writeFd(writing, block), SystemError).code, "EPIPE");
    closeFd(writing);
  });

  it("sets and clears flags", () => {
    const [reading, writing] = pipe();
    setCloexec(reading, false);
    assertEquals(isCloexec(reading), false);
    setCloexec(reading, true);
    assertEquals(isCloexec(reading), true);
    setNonblocking(reading, true);
    assertEquals(readFd(reading, new Uint8Array(1)), -1);
    const copy = duplicate(reading, 40);
    assert(copy >= 40);
    assertEquals(isCloexec(copy), true);
    // The flag belongs to the description, so the copy has it.
    assertEquals(readFd(copy, new Uint8Array(1)), -1);
    for (const fd of [copy, reading, writing]) closeFd(fd);
    assertEquals(isCloexec(copy), null);
  });

  it("waits for something to read", () => {
    const [reading, writing] = pipe();
    assertEquals(waitReadable(reading, 0), false);
    const begin = performance.now();
    assertEquals(waitReadable(reading, 20), false);
    assert(performance.now() - begin >= 15);
    writeFd(writing, new Uint8Array(1));
    assertEquals(waitReadable(reading, 10_000), true);
    readFd(reading, new Uint8Array(1));
    closeFd(writing);
    assertEquals(waitReadable(reading, 10_000), true);
    closeFd(reading);
  });

  it("reports what the system refuses", () => {
    for (
      const call of [
        () => closeFd(-1),
        () => setCloexec(-1, true),
        () => setNonblocking(-1, true),
        () => duplicate(-1),
        () => readFd(-1, new Uint8Array(1)),
        () => writeFd(-1, new Uint8Array(1)),
        () => waitReadable(9999, 0),
      ]
    ) assertEquals(assertThrows(call, SystemError).code, "EBADF");
  });

  it("reads small files, those of /proc too", () => {
    const error = assertThrows(() => readSmallFile("/geventmp/größe"), SystemError);
    assertEquals(error.code, "ENOENT");
    assertStringIncludes(error.message, "/geventmp/größe");
    assertEquals(assertThrows(() => readSmallFile("/"), SystemError).code, "EISDIR");
    assertEquals(readSmallFile("/dev/null").length, 0);
    assertEquals(
      assertThrows(() => openFile("/dev/null", { create: true, write: true }), SystemError).code,
      "EEXIST",
    );
    if (osName !== "linux") return;
    const environment = readSmallFile("/proc/self/environ");
    assertStringIncludes(new TextDecoder().decode(environment), "PATH=");
    // Several reads long.
    assert(readSmallFile("/proc/self/smaps").length > 4096);
  });
});
