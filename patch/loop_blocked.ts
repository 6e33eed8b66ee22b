/**
 * Tells who blocked the event loop, and where. Only what is patched can be seen: the loop cannot watch itself stand still.
 *
 * @module
 */
import { state } from "./state.ts";

/** One call that blocked the event loop of its agent. */
export interface LoopBlocked {
  /** The call, for example `"Deno.Command.prototype.outputSync"`. */
  readonly what: string;
  /** For how long, in milliseconds. */
  readonly duration: number;
  /** Where it was called: the frames of a stack, innermost first, one a line. */
  readonly stack: string;
}

/** Options of {@linkcode onLoopBlocked}. */
export interface LoopBlockedOptions {
  /** What is shorter is not told. Milliseconds. @default 100 */
  threshold?: number;
}

/** Who wants to know. */
export interface Watcher {
  readonly threshold: number;
  readonly callback: (blocked: LoopBlocked) => void;
}

const DEFAULT_THRESHOLD_MS = 100;
/** Taken at load, so that a fake clock in a test changes nothing. */
const now = performance.now.bind(performance);

export { now };

/**
 * Calls back after each patched synchronous call that blocked this agent's event loop for long. `GEVENTMP_WARN_BLOCKING=<milliseconds>` in
 * the environment does so without code: a warning on stderr.
 *
 * The callback runs before the call returns to its caller. What it throws is reported as an uncaught error, and does not reach the caller.
 *
 * @param callback is told which call it was, for how long it blocked, and where it was made
 * @param options from how long on
 * @returns ends it when disposed
 * @throws {TypeError} the callback is no function
 * @throws {RangeError} the threshold is no number of at least 0
 *
 * @example
 * ```ts
 * import { onLoopBlocked, patchAll } from "@karellen/geventmp";
 * patchAll();
 * using _watch = onLoopBlocked(({ what, duration, stack }) => console.log(what, duration, stack), { threshold: 50 });
 * ```
 */
export function onLoopBlocked(
  callback: (blocked: LoopBlocked) => void,
  options: LoopBlockedOptions = {},
): Disposable {
  const threshold = options.threshold ?? DEFAULT_THRESHOLD_MS;
  if (typeof callback !== "function") {
    throw new TypeError(`Cannot watch the loop: the callback is ${String(callback)}; pass a function`);
  }
  if (!(threshold >= 0)) {
    throw new RangeError(
      `Cannot watch the loop: threshold must be a number of milliseconds of at least 0, and it is ${threshold}`,
    );
  }
  const watcher = { threshold, callback };
  state().watchers.add(watcher);
  return { [Symbol.dispose]: () => void state().watchers.delete(watcher) };
}

/**
 * Tells the watchers of a call that is over.
 *
 * @param what the call
 * @param duration in milliseconds
 * @param entry the function above which the caller's frames begin
 */
export function report(what: string, duration: number, entry: (...args: never[]) => unknown): void {
  const told = [...state().watchers].filter(({ threshold }) => duration >= threshold);
  if (told.length === 0) return;
  const holder: { stack?: string } = {};
  Error.captureStackTrace(holder, entry);
  // Its first line is no frame, and on Bun the Proxy in the function's place is one.
  const stack = (holder.stack ?? "").replace(/^.*\n(?: *at unknown\n)?/, "");
  for (const { callback } of told) {
    try {
      callback({ what, duration, stack });
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}
