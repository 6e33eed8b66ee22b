/** Who joins a session, by what way, and who does not. */
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import process from "node:process";
import { Lock, Process, Queue, session } from "../../multiprocessing/mod.ts";
import { LAYOUT, MAX_AGENTS } from "../../multiprocessing/core/layout.ts";
import { current } from "../../multiprocessing/core/session.ts";
import { closeFd, reopen, sharedPath } from "../../platform/mod.ts";
import { nameHandles, type Table, tellBelow, tellInherited, type Turn } from "../fixtures/join_tasks.ts";
import {
  backTo,
  command,
  otherRuntime,
  Program,
  STALL_MS,
  thisRuntime,
  timed,
  use,
  within,
} from "./support.ts";

const ROUNDS = 200;

function record(): string[] {
  session();
  return process.env.GEVENTMP_SESSION!.split(":");
}

function makeTable(): Table {
  return [new Lock(), new Queue<Turn>(), new Queue<Turn>()];
}

/** This side's half of `takeTurns`. */
async function play([lock, there, back]: Table, runtime: string): Promise<void> {
  for (let i = 0; i < ROUNDS; i++) {
    {
      using _guard = await lock.acquire({ timeout: STALL_MS });
      await there.put([thisRuntime, i]);
    }
    assertEquals(await back.get({ timeout: STALL_MS }), [runtime, i]);
  }
}

/** Makes a Worker from a fixture; both runtimes have this global. */
function worker(fixture: string): {
  postMessage(value: unknown): void;
  terminate(): void;
  next(): Promise<{ inherited: boolean }>;
} {
  const { Worker } = globalThis as unknown as {
    Worker: new (url: URL, options: { type: "module" }) => {
      onmessage: (event: { data: { inherited: boolean } }) => void;
      onerror: (event: { message: string }) => void;
      postMessage(value: unknown): void;
      terminate(): void;
    };
  };
  const made = new Worker(new URL(`../fixtures/${fixture}`, import.meta.url), { type: "module" });
  return {
    postMessage: (value) => made.postMessage(value),
    terminate: () => made.terminate(),
    next: () =>
      new Promise((resolve, reject) => {
        made.onmessage = ({ data }) => resolve(data);
        made.onerror = ({ message }) => reject(new Error(message));
      }),
  };
}

/** Runs a program by the runtime's own call, as a user would. */
async function runByOwnCall([file, args]: [string, string[]]): Promise<string> {
  const { Bun, Deno } = globalThis as unknown as {
    Bun?: { spawn(line: string[], options: object): { stdout: ReadableStream; exited: Promise<number> } };
    Deno?: {
      Command: new (
        file: string,
        options: object,
      ) => { output(): Promise<{ code: number; stdout: Uint8Array }> };
    };
  };
  if (Bun !== undefined) {
    const child = Bun.spawn([file, ...args], { stdout: "pipe", env: process.env });
    const text = await new Response(child.stdout).text();
    assertEquals(await child.exited, 0);
    return text;
  }
  const { code, stdout } = await new Deno!.Command(file, { args, stdout: "piped", stderr: "inherit" })
    .output();
  assertEquals(code, 0);
  return new TextDecoder().decode(stdout);
}

describe("in the session is", () => {
  timed("a child, and its child", 40_000, async () => {
    const before = use();
    const queue = new Queue<unknown>();
    for (const target of [tellInherited, tellBelow]) {
      const child = await new Process({ target, args: [queue] }).start();
      assertEquals(await queue.get({ timeout: STALL_MS }), { inherited: true, runtime: thisRuntime });
      assertEquals(await child.join({ timeout: STALL_MS }), 0);
    }
    queue[Symbol.dispose]();
    await backTo(before);
  });

  timed("a Worker, which is an agent of its own", 40_000, async () => {
    const before = use();
    const table = makeTable();
    const made = worker("join_worker.ts");
    made.postMessage({ rounds: ROUNDS, handles: nameHandles(table) });
    const done = made.next();
    await play(table, thisRuntime);
    assertEquals(await done, { inherited: true });
    assertEquals(use().agents, before.agents + 1);
    made.terminate();
    for (const handle of table) handle[Symbol.dispose]();
    // Its place and its descriptor are given back once its thread is gone.
    await within(STALL_MS, "the Worker's end", () => {
      current().agents.reapAll();
      return use().agents === before.agents;
    });
    await backTo(before);
  });

  timed("a Worker that is terminated with a lock in its hand", 40_000, async () => {
    const before = use();
    const lock = new Lock();
    const made = worker("join_worker.ts");
    made.postMessage({ rounds: 0, handles: nameHandles([lock]) });
    assertEquals(await made.next(), { inherited: true });
    assertEquals(lock.tryAcquire(), null);
    const waiting = lock.acquire({ timeout: STALL_MS });
    made.terminate();
    const guard = await waiting;
    assertEquals(guard.abandoned, true);
    guard.release();
    lock[Symbol.dispose]();
    await backTo(before);
  });

  timed("a program that the runtime's own call started", 40_000, async () => {
    const [, nonce] = record();
    const before = use();
    const told = await runByOwnCall(command(thisRuntime, "join_program.ts", ["report"]));
    assertEquals(JSON.parse(told), { inherited: true, nonce });
    await backTo(before);
  });

  for (const runtime of [thisRuntime, otherRuntime]) {
    timed(`a ${runtime} program that shares locks and queues with this one`, 60_000, async () => {
      const before = use();
      const table = makeTable();
      await using program = new Program(
        command(runtime, "join_program.ts", ["turns", String(ROUNDS), nameHandles(table)]),
      );
      await play(table, runtime);
      assertEquals(JSON.parse(await program.line()), "done");
      assertEquals(await program.exited, 0);
      for (const handle of table) handle[Symbol.dispose]();
      await backTo(before);
    });

    timed(`the child of a ${runtime} program`, 60_000, async () => {
      const before = use();
      const table = makeTable();
      await using program = new Program(
        command(runtime, "join_program.ts", ["turns-of-child", String(ROUNDS), nameHandles(table)]),
      );
      await play(table, runtime);
      assertEquals(JSON.parse(await program.line()), 0);
      assertEquals(await program.exited, 0);
      for (const handle of table) handle[Symbol.dispose]();
      await backTo(before);
    });
  }

  timed(`a ${otherRuntime} program that is killed with a lock in its hand`, 40_000, async () => {
    const before = use();
    const lock = new Lock();
    await using program = new Program(
      command(otherRuntime, "join_program.ts", ["hold", nameHandles([lock])]),
    );
    assertEquals(JSON.parse(await program.line()), "held");
    const waiting = lock.acquire({ timeout: STALL_MS });
    program.child.kill("SIGKILL");
    const guard = await waiting;
    assertEquals(guard.abandoned, true);
    guard.release();
    lock[Symbol.dispose]();
    await program.exited;
    await backTo(before);
  });

  timed("a detached program whose parent is gone", 40_000, async () => {
    const [, nonce] = record();
    const before = use();
    const [file, args] = command(thisRuntime, "join_program.ts", ["report-late"]);
    await using parent = new Program(command(thisRuntime, "join_program.ts", ["detach", file, ...args]));
    assertEquals(JSON.parse(await parent.line()), { inherited: true });
    assertEquals(JSON.parse(await parent.line()), "up");
    assertEquals(JSON.parse(await parent.line()), { inherited: true, nonce });
    assertEquals(await parent.exited, 0);
    await within(STALL_MS, "the reaping of both", () => {
      current().agents.reapAll();
      return use().agents === before.agents;
    });
  });
});

