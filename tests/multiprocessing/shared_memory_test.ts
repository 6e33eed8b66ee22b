/** Memory with a name: `test_shared_memory_*` of CPython's suite by their rows, who removes a name, and a Python process as the other side. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { Process, Queue, session, SharedMemory, SystemError } from "../../multiprocessing/mod.ts";
import { decode, encode } from "../../multiprocessing/codec/mod.ts";
import { revive } from "../../multiprocessing/core/handle.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { make } from "../../multiprocessing/shared_memory.ts";
import { closeFd, openNamedMemory, sizeNamedMemory, unlinkNamedMemory } from "../../platform/mod.ts";
import { makeMemory, writeByName, writeTo } from "../fixtures/shared_tasks.ts";
import {
  backTo,
  command,
  pause,
  Program,
  STALL_MS,
  state,
  thisRuntime,
  timed,
  use,
  within,
} from "./support.ts";

const own = (what: string): string => `gt-${what}-${process.pid}`;
const text = (memory: SharedMemory, length: number): string =>
  new TextDecoder().decode(new Uint8Array(memory.buffer, 0, length));
const write = (memory: SharedMemory, what: string): void =>
  new Uint8Array(memory.buffer).set(new TextEncoder().encode(what));
const exists = (name: string): boolean => {
  try {
    closeFd(openNamedMemory(`/${name}`));
    return true;
  } catch (error) {
    assertEquals((error as SystemError).code, "ENOENT");
    return false;
  }
};
function throwsCode(code: string, body: () => unknown): SystemError {
  const error = assertThrows(body, SystemError);
  assertEquals(error.code, code);
  return error;
}

/** The handle as a message carries it, made anew. */
function sendAndReceive(memory: SharedMemory): SharedMemory {
  return receive(send(memory)) as SharedMemory;
}
function send(value: unknown): Uint8Array {
  const message = encode(value);
  const bytes = new Uint8Array(message.byteLength);
  message.writeTo(bytes, 0);
  return bytes;
}
const receive = (bytes: Uint8Array): unknown => decode(bytes, 0, bytes.length, revive);

/** A program with a session of its own. */
function program(how: string, { argument = "", ...env }: Record<string, string> = {}): Program {
  return new Program(command(thisRuntime, "shared_memory_program.ts", [how, argument]), {
    env: { GEVENTMP_SESSION: undefined, ...env },
  });
}
const told = async (root: Program): Promise<string> => JSON.parse(await root.line());

