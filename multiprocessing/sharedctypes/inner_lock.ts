/**
 * The lock inside of a value or an array: it lies in the same block, whose first words are a lock's, so it is there as long as the object is, and
 * who refers to one refers to both. Which kind of lock it is, is said here only.
 *
 * @module
 */
import { contains, type Existing } from "../core/handle.ts";
import { K_LOCK } from "../core/layout.ts";
import { installLock, Lock } from "../synchronize.ts";

/** What `getLock()` gives. */
export type InnerLock = Lock;

/** Has blocks of a kind contain a lock. */
export function containsLock(kind: number): void {
  contains(kind, K_LOCK);
  installLock(kind);
}

/** A handle to the lock in a block. */
export function innerLock(block: Existing): InnerLock {
  return new Lock(block);
}
