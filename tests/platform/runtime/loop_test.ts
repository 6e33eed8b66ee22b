/** Doorbells: who rings, who must not, and how much a stranger can take. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { rmSync } from "node:fs";
import { dirname, join } from "node:path";
import {
  abstractNamesSupported,
  closeFd,
  connectUnix,
  datagramSocket,
  errnos,
  privateFolder,
  processId,
  sendFd,
  sendTo,
  streamSocket,
  unixAddress,
} from "../../../platform/mod.ts";
import {
  BELL_DATAGRAM,
  BELL_STREAM,
  type BellAddress,
  type Doorbell,
  KEY_BYTES,
  openDoorbell,
  Ringers,
} from "../../../platform/runtime/loop.ts";
import { descriptors, pause, thisRuntime, timed, within } from "../../multiprocessing/support.ts";

const kind = thisRuntime === "bun" ? BELL_DATAGRAM : BELL_STREAM;
const MOST_STRANGERS = 32;

interface Open {
  readonly address: BellAddress;
  readonly bell: Doorbell;
  readonly rings: () => number;
}

async function withBell(name: string, body: (open: Open) => Promise<void>): Promise<void> {
  const path = abstractNamesSupported() ? null : join(privateFolder(), name);
  const address = {
    name: path ?? `geventmp-test-${processId()}-${name}`,
    key: Uint8Array.from({ length: KEY_BYTES }, (_, i) => 200 + i),
  };
  let rings = 0;
  const bell = openDoorbell(address, () => rings++);
  try {
    assertEquals(bell.kind, kind);
    await body({ address, bell, rings: () => rings });
  } finally {
    bell.close();
    await pause(10);
    if (path !== null) rmSync(dirname(path), { recursive: true });
  }
}

async function ringUntilHeard(ringers: Ringers, { address, rings }: Open): Promise<void> {
  const before = rings();
  ringers.ring(1, kind, () => address);
  await within(5000, "the ring", () => rings() > before);
}

const stranger = (address: BellAddress): number => {
  const fd = streamSocket();
  assertEquals(connectUnix(fd, unixAddress(address.name, abstractNamesSupported())), 0);
  return fd;
};

describe("a doorbell", () => {
  timed("is rung by who knows its key", 10_000, async () => {
    await withBell("key", async (open) => {
      const ringers = new Ringers();
      for (let i = 0; i < 3; i++) await ringUntilHeard(ringers, open);
      const heard = open.rings();
      const other = new Ringers();
      other.ring(1, kind, () => ({ ...open.address, key: new Uint8Array(KEY_BYTES) }));
      await pause(50);
      assertEquals(open.rings(), heard, "a wrong key rang");
      await ringUntilHeard(ringers, open);
      ringers.close();
      other.close();
    });
  });
});

// Connections are Deno's, datagrams Bun's.
if (thisRuntime === "deno") {
  describe("a doorbell for connections", () => {
    timed("takes a few descriptors for silent connections, for a second, and goes on", 20_000, async () => {
      await withBell("silent", async (open) => {
        const ringers = new Ringers();
        await ringUntilHeard(ringers, open);
        const before = descriptors();
        const strangers: number[] = [];
        for (let i = 0; i < 300; i++) {
          strangers.push(stranger(open.address));
          if (i % 50 === 49) await pause(5);
        }
        await pause(100);
        // Deno opens a few of its own at some time.
        assertLessOrEqual(descriptors(), before + 300 + MOST_STRANGERS + 4);
        // Those that ring already, those that come anew, and children's ends are heard in the midst of it.
        await ringUntilHeard(ringers, open);
        const others = new Ringers();
        await ringUntilHeard(others, open);
        let ended = false;
        const sentinel = open.bell.watch(() => ended = true);
        for (let i = 0; i < 100; i++) strangers.push(stranger(open.address));
        await pause(50);
        assert(!ended);
        closeFd(sentinel.childFd);
        await within(2000, "the child's end", () => ended);
        await within(3000, "the end of the strangers", () => descriptors() <= before + 400 + 6);
        for (const fd of strangers) closeFd(fd);
        others.close();
        ringers.close();
      });
    });

    it("is told the whole hello, however it comes in pieces", async () => {
      await withBell("pieces", async (open) => {
        const fd = stranger(open.address);
        const hello = new Uint8Array([0x52, ...open.address.key, 0, 0, 0, 0]);
        for (const byte of hello) {
          assertEquals(open.rings(), 0);
          sendFd(fd, new Uint8Array([byte]));
          await pause(1);
        }
        await within(1000, "the ring", () => open.rings() === 1);
        closeFd(fd);
      });
    });
  });
} else {
  describe("a doorbell for datagrams", () => {
    timed("is not closed, filled or rung by a stranger's datagrams", 10_000, async () => {
      await withBell("datagrams", async (open) => {
        const ringers = new Ringers();
        await ringUntilHeard(ringers, open);
        // In a path's 0700 folder there are no strangers, but a stray datagram may come there as well.
        const sent = abstractNamesSupported() ? [0, 1, 7, KEY_BYTES, 1000] : [1, 7, KEY_BYTES, 1000];
        const heard = open.rings();
        const fd = datagramSocket();
        const name = unixAddress(open.address.name, abstractNamesSupported());
        const filtered = abstractNamesSupported();
        for (let i = 0; i < 2000; i++) {
          const size = sent[i % sent.length];
          const result = sendTo(fd, new Uint8Array(size), name);
          if (filtered) assertEquals(result, size, "the queue is full");
          else assert(result === size || result === -errnos.EAGAIN);
        }
        // No turn of the loop in between: what a stranger sent takes no room from a ring.
        if (filtered) assert(ringers.ring(1, kind, () => open.address));
        await pause(50);
        assertEquals(open.rings(), heard + (filtered ? 1 : 0));
        await ringUntilHeard(ringers, open);
        closeFd(fd);
        ringers.close();
      });
    });
  });
}
