/**
 * What a semaphore's value is, and how one waits for a permit: plain, and robust.
 *
 * @module
 */
import type { Block } from "../core/arena.ts";
import { crashPoint } from "../core/crash.ts";
import {
  N_CHANNEL,
  N_HELD,
  N_HOLDER,
  O_BOUND,
  O_ROBUST,
  O_WORD,
  S_CLAIMING,
  S_MAX,
  S_RESERVED,
  S_VALUE_SHIFT,
  S_WAITERS,
  SYNC_NODES,
  TOKEN_SLOT_MASK,
} from "../core/layout.ts";
import { onOpen, type Session } from "../core/session.ts";
import { NodeCursor, NOTHING, type Source, WaitList } from "../core/waits.ts";
import { reservationIsStale, timedOut } from "./common.ts";

/** The semaphore, as all handles of this agent to it share it. */
interface SemaphoreCore extends Source<undefined> {
  readonly waiters: WaitList<undefined>;
  release(n: number): void;
  readonly value: number;
}

/** A semaphore whose permits are nobody's: its value is one word. */
export class PlainCore implements SemaphoreCore {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<undefined>;
  readonly #m: Int32Array;
  readonly #word: number;
  readonly #bound: number;
  #reservedTicks = 0;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(session.waits, block, node, N_CHANNEL, this, timedOut("semaphore"));
    const m = this.#m = session.arena.i32;
    this.#word = block + O_WORD;
    this.#bound = m[block + O_BOUND] || S_MAX;
  }

  attempt(woken: boolean): undefined | typeof NOTHING {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      if (seen >>> S_VALUE_SHIFT === 0) return NOTHING;
      if ((seen & S_RESERVED) !== 0 && !woken && !reservationIsStale(this.session, this.block)) {
        return NOTHING;
      }
      const next = (seen - (1 << S_VALUE_SHIFT)) & ~S_RESERVED;
      const found = Atomics.compareExchange(m, this.#word, seen, woken ? next | S_WAITERS : next);
      if (found === seen) {
        crashPoint("semaphore.taken");
        return undefined;
      }
      seen = found;
    }
  }

  mark(woken: boolean): boolean {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      if (seen >>> S_VALUE_SHIFT !== 0 && (woken || (seen & S_RESERVED) === 0)) return true;
      if ((seen & S_WAITERS) !== 0) return false;
      const found = Atomics.compareExchange(m, this.#word, seen, seen | S_WAITERS);
      if (found === seen) return false;
      seen = found;
    }
  }

  reserve(): void {
    Atomics.or(this.#m, this.#word, S_RESERVED);
  }

  pass(): void {
    if (Atomics.or(this.#m, this.#word, S_WAITERS) >>> S_VALUE_SHIFT !== 0) this.#wake();
  }

  /** Wakes the next waiter for a permit. Reserved for nobody, it would keep newcomers asleep: then the reservation ends. */
  #wake(): void {
    while (!this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL)) {
      const seen = Atomics.and(this.#m, this.#word, ~S_RESERVED);
      // A newcomer that found it reserved has set the flag, and sleeps.
      if (seen >>> S_VALUE_SHIFT === 0 || (~seen & (S_RESERVED | S_WAITERS)) !== 0) return;
    }
  }

  check(): void {
    const seen = Atomics.load(this.#m, this.#word);
    if ((seen & S_RESERVED) === 0 || seen >>> S_VALUE_SHIFT === 0) this.#reservedTicks = 0;
    else if (++this.#reservedTicks > 1) Atomics.and(this.#m, this.#word, ~S_RESERVED);
  }

  release(n: number): void {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      const value = (seen >>> S_VALUE_SHIFT) + n;
      if (value > this.#bound) {
        throw new RangeError(
          `Cannot release the semaphore ${n} times: its value would be ${value}, and ${this.#bound} is the most; release what was acquired, once`,
        );
      }
      const found = Atomics.compareExchange(
        m,
        this.#word,
        seen,
        (value << S_VALUE_SHIFT) | (seen & S_RESERVED),
      );
      if (found !== seen) {
        seen = found;
        continue;
      }
      crashPoint("semaphore.released");
      if ((seen & S_WAITERS) !== 0) this.#wake();
      return;
    }
  }

  get value(): number {
    return Atomics.load(this.#m, this.#word) >>> S_VALUE_SHIFT;
  }
}

/**
 * A semaphore whose permits belong to the agents that took them, and are free again when those die. An agent's permits stand in its own node, so
 * that its end takes away exactly them; taking one means to claim it there and then to count what all have, as a queue's putters do.
 */
export class RobustCore implements SemaphoreCore {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<undefined>;
  readonly #m: Int32Array;
  readonly #word: number;
  readonly #held: number;
  readonly #slot: number;
  #reservedTicks = 0;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(session.waits, block, node, N_CHANNEL, this, timedOut("semaphore"));
    this.#m = session.arena.i32;
    this.#word = block + O_WORD;
    this.#held = node + N_HELD;
    this.#slot = session.token & TOKEN_SLOT_MASK;
  }

  attempt(woken: boolean): undefined | typeof NOTHING {
    const m = this.#m;
    const seen = Atomics.load(m, this.#word);
    if ((seen & S_RESERVED) !== 0 && !woken && !reservationIsStale(this.session, this.block)) return NOTHING;
    // Others may wait that nobody will set the flag for: it was cleared to wake this agent.
    if (woken) Atomics.or(m, this.#word, S_WAITERS);
    if (!this.#claim()) return NOTHING;
    if ((seen & S_RESERVED) !== 0) Atomics.and(m, this.#word, ~S_RESERVED);
    crashPoint("semaphore.taken");
    return undefined;
  }

  #claim(): boolean {
    const m = this.#m;
    const all = Atomics.load(m, this.#word) >>> S_VALUE_SHIFT;
    const mine = m[this.#held];
    Atomics.store(m, this.#held, mine | S_CLAIMING);
    crashPoint("semaphore.claimed");
    // Claims that are too many may be stepped back from at any moment; a stopped claimer's is not waited for.
    for (let tries = 0; tries < 100; tries++) {
      let permits = 0;
      let claims = 0;
      let lower = false;
      for (const c = new NodeCursor(m).start(this.block, SYNC_NODES); c.next();) {
        const held = Atomics.load(m, c.at + N_HELD);
        permits += held >>> 1;
        if ((held & S_CLAIMING) === 0) continue;
        claims++;
        if ((Atomics.load(m, c.at + N_HOLDER) & TOKEN_SLOT_MASK) < this.#slot) lower = true;
      }
      if (permits + claims <= all) {
        crashPoint("semaphore.counted");
        Atomics.store(m, this.#held, mine + 2);
        return true;
      }
      if (permits >= all || lower) break;
    }
    Atomics.store(m, this.#held, mine);
    // Another may have seen the claim, and gone to wait for what is free after all.
    this.#freed();
    return false;
  }

  mark(woken: boolean): boolean {
    const m = this.#m;
    if (this.value > 0 && (woken || (Atomics.load(m, this.#word) & S_RESERVED) === 0)) return true;
    Atomics.or(m, this.#word, S_WAITERS);
    // What was released before the flag stood there is seen now; what is released after it sees the flag.
    return this.value > 0 && (woken || (Atomics.load(m, this.#word) & S_RESERVED) === 0);
  }

  reserve(): void {
    Atomics.or(this.#m, this.#word, S_RESERVED);
  }

  pass(): void {
    Atomics.or(this.#m, this.#word, S_WAITERS);
    if (this.value > 0) this.#wakeNext();
  }

  check(isDead: (token: number) => boolean): void {
    const m = this.#m;
    if ((Atomics.load(m, this.#word) & S_RESERVED) === 0 || this.value === 0) this.#reservedTicks = 0;
    else if (++this.#reservedTicks > 1) Atomics.and(m, this.#word, ~S_RESERVED);
    for (const c = new NodeCursor(m).start(this.block, SYNC_NODES); c.next();) {
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder > 0 && Atomics.load(m, c.at + N_HELD) !== 0 && isDead(holder)) {
        this.session.agents.reap(holder);
      }
    }
  }

  release(n: number): void {
    const m = this.#m;
    const mine = m[this.#held];
    if (n > mine >>> 1) {
      throw new RangeError(
        `Cannot release the robust semaphore ${n} times: this agent has ${
          mine >>> 1
        } of its permits; release them where they were acquired, or use a plain semaphore to signal others`,
      );
    }
    Atomics.store(m, this.#held, mine - 2 * n);
    crashPoint("semaphore.released");
    this.#freed();
  }

  #freed(): void {
    if ((Atomics.load(this.#m, this.#word) & S_WAITERS) === 0) return;
    Atomics.and(this.#m, this.#word, ~S_WAITERS);
    this.#wakeNext();
  }

  /** As a plain semaphore's. */
  #wakeNext(): void {
    while (!this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL)) {
      const seen = Atomics.and(this.#m, this.#word, ~S_RESERVED);
      if ((~seen & (S_RESERVED | S_WAITERS)) !== 0 || this.value === 0) return;
    }
  }

  get value(): number {
    const m = this.#m;
    let value = Atomics.load(m, this.#word) >>> S_VALUE_SHIFT;
    for (const c = new NodeCursor(m).start(this.block, SYNC_NODES); c.next();) {
      const held = Atomics.load(m, c.at + N_HELD);
      value -= (held >>> 1) + (held & S_CLAIMING);
    }
    return Math.max(0, value);
  }
}

/** The core of a semaphore's block, by what the block says. */
export function semaphoreCore(session: Session, block: Block, node: number): PlainCore | RobustCore {
  const Core = session.arena.i32[block + O_ROBUST] === 0 ? PlainCore : RobustCore;
  return new Core(session, block, node);
}

/** Registers what becomes of a semaphore of this kind when an agent ends that has it. */
export function installSemaphore(kind: number): void {
  onOpen((session) => {
    const m = session.arena.i32;
    session.references.rule(kind, {
      isOwned: (block) => m[block + O_ROBUST] !== 0 && isHeld(session, block),
      scrubNode: (block, node) => {
        // Here also when this agent lets go of its last handle.
        if (m[block + O_ROBUST] !== 0) Atomics.store(m, node + N_HELD, 0);
        Atomics.and(m, block + O_WORD, ~S_RESERVED);
        semaphoreCore(session, block, node).pass();
      },
    });
  });
}

function isHeld(session: Session, block: Block): boolean {
  const m = session.arena.i32;
  for (const c = new NodeCursor(m).start(block, SYNC_NODES); c.next();) {
    if (Atomics.load(m, c.at + N_HOLDER) === session.token) return m[c.at + N_HELD] !== 0;
  }
  return false;
}
