/**
 * Queues between all processes and Workers of a session: CPython's `multiprocessing.Queue`, with a lane for each producer in shared memory
 * instead of a pipe and a feeder thread.
 *
 * @module
 */
import { decode, encode, type Encoded } from "./codec/mod.ts";
import { type Existing, Handle, isExisting, revive, reviver } from "./core/handle.ts";
import { Consumer, finishLanes, installLanes, laneUse, orphanLane, Producer } from "./core/lanes.ts";
import {
  K_QUEUE,
  LN_NEXT,
  N_ANNOUNCED,
  N_CHANNEL,
  N_CHANNEL2,
  N_HAZARD,
  N_HOLDER,
  Q_FLAGS,
  Q_GETTERS,
  Q_LANES,
  Q_MAX_BYTES,
  Q_MAX_ITEMS,
  Q_PUTTERS,
  QF_IMMEDIATE,
  QF_SHUTDOWN,
  QUEUE_NODES,
  RC_HEADER_BYTES,
  TOKEN_SLOT_MASK,
} from "./core/layout.ts";
import type { Block } from "./core/arena.ts";
import { onOpen, type Session } from "./core/session.ts";
import {
  checkWait,
  NodeCursor,
  NOTHING,
  type Source,
  type SyncWaitOptions,
  WaitList,
  type WaitOptions,
} from "./core/waits.ts";
import { afterTurn, isDue } from "./core/turns.ts";
import { Empty, Full, ShutDown } from "./errors.ts";

const QUEUE_BYTES = 512;
const NO_OPTIONS: WaitOptions = {};

/** Limits of a {@linkcode Queue}. */
export interface QueueOptions {
  /** Most items that may lie in it; 0 for no limit. @default 0 */
  maxSize?: number;
  /** Most bytes of messages that may lie in it, headers of 24 bytes included; 0 for no limit. @default 0 */
  maxBytes?: number;
}

/** What a get came to: an item, or why there will be none. */
interface Taken {
  value: unknown;
  error: unknown;
  failed: boolean;
}

