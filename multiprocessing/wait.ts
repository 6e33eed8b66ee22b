/**
 * Waiting for several objects at once: CPython's `multiprocessing.connection.wait`.
 *
 * @module
 */
import { clearTimeout, now, setTimeout } from "./core/clock.ts";
import { kWaitable, type Waitable } from "./core/waitable.ts";
import { checkWait, type WaitOptions } from "./core/waits.ts";

/**
 * Waits until at least one of several objects is ready: a connection has a message or is at its end, a queue has an item or was shut down, the
 * process of a sentinel has ended. Nothing is taken, so an object stays ready until somebody takes what there is.
 *
 * @param waitables connections, queues, and `sentinel`s of processes
 * @returns those that are ready, in the order given; none when the time was over
 * @throws {TypeError} one of them cannot be waited for; or there is none, and neither a time-out nor a signal that would end the wait
 *
 * @example
 * ```ts
 * import { Pipe, wait } from "@karellen/geventmp";
 * const [a, b] = Pipe<string>();
 * const [c] = Pipe<string>();
 * await b.send("for a");
 * console.log((await wait([a, c])).length, await wait([c], { timeout: 10 })); // 1 []
 * ```
 */
export async function wait<W extends Waitable>(waitables: Iterable<W>, w: WaitOptions = {}): Promise<W[]> {
  const timeout = checkWait(w);
  const deadline = now() + timeout;
  const all = [...new Set(waitables)].map((object) => {
    const readiness = object?.[kWaitable];
    if (readiness === undefined) {
      throw new TypeError(
        `Cannot wait for ${
          object === null ? "null" : typeof object
        }: it must be a connection, a queue, or the sentinel of a process`,
      );
    }
    return { object, readiness };
  });
  if (all.length === 0 && timeout === Infinity && !w.signal) {
    throw new TypeError("Cannot wait for nothing: it would never end; pass an object, a timeout or a signal");
  }
  for (;;) {
    const ready = all.filter(({ readiness }) => readiness.isReady()).map(({ object }) => object);
    const left = deadline - now();
    if (ready.length > 0 || left <= 0) return ready;
    // Who was ready may have been emptied by another agent since: then the wait goes on.
    await first(all.map(({ readiness }) => readiness), left, w);
  }
}

/** Resolves when one of them is ready or the time is over, with nothing left behind. */
async function first(
  all: { whenReady(w: WaitOptions): Promise<unknown> }[],
  timeout: number,
  { signal, ref }: WaitOptions,
): Promise<void> {
  const others = new AbortController();
  let timer: unknown;
  let onAbort: (() => void) | undefined;
  try {
    await new Promise<unknown>((resolve, reject) => {
      if (timeout !== Infinity) timer = setTimeout(() => resolve(undefined), Math.min(timeout, 0x7fffffff));
      if (signal) signal.addEventListener("abort", onAbort = () => reject(signal.reason));
      // What rejects after that was aborted below.
      for (const each of all) each.whenReady({ signal: others.signal, ref }).then(resolve, reject);
    });
  } finally {
    others.abort();
    if (timer !== undefined) clearTimeout(timer);
    if (onAbort !== undefined) signal!.removeEventListener("abort", onAbort);
  }
}
