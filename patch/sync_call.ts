/**
 * JavaScript cannot suspend a synchronous call: it holds its agent until it is over. So that nobody waits for an agent that cannot come,
 * the session is told: what would be granted to this agent goes to others, what it was granted already is passed on, and afterwards it looks again.
 *
 * A lock that the agent holds stays held, and its own puts that wait for room wait on: nothing of this agent runs during such a call.
 *
 * @module
 */
import { holders } from "../multiprocessing/core/holders.ts";
import { now, report } from "./loop_blocked.ts";
import { type AnyFunction, state } from "./state.ts";

/** The frames that a replacement adds to a stack: its own, and on Bun that of the Proxy. */
const FRAMES = /^.*\bserveSessionDuringCall\b.*(?:\n|$)(?: *at unknown(?:\n|$))?/m;
const FRAME_COUNT = "Bun" in globalThis ? 2 : 1;

/**
 * Puts in a function's place one that serves the session while it blocks, and does all else as before. A Proxy, so that name, length and
 * properties are the function's own.
 *
 * @param owner the object that has the function
 * @param key the property
 * @param name how one writes it, for {@linkcode PatchState.originals}
 */
export function replaceSyncCall<K extends string>(
  owner: { [key in K]: AnyFunction },
  key: K,
  name: string,
): void {
  const { originals } = state();
  const original = owner[key];
  // A test may have put something else there.
  if (originals.has(name) || typeof original !== "function") return;
  originals.set(name, original);
  owner[key] = new Proxy(original, {
    apply: function serveSessionDuringCall(target, self, args): unknown {
      const held = [...holders()];
      for (const holder of held) holder.beginHold();
      const limit = Error.stackTraceLimit;
      setStackTraceLimit(limit + FRAME_COUNT);
      const start = now();
      try {
        const result = Reflect.apply(target, self, args);
        // spawnSync of node:child_process returns its error.
        hideFrames(result?.error);
        return result;
      } catch (error) {
        hideFrames(error);
        throw error;
      } finally {
        const duration = now() - start;
        setStackTraceLimit(limit);
        for (const holder of held) holder.endHold();
        report(name, duration, serveSessionDuringCall);
      }
    },
  });
}

/** A program may have deleted or frozen it: then a deep stack lacks a frame at its far end. */
function setStackTraceLimit(limit: number): void {
  if (typeof Error.stackTraceLimit === "number") Reflect.set(Error, "stackTraceLimit", limit);
}

/**
 * Takes the replacement's own frames out of an error's stack. (On Bun `line`, `column` and `sourceURL`, which Bun adds to errors of its own,
 * still tell of them.)
 */
function hideFrames(error: unknown): void {
  if (!(error instanceof Error) || typeof error.stack !== "string") return;
  const stack = error.stack.replace(FRAMES, "");
  if (stack !== error.stack) Reflect.set(error, "stack", stack);
}
