/**
 * Blocking the thread: plain sleep, and parking for systems without a futex that works between processes.
 *
 * @module
 */
import { type Address, errno, SystemError, viewAt } from "../../ffi/mod.ts";
import type { ParkingMechanism } from "../types.ts";
import { errnos, libc } from "./system.ts";

// struct timespec { time_t tv_sec; long tv_nsec; } in halves, so that no call allocates a bigint.
const requested = new Uint8Array(16);
const halves = new Int32Array(requested.buffer);

/** Fills a `struct timespec` of two 64-bit fields, given as four 32-bit halves. */
export function setTimespec(target: Int32Array, milliseconds: number): void {
  const clamped = Math.max(0, Math.min(milliseconds, 0x7fffffff * 1000));
  const seconds = Math.floor(clamped / 1000);
  target[0] = seconds;
  target[1] = 0;
  target[2] = Math.min(999_999_999, Math.round((clamped - seconds * 1000) * 1e6));
  target[3] = 0;
}

/**
 * Blocks the calling thread. A signal does not shorten it.
 *
 * @param milliseconds how long; fractions count
 * @throws {RangeError} the time is NaN
 */
export function sleepSync(milliseconds: number): void {
  if (Number.isNaN(milliseconds)) throw new RangeError("Cannot sleep: the time is NaN; pass milliseconds");
  setTimespec(halves, milliseconds);
  // nanosleep writes the rest back when a signal ends it.
  while (libc.nanosleep(requested, requested) < 0) {
    const code = errno();
    if (code !== errnos.EINTR) throw new SystemError("nanosleep", code);
  }
}

/** First and longest pause of a parked thread, in milliseconds: a hand-over costs one of these at most. */
const FIRST_PAUSE = 0.05;
const LONGEST_PAUSE = 2;

/** Parking by short sleeps between looks at the word. Waking has nothing to do: the sleeper looks again by itself. */
export const sleepingParking: ParkingMechanism = {
  parkWord(address: Address, expected: number, milliseconds: number): void {
    const word = new Int32Array(viewAt(address, 4));
    const end = performance.now() + milliseconds;
    for (
      let pause = FIRST_PAUSE;
      Atomics.load(word, 0) === (expected | 0);
      pause = Math.min(LONGEST_PAUSE, pause * 2)
    ) {
      const left = end - performance.now();
      if (left <= 0) return;
      sleepSync(Math.min(pause, left));
    }
  },
  unparkWord(): void {
    // See above.
  },
};
