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
  processId,
  signals,
  sleepSync,
  waitProcess,
} from "../platform/mod.ts";
import { isMainThread } from "../platform/runtime/globals.ts";
import type { ChildCommand } from "../platform/runtime/command_line.ts";
import type { Sentinel } from "../platform/runtime/loop.ts";
import type { ChildStream } from "../platform/runtime/streams.ts";
import { agentAt } from "./core/agents.ts";
import { clearTimeout, now, setTimeout } from "./core/clock.ts";
import { A_PID } from "./core/layout.ts";
import { CHILD_ARENA_FD, CHILD_SENTINEL_FD, current, type Session } from "./core/session.ts";
import { kWaitable, type Readiness, type Waitable } from "./core/waitable.ts";
import { checkWait, type SyncWaitOptions, type WaitOptions } from "./core/waits.ts";
import { checkMayStart, currentProcess, nextIdentity } from "./current_process.ts";
import { TimeoutError } from "./errors.ts";
import type { Launch } from "./launch.ts";
import { signalTree } from "./process_tree.ts";
import { checkStartMethod, getStartMethod, type StartMethod } from "./start_method.ts";
import { findTask, type TaskReference, taskReference } from "./task.ts";

/** Where a child's standard stream goes: where the parent's does, nowhere, or to a stream of the `Process`. */
export type Stdio = "inherit" | "null" | "piped";

/** What all processes take. */
export interface ProcessOptions {
  /** A name for people. @default "Process-<n>", behind its parent's number: "Process-1:2" */
  name?: string;
  /**
   * Whether it is killed when its parent ends, however that ends. One that is no daemon keeps its parent from ending by itself; only `exit` and
   * an uncaught error, which wait for nothing, leave it behind. A daemon has no children. On macOS, and where a Worker started it, it notices its
   * parent's end within 100 ms by looking, which one that never turns its loop does not do.
   *
   * @default false
   */
  daemon?: boolean;
  /** How it is started; so far only by `"spawn"`. @default what `getStartMethod()` gives */
  startMethod?: StartMethod;
  /** Variables over the inherited environment. */
  env?: Record<string, string>;
  /** Whether the child's environment starts empty. @default false */
  clearEnv?: boolean;
  /** Its working folder. @default the parent's */
  cwd?: string;
  /** Where its standard input comes from; `"piped"`: from {@linkcode Process.stdin}. @default "inherit" */
  stdin?: Stdio;
  /** Where its standard output goes; `"piped"`: to {@linkcode Process.stdout}. @default "inherit" */
  stdout?: Stdio;
  /** Where its standard error goes; `"piped"`: to {@linkcode Process.stderr}. @default "inherit" */
  stderr?: Stdio;
  /**
   * Whether it leads a process group of its own, which `terminate({ tree: true })` then signals. A Ctrl-C at the terminal does not reach it.
   *
   * @default false
   */
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

/** A process of a subclass that has a `run` of its own. */
export interface SubclassProcessOptions<A extends unknown[]> extends ProcessOptions {
  /** A function made with `task`, for a `run` that calls `super.run()`. The subclass's module must load its module. */
  target?: (...args: A) => unknown;
  /** What `run` finds in `this.args`. @default [] */
  args?: A;
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

/** Streams of a child whose ends this agent has. */
interface Streams {
  stdin?: ChildStream<WritableStream<Uint8Array>>;
  stdout?: ChildStream<ReadableStream<Uint8Array>>;
  stderr?: ChildStream<ReadableStream<Uint8Array>>;
}

const active = new Set<Process<never[]>>();

/** Ready once its process has ended. */
class ProcessSentinel implements Waitable {
  readonly [kWaitable]: Readiness;
  readonly #text: string;

  constructor(text: string, isReady: () => boolean, whenReady: (w: WaitOptions) => Promise<unknown>) {
    this.#text = text;
    this[kWaitable] = { isReady, whenReady };
  }

  toString(): string {
    return this.#text;
  }
}

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
  readonly #options: Omit<ProcessOptions, "name" | "daemon"> & { target?: ((...args: A) => unknown) | URL };
  readonly #args: A;
  readonly #identity: readonly number[] = nextIdentity();
  /** Where another process finds the class, if that has a `run` of its own. */
  readonly #type: TaskReference | null;
  #daemon: boolean;
  #starting = false;
  #running: Running | undefined;
  #streams: Streams = {};
  #openStreams = 0;
  /** Joins that keep this process alive. */
  #joins = 0;
  #exitCode: number | null = null;
  #closed = false;
  #sentinel: Waitable | undefined;

