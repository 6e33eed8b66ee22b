/** From what programs processes are started, and what modules they run. That tests start them is what all tests here show. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Process, Queue, session } from "../../multiprocessing/mod.ts";
import { command, Program, STALL_MS, thisRuntime, timed } from "./support.ts";

const w = { timeout: STALL_MS };
const LIMIT_MS = 60_000;
const module = new URL("../../multiprocessing/mod.ts", import.meta.url).href;
const target = new URL("../fixtures/module_target.ts", import.meta.url).href;

/** Runs a module in a child, then tries to run a task of its own. */
const PROGRAM = `
import { Process, Queue, task } from ${JSON.stringify(module)};
const queue = new Queue();
const child = new Process({ target: new URL(${JSON.stringify(target)}), args: [queue, 6] });
await child.start();
console.log(await queue.get(), await child.join());
const own = task(import.meta, function own() {});
try {
  await new Process({ target: own }).start();
} catch (error) {
  console.log(error.name + ": " + error.message);
}
`;

describe("a program", () => {
  const [file] = command(thisRuntime, "nothing.ts");
  const ways = thisRuntime === "deno"
    ? { "deno eval": ["eval", "--no-check", PROGRAM], "deno run -": ["run", "-A", "--no-check", "-"] }
    : { "bun -e": ["-e", PROGRAM], "bun run -": ["run", "-"] };
  for (const [name, args] of Object.entries(ways)) {
    timed(
      `by ${name} starts modules, and says that no other process can read its tasks`,
      LIMIT_MS,
      async () => {
        await using program = new Program([file, args]);
        program.child.stdin!.end(args.at(-1) === "-" ? PROGRAM : "");
        assertEquals(await program.line(), "36 0");
        const message = await program.line();
        assert(
          message.startsWith("TypeError: Cannot load") && message.includes("move the target to a file"),
          message,
        );
        assertEquals(await program.exited, 0);
      },
    );
  }
});

describe("a target", () => {
  timed("may be a data: URL", LIMIT_MS, async () => {
    using queue = new Queue<number>();
    const code = `export default async (queue, n) => { await queue.put(n + 0.5) }`;
    const url = new URL(`data:text/javascript,${encodeURIComponent(code)}`);
    const child = await new Process({ target: url, args: [queue, 1] }).start();
    assertEquals([await queue.get(w), await child.join(w)], [1.5, 0]);
  });

  timed("that exists in its own process only is refused", LIMIT_MS, async () => {
    const blob = URL.createObjectURL(new Blob(["export default 1"], { type: "text/javascript" }));
    await assertRejects(() => new Process({ target: new URL(blob) }).start(), TypeError, "file: or data:");
    URL.revokeObjectURL(blob);
  });

  timed("of a registry is Deno's affair, and refused on Bun", LIMIT_MS, async () => {
    for (const name of ["npm:@karellen/does-not-exist", "jsr:@karellen/does-not-exist"]) {
      const child = new Process({ target: new URL(name), stderr: "piped", env: { NO_COLOR: "1" } });
      if (thisRuntime === "bun") {
        await assertRejects(() => child.start(), TypeError, "install the package");
        continue;
      }
      // No test needs the network: what counts is that the child asked for it and said so.
      await child.start();
      const written = await new Response(child.stderr as ReadableStream<Uint8Array<ArrayBuffer>>).text();
      assertEquals(await child.join(w), 1);
      assert(written.includes("does-not-exist"), written);
    }
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
