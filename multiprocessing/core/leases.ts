/**
 * Leases: items that a consumer has taken out of their lanes and has not acknowledged yet. `layout.ts` has the states.
 *
 * A lease may last for hours, and a record that stayed CLAIMED for so long would keep its lane's ring and have every consumer step over all that
 * was taken behind it. So the item moves to an entry of the queue's tables: a copy of up to 32 KiB, or the larger message's block as it is.
 *
 * | killed after | state | next |
 * |---|---|---|
 * | the record CLAIMED, the entry TAKEN | the item is the lane's | the reaper: COMMITTED again; the entry FREE, the copy freed |
 * | HELD | the item is the lease's | the reaper: its record DONE, then RETURNED |
 * | the record DONE | as above | RETURNED |
 * | HELD -> FREE | acknowledged | the message is found among the dead's own, and freed |
 * | HELD -> RETURNED | back | the reaper raises RETURNS |
 * | RETURNED -> HELD | leased by the dead | RETURNED |
 *
 * @module
 */
import type { Arena, Block } from "./arena.ts";
import { crashPoint } from "./crash.ts";
import {
  B_HEAD,
  B_OWNER,
  BL_BYTES,
  BL_DATA,
  BL_LANE,
  BL_LEASE,
  FREE,
  K_BLOB,
  K_LEASES,
  K_QUEUE,
  LS_ACKS,
  LS_DATA,
  LS_FLAGS,
  LS_FREE,
  LS_HELD,
  LS_HELD_ACKS,
  LS_LANE,
  LS_NUMBER,
  LS_RETURNED,
  LS_STAMP,
  LS_STATE,
  LS_TAKEN,
  LT_BASE,
  LT_COUNT,
  LT_NEXT,
  LT_QUEUE,
  LT_STRIDE,
  LT_WORDS,
  Q_LEASES,
  Q_RETURNS,
  RC_HEADER_BYTES,
  RF_HANDLES,
  STATE_MASK,
  STATE_TOKEN_SHIFT,
} from "./layout.ts";
import type { Session } from "./session.ts";

/** A record that its consumer has claimed. */
export interface Claimed {
  readonly lane: Block;
  readonly number: number;
  readonly stamp: number;
  readonly flags: number;
  /** The block that the message lies in; 0: it lies in the lane, at this byte. */
  readonly blob: Block;
  readonly offset: number;
  readonly byteLength: number;
}

/** Calls `visit` for each entry of a queue's tables until it says `true`. */
function someEntry(m: Int32Array, queue: Block, visit: (entry: number) => boolean): boolean {
  for (let table = Atomics.load(m, queue + Q_LEASES); table !== 0; table = m[table + LT_NEXT]) {
    for (let i = 0; i < LT_COUNT; i++) if (visit(table + LT_BASE + i * LT_STRIDE)) return true;
  }
  return false;
}

const held = (token: number): number => (token << STATE_TOKEN_SHIFT) | LS_HELD;
const taken = (token: number): number => (token << STATE_TOKEN_SHIFT) | LS_TAKEN;

/** The item is a lease's: somebody's, or one that came back. */
function isKept(state: number): boolean {
  const kind = state & STATE_MASK;
  return kind === LS_HELD || kind === LS_RETURNED;
}

/** The leases of one queue, as this agent sees them. */
export class Leases {
  readonly #arena: Arena;
  readonly #queue: Block;
  readonly #m: Int32Array;
  readonly #mine: number;
  /** Entries that were free when last seen. They are FREE in shared memory, so a kill loses nothing, and others may take them. */
  readonly #free: number[] = [];
  /** RETURNS as it was before a look that found nothing. */
  #returns = 0;

  constructor(session: Session, queue: Block) {
    this.#arena = session.arena;
    this.#queue = queue;
    this.#m = session.arena.i32;
    this.#mine = held(session.token);
  }

