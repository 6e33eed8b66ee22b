/**
 * Guards, and what a condition needs of its lock.
 *
 * @module
 */
import type { WaitOptions } from "../core/waits.ts";

/** Proof that a lock is held, and the way to release it once: `using guard = await lock.acquire()`. */
export interface Guard extends Disposable {
  /** Releases the lock. A second call does nothing. @throws {RangeError} when somebody else released it meanwhile */
  release(): void;
  /** Whether the last owner died while it held the lock: what the lock protects may be half changed. */
  readonly abandoned: boolean;
}

/** How a condition gives up its lock for the time of a wait, and takes it back as it was. */
export interface Relockable {
  /** Whether the code that calls this holds the lock. */
  isMine(): boolean;
  /** Releases it fully; the answer is for {@linkcode takeBack}. */
  giveUp(): unknown;
  takeBack(given: unknown, w: WaitOptions): Promise<void>;
  takeBackSync(given: unknown): void;
}

/** Key of a lock's {@linkcode Relockable}. */
export const kRelock: unique symbol = Symbol("relock");
