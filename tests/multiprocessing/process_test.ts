import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  activeChildren,
  cpuCount,
  currentProcess,
  parentProcess,
  Process,
  Queue,
  session,
  task,
  TimeoutError,
} from "../../multiprocessing/mod.ts";
import { grandchild, nothing, report, throwing, wait } from "../fixtures/tasks.ts";

describe("Process", () => {
  it("runs a task with its arguments", async () => {
    using queue = new Queue<unknown>();
    const child = new Process({
      target: report,
      args: [queue, 1, { two: [2n] }],
      name: "worker",
      daemon: true,
    });
    assertEquals(child.pid, undefined);
    assertEquals(child.exitCode, null);
    assertEquals(child.isAlive(), false);
    await child.start();
    assert(activeChildren().some((process) => process.pid === child.pid));
    assertEquals(await queue.get({ timeout: 20_000 }), {
      args: [1, { two: [2n] }],
      name: "worker",
      parent: "MainProcess",
      daemon: true,
      pid: child.pid,
    });
    assertEquals(await child.join({ timeout: 20_000 }), 0);
    assertEquals(await child.exited, 0);
    assertEquals(child.exitCode, 0);
    assertEquals(child.isAlive(), false);
    assert(!activeChildren().some((process) => process.pid === child.pid));
    child.close();
    child.close();
    assertThrows(() => child.isAlive(), TypeError, "closed");
  });

  it("has grandchildren in the same session", async () => {
    using queue = new Queue<unknown>();
    await using child = await new Process({ target: grandchild, args: [queue], name: "child" }).start();
    const { name, parent, args } = await queue.get({ timeout: 30_000 }) as {
      name: string;
      parent: string;
      args: unknown[];
    };
    assertEquals({ name, parent, args }, { name: "grandchild", parent: "child", args: ["from below"] });
    assertEquals(await child.join({ timeout: 20_000 }), 0);
  });

  it("runs the default export of a module", async () => {
    using queue = new Queue<unknown>();
    await using child = await new Process({
      target: new URL("../fixtures/module_target.ts", import.meta.url),
      args: [queue, 5],
    }).start();
    assertEquals(await queue.get({ timeout: 20_000 }), 25);
    assertEquals(await child.join({ timeout: 20_000 }), 0);
  });

  it("ends with 1 when its target throws, does not exist, or is no function for its arguments", async () => {
    const missing = new URL("../fixtures/does_not_exist.ts", import.meta.url);
    const script = new URL("../fixtures/module_script.ts", import.meta.url);
    const children = [
      new Process({ target: throwing, stderr: "null" }),
      new Process({ target: missing, stderr: "null" }),
      new Process({ target: script, args: [1], stderr: "null" }),
    ];
    for (const child of children) assertEquals(await (await child.start()).join({ timeout: 20_000 }), 1);
    assertEquals(await (await new Process({ target: script }).start()).join({ timeout: 20_000 }), 0);
  });

  it("refuses what cannot be started, before it starts anything", async () => {
    const plain = (): void => {};
    assertThrows(() => new Process({ target: plain }), TypeError, "no task");
    assertThrows(() => new Process({ target: "x" as unknown as URL }), TypeError, "task or a URL");
    assertThrows(() => new Process({ target: nothing, startMethod: "fork" }), RangeError, "spawn");
    assertThrows(() => task(import.meta, () => {}), TypeError, "anonymous");
    await assertRejects(
      () => new Process({ target: report, args: [() => {}] as never }).start(),
      TypeError,
      "function",
    );
    await assertRejects(
      () => new Process({ target: nothing, cwd: "/does/not/exist" }).start(),
      Error,
      "/does/not/exist",
    );
    await assertRejects(() => new Process({ target: nothing }).join(), TypeError, "not started");
    const child = await new Process({ target: nothing }).start();
    await assertRejects(() => child.start(), TypeError, "started already");
    await child.join({ timeout: 20_000 });
  });

  it("is ended by signals, and joined from several places", async () => {
    using ready = new Queue<unknown>();
    for (const [how, code] of [["terminate", -15], ["kill", -9]] as const) {
      const child = await new Process({ target: wait, args: [ready] }).start();
      await ready.get({ timeout: 20_000 });
      await assertRejects(() => child.join({ timeout: 0 }), TimeoutError);
      await assertRejects(() => child.join({ timeout: 10 }), TimeoutError);
      assertThrows(() => child.close(), TypeError, "still runs");
      child[how]();
      assertEquals(await Promise.all([child.join(), child.join(), child.exited]), [code, code, code]);
      child[how]();
    }
  });

  it("can be joined synchronously", async () => {
    const child = await new Process({ target: nothing }).start();
    assertEquals(child.joinSync({ allowBlocking: true, timeout: 20_000 }), 0);
  });

  it("gives the child its environment and folder", async () => {
    using queue = new Queue<unknown>();
    const target = new URL("../fixtures/module_environment.ts", import.meta.url);
    await using _child = await new Process({
      target,
      args: [queue, "GEVENTMP_TEST"],
      env: { GEVENTMP_TEST: "ü" },
      cwd: "/",
    }).start();
    assertEquals(await queue.get({ timeout: 20_000 }), ["ü", "/"]);
    await using _empty = await new Process({ target, args: [queue, "HOME"], clearEnv: true }).start();
    assertEquals((await queue.get({ timeout: 20_000 }) as unknown[])[0], undefined);
  });

  it("is known from within", () => {
    assertEquals(currentProcess().name, "MainProcess");
    assertEquals(parentProcess(), null);
    assert(cpuCount() >= 1);
    assertMatch(String(new Process({ target: nothing, name: "x" })), /x, no pid, not started/);
  });

  it("leaves no descriptor, zombie or place behind", async () => {
    const { readdirSync } = await import("node:fs");
    const run = async (): Promise<void> =>
      void await (await new Process({ target: nothing }).start()).join({ timeout: 20_000 });
    await run();
    const before = readdirSync("/proc/self/fd").length;
    for (let i = 0; i < 10; i++) await run();
    await Promise.all(Array.from({ length: 6 }, run));
    assertEquals(readdirSync("/proc/self/fd").length, before);
  });
});

// "bun test" ends without an exit event, in which a session with a path would be left.
describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