  /**
   * Makes a lease of a record: when this returns, the item is the lease's, and the record is only to be marked DONE.
   *
   * @returns the lease's entry
   * @throws {RangeError} the arena is at its cap; the record is untouched
   */
  hold(record: Claimed): number {
    const m = this.#m;
    const entry = this.#take();
    crashPoint("lease.taken");
    let data = record.blob;
    if (data !== 0) {
      Atomics.store(m, data + B_OWNER, this.#arena.token);
      m[data + BL_LEASE] = entry;
    } else {
      try {
        data = this.#copy(record, entry);
      } catch (error) {
        this.#release(entry);
        throw error;
      }
    }
    m[entry + LS_DATA] = data;
    m[entry + LS_LANE] = record.lane;
    m[entry + LS_NUMBER] = record.number;
    m[entry + LS_STAMP] = record.stamp;
    m[entry + LS_FLAGS] = record.flags;
    m[entry + LS_HELD_ACKS] = m[entry + LS_ACKS];
    Atomics.store(m, entry + LS_STATE, this.#mine);
    crashPoint("lease.held");
    return entry;
  }

  /** Leases the oldest item that came back. @returns the lease's entry, 0 when there is none */
  takeReturned(): number {
    const m = this.#m;
    const returns = Atomics.load(m, this.#queue + Q_RETURNS);
    if (returns === this.#returns) return 0;
    for (;;) {
      let oldest = 0;
      someEntry(m, this.#queue, (entry) => {
        if (
          Atomics.load(m, entry + LS_STATE) === LS_RETURNED &&
          (oldest === 0 || ((m[entry + LS_STAMP] - m[oldest + LS_STAMP]) | 0) < 0)
        ) oldest = entry;
        return false;
      });
      if (oldest === 0) {
        this.#returns = returns;
        return 0;
      }
      if (Atomics.compareExchange(m, oldest + LS_STATE, LS_RETURNED, this.#mine) !== LS_RETURNED) continue;
      crashPoint("lease.again");
      Atomics.store(m, m[oldest + LS_DATA] + B_OWNER, this.#arena.token);
      return oldest;
    }
  }

  /** Items that came back, and their bytes. */
  returned(): { items: number; bytes: number } {
    const m = this.#m;
    let items = 0;
    let bytes = 0;
    const returns = Atomics.load(m, this.#queue + Q_RETURNS);
    if (returns === this.#returns) return { items, bytes };
    someEntry(m, this.#queue, (entry) => {
      if (Atomics.load(m, entry + LS_STATE) !== LS_RETURNED) return false;
      items++;
      bytes += RC_HEADER_BYTES + m[m[entry + LS_DATA] + BL_BYTES];
      return false;
    });
    if (items === 0) this.#returns = returns;
    return { items, bytes };
  }

  /** Gives a lease's message to `read`, which copies what it wants to keep. */
  read(entry: number, read: (offset: number, byteLength: number) => void): void {
    const data = this.#m[entry + LS_DATA];
    read((data + BL_DATA) * 4, this.#m[data + BL_BYTES]);
  }

  /** Ends a lease of this agent: the item is gone. @param finished whether it counts as finished from now on */
  end(entry: number, finished: boolean): void {
    const m = this.#m;
    const data = m[entry + LS_DATA];
    Atomics.store(m, entry + LS_ACKS, (m[entry + LS_HELD_ACKS] + (finished ? 1 : 0)) | 0);
    this.#release(entry);
    crashPoint("lease.ended");
    this.#arena.discard(data);
  }

  /** Ends a lease of this agent: the item is in the queue again, before newer ones. */
  giveBack(entry: number): void {
    Atomics.store(this.#m, entry + LS_STATE, LS_RETURNED);
    crashPoint("lease.returned");
    Atomics.add(this.#m, this.#queue + Q_RETURNS, 1);
  }

  /** Items that leases acknowledged, ever. Never more than there were when it is called. */
  acknowledged(): number {
    const m = this.#m;
    let sum = 0;
    someEntry(m, this.#queue, (entry) => {
      for (;;) {
        const state = Atomics.load(m, entry + LS_STATE);
        const acks = Atomics.load(m, entry + (isKept(state) ? LS_HELD_ACKS : LS_ACKS));
        if (Atomics.load(m, entry + LS_STATE) !== state) continue;
        sum = (sum + acks) | 0;
        return false;
      }
    });
    return sum;
  }

  #release(entry: number): void {
    Atomics.store(this.#m, entry + LS_STATE, LS_FREE);
    this.#free.push(entry);
  }

  #copy(record: Claimed, entry: number): Block {
    const m = this.#m;
    const arena = this.#arena;
    const block = arena.allocate(BL_DATA * 4 + record.byteLength);
    const start = (block + BL_DATA) * 4;
    arena.u8.copyWithin(start, record.offset, record.offset + record.byteLength);
    m[block + BL_LANE] = 0;
    m[block + BL_LEASE] = entry;
    m[block + BL_BYTES] = record.byteLength;
    arena.publish(block, K_BLOB);
    return block;
  }

  /** An entry of this agent's. */
  #take(): number {
    const m = this.#m;
    const mine = taken(this.#arena.token);
    for (let searched = false;;) {
      const entry = this.#free.pop();
      if (entry !== undefined) {
        if (Atomics.compareExchange(m, entry + LS_STATE, LS_FREE, mine) === LS_FREE) return entry;
        continue;
      }
      // What others freed; then a table of our own.
      if (searched) this.#addTable();
      searched = true;
      someEntry(m, this.#queue, (free) => {
        if (Atomics.load(m, free + LS_STATE) === LS_FREE) this.#free.push(free);
        return false;
      });
    }
  }

  #addTable(): void {
    const m = this.#m;
    const table = this.#arena.allocate(LT_WORDS * 4);
    m.fill(0, table + B_OWNER, table + LT_WORDS);
    m[table + LT_QUEUE] = this.#queue;
    this.#arena.publish(table, K_LEASES);
    crashPoint("lease.table");
    for (let newest = Atomics.load(m, this.#queue + Q_LEASES);;) {
      Atomics.store(m, table + LT_NEXT, newest);
      const found = Atomics.compareExchange(m, this.#queue + Q_LEASES, newest, table);
      if (found === newest) return;
      newest = found;
    }
  }
}

/** Whether an agent holds a lease of this record, of which it is then not to be taken again. */
export function isRecordLeased(
  m: Int32Array,
  queue: Block,
  lane: Block,
  number: number,
  token: number,
): boolean {
  return someEntry(m, queue, (entry) =>
    Atomics.load(m, entry + LS_STATE) === held(token) &&
    m[entry + LS_LANE] === lane && m[entry + LS_NUMBER] === number);
}

/** Whether a leased item may carry a handle that record `number` of a lane, or an earlier one, carried. */
export function leasesCarry(m: Int32Array, queue: Block, lane: Block, number: number): boolean {
  return someEntry(
    m,
    queue,
    (entry) =>
      isKept(Atomics.load(m, entry + LS_STATE)) && m[entry + LS_LANE] === lane &&
      (m[entry + LS_FLAGS] & RF_HANDLES) !== 0 && ((number - m[entry + LS_NUMBER]) | 0) >= 0,
  );
}

function isLive(arena: Arena, block: Block, kind: number): boolean {
  return (Atomics.load(arena.i32, block + B_HEAD) & 3) !== FREE && arena.kind(block) === kind;
}

/** Whether a message's block is kept by a lease. */
export function isBlobLeased(arena: Arena, blob: Block): boolean {
  const m = arena.i32;
  const entry = m[blob + BL_LEASE];
  // Tables lie at multiples of their size.
  return entry !== 0 && isLive(arena, entry & ~(LT_WORDS - 1), K_LEASES) &&
    isKept(Atomics.load(m, entry + LS_STATE)) && m[entry + LS_DATA] === blob;
}

/** What an agent's end means for a queue's leases: its own come back. Its records were settled before. Repeatable. */
export function returnLeases(m: Int32Array, queue: Block, token: number): void {
  if (Atomics.load(m, queue + Q_LEASES) === 0) return;
  someEntry(m, queue, (entry) => {
    Atomics.compareExchange(m, entry + LS_STATE, held(token), LS_RETURNED);
    Atomics.compareExchange(m, entry + LS_STATE, taken(token), LS_FREE);
    return false;
  });
  crashPoint("lease.returned");
  // Also for what it gave back itself.
  Atomics.add(m, queue + Q_RETURNS, 1);
}

/** Installs what becomes of tables whose makers end. */
export function installLeases({ arena, references }: Session): void {
  const m = arena.i32;
  references.rule(K_LEASES, {
    scrubBlock: (table, dead, head) => {
      if (m[table + B_OWNER] !== dead) return;
      const queue = m[table + LT_QUEUE];
      if (isLive(arena, queue, K_QUEUE)) {
        for (let at = Atomics.load(m, queue + Q_LEASES); at !== 0; at = Atomics.load(m, at + LT_NEXT)) {
          if (at === table) return;
        }
      }
      arena.discard(table, head);
    },
  });
}

/** Frees the leases of a condemned queue. */
export function finishLeases({ arena, references }: Session, queue: Block): void {
  const m = arena.i32;
  someEntry(m, queue, (entry) => {
    if (!isKept(Atomics.load(m, entry + LS_STATE))) return false;
    const data = m[entry + LS_DATA];
    Atomics.store(m, data + B_OWNER, arena.token);
    Atomics.store(m, entry + LS_STATE, LS_FREE);
    arena.discard(data);
    return false;
  });
  for (let table = m[queue + Q_LEASES]; table !== 0; table = m[queue + Q_LEASES]) {
    references.drop(queue + Q_LEASES, table, m[table + LT_NEXT]);
  }
}
