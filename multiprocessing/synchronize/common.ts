/**
 * What the synchronization objects have in common.
 *
 * @module
 */
import { agentAt } from "../core/agents.ts";
import type { Block } from "../core/arena.ts";
import { A_HELD, A_PID, A_TID, N_CHANNEL, N_HOLDER, SYNC_NODES } from "../core/layout.ts";
import type { Session } from "../core/session.ts";
import { checkWait, NodeCursor, type WaitOptions } from "../core/waits.ts";
import { TimeoutError } from "../errors.ts";
import { currentProcess } from "../current_process.ts";

/** Bytes of a block with {@linkcode SYNC_NODES}. */
export const BLOCK_BYTES = 128;
/** The options of a wait that was given none: nothing of them needs a look. */
export const NO_OPTIONS: WaitOptions = {};

/** For blocks that begin with zeros. */
export function noFill(): void {}

/** The error of an acquire whose time is over. */
export function timedOut(what: string): (timeout: number) => TimeoutError {
  return (timeout) =>
    new TimeoutError(`Cannot acquire the ${what}: it did not become free within ${timeout} ms`);
}

/** A promise that rejects with what `check` throws. */
export function refuse(check: () => void): Promise<never> {
  try {
    check();
  } catch (error) {
    return Promise.reject(error);
  }
  return Promise.reject(new TypeError("Cannot wait: the handle is disposed"));
}

/** A wait's time-out in milliseconds; where the options are wrong, or aborted already, the promise that rejects. */
export function timeoutOf(w: WaitOptions): number | Promise<never> {
  if (w === NO_OPTIONS) return Infinity;
  try {
    return checkWait(w);
  } catch (error) {
    return Promise.reject(error);
  }
}

/** Whether a reservation is for nobody: none of the waiters that it could be for can come. */
export function reservationIsStale(session: Session, block: Block): boolean {
  const m = session.arena.i32;
  for (const c = new NodeCursor(m).start(block, SYNC_NODES); c.next();) {
    if (Atomics.load(m, c.at + N_CHANNEL) === 0) continue;
    const holder = Atomics.load(m, c.at + N_HOLDER);
    if (holder > 0 && Atomics.load(m, agentAt(holder) + A_HELD) === 0 && !session.agents.isDead(holder)) {
      return false;
    }
  }
  return true;
}

/** An owner for people, in CPython's words: "None", "MainProcess", "MainProcess|Worker 71", "SomeOtherThread 70", "SomeOtherProcess 64". */
export function describeOwner(session: Session, owner: number): string {
  if (owner === 0) return "None";
  const m = session.arena.i32;
  const at = agentAt(owner);
  const pid = m[at + A_PID];
  const thread = m[at + A_TID];
  if (owner === session.token) {
    return thread === 0 ? currentProcess().name : `${currentProcess().name}|Worker ${thread}`;
  }
  if (session.arena.isStale(owner)) return "SomeOtherProcess, dead";
  return pid === m[agentAt(session.token) + A_PID]
    ? `SomeOtherThread ${thread === 0 ? pid : thread}`
    : `SomeOtherProcess ${pid}`;
}
