/**
 * The lock's word, and how one waits for it: what locks of both kinds are made of.
 *
 * @module
 */
import type { Block } from "../core/arena.ts";
import { crashPoint } from "../core/crash.ts";
import {
  L_ABANDONED,
  L_OWNER_SHIFT,
  L_RESERVED,
  L_WAITERS,
  N_CHANNEL,
  O_WORD,
  SYNC_NODES,
} from "../core/layout.ts";
import { onOpen, type Session } from "../core/session.ts";
import { NOTHING, type Source, WaitList } from "../core/waits.ts";
import { reservationIsStale, timedOut } from "./common.ts";

/** The lock, as all handles of this agent to it share it. */
export class LockCore implements Source<boolean> {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<boolean>;
  readonly #m: Int32Array;
  readonly #word: number;
  readonly #mine: number;
  /** How often the lock was abandoned while a condition's wait of this agent had given it up: its guard is to say so. */
  abandonments = 0;
  /** Ticks that found the lock free and reserved: see check. */
  #reservedTicks = 0;

  constructor(session: Session, block: Block, node: number, what: string) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(session.waits, block, node, N_CHANNEL, this, timedOut(what));
    this.#m = session.arena.i32;
    this.#word = block + O_WORD;
    this.#mine = session.token << L_OWNER_SHIFT;
  }

  /** Takes the lock; the answer is whether its last owner abandoned it. */
  attempt(woken: boolean): boolean | typeof NOTHING {
    const m = this.#m;
    // Others may wait whom nobody will set the flag for: it was cleared to wake this agent. It makes the release look.
    let seen = Atomics.compareExchange(m, this.#word, 0, woken ? this.#mine | L_WAITERS : this.#mine);
    if (seen === 0) {
      crashPoint("lock.taken");
      return false;
    }
    while (seen >>> L_OWNER_SHIFT === 0) {
      if ((seen & L_RESERVED) !== 0 && !woken && !reservationIsStale(this.session, this.block)) {
        return NOTHING;
      }
      // Others may wait that this taker knows nothing of: the flag makes its release look.
      const found = Atomics.compareExchange(m, this.#word, seen, this.#mine | L_WAITERS);
      if (found === seen) {
        crashPoint("lock.taken");
        return (seen & L_ABANDONED) !== 0;
      }
      seen = found;
    }
    return NOTHING;
  }

  mark(woken: boolean): boolean {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      const free = seen >>> L_OWNER_SHIFT === 0;
      if (free && (woken || (seen & L_RESERVED) === 0)) return true;
      if ((seen & L_WAITERS) !== 0) return false;
      const found = Atomics.compareExchange(m, this.#word, seen, seen | L_WAITERS);
      if (found === seen) return false;
      seen = found;
    }
  }

  reserve(): void {
    Atomics.or(this.#m, this.#word, L_RESERVED);
  }

  pass(): void {
    if (Atomics.or(this.#m, this.#word, L_WAITERS) >>> L_OWNER_SHIFT === 0) this.#wake();
  }

  /** Wakes the next waiter of the free lock. Reserved for nobody, it would keep newcomers asleep: then the reservation ends. */
  #wake(): void {
    while (!this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL)) {
      const seen = Atomics.and(this.#m, this.#word, ~L_RESERVED);
      // A newcomer that found it reserved has set the flag, and sleeps.
      if (seen >>> L_OWNER_SHIFT !== 0 || (~seen & (L_RESERVED | L_WAITERS)) !== 0) return;
    }
  }

  check(isDead: (token: number) => boolean): void {
    const seen = Atomics.load(this.#m, this.#word);
    const owner = seen >>> L_OWNER_SHIFT;
    if (owner !== 0) {
      this.#reservedTicks = 0;
      if (!isDead(owner)) return;
      this.abandon(owner);
      this.session.agents.reap(owner);
    } else if ((seen & L_RESERVED) !== 0 && ++this.#reservedTicks > 1) {
      // Free for a whole tick: whoever it is reserved for is stopped.
      Atomics.and(this.#m, this.#word, ~L_RESERVED);
    }
  }

  /** A dead owner's lock becomes free, and says so to the next owner. */
  abandon(owner: number): void {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word); seen >>> L_OWNER_SHIFT === owner;) {
      const found = Atomics.compareExchange(m, this.#word, seen, (seen & L_WAITERS) | L_ABANDONED);
      if (found === seen) return;
      seen = found;
    }
  }

  /** @param own whether only this agent's own hold may be released, rather than anyone's */
  release(own: boolean): void {
    const m = this.#m;
    if (Atomics.compareExchange(m, this.#word, this.#mine, 0) === this.#mine) {
      crashPoint("lock.released");
      return;
    }
    for (let seen = Atomics.load(m, this.#word);;) {
      const owner = seen >>> L_OWNER_SHIFT;
      if (owner === 0 || (own && owner !== this.session.token)) {
        throw new RangeError(
          owner === 0
            ? "Cannot release the lock: it is not held; release it once for each acquire"
            : `Cannot release the lock through this guard: somebody else released it, and agent ${owner} holds it now; let only guards release a lock`,
        );
      }
      const found = Atomics.compareExchange(m, this.#word, seen, seen & L_RESERVED);
      if (found !== seen) {
        seen = found;
        continue;
      }
      crashPoint("wait.cleared");
      if ((seen & L_WAITERS) !== 0) this.#wake();
      return;
    }
  }

  /** Token of who holds it, 0 when it is free. */
  get owner(): number {
    return Atomics.load(this.#m, this.#word) >>> L_OWNER_SHIFT;
  }

  get isMine(): boolean {
    return this.owner === this.session.token;
  }

  /** A dead owner's lock is free, though nobody has found out yet. */
  attemptDead(): boolean | typeof NOTHING {
    const { owner } = this;
    if (owner === 0 || !this.session.agents.isDead(owner)) return NOTHING;
    this.abandon(owner);
    return this.attempt(false);
  }
}

/** Registers what becomes of a lock of this kind whose owner ends. */
export function installLock(kind: number): void {
  onOpen((session) => {
    const m = session.arena.i32;
    session.references.rule(kind, {
      isOwned: (block) => Atomics.load(m, block + O_WORD) >>> L_OWNER_SHIFT === session.token,
      scrubNode: (block, node, dead) => {
        const core = new LockCore(session, block, node, "lock");
        core.abandon(dead);
        Atomics.and(m, block + O_WORD, ~L_RESERVED);
        core.pass();
      },
    });
  });
}
