/**
 * Processes: CPython's `multiprocessing.Process` for Deno and Bun. A child is this same runtime with this process's own flags, on Deno with no
 * more permissions than the calling agent has at that moment.
 *
 * @module
 */
import {
  closeFd,
  environ,
  killProcess,
  onlineCpus,
  processId,
  signals,
  sleepSync,
  waitProcess,
} from "../platform/mod.ts";
import { isMainThread } from "../platform/runtime/globals.ts";
import type { Sentinel } from "../platform/runtime/loop.ts";
import { agentAt } from "./core/agents.ts";
import { clearTimeout, now, setTimeout } from "./core/clock.ts";
import { A_PARENT, A_PID } from "./core/layout.ts";
import { CHILD_ARENA_FD, CHILD_SENTINEL_FD, current, type Session } from "./core/session.ts";
import { checkWait, type SyncWaitOptions, type WaitOptions } from "./core/waits.ts";
import { TimeoutError } from "./errors.ts";
import type { Launch } from "./launch.ts";
import { taskReference } from "./task.ts";

/** How a child comes into being. */
export type StartMethod = "spawn" | "forkserver" | "fork";

/** Where a child's standard stream goes: where the parent's does, or nowhere. */
export type Stdio = "inherit" | "null";

/** What all processes take. */
export interface ProcessOptions {
  /** A name for people. @default "Process-<n>" */
  name?: string;
  /** Whether it ends with its parent, instead of keeping it alive. @default false */
  daemon?: boolean;
  /** Only `"spawn"` exists so far. @default "spawn" */
  startMethod?: StartMethod;
  /** Variables over the inherited environment. */
  env?: Record<string, string>;
  /** Whether the child's environment starts empty. @default false */
  clearEnv?: boolean;
  /** Its working folder. @default the parent's */
  cwd?: string;
  /** Where its standard input comes from. @default "inherit" */
  stdin?: Stdio;
  /** Where its standard output goes. @default "inherit" */
  stdout?: Stdio;
  /** Where its standard error goes. @default "inherit" */
  stderr?: Stdio;
  /** Whether it leads a process group of its own, which `terminate({ tree: true })` then signals. @default false */
  processGroup?: boolean;
}

/** A process that runs a task. */
export interface TaskProcessOptions<A extends unknown[]> extends ProcessOptions {
  /** A function made with `task`. */
  target: (...args: A) => unknown;
  /** Its arguments: anything that structured clone carries, and handles. @default [] */
  args?: A;
}

/** A process that runs a module. */
export interface ModuleProcessOptions extends ProcessOptions {
  /** The module: its default export is called with `args`; without one, loading it is all. */
  target: URL;
  /** What the default export is called with. @default [] */
  args?: unknown[];
}

/** Whom a signal is for. */
export interface SignalOptions {
  /** Also all processes that the child started, as far as they joined the session or are in its process group. @default false */
  tree?: boolean;
}

/** The bootstrap beside this file, in whatever form the package was loaded. */
const bootstrapUrl: string =
  new URL(`./bootstrap${import.meta.url.slice(import.meta.url.lastIndexOf("."))}`, import.meta.url).href;

interface Running {
  readonly session: Session;
  readonly token: number;
  readonly pid: number;
  readonly sentinel: Sentinel;
  readonly exited: Promise<number>;
  readonly resolve: (code: number) => void;
  readonly forget: () => void;
}

let counter = 0;
const active = new Set<Process<never[]>>();

/**
 * A process that runs a function.
 *
 * @example
 * ```ts
 * import { Process, Queue, task } from "@karellen/geventmp";
 * export const square = task(import.meta, async function square(n: number, out: Queue<number>) {
 *   await out.put(n * n);
 * });
 * if (import.meta.main) {
 *   using out = new Queue<number>();
 *   const process = await new Process({ target: square, args: [7, out] }).start();
 *   console.log(await out.get(), await process.join()); // 49 0
 * }
 * ```
 */
export class Process<A extends unknown[] = unknown[]> {
  /** Its name, for people. */
  name: string;
  readonly #options: TaskProcessOptions<A> | ModuleProcessOptions;
  #daemon: boolean;
  #running: Running | undefined;
  #exitCode: number | null = null;
  #closed = false;

