/**
 * A queue as all handles of one agent to it share it: taking, putting, leasing and joining, and who is woken by each.
 *
 * @module
 */
import { decode, type Encoded } from "../codec/mod.ts";
import type { Block } from "../core/arena.ts";
import { crashPoint } from "../core/crash.ts";
import { revive } from "../core/handle.ts";
import { Consumer, laneUse, Producer } from "../core/lanes.ts";
import {
  LN_COUNT,
  LN_NEXT,
  N_ANNOUNCED,
  N_CHANNEL,
  N_CHANNEL2,
  N_CHANNEL3,
  N_HOLDER,
  Q_DRAINED,
  Q_FINISHED,
  Q_FLAGS,
  Q_GETTERS,
  Q_JOINERS,
  Q_LANES,
  Q_MAX_BYTES,
  Q_MAX_ITEMS,
  Q_PUTTERS,
  Q_TYPE,
  QF_IMMEDIATE,
  QF_SHUTDOWN,
  QT_JOINABLE,
  QUEUE_NODES,
  RC_HEADER_BYTES,
  TOKEN_SLOT_MASK,
} from "../core/layout.ts";
import { Leases } from "../core/leases.ts";
import type { Held } from "../core/references.ts";
import type { Session } from "../core/session.ts";
import { LOOK } from "../core/waitable.ts";
import { NodeCursor, NOTHING, type Source, WaitList } from "../core/waits.ts";
import { Empty, Full, ShutDown, TimeoutError } from "../errors.ts";

/** What a get or lease came to: an item or a lease, or why there will be none. */
export interface Taken {
  value: unknown;
  error: unknown;
  failed: boolean;
}

/** An item that this agent has leased. */
export interface LeasedItem {
  readonly value: unknown;
  readonly entry: number;
  /** Blocks of the handles in it. */
  readonly carried: readonly Block[];
}

/** What a waiter asks for that wants a lease, where others want the item. */
export const LEASE: unique symbol = Symbol("lease");

