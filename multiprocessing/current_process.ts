/**
 * Processes as they are known from within: this one, and the one that started it.
 *
 * @module
 */
import { onlineCpus, parentProcessId, processId } from "../platform/mod.ts";
import { Interval } from "../platform/runtime/loop.ts";
import { clearTimeout, setTimeout } from "./core/clock.ts";
import { checkWait, type WaitOptions } from "./core/waits.ts";
import { ProcessError, TimeoutError } from "./errors.ts";
import type { Launch } from "./launch.ts";
import { setStartMethod } from "./start_method.ts";

/** A process as it is known from within. */
export interface ProcessInfo {
  /** Its name. */
  readonly name: string;
  /** Its process number. */
  readonly pid: number;
  /** Whether it ends with its parent. */
  readonly daemon: boolean;
}

/** This process. */
export interface CurrentProcess extends ProcessInfo {
  /** null: it runs. */
  readonly exitCode: null;
  /** Always true. */
  isAlive(): true;
}

/** The process that started this one. */
export interface ParentProcess extends ProcessInfo {
  /** Whether it runs. */
  isAlive(): boolean;
  /**
   * Waits until it has ended. What it ended with only its own parent knows.
   *
   * @throws {TimeoutError} the time was over
   */
  join(w?: WaitOptions): Promise<void>;
}

/** No signal tells that a parent ends, but the kernel gives its children another parent at that moment. */
const PARENT_LOOK_MS = 20;

class Self implements CurrentProcess {
  readonly name: string;
  readonly daemon: boolean;
  readonly pid: number = processId();
  readonly exitCode = null;

  constructor(name: string, daemon: boolean) {
    this.name = name;
    this.daemon = daemon;
  }

  isAlive(): true {
    return true;
  }
}

class Parent implements ParentProcess {
  readonly name: string;
  readonly pid: number;
  readonly daemon = false;

  constructor({ name, pid }: Launch["parent"]) {
    this.name = name;
    this.pid = pid;
  }

  isAlive(): boolean {
    return parentProcessId() === this.pid;
  }

  async join(w: WaitOptions = {}): Promise<void> {
    const timeout = checkWait(w);
    if (!this.isAlive()) return;
    if (timeout === 0) throw new TimeoutError(`Cannot join ${this.name}: it is still running`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const interval = new Interval(PARENT_LOOK_MS);
    interval.start(() => this.isAlive() || resolve());
    if (w.ref === false) interval.unref();
    const timer = timeout === Infinity ? undefined : setTimeout(
      () => reject(new TimeoutError(`Cannot join ${this.name}: it still ran after ${timeout} ms`)),
      timeout,
    );
    const onAbort = (): void => reject(w.signal!.reason);
    w.signal?.addEventListener("abort", onAbort);
    try {
      await promise;
    } finally {
      interval.stop();
      clearTimeout(timer);
      w.signal?.removeEventListener("abort", onAbort);
    }
  }
}

let self: Self | undefined;
let parent: Parent | null = null;
let identity: readonly number[] = [];
let children = 0;
/** What is loading, while a child's target is: the module that it is to run. */
let loading: Pick<Launch, "module" | "task" | "type"> | null = null;

/** Called once in a child, before its target's module is loaded. @ignore */
export function beChild(launch: Launch): void {
  self = new Self(launch.name, launch.daemon);
  parent = new Parent(launch.parent);
  identity = launch.identity;
  loading = launch;
  setStartMethod(launch.startMethod, { force: true });
}

/** Called once in a child, when its target's module is loaded. @ignore */
export function childLoaded(): void {
  loading = null;
  children = 0;
}

/** Position in the tree of the next child that this agent makes: its ancestors' numbers, then its own, from 1. @ignore */
export function nextIdentity(): number[] {
  return [...identity, ++children];
}

/** @throws {TypeError} daemons have no children @throws {ProcessError} see the message @ignore */
export function checkMayStart(name: string, module: string): void {
  const me = currentProcess();
  if (me.daemon) {
    throw new TypeError(
      `Cannot start ${name}: ${me.name} is a daemon, which is killed with its parent, and its children would be left; start it from a process that is none`,
    );
  }
  // A module that is run as a whole may start processes while it loads, but not itself.
  if (loading !== null && (loading.task !== null || loading.type !== null || loading.module === module)) {
    throw new ProcessError(
      `Cannot start ${name}: ${me.name} is a child that still loads ${loading.module} to find its target there, and would start children without end; put what starts processes under "if (import.meta.main)"`,
    );
  }
}

/** This process: its name is "MainProcess" unless a parent gave it one. */
export function currentProcess(): CurrentProcess {
  return self ??= new Self("MainProcess", false);
}

/** The process that started this one, null in a session's first process. */
export function parentProcess(): ParentProcess | null {
  return parent;
}

/** How many processors this process may keep busy: honours affinity and a control group's quota. */
export function cpuCount(): number {
  return onlineCpus();
}