  /** A process for a task. @throws {TypeError} the target is neither a task nor a URL */
  constructor(init: TaskProcessOptions<A>);
  /** A process for a module. */
  constructor(init: ModuleProcessOptions);
  /** A process of a subclass that has a `run` of its own: see {@linkcode Process.run}. @throws {TypeError} the class is not registered */
  constructor(init?: SubclassProcessOptions<A>);
  constructor(
    init: TaskProcessOptions<A> | ModuleProcessOptions | SubclassProcessOptions<A> = {},
  ) {
    const { target, startMethod } = init;
    this.#type = this.run === Process.prototype.run ? null : taskReference(new.target);
    if (this.run !== Process.prototype.run && this.#type === null) {
      throw new TypeError(
        `Cannot make a process of class ${new.target.name}, which has a run of its own: another process cannot find it; call task(import.meta, ${new.target.name}) below the class, at the top level of its module`,
      );
    }
    if (
      this.#type !== null ? target instanceof URL : !(target instanceof URL) && taskReference(target) === null
    ) {
      throw new TypeError(
        typeof target === "function"
          ? `Cannot start a process with function ${
            target.name || "(anonymous)"
          }: it is no task, so another process cannot find it; make it one with task(import.meta, ${
            target.name || "fn"
          }) at the top level of its module`
          : this.#type !== null
          ? `Cannot start a process of class ${new.target.name} with a URL: it has a run of its own, which loads what it needs`
          : `Cannot start a process with a target of type ${
            target === null ? "null" : typeof target
          }: it must be a task or a URL`,
      );
    }
    if (startMethod !== undefined) checkStartMethod(startMethod);
    for (const stream of ["stdin", "stdout", "stderr"] as const) {
      const to = init[stream];
      if (to !== undefined && to !== "inherit" && to !== "null" && to !== "piped") {
        throw new TypeError(
          `Cannot start a process with ${stream} "${to}": it must be "inherit", "null" or "piped"`,
        );
      }
    }
    this.name = init.name ?? `${new.target.name}-${this.#identity.join(":")}`;
    this.#daemon = init.daemon ?? false;
    this.#args = init.args === undefined ? [] as unknown[] as A : init.args as A;
    this.#options = init;
  }

  /** Whether it ends with its parent. Can be set until it starts. */
  get daemon(): boolean {
    return this.#daemon;
  }

  set daemon(value: boolean) {
    if (this.#starting || this.#running !== undefined) {
      throw new TypeError("Cannot change daemon: the process has started");
    }
    this.#daemon = value;
  }

  /** What its target is called with. */
  get args(): A {
    return this.#args;
  }

  /** Its standard input, from its start on; null unless that is `"piped"`. Closing it ends the input; EPIPE when the child has ended. */
  get stdin(): WritableStream<Uint8Array> | null {
    return this.#streams.stdin?.stream ?? null;
  }

  /**
   * Its standard output, from its start on; null unless that is `"piped"`. Nothing is read ahead: a child that writes more than some 200 KB waits
   * until it is read. It ends when the child, and whoever has inherited it, has.
   */
  get stdout(): ReadableStream<Uint8Array> | null {
    return this.#streams.stdout?.stream ?? null;
  }

  /** Its standard error: as {@linkcode Process.stdout}. */
  get stderr(): ReadableStream<Uint8Array> | null {
    return this.#streams.stderr?.stream ?? null;
  }

