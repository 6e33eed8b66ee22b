/**
 * CPython's tests of processes and start methods, by their rows' ids. The only start method so far is spawn.
 *
 * Not here: PROC-15 (sentinels), PROC-25's values that are no numbers (an exit code is one in JavaScript), PROC-27's keyword arguments (there
 * are none; it is tested of `args`), START-01 to 04, 09, 12, 15 to 17 and ENV-05 (they need a start server), ENV-01 and ENV-04 (the program of a
 * child is always this runtime's own), FIN and LOG (not offered).
 */
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import process from "node:process";
import {
  activeChildren,
  cpuCount,
  currentProcess,
  Event,
  getAllStartMethods,
  getContext,
  getStartMethod,
  parentProcess,
  Process,
  Queue,
  session,
  setStartMethod,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { closeFd, openFile, setCloexec } from "../../platform/mod.ts";
import * as tasks from "../fixtures/process_tasks.ts";
import { nothing } from "../fixtures/tasks.ts";
import { command, Program, STALL_MS, thisRuntime, timed } from "./support.ts";

const w = { timeout: STALL_MS };
const LIMIT_MS = 60_000;

async function text(stream: ReadableStream<Uint8Array> | null): Promise<string> {
  return await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();
}

describe("CPython's processes", () => {
  it("PROC-01 the current process", () => {
    const current = currentProcess();
    assertEquals(
      [current.isAlive(), current.daemon, current.pid, current.exitCode],
      [true, false, process.pid, null],
    );
  });

  timed("PROC-02 arguments arrive as they were", LIMIT_MS, async () => {
    using queue = new Queue<unknown>({ maxSize: 1 });
    for (const value of [1, "str", [1], { tuple: [1] }]) {
      for (const args of [[queue, value], Object.freeze([queue, value])]) {
        const child = new Process({ target: tasks.tellAll, args: args as never, daemon: true });
        await child.start();
        assertEquals(await queue.get(w), [value]);
        for (let i = 0; i < 3; i++) await queue.get(w);
        await child.join(w);
      }
    }
  });

  timed("PROC-04 the parent's attributes", LIMIT_MS, async () => {
    assertEquals(parentProcess(), null);
    using queue = new Queue<unknown>();
    await (await new Process({ target: tasks.tellParent, args: [queue] }).start()).join(w);
    assertEquals(await queue.get(w), [process.pid, currentProcess().name]);
  });

  timed("PROC-05 a grandchild survives its parent and sees its death", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const child = await new Process({ target: tasks.middle, args: [queue] }).start();
    assertEquals(await queue.get(w), "alive");
    child.terminate();
    assertEquals(await child.join(w), -15);
    assertEquals(await queue.get(w), "not alive");
  });

  timed("PROC-06 a process before, while and after it runs", LIMIT_MS, async () => {
    using queue = new Queue<unknown>({ maxSize: 1 });
    const child = new Process({
      target: tasks.tellAll,
      args: [queue, 1, 2, { hello: 23, bye: 2.54 }],
      name: "SomeProcess",
    });
    child.daemon = true;
    const isActive = (): boolean => activeChildren().some((each) => each.pid === child.pid);
    assertEquals([child.isAlive(), child.daemon, child.exitCode], [false, true, null]);
    assert(Array.isArray(activeChildren()) && !isActive());
    await child.start();
    assertEquals([child.isAlive(), child.exitCode, isActive()], [true, null, true]);
    assertEquals(await queue.get(w), [1, 2, { hello: 23, bye: 2.54 }]);
    assertEquals(await queue.get(w), "SomeProcess");
    assertEquals(await queue.get(w), true);
    assertEquals(await queue.get(w), child.pid);
    assertEquals(await child.join(w), 0);
    assertEquals([child.exitCode, child.isAlive(), isActive()], [0, false, false]);
  });

  timed("PROC-07 its main thread is another", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const child = await new Process({ target: tasks.sleepForEver, args: [queue] }).start();
    assertNotEquals(await queue.get(w), process.pid);
    child.kill();
    await child.join(w);
  });

  timed("PROC-09 PROC-10 PROC-11 interrupt, terminate and kill", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    for (const [how, code] of [["interrupt", -2], ["terminate", -15], ["kill", -9]] as const) {
      const child = await new Process({ target: tasks.sleepForEver, args: [queue], daemon: true }).start();
      await assertRejects(() => child.join({ timeout: 0 }), TimeoutError);
      await assertRejects(() => child.join({ timeout: -1 }), TimeoutError);
      assert(child.isAlive());
      await queue.get(w);
      child[how]();
      assertEquals([await child.join(w), child.exitCode, child.isAlive()], [code, code, false]);
      assert(!activeChildren().some((each) => each.pid === child.pid));
    }
  });

  it("PROC-12 the count of processors", () => {
    assert(Number.isInteger(cpuCount()) && cpuCount() >= 1);
  });

  timed("PROC-14 recursion", LIMIT_MS, async () => {
    using queue = new Queue<number[]>();
    const child = await new Process({ target: tasks.recurse, args: [queue, []] }).start();
    assertEquals(await child.join({ timeout: 40_000 }), 0);
    const seen: number[][] = [];
    for (let i = 0; i < 7; i++) seen.push(await queue.get(w));
    assertEquals(seen, [[], [0], [0, 0], [0, 1], [1], [1, 0], [1, 1]]);
  });

  timed("PROC-16 close", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const child = await new Process({ target: tasks.getOne, args: [queue], daemon: true }).start();
    assertThrows(() => child.close(), TypeError, "still runs");
    assert(child.isAlive());
    await queue.put(null);
    assertEquals(await child.join(w), 0);
    child.close();
    assertThrows(() => child.isAlive(), TypeError, "closed");
    await assertRejects(() => child.join(), TypeError, "closed");
    assertThrows(() => child.terminate(), TypeError, "closed");
    child.close();
  });

  timed("PROC-17 many at once, and some that never came to run", LIMIT_MS, async () => {
    const make = (): Process<[number]>[] =>
      Array.from({ length: 5 }, () => new Process({ target: tasks.sleep, args: [10] }));
    let children = make();
    await Promise.all(children.map((child) => child.start()));
    assertEquals(await Promise.all(children.map((child) => child.join(w))), [0, 0, 0, 0, 0]);
    children = Array.from({ length: 5 }, () => new Process({ target: tasks.sleep, args: [100_000] }));
    await Promise.all(children.map((child) => child.start()));
    for (const child of children) child.terminate();
    assertEquals(await Promise.all(children.map((child) => child.join(w))), Array(5).fill(-15));
  });

  timed("PROC-19 PROC-29 a child has no descriptors but its own", LIMIT_MS, async () => {
    using queue = new Queue<[string, string][]>();
    using go = new Event();
    const files = Array.from({ length: 60 }, () => openFile("/dev/zero"));
    // As what a C library in this process opens would be.
    for (const fd of files) setCloexec(fd, false);
    const children: Process<never[]>[] = [];
    const tables: [string, string][][] = [];
    for (let i = 0; i < 4; i++) {
      const child = new Process({ target: tasks.tellDescriptors, args: [queue, go], stdout: "piped" });
      children.push(await child.start() as never);
      tables.push(await queue.get(w));
    }
    for (const fd of files) closeFd(fd);
    for (const table of tables) {
      assertEquals(table.filter(([, target]) => target === "/dev/zero"), []);
      assertEquals(table.length, tables[0].length, JSON.stringify([tables[0], table]));
    }
    go.set();
    for (const child of children) assertEquals(await child.join(w), 0);
  });

  timed("PROC-20 work that keeps a process alive is waited for, other work is not", LIMIT_MS, async () => {
    using event = new Event();
    assertEquals(await (await new Process({ target: tasks.leaveWork, args: [event] }).start()).join(w), 0);
    assert(event.isSet());
  });

  timed("PROC-21 a parent without standard streams", LIMIT_MS, async () => {
    for (const fd of ["1", "2"]) {
      await using program = new Program(command(thisRuntime, "process_program.ts", ["without", fd]));
      assertEquals(await program.exited, 42);
    }
  });

  timed("PROC-22 a child that breaks its standard streams", LIMIT_MS, async () => {
    for (const fd of [1, 2]) {
      using event = new Event();
      const child = await new Process({ target: tasks.breakStream, args: [event, fd] }).start();
      assertEquals([await child.join(w), event.isSet()], [0, true]);
    }
  });

  timed("PROC-24 what an uncaught error writes arrives whole", LIMIT_MS, async () => {
    const child = await new Process({ target: tasks.throwReadably, stderr: "piped" }).start();
    const written = await text(child.stderr);
    assertEquals(await child.join(w), 1);
    for (const part of ["RangeError", "thrown to be read", "process_tasks.ts", "throw new RangeError"]) {
      assert(written.includes(part), `${part} is missing in ${written}`);
    }
  });

  timed("PROC-25 exit codes", LIMIT_MS, async () => {
    for (
      const [how, given, code] of [
        ["exit", 8, 8],
        ["exit", 0, 0],
        ["exit", undefined, 0],
        ["own", 255, 255],
        ["exitCode", 7, 7],
      ] as const
    ) {
      const child = await new Process({ target: tasks.exitWith, args: [how, given] }).start();
      assertEquals(await child.join(w), code, how);
    }
    const child = await new Process({ target: tasks.rejectLate, stderr: "null" }).start();
    assertEquals(await child.join(w), 1);
  });

  timed("PROC-26 a signal does not cut a join short", LIMIT_MS, async () => {
    const signal = "SIGUSR2";
    const { promise, resolve } = Promise.withResolvers<void>();
    process.on(signal, resolve);
    const child = await new Process({ target: tasks.sleep, args: [1000] }).start();
    const other = await new Process({ target: tasks.signalParent, args: [signal] }).start();
    assertEquals(await child.join(w), 0);
    await promise;
    process.off(signal, resolve);
    assertEquals(await other.join(w), 0);
  });

  it("PROC-27 default arguments are not shared", () => {
    const [a, b] = [new Process({ target: nothing }), new Process({ target: nothing })];
    (a.args as unknown[]).push(1);
    assertEquals(b.args, []);
  });
});