  /** A process for a task. @throws {TypeError} the target is neither a task nor a URL */
  constructor(init: TaskProcessOptions<A>);
  /** A process for a module. */
  constructor(init: ModuleProcessOptions);
  constructor(init: TaskProcessOptions<A> | ModuleProcessOptions) {
    const { target, startMethod = "spawn" } = init;
    if (!(target instanceof URL) && taskReference(target) === null) {
      throw new TypeError(
        typeof target === "function"
          ? `Cannot start a process with function ${
            target.name || "(anonymous)"
          }: it is no task, so another process cannot find it; make it one with task(import.meta, ${
            target.name || "fn"
          }) at the top level of its module`
          : `Cannot start a process with a target of type ${
            target === null ? "null" : typeof target
          }: it must be a task or a URL`,
      );
    }
    if (startMethod !== "spawn") {
      throw new RangeError(`Cannot start a process by "${startMethod}": only "spawn" is offered`);
    }
    for (const stream of ["stdin", "stdout", "stderr"] as const) {
      const to = init[stream];
      if (to !== undefined && to !== "inherit" && to !== "null") {
        throw new TypeError(`Cannot start a process with ${stream} "${to}": it must be "inherit" or "null"`);
      }
    }
    this.name = init.name ?? `Process-${++counter}`;
    this.#daemon = init.daemon ?? false;
    this.#options = init;
  }

  /** Whether it ends with its parent. Can be set until it starts. */
  get daemon(): boolean {
    return this.#daemon;
  }

  set daemon(value: boolean) {
    if (this.#running !== undefined || this.#exitCode !== null) {
      throw new TypeError("Cannot change daemon: the process has started");
    }
    this.#daemon = value;
  }