  /**
   * Starts it. When this resolves the process exists; its target may not have begun.
   *
   * @throws {TypeError} an argument cannot be copied to another process; it was started already; this process is a daemon
   * @throws {ProcessError} this process is a child that still loads its target's module
   * @throws {SystemError} the system refuses: EAGAIN, ENOMEM, ENOENT for `cwd`
   */
  async start(): Promise<this> {
    this.#checkOpen();
    if (this.#starting || this.#running !== undefined) {
      throw new TypeError("Cannot start the process: it was started already; make another one");
    }
    const { target, startMethod = getStartMethod() } = this.#options;
    const task = target instanceof URL ? null : taskReference(target);
    const module = this.#type?.url ?? task?.url ?? (target as URL).href;
    checkMayStart(this.name, module);
    this.#starting = true;
    try {
      // Loaded by those who start processes only: a fifth of this module.
      const starter = await import("./start.ts");
      await starter.prepareStart();
      // What a first start opens and reads takes some milliseconds; the loop turns in between.
      const turn = starter.makeTurns();
      const command = starter.childCommand(starter.childMain(bootstrapUrl, module));
      await turn();
      const environment = this.#options.clearEnv === true ? {} : environ();
      await turn();
      void current().doorbell;
      await turn();
      const fields = { ...this } as Record<string, unknown>;
      delete fields["name"];
      this.#spawn(starter, command, environment, {
        name: this.name,
        identity: this.#identity,
        daemon: this.#daemon,
        startMethod,
        byMainThread: isMainThread(),
        parent: { name: currentProcess().name, pid: processId() },
        module,
        task,
        args: this.#args,
        type: this.#type,
        fields: this.#type === null ? {} : fields,
      });
      return this;
    } finally {
      this.#starting = false;
    }
  }

  #spawn(
    { prepareLaunch, spawn, ...streams }: typeof import("./start.ts"),
    command: ChildCommand,
    environment: Record<string, string>,
    launch: Launch,
  ): void {
    const session = current();
    const { env = {}, cwd, processGroup = false, ...stdio } = this.#options;
    const prepared = prepareLaunch(session, launch);
    let place: ReturnType<Session["reserve"]> | undefined;
    let sentinel: Sentinel | undefined;
    const piped: Streams = {};
    try {
      place = session.reserve();
      sentinel = session.watch(() => this.#ended());
      const closed = (): void => {
        this.#openStreams--;
        this.#forget();
      };
      if (stdio.stdin === "piped") piped.stdin = streams.writableToChild(session.doorbell, closed);
      for (const name of ["stdout", "stderr"] as const) {
        if (stdio[name] === "piped") piped[name] = streams.readableFromChild(session.doorbell, closed);
      }
      this.#openStreams = Object.keys(piped).length;
      const fds: [number, number | "null"][] = [
        [CHILD_ARENA_FD, place.fd],
        [CHILD_SENTINEL_FD, sentinel.childFd],
      ];
      for (const [fd, name] of (["stdin", "stdout", "stderr"] as const).entries()) {
        if (stdio[name] === "null") fds.push([fd, "null"]);
        else if (piped[name] !== undefined) fds.push([fd, piped[name].childFd]);
      }
      const pid = spawn({
        file: command.file,
        argv: command.argv,
        env: {
          ...environment,
          ...env,
          ...command.env,
          ...place.env,
          ...prepared.handOver(place.token),
        },
        ...(cwd === undefined ? {} : { cwd }),
        fds,
        closeOthers: true,
        processGroup,
      });
      Atomics.store(session.arena.i32, agentAt(place.token) + A_PID, pid);
      const { promise, resolve } = Promise.withResolvers<number>();
      this.#streams = piped;
      const forget = session.onClose(() => {
        sentinel!.close();
        this.#closeStreams();
      });
      this.#running = { session, token: place.token, pid, sentinel, exited: promise, resolve, forget };
      if (this.#daemon) session.daemons.add(pid);
      this.#keep();
      active.add(this as unknown as Process<never[]>);
    } catch (error) {
      prepared.cancel();
      sentinel?.close();
      for (const stream of Object.values(piped)) stream?.close();
      throw error;
    } finally {
      if (sentinel !== undefined) closeFd(sentinel.childFd);
      for (const stream of Object.values(piped)) closeFd(stream!.childFd);
      // The life lock on it now lives as long as the child; after a failure it ends here, and the place is free.
      if (place !== undefined) {
        closeFd(place.fd);
        if (this.#running === undefined) session.agents.reap(place.token);
      }
    }
  }

  /** A child that is no daemon keeps this process alive, and so does who joins one. */
  #keep(): void {
    if (!this.#daemon || this.#joins > 0) this.#running!.sentinel.ref();
    else this.#running!.sentinel.unref();
  }

  /** Once nothing of it is open any more, the session need not know of it. Its output may still hold what nobody has read. */
  #forget(): void {
    if (this.#exitCode !== null && this.#openStreams === 0) this.#running?.forget();
  }

  #closeStreams(): void {
    for (const stream of Object.values(this.#streams)) stream?.close();
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
    running.sentinel.close();
    this.#streams.stdin?.close();
    this.#forget();
    // Who joins it finds what it held free, and what it was part of without it.
    const joined = (): void => running.resolve(this.#exitCode!);
    if (running.session.closed) joined();
    else running.session.agents.reap(running.token, joined);
    return true;
  }

  /** Its exit code, once it has ended and all it put has been committed. Rejects before it was started. */
  get exited(): Promise<number> {
    if (this.#running === undefined) {
      return Promise.reject(new TypeError("Cannot wait for the process: it was not started"));
    }
    this.#lookAfterClose();
    return this.#running.exited;
  }

  #looking = false;

  /** With the session its sentinel is gone, and only looking tells. */
  #lookAfterClose(): void {
    if (!this.#running!.session.closed || this.#looking || this.#exitCode !== null) return;
    this.#looking = true;
    this.#ended();
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
    this.#lookAfterClose();
    if (w.ref !== false) this.#joins++;
    this.#keep();
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
      if (w.ref !== false) this.#joins--;
      this.#keep();
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
    if (!tree || running.session.closed) killProcess(running.pid, signal);
    else {
      signalTree(running.session, running.token, running.pid, signal, this.#options.processGroup === true);
    }
  }

  /** Whether it runs. */
  isAlive(): boolean {
    this.#checkOpen();
    return this.#running !== undefined && !this.#poll();
  }

  /** Lets go of it and its streams. Closing twice is closing once. @throws {TypeError} it still runs */
  close(): void {
    if (this.#closed) return;
    if (this.#running !== undefined && !this.#poll()) {
      throw new TypeError(`Cannot close ${this.name}: it still runs; join or terminate it first`);
    }
    if (this.#starting) {
      throw new TypeError(`Cannot close ${this.name}: it is being started; join or terminate it first`);
    }
    this.#closed = true;
    this.#closeStreams();
  }

  /**
   * What runs in the child: calls the target. A subclass may have a `run` of its own, if `task(import.meta, TheClass)` stands below it at the top
   * level of its module. The child's object then is made as CPython unpickles one: without running the subclass's constructor, with this object's
   * `name`, `args` and public fields, which must be values that can be copied. Fields with `#` stay behind.
   *
   * @example
   * ```ts ignore
   * export class Greeter extends Process {
   *   greeting = "hello";
   *   override run(): void {
   *     console.log(this.greeting, this.name); // hi Greeter-1
   *   }
   * }
   * task(import.meta, Greeter);
   * if (import.meta.main) {
   *   const greeter = new Greeter();
   *   greeter.greeting = "hi";
   *   await (await greeter.start()).join();
   * }
   * ```
   */
  run(): unknown {
    const { target } = this.#options;
    if (target instanceof URL) throw new TypeError("Cannot run a module in this process: import it instead");
    return target?.(...this.#args);
  }

  /** What `wait` takes to wait for its end. @throws {TypeError} it was not started, or it was closed */
  get sentinel(): Waitable {
    this.#checkOpen();
    const running = this.#running;
    if (running === undefined) {
      throw new TypeError(`Cannot wait for the end of ${this.name}: it was not started; await start() first`);
    }
    return this.#sentinel ??= new ProcessSentinel(
      `sentinel of ${this.name}`,
      () => this.#poll(),
      (w) => this.join(w),
    );
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

/** What a child runs, once its module is loaded. @ignore */
export function runInChild(launch: Launch, module: Record<string, unknown>): unknown {
  const { task, args, type } = launch;
  if (type !== null) {
    const { name, daemon, fields } = launch;
    const init = { name, daemon, args, ...(task === null ? {} : { target: findTask(task) }) };
    const object = Reflect.construct(Process, [init], findTask(type)) as Process;
    return Object.assign(object, fields).run();
  }
  if (task !== null) return findTask(task)(...args);
  const main = module["default"];
  if (typeof main === "function") return main(...args);
  if (args.length > 0) {
    throw new TypeError(
      `Cannot give ${args.length} arguments to a module without a default export that is a function; export one, or pass no args`,
    );
  }
  return undefined;
}

/** Children of this agent that run. Those that have ended are reaped meanwhile. */
export function activeChildren(): Process<never[]>[] {
  return [...active].filter((process) => process.isAlive());
}
