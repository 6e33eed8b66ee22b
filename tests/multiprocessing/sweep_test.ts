/** Where shared memory has a path: what killed sessions left is removed by the next one made there, and nothing else is. */
import { assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { command, otherRuntime, pause, Program, thisRuntime, timed } from "./support.ts";

/** A folder for sessions, with a name short enough for a socket inside; and the environment in which they are made there. */
function place(): { folder: string; env: Record<string, string | undefined> } {
  const folder = mkdtempSync("/tmp/gs-");
  const env = { GEVENTMP_FORCE: "darwin-fallbacks", GEVENTMP_SESSION: undefined, XDG_RUNTIME_DIR: folder };
  return { folder, env };
}

describe("sessions with a path", () => {
  timed("go when all their processes were killed, as soon as another is made there", 60_000, async () => {
    const { folder, env } = place();
    await using root = new Program(command(thisRuntime, "kill_root.ts"), { env });
    const { pids } = JSON.parse(await root.line()) as { pids: number[] };
    await using living = new Program(command(thisRuntime, "kill_root.ts"), { env });
    const others = JSON.parse(await living.line()) as { pids: number[] };
    assertEquals(readdirSync(folder).length, 2);
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    for (const pid of pids) process.kill(pid, "SIGKILL");
    assertEquals(await root.exited, "SIGKILL");
    const left = readdirSync(folder).length;
    await using next = new Program(command(otherRuntime, "sweep_program.ts", ["1"]), { env });
    await next.line();
    assertEquals(await next.exited, 0, next.errors);
    assertEquals([left, readdirSync(folder).length], [2, 1]);
    for (const pid of others.pids) process.kill(pid, "SIGKILL");
    await living.exited;
    await using last = new Program(command(thisRuntime, "sweep_program.ts", ["1"]), { env });
    assertEquals(await last.exited, 0, last.errors);
    assertEquals(readdirSync(folder), []);
    rmSync(folder, { recursive: true });
  });

  timed("are untouched by sweeps without a pause, whatever they are at", 110_000, async () => {
    const { folder, env } = place();
    const start = (fixture: string, ...args: string[]): Program =>
      new Program(command(thisRuntime, fixture, args), { env });
    await using sweeper = start("sweeper.ts", "sweep", `${folder}/geventmp-000000/geventmp`);
    assertEquals(await sweeper.line(), '"ready"');
    await using one = start("sweep_program.ts", "30");
    await using two = start("sweep_program.ts", "30");
    await using maker = start("sweeper.ts", "make", "300");
    for (let kill = 0; kill < 4; kill++) {
      await using victim = start("sweeper.ts", "make", "1000000");
      await victim.line();
      await pause(Math.random() * 40);
      victim.child.kill("SIGKILL");
      assertEquals(await victim.exited, "SIGKILL", victim.errors);
    }
    for (const each of [one, two, maker]) assertEquals(await each.exited, 0, each.errors);
    sweeper.child.kill("SIGKILL");
    await sweeper.exited;
    await using last = start("sweep_program.ts", "1");
    assertEquals(await last.exited, 0, last.errors);
    assertEquals(readdirSync(folder), []);
    rmSync(folder, { recursive: true });
  });

  timed(
    "leave nothing of a Worker that was terminated, at the latest when the next is made",
    60_000,
    async () => {
      for (const how of ["gone", "living"]) {
        const { folder, env } = place();
        await using program = new Program(command(thisRuntime, "sweep_worker_program.ts", [how]), { env });
        assertEquals(await program.exited, 0, program.errors);
        if (how === "living") {
          await using next = new Program(command(thisRuntime, "sweep_program.ts", ["1"]), { env });
          assertEquals(await next.exited, 0, next.errors);
        }
        assertEquals(readdirSync(folder), [], how);
        rmSync(folder, { recursive: true });
      }
    },
  );
});
