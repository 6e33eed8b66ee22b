/**
 * The session as a user sees it.
 *
 * @module
 */
import { current } from "./core/session.ts";

/** This agent's membership in a session: see {@linkcode session}. */
export interface SessionHandle extends AsyncDisposable {
  /** Whether it was joined, rather than made by this agent. */
  readonly inherited: boolean;
}

/**
 * The session of this agent, joined or made at first use; every handle needs it, so calling this is needed only to end it.
 *
 * Disposing leaves nothing open in this agent: no descriptor, timer or listener. Waits that are pending reject, handles are disposed. The
 * next handle opens the session anew.
 *
 * @example
 * ```ts
 * import { Lock, session } from "@karellen/geventmp";
 * Deno.test("a lock", async () => {
 *   await using _session = session();
 *   using _guard = await new Lock().acquire();
 * });
 * ```
 */
export function session(): SessionHandle {
  const joined = current();
  return { inherited: joined.inherited, [Symbol.asyncDispose]: () => joined.close() };
}
