/** What the tests of dying, stopped and joining processes share. */
import { assert } from "@std/assert";
import { it } from "@std/testing/bdd";
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import {
  CONTINUED,
  FIRST_SPAN,
  FREE,
  H_EXTENT,
  SPAN_CLASS,
  SPAN_MULTI,
  SPAN_SHIFT,
  SPANS,
} from "../../multiprocessing/core/layout.ts";
import { current } from "../../multiprocessing/core/session.ts";

/** Longest that anything may take which is not to hang. */
export const STALL_MS = 20_000;

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A test with a deadline. */
export function timed(name: string, ms: number, body: () => Promise<void>): void {
  it(name, async () => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const over = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`"${name}" was not done within ${ms} ms`)), ms);
    });
    try {
      await Promise.race([body(), over]);
    } finally {
      clearTimeout(timer);
    }
  });
}

/** Waits until a condition holds. */
export async function within(ms: number, what: string, condition: () => boolean): Promise<void> {
  const start = performance.now();
  while (!condition()) {
    if (performance.now() - start > ms) throw new Error(`${what} did not come within ${ms} ms`);
    await pause(2);
  }
}

/** The process's state letter, as `ps` shows it: "T" when it is stopped; null when it is gone. */
export function state(pid: number): string | null {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "")[0];
  } catch {
    return null;
  }
}

/** Number of a process's parent. */
export function parentOf(pid: number | "self"): number {
  return Number(readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) . /s, "").split(" ")[0]);
}

/** What the arena holds. Spans differ with the order of frees; see {@linkcode checkSpans}. */
export function use(): { blocks: number; agents: number; held: number } {
  const { blocks, agents, held } = current().use();
  return { blocks, agents, held };
}

/** Waits until the arena holds what it held before, the dead reaped; then checks that no span is lost. */
export async function backTo(before: ReturnType<typeof use>): Promise<void> {
  const { agents, arena } = current();
  agents.reapAll();
  const wanted = JSON.stringify(before);
  try {
    await within(STALL_MS, `the arena with ${wanted}`, () => JSON.stringify(use()) === wanted);
  } catch (error) {
    throw new Error(`${(error as Error).message}: it has ${JSON.stringify(use())}: ${describeBlocks()}`);
  }
  const m = arena.i32;
  const extent = m[H_EXTENT];
  let run = 0;
  for (let span = FIRST_SPAN; span < extent; span++) {
    const owner = m[SPANS + span * 2];
    const info = m[SPANS + span * 2 + 1];
    if (run-- > 0) {
      assert(owner < 0, `span ${span} is missing from the block before it`);
      continue;
    }
    run = 0;
    if (owner === 0) continue;
    assert(owner !== CONTINUED && owner > 0, `span ${span} belongs to a block that is gone`);
    assert(info !== 0, `span ${span} is claimed for nothing`);
    if ((info & SPAN_MULTI) !== 0) {
      assert((m[span << SPAN_SHIFT] & 3) !== FREE, `span ${span} holds a large block that is free`);
      run = (info & ~SPAN_MULTI) - 1;
    } else assert((info & SPAN_CLASS) !== 0);
  }
}

/** Kinds of the blocks that are not free, for messages. */
function describeBlocks(): string {
  const { arena } = current();
  const kinds: string[] = [];
  arena.visitBlocks(0, (block) => {
    kinds.push(`${arena.kind(block)}@${block} ${[...arena.i32.subarray(block, block + 40)].join(",")}`);
  }, () => kinds.length < 40);
  return kinds.join("\n");
}

/** Leaves the session as its last member: a Worker that was told to end is one until its thread is gone. */
export async function leaveLast(): Promise<void> {
  const session = current();
  await within(STALL_MS, "the end of all others", () => {
    session.agents.reapAll();
    return session.agents.all().length === 1;
  });
  await session.close();
}

/** Numbers of this process's open descriptors. */
export function descriptors(): number {
  const { readdirSync } = process.getBuiltinModule("node:fs");
  return readdirSync("/proc/self/fd").length;
}

export type Runtime = "deno" | "bun";
export const thisRuntime: Runtime = "Bun" in globalThis ? "bun" : "deno";
export const otherRuntime: Runtime = thisRuntime === "bun" ? "deno" : "bun";

/** The program and arguments that run a fixture on a runtime. */
export function command(runtime: Runtime, fixture: string, args: string[] = []): [string, string[]] {
  const program = fileURLToPath(new URL(`../../node_modules/.bin/${runtime}`, import.meta.url));
  const script = fileURLToPath(new URL(`../fixtures/${fixture}`, import.meta.url));
  return [
    program,
    runtime === "deno"
      ? ["run", "-A", "--no-prompt", "--no-check", "--v8-flags=--expose-gc", script, ...args]
      : ["run", script, ...args],
  ];
}

/** A program that talks in lines. */
export class Program implements AsyncDisposable {
  readonly child: ChildProcess;
  /** Resolves with its exit code, or the name of the signal that ended it. */
  readonly exited: Promise<number | string>;
  errors = "";
  readonly #lines: string[] = [];
  #arrived: () => void = () => {};
  #ended = false;

  constructor(
    [file, args]: [string, string[]],
    { env = {}, detached = false, inherit = false }: {
      /** Variables over this process's own; undefined takes one away. */
      env?: Record<string, string | undefined>;
      detached?: boolean;
      /** Whether it reads and writes where this process does. */
      inherit?: boolean;
    } = {},
  ) {
    this.child = spawn(file, args, {
      env: Object.fromEntries(
        Object.entries({ ...process.env, NO_COLOR: "1", ...env }).filter(([, value]) => value !== undefined),
      ),
      detached,
      stdio: inherit ? "inherit" : "pipe",
    });
    this.exited = new Promise((resolve) =>
      this.child.on("close", (code, signal) => {
        this.#ended = true;
        this.#arrived();
        resolve(code ?? signal!);
      })
    );
    if (inherit) return;
    this.child.stderr!.on("data", (data) => this.errors += data);
    createInterface({ input: this.child.stdout! }).on("line", (line) => {
      this.#lines.push(line);
      this.#arrived();
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Its next line. */
  async line(): Promise<string> {
    while (this.#lines.length === 0) {
      if (this.#ended) throw new Error(`the program ended without a line more: ${this.errors}`);
      await new Promise<void>((resolve) => this.#arrived = resolve);
    }
    return this.#lines.shift()!;
  }

  /** Ends what it waits for. */
  go(): void {
    this.child.stdin!.write("go\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }
}

/** For fixtures: one JSON line to whoever started this program. */
export function tell(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** For fixtures: waits for a line on standard input. */
export function told(): Promise<void> {
  return new Promise((resolve) =>
    process.stdin.once("data", () => {
      process.stdin.pause();
      resolve();
    })
  );
}