describe("SharedMemory", () => {
  it("SHM-01 a name with a NUL in it, and other names that cannot be", () => {
    // Ours unlinks by handle only, so there is no name to give.
    assertThrows(() => new SharedMemory({ name: "name\0a" }), TypeError, "NUL");
    assertThrows(() => new SharedMemory({ name: "name\0a", create: true, size: 1 }), TypeError, "NUL");
    assertThrows(() => new SharedMemory({ name: "a/b" }), TypeError, "slash");
    assertThrows(() => new SharedMemory({ name: "/a" }), TypeError, "slash");
    assertThrows(() => new SharedMemory({ name: "" }), TypeError, "empty");
    assertThrows(() => new SharedMemory({ name: "ä".repeat(128) }), TypeError, "256 bytes");
    assertThrows(() => new SharedMemory({ name: 7 as unknown as string }), TypeError, "number");
    const longest = new SharedMemory({ name: "ä".repeat(120), create: true, size: 1 });
    longest.unlink();
    longest.close();
  });

  it("SHM-02 the basics", () => {
    const before = use();
    const name = own("basics");
    using memory = new SharedMemory({ name, create: true, size: 512 });
    assertEquals([memory.name, memory.size, memory.buffer.byteLength], [name, 512, 512]);
    assertEquals(String(memory), `SharedMemory("${name}", size=512)`);
    assertEquals(statSync(`/dev/shm/${name}`).mode & 0o777, 0o600);
    new Uint8Array(memory.buffer)[0] = 42;
    // The size is ignored where the memory has one.
    const also = new SharedMemory({ name, size: 512 * 20 });
    assertEquals([also.size, new Uint8Array(also.buffer)[0]], [512, 42]);
    also.close();
    also.close();
    assertThrows(() => also.buffer, TypeError, "disposed");
    assertThrows(() => new SharedMemory({ name, create: true, size: -2 }), RangeError, "-2");
    assertThrows(() => new SharedMemory({ name, size: -2 }), RangeError, "-2");
    assertThrows(() => new SharedMemory({}), TypeError, "without a name");
    throwsCode("EEXIST", () => new SharedMemory({ name, create: true, size: 512 }));
    // CPython's suite attaches through a private flag that makes what is not there; here one tries one after the other.
    const attached = new SharedMemory({ name });
    assertEquals(attached.size, memory.size);
    attached.close();
    memory.unlink();
    assertMatch(throwsCode("ENOENT", () => memory.unlink()).message, /unlinked before/);
    throwsCode("ENOENT", () => new SharedMemory({ name }));
    // Who has it keeps it.
    assertEquals(new Uint8Array(memory.buffer)[0], 42);
    memory.close();
    assertEquals(use(), before);
  });

  it("SHM-02 a second name is taken when the first is another's", () => {
    const taken = new SharedMemory({ create: true, size: 1 });
    assertMatch(taken.name, /^psm_[0-9a-f]{8}$/);
    const other = own("second");
    const names = [taken.name, other];
    const making = make(current(), () => names.shift() ?? null, 1);
    const { value } = making.next();
    using second = new SharedMemory(value as never);
    assertEquals(second.name, other);
    taken.unlink();
    taken.close();
    second.unlink();
  });

  it("SHM-04 sizes that cannot be", async () => {
    for (const size of [-1, 0, undefined, NaN, 1.5, 2 ** 32 + 1]) {
      assertThrows(() => new SharedMemory({ create: true, size }), RangeError, String(size));
      await assertRejects(() => SharedMemory.create({ size: size! }), RangeError, String(size));
    }
  });

  it("SHM-05 a handle travels as a reference", () => {
    using memory = new SharedMemory({ create: true, size: 512 });
    write(memory, "pickle");
    using received = sendAndReceive(memory);
    assertEquals(received.name, memory.name);
    assertEquals([text(memory, 6), text(received, 6)], ["pickle", "pickle"]);
    write(received, "newval");
    assertEquals(text(memory, 6), "newval");
    write(memory, "oldval");
    assertEquals(text(received, 6), "oldval");
    memory.unlink();
  });

  it("SHM-06 a handle to what is gone", () => {
    const before = use();
    const name = own("gone");
    const memory = new SharedMemory({ name, create: true, size: 512 });
    const sent = send(memory);
    memory.unlink();
    throwsCode("ENOENT", () => receive(sent));
    // Nor is it the memory that has the name now.
    const another = new SharedMemory({ name, create: true, size: 512 });
    assertMatch(throwsCode("ENOENT", () => receive(sent)).message, /other memory has its name/);
    throwsCode("ENOENT", () => memory.unlink());
    assert(exists(name));
    memory.close();
    another.unlink();
    another.close();
    // With its last handle the object is unknown to the session.
    assertThrows(() => receive(sent), TypeError, "does not exist");
    assertEquals(use(), before);
  });

  timed("SHM-07 across processes", 60_000, async () => {
    const before = use();
    using memory = new SharedMemory({ create: true, size: 512 });
    const byName = await new Process({ target: writeByName, args: [memory.name, "howdy"] }).start();
    assertEquals(await byName.join({ timeout: STALL_MS }), 0);
    assertEquals(text(memory, 5), "howdy");
    const passed = await new Process({ target: writeTo, args: [memory, "HELLO"] }).start();
    assertEquals(await passed.join({ timeout: STALL_MS }), 0);
    assertEquals(text(memory, 5), "HELLO");
    memory.unlink();
    memory.close();
    await backTo(before);
  });

  timed("travels inside a queue's item", 20_000, async () => {
    using queue = new Queue<{ memory: SharedMemory }>();
    {
      using memory = new SharedMemory({ create: true, size: 512 });
      write(memory, "queued");
      await queue.put({ memory });
    }
    using memory = (await queue.get({ timeout: STALL_MS })).memory;
    assertEquals(text(memory, 6), "queued");
    memory.unlink();
  });

  it("SHM-17 names with colons and line feeds", () => {
    const names = [
      "a:b:c",
      ":start",
      "end:",
      "::",
      "a\nb",
      "\nstart",
      "end\n",
      ":\n",
      "a:b\nc:d",
      ":::",
      "\n\n",
    ];
    for (const base of names) {
      const memory = new SharedMemory({ name: `${base}${process.pid}`, create: true, size: 100 });
      new Uint8Array(memory.buffer)[0] = 1;
      memory.close();
      memory.unlink();
      assertEquals(exists(memory.name), false);
    }
  });

  it("cannot be touched once closed", () => {
    const memory = new SharedMemory({ create: true, size: 4096 });
    const view = new Int32Array(memory.buffer, 16);
    const data = new DataView(memory.buffer);
    memory.unlink();
    memory.close();
    assertEquals([view.length, view[0]], [0, undefined]);
    view[0] = 1;
    assertThrows(() => view.fill(1), TypeError);
    assertThrows(() => Atomics.load(view, 0));
    assertThrows(() => data.getInt8(0), TypeError);
    assertThrows(() => send(memory), TypeError, "disposed");
  });

  it("stays mapped for a buffer that was transferred", () => {
    const memory = new SharedMemory({ create: true, size: 4096 });
    memory.unlink();
    const moved = new Uint8Array(memory.buffer.transfer());
    memory.close();
    moved[4095] = 5;
    assertEquals(moved[4095], 5);
  });

  timed("is kept by a view whose handle was dropped, and unmapped with the last view", 30_000, async () => {
    const mappings = async (): Promise<number> => {
      const { readFile } = await import("node:fs/promises");
      return (await readFile("/proc/self/maps", "utf8")).split("\n").filter((line) =>
        line.includes(own("drop"))
      )
        .length;
    };
    const view = (() => {
      const memory = new SharedMemory({ name: own("drop"), create: true, size: 4096 });
      memory.unlink();
      return new Uint8Array(memory.buffer);
    })();
    for (let i = 0; i < 5; i++) {
      collect();
      await pause(5);
    }
    view[4095] = 3;
    assertEquals(view[4095], 3);
    assertEquals(await mappings(), 1);
    for (let i = 0; i < 20; i++) {
      (() => void new SharedMemory({ name: own("drop"), create: true, size: 4096 }).unlink())();
    }
    // The collector is conservative in one of the runtimes, so not each of them must go.
    const start = performance.now();
    while (await mappings() > 10 && performance.now() - start < STALL_MS) {
      collect();
      await pause(10);
    }
    assert(await mappings() <= 10, `${await mappings()} mappings stayed`);
    assertEquals(view[4095], 3);
  });

  it("of no size yet can be tried again", () => {
    const name = own("empty");
    const fd = openNamedMemory(`/${name}`, { create: true });
    try {
      throwsCode("EINVAL", () => new SharedMemory({ name }));
      sizeNamedMemory(fd, 0, 10, 10);
      using memory = new SharedMemory({ name });
      assertEquals(memory.size, 10);
    } finally {
      closeFd(fd);
      unlinkNamedMemory(`/${name}`);
    }
  });

  timed("of many MiB is made while the loop turns", 60_000, async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const size = 128 * 2 ** 20;
    const memory = await SharedMemory.create({ name: own("large"), size });
    clearInterval(timer);
    assert(turns >= 5, `the loop turned ${turns} times`);
    assertEquals(statSync(`/dev/shm/${memory.name}`).blocks * 512, size);
    new Uint8Array(memory.buffer)[size - 1] = 1;
    memory.unlink();
    memory.close();
  });

  const unshare = [
    "unshare",
    "-rm",
    "sh",
    "-c",
    'mount -t tmpfs -o size=8m tmpfs /dev/shm && exec "$@"',
    "sh",
  ];
  const noMounts = spawnSync(unshare[0], [...unshare.slice(1), "true"]).status !== 0;
  // With a file system of its own that is small: a full one would be in everybody's way.
  const full = (name: string, ms: number, body: () => Promise<void>): void =>
    noMounts ? it.skip(`${name} (no mount of its own is allowed)`, body) : timed(name, ms, body);
  full("for which there is no room is an error that names the size, and leaves nothing", 40_000, async () => {
    const [file, args] = command(thisRuntime, "shared_memory_program.ts", ["full"]);
    await using root = new Program(["unshare", [...unshare.slice(1), file, ...args]], {
      env: { GEVENTMP_SESSION: undefined },
    });
    const errors = await told(root) as unknown as { code: string; syscall: string; message: string }[];
    assertEquals(errors.length, 2);
    for (const { code, syscall, message } of errors) {
      assertEquals([code, syscall], ["ENOSPC", "posix_fallocate"]);
      assertMatch(message, /16777216 bytes of shared memory "full".*larger/);
    }
    assertEquals(await told(root), [] as never);
    root.go();
    assertEquals(await root.exited, 0, root.errors);
  });
});

