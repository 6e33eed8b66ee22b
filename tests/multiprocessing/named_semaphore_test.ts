/** Named semaphores: names and errors, waits of one agent, and peers in other languages. */
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { fileURLToPath } from "node:url";
import {
  BlockingError,
  NamedSemaphore,
  Process,
  Queue,
  session,
  SessionError,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { SystemError } from "../../platform/mod.ts";
import { answer } from "../fixtures/tasks.ts";
import { each, languages, removePeers } from "./foreign_peers.ts";
import {
  command,
  descriptors,
  otherRuntime,
  Program,
  type Runtime,
  STALL_MS,
  state,
  thisRuntime,
  timed,
  within,
} from "./support.ts";

let made = 0;

/** A new semaphore, whose name is gone at the end of the test. */
function make(value = 0): NamedSemaphore {
  const name = `/geventmp-test-${process.pid}-${made++}`;
  const semaphore = new NamedSemaphore(name, { create: true, exclusive: true, value });
  return Object.assign(semaphore, {
    [Symbol.dispose]() {
      semaphore.unlink();
      semaphore.close();
    },
  });
}

class Peer extends Program {
  static async start([file, ...args]: readonly [string, ...string[]], name: string): Promise<Peer> {
    const peer = new Peer([file, [...args, "named", name]]);
    assertEquals(await peer.line(), "ready");
    return peer;
  }

  tell(...commands: string[]): void {
    for (const text of commands) this.child.stdin!.write(`${text}\n`);
  }

  async done(text: string): Promise<void> {
    assertEquals(await this.line(), `done ${text}`);
  }
}

const LIMIT = { timeout: STALL_MS };

describe("NamedSemaphore", () => {
  it("counts, and is one semaphore under one name", async () => {
    using one = make(2);
    using two = new NamedSemaphore(one.name);
    assertEquals([one.getValue(), two.tryAcquire(), one.tryAcquire(), two.tryAcquire()], [
      2,
      true,
      true,
      false,
    ]);
    two.release(3);
    await one.acquire();
    one.acquireSync({ allowBlocking: true });
    assertEquals([one.getValue(), String(one)], [1, `NamedSemaphore(${one.name})`]);
    // The name goes; who has it open goes on.
    assertEquals([one.unlink(), one.unlink(), NamedSemaphore.unlink(one.name)], [true, false, false]);
    two.release();
    assertEquals(one.getValue(), 2);
    two.close();
    two.close();
    assertEquals(one.getValue(), 2);
    assertEquals(String(two), `NamedSemaphore(${one.name}, closed)`);
  });

  it("a name used anew is a new semaphore, beside the old one", () => {
    using old = make(1);
    old.unlink();
    using fresh = new NamedSemaphore(old.name, { create: true, exclusive: true, value: 5 });
    assertEquals([old.getValue(), fresh.getValue()], [1, 5]);
    assertEquals(fresh.unlink(), true);
  });

  it("says what is wrong with a name, an option, a system's refusal, and how to cure it", async () => {
    using there = make();
    for (
      const [name, why] of [
        ["jobs", "does not begin with a slash"],
        ["/", "nothing follows"],
        ["/a/b", "second slash"],
        ["/a\0b", "NUL"],
        [`/${"a".repeat(300)}`, "301 bytes"],
        [`/${"é".repeat(130)}`, "261 bytes"],
      ]
    ) {
      const error = assertThrows(() => new NamedSemaphore(name, { create: true }), TypeError);
      assert(error.message.includes(why), error.message);
      assertThrows(() => NamedSemaphore.unlink(name), TypeError);
    }
    assertThrows(() => new NamedSemaphore(7 as unknown as string), TypeError, "it is a number");
    for (const options of [{ value: 1 }, { mode: 0o600 }, { exclusive: true }, { create: false, value: 0 }]) {
      assertThrows(() => new NamedSemaphore(there.name, options), TypeError, "create: true");
    }
    for (const value of [-1, 0.5, NaN, 2 ** 31]) {
      assertThrows(() => new NamedSemaphore(there.name, { create: true, value }), RangeError, "value");
    }
    for (const mode of [-1, 0o1000, 0.5]) {
      assertThrows(() => new NamedSemaphore(there.name, { create: true, mode }), RangeError, "mode");
    }
    const refused = (name: string, options?: { create: true; exclusive: true }): string => {
      const error = assertThrows(() => new NamedSemaphore(name, options), SystemError);
      assert(error.message.includes(name));
      return `${error.code} ${error.message.slice(error.message.indexOf(";"))}`;
    };
    assertEquals(refused(`${there.name}-none`), "ENOENT ; pass { create: true } to make it");
    assertEquals(
      refused(there.name, { create: true, exclusive: true }),
      "EEXIST ; leave exclusive out to use the one that is there, or unlink it first",
    );
    for (const n of [0, -1, 0.5, NaN]) assertThrows(() => there.release(n), RangeError, "release");
    await assertRejects(() => there.acquire({ timeout: NaN }), TypeError);
    assertThrows(() => there.acquireSync({ timeout: 0 }), BlockingError);
    assertEquals(there.getValue(), 0);
  });

  it("is its user's alone unless mode says otherwise", () => {
    using own = make();
    const file = (name: string): string => `/dev/shm/sem.${name.slice(1)}`;
    if (!existsSync(file(own.name))) {
      throw new Error("expected the semaphore in /dev/shm, as glibc and musl keep it");
    }
    assertEquals(statSync(file(own.name)).mode & 0o777, 0o600);
    const shared = new NamedSemaphore(`${own.name}-shared`, { create: true, mode: 0o640 });
    assertEquals(statSync(file(shared.name)).mode & 0o777, 0o640 & ~process.umask());
    shared.unlink();
    shared.close();
  });

  it("EMFILE names the cure", () => {
    using semaphore = make();
    const [file, args] = command(thisRuntime, "foreign_program.ts", ["crowded", semaphore.name]);
    // A table that is soon full.
    const run = spawnSync("sh", ["-c", 'ulimit -n 100; exec "$0" "$@"', file, ...args], { encoding: "utf8" });
    assert(run.stdout.includes("raise ulimit -n"), `${run.stdout}${run.stderr}`);
    assertEquals(run.status, 0, run.stderr);
  });

  it("may be sent: the receiver opens the same one", async () => {
    using semaphore = make();
    using queue = new Queue<{ deep: NamedSemaphore[] }>();
    await queue.put({ deep: [semaphore, semaphore] });
    const { deep } = await queue.get({ timeout: STALL_MS });
    assertEquals([deep[0] === deep[1], deep[0] === semaphore, deep[0].name], [true, false, semaphore.name]);
    semaphore.release(2);
    assertEquals([deep[0].tryAcquire(), deep[0].tryAcquire(), deep[0].tryAcquire()], [true, true, false]);
    deep[0].close();
    await assertRejects(() => queue.put({ deep }), TypeError, "was closed");

    using back = new Queue<NamedSemaphore>();
    const child = await new Process({ target: answer, args: [semaphore, back] }).start();
    using again = await back.get({ timeout: STALL_MS });
    again.release();
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    assertEquals(semaphore.tryAcquire(), false);
  });

  it("that was unlinked after it was sent is refused by the receiver, by name", async () => {
    const semaphore = make();
    using queue = new Queue<NamedSemaphore | string>();
    await queue.put(semaphore);
    await queue.put("next");
    semaphore.unlink();
    const error = await assertRejects(() => queue.get({ timeout: STALL_MS }), TypeError, semaphore.name);
    assertStringIncludes(error.message, "unlinked");
    assertEquals(await queue.get({ timeout: STALL_MS }), "next");
    semaphore.close();
  });

  it("waits of one agent are served in order, whichever handle they are of", async () => {
    using one = make();
    using two = new NamedSemaphore(one.name);
    const order: number[] = [];
    const waits = Array.from(
      { length: 20 },
      (_, i) => (i % 2 ? one : two).acquire().then(() => order.push(i)),
    );
    for (let i = 0; i < 20; i++) one.release();
    await Promise.all(waits);
    assertEquals(order, [...order.keys()]);
    assertEquals(one.getValue(), 0);
  });

  it("a time-out or an abort is over at once, and leaves every permit to others", async () => {
    using semaphore = make();
    await assertRejects(() => semaphore.acquire({ timeout: 0 }), TimeoutError, semaphore.name);
    await assertRejects(() => semaphore.acquire({ timeout: 20 }), TimeoutError, "20 ms");
    const begin = performance.now();
    assertThrows(() => semaphore.acquireSync({ timeout: 120, allowBlocking: true }), TimeoutError);
    assert(performance.now() - begin > 100);
    const controller = new AbortController();
    const [first, second, third] = [
      semaphore.acquire({ signal: controller.signal }),
      semaphore.acquire(LIMIT),
      semaphore.acquire({ signal: controller.signal }),
    ];
    const reason = new Error("enough");
    controller.abort(reason);
    semaphore.release();
    for (const wait of [first, third]) {
      assertEquals(await wait.catch((error) => error), reason);
    }
    await second;
    await assertRejects(() => semaphore.acquire({ signal: controller.signal }), Error, "enough");
    // Not even for a moment is a permit with a wait that is over.
    for (let i = 0; i < 50; i++) {
      const controller = new AbortController();
      const wait = semaphore.acquire({ signal: controller.signal });
      controller.abort(reason);
      semaphore.release();
      assertEquals(semaphore.tryAcquire(), true);
      await wait.catch(() => {});
    }
  });

  it("closing a handle ends its own waits, and no others", async () => {
    using kept = make();
    const closed = new NamedSemaphore(kept.name);
    const [ours, theirs] = [closed.acquire(), kept.acquire(LIMIT)];
    closed.close();
    assertInstanceOf(await ours.catch((error) => error), TypeError);
    kept.release();
    await theirs;
    await assertRejects(() => closed.acquire(), TypeError, "closed");
    for (const use of [() => closed.tryAcquire(), () => closed.release(), () => closed.getValue()]) {
      assertThrows(use, TypeError, "closed");
    }
    assertThrows(() => closed.acquireSync({ allowBlocking: true }), TypeError, "closed");
    assertEquals(kept.getValue(), 0);
  });

  it("the session's end ends waits and leaves nothing in the loop", {
    sanitizeOps: true,
    sanitizeResources: true,
  }, async () => {
    const name = `/geventmp-test-${process.pid}-end`;
    using semaphore = new NamedSemaphore(name, { create: true });
    semaphore.unlink();
    {
      await using _session = session();
      const waits = [semaphore.acquire(), semaphore.acquire({ timeout: 60_000 })];
      const over = Promise.allSettled(waits);
      await session()[Symbol.asyncDispose]();
      for (const result of await over) {
        assertEquals(result.status === "rejected" && result.reason.code, "ERR_SESSION");
      }
    }
    // The handle is no session's: it goes on.
    semaphore.release();
    await semaphore.acquire();
  });

  it("opening and closing leaves no descriptor", () => {
    using semaphore = make();
    const before = descriptors();
    for (let i = 0; i < 200; i++) {
      using again = new NamedSemaphore(semaphore.name);
      again.release();
    }
    assertEquals(semaphore.getValue(), 200);
    assertEquals(descriptors(), before);
  });

  timed("a Worker may block in the kernel for it", STALL_MS, async () => {
    using semaphore = make();
    const worker = new Worker(new URL("../fixtures/foreign_worker.ts", import.meta.url), { type: "module" });
    const said: string[] = [];
    worker.onmessage = ({ data }) => said.push(data);
    worker.postMessage(semaphore.name);
    await within(STALL_MS, "the Worker", () => said.length === 1);
    for (let i = 2; i < 10; i++) {
      semaphore.release();
      await within(STALL_MS, "its permit", () => said.length === i);
    }
    worker.terminate();
    assertEquals([said[0], new Set(said.slice(1)), semaphore.getValue()], ["ready", new Set(["taken"]), 0]);
  });

  timed(
    "an idle handle and a wait with ref: false let the program end, a wait does not",
    STALL_MS,
    async () => {
      using semaphore = make();
      for (const what of ["idle", "unreferenced"]) {
        await using program = new Program(command(thisRuntime, "foreign_program.ts", [what, semaphore.name]));
        assertEquals(await program.exited, 0, program.errors);
      }
      await using program = new Program(
        command(thisRuntime, "foreign_program.ts", ["waiting", semaphore.name]),
      );
      assertEquals(await program.line(), '"waiting"');
      semaphore.release();
      assertEquals(await program.line(), '"acquired"');
      assertEquals(await program.exited, 0, program.errors);
      assertEquals(semaphore.getValue(), 0);
    },
  );

  timed("a wait that dies with its process takes nothing", STALL_MS, async () => {
    using semaphore = make();
    await using program = new Program(
      command(thisRuntime, "foreign_program.ts", ["waiting", semaphore.name]),
    );
    assertEquals(await program.line(), '"waiting"');
    program.child.kill("SIGKILL");
    assertEquals(await program.exited, "SIGKILL");
    semaphore.release();
    assertEquals(semaphore.getValue(), 1);
  });
});

describe("NamedSemaphore with a peer", () => {
  each("hands permits over both ways", async (program) => {
    using there = make();
    using back = make();
    await using peer = await Peer.start(program, there.name);
    await using answer = await Peer.start(program, back.name);
    for (let i = 0; i < 20; i++) {
      peer.tell("wait");
      there.release();
      await peer.done("wait");
      answer.tell("post");
      await back.acquire(LIMIT);
      await answer.done("post");
    }
    assertEquals([there.getValue(), back.getValue()], [0, 0]);
  });

  each("1,000 waits and file reads go on side by side", async (program) => {
    using semaphore = make();
    await using peer = await Peer.start(program, semaphore.name);
    const order: number[] = [];
    const waits = Array.from({ length: 1000 }, (_, i) => semaphore.acquire(LIMIT).then(() => order.push(i)));
    const own = fileURLToPath(import.meta.url);
    const before = descriptors();
    // More than either runtime has threads for files.
    const texts = await Promise.all(Array.from({ length: 64 }, () => readFile(own, "utf8")));
    assertEquals(new Set(texts.map((text) => text.length)).size, 1);
    assertEquals(order, []);
    assert(descriptors() <= before, "a wait has a descriptor");
    peer.tell("1000");
    await Promise.all(waits);
    assertEquals(order, [...order.keys()]);
    assertEquals(semaphore.getValue(), 0);
  });

  each("is one for Deno, Bun and the peer", async (program) => {
    using semaphore = make();
    const take = (runtime: Runtime): Program =>
      new Program(command(runtime, "foreign_program.ts", ["take", semaphore.name, "300"]));
    await using one = take(thisRuntime);
    await using two = take(otherRuntime);
    for (const taker of [one, two]) assertEquals(await taker.line(), '"taking"');
    await using peer = await Peer.start(program, semaphore.name);
    peer.tell("599");
    semaphore.release();
    for (const taker of [one, two]) assertEquals(await taker.exited, 0, taker.errors);
    assertEquals(semaphore.getValue(), 0);
  });

  each("cancelled waits lose no permit", async (program) => {
    using semaphore = make();
    await using peer = await Peer.start(program, semaphore.name);
    const POSTS = 400;
    let taken = 0;
    peer.tell(...new Array<string>(POSTS / 4).fill("4"));
    const end = performance.now() + STALL_MS;
    for (let round = 0; taken < POSTS && performance.now() < end; round++) {
      const controller = new AbortController();
      const waits = Array.from(
        { length: 5 },
        (_, i) =>
          semaphore.acquire(i % 2 ? { timeout: 1 + i } : { signal: controller.signal })
            .then(() => taken++, (error) => {
              if (!(error instanceof TimeoutError) && error !== "cancelled") throw error;
            }),
      );
      setTimeout(() => controller.abort("cancelled"), round % 4);
      await Promise.all(waits);
    }
    assertEquals([taken, semaphore.getValue()], [POSTS, 0]);
  });

  const [, c] = languages;
  it("gets a permit that two C programs never leave free", { ignore: c.command === null }, async () => {
    using semaphore = make(1);
    const [file, ...args] = c.command!;
    await using one = new Program([file, [...args, "hog", semaphore.name]]);
    await using two = new Program([file, [...args, "hog", semaphore.name]]);
    for (const peer of [one, two]) assertEquals(await peer.line(), "ready");
    for (let i = 0; i < 5; i++) {
      await semaphore.acquire(LIMIT);
      semaphore.release();
    }
    for (const peer of [one, two]) peer.child.stdin!.end();
    for (const peer of [one, two]) assertEquals(await peer.exited, 0);
    assertEquals(semaphore.getValue(), 1);
  });

  each("a killed peer keeps the permit that it had, and no other", async (program) => {
    using semaphore = make(1);
    await using holder = await Peer.start(program, semaphore.name);
    await using waiter = await Peer.start(program, semaphore.name);
    holder.tell("wait");
    await holder.done("wait");
    waiter.tell("wait");
    const wait = semaphore.acquire(LIMIT);
    for (const peer of [holder, waiter]) peer.child.kill("SIGKILL");
    for (const peer of [holder, waiter]) assertEquals(await peer.exited, "SIGKILL");
    assertEquals(semaphore.getValue(), 0);
    semaphore.release();
    await wait;
    assertEquals(semaphore.getValue(), 0);
  });

  each("a stopped peer keeps nobody waiting", async (program) => {
    using semaphore = make();
    await using peer = await Peer.start(program, semaphore.name);
    peer.tell("wait");
    process.kill(peer.pid, "SIGSTOP");
    await within(STALL_MS, "the stop", () => state(peer.pid) === "T");
    const wait = semaphore.acquire(LIMIT);
    semaphore.release();
    await wait;
    process.kill(peer.pid, "SIGCONT");
    semaphore.release();
    await peer.done("wait");
  });

  it("another user gets EACCES", { ignore: languages[0].command === null || process.getuid!() !== 0 }, () => {
    using semaphore = make();
    const [python] = languages[0].command!;
    const script = "import os, sys\nfrom _multiprocessing import SemLock\nos.setuid(65534)\n" +
      "try: SemLock._rebuild(0, 1, 1, sys.argv[1])\nexcept OSError as e: print(e.errno)";
    const run = spawnSync(python, ["-c", script, semaphore.name], { encoding: "utf8" });
    assertEquals(run.stdout, "13\n", run.stderr);
  });

  afterAll(removePeers);
});

describe("the end", () => {
  it("leaves the session, which ends the waits", async () => {
    using semaphore = make();
    const wait = semaphore.acquire();
    const rejected = assertRejects(() => wait, SessionError, "disposed");
    await session()[Symbol.asyncDispose]();
    await rejected;
  });
});
