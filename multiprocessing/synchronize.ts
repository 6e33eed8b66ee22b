/**
 * Locks and semaphores in shared memory: uncontended, an atomic instruction; contended, a wake-up of one waiter's event loop.
 *
 * @module
 */
import { agentAt } from "./core/agents.ts";
import type { Block } from "./core/arena.ts";
import { crashPoint } from "./core/crash.ts";
import { type Existing, Handle, isExisting, reviver } from "./core/handle.ts";
import {
  A_HELD,
  K_LOCK,
  K_SEMAPHORE,
  L_ABANDONED,
  L_OWNER_SHIFT,
  L_RESERVED,
  L_WAITERS,
  N_CHANNEL,
  N_HOLDER,
  O_WORD,
  S_MAX,
  S_RESERVED,
  S_VALUE_SHIFT,
  S_WAITERS,
  SYNC_NODES,
} from "./core/layout.ts";
import { afterTurn, isDue } from "./core/turns.ts";
import { TimeoutError } from "./errors.ts";
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

const BLOCK_BYTES = 128;
const NO_OPTIONS: WaitOptions = {};

/** Proof that a lock is held, and the way to release it once: `using guard = await lock.acquire()`. */
export interface Guard extends Disposable {
  /** Releases the lock. A second call does nothing. @throws {RangeError} when somebody else released it meanwhile */
  release(): void;
  /** Whether the last owner died while it held the lock: what the lock protects may be half changed. */
  readonly abandoned: boolean;
}

class LockGuard implements Guard {
  readonly abandoned: boolean;
  #lock: LockCore | null;
  /** The guard keeps the handle from being dropped, and with it the lock from being given up. */
  readonly #handle: Lock;

  constructor(lock: LockCore, handle: Lock, abandoned: boolean) {
    this.abandoned = abandoned;
    this.#lock = lock;
    this.#handle = handle;
  }

