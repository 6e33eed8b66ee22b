/**
 * The lanes of a queue: each producer's own stream of records, and how consumers take from them. `layout.ts` has the states.
 *
 * A producer alone writes its lane and publishes with one store, so producers never wait for each other, and one that is killed or stopped
 * harms nobody. A consumer first says which position it reads (HAZARD) and then checks that the lane's READ is still there: what lies from
 * there on in the same ring is not overwritten or freed until it takes its HAZARD back. One that is stopped meanwhile pins a single ring.
 *
 * | killed after | state | next |
 * |---|---|---|
 * | writing a record | not published | nobody ever saw it; the lane's next producer overwrites it |
 * | WRITE stored | published | delivered, though `put` did not return |
 * | a new ring made, not linked | owned by the dead | freed by its reaper |
 * | NEXT stored, END not | nothing published in NEXT | the lane's next producer stores END |
 * | COMMITTED -> CLAIMED | claimed by the dead | COMMITTED again, by the reaper |
 * | message read, not DONE | as before | delivered again |
 * | moved to a lease, not DONE | the lease's | DONE, by the reaper: see `leases.ts` |
 * | DONE, READ not moved | | moved by the next consumer |
 *
 * @module
 */
import type { Encoded } from "../codec/mod.ts";
import { type HandleId, kHandle } from "../codec/mod.ts";
import type { Block } from "./arena.ts";
import { crashPoint } from "./crash.ts";
import {
  B_HEAD,
  B_OWNER,
  BL_BYTES,
  BL_DATA,
  BL_LANE,
  BL_LEASE,
  BL_NUMBER,
  CLAIMED,
  COMMITTED,
  DONE,
  FREE,
  K_BLOB,
  K_DIRECTION,
  K_LANE,
  K_QUEUE,
  K_RING,
  LN_AHEAD,
  LN_BYTES,
  LN_COUNT,
  LN_END,
  LN_NEXT,
  LN_OLDEST,
  LN_PRODUCER,
  LN_QUEUE,
  LN_READ,
  LN_READ_RING,
  LN_WRITE,
  N_AUX,
  N_HAZARD,
  N_HAZARD_LANE,
  Q_CARRIED,
  Q_LANES,
  Q_STAMP,
  Q_TYPE,
  QT_JOINABLE,
  QUEUE_NODES,
  R_BASE,
  R_END,
  R_LANE,
  R_LOG2,
  R_NEXT,
  R_OPEN,
  RC_BYTES,
  RC_FLAGS,
  RC_HEADER_BYTES,
  RC_LENGTH,
  RC_NUMBER,
  RC_STAMP,
  RC_STATE,
  RF_BLOB,
  RF_HANDLES,
  RING_HEADER_UNITS,
  SKIP,
  STATE_MASK,
  STATE_TOKEN_SHIFT,
} from "./layout.ts";
import {
  type Claimed,
  finishLeases,
  installLeases,
  isBlobLeased,
  isRecordLeased,
  leasesCarry,
  returnLeases,
} from "./leases.ts";
import type { Session } from "./session.ts";
import { NodeCursor } from "./waits.ts";

const FIRST_RING_LOG2 = 12;
const LARGEST_RING_LOG2 = 22;
/** Larger messages lie in a block of their own, which the lane's record names. */
const INLINE_BYTES = 32 * 1024;
/** Below this a consumer decodes first and claims afterwards: one atomic step less, and nothing to recover. */
const OPTIMISTIC_BYTES = 1024;
const LANE_BYTES = 128;

/** Units of 16 bytes that a record takes; even, so that the lowest bit of a position is free. */
function unitsOf(messageBytes: number): number {
  return ((RC_HEADER_BYTES + messageBytes + 31) >>> 5) << 1;
}

/** What a lane takes: bytes, and the handles that travel with them. */
export type Message = Pick<Encoded, "byteLength" | "handles" | "writeTo">;

/** This agent's writing end. */
export class Producer {
  readonly #session: Session;
  readonly #queue: Block;
  readonly #m: Int32Array;
  readonly #lane: Block;
  #ring: Block;
  #base: number;
  #mask: number;
  #write: number;
  #count: number;
  #bytes: number;
  /** Positions from here on may not be overwritten. */
  #limit: number;
  readonly #exact: boolean;