describe("CPython's start methods", () => {
  timed("START-05 a script without a guard is no fork bomb", LIMIT_MS, async () => {
    await using program = new Program(command(thisRuntime, "process_unguarded.ts"));
    const line = program.line();
    assertEquals(await program.exited, 1);
    await assertRejects(() => line, Error, "without a line more");
    assert(program.errors.includes("import.meta.main"), program.errors);
  });

  timed("START-06 START-07 START-10 contexts and the default", LIMIT_MS, async () => {
    setStartMethod(null, { force: true });
    assertEquals(getStartMethod({ allowNone: true }), null);
    using queue = new Queue<unknown>();
    for (const method of getAllStartMethods()) {
      const context = getContext(method);
      assertEquals(context.getStartMethod(), method);
      assert(context.getContext() === context && getContext(method) === context);
      assertThrows(() => context.setStartMethod("spawn"), TypeError, "for good");
      assertThrows(() => context.setStartMethod(null), TypeError, "for good");
      assert(context.constructor.name.toLowerCase().startsWith(method));
      assert(context.Process.name.toLowerCase().startsWith(method));
      const child = new context.Process({ target: tasks.tellMethod, args: [queue] });
      assert(child.name.startsWith("SpawnProcess-"), child.name);
      await (await child.start()).join(w);
      assertEquals(await queue.get(w), method);
      assertEquals(getStartMethod({ allowNone: true }), null);
    }
    for (const method of ["fork", "forkserver"] as const) {
      assertThrows(() => setStartMethod(method), RangeError, method);
      assertThrows(() => getContext(method), RangeError, method);
    }
    setStartMethod("spawn");
    assertThrows(() => setStartMethod("spawn"), TypeError, "already");
    setStartMethod("spawn", { force: true });
    assertEquals(getStartMethod(), "spawn");
    assertEquals(getContext().getStartMethod(), "spawn");
  });

  it("START-11 all start methods, the default first", () => {
    assertEquals(getAllStartMethods(), ["spawn"]);
  });

  timed("START-14 a handle is handed on", LIMIT_MS, async () => {
    using queue = new Queue<number>();
    assertEquals(await (await new Process({ target: tasks.nest, args: [queue] }).start()).join(w), 0);
    assertEquals([await queue.get(w), await queue.get(w)].sort(), [1, 2]);
  });

  timed("ENV-02 flags are handed on", LIMIT_MS, async () => {
    const [file, args] = command(thisRuntime, "process_program.ts", ["flags"]);
    const flag = thisRuntime === "deno" ? "--seed=7" : "--smol";
    await using program = new Program([file, args.toSpliced(1, 0, flag)]);
    const [own, childs] = [JSON.parse(await program.line()), JSON.parse(await program.line())] as string[][];
    assert(own.includes(flag) && childs.includes(flag), JSON.stringify([own, childs]));
    assertEquals(await program.exited, 0);
  });

  timed("ENV-06 arguments are not limited by the system's argument size", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const many = [...Array.from({ length: 5001 }, () => "x".repeat(50)), "sentinel"];
    const child = await new Process({ target: tasks.tellAll, args: [queue, ...many] }).start();
    const got = await queue.get(w) as string[];
    assertEquals([got.length, got.at(-1)], [5002, "sentinel"]);
    await child.join(w);
  });

  timed("RT-11 handles at a module's top level leave nothing in a child", LIMIT_MS, async () => {
    await using program = new Program(command(thisRuntime, "process_top_level.ts"));
    assertEquals([await program.exited, program.errors], [0, ""]);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
