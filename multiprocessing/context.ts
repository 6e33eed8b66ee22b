/**
 * Contexts: the functions of this module with one start method, whatever the program's default is.
 *
 * @module
 */
import { activeChildren, type ModuleProcessOptions, Process, type TaskProcessOptions } from "./process.ts";
import { cpuCount, currentProcess, parentProcess } from "./current_process.ts";
import { checkStartMethod, getAllStartMethods, getStartMethod, type StartMethod } from "./start_method.ts";

/** This module with one start method. Locks, queues and the like have no start method and so are not part of it. */
export interface Context {
  /** {@linkcode Process}, started by this context's method. */
  readonly Process: typeof Process;
  /** This context's method. */
  getStartMethod(): StartMethod;
  /** Always throws: that of a context is fixed. @throws {TypeError} */
  setStartMethod(method: StartMethod | null): never;
  /** The context of a method; without one this context itself. */
  getContext(method?: StartMethod): Context;
  /** As {@linkcode getAllStartMethods}. */
  getAllStartMethods(): StartMethod[];
  /** As {@linkcode activeChildren}. */
  activeChildren: typeof activeChildren;
  /** As {@linkcode currentProcess}. */
  currentProcess: typeof currentProcess;
  /** As {@linkcode parentProcess}. */
  parentProcess: typeof parentProcess;
  /** As {@linkcode cpuCount}. */
  cpuCount: typeof cpuCount;
}

class SpawnProcess<A extends unknown[] = unknown[]> extends Process<A> {
  constructor(init: TaskProcessOptions<A> | ModuleProcessOptions) {
    super({ ...init, startMethod: "spawn" } as TaskProcessOptions<A>);
  }
}

class SpawnContext implements Context {
  readonly Process = SpawnProcess as typeof Process;
  readonly getAllStartMethods = getAllStartMethods;
  readonly activeChildren = activeChildren;
  readonly currentProcess = currentProcess;
  readonly parentProcess = parentProcess;
  readonly cpuCount = cpuCount;

  getStartMethod(): StartMethod {
    return "spawn";
  }

  setStartMethod(method: StartMethod | null): never {
    throw new TypeError(
      `Cannot set the start method of a context to "${method}": it is "spawn" for good; take getContext("${method}")`,
    );
  }

  getContext(method?: StartMethod): Context {
    return method === undefined ? this : getContext(method);
  }
}

let spawn: Context | undefined;

/**
 * This module with one start method (CPython's `get_context`). Other code's default stays what it is.
 *
 * @param method the method @default what {@linkcode getStartMethod} gives
 * @returns the same object each time
 * @throws {RangeError} the method is not offered
 */
export function getContext(method: StartMethod = getStartMethod()): Context {
  checkStartMethod(method);
  return spawn ??= new SpawnContext();
}
