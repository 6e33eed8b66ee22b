/** All of this module's parts. @module */
export * from "./errors.ts";
export { task } from "./task.ts";
export * from "./synchronize.ts";
export * from "./queues.ts";
export * from "./connection.ts";
export { wait } from "./wait.ts";
export type { Readiness, Waitable } from "./core/waitable.ts";
export { EventFdSemaphore, type EventFdSemaphoreOptions } from "./foreign/eventfd_semaphore.ts";
export { NamedSemaphore, type NamedSemaphoreOptions } from "./foreign/named_semaphore.ts";
export { type Context, getContext } from "./context.ts";
export {
  cpuCount,
  type CurrentProcess,
  currentProcess,
  type ParentProcess,
  parentProcess,
  type ProcessInfo,
} from "./current_process.ts";
export {
  activeChildren,
  type ModuleProcessOptions,
  Process,
  type ProcessOptions,
  type SignalOptions,
  type Stdio,
  type SubclassProcessOptions,
  type TaskProcessOptions,
} from "./process.ts";
export { SharedMemory, type SharedMemoryOptions } from "./shared_memory.ts";
export {
  SharedArray,
  type TypedArray,
  type TypedArrayConstructor,
  type TypedArrayElement,
  Value,
  type ValueOf,
  type ValueType,
} from "./sharedctypes.ts";
export { getAllStartMethods, getStartMethod, setStartMethod, type StartMethod } from "./start_method.ts";
export { session, type SessionHandle } from "./session.ts";
export type { SyncWaitOptions, WaitOptions } from "./core/waits.ts";
export { Handle } from "./core/handle.ts";
export type { HandleId } from "./codec/mod.ts";
export { SystemError, UnsupportedPlatformError } from "../platform/mod.ts";
