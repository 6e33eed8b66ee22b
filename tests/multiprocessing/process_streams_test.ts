/** Standard streams of children. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { Process, session, SystemError } from "../../multiprocessing/mod.ts";
import * as tasks from "../fixtures/process_tasks.ts";
import { nothing } from "../fixtures/tasks.ts";
import { command, descriptors, pause, Program, STALL_MS, thisRuntime, timed } from "./support.ts";

const w = { timeout: STALL_MS };
const LIMIT_MS = 60_000;
const PIPED = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;

async function bytes(stream: ReadableStream<Uint8Array> | null): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}

async function text(stream: ReadableStream<Uint8Array> | null): Promise<string> {
  return new TextDecoder().decode(await bytes(stream));
}

describe("a child's standard streams", () => {
  timed("carry what is written, in pieces larger than the system keeps", LIMIT_MS, async () => {
    const child = new Process({ target: tasks.capitals, ...PIPED });
    assertEquals([child.stdin, child.stdout, child.stderr], [null, null, null]);
    await child.start();
    const sent = "abcdefgh".repeat(128 * 1024);
    const writer = child.stdin!.getWriter();
    const written = (async () => {
      await writer.write(new TextEncoder().encode("first "));
      await writer.write(new TextEncoder().encode(sent));
      await writer.close();
    })();
    const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
    await written;
    assertEquals(out.length, sent.length + 6);
    assert(out === `FIRST ${sent.toUpperCase()}`);
    assertEquals(errors, `${sent.length + 6} bytes`);
    assertEquals(await child.join(w), 0);
  });

  timed("hold a child back that nobody reads, and keep what it wrote after its end", LIMIT_MS, async () => {
    const size = 3 * 1024 * 1024;
    const child = await new Process({ target: tasks.write, args: [size], stdout: "piped" }).start();
    await assertRejects(() => child.join({ timeout: 1000 }), Error, "still ran");
    const reader = child.stdout!.getReader();
    let count = 0;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      assert(value.every((byte) => byte === 120));
      count += value.length;
    }
    assertEquals([count, await child.join(w)], [size, 0]);

    const short = await new Process({ target: tasks.write, args: [1000], stdout: "piped" }).start();
    assertEquals(await short.join(w), 0);
    assertEquals((await bytes(short.stdout)).length, 1000);
  });

  timed("are at their end when the child is killed, and refuse what is written then", LIMIT_MS, async () => {
    const child = await new Process({ target: tasks.capitals, ...PIPED }).start();
    const writer = child.stdin!.getWriter();
    writer.closed.catch(() => {});
    await writer.write(new TextEncoder().encode("x"));
    child.kill();
    assertEquals(await child.join(w), -9);
    await text(child.stdout);
    const error = await assertRejects(async () => {
      for (let i = 0; i < 100; i++) {
        await writer.write(new Uint8Array(1024));
        await pause(1);
      }
    }, SystemError) as SystemError;
    assertEquals(error.code, "EPIPE");
  });

  timed("hold no child back once they are cancelled", LIMIT_MS, async () => {
    const child = new Process({
      target: tasks.write,
      args: [3 * 1024 * 1024],
      stdout: "piped",
      stderr: "null",
    });
    await child.start();
    const reader = child.stdout!.getReader();
    assertEquals((await reader.read()).done, false);
    await reader.cancel();
    await child.join(w);
  });

  timed("go nowhere, and are refused by wrong names", LIMIT_MS, async () => {
    assertThrows(
      () => new Process({ target: nothing, stdout: "pipe" as "piped" }),
      TypeError,
      `"inherit", "null" or "piped"`,
    );
    const child = new Process({ target: tasks.capitals, stdin: "null", stdout: "null", stderr: "piped" });
    await child.start();
    assertEquals([child.stdin, child.stdout], [null, null]);
    assertEquals(await text(child.stderr), "0 bytes");
    assertEquals(await child.join(w), 0);
  });

  timed("leave no descriptor", LIMIT_MS, async () => {
    const run = async (read: boolean): Promise<void> => {
      const child = await new Process({ target: tasks.write, args: [100], ...PIPED }).start();
      if (read) await text(child.stdout);
      await child.join(w);
      child.close();
      await pause(20);
    };
    await run(true);
    const before = descriptors();
    for (let i = 0; i < 3; i++) await run(i === 0);
    assertEquals(descriptors(), before);
  });

  timed("keep no program from ending that does not read them", LIMIT_MS, async () => {
    await using program = new Program(command(thisRuntime, "process_program.ts", ["unread"]));
    const started = Number(await program.line());
    assertEquals(await program.exited, 0);
    assert(started > 0);
  });

  if (thisRuntime === "deno") {
    timed("work without permission to use the network", LIMIT_MS, async () => {
      const [file, args] = command("deno", "process_program.ts", ["streams"]);
      const narrow = args.flatMap((arg) =>
        arg === "-A" ? ["--allow-ffi", "--allow-env", "--allow-read", "--allow-sys"] : [arg]
      );
      await using program = new Program([file, narrow]);
      assertEquals(JSON.parse(await program.line()), "HELLO");
      assertEquals(await program.exited, 0);
    });
  }
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