  /**
   * Starts it. When this resolves the process exists; its target may not have begun.
   *
   * @throws {TypeError} an argument cannot be copied to another process; it was started already
   * @throws {SystemError} the system refuses: EAGAIN, ENOMEM, ENOENT for `cwd`
   */
  async start(): Promise<this> {
    this.#checkOpen();
    if (this.#running !== undefined || this.#exitCode !== null) {
      throw new TypeError("Cannot start the process: it was started already; make another one");
    }
    const { target, args = [], env = {}, clearEnv = false, cwd, processGroup = false, ...rest } =
      this.#options;
    const reference = target instanceof URL ? null : taskReference(target)!;
    // Loaded by those who start processes only: a fifth of this module.
    const { childCommand, childMain, prepareLaunch, spawn } = await import("./start.ts");
    if (this.#running !== undefined) {
      throw new TypeError("Cannot start the process: it was started already; make another one");
    }
    const session = current();
    const { main } = childMain(bootstrapUrl, reference?.url ?? (target as URL).href);
    const command = childCommand({ main });
    const launch: Launch = {
      name: this.name,
      daemon: this.#daemon,
      byMainThread: isMainThread(),
      parent: { name: currentProcess().name, pid: processId() },
      task: reference,
      args,
    };
    const prepared = prepareLaunch(session, launch);
    let place: ReturnType<Session["reserve"]> | undefined;
    let sentinel: Sentinel | undefined;
    try {
      place = session.reserve();
      sentinel = session.watch(() => this.#ended());
      const pid = spawn({
        file: command.file,
        argv: command.argv,
        env: {
          ...(clearEnv ? {} : environ()),
          ...env,
          ...command.env,
          ...place.env,
          ...prepared.handOver(place.token),
        },
        ...(cwd === undefined ? {} : { cwd }),
        fds: [
          ...([["stdin", 0], ["stdout", 1], ["stderr", 2]] as const).filter(([name]) => rest[name] === "null")
            .map(([, n]) => [n, "null"] as const),
          [CHILD_ARENA_FD, place.fd],
          [CHILD_SENTINEL_FD, sentinel.childFd],
        ],
        closeOthers: true,
        processGroup,
      });
      session.agents.handOver(place.token, pid);
      const { promise, resolve } = Promise.withResolvers<number>();
      const forget = session.onClose(() => sentinel!.close());
      this.#running = { session, token: place.token, pid, sentinel, exited: promise, resolve, forget };
      if (this.#daemon) {
        sentinel.unref();
        session.daemons.add(pid);
      }
      active.add(this as unknown as Process<never[]>);
      return this;
    } catch (error) {
      prepared.cancel();
      sentinel?.close();
      throw error;
    } finally {
      if (sentinel !== undefined) closeFd(sentinel.childFd);
      // The life lock on it now lives as long as the child; after a failure it ends here, and the place is free.
      if (place !== undefined) {
        closeFd(place.fd);
        if (this.#running === undefined) session.agents.reap(place.token);
      }
    }
  }

  /** The sentinel closed: the process is about to be a zombie. */
  #ended(delay = 0): void {
    if (this.#poll()) return;
    // The kernel closes descriptors before it reports the exit. A child that closed the sentinel itself and lives on is looked at ever more rarely.
    setTimeout(() => this.#ended(Math.min(delay * 2 + 1, 100)), delay);
  }

  /** Reaps it if it has ended. */
  #poll(): boolean {
    if (this.#exitCode !== null) return true;
    const running = this.#running;
    if (running === undefined) return false;
    const status = waitProcess(running.pid);
    if (status === null) return false;
    // "gone": somebody else in this process waited for all children; what it ended with is lost.
    this.#exitCode = status === "gone" ? 255 : status;
    active.delete(this as unknown as Process<never[]>);
    running.session.daemons.delete(running.pid);
    running.forget();
    running.sentinel.close();
    // Who joins it finds what it held free, and what it was part of without it.
    const joined = (): void => running.resolve(this.#exitCode!);
    if (running.session.closed) joined();
    else running.session.agents.reap(running.token, joined);
    return true;
  }

  /** Its exit code, once it has ended and all it put has been committed. Rejects before it was started. */
  get exited(): Promise<number> {
    return this.#running?.exited ??
      Promise.reject(new TypeError("Cannot wait for the process: it was not started"));
  }

  /**
   * Waits until it has ended.
   *
   * @returns its exit code; -N when signal N ended it
   * @throws {TimeoutError} the time was over
   */
  async join(w: WaitOptions = {}): Promise<number> {
    this.#checkOpen();
    const timeout = checkWait(w);
    const running = this.#running;
    if (running === undefined) throw new TypeError("Cannot join the process: it was not started");
    if (this.#poll()) return await running.exited;
    if (timeout === 0) throw new TimeoutError(`Cannot join ${this.name}: it is still running`);
    if (w.ref === false) running.sentinel.unref();
    else running.sentinel.ref();
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    const timer = timeout === Infinity ? undefined : setTimeout(
      () => reject(new TimeoutError(`Cannot join ${this.name}: it still ran after ${timeout} ms`)),
      timeout,
    );
    const onAbort = (): void => reject(w.signal!.reason);
    w.signal?.addEventListener("abort", onAbort);
    running.exited.then(resolve);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      w.signal?.removeEventListener("abort", onAbort);
      if (this.#daemon) running.sentinel.unref();
    }
  }

  /** As {@linkcode join}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  joinSync(w: SyncWaitOptions = {}): number {
    this.#checkOpen();
    if (this.#running === undefined) throw new TypeError("Cannot join the process: it was not started");
    const timeout = current().waits.checkBlocking("join synchronously", w);
    const deadline = now() + timeout;
    return current().waits.held(() => {
      for (let slice = 0.5; !this.#poll(); slice = Math.min(slice * 2, 20)) {
        const left = deadline - now();
        if (left <= 0) throw new TimeoutError(`Cannot join ${this.name}: it still ran after ${timeout} ms`);
        sleepSync(Math.min(slice, left));
      }
      if (!this.#running!.session.closed) this.#running!.session.agents.finishReaps();
      return this.#exitCode!;
    });
  }

  /** Ends it with SIGTERM, which it may handle. Nothing happens when it has ended. */
  terminate(options: SignalOptions = {}): void {
    this.#signal(signals.SIGTERM, options);
  }

  /** Ends it with SIGKILL, whatever it does. */
  kill(options: SignalOptions = {}): void {
    this.#signal(signals.SIGKILL, options);
  }

  /** Sends SIGINT, as Ctrl-C does. */
  interrupt(): void {
    this.#signal(signals.SIGINT, {});
  }

  #signal(signal: number, { tree = false }: SignalOptions): void {
    this.#checkOpen();
    const running = this.#running;
    if (running === undefined) throw new TypeError("Cannot signal the process: it was not started");
    if (this.#poll()) return;
    if (tree) { for (const pid of descendants(running.session, running.token)) killProcess(pid, signal); }
    if (tree && this.#options.processGroup === true) killProcess(-running.pid, signal);
    else killProcess(running.pid, signal);
  }

  /** Whether it runs. */
  isAlive(): boolean {
    this.#checkOpen();
    return this.#running !== undefined && !this.#poll();
  }

  /** Lets go of it. Closing twice is closing once. @throws {TypeError} it still runs */
  close(): void {
    if (this.#closed) return;
    if (this.#running !== undefined && !this.#poll()) {
      throw new TypeError(`Cannot close ${this.name}: it still runs; join or terminate it first`);
    }
    this.#closed = true;
  }

  /** Runs the target in this process. */
  run(): unknown {
    const { target, args = [] } = this.#options;
    if (target instanceof URL) throw new TypeError("Cannot run a module in this process: import it instead");
    return target(...args as A);
  }

  /** Its process number; undefined before it was started. */
  get pid(): number | undefined {
    return this.#running?.pid;
  }

  /** null while it runs; -N when signal N ended it. */
  get exitCode(): number | null {
    this.#poll();
    return this.#exitCode;
  }

  #checkOpen(): void {
    if (this.#closed) throw new TypeError(`Cannot use ${this.name}: it was closed`);
  }

  /** Kills it, if it runs, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    if (this.#running !== undefined && !this.#poll()) {
      this.kill();
      await this.exited;
    }
    this.close();
  }

  /** For people. */
  toString(): string {
    const state = this.#closed
      ? "closed"
      : this.#running === undefined
      ? "not started"
      : this.#exitCode === null
      ? "running"
      : `ended with ${this.#exitCode}`;
    return `Process(${this.name}, ${this.pid ?? "no pid"}, ${state})`;
  }
}

/** Processes of all agents that an agent started, directly or not. */
function descendants(session: Session, token: number): Set<number> {
  const m = session.arena.i32;
  const tokens = new Set([token]);
  const pids = new Set<number>();
  for (let grew = true; grew;) {
    grew = false;
    for (const other of session.agents.all()) {
      const at = agentAt(other);
      if (tokens.has(other) || !tokens.has(m[at + A_PARENT])) continue;
      tokens.add(other);
      pids.add(m[at + A_PID]);
      grew = true;
    }
  }
  return pids;
}

/** A process as it is known from within. */
export interface ProcessInfo {
  /** Its name. */
  readonly name: string;
  /** Its process number. */
  readonly pid: number;
  /** Whether it ends with its parent. */
  readonly daemon: boolean;
}

let self: ProcessInfo | undefined;
let parent: ProcessInfo | null = null;

/** Called once in a child, before its target runs. @ignore */
export function beChild(launch: Launch): void {
  self = { name: launch.name, pid: processId(), daemon: launch.daemon };
  parent = { name: launch.parent.name, pid: launch.parent.pid, daemon: false };
}

/** This process: its name is "MainProcess" unless a parent gave it one. */
export function currentProcess(): ProcessInfo {
  return self ??= { name: "MainProcess", pid: processId(), daemon: false };
}

/** The process that started this one, null in a session's first process. */
export function parentProcess(): ProcessInfo | null {
  return parent;
}

/** Children of this agent that run. Those that have ended are reaped meanwhile. */
export function activeChildren(): Process<never[]>[] {
  return [...active].filter((process) => process.isAlive());
}

/** How many processors this process may keep busy: honours affinity and a control group's quota. */
export function cpuCount(): number {
  return onlineCpus();
}
