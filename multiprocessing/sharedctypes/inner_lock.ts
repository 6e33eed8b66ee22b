/**
 * The lock inside of a value or an array, re-entrant as CPython's is. It lies in the same block, whose first words are a lock's, so it is there as
 * long as the object is, and who refers to one refers to both.
 *
 * @module
 */
import { contains, existing } from "../core/handle.ts";
import type { HandleId } from "../codec/mod.ts";
import type { Block } from "../core/arena.ts";
import type { Session } from "../core/session.ts";
import { K_RLOCK, O_FLOW } from "../core/layout.ts";
import { installLock } from "../synchronize/lock_core.ts";
import { RLock } from "../synchronize/rlock.ts";

/** Has blocks of a kind contain a lock. */
export function containsLock(kind: number): void {
  contains(kind, K_RLOCK);
  installLock(kind);
}

/** A handle to the lock in the block of a handle of this agent. */
export function innerLock(session: Session, outer: HandleId): RLock {
  const { block, generation } = outer;
  return new RLock(existing(session, { block, generation, held: session.references.hold(block) }));
}

/** Writes what the lock in a new block needs: its owners are flows of code. */
export function fillLock(m: Int32Array, block: Block): void {
  m[block + O_FLOW] = 1;
}
