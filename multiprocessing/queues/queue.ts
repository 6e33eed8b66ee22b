/**
 * CPython's `multiprocessing.Queue`.
 *
 * @module
 */
import type { Existing } from "../core/handle.ts";
import { QF_IMMEDIATE, QF_SHUTDOWN, QT_QUEUE } from "../core/layout.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { kWaitable, LOOK, type Readiness, type Waitable } from "../core/waitable.ts";
import { checkWait, NOTHING, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { Empty, Full, ShutDown } from "../errors.ts";
import { BaseQueue, type QueueOptions } from "./base_queue.ts";
import { LEASE, type LeasedItem, nothingLeft, unwrap } from "./core.ts";
import { ItemLease, type Lease } from "./lease.ts";

const NO_OPTIONS: WaitOptions = {};

/**
 * A first-in, first-out queue that any process or Worker of the session may put to and get from: CPython's `multiprocessing.Queue`.
 *
 * Order is kept for each producer, and over producers as far as one put ended before another began. What is put is in shared memory when `put`
 * returns: it is delivered even if its producer dies then. An item that a killed consumer had not finished taking is delivered again.
 *
 * @example
 * ```ts
 * import { Queue } from "@karellen/geventmp";
 * using queue = new Queue<{ n: number }>();
 * await queue.put({ n: 1 });
 * console.log(await queue.get());
 * ```
 */
export class Queue<T = unknown> extends BaseQueue<T> implements AsyncIterable<T>, Waitable {
  /** Makes an empty queue. @throws {RangeError} a limit that is no whole number up to 2^31 - 1 */
  constructor(options?: QueueOptions);
  /** @ignore */
  constructor(options?: Existing | QueueOptions, type?: number);
  constructor(options: Existing | QueueOptions = {}, type: number = QT_QUEUE) {
    super(type, options);
  }

  /**
   * Takes the oldest item for as long as this agent lives: it comes back, before newer ones, unless {@linkcode Lease.ack} is called. A leased item
   * does not count in `qsize()` and leaves room for another; when it comes back there may be more than `maxSize` for a while.
   *
   * @example
   * ```ts
   * import { Queue } from "@karellen/geventmp";
   * using jobs = new Queue<string>();
   * await jobs.put("job");
   * {
   *   using lease = await jobs.lease();
   *   console.log(lease.value); // if this throws, or the process is killed, another consumer gets the job
   *   lease.ack();
   * }
   * ```
   *
   * @throws {Empty} the time was over
   * @throws {ShutDown} the queue was shut down, and nothing is left in it; what is leased may still come back
   * @throws {RangeError} the session's memory is at its cap; the item stays in the queue
   */
  lease(w: WaitOptions = NO_OPTIONS): Promise<Lease<T>> {
    try {
      if (this.disposed) this.checkUsable("lease from");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const { getters } = this.core;
      if (getters.first === undefined) {
        const lease = this.#leaseNow();
        if (lease !== null) return isDue() ? afterTurn(lease) : Promise.resolve(lease);
      }
      return getters.wait(w, timeout, LEASE).then((result) => this.#lease(unwrap(result)));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** As {@linkcode lease}, if there is an item now. @throws {ShutDown} shut down, and empty */
  tryLease(): Lease<T> | null {
    if (this.disposed) this.checkUsable("lease from");
    return this.#leaseNow();
  }

  /** As {@linkcode lease}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  leaseSync(w: SyncWaitOptions = {}): Lease<T> {
    this.checkUsable("lease from");
    const timeout = this.session.waits.checkBlocking("lease synchronously", w);
    return this.#leaseNow() ??
      this.#lease(unwrap(this.session.waits.waitSync(this.core.getters, timeout, LEASE)));
  }

  #leaseNow(): Lease<T> | null {
    const item = this.core.lease();
    if (item !== NOTHING) return this.#lease(item);
    if (this.core.flags !== 0) throw nothingLeft();
    return null;
  }

  #lease(item: unknown): Lease<T> {
    return new ItemLease<T>(this, this.core, item as LeasedItem);
  }

  /** Puts an item if there is room now. @throws {Full} there is none @throws {ShutDown} the queue was shut down */
  putNowait(item: T): void {
    if (!this.tryPut(item)) throw new Full(`Cannot put: there is no room now; ${this.core.describe()}`);
  }

  /** The oldest item. @throws {Empty} there is none now @throws {ShutDown} shut down, and empty */
  getNowait(): T {
    const got = this.tryGet();
    if (got === null) throw new Empty("Cannot get: the queue is empty now");
    return got.value;
  }

  /** How many items lie in it. Others put and get meanwhile, so it may be wrong when you read it. What is leased does not count. */
  qsize(): number {
    this.checkUsable("look at");
    return this.core.use().items;
  }

  /**
   * Whether it is empty now.
   *
   * @throws {TypeError} it is closed in this agent; but a queue that this agent never put to answers `true`, as in CPython, where closing it is nothing
   */
  override empty(): boolean {
    return this.closed && !this.session.closed && !this.core.wasPutTo ? true : super.empty();
  }

  /** Whether there is no room now. */
  full(): boolean {
    this.checkUsable("look at");
    return !this.core.hasRoom();
  }

  /**
   * Ends the queue for all: puts reject with `ShutDown` from now on, those that wait for room too; gets go on until it is empty, then reject too.
   *
   * @param options `immediate`: what lies in the queue is dropped, and so is what comes back from leases; its memory is freed with the queue
   */
  shutdown(options: { immediate?: boolean } = {}): void {
    this.checkUsable("shut down");
    this.core.shutdown(options.immediate === true ? QF_SHUTDOWN | QF_IMMEDIATE : QF_SHUTDOWN);
  }

  /** @ignore */
  get [kWaitable](): Readiness {
    if (this.disposed) this.checkUsable("wait for");
    const { core } = this;
    return {
      isReady: () => core.isReady(),
      whenReady: (w) => core.getters.wait(w, Infinity, LOOK),
    };
  }

  /** Items as they come, until the queue is shut down and empty. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<T> {
    for (;;) {
      let item: T;
      try {
        item = await this.get();
      } catch (error) {
        if (error instanceof ShutDown) return;
        throw error;
      }
      yield item;
    }
  }
}
