/**
 * Locks in shared memory: uncontended, an atomic instruction; contended, a wake-up of one waiter's event loop.
 *
 * @module
 */
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { K_LOCK } from "../core/layout.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { NOTHING, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { BLOCK_BYTES, describeOwner, NO_OPTIONS, noFill, refuse, timeoutOf } from "./common.ts";
import { type Guard, kRelock, type Relockable } from "./guard.ts";
import { installLock, LockCore } from "./lock_core.ts";

const ABANDONED = -1;

class LockGuard implements Guard {
  /** ABANDONED, or the core's count when the lock was taken. The core knows no guard, which so costs no more than its object. */
  #abandonments: number;
  #lock: LockCore | null;
  /** The guard keeps the handle from being dropped, and with it the lock from being given up. */
  readonly #handle: Lock;

  constructor(lock: LockCore, handle: Lock, abandoned: boolean) {
    this.#abandonments = abandoned ? ABANDONED : lock.abandonments;
    this.#lock = lock;
    this.#handle = handle;
  }

  get abandoned(): boolean {
    const lock = this.#lock;
    if (lock !== null && lock.abandonments !== this.#abandonments) this.#abandonments = ABANDONED;
    return this.#abandonments === ABANDONED;
  }

  release(): void {
    const lock = this.#lock;
    if (lock === null) return;
    this.#lock = null;
    // With its last handle the agent has given up the lock already.
    if (this.#handle.isReferenced) lock.release(true);
  }

  [Symbol.dispose](): void {
    this.release();
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
    this.#core = (this.held.shared ??= new LockCore(
      this.session,
      this.block,
      this.held.node,
      "lock",
    )) as LockCore;
  }

  /**
   * Takes the lock, waiting for it if need be.
   *
   * @throws {TimeoutError} the time was over
   */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<Guard> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return timeout;
    const abandoned = this.#core.attempt(false);
    if (abandoned !== NOTHING) {
      const guard = new LockGuard(this.#core, this, abandoned);
      return isDue() ? afterTurn(guard) : Promise.resolve(guard);
    }
    return this.#core.waiters.wait(w, timeout).then((late) => {
      // The wait was all that kept the block, and it is over: the lock was given up with it.
      if (!this.isReferenced) this.checkLive("acquire");
      return new LockGuard(this.#core, this, late);
    });
  }

  /** Takes the lock if it is free, else gives `null` at once. A dead owner's lock is free. */
  tryAcquire(): Guard | null {
    if (this.disposed) this.checkLive("acquire");
    let abandoned = this.#core.attempt(false);
    if (abandoned === NOTHING) abandoned = this.#core.attemptDead();
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
    return this.#core.owner !== 0;
  }

  /** Runs `fn` with the lock held, and releases it whatever happens, also if the handle is disposed meanwhile. */
  async run<R>(fn: (guard: Guard) => R | PromiseLike<R>, w?: WaitOptions): Promise<R> {
    this.checkLive("acquire");
    this.keep();
    try {
      using guard = await this.acquire(w);
      return await fn(guard);
    } finally {
      this.letGo();
    }
  }

  /** For people: who holds it. `Lock(owner=None)`, `Lock(owner=MainProcess)`, `Lock(owner=SomeOtherProcess 4711)`. */
  override toString(): string {
    return this.disposed ? super.toString() : `Lock(owner=${describeOwner(this.session, this.#core.owner)})`;
  }

  /** @ignore */
  [kRelock](): Relockable {
    const core = this.#core;
    return {
      isMine: () => core.isMine,
      giveUp: () => core.release(true),
      takeBack: async (_given, w) => {
        let abandoned = core.attempt(false);
        if (abandoned === NOTHING) abandoned = await core.waiters.wait(w, Infinity);
        if (abandoned) core.abandonments++;
      },
      takeBackSync: () => {
        let abandoned = core.attempt(false);
        if (abandoned === NOTHING) abandoned = this.session.waits.waitSync(core.waiters, Infinity);
        if (abandoned) core.abandonments++;
      },
    };
  }
}

reviver(K_LOCK, (existing) => new Lock(existing));
installLock(K_LOCK);