/** The queue, as all handles of this agent to it share it. */
export class QueueCore {
  readonly session: Session;
  readonly block: Block;
  readonly node: number;
  readonly getters: WaitList<Taken>;
  readonly putters: WaitList<unknown>;
  readonly joiners: WaitList<null>;
  readonly joinable: boolean;
  readonly #m: Int32Array;
  readonly #held: Held;
  readonly #consumer: Consumer;
  readonly #leases: Leases;
  #producer: Producer | undefined;
  readonly #bounded: boolean;
  readonly #u8: Uint8Array;
  #value: unknown;
  readonly #read = (offset: number, byteLength: number): void => {
    this.#value = decode(this.#u8, offset, byteLength, revive);
  };

  constructor(session: Session, block: Block, held: Held) {
    this.session = session;
    this.block = block;
    this.#held = held;
    const node = this.node = held.node;
    const m = this.#m = session.arena.i32;
    this.#u8 = session.arena.u8;
    this.#bounded = m[block + Q_MAX_ITEMS] > 0 || m[block + Q_MAX_BYTES] > 0;
    this.joinable = m[block + Q_TYPE] === QT_JOINABLE;
    this.#consumer = new Consumer(session, block, node);
    this.#leases = new Leases(session, block);
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
    this.joiners = new WaitList<null>(
      session.waits,
      block,
      node,
      N_CHANNEL3,
      joinSource(this),
      (ms) =>
        new TimeoutError(
          `Cannot join the queue: ${this.unfinished()} items were not finished after ${ms} ms; call taskDone() once for each item that was got`,
        ),
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

  /** Whether this agent ever put to it. */
  get wasPutTo(): boolean {
    return this.#producer !== undefined;
  }

  /** The next item, or NOTHING. */
  take(): unknown {
    if ((this.flags & QF_IMMEDIATE) !== 0) return NOTHING;
    let taken: boolean;
    try {
      taken = this.#takeReturned() || this.#consumer.take(this.#read);
    } finally {
      // An item that cannot be read is gone, too, and leaves room.
      this.#leaveRoom();
    }
    if (!taken) return NOTHING;
    const value = this.#value;
    this.#value = undefined;
    return value;
  }

  #takeReturned(): boolean {
    const entry = this.#leases.takeReturned();
    if (entry === 0) return false;
    try {
      this.#leases.read(entry, this.#read);
    } finally {
      this.#leases.end(entry, false);
    }
    return true;
  }

  #leaveRoom(): void {
    if (this.#bounded && Atomics.load(this.#m, this.block + Q_PUTTERS) !== 0) this.wakePutter();
  }

  /** A lease of the next item, or NOTHING. An item that cannot be read is gone. */
  lease(): LeasedItem | typeof NOTHING {
    if ((this.flags & QF_IMMEDIATE) !== 0) return NOTHING;
    let entry = this.#leases.takeReturned();
    if (entry === 0) {
      try {
        if (!this.#consumer.move((record) => entry = this.#leases.hold(record))) return NOTHING;
      } catch (error) {
        // There was no memory for a lease. The item is still there, for a get of somebody else's perhaps.
        this.passGetter();
        throw error;
      }
    }
    const carried: Block[] = [];
    try {
      this.#leaveRoom();
      this.#leases.read(entry, (offset, byteLength) => {
        this.#value = decode(this.#u8, offset, byteLength, (kind, block, generation) => {
          carried.push(block);
          return revive(kind, block, generation);
        });
      });
    } catch (error) {
      this.acknowledge(entry, carried);
      throw error;
    }
    const value = this.#value;
    this.#value = undefined;
    return { value, entry, carried };
  }

  /** Ends a lease: the item is gone, and finished. */
  acknowledge(entry: number, carried: readonly Block[]): void {
    // Counting looks at every lease: only for somebody who waits for it.
    const left = this.joinable && Atomics.load(this.#m, this.block + Q_JOINERS) !== 0
      ? this.unfinished() - 1
      : 1;
    this.#leases.end(entry, true);
    for (const block of carried) this.session.references.collect(block);
    if (this.joinable) this.#finished(left);
  }

  /** Ends a lease: the item is in the queue again. */
  giveBack(entry: number): void {
    this.#leases.giveBack(entry);
    if (Atomics.load(this.#m, this.block + Q_GETTERS) !== 0) this.wakeGetter();
    // Nobody is going to take it any more.
    if (this.joinable && (this.flags & QF_IMMEDIATE) !== 0) this.#finished(this.unfinished());
  }

  hasItem(): boolean {
    return (this.flags & QF_IMMEDIATE) === 0 &&
      (this.#leases.returned().items > 0 || this.#consumer.hasRecord());
  }

  /** Whether a get would be over at once. */
  isReady(): boolean {
    return this.hasItem() || this.flags !== 0;
  }

  /** Puts a message if there is room. @throws {ShutDown} */
  offer(message: Encoded): boolean {
    const m = this.#m;
    this.checkOpen();
    const producer = this.#producer ??= Producer.open(this.session, this.block, this.node);
    if (!this.#bounded) producer.put(message);
    else {
      if (!this.#announce(message.byteLength)) return false;
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
      const { fits, others, lower } = this.#roomFor(byteLength);
      if (fits) return true;
      if (others === 0 || lower) break;
    }
    Atomics.store(m, this.node + N_ANNOUNCED, 0);
    // Another may have seen the announcement, and gone to wait for what is free after all.
    if (Atomics.load(m, this.block + Q_PUTTERS) !== 0) this.passPutter();
    return false;
  }

  /** Whether an item fits beside what lies here and what others announce; how many these are, and whether one has a lower slot than this agent. */
  #roomFor(byteLength: number): { fits: boolean; others: number; lower: boolean } {
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
    // An item of any size fits into an empty queue.
    const fits = (maxItems === 0 || items + others < maxItems) &&
      (maxBytes === 0 || bytes + othersBytes + RC_HEADER_BYTES + byteLength <= maxBytes ||
        items + others === 0);
    return { fits, others, lower };
  }

  /**
   * Whether a put of this message would find room: by the rule that the put itself goes by, or else one that is told of room and finds none would
   * look for ever.
   */
  hasRoomFor(byteLength: number): boolean {
    return !this.#bounded || this.#roomFor(byteLength).fits;
  }

  /** Whether there is room for a small item. */
  hasRoom(): boolean {
    const m = this.#m;
    const maxItems = m[this.block + Q_MAX_ITEMS];
    const maxBytes = m[this.block + Q_MAX_BYTES];
    const { items, bytes } = this.use();
    return (maxItems === 0 || items < maxItems) && (maxBytes === 0 || bytes < maxBytes);
  }

  /** What lies in it: in the lanes, and come back from leases. What is leased does not. */
  use(): { items: number; bytes: number } {
    const m = this.#m;
    let { items, bytes } = this.#leases.returned();
    for (let lane = Atomics.load(m, this.block + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
      const use = laneUse(m, lane);
      items += use.items;
      bytes += use.bytes;
    }
    return { items, bytes };
  }

  /**
   * Of a joinable queue: items that were put and are not finished. A difference of numbers that only rise, each of them raised by the one step
   * that puts or finishes, so that no kill leaves it wrong. What is finished is read first: it is never less than it was at that moment.
   */
  unfinished(): number {
    const m = this.#m;
    const finished = (Atomics.load(m, this.block + Q_FINISHED) + this.#leases.acknowledged()) | 0;
    let put = 0;
    for (let lane = Atomics.load(m, this.block + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
      put = (put + Atomics.load(m, lane + LN_COUNT)) | 0;
    }
    const left = (put - finished) | 0;
    // Dropped items are not waited for.
    return (this.flags & QF_IMMEDIATE) === 0 ? left : left - this.use().items;
  }

  /** Counts one item as finished. `false`: all are. */
  finishOne(): boolean {
    const m = this.#m;
    for (;;) {
      const finished = Atomics.load(m, this.block + Q_FINISHED);
      const left = this.unfinished();
      if (left <= 0) return false;
      if (Atomics.compareExchange(m, this.block + Q_FINISHED, finished, (finished + 1) | 0) !== finished) {
        continue;
      }
      this.#finished(left - 1);
      return true;
    }
  }

  /** @param left what was unfinished when the last was finished: somebody may have put since, and who waited then has waited long enough */
  #finished(left: number): void {
    crashPoint("queue.finished");
    const m = this.#m;
    // Who begins to wait after this looks for itself.
    if (Atomics.load(m, this.block + Q_JOINERS) === 0 || (left > 0 && this.unfinished() > 0)) return;
    Atomics.add(m, this.block + Q_DRAINED, 1);
    if (Atomics.exchange(m, this.block + Q_JOINERS, 0) !== 0) {
      this.session.waits.wakeAll(this.block, QUEUE_NODES, N_CHANNEL3);
    }
  }

  /** Where joining begins. */
  get drained(): number {
    return Atomics.load(this.#m, this.block + Q_DRAINED);
  }

  isJoined(since: number): boolean {
    return this.drained !== since || this.unfinished() <= 0;
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
    if (Atomics.load(this.#m, this.block + Q_GETTERS) !== 0 && this.isReady()) {
      this.wakeGetter();
    }
  }

  passPutter(): void {
    if (Atomics.load(this.#m, this.block + Q_PUTTERS) !== 0 && (this.hasRoomFor(0) || this.flags !== 0)) {
      this.wakePutter();
    }
  }

  /** Reaps agents that held the queue and are dead: what they had claimed or leased comes back. */
  reapDead(isDead: (token: number) => boolean): void {
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, QUEUE_NODES); c.next();) {
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder > 0 && holder !== this.session.token && isDead(holder)) this.session.agents.reap(holder);
    }
  }

  /** Whether this agent let go of the queue: what it had leased went back then, and its node may be another's. */
  isReleased(): boolean {
    return this.#held.count === 0;
  }

  /** Whether another living agent, or an item on its way, has a handle to it. */
  isShared(): boolean {
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, QUEUE_NODES); c.next();) {
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (
        holder !== 0 && holder !== this.session.token && (holder < 0 || !this.session.agents.isDead(holder))
      ) {
        return true;
      }
    }
    return false;
  }

  shutdown(flags: number): void {
    Atomics.or(this.#m, this.block + Q_FLAGS, flags);
    this.wakeGetter();
    this.wakePutter();
    if (this.joinable && (flags & QF_IMMEDIATE) !== 0) this.#finished(this.unfinished());
  }
}

const taken = (value: unknown): Taken => ({ value, error: undefined, failed: false });
const failure = (error: unknown): Taken => ({ value: undefined, error, failed: true });

/** Why there will be no item. */
export const nothingLeft = (): ShutDown =>
  new ShutDown("Cannot get: the queue was shut down, and nothing is left in it");

function getSource(core: QueueCore): Source<Taken> {
  const m = core.session.arena.i32;
  const attempt = (item: unknown): Taken | typeof NOTHING => {
    try {
      const value = item === LEASE ? core.lease() : core.take();
      if (value !== NOTHING) return taken(value);
      return core.flags === 0 ? NOTHING : failure(nothingLeft());
    } catch (error) {
      return failure(error);
    }
  };
  return {
    attempt: (woken, item) => {
      // Others may wait that nobody will set the flag for: it was cleared to wake this agent.
      if (woken) Atomics.store(m, core.block + Q_GETTERS, 1);
      if (item === LOOK) return core.isReady() ? taken(undefined) : NOTHING;
      return attempt(item);
    },
    mark: () => {
      Atomics.store(m, core.block + Q_GETTERS, 1);
      return core.isReady();
    },
    reserve: () => {},
    pass: () => {
      Atomics.store(m, core.block + Q_GETTERS, 1);
      core.passGetter();
    },
    check: (isDead) => core.reapDead(isDead),
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
      return core.flags !== 0 || core.hasRoomFor((item as Encoded).byteLength);
    },
    reserve: () => {},
    pass: () => {
      Atomics.store(m, core.block + Q_PUTTERS, 1);
      core.passPutter();
    },
    check: (isDead) => core.reapDead(isDead),
  };
}

/** A waiter's item is what DRAINED was when it began. All are woken at once, so there is nobody to pass it on to. */
function joinSource(core: QueueCore): Source<null> {
  const m = core.session.arena.i32;
  return {
    attempt: (_woken, since) => core.isJoined(since as number) ? null : NOTHING,
    mark: (_woken, since) => {
      Atomics.store(m, core.block + Q_JOINERS, 1);
      return core.isJoined(since as number);
    },
    reserve: () => {},
    pass: () => Atomics.store(m, core.block + Q_JOINERS, 1),
    check: (isDead) => core.reapDead(isDead),
  };
}

/** The item or lease of a wait. */
export function unwrap(result: Taken): unknown {
  if (result.failed) throw result.error;
  return result.value;
}

/** What a put came to: null, or why it failed. */
export function throwIfError(result: unknown): void {
  if (result !== null) throw result;
}
