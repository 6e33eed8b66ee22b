/**
 * Locks, semaphores, events, conditions and barriers in shared memory: CPython's `multiprocessing.synchronize`.
 *
 * @module
 */
export type { Guard } from "./synchronize/guard.ts";
export { Lock } from "./synchronize/lock.ts";
export { Semaphore, type SemaphoreOptions } from "./synchronize/semaphore.ts";
export { BoundedSemaphore } from "./synchronize/bounded_semaphore.ts";
export { Event } from "./synchronize/event.ts";
export { Barrier, type BarrierOptions } from "./synchronize/barrier.ts";
export { Condition } from "./synchronize/condition.ts";
export { RLock, type RLockOptions } from "./synchronize/rlock.ts";
