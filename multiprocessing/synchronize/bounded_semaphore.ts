/**
 * Semaphores that cannot be released more often than they were acquired.
 *
 * @module
 */
import { type Existing, reviver } from "../core/handle.ts";
import { K_BOUNDED } from "../core/layout.ts";
import { Semaphore, type SemaphoreOptions } from "./semaphore.ts";
import { installSemaphore } from "./semaphore_core.ts";

/**
 * A semaphore whose value cannot rise above its first one, so that a release too many is an error: CPython's
 * `multiprocessing.BoundedSemaphore`, on every platform.
 */
export class BoundedSemaphore extends Semaphore {
  /**
   * Makes a bounded semaphore.
   *
   * @param value how many permits there are at first, and at most, 1 to 536,870,911
   * @throws {RangeError} a value out of bounds
   */
  constructor(value?: number, options?: SemaphoreOptions);
  /** @ignore */
  constructor(value?: Existing | number, options?: SemaphoreOptions);
  constructor(value: Existing | number = 1, options: SemaphoreOptions = {}) {
    super(value, options, K_BOUNDED);
  }
}

reviver(K_BOUNDED, (existing) => new BoundedSemaphore(existing));
installSemaphore(K_BOUNDED);