describe("a name that the session made", () => {
  for (const how of ["end", "exit", "daemon", "worker"]) {
    timed(`is removed by the last member: ${how}`, 40_000, async () => {
      await using root = program(how);
      const name = await told(root);
      assert(exists(name));
      root.go();
      assertEquals(await root.exited, how === "exit" ? 3 : 0);
      await within(STALL_MS, "the end of the name", () => !exists(name));
      // SHM-09, which has CPython's manager do the same: nobody complains.
      assertEquals(root.errors, "");
    });
  }

  timed("is removed by a session that is disposed, and views are detached", 40_000, async () => {
    await using root = program("dispose");
    const name = await told(root);
    assertEquals(await told(root), "0 true");
    assertEquals(exists(name), false);
    root.go();
    assertEquals(await root.exited, 0);
  });

  timed("SHM-14 outlives its terminated maker, and goes with the session", 40_000, async () => {
    // CPython's tracker is a process, which ends with its tree; here it is the tree's last process, so there must be another one.
    await using root = program("child");
    const name = await told(root);
    process.kill(Number(await told(root)), "SIGTERM");
    assertEquals(await told(root), "ended");
    assert(exists(name));
    root.go();
    assertEquals(await root.exited, 0);
    assertEquals(exists(name), false);
    // A process that was killed has lost nothing, so nothing is reported as a leak.
    assertEquals(root.errors, "");
  });

  timed("is removed by a child that outlives the session's first process", 40_000, async () => {
    const path = join(tmpdir(), own("outlived"));
    await using root = program("outlived", { argument: path });
    const name = await told(root);
    await within(STALL_MS, "the first process's end", () => [null, "Z"].includes(state(root.pid)));
    await pause(100);
    assert(exists(name));
    writeFileSync(path, "");
    await within(STALL_MS, "the end of the name", () => !exists(name));
    rmSync(path);
  });

  timed("is removed though the last members end at the same time", 60_000, async () => {
    for (let i = 0; i < 5; i++) {
      await using root = program("twins");
      const names = [await told(root), await told(root)];
      assertEquals(names.map(exists), [true, true]);
      root.go();
      await root.exited;
      await within(STALL_MS, "the end of the names", () => !names.some(exists));
    }
  });

  timed("stays when all members are killed at once, as nobody is left to remove it", 40_000, async () => {
    // Where the session's own memory has a path, its folder stays as well.
    const folder = mkdtempSync(join(tmpdir(), "killed-"));
    await using root = program("end", { XDG_RUNTIME_DIR: folder });
    const name = await told(root);
    root.child.kill("SIGKILL");
    assertEquals(await root.exited, "SIGKILL");
    assert(exists(name));
    unlinkNamedMemory(`/${name}`);
    rmSync(folder, { recursive: true });
  });

  timed("is not another's that has come to have it", 40_000, async () => {
    await using root = program("end");
    const name = await told(root);
    unlinkNamedMemory(`/${name}`);
    const fd = openNamedMemory(`/${name}`, { create: true });
    try {
      root.go();
      assertEquals(await root.exited, 0);
      assert(exists(name));
    } finally {
      closeFd(fd);
      unlinkNamedMemory(`/${name}`);
    }
  });

  timed("SHM-15 SHM-16 is not removed by a program that only attaches", 40_000, async () => {
    // Which CPython does unless it is told not to track.
    using memory = new SharedMemory({ create: true, size: 10 });
    new Uint8Array(memory.buffer)[0] = 9;
    await using other = program("attached", { argument: memory.name });
    assertEquals(await told(other), 9 as never);
    assertEquals(await other.exited, 0);
    assertEquals(other.errors, "");
    using again = new SharedMemory({ name: memory.name });
    assertEquals(new Uint8Array(again.buffer)[0], 9);
    memory.unlink();
  });

  timed("is unlinked by whoever has a handle, and then no business of the session's", 40_000, async () => {
    const before = use();
    using names = new Queue<string>();
    using go = new Queue<string>();
    const child = await new Process({ target: makeMemory, args: [names, go] }).start();
    using memory = new SharedMemory({ name: await names.get({ timeout: STALL_MS }) });
    memory.unlink();
    await go.put("go");
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    for (const handle of [memory, names, go]) handle[Symbol.dispose]();
    await backTo(before);
  });
});

