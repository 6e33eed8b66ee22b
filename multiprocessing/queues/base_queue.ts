/**
 * What all kinds of queue have: put, get, and closing a handle.
 *
 * @module
 */
import { encode } from "../codec/mod.ts";
import type { Block } from "../core/arena.ts";
import { type Existing, Handle, isExisting } from "../core/handle.ts";
import { K_QUEUE, Q_MAX_BYTES, Q_MAX_ITEMS, Q_TYPE } from "../core/layout.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { checkWait, NOTHING, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { nothingLeft, QueueCore, throwIfError, unwrap } from "./core.ts";
import { sendAtExit } from "./unsent.ts";

const QUEUE_BYTES = 512;
const NO_OPTIONS: WaitOptions = {};

/** Limits of a {@linkcode Queue}. */
export interface QueueOptions {
  /** Most items that may lie in it; 0 for no limit. @default 0 */
  maxSize?: number;
  /** Most bytes of messages that may lie in it, headers of 24 bytes included; 0 for no limit. @default 0 */
  maxBytes?: number;
}

/** Checks a queue's limits, and gives what writes them into its block. */
function limits({ maxSize = 0, maxBytes = 0 }: QueueOptions): (m: Int32Array, block: Block) => void {
  for (const [name, value] of [["maxSize", maxSize], ["maxBytes", maxBytes]] as const) {
    if (!Number.isInteger(value) || value > 0x7fffffff) {
      throw new RangeError(
        `Cannot make a queue with ${name} ${value}: it must be a whole number up to ${0x7fffffff}; 0 or less is no limit`,
      );
    }
  }
  return (m, block) => {
    m[block + Q_MAX_ITEMS] = Math.max(0, maxSize);
    m[block + Q_MAX_BYTES] = Math.max(0, maxBytes);
  };
}

/** Base of {@linkcode Queue}, {@linkcode JoinableQueue} and {@linkcode SimpleQueue}. */
export abstract class BaseQueue<T> extends Handle {
  /** @ignore */
  protected readonly core: QueueCore;
  #closed = false;

  /** @ignore */
  protected constructor(type: number, options: Existing | QueueOptions) {
    const write = isExisting(options) ? null : limits(options);
    super(K_QUEUE, isExisting(options) ? options : null, QUEUE_BYTES, (m, block) => {
      m[block + Q_TYPE] = type;
      write?.(m, block);
    });
    this.core = (this.held.shared ??= new QueueCore(this.session, this.block, this.held)) as QueueCore;
  }

  /**
   * Puts an item, waiting for room if the queue is full. When it resolves, the item is safe from this process's death.
   * Of an array or buffer of 1 KiB and more, what is in it when it is written is sent: leave it alone until then.
   *
   * @throws {Full} the time was over
   * @throws {ShutDown} the queue was shut down
   * @throws {TypeError} the item holds what cannot be copied to another process, and the message says where in it; the queue is closed in this agent
   */
  put(item: T, w: WaitOptions = NO_OPTIONS): Promise<void> {
    try {
      if (this.disposed) this.checkUsable("put to");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const message = encode(item);
      const { putters } = this.core;
      if (putters.first === undefined && this.core.offer(message)) {
        return isDue() ? afterTurn(undefined) : Promise.resolve();
      }
      message.keep(); // the next encode reuses what is not kept
      return sendAtExit(this.core, putters.wait(w, timeout, message)).then(throwIfError);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Gets the oldest item, waiting for one if there is none. Who is killed once it has the item takes it along: see {@linkcode Queue.lease}.
   *
   * @throws {Empty} the time was over
   * @throws {ShutDown} the queue was shut down, and all its items were got
   * @throws {TypeError} the queue is closed in this agent
   */
  get(w: WaitOptions = NO_OPTIONS): Promise<T> {
    try {
      if (this.disposed) this.checkUsable("get from");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const { getters } = this.core;
      if (getters.first === undefined) {
        const value = this.core.take();
        if (value !== NOTHING) return isDue() ? afterTurn(value as T) : Promise.resolve(value as T);
        if (this.core.flags !== 0) throw nothingLeft();
      }
      return getters.wait(w, timeout).then(unwrap) as Promise<T>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Puts an item if there is room now. @throws {ShutDown} the queue was shut down */
  tryPut(item: T): boolean {
    if (this.disposed) this.checkUsable("put to");
    this.core.checkOpen();
    return this.core.putters.first === undefined && this.core.offer(encode(item));
  }

  /** The oldest item if there is one now, as `{ value }`, since any value may be an item. @throws {ShutDown} shut down, and empty */
  tryGet(): { value: T } | null {
    if (this.disposed) this.checkUsable("get from");
    const value = this.core.take();
    if (value !== NOTHING) return { value: value as T };
    if (this.core.flags !== 0) throw nothingLeft();
    return null;
  }

  /** As {@linkcode put}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  putSync(item: T, w: SyncWaitOptions = {}): void {
    this.checkUsable("put to");
    const timeout = this.session.waits.checkBlocking("put synchronously", w);
    const message = encode(item);
    if (this.core.putters.first === undefined && this.core.offer(message)) return;
    message.keep();
    throwIfError(this.session.waits.waitSync(this.core.putters, timeout, message));
  }

  /** As {@linkcode get}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  getSync(w: SyncWaitOptions = {}): T {
    this.checkUsable("get from");
    const timeout = this.session.waits.checkBlocking("get synchronously", w);
    const got = this.tryGet();
    return got !== null ? got.value : unwrap(this.session.waits.waitSync(this.core.getters, timeout)) as T;
  }

  /** Whether it is empty now. Others put and get meanwhile. @throws {TypeError} it is closed in this agent */
  empty(): boolean {
    this.checkUsable("look at");
    return this.core.use().items === 0;
  }

  /** Lets go of the queue in this agent: what was put stays for the others, and puts that wait for room go on waiting. Closing twice is closing once. */
  close(): void {
    this.#closed = true;
    this[Symbol.dispose]();
  }

  /** Whether this handle was closed or disposed. */
  get closed(): boolean {
    return this.#closed || this.disposed;
  }

  /** @ignore */
  protected checkUsable(what: string): void {
    if (this.#closed) {
      throw new TypeError(
        `Cannot ${what} this ${this.constructor.name}: it is closed in this agent; use it before close()`,
      );
    }
    this.checkLive(what);
  }

  /** For people: how full it is. */
  override toString(): string {
    return `${this.constructor.name}(${this.closed ? "closed" : this.core.describe()})`;
  }
}
