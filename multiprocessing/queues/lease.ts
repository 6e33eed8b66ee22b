/**
 * A lease: an item that is this agent's only for as long as it lives and does not give it back.
 *
 * @module
 */
import type { LeasedItem, QueueCore } from "./core.ts";

/**
 * An item of a queue that comes back, before newer ones, unless it is acknowledged: when its taker dies at any moment, gives it back, lets go of
 * the queue, or leaves the `using` scope. So an item is taken care of at least once, and by one consumer at a time.
 */
export interface Lease<T> extends Disposable {
  /** The item. */
  readonly value: T;
  /**
   * The item is done: it is gone from the queue. On a {@linkcode JoinableQueue} it counts as finished in the same step, without `taskDone()`. A
   * second call does nothing.
   *
   * @throws {TypeError} it came back before: it was given back, or the queue was closed in this agent
   */
  ack(): void;
  /** Gives the item back. After `ack()`, and a second time, it does nothing. */
  nack(): void;
}

export class ItemLease<T> implements Lease<T> {
  readonly value: T;
  readonly #core: QueueCore;
  readonly #item: LeasedItem;
  /** Keeps the handle from being dropped, and with it the item from coming back. */
  readonly #queue: { readonly disposed: boolean };
  #state: "held" | "acknowledged" | "given back" = "held";

  constructor(queue: { readonly disposed: boolean }, core: QueueCore, item: LeasedItem) {
    this.#queue = queue;
    this.#core = core;
    this.#item = item;
    this.value = item.value as T;
  }

  ack(): void {
    if (this.#state === "acknowledged") return;
    if (this.#state === "given back" || this.#isLost()) {
      throw new TypeError(
        `Cannot acknowledge the item: ${
          this.#state === "given back"
            ? "it was given back to the queue before"
            : "its queue was closed in this agent, which gave it back"
        }; call ack() first`,
      );
    }
    this.#state = "acknowledged";
    this.#core.acknowledge(this.#item.entry, this.#item.carried);
  }

  nack(): void {
    if (this.#state !== "held") return;
    this.#state = "given back";
    if (!this.#isLost()) this.#core.giveBack(this.#item.entry);
  }

  /** With this agent's last handle all its leases went back. */
  #isLost(): boolean {
    return this.#core.session.closed || (this.#queue.disposed && this.#core.isReleased());
  }

  [Symbol.dispose](): void {
    this.nack();
  }
}