/** The queue, as all handles of this agent to it share it. */
class QueueCore {
  readonly session: Session;
  readonly block: Block;
  readonly node: number;
  readonly getters: WaitList<Taken>;
  readonly putters: WaitList<unknown>;
  readonly #m: Int32Array;
  readonly #consumer: Consumer;
  #producer: Producer | undefined;
  readonly #bounded: boolean;
  readonly #u8: Uint8Array;
  #value: unknown;
  readonly #read = (offset: number, byteLength: number): void => {
    this.#value = decode(this.#u8, offset, byteLength, revive);
  };

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.node = node;
    const m = this.#m = session.arena.i32;
    this.#u8 = session.arena.u8;
    this.#bounded = m[block + Q_MAX_ITEMS] > 0 || m[block + Q_MAX_BYTES] > 0;
    this.#consumer = new Consumer(session, block, node);
    this.getters = new WaitList<Taken>(
      session.waits,
      block,
      node,
      N_CHANNEL,
      getSource(this),
      (ms) => new Empty(`Cannot get: no item came within ${ms} ms`),
    );
    this.putters = new WaitList<unknown>(
      session.waits,
      block,
      node,
      N_CHANNEL2,
      putSource(this),
      (ms) => new Full(`Cannot put: no room within ${ms} ms; ${this.describe()}`),
    );
  }

  describe(): string {
    const { items, bytes } = this.use();
    return `the queue holds ${items} items (limit ${
      this.#m[this.block + Q_MAX_ITEMS] || "none"
    }) and ${bytes} bytes (limit ${this.#m[this.block + Q_MAX_BYTES] || "none"})`;
  }

  get flags(): number {
    return Atomics.load(this.#m, this.block + Q_FLAGS);
  }

  /** The next item, or NOTHING. */
  take(): unknown {
    const m = this.#m;
    if ((this.flags & QF_IMMEDIATE) !== 0) return NOTHING;
    let taken: boolean;
    try {
      taken = this.#consumer.take(this.#read);
    } finally {
      // An item that cannot be read is gone, too, and leaves room.
      if (this.#bounded && Atomics.load(m, this.block + Q_PUTTERS) !== 0) this.wakePutter();
    }
    if (!taken) return NOTHING;
    const value = this.#value;
    this.#value = undefined;
    return value;
  }

  hasItem(): boolean {
    return (this.flags & QF_IMMEDIATE) === 0 && this.#consumer.hasRecord();
  }

  /** Puts a message if there is room. @throws {ShutDown} */
  offer(message: Encoded): boolean {
    const m = this.#m;
    this.checkOpen();
    const producer = this.#producer ??= Producer.open(this.session, this.block, this.node);
    if (!this.#bounded) producer.put(message);
    else {
      if (!this.#announce(message.byteLength)) {
        // Another putter may sleep because this one had announced.
        if (Atomics.load(m, this.block + Q_PUTTERS) !== 0) this.passPutter();
        return false;
      }
      try {
        producer.put(message);
      } finally {
        Atomics.store(m, this.node + N_ANNOUNCED, 0);
      }
      // Another putter may have seen this one counted twice, published and announced.
      if (Atomics.load(m, this.block + Q_PUTTERS) !== 0) this.passPutter();
    }
    if (Atomics.load(m, this.block + Q_GETTERS) !== 0) this.wakeGetter();
    return true;
  }

  checkOpen(): void {
    if ((this.flags & QF_SHUTDOWN) !== 0) throw new ShutDown("Cannot put: the queue was shut down");
  }

  /**
   * Claims room for one item without a counter that a kill could leave wrong: each agent says in its own node that it is about to put, and then
   * counts what lies in the lanes and what is announced. Of several that come too close, the one with the lowest slot stands and the others
   * step back, so that the last place is never refused to all.
   */
  #announce(byteLength: number): boolean {
    const m = this.#m;
    Atomics.store(m, this.node + N_ANNOUNCED, RC_HEADER_BYTES + byteLength);
    for (let tries = 0; tries < 100; tries++) {
      const { fits, others, lower } = this.#room(byteLength);
      if (fits) return true;
      if (others === 0 || lower) break;
    }
    Atomics.store(m, this.node + N_ANNOUNCED, 0);
    return false;
  }

  /** Whether there is room for a message, beside what others have announced, and who they are: how many, and whether a slot is lower. */
  #room(byteLength: number): { fits: boolean; others: number; lower: boolean } {
    const m = this.#m;
    const maxItems = m[this.block + Q_MAX_ITEMS];
    const maxBytes = m[this.block + Q_MAX_BYTES];
    const slot = this.session.token & TOKEN_SLOT_MASK;
    let others = 0;
    let othersBytes = 0;
    let lower = false;
    for (const c = new NodeCursor(m).start(this.block, QUEUE_NODES); c.next();) {
      const size = c.at === this.node ? 0 : Atomics.load(m, c.at + N_ANNOUNCED);
      if (size === 0) continue;
      others++;
      othersBytes += size;
      if ((Atomics.load(m, c.at + N_HOLDER) & TOKEN_SLOT_MASK) < slot) lower = true;
    }
    // After the announcements, as a put publishes first: so it is seen twice, or once, and never missed.
    const { items, bytes } = this.use();
    const fits = (maxItems === 0 || items + others < maxItems) &&
      (maxBytes === 0 || bytes + othersBytes + RC_HEADER_BYTES + byteLength <= maxBytes ||
        items + others === 0);
    return { fits, others, lower };
  }

  /**
   * Whether a put of so many bytes would find room now. Decided as {@linkcode offer} decides it: a waiter that finds room here and is refused
   * there looks again and again, and never sleeps.
   */
  fits(byteLength: number): boolean {
    return this.#room(byteLength).fits;
  }

  /** Whether the queue is below its limits. */
  hasRoom(): boolean {
    const m = this.#m;
    const maxItems = m[this.block + Q_MAX_ITEMS];
    const maxBytes = m[this.block + Q_MAX_BYTES];
    const { items, bytes } = this.use();
    return (maxItems === 0 || items < maxItems) && (maxBytes === 0 || bytes < maxBytes);
  }

  use(): { items: number; bytes: number } {
    const m = this.#m;
    let items = 0;
    let bytes = 0;
    for (let lane = Atomics.load(m, this.block + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
      const use = laneUse(m, lane);
      items += use.items;
      bytes += use.bytes;
    }
    return { items, bytes };
  }

  /** Reaps those who died in the middle of a get or a put: nobody else may look at them, and an item or its place is theirs until then. */
  check(isDead: (token: number) => boolean): void {
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, QUEUE_NODES); c.next();) {
      if (Atomics.load(m, c.at + N_HAZARD) === 0 && Atomics.load(m, c.at + N_ANNOUNCED) === 0) continue;
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder > 0 && isDead(holder)) this.session.agents.reap(holder);
    }
  }

  wakeGetter(): void {
    Atomics.store(this.#m, this.block + Q_GETTERS, 0);
    this.session.waits.wakeNext(this.block, QUEUE_NODES, N_CHANNEL);
  }

  wakePutter(): void {
    Atomics.store(this.#m, this.block + Q_PUTTERS, 0);
    this.session.waits.wakeNext(this.block, QUEUE_NODES, N_CHANNEL2);
  }

  passGetter(): void {
    if (Atomics.load(this.#m, this.block + Q_GETTERS) !== 0 && (this.hasItem() || this.flags !== 0)) {
      this.wakeGetter();
    }
  }

  passPutter(): void {
    if (Atomics.load(this.#m, this.block + Q_PUTTERS) !== 0 && (this.fits(0) || this.flags !== 0)) {
      this.wakePutter();
    }
  }

  shutdown(flags: number): void {
    Atomics.or(this.#m, this.block + Q_FLAGS, flags);
    this.wakeGetter();
    this.wakePutter();
  }
}

const taken = (value: unknown): Taken => ({ value, error: undefined, failed: false });
const failure = (error: unknown): Taken => ({ value: undefined, error, failed: true });

function getSource(core: QueueCore): Source<Taken> {
  const m = core.session.arena.i32;
  const attempt = (): Taken | typeof NOTHING => {
    try {
      const value = core.take();
      if (value !== NOTHING) return taken(value);
      return core.flags === 0
        ? NOTHING
        : failure(new ShutDown("Cannot get: the queue was shut down, and nothing is left in it"));
    } catch (error) {
      return failure(error);
    }
  };
  return {
    attempt: (woken) => {
      // Others may wait that nobody will set the flag for: it was cleared to wake this agent.
      if (woken) Atomics.store(m, core.block + Q_GETTERS, 1);
      return attempt();
    },
    mark: () => {
      Atomics.store(m, core.block + Q_GETTERS, 1);
      return core.hasItem() || core.flags !== 0;
    },
    reserve: () => {},
    pass: () => {
      Atomics.store(m, core.block + Q_GETTERS, 1);
      core.passGetter();
    },
    check: (isDead) => core.check(isDead),
  };
}

function putSource(core: QueueCore): Source<unknown> {
  const m = core.session.arena.i32;
  return {
    attempt: (woken, item) => {
      if (woken) Atomics.store(m, core.block + Q_PUTTERS, 1);
      try {
        return core.offer(item as Encoded) ? null : NOTHING;
      } catch (error) {
        return error;
      }
    },
    mark: (_woken, item) => {
      Atomics.store(m, core.block + Q_PUTTERS, 1);
      return core.fits((item as Encoded).byteLength) || core.flags !== 0;
    },
    reserve: () => {},
    pass: () => {
      Atomics.store(m, core.block + Q_PUTTERS, 1);
      core.passPutter();
    },
    check: (isDead) => core.check(isDead),
  };
}

function unwrap<T>(result: Taken): T {
  if (result.failed) throw result.error;
  return result.value as T;
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
export class Queue<T = unknown> extends Handle implements AsyncIterable<T> {
  readonly #core: QueueCore;

  /** Makes an empty queue. @throws {RangeError} a limit that is no whole number from 0 to 2^31 - 1 */
  constructor(options?: QueueOptions);
  /** @ignore */
  constructor(existing?: Existing | QueueOptions);
  constructor(options: Existing | QueueOptions = {}) {
    super(
      K_QUEUE,
      isExisting(options) ? options : null,
      QUEUE_BYTES,
      isExisting(options) ? () => {} : limits(options),
    );
    this.#core = (this.held.shared ??= new QueueCore(this.session, this.block, this.held.node)) as QueueCore;
  }

  /**
   * Puts an item, waiting for room if the queue is full. When it resolves, the item is safe from this process's death.
   *
   * @throws {Full} the time was over
   * @throws {ShutDown} the queue was shut down
   * @throws {TypeError} the item holds what cannot be copied to another process; the message says where in it
   */
  put(item: T, w: WaitOptions = NO_OPTIONS): Promise<void> {
    try {
      if (this.disposed) this.checkLive("put to");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const message = encode(item);
      const { putters } = this.#core;
      if (putters.first === undefined && this.#core.offer(message)) {
        return isDue() ? afterTurn(undefined) : Promise.resolve();
      }
      message.keep(); // the next encode reuses what is not kept
      return putters.wait(w, timeout, message).then(throwIfError);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Gets the oldest item, waiting for one if there is none.
   *
   * @throws {Empty} the time was over
   * @throws {ShutDown} the queue was shut down, and all its items were got
   */
  get(w: WaitOptions = NO_OPTIONS): Promise<T> {
    try {
      if (this.disposed) this.checkLive("get from");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const { getters } = this.#core;
      if (getters.first === undefined) {
        const value = this.#core.take();
        if (value !== NOTHING) return isDue() ? afterTurn(value as T) : Promise.resolve(value as T);
        if (this.#core.flags !== 0) {
          throw new ShutDown("Cannot get: the queue was shut down, and nothing is left in it");
        }
      }
      return getters.wait(w, timeout).then(unwrap<T>);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Puts an item if there is room now. @throws {ShutDown} the queue was shut down */
  tryPut(item: T): boolean {
    if (this.disposed) this.checkLive("put to");
    this.#core.checkOpen();
    return this.#core.putters.first === undefined && this.#core.offer(encode(item));
  }

  /** The oldest item if there is one now, as `{ value }`, since any value may be an item. @throws {ShutDown} shut down, and empty */
  tryGet(): { value: T } | null {
    if (this.disposed) this.checkLive("get from");
    const value = this.#core.take();
    if (value !== NOTHING) return { value: value as T };
    if (this.#core.flags !== 0) {
      throw new ShutDown("Cannot get: the queue was shut down, and nothing is left in it");
    }
    return null;
  }

  /** Puts an item if there is room now. @throws {Full} there is none */
  putNowait(item: T): void {
    if (!this.tryPut(item)) throw new Full(`Cannot put: there is no room now; ${this.#core.describe()}`);
  }

  /** The oldest item. @throws {Empty} there is none now */
  getNowait(): T {
    const got = this.tryGet();
    if (got === null) throw new Empty("Cannot get: the queue is empty now");
    return got.value;
  }

  /** As {@linkcode put}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  putSync(item: T, w: SyncWaitOptions = {}): void {
    this.checkLive("put to");
    const timeout = this.session.waits.checkBlocking("put synchronously", w);
    const message = encode(item);
    if (this.#core.offer(message)) return;
    message.keep();
    throwIfError(this.session.waits.waitSync(this.#core.putters, timeout, message));
  }

  /** As {@linkcode get}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  getSync(w: SyncWaitOptions = {}): T {
    this.checkLive("get from");
    const timeout = this.session.waits.checkBlocking("get synchronously", w);
    const got = this.tryGet();
    return got !== null ? got.value : unwrap<T>(this.session.waits.waitSync(this.#core.getters, timeout));
  }

  /** How many items lie in it. Others put and get meanwhile, so it may be wrong when you read it. */
  qsize(): number {
    if (this.disposed) this.checkLive("look at");
    return this.#core.use().items;
  }

  /** Whether it is empty now. */
  empty(): boolean {
    return this.qsize() === 0;
  }

  /** Whether there is no room now. */
  full(): boolean {
    if (this.disposed) this.checkLive("look at");
    return !this.#core.hasRoom();
  }

  /**
   * Ends the queue for all: puts reject with `ShutDown` from now on; gets go on until it is empty, then reject too.
   *
   * @param options `immediate`: what lies in the queue is dropped
   */
  shutdown(options: { immediate?: boolean } = {}): void {
    if (this.disposed) this.checkLive("shut down");
    this.#core.shutdown(options.immediate === true ? QF_SHUTDOWN | QF_IMMEDIATE : QF_SHUTDOWN);
  }

  /** Lets go of the queue in this agent: what was put stays for the others. */
  close(): void {
    this[Symbol.dispose]();
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

  /** For people: how full it is. */
  override toString(): string {
    return this.disposed ? "Queue(disposed)" : `Queue(${this.#core.describe()})`;
  }
}

function throwIfError(result: unknown): void {
  if (result !== null) throw result;
}

reviver(K_QUEUE, (existing) => new Queue(existing));

onOpen((session) => {
  const m = session.arena.i32;
  installLanes(session);
  session.references.rule(K_QUEUE, {
    scrubNode: (block, node, dead) => {
      Atomics.store(m, node + N_ANNOUNCED, 0);
      orphanLane(session, block, node, dead);
      for (const [flag, channel] of [[Q_GETTERS, N_CHANNEL], [Q_PUTTERS, N_CHANNEL2]]) {
        if (Atomics.exchange(m, block + flag, 1) !== 0) session.waits.wakeNext(block, QUEUE_NODES, channel);
      }
    },
    finish: (block) => finishLanes(session, block),
  });
});
