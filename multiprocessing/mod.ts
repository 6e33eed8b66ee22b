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
export {
  activeChildren,
  cpuCount,
  currentProcess,
  type ModuleProcessOptions,
  parentProcess,
  Process,
  type ProcessInfo,
  type ProcessOptions,
  type SignalOptions,
  type StartMethod,
  type Stdio,
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
export { session, type SessionHandle } from "./session.ts";
export type { SyncWaitOptions, WaitOptions } from "./core/waits.ts";
export { Handle } from "./core/handle.ts";
export type { HandleId } from "./codec/mod.ts";
export { SystemError, UnsupportedPlatformError } from "../platform/mod.ts";
