/**
 * Timers and clocks, taken when the module loads: a test that replaces them with fake ones must not freeze a wait.
 *
 * @module
 */
import { timers } from "../../platform/runtime/timers.ts";

const { queueMicrotask, performance } = globalThis;
const now = performance.now.bind(performance);
const origin = performance.timeOrigin;

export { now, queueMicrotask };

/** The runtime's `setTimeout`. */
export function setTimeout(callback: () => void, milliseconds: number): unknown {
  return timers().setTimeout(callback, milliseconds);
}

/** The runtime's `clearTimeout`. */
export function clearTimeout(id: unknown): void {
  timers().clearTimeout(id);
}

/** Wall time in 0.1 ms as a 32-bit number, the same in all processes of the machine. For hints only: clocks may be set. */
export function sharedTime(): number {
  return ((origin + now()) * 10) | 0;
}

/** Most milliseconds that one run of this module's own code took on the loop, when it was asked to measure. */
export let longestSection = 0;
let depth = 0;

/** Runs a section of work that an event started, and notes how long it held the loop. */
export function section(work: () => void): void {
  if (depth > 0) return work();
  depth++;
  const start = now();
  try {
    work();
  } finally {
    depth--;
    const took = now() - start;
    if (took > longestSection) longestSection = took;
  }
}

/** For benchmarks: reads the longest section and starts anew. */
export function takeLongestSection(): number {
  const longest = longestSection;
  longestSection = 0;
  return longest;
}
