/** A lock that a blocked process merely waits for goes to others, by each call that is patched; and it is the patch that does it. */
import { assertEquals } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { thisRuntime, timed } from "../multiprocessing/support.ts";
import { said } from "./support.ts";

const own = thisRuntime === "bun" ? ["Bun.spawnSync"] : ["Deno.Command", "Deno.spawnAndWaitSync"];

async function run(call: string, mode: string): Promise<unknown> {
  const { lines, errors, ended } = await said(thisRuntime, "patch_program.ts", {
    args: ["parent", call, mode],
  });
  assertEquals(errors, "");
  assertEquals(ended, 0);
  return JSON.parse(lines[0]);
}

for (const call of [...own, "spawnSync", "execSync", "execFileSync"]) {
  describe(`a child run by ${call}`, () => {
    timed(
      "takes the lock that its blocked parent waits for, and then the parent has it",
      40_000,
      async () => {
        assertEquals(await run(call, "patch"), {
          child: "taken",
          parent: "acquired",
          held: 0,
          patched: true,
        });
      },
    );

    timed("is refused the lock without the patch", 40_000, async () => {
      assertEquals(await run(call, "no patch"), {
        child: "refused",
        parent: "acquired",
        held: 0,
        patched: false,
      });
    });
  });
}