  private constructor(session: Session, queue: Block, lane: Block) {
    const m = session.arena.i32;
    this.#session = session;
    this.#queue = queue;
    this.#m = m;
    this.#lane = lane;
    this.#exact = isQueue(session, queue) && m[queue + Q_TYPE] === QT_JOINABLE;
    this.#write = Atomics.load(m, lane + LN_WRITE);
    this.#count = m[lane + LN_COUNT];
    this.#bytes = m[lane + LN_BYTES];
    // A predecessor may have died while it went on to a further ring, in which nothing is published then.
    let ring = Atomics.load(m, lane + LN_READ_RING);
    for (let next = Atomics.load(m, ring + R_NEXT); next !== 0; next = Atomics.load(m, ring + R_NEXT)) {
      if (Atomics.load(m, ring + R_END) === R_OPEN) Atomics.store(m, ring + R_END, this.#write);
      ring = next;
    }
    this.#ring = ring;
    this.#base = m[ring + R_BASE];
    this.#mask = (1 << (m[ring + R_LOG2] - 4)) - 1;
    this.#limit = this.#findLimit();
  }

  /** A lane for this agent: one whose producer is gone, or a new one. */
  static open(session: Session, queue: Block, node: number): Producer {
    const m = session.arena.i32;
    for (let lane = Atomics.load(m, queue + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
      if (
        Atomics.load(m, lane + LN_PRODUCER) === 0 &&
        Atomics.compareExchange(m, lane + LN_PRODUCER, 0, session.token) === 0
      ) {
        m[node + N_AUX] = lane;
        return new Producer(session, queue, lane);
      }
    }
    const lane = session.arena.allocate(LANE_BYTES);
    m.fill(0, lane + B_OWNER, lane + LANE_BYTES / 4);
    m[lane + LN_QUEUE] = queue;
    m[lane + LN_PRODUCER] = session.token;
    const ring = newRing(session, lane, FIRST_RING_LOG2, 0);
    m[lane + LN_READ_RING] = m[lane + LN_OLDEST] = ring;
    session.arena.publish(lane, K_LANE);
    crashPoint("queue.ring");
    for (let newest = Atomics.load(m, queue + Q_LANES);;) {
      Atomics.store(m, lane + LN_NEXT, newest);
      const found = Atomics.compareExchange(m, queue + Q_LANES, newest, lane);
      if (found === newest) break;
      newest = found;
    }
    m[node + N_AUX] = lane;
    return new Producer(session, queue, lane);
  }

  /** Writes a message and publishes it. @throws {RangeError} when the arena is at its cap */
  put(message: Message): void {
    const m = this.#m;
    const { arena, references } = this.#session;
    const length = message.byteLength;
    const blob = length > INLINE_BYTES ? this.#writeBlob(message) : 0;
    const inline = blob !== 0 ? 4 : length;
    const units = unitsOf(inline);
    this.#makeRoom(units);
    const at = this.#at(this.#write);
    if (blob !== 0) m[at + RC_HEADER_BYTES / 4] = blob;
    else message.writeTo(arena.u8, at * 4 + RC_HEADER_BYTES);
    m[at + RC_LENGTH] = inline;
    m[at + RC_NUMBER] = this.#count;
    m[at + RC_BYTES] = this.#bytes;
    m[at + RC_FLAGS] = (blob !== 0 ? RF_BLOB : 0) | (message.handles.length > 0 ? RF_HANDLES : 0);
    m[at + RC_STATE] = COMMITTED;
    if (message.handles.length > 0) m[this.#queue + Q_CARRIED] = 1;
    for (const handle of message.handles) {
      const { block } = (handle as { [kHandle](): HandleId })[kHandle]();
      references.carry(block, this.#lane, this.#count);
    }
    m[at + RC_STAMP] = Atomics.add(m, this.#queue + Q_STAMP, 1);
    this.#count = (this.#count + 1) | 0;
    this.#bytes = (this.#bytes + RC_HEADER_BYTES + length) | 0;
    this.#write = (this.#write + units) | 0;
    if (this.#exact) this.#countExactly();
    else m[this.#lane + LN_COUNT] = this.#count;
    m[this.#lane + LN_BYTES] = this.#bytes;
    crashPoint("queue.written");
    Atomics.store(m, this.#lane + LN_WRITE, this.#write);
    crashPoint("queue.published");
  }

  /** In steps that tell, whichever is the last, how many records are published: see {@linkcode recount}. */
  #countExactly(): void {
    const m = this.#m;
    const lane = this.#lane;
    Atomics.store(m, lane + LN_AHEAD, this.#count);
    crashPoint("queue.counted");
    Atomics.store(m, lane + LN_END, this.#write);
    crashPoint("queue.counted");
    Atomics.store(m, lane + LN_COUNT, this.#count);
  }

  #at(position: number): number {
    return this.#ring + (((position - this.#base) & this.#mask) << 2);
  }

  #writeBlob(message: Message): Block {
    const { arena } = this.#session;
    const block = arena.allocate(BL_DATA * 4 + message.byteLength);
    message.writeTo(arena.u8, (block + BL_DATA) * 4);
    this.#m[block + BL_LANE] = this.#lane;
    this.#m[block + BL_NUMBER] = this.#count;
    this.#m[block + BL_BYTES] = message.byteLength;
    this.#m[block + BL_LEASE] = 0;
    arena.publish(block, K_BLOB);
    return block;
  }

  /** Moves WRITE to where `units` fit in one piece. */
  #makeRoom(units: number): void {
    const size = this.#mask + 1;
    let offset = (this.#write - this.#base) & this.#mask;
    if (offset === 0) {
      this.#write = (this.#write + RING_HEADER_UNITS) | 0;
      offset = RING_HEADER_UNITS;
    }
    const filler = units > size - offset ? size - offset : 0;
    const end = (this.#write + filler + (filler > 0 ? RING_HEADER_UNITS : 0) + units) | 0;
    if (units > size >>> 2 || ((end - this.#limit) | 0) > size) {
      this.#limit = this.#findLimit();
      if (units > size >>> 2 || ((end - this.#limit) | 0) > size) return this.#nextRing(units);
    }
    if (filler > 0) {
      const at = this.#at(this.#write);
      this.#m[at + RC_LENGTH] = filler;
      this.#m[at + RC_STATE] = SKIP;
      this.#write = (this.#write + filler + RING_HEADER_UNITS) | 0;
    }
  }

  /** What must be kept of the current ring: from READ on, or from the position of a consumer that reads behind it. */
  #findLimit(): number {
    const m = this.#m;
    this.#freeRings();
    // Not yet reached by readers: nothing of it is free.
    if (Atomics.load(m, this.#lane + LN_READ_RING) !== this.#ring) return this.#base;
    let limit = Atomics.load(m, this.#lane + LN_READ);
    for (const c = new NodeCursor(m).start(this.#queue, QUEUE_NODES); c.next();) {
      const hazard = Atomics.load(m, c.at + N_HAZARD);
      if (hazard === 0 || Atomics.load(m, c.at + N_HAZARD_LANE) !== this.#lane) continue;
      const position = hazard & ~1;
      if (((position - this.#base) | 0) >= 0 && ((position - limit) | 0) < 0) limit = position;
    }
    return limit;
  }

  /** Frees rings that all readers have left, oldest first, up to the first in which a consumer still reads. */
  #freeRings(): void {
    const m = this.#m;
    const lane = this.#lane;
    for (;;) {
      const oldest = m[lane + LN_OLDEST];
      if (oldest === Atomics.load(m, lane + LN_READ_RING)) return;
      const base = m[oldest + R_BASE];
      const end = Atomics.load(m, oldest + R_END);
      for (const c = new NodeCursor(m).start(this.#queue, QUEUE_NODES); c.next();) {
        const hazard = Atomics.load(m, c.at + N_HAZARD);
        if (hazard === 0 || Atomics.load(m, c.at + N_HAZARD_LANE) !== lane) continue;
        const position = hazard & ~1;
        if (((position - base) | 0) >= 0 && ((position - end) | 0) <= 0) return;
      }
      this.#session.references.drop(lane + LN_OLDEST, oldest, m[oldest + R_NEXT]);
    }
  }

  #nextRing(units: number): void {
    const m = this.#m;
    let log2 = m[this.#ring + R_LOG2];
    if (log2 < LARGEST_RING_LOG2) log2 += 2;
    while ((1 << (log2 - 4)) < units * 4) log2 += 2;
    const end = Atomics.load(m, this.#lane + LN_WRITE);
    const ring = newRing(this.#session, this.#lane, Math.min(log2, LARGEST_RING_LOG2), end);
    crashPoint("queue.ring");
    Atomics.store(m, this.#ring + R_NEXT, ring);
    crashPoint("queue.link");
    Atomics.store(m, this.#ring + R_END, end);
    this.#ring = ring;
    this.#base = end;
    this.#mask = (1 << (m[ring + R_LOG2] - 4)) - 1;
    this.#limit = end;
    this.#write = (end + RING_HEADER_UNITS) | 0;
  }
}

function newRing(session: Session, lane: Block, log2: number, base: number): Block {
  const m = session.arena.i32;
  const ring = session.arena.allocate(1 << log2);
  m.fill(0, ring + B_OWNER, ring + 16);
  m[ring + R_LANE] = lane;
  m[ring + R_BASE] = base;
  m[ring + R_END] = R_OPEN;
  m[ring + R_LOG2] = log2;
  session.arena.publish(ring, K_RING);
  return ring;
}

/** A record that a consumer found and, by its HAZARD, keeps from being overwritten. */
interface Found {
  lane: Block;
  /** Word of the record. */
  at: number;
  stamp: number;
  /** READ as it was, and where it may go once this record is done; equal when older records are not done. */
  read: number;
  after: number;
}

/** This agent's reading end. */
export class Consumer {
  readonly #session: Session;
  readonly #queue: Block;
  readonly #node: number;
  readonly #m: Int32Array;
  /** Lanes in which nothing was found, each with its WRITE of then. */
  readonly #empty: number[] = [];
  readonly #found: Found = { lane: 0, at: 0, stamp: 0, read: 0, after: 0 };

  constructor(session: Session, queue: Block, node: number) {
    this.#session = session;
    this.#queue = queue;
    this.#node = node;
    this.#m = session.arena.i32;
  }

  /**
   * Takes the record with the lowest stamp and gives its message to `read`, which copies what it wants to keep.
   *
   * @returns false when there is none
   */
  take(read: (offset: number, byteLength: number) => void): boolean {
    const m = this.#m;
    try {
      while (this.#findFirst()) {
        const { at } = this.#found;
        const length = m[at + RC_LENGTH];
        const flags = m[at + RC_FLAGS];
        if (flags === 0 && length <= OPTIMISTIC_BYTES) {
          let failure: unknown;
          let failed = false;
          try {
            read(at * 4 + RC_HEADER_BYTES, length);
          } catch (error) {
            failure = error;
            failed = true;
          }
          crashPoint("queue.read");
          if (Atomics.compareExchange(m, at + RC_STATE, COMMITTED, DONE) !== COMMITTED) continue;
          this.#advance();
          if (failed) throw failure;
          return true;
        }
        const claim = (this.#session.token << STATE_TOKEN_SHIFT) | CLAIMED;
        if (Atomics.compareExchange(m, at + RC_STATE, COMMITTED, claim) !== COMMITTED) continue;
        crashPoint("queue.claimed");
        const blob = (flags & RF_BLOB) !== 0 ? m[at + RC_HEADER_BYTES / 4] : 0;
        // Who is killed after DONE leaves it to be found among its own.
        if (blob !== 0) Atomics.store(m, blob + B_OWNER, this.#session.token);
        try {
          if (blob !== 0) read((blob + BL_DATA) * 4, m[blob + BL_BYTES]);
          else read(at * 4 + RC_HEADER_BYTES, length);
        } finally {
          crashPoint("queue.read");
          Atomics.store(m, at + RC_STATE, DONE);
          this.#advance();
          if (blob !== 0) this.#session.arena.discard(blob);
        }
        return true;
      }
      return false;
    } finally {
      m[this.#node + N_HAZARD] = 0;
    }
  }

  /**
   * Takes the record with the lowest stamp out of its lane, to be kept elsewhere.
   *
   * @param keep makes what is to count from its return on; if it throws, the record stays where it is
   * @returns false when there is none
   */
  move(keep: (record: Claimed) => void): boolean {
    const m = this.#m;
    try {
      while (this.#findFirst()) {
        const { at, lane, stamp } = this.#found;
        const claim = (this.#session.token << STATE_TOKEN_SHIFT) | CLAIMED;
        if (Atomics.compareExchange(m, at + RC_STATE, COMMITTED, claim) !== COMMITTED) continue;
        crashPoint("queue.claimed");
        const flags = m[at + RC_FLAGS];
        let kept = false;
        try {
          keep({
            lane,
            number: m[at + RC_NUMBER],
            stamp,
            flags,
            blob: (flags & RF_BLOB) !== 0 ? m[at + RC_HEADER_BYTES / 4] : 0,
            offset: at * 4 + RC_HEADER_BYTES,
            byteLength: m[at + RC_LENGTH],
          });
          kept = true;
        } finally {
          Atomics.store(m, at + RC_STATE, kept ? DONE : COMMITTED);
        }
        this.#advance();
        return true;
      }
      return false;
    } finally {
      m[this.#node + N_HAZARD] = 0;
    }
  }

  /** After a consumer's end, by its node: what it had claimed is to be taken again, unless `isKept` says that it counts elsewhere. Repeatable. */
  settle(dead: number, isKept: (lane: Block, number: number) => boolean): void {
    const m = this.#m;
    // A consumer has at most one record claimed, of the lane that its HAZARD is on.
    if (m[this.#node + N_HAZARD] === 0) return;
    const lane = m[this.#node + N_HAZARD_LANE];
    const claim = (dead << STATE_TOKEN_SHIFT) | CLAIMED;
    if (!this.#find(lane, claim)) return;
    const { at } = this.#found;
    Atomics.compareExchange(m, at + RC_STATE, claim, isKept(lane, m[at + RC_NUMBER]) ? DONE : COMMITTED);
  }

  /**
   * Whether there is a record to take.
   *
   * @param isVoid says of a message that lies in its record that nobody wants it any more: it is dropped
   */
  hasRecord(isVoid?: (offset: number, byteLength: number) => boolean): boolean {
    const m = this.#m;
    try {
      while (this.#findFirst()) {
        const { at } = this.#found;
        if (
          isVoid === undefined || (m[at + RC_FLAGS] & RF_BLOB) !== 0 ||
          !isVoid(at * 4 + RC_HEADER_BYTES, m[at + RC_LENGTH])
        ) return true;
        if (Atomics.compareExchange(m, at + RC_STATE, COMMITTED, DONE) === COMMITTED) this.#advance();
      }
      return false;
    } finally {
      m[this.#node + N_HAZARD] = 0;
    }
  }

  #advance(): void {
    const { lane, read, after } = this.#found;
    crashPoint("queue.done");
    if (after !== read) Atomics.compareExchange(this.#m, lane + LN_READ, read, after);
  }

  /**
   * Finds the record with the lowest stamp over all lanes, and leaves HAZARD on its lane.
   *
   * Lanes are looked at one after the other. One that had nothing may have got a record before the found one was put, after it was looked at: of
   * two puts one of which came first, by a lock say, the second would be taken first. So who has found a record looks at those lanes again.
   */
  #findFirst(): boolean {
    const m = this.#m;
    const empty = this.#empty;
    for (;;) {
      const newest = Atomics.load(m, this.#queue + Q_LANES);
      if (newest === 0) return false;
      if (m[newest + LN_NEXT] === 0) {
        if (!this.#find(newest)) return false;
        if (Atomics.load(m, this.#queue + Q_LANES) === newest) return true;
        continue;
      }
      let best = 0;
      let stamp = 0;
      let before = 0;
      empty.length = 0;
      for (let lane = newest; lane !== 0; lane = m[lane + LN_NEXT]) {
        const write = Atomics.load(m, lane + LN_WRITE);
        if (Atomics.load(m, lane + LN_READ) === write || !this.#find(lane)) {
          empty.push(lane, write);
          continue;
        }
        if (best === 0 || ((this.#found.stamp - stamp) | 0) < 0) {
          best = lane;
          stamp = this.#found.stamp;
          before = empty.length;
        }
      }
      if (best === 0) return false;
      let changed = Atomics.load(m, this.#queue + Q_LANES) !== newest;
      for (let i = 0; i < before && !changed; i += 2) {
        changed = Atomics.load(m, empty[i] + LN_WRITE) !== empty[i + 1];
      }
      if (changed) continue;
      // The look at a further lane took HAZARD along. Another consumer may have taken the record meanwhile.
      if (m[this.#node + N_HAZARD_LANE] === best || this.#find(best)) return true;
    }
  }

  /** Finds the first record of a lane that is to be taken; or the one in the state `wanted`, if there is one. */
  #find(lane: Block, wanted = COMMITTED): boolean {
    const m = this.#m;
    const node = this.#node;
    if (m[node + N_HAZARD_LANE] !== lane) {
      m[node + N_HAZARD] = 0;
      Atomics.store(m, node + N_HAZARD_LANE, lane);
    }
    restart: for (;;) {
      const read = Atomics.load(m, lane + LN_READ);
      const write = Atomics.load(m, lane + LN_WRITE);
      if (read === write) return false;
      Atomics.store(m, node + N_HAZARD, read | 1);
      let ring = Atomics.load(m, lane + LN_READ_RING);
      if (Atomics.load(m, lane + LN_READ) !== read) continue;
      let base = m[ring + R_BASE];
      let mask = (1 << (m[ring + R_LOG2] - 4)) - 1;
      let position = read;
      let allDone = true;
      while (position !== write) {
        if (position === Atomics.load(m, ring + R_END)) {
          const next = Atomics.load(m, ring + R_NEXT);
          if (allDone) {
            // READ stays: the ring's end and the next one's base are the same position.
            if (position !== read && Atomics.compareExchange(m, lane + LN_READ, read, position) !== read) {
              continue restart;
            }
            Atomics.compareExchange(m, lane + LN_READ_RING, ring, next);
            if (position !== read) continue restart;
          } else {
            Atomics.store(m, node + N_HAZARD, position | 1);
            if (Atomics.load(m, lane + LN_READ) !== read) continue restart;
          }
          ring = next;
          base = m[ring + R_BASE];
          mask = (1 << (m[ring + R_LOG2] - 4)) - 1;
        }
        const offset = (position - base) & mask;
        if (offset === 0) {
          position = (position + RING_HEADER_UNITS) | 0;
          continue;
        }
        const at = ring + (offset << 2);
        const state = Atomics.load(m, at + RC_STATE);
        const length = m[at + RC_LENGTH];
        const kind = state & STATE_MASK;
        if (kind === SKIP) {
          position = (position + length) | 0;
          continue;
        }
        const after = (position + unitsOf(length)) | 0;
        if (state === wanted) {
          // What is done before it is passed at once: handles that came with it are then no longer on their way.
          if (
            allDone && position !== read &&
            Atomics.compareExchange(m, lane + LN_READ, read, position) !== read
          ) continue restart;
          const found = this.#found;
          found.lane = lane;
          found.at = at;
          found.stamp = m[at + RC_STAMP];
          found.read = allDone ? position : read;
          found.after = allDone ? after : read;
          return true;
        }
        if (kind !== DONE) allDone = false;
        position = after;
      }
      if (allDone) Atomics.compareExchange(m, lane + LN_READ, read, write);
      return false;
    }
  }
}

/**
 * What a lane holds: records and bytes from the first that is not done on, and the number of that. READ may lie before it: who was done with a
 * record while an older one was not leaves READ to the next consumer, and a putter must not wait for that.
 */
export function laneUse(m: Int32Array, lane: Block): { items: number; bytes: number; first: number } {
  restart: for (;;) {
    const count = m[lane + LN_COUNT];
    const bytes = m[lane + LN_BYTES];
    const read = Atomics.load(m, lane + LN_READ);
    const write = Atomics.load(m, lane + LN_WRITE);
    let ring = Atomics.load(m, lane + LN_READ_RING);
    for (let position = read; position !== write;) {
      const end = Atomics.load(m, ring + R_END);
      const next = Atomics.load(m, ring + R_NEXT);
      const base = m[ring + R_BASE];
      const offset = (position - base) & ((1 << (m[ring + R_LOG2] - 4)) - 1);
      const at = ring + (offset << 2);
      const state = Atomics.load(m, at + RC_STATE) & STATE_MASK;
      const length = m[at + RC_LENGTH];
      const number = m[at + RC_NUMBER];
      const before = m[at + RC_BYTES];
      // Overwritten or freed meanwhile? Then READ has moved.
      if (Atomics.load(m, lane + LN_READ) !== read) continue restart;
      if (position === end) ring = next;
      else if (offset === 0) position = (position + RING_HEADER_UNITS) | 0;
      else if (state === SKIP) position = (position + length) | 0;
      else if (state === DONE) position = (position + unitsOf(length)) | 0;
      else {
        return {
          items: Math.max(0, (count - number) | 0),
          bytes: Math.max(0, (bytes - before) | 0),
          first: number,
        };
      }
    }
    return { items: 0, bytes: 0, first: count };
  }
}

/**
 * After a producer's end: sets COUNT and BYTES to what it published, as it may have died between counting a record and publishing it. Nobody
 * writes or frees anything of a lane without a producer, so it can be walked.
 */
function recount(m: Int32Array, lane: Block, exact: boolean): void {
  const write = Atomics.load(m, lane + LN_WRITE);
  // Also where no record is left to tell.
  if (exact && m[lane + LN_END] !== write) m[lane + LN_COUNT] = (m[lane + LN_AHEAD] - 1) | 0;
  let position: number;
  let ring: Block;
  do {
    position = Atomics.load(m, lane + LN_READ);
    ring = Atomics.load(m, lane + LN_READ_RING);
  } while (Atomics.load(m, lane + LN_READ) !== position);
  while (position !== write) {
    if (position === Atomics.load(m, ring + R_END)) {
      ring = Atomics.load(m, ring + R_NEXT);
      continue;
    }
    const offset = (position - m[ring + R_BASE]) & ((1 << (m[ring + R_LOG2] - 4)) - 1);
    if (offset === 0) {
      position = (position + RING_HEADER_UNITS) | 0;
      continue;
    }
    const at = ring + (offset << 2);
    const length = m[at + RC_LENGTH];
    if ((m[at + RC_STATE] & STATE_MASK) === SKIP) {
      position = (position + length) | 0;
      continue;
    }
    const blob = (m[at + RC_FLAGS] & RF_BLOB) !== 0;
    if (blob && (m[at + RC_STATE] & STATE_MASK) === DONE) m[lane + LN_BYTES] = m[at + RC_BYTES];
    else {m[lane + LN_BYTES] =
        (m[at + RC_BYTES] + RC_HEADER_BYTES + (blob ? m[m[at + RC_HEADER_BYTES / 4] + BL_BYTES] : length)) |
        0;}
    m[lane + LN_COUNT] = (m[at + RC_NUMBER] + 1) | 0;
    position = (position + unitsOf(length)) | 0;
  }
}

function isQueue({ arena }: Session, block: Block): boolean {
  return (Atomics.load(arena.i32, block + B_HEAD) & 3) !== FREE && arena.kind(block) === K_QUEUE;
}

/**
 * What an agent's end means for a queue: its lane is read on, and free for the next producer; what it was taking or had leased comes back, what it
 * took is passed. Repeatable.
 */
export function orphanLane(session: Session, queue: Block, node: number, producer: number): void {
  const m = session.arena.i32;
  const leasing = isQueue(session, queue);
  const consumer = new Consumer(session, queue, node);
  // The records first: that a lease is the dead agent's tells what they are to be.
  consumer.settle(producer, (lane, number) => leasing && isRecordLeased(m, queue, lane, number, producer));
  if (leasing) returnLeases(m, queue, producer);
  // Not by the node's AUX alone: a kill may come between taking a lane and noting it.
  for (let lane = Atomics.load(m, queue + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
    if (Atomics.load(m, lane + LN_PRODUCER) !== producer) continue;
    recount(m, lane, leasing && m[queue + Q_TYPE] === QT_JOINABLE);
    Atomics.store(m, lane + LN_PRODUCER, 0);
  }
  m[node + N_AUX] = 0;
  consumer.hasRecord();
}

/** Installs what becomes of lanes, rings and blobs whose agents end. */
export function installLanes(session: Session): void {
  const { arena, references } = session;
  const m = arena.i32;
  const isLive = (block: Block, kind: number): boolean =>
    (Atomics.load(m, block + B_HEAD) & 3) !== FREE && arena.kind(block) === kind;
  const isInLane = (lane: Block, number: number): boolean => {
    if (!isLive(lane, K_LANE)) return false;
    const { items, first } = laneUse(m, lane);
    if (((number - first) | 0) < 0) return false;
    if (((number - first) | 0) < items) return true;
    // Not published: only its producer could still do that.
    const producer = Atomics.load(m, lane + LN_PRODUCER);
    // If not it, then the number tells nothing of earlier records that carry the same handle: any that is left may.
    return items > 0 || (producer !== 0 && !arena.isStale(producer));
  };
  // The lane first: what has left it for a lease is then found there.
  references.inFlight = (lane, number) =>
    isInLane(lane, number) ||
    (isLive(lane, K_LANE) && isQueue(session, m[lane + LN_QUEUE]) &&
      leasesCarry(m, m[lane + LN_QUEUE], lane, number));
  installLeases(session);
  const isLinked = (link: number, next: number, block: Block): boolean => {
    for (let at = Atomics.load(m, link); at !== 0; at = Atomics.load(m, at + next)) {
      if (at === block) return true;
    }
    return false;
  };
  references.rule(K_RING, {
    scrubBlock: (ring, dead, head) => {
      if (m[ring + B_OWNER] !== dead) return;
      const lane = m[ring + R_LANE];
      if (!isLive(lane, K_LANE) || !isLinked(lane + LN_OLDEST, R_NEXT, ring)) arena.discard(ring, head);
    },
  });
  references.rule(K_LANE, {
    scrubBlock: (lane, dead, head) => {
      const queue = m[lane + LN_QUEUE];
      if (
        m[lane + B_OWNER] === dead &&
        !((isLive(queue, K_QUEUE) || isLive(queue, K_DIRECTION)) && isLinked(queue + Q_LANES, LN_NEXT, lane))
      ) {
        finishLane(session, lane);
        arena.discard(lane, head);
      }
    },
  });
  references.rule(K_BLOB, {
    scrubBlock: (blob, dead, head) => {
      const owner = m[blob + B_OWNER];
      if (owner !== dead && !arena.isStale(owner)) return;
      const lane = m[blob + BL_LANE];
      if ((lane === 0 || !isInLane(lane, m[blob + BL_NUMBER])) && !isBlobLeased(arena, blob)) {
        arena.discard(blob, head);
      }
    },
  });
}

/** Frees what a lane that nobody can reach any more holds. */
function finishLane(session: Session, lane: Block): void {
  const { references, arena } = session;
  const m = arena.i32;
  let position = m[lane + LN_READ];
  const write = m[lane + LN_WRITE];
  for (let ring = m[lane + LN_READ_RING]; ring !== 0 && position !== write;) {
    if (position === m[ring + R_END]) {
      ring = m[ring + R_NEXT];
      continue;
    }
    const offset = (position - m[ring + R_BASE]) & ((1 << (m[ring + R_LOG2] - 4)) - 1);
    if (offset === 0) {
      position = (position + RING_HEADER_UNITS) | 0;
      continue;
    }
    const at = ring + (offset << 2);
    const state = m[at + RC_STATE] & STATE_MASK;
    const length = m[at + RC_LENGTH];
    if (state !== SKIP && state !== DONE && (m[at + RC_FLAGS] & RF_BLOB) !== 0) {
      const blob = m[at + RC_HEADER_BYTES / 4];
      Atomics.store(m, blob + B_OWNER, arena.token);
      Atomics.store(m, at + RC_STATE, DONE);
      arena.discard(blob);
    }
    position = (position + (state === SKIP ? length : unitsOf(length))) | 0;
  }
  for (let ring = m[lane + LN_OLDEST]; ring !== 0; ring = m[lane + LN_OLDEST]) {
    references.drop(lane + LN_OLDEST, ring, m[ring + R_NEXT]);
  }
}

/** Frees all lanes and leases of a condemned queue. */
export function finishLanes(session: Session, queue: Block): void {
  const m = session.arena.i32;
  if (isQueue(session, queue)) finishLeases(session, queue);
  for (let lane = m[queue + Q_LANES]; lane !== 0; lane = m[queue + Q_LANES]) {
    finishLane(session, lane);
    session.references.drop(queue + Q_LANES, lane, m[lane + LN_NEXT]);
  }
  // Handles in items that nobody took, or whose taker was killed, are held by nobody now.
  if (m[queue + Q_CARRIED] !== 0) session.references.sweep();
}