describe("not in the session is", () => {
  timed("a program whose environment is of a session that is gone", 40_000, async () => {
    await using lender = new Program(command(thisRuntime, "join_program.ts", ["lend"]), {
      env: { GEVENTMP_SESSION: undefined },
    });
    const { record } = JSON.parse(await lender.line());
    lender.child.kill("SIGKILL");
    await lender.exited;
    await using late = new Program(command(thisRuntime, "join_program.ts", ["report"]), {
      env: { GEVENTMP_SESSION: record },
    });
    const report = JSON.parse(await late.line());
    assertEquals(report.inherited, false);
    assertNotEquals(report.nonce, record.split(":")[1]);
    assertEquals(await late.exited, 0);
  });

  timed("a program with a record that is none, or of another memory", 40_000, async () => {
    const [layout, nonce, ...rest] = record();
    const other = nonce.replace(/./g, (digit) => digit === "0" ? "1" : "0");
    for (const text of ["nonsense", `${layout}:${other}:${rest.join(":")}`, `${layout}:${nonce}`]) {
      await using program = new Program(command(thisRuntime, "join_program.ts", ["report"]), {
        env: { GEVENTMP_SESSION: text },
      });
      assertEquals(JSON.parse(await program.line()).inherited, false, text);
      assertEquals(await program.exited, 0);
    }
  });

  timed("a program of another layout, which is told so", 40_000, async () => {
    const [layout, ...rest] = record();
    assertEquals(Number(layout), LAYOUT);
    const before = use();
    await using program = new Program(command(thisRuntime, "join_program.ts", ["report"]), {
      env: { GEVENTMP_SESSION: [LAYOUT + 1, ...rest].join(":") },
    });
    const { error } = JSON.parse(await program.line());
    assertMatch(
      error,
      new RegExp(
        `^Cannot join the session of process \\d+: its shared memory has layout version ${
          LAYOUT + 1
        }, and .* version ${LAYOUT} of`,
      ),
    );
    assertMatch(error, /use one version/);
    assertEquals(await program.exited, 0);
    assertEquals(use(), before);
  });
});

describe("a full table of agents", () => {
  timed("is cleared of the dead by who joins", 60_000, async () => {
    const { arena, agents } = current();
    const before = use();
    // Places whose life locks are closed are places of the dead.
    const fds: number[] = [];
    for (let i = before.agents; i < MAX_AGENTS; i++) {
      const fd = reopen(arena.fd, sharedPath(arena.fd) ?? undefined);
      fds.push(fd);
      agents.take(fd, 0);
    }
    assertEquals(use().agents, MAX_AGENTS);
    await using refused = new Program(command(thisRuntime, "join_program.ts", ["report"]));
    assertEquals(await refused.exited, 1);
    assertMatch(refused.errors, /all 1024 places are taken by living agents/);
    for (const fd of fds) closeFd(fd);
    assertEquals(use().agents, MAX_AGENTS);
    await using program = new Program(command(thisRuntime, "join_program.ts", ["report"]));
    assertEquals(JSON.parse(await program.line()).inherited, true);
    assertEquals(await program.exited, 0);
    assert(use().agents <= before.agents + 1, `${use().agents} are left`);
    await backTo(before);
  });
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
