/**
 * CPython's `multiprocessing.JoinableQueue`.
 *
 * @module
 */
import type { Existing } from "../core/handle.ts";
import { QT_JOINABLE } from "../core/layout.ts";
import { checkWait, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import type { QueueOptions } from "./base_queue.ts";
import { Queue } from "./queue.ts";

/**
 * A {@linkcode Queue} that tells when all that was put has been dealt with: CPython's `multiprocessing.JoinableQueue`.
 *
 * Call `taskDone()` once for each item that was got; or take items by `lease()`, whose `ack()` counts as that. A consumer that is killed between
 * `get()` and `taskDone()` leaves the item unfinished for ever, as in CPython, and `join()` waits on. A leased item of a killed consumer comes back
 * instead, and is finished by another.
 *
 * @example
 * ```ts
 * import { JoinableQueue } from "@karellen/geventmp";
 * using queue = new JoinableQueue<string>();
 * await queue.put("job");
 * const lease = await queue.lease();
 * lease.ack();
 * await queue.join();
 * ```
 */
export class JoinableQueue<T = unknown> extends Queue<T> {
  /** Makes an empty queue. @throws {RangeError} a limit that is no whole number up to 2^31 - 1 */
  constructor(options?: QueueOptions);
  /** @ignore */
  constructor(options?: Existing | QueueOptions);
  constructor(options: Existing | QueueOptions = {}) {
    super(options, QT_JOINABLE);
  }

  /** Says that one item that was got is finished. @throws {RangeError} as often as items were put, it was said already */
  taskDone(): void {
    this.checkUsable("finish an item of");
    if (!this.core.finishOne()) {
      throw new RangeError(
        "Cannot call taskDone: it was called for each item that was put; call it once for an item that was got, and not for one whose lease was acknowledged",
      );
    }
  }

  /**
   * Waits until all items that were put are finished, if only for a moment. Items that an immediate shutdown dropped are not waited for.
   *
   * @throws {TimeoutError} the time was over; the message says how many are not finished
   */
  join(w: WaitOptions = {}): Promise<void> {
    try {
      this.checkUsable("join");
      const timeout = checkWait(w);
      const since = this.core.drained;
      if (this.core.isJoined(since)) return Promise.resolve();
      return this.core.joiners.wait(w, timeout, since).then(() => {});
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Whether all items that were put are finished now. */
  tryJoin(): boolean {
    this.checkUsable("join");
    return this.core.isJoined(this.core.drained);
  }

  /** As {@linkcode join}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  joinSync(w: SyncWaitOptions = {}): void {
    this.checkUsable("join");
    const timeout = this.session.waits.checkBlocking("join synchronously", w);
    const since = this.core.drained;
    if (!this.core.isJoined(since)) this.session.waits.waitSync(this.core.joiners, timeout, since);
  }
}
