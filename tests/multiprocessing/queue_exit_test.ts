/** A process ends while puts of its wait for room. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Process, Queue, session } from "../../multiprocessing/mod.ts";
import { putAndExit } from "../fixtures/queue_tasks.ts";
import { command, Program, STALL_MS, thisRuntime, timed } from "./support.ts";

describe("process.exit()", () => {
  timed("sends what waits for room, while somebody takes", 40_000, async () => {
    using queue = new Queue<number>({ maxSize: 2 });
    const child = await new Process({ target: putAndExit, args: [queue, 200, 7] }).start();
    for (let i = 0; i < 200; i++) assertEquals(await queue.get({ timeout: STALL_MS }), i);
    assertEquals(await child.join({ timeout: STALL_MS }), 7);
    assertEquals(queue.tryGet(), null);
  });

  timed("says at once what is lost when nobody else has the queue", 40_000, async () => {
    await using program = new Program(command(thisRuntime, "exit_program.ts", ["alone"]), {
      env: { GEVENTMP_SESSION: undefined },
    });
    assertEquals(await program.exited, 3);
    assertMatch(program.errors, /geventmp: 3 items are lost .*no other process had it.*await put\(\)/);
  });

  timed("says what is lost when nobody takes in time", 40_000, async () => {
    const start = performance.now();
    await using program = new Program(command(thisRuntime, "exit_program.ts", ["shared"]), {
      env: { GEVENTMP_SESSION: undefined },
    });
    assertEquals(await program.exited, 3);
    assertMatch(program.errors, /geventmp: 3 items are lost .*within 2000 ms/);
    assert(performance.now() - start > 2000);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