const peer = fileURLToPath(new URL("../fixtures/shared_memory_peer.py", import.meta.url));
const noPython = !process.env.CI && spawnSync("python3", ["--version"]).status !== 0;

describe("with Python", () => {
  if (noPython) return void it.skip("(no python3 on this machine)", () => {});
  const python = (...args: string[]): Program => new Program(["python3", [peer, ...args]]);

  timed("ours is opened there", 40_000, async () => {
    using memory = new SharedMemory({ create: true, size: 5000 });
    write(memory, "from here");
    await using other = python("attach", memory.name);
    assertEquals(await other.line(), "5000 from here");
    assertEquals(await other.exited, 0, other.errors);
    assertEquals(text(memory, 11), "from Python");
    memory.unlink();
  });

  timed("theirs is opened here", 40_000, async () => {
    await using other = python("make", "600");
    const name = await other.line();
    assertMatch(name, /^psm_[0-9a-f]{8}$/);
    using memory = new SharedMemory({ name });
    const view = new Uint8Array(memory.buffer);
    assertEquals([memory.size, view[0]], [600, 7]);
    view[0] = 8;
    other.go();
    assertEquals(await other.line(), "8");
    assertEquals(await other.exited, 0, other.errors);
    assertEquals(other.errors, "");
    assertEquals(exists(name), false);
    // Who has it keeps it.
    assertNotEquals(view[0], 7);
  });

  timed("which took over a name, the session leaves it alone", 40_000, async () => {
    await using root = program("end");
    const name = await told(root);
    await using other = python("replace", name);
    assertEquals(await other.line(), "99");
    assertEquals(await other.exited, 0, other.errors);
    root.go();
    assertEquals(await root.exited, 0);
    using memory = new SharedMemory({ name });
    assertEquals(memory.size, 99);
    memory.unlink();
  });
});

/** A full collection, where the runtime lets tests ask for one. */
function collect(): void {
  const scope = globalThis as unknown as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  if (scope.Bun !== undefined) scope.Bun.gc(true);
  else scope.gc!();
}

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
