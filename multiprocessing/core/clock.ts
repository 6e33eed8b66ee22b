/**
 * Timers and clocks, taken when the module loads: a test that replaces them with fake ones must not freeze a wait.
 *
 * @module
 */
import { threadCpuTime } from "../../platform/mod.ts";
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

let measuring = false;
let longestSection = 0;
let depth = 0;

/** Runs a section of work that an event started; when asked to, notes how long it held the loop. */
export function section(work: () => void): void {
  if (!measuring || depth > 0) return work();
  depth++;
  const start = threadCpuTime();
  try {
    work();
  } finally {
    depth--;
    longestSection = Math.max(longestSection, threadCpuTime() - start);
  }
}

/**
 * For benchmarks: the longest section that this module ran on the loop since the last call, in milliseconds of this thread's processor time, so
 * that what other processes took from it does not count. The first call starts measuring.
 */
export function takeLongestSection(): number {
  measuring = true;
  const longest = longestSection;
  longestSection = 0;
  return longest;
}