  release(): void {
    const lock = this.#lock;
    if (lock === null) return;
    this.#lock = null;
    // With its last handle the agent has given up the lock already.
    if (!this.#handle.disposed) lock.release(true);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Clears a reservation that nobody is going to use: none of the waiters that it could be for can come. */
function reservationIsStale(session: Session, block: Block): boolean {
  const m = session.arena.i32;
  for (const c = new NodeCursor(m).start(block, SYNC_NODES); c.next();) {
    if (Atomics.load(m, c.at + N_CHANNEL) === 0) continue;
    const holder = Atomics.load(m, c.at + N_HOLDER);
    if (holder > 0 && Atomics.load(m, agentAt(holder) + A_HELD) === 0 && !session.agents.isDead(holder)) {
      return false;
    }
  }
  return true;
}

/** The lock, as all handles of this agent to it share it. */
class LockCore implements Source<boolean> {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<boolean>;
  readonly #m: Int32Array;
  readonly #word: number;
  readonly #mine: number;
  /** Ticks that found the lock free and reserved: see check. */
  #reservedTicks = 0;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(session.waits, block, node, N_CHANNEL, this, timedOut("lock"));
    this.#m = session.arena.i32;
    this.#word = block + O_WORD;
    this.#mine = session.token << L_OWNER_SHIFT;
  }

  /** Takes the lock; the answer is whether its last owner abandoned it. */
  attempt(woken: boolean): boolean | typeof NOTHING {
    const m = this.#m;
    let seen = Atomics.compareExchange(m, this.#word, 0, this.#mine);
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
    if (Atomics.load(this.#m, this.#word) >>> L_OWNER_SHIFT === 0) {
      this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL);
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
      if ((seen & L_WAITERS) !== 0) this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL);
      return;
    }
  }

  get word(): number {
    return Atomics.load(this.#m, this.#word);
  }
}

/**
 * A lock that any process or Worker of the session may take: CPython's `multiprocessing.Lock`. Not re-entrant; anyone may release it.
 *
 * If its owner dies, the next to acquire it gets it, with `guard.abandoned` true.
 *
 * @example
 * ```ts
 * import { Lock } from "@karellen/geventmp";
 * const lock = new Lock();
 * {
 *   using _guard = await lock.acquire();
 *   // only one agent of the session is here
 * }
 * ```
 */
export class Lock extends Handle {
  readonly #core: LockCore;

  /** Makes a free lock. */
  constructor();
  /** @ignore */
  constructor(existing?: Existing);
  constructor(existing?: Existing) {
    super(K_LOCK, isExisting(existing) ? existing : null, BLOCK_BYTES, noFill);
    this.#core = (this.held.shared ??= new LockCore(this.session, this.block, this.held.node)) as LockCore;
  }

  /**
   * Takes the lock, waiting for it if need be.
   *
   * @throws {TimeoutError} the time was over
   */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<Guard> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    let timeout = Infinity;
    if (w !== NO_OPTIONS) {
      try {
        timeout = checkWait(w);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    const abandoned = this.#core.attempt(false);
    if (abandoned !== NOTHING) {
      const guard = new LockGuard(this.#core, this, abandoned);
      return isDue() ? afterTurn(guard) : Promise.resolve(guard);
    }
    return this.#core.waiters.wait(w, timeout).then((late) => new LockGuard(this.#core, this, late));
  }

  /** Takes the lock if it is free, else gives `null` at once. A dead owner's lock is free. */
  tryAcquire(): Guard | null {
    if (this.disposed) this.checkLive("acquire");
    const abandoned = this.#core.attempt(false);
    return abandoned !== NOTHING ? new LockGuard(this.#core, this, abandoned) : this.#tryDead();
  }

  /** A dead owner's lock is free, though nobody has found out yet. */
  #tryDead(): Guard | null {
    const owner = this.#core.word >>> L_OWNER_SHIFT;
    if (owner === 0 || !this.session.agents.isDead(owner)) return null;
    this.#core.abandon(owner);
    const abandoned = this.#core.attempt(false);
    return abandoned !== NOTHING ? new LockGuard(this.#core, this, abandoned) : null;
  }

  /**
   * Takes the lock, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): Guard {
    this.checkLive("acquire");
    const timeout = this.session.waits.checkBlocking("acquire the lock synchronously", w);
    const guard = this.tryAcquire();
    if (guard !== null) return guard;
    return new LockGuard(this.#core, this, this.session.waits.waitSync(this.#core.waiters, timeout));
  }

  /** Releases the lock, whoever holds it. @throws {RangeError} nobody does */
  release(): void {
    if (this.disposed) this.checkLive("release");
    this.#core.release(false);
  }

  /** Whether somebody holds it now. */
  locked(): boolean {
    if (this.disposed) this.checkLive("look at");
    return this.#core.word >>> L_OWNER_SHIFT !== 0;
  }

  /** Runs `fn` with the lock held, and releases it whatever happens. */
  async run<R>(fn: (guard: Guard) => R | PromiseLike<R>, w?: WaitOptions): Promise<R> {
    const guard = await this.acquire(w);
    try {
      return await fn(guard);
    } finally {
      guard.release();
    }
  }

  /** For people: whether it is held, and by which process. */
  override toString(): string {
    if (this.disposed) return "Lock(disposed)";
    const owner = this.#core.word >>> L_OWNER_SHIFT;
    return owner === 0 ? "Lock(free)" : `Lock(held by process ${this.session.describe(owner).pid})`;
  }
}

class SemaphoreCore implements Source<undefined> {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<undefined>;
  readonly #m: Int32Array;
  readonly #word: number;
  #reservedTicks = 0;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(session.waits, block, node, N_CHANNEL, this, timedOut("semaphore"));
    this.#m = session.arena.i32;
    this.#word = block + O_WORD;
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
    if (this.value > 0) this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL);
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
      if (value > S_MAX) {
        throw new RangeError(
          `Cannot release the semaphore: its value would be ${value}, and ${S_MAX} is the most`,
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
      if ((seen & S_WAITERS) !== 0) this.session.waits.wakeNext(this.block, SYNC_NODES, N_CHANNEL);
      return;
    }
  }

  get value(): number {
    return Atomics.load(this.#m, this.#word) >>> S_VALUE_SHIFT;
  }
}

/**
 * A counter that cannot go below zero, shared by the session: CPython's `multiprocessing.Semaphore`. A permit that a killed process held is
 * lost, as in POSIX.
 */
export class Semaphore extends Handle {
  readonly #core: SemaphoreCore;

  /**
   * Makes a semaphore.
   *
   * @param value how many permits there are at first, 0 to 536,870,911
   * @throws {RangeError} a value out of bounds
   */
  constructor(value?: number);
  /** @ignore */
  constructor(existing?: Existing | number);
  constructor(value: Existing | number = 1) {
    super(
      K_SEMAPHORE,
      isExisting(value) ? value : null,
      BLOCK_BYTES,
      isExisting(value) ? noFill : permits(value),
    );
    this.#core =
      (this.held.shared ??= new SemaphoreCore(this.session, this.block, this.held.node)) as SemaphoreCore;
  }

  /**
   * Takes a permit, waiting for one if need be.
   *
   * @throws {TimeoutError} the time was over
   */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<void> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    let timeout = Infinity;
    if (w !== NO_OPTIONS) {
      try {
        timeout = checkWait(w);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    if (this.#core.attempt(false) === undefined) return isDue() ? afterTurn(undefined) : Promise.resolve();
    return this.#core.waiters.wait(w, timeout);
  }

  /** Takes a permit if there is one. */
  tryAcquire(): boolean {
    if (this.disposed) this.checkLive("acquire");
    return this.#core.attempt(false) === undefined;
  }

  /**
   * Takes a permit, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): void {
    this.checkLive("acquire");
    const timeout = this.session.waits.checkBlocking("acquire the semaphore synchronously", w);
    if (!this.tryAcquire()) this.session.waits.waitSync(this.#core.waiters, timeout);
  }

  /** Gives back `n` permits, or adds them. @throws {RangeError} `n` is no whole number above 0, or the value would be too large */
  release(n = 1): void {
    if (this.disposed) this.checkLive("release");
    if (!(n >= 1) || !Number.isInteger(n)) {
      throw new RangeError(`Cannot release ${n} permits: it must be a whole number of at least 1`);
    }
    this.#core.release(n);
  }

  /** How many permits there are now. */
  getValue(): number {
    if (this.disposed) this.checkLive("look at");
    return this.#core.value;
  }

  /** For people: its value. */
  override toString(): string {
    return this.disposed ? "Semaphore(disposed)" : `Semaphore(value ${this.#core.value})`;
  }
}

function noFill(): void {}

/** Checks a semaphore's first value, and gives what writes it into its block. */
function permits(value: number): (m: Int32Array, block: Block) => void {
  if (!Number.isInteger(value) || value < 0 || value > S_MAX) {
    throw new RangeError(
      `Cannot make a semaphore of value ${value}: it must be a whole number from 0 to ${S_MAX}`,
    );
  }
  return (m, block) => {
    m[block + O_WORD] = value << S_VALUE_SHIFT;
  };
}

function timedOut(what: string): (timeout: number) => TimeoutError {
  return (timeout) =>
    new TimeoutError(`Cannot acquire the ${what}: it did not become free within ${timeout} ms`);
}

function refuse(check: () => void): Promise<never> {
  try {
    check();
  } catch (error) {
    return Promise.reject(error);
  }
  return Promise.reject(new TypeError("Cannot wait: the handle is disposed"));
}

reviver(K_LOCK, (existing) => new Lock(existing));
reviver(K_SEMAPHORE, (existing) => new Semaphore(existing));

/** What is done at the end of each kind of block that is a lock, or begins as one. */
export function installLock(kind: number): void {
  onOpen((session) => {
    const m = session.arena.i32;
    session.references.rule(kind, {
      isOwned: (block) => Atomics.load(m, block + O_WORD) >>> L_OWNER_SHIFT === session.token,
      scrubNode: (block, node, dead) => {
        const core = new LockCore(session, block, node);
        core.abandon(dead);
        Atomics.and(m, block + O_WORD, ~L_RESERVED);
        core.pass();
      },
    });
  });
}
installLock(K_LOCK);

onOpen((session) => {
  const m = session.arena.i32;
  session.references.rule(K_SEMAPHORE, {
    scrubNode: (block, node) => {
      Atomics.and(m, block + O_WORD, ~S_RESERVED);
      new SemaphoreCore(session, block, node).pass();
    },
  });
});
