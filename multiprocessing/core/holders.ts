/**
 * Who must be told before this agent blocks in a call that knows nothing of this module. It stands alone, so that who makes such calls need not
 * load the core to find that there is no session.
 *
 * @module
 */

/** A session's waits, as seen by a blocking call. */
export interface Holder {
  /** This agent is about to block. Never throws while the session is open. */
  beginHold(): void;
  /** It blocks no more. */
  endHold(): void;
}

// Two copies of this package in one agent are two members of the session, and both must be told.
const KEY = Symbol.for("geventmp.holders");
const scope = globalThis as { [KEY]?: Set<Holder> };

/** The open sessions of this agent. */
export function holders(): Set<Holder> {
  return scope[KEY] ??= new Set();
}
