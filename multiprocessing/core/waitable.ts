/**
 * What `wait` can wait for: objects that say whether they are ready, without giving anything away.
 *
 * @module
 */
import type { WaitOptions } from "./waits.ts";

/** Key of an object's {@linkcode Readiness}. */
export const kWaitable: unique symbol = Symbol("waitable");

/** What a waiter wants that only looks: to know when there is something, which then stays for who takes it. */
export const LOOK: unique symbol = Symbol("look");

/** How an object says that it is ready. */
export interface Readiness {
  /** Whether it is ready now. Looking again gives the same answer until somebody takes what there is. */
  isReady(): boolean;
  /** Resolves once it is ready; rejects when `w.signal` aborts, and then leaves nothing behind. `w` has no time-out. */
  whenReady(w: WaitOptions): Promise<unknown>;
}

/** An object that `wait` takes: a connection, a queue, the sentinel of a process. */
export interface Waitable {
  /** @ignore */
  readonly [kWaitable]: Readiness;
}
