/**
 * CPython's `multiprocessing.SimpleQueue`.
 *
 * @module
 */
import type { Existing } from "../core/handle.ts";
import { QT_SIMPLE } from "../core/layout.ts";
import { BaseQueue } from "./base_queue.ts";

/**
 * A queue without limits, with put, get, empty and close: CPython's `multiprocessing.SimpleQueue`.
 *
 * @example
 * ```ts
 * import { SimpleQueue } from "@karellen/geventmp";
 * using queue = new SimpleQueue<number>();
 * await queue.put(1);
 * console.log(await queue.get(), queue.empty());
 * ```
 */
export class SimpleQueue<T = unknown> extends BaseQueue<T> {
  /** Makes an empty queue. */
  constructor();
  /** @ignore */
  constructor(existing?: Existing);
  constructor(existing?: Existing) {
    super(QT_SIMPLE, existing ?? {});
  }
}
