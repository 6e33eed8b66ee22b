import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { rmSync } from "node:fs";
import {
  abstractNamesSupported,
  acceptUnix,
  bindUnix,
  closeFd,
  connectStream,
  datagramSocket,
  errnos,
  fallbacksForced,
  isCloexec,
  listenUnix,
  osName,
  privateFolder,
  processId,
  receiveFd,
  sendFd,
  sendTo,
  socketPair,
  streamSocket,
  SystemError,
  unixAddress,
} from "../../platform/mod.ts";

/** Both kinds of names where the system has both. */
function withNames(test: (address: (name: string) => Uint8Array) => void): void {
  const folder = privateFolder();
  try {
    test((name) => unixAddress(`${folder}/${name}`, false));
  } finally {
    // A bound path stays behind until somebody unlinks it.
    rmSync(folder, { recursive: true });
  }
  if (abstractNamesSupported()) test((name) => unixAddress(`geventmp-test-${processId()}-${name}`, true));
}

describe("platform: sockets", () => {
  it("have abstract names on Linux only, unless told otherwise", () => {
    assertEquals(abstractNamesSupported(), osName === "linux" && !fallbacksForced());
  });

  it("lay out an address exactly", () => {
    if (osName === "linux") {
      assertEquals([...unixAddress("/a", false)], [1, 0, 47, 97, 0]);
      assertEquals([...unixAddress("a", true)], [1, 0, 0, 97]);
      assertEquals(unixAddress("x".repeat(107), false).length, 110);
      assertThrows(() => unixAddress("x".repeat(108), false), RangeError, "shorter");
    } else {
      assertEquals([...unixAddress("/a", false)], [5, 1, 47, 97, 0]);
    }
    assertThrows(() => unixAddress("", false), RangeError);
    assertThrows(() => unixAddress("a\0b", false), TypeError);
  });

  it("send datagrams, and say what became of them", () => {
    withNames((address) => {
      const bell = datagramSocket();
      const ringer = datagramSocket();
      const name = address("größe");
      const one = new Uint8Array([7]);
      assert([-errnos.ECONNREFUSED, -errnos.ENOENT].includes(sendTo(ringer, one, name)));
      bindUnix(bell, name);
      assertEquals([isCloexec(bell), isCloexec(ringer)], [true, true]);
      assertEquals(receiveFd(bell, new Uint8Array(4)), -errnos.EAGAIN);
      assertEquals(sendTo(ringer, one, name), 1);
      const got = new Uint8Array(4);
      assertEquals(receiveFd(bell, got), 1);
      assertEquals(got[0], 7);
      // Full at last, without blocking and without throwing.
      let result = 1;
      for (let i = 0; i < 100_000 && result === 1; i++) result = sendTo(ringer, one, name);
      assert([-errnos.EAGAIN, -errnos.ENOBUFS].includes(result));
      assertEquals(assertThrows(() => bindUnix(ringer, name), SystemError).code, "EADDRINUSE");
      closeFd(bell);
      assertEquals(sendTo(ringer, one, name), -errnos.ECONNREFUSED);
      closeFd(ringer);
      assertEquals(sendTo(ringer, one, name), -errnos.EBADF);
    });
  });

  it("connect, and say when nobody listens", () => {
    withNames((address) => {
      const name = address("listener");
      assert([-errnos.ECONNREFUSED, -errnos.ENOENT].includes(connectStream(name)));
      const listener = streamSocket();
      bindUnix(listener, name);
      listenUnix(listener, 1);
      assertEquals(acceptUnix(listener), -1);
      const connection = connectStream(name);
      assert(connection >= 0);
      const accepted = acceptUnix(listener);
      assert(accepted >= 0);
      assertEquals(sendFd(connection, new Uint8Array([1, 2])), 2);
      const got = new Uint8Array(4);
      assertEquals(receiveFd(accepted, got), 2);
      assertEquals([...got], [1, 2, 0, 0]);
      assertEquals(receiveFd(connection, got), -errnos.EAGAIN);
      closeFd(accepted);
      assertEquals(receiveFd(connection, got), 0);
      // No SIGPIPE.
      assertEquals(sendFd(connection, got), -errnos.EPIPE);
      closeFd(connection);
      const waiting: number[] = [];
      let refused = 0;
      for (let i = 0; i < 64 && refused === 0; i++) {
        const fd = connectStream(name);
        if (fd >= 0) waiting.push(fd);
        else refused = fd;
      }
      assert([-errnos.EAGAIN, -errnos.ECONNREFUSED].includes(refused));
      for (const fd of [...waiting, listener]) closeFd(fd);
    });
  });

  it("come in pairs", () => {
    for (const type of ["stream", "datagram"] as const) {
      const [one, two] = socketPair(type);
      assertEquals([isCloexec(one), isCloexec(two)], [true, true]);
      assertEquals(receiveFd(one, new Uint8Array(4)), -errnos.EAGAIN);
      sendFd(two, new Uint8Array([1]));
      sendFd(two, new Uint8Array([2, 3]));
      const got = new Uint8Array(4);
      assertEquals(receiveFd(one, got), type === "stream" ? 3 : 1);
      closeFd(one);
      closeFd(two);
    }
  });
});
