import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  closeFd,
  createShared,
  extend,
  fallbacksForced,
  isByteLocked,
  isZombie,
  killProcess,
  lockByte,
  mapShared,
  parkWord,
  processId,
  processStartTime,
  removeShared,
  reopen,
  sharedPath,
  signals,
  sleepSync,
  SystemError,
  unlockByte,
  unmapShared,
  unparkWord,
  writeFd,
} from "../../platform/mod.ts";
import { readText, reap, startScript } from "./child.ts";

const HOLDER = new URL("./fixtures/holder.ts", import.meta.url);

function withShared(test: (fd: number, path: string | undefined) => void): void {
  const fd = createShared("life");
  const path = sharedPath(fd) ?? undefined;
  try {
    extend(fd, 0, 4096);
    test(fd, path);
  } finally {
    closeFd(fd);
    if (path !== undefined) removeShared(path);
  }
}

function holderOf(fd: number, byte: number, path: string | undefined): ReturnType<typeof startScript> {
  return startScript(HOLDER, [`${processId()}`, `${fd}`, `${byte}`, ...(path === undefined ? [] : [path])]);
}

describe("platform: life locks", () => {
  it("belong to an open file description", () => {
    withShared((fd, path) => {
      const one = reopen(fd, path);
      const two = reopen(fd, path);
      assertEquals(isByteLocked(two, 5), false);
      assertEquals(lockByte(one, 5), true);
      assertEquals(lockByte(one, 5), true);
      assertEquals(isByteLocked(one, 5), false);
      assertEquals(isByteLocked(two, 5), true);
      assertEquals(isByteLocked(fd, 5), true);
      assertEquals([isByteLocked(two, 4), isByteLocked(two, 6)], [false, false]);
      assertEquals(lockByte(two, 5), false);
      assertEquals(lockByte(two, 6), true);
      unlockByte(one, 5);
      assertEquals(isByteLocked(two, 5), false);
      assertEquals(lockByte(two, 5), true);
      closeFd(two);
      assertEquals(isByteLocked(one, 5), false);
      // Beyond the file's end, and as far as it goes.
      assertEquals(lockByte(one, 0x7ffffffe), true);
      assertEquals(isByteLocked(fd, 0x7ffffffe), true);
      closeFd(one);
    });
  });

  it("say why looking failed", () => {
    assertEquals(assertThrows(() => isByteLocked(-1, 0), SystemError).code, "EBADF");
    assertEquals(assertThrows(() => lockByte(-1, 0), SystemError).code, "EBADF");
    assertEquals(assertThrows(() => unlockByte(-1, 0), SystemError).code, "EBADF");
  });

  it("last while their process is stopped, and not a moment longer than it lives", () => {
    withShared((fd, path) => {
      const mapping = mapShared(fd, 4096);
      const holder = holderOf(fd, 7, path);
      assertEquals(JSON.parse(readText(holder.out, true)), { before: false, locked: true, seen: true });
      assertEquals(Atomics.load(new Int32Array(mapping.buffer), 0), 1);
      assertEquals(isByteLocked(fd, 7), true);
      killProcess(holder.pid, signals.SIGSTOP);
      sleepSync(20);
      assertEquals(isByteLocked(fd, 7), true);
      killProcess(holder.pid, signals.SIGKILL);
      for (let i = 0; i < 5000 && isByteLocked(fd, 7); i++) sleepSync(1);
      assertEquals(isByteLocked(fd, 7), false);
      // Not reaped yet: still a process for whoever goes by numbers.
      assertEquals(processStartTime(holder.pid) !== null, true);
      // Without /proc nothing tells a zombie.
      assertEquals(isZombie(holder.pid), !fallbacksForced());
      assertEquals(reap(holder.pid), -signals.SIGKILL);
      assertEquals(isZombie(holder.pid), false);
      assertEquals(processStartTime(holder.pid), null);
      closeFd(holder.in);
      closeFd(holder.out);
      unmapShared(mapping);
    });
  });
});

describe("platform: parking", () => {
  it("returns when the word differs, and after its time", () => {
    withShared((fd) => {
      const mapping = mapShared(fd, 4096);
      const words = new Int32Array(mapping.buffer);
      words[0] = -3;
      let begin = performance.now();
      parkWord(mapping.address, 5, 10_000);
      assertEquals(performance.now() - begin < 5_000, true);
      begin = performance.now();
      // A negative word is compared bit by bit.
      parkWord(mapping.address, -3, 30);
      const spent = performance.now() - begin;
      assertEquals(spent >= 25 && spent < 5_000, true);
      parkWord(mapping.address, -3, 0);
      unparkWord(mapping.address);
      unmapShared(mapping);
    });
  });

  it("wakes between processes, both ways", () => {
    withShared((fd, path) => {
      const mapping = mapShared(fd, 4096);
      const words = new Int32Array(mapping.buffer);
      const child = holderOf(fd, 1, path);
      readText(child.out, true);
      writeFd(child.in, new TextEncoder().encode("go\n"));
      const begin = performance.now();
      while (Atomics.load(words, 1) === 0 && performance.now() - begin < 20_000) {
        parkWord(mapping.address + 4, 0, 20_000);
      }
      assertEquals(Atomics.load(words, 1), 1);
      sleepSync(30);
      Atomics.store(words, 2, 42);
      unparkWord(mapping.address + 8);
      assertEquals(reap(child.pid), 0);
      assertEquals(Atomics.load(words, 3), 42);
      closeFd(child.in);
      closeFd(child.out);
      unmapShared(mapping);
    });
  });
});

describe("platform: sleepSync", () => {
  it("sleeps fractions of a millisecond, and refuses NaN", () => {
    const begin = performance.now();
    for (let i = 0; i < 10; i++) sleepSync(0.5);
    assertEquals(performance.now() - begin >= 4, true);
    sleepSync(0);
    sleepSync(-1);
    assertThrows(() => sleepSync(NaN), RangeError);
  });
});
