/** How processes end: alone, with their parent, with all that they started. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, rmSync } from "node:fs";
import process from "node:process";
import { Process, ProcessError, Queue, session, task } from "../../multiprocessing/mod.ts";
import * as tasks from "../fixtures/process_tasks.ts";
import { nothing } from "../fixtures/tasks.ts";
import { command, Program, STALL_MS, state, thisRuntime, timed, within } from "./support.ts";

const w = { timeout: STALL_MS };
const LIMIT_MS = 60_000;
const forced = process.env.GEVENTMP_FORCE !== undefined;

/** Where a program makes its session's folder, if that has one; removed with all that is in it. */
class Folder implements Disposable {
  readonly #path = mkdtempSync("/tmp/gt-");
  readonly env: Record<string, string> = { XDG_RUNTIME_DIR: this.#path, TMPDIR: this.#path };

  [Symbol.dispose](): void {
    rmSync(this.#path, { recursive: true });
  }
}

const gone = (pid: number): Promise<void> =>
  within(STALL_MS, `the end of ${pid}`, () => state(pid) === null || state(pid) === "Z");

describe("a process's end", () => {
  timed("comes with a daemon's parent, however that ends", 2 * LIMIT_MS, async () => {
    for (const how of ["end", "exit", "throw", "SIGTERM", "SIGKILL"] as const) {
      // A session with a path is left when a signal ends all of its members.
      using folder = how.startsWith("SIG") ? new Folder() : undefined;
      await using program = new Program(command(thisRuntime, "process_program.ts", ["daemons", how]), {
        env: folder?.env ?? {},
      });
      const pids = JSON.parse(await program.line()) as number[];
      // Without the system's signal a daemon must look for itself, which one that never turns its loop cannot.
      if (forced) process.kill(pids[1], "SIGKILL");
      if (how.startsWith("SIG")) program.child.kill(how as "SIGKILL");
      else if (how !== "end") program.go();
      assertEquals(await program.exited, { end: 0, exit: 5, throw: 1 }[how as string] ?? how);
      for (const pid of pids) await gone(pid);
    }
  });

  timed("is waited for by a parent that would end, unless it is a daemon", LIMIT_MS, async () => {
    await using program = new Program(command(thisRuntime, "process_program.ts", ["waits"]));
    const [first, second] = [await program.line(), await program.line()];
    assertEquals([JSON.parse(first), JSON.parse(second)], ["child 0", "end"]);
    assertEquals(await program.exited, 0);
  });

  timed("a daemon has no children", LIMIT_MS, async () => {
    using queue = new Queue<string>();
    const child = await new Process({ target: tasks.startFromDaemon, args: [queue], daemon: true }).start();
    assert((await queue.get(w)).includes("is a daemon"));
    assertEquals(await child.join(w), 0);
    assertThrows(() => child.daemon = false, TypeError, "has started");
  });

  timed("comes once and silently by Ctrl-C, for the whole tree", LIMIT_MS, async () => {
    using folder = new Folder();
    await using program = new Program(command(thisRuntime, "process_program.ts", ["tree"]), {
      detached: true,
      env: folder.env,
    });
    const [pid] = JSON.parse(await program.line()) as number[];
    process.kill(-program.pid, "SIGINT");
    assertEquals(await program.exited, "SIGINT");
    assertEquals(program.errors, "");
    await gone(pid);
  });

  for (const how of ["terminate", "kill"] as const) {
    timed(`comes by ${how} for all that descends from it`, LIMIT_MS, async () => {
      for (const processGroup of [false, true]) {
        using queue = new Queue<number>();
        const child = new Process({ target: tasks.growTree, args: [queue, 2], processGroup });
        await child.start();
        const pids = [await queue.get(w), await queue.get(w), await queue.get(w)];
        child[how]({ tree: true });
        assertEquals(await child.join(w), how === "kill" ? -9 : -15);
        for (const pid of pids) await gone(pid);
      }
    });
  }

  timed("reaches programs that are none of ours in its process group", LIMIT_MS, async () => {
    using queue = new Queue<number>();
    const child = new Process({ target: tasks.startForeign, args: [queue], processGroup: true });
    await child.start();
    const pid = await queue.get(w);
    child.terminate({ tree: true });
    await child.join(w);
    await gone(pid);
  });

  timed("is the target's own where it handles the signal", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    for (
      const [how, signal, code] of [["terminate", "SIGTERM", 21], ["interrupt", "SIGINT", 22]] as const
    ) {
      const child = await new Process({ target: tasks.handle, args: [queue, signal, code] }).start();
      await queue.get(w);
      child[how]();
      assertEquals(await child.join(w), code);
    }
  });

  timed("comes after all that it put", LIMIT_MS, async () => {
    using queue = new Queue<number>();
    const child = await new Process({ target: tasks.putAndEnd, args: [queue, 2000] }).start();
    assertEquals(await child.exited, 3);
    for (let i = 0; i < 2000; i++) assertEquals(queue.tryGet()?.value, i);
  });

  timed("is seen by joins of every kind at once, and leaves no zombie", LIMIT_MS, async () => {
    using queue = new Queue<number>();
    const child = new Process({ target: tasks.sleepForEver, args: [queue], daemon: true });
    const [first, second] = [child.start(), child.start()];
    await assertRejects(() => second, TypeError, "started already");
    await first;
    const pid = await queue.get(w);
    const abort = new AbortController();
    const aborted = child.join({ signal: abort.signal });
    const others = [child.join(), child.join({ ref: false }), child.join(w), child.exited];
    abort.abort(new Error("no more"));
    await assertRejects(() => aborted, Error, "no more");
    child.kill();
    assertEquals(await Promise.all(others), [-9, -9, -9, -9]);
    assertEquals(state(pid as number), null);
  });

  timed("is known after the session was disposed", LIMIT_MS, async () => {
    const child = await new Process({ target: tasks.sleep, args: [500] }).start();
    await session()[Symbol.asyncDispose]();
    assert(child.isAlive());
    assertEquals([await child.join(w), await child.exited, state(child.pid!)], [0, 0, null]);
  });
});

describe("a process's name", () => {
  timed("tells its place in the tree", LIMIT_MS, async () => {
    using queue = new Queue<string>();
    const child = await new Process({ target: tasks.tellNames, args: [queue, 1] }).start();
    const number = /^Process-(\d+)$/.exec(child.name)![1];
    assertEquals(await child.join(w), 0);
    assertEquals(
      [await queue.get(w), await queue.get(w), await queue.get(w)],
      [`Process-${number}`, `Process-${number}:1`, `Process-${number}:2`],
    );
    assertEquals(new Process({ target: nothing }).name, `Process-${Number(number) + 1}`);
    assertEquals(new Process({ target: nothing, name: "other" }).name, "other");
    assertEquals(new Process({ target: nothing }).name, `Process-${Number(number) + 3}`);
  });
});

describe("a subclass of Process", () => {
  timed("runs its own run with its fields", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const child = new tasks.Adder(40, queue, 1);
    child.more = 2;
    child.name = "adder";
    await child.start();
    assertEquals(await queue.get(w), [42, "adder", "adder", true]);
    assertEquals(await child.join(w), 0);
    assert(new tasks.Adder(1, queue, 1).name.startsWith("Adder-"));
  });

  timed("may call the target by super.run()", LIMIT_MS, async () => {
    using queue = new Queue<unknown>();
    const child = new tasks.Around({ target: tasks.tellParent as never, args: [queue] });
    await child.start();
    const got = [await queue.get(w), await queue.get(w), await queue.get(w)];
    assertEquals(got, ["before", [process.pid, "MainProcess"], "after"]);
    assertEquals(await child.join(w), 0);
  });

  it("must be found by other processes", () => {
    assertThrows(() => new tasks.Unregistered(), TypeError, "task(import.meta, Unregistered)");
    assertThrows(() => new Process(), TypeError, "task or a URL");
    assertEquals(new Process({ target: task(import.meta, () => 7, "seven") }).run(), 7);
    assert(new ProcessError("x").code === "ERR_PROCESS");
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
