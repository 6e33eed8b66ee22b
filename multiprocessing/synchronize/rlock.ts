/**
 * Re-entrant locks.
 *
 * @module
 */
import type { Block } from "../core/arena.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { K_RLOCK, O_FLOW } from "../core/layout.ts";
import type { Session } from "../core/session.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { NOTHING, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { BLOCK_BYTES, describeOwner, NO_OPTIONS, noFill, refuse, timeoutOf } from "./common.ts";
import { enter, Hold, isInFlow, mayBeInFlow, runIn } from "./flow.ts";
import { type Guard, kRelock, type Relockable } from "./guard.ts";
import { installLock, LockCore } from "./lock_core.ts";

/** Who owns a re-entrant lock. */
export interface RLockOptions {
  /**
   * `"flow"`: the code that acquired it, with all that it calls, awaits and starts. `"agent"`: any code of the thread.
   *
   * @default "flow"
   */
  owner?: "flow" | "agent";
}

/** The lock, as all handles of this agent to it share it. How often it is held only its owner's agent needs to know. */
class RLockCore extends LockCore {
  readonly isFlow: boolean;
  /** This agent's hold, if it has the lock. */
  hold: Hold | null = null;
  /** The one hold of a lock that the agent owns. */
  readonly #ofAgent = new Hold(0);

  constructor(session: Session, block: Block, node: number) {
    super(session, block, node, "lock");
    this.isFlow = session.arena.i32[block + O_FLOW] !== 0;
  }

  /**
   * What the agent has it may take again, so all its waiters are done as soon as one is; each is counted at once, lest the first to go on
   * releases the lock of all.
   */
  override attempt(woken: boolean): boolean | typeof NOTHING {
    if (this.isFlow) return super.attempt(woken);
    const hold = this.#ofAgent;
    if (this.hold === null) {
      const abandoned = super.attempt(woken);
      if (abandoned === NOTHING) return NOTHING;
      hold.abandoned = abandoned;
      this.hold = hold;
    }
    hold.count++;
    return hold.abandoned;
  }

  /** The hold that the code that runs now may take again, or null. */
  get mine(): Hold | null {
    const { hold } = this;
    return hold !== null && (!this.isFlow || isInFlow(hold)) ? hold : null;
  }

  /** The hold that the code that runs now may release, or null. */
  get releasable(): Hold | null {
    const { hold } = this;
    return hold !== null && (!this.isFlow || mayBeInFlow(hold)) ? hold : null;
  }

  /** The hold for an acquire whose owner has none: `make` makes a flow's. */
  next(make: () => Hold): Hold {
    return this.isFlow ? make() : this.#ofAgent;
  }

  /** An attempt was successful, for the owner of `hold`, who wants it so many times. */
  took(hold: Hold, abandoned: boolean, times = 1): void {
    if (!this.isFlow) {
      hold.count += times - 1;
      return;
    }
    this.hold = hold;
    hold.count = times;
    if (abandoned) hold.abandoned = true;
  }

  leave(hold: Hold): void {
    if (--hold.count > 0) return;
    hold.over = true;
    this.hold = null;
    this.release(true);
  }
}

class RLockGuard implements Guard {
  #core: RLockCore | null;
  readonly #hold: Hold;
  readonly #handle: RLock;
  readonly #abandoned: boolean;

  constructor(core: RLockCore, handle: RLock, hold: Hold) {
    this.#core = core;
    this.#hold = hold;
    this.#handle = handle;
    this.#abandoned = hold.abandoned;
  }

  get abandoned(): boolean {
    // It may have been abandoned during a condition's wait.
    return this.#abandoned || (this.#core !== null && this.#hold.abandoned);
  }

  release(): void {
    const core = this.#core;
    if (core === null) return;
    this.#core = null;
    // With its last handle the agent has given up the lock already.
    if (!this.#handle.isReferenced) return;
    if (core.hold !== this.#hold) {
      throw new RangeError(
        "Cannot release the lock through this guard: it was released without it; release it once for each acquire",
      );
    }
    core.leave(this.#hold);
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/**
 * A lock that its owner may take again: CPython's `multiprocessing.RLock`. It is free when it was released as often as it was taken, by its owner.
 *
 * The owner is a flow of code, as Python's is a thread:
 * - `run(fn)` makes one: `fn`, and all that it calls, awaits or starts. This is exact; use it where functions are started and not awaited.
 * - `await lock.acquire()` makes the calling function's code from there on one, with all that it calls, awaits or starts. Functions that are
 *   started side by side, `Promise.all([f(), g()])`, exclude each other.
 * - The limits of `acquire`, as of `tryAcquire` and `acquireSync`: nothing tells a function from others that it starts, or is started beside, until
 *   it awaits something. In doubt they exclude each other. So a lock cannot be taken again before something was awaited since; and of several
 *   locks that were taken without awaiting anything in between, `Promise.all([a.acquire(), b.acquire()])`, only the last one can be. All of them can
 *   be released. Await each `acquire`, or use `run`, or `runSync`, in which code may take the lock again at once.
 * - Who calls a function, does not await it, and itself acquires the lock later while that function has it, is taken for the same flow. A function
 *   that awaits something else, then acquires, and returns the guard does not make its caller the owner: the caller can release by the guard, and
 *   not acquire again.
 * - A guard releases from anywhere; `release()` only in the owner's code.
 *
 * With `{ owner: "agent" }` the owner is the whole thread, a process's main thread or a Worker.
 *
 * @example
 * ```ts
 * import { RLock } from "@karellen/geventmp";
 * using lock = new RLock();
 * await lock.run(async () => {
 *   using _again = await lock.acquire();
 * });
 * lock.runSync(() => lock.runSync(() => {}), { allowBlocking: true });
 * ```
 */
export class RLock extends Handle {
  readonly #core: RLockCore;

  /** Makes a free lock. @throws {TypeError} an owner that is neither "flow" nor "agent" */
  constructor(options?: RLockOptions);
  /** @ignore */
  constructor(options?: Existing | RLockOptions);
  constructor(options: Existing | RLockOptions = {}) {
    super(
      K_RLOCK,
      isExisting(options) ? options : null,
      BLOCK_BYTES,
      isExisting(options) ? noFill : ownedBy(options),
    );
    this.#core = (this.held.shared ??= new RLockCore(this.session, this.block, this.held.node)) as RLockCore;
  }

  /**
   * Takes the lock, once more if the calling code has it, waiting for it if need be.
   *
   * @throws {TimeoutError} the time was over
   */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<Guard> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return timeout;
    const core = this.#core;
    const mine = core.mine;
    if (mine !== null) return Promise.resolve(this.#again(mine));
    return this.#take(core.next(enter), w, timeout);
  }

  #take(hold: Hold, w: WaitOptions, timeout: number): Promise<Guard> {
    const abandoned = this.#core.attempt(false);
    if (abandoned !== NOTHING) {
      const guard = this.#guard(hold, abandoned);
      return isDue() ? afterTurn(guard) : Promise.resolve(guard);
    }
    return this.#core.waiters.wait(w, timeout).then(
      (late) => {
        // The wait was all that kept the block, and it is over: the lock was given up with it.
        if (!this.isReferenced) {
          hold.over = true;
          this.checkLive("acquire");
        }
        return this.#guard(hold, late);
      },
      (error) => {
        hold.over = true;
        throw error;
      },
    );
  }

  #guard(hold: Hold, abandoned: boolean): Guard {
    this.#core.took(hold, abandoned);
    return new RLockGuard(this.#core, this, hold);
  }

  #again(hold: Hold): Guard {
    hold.count++;
    return new RLockGuard(this.#core, this, hold);
  }

  /**
   * Takes the lock if it is free or the calling code has it, else gives `null` at once. A dead owner's lock is free. Not before it has awaited
   * something does the calling code have it again: see the class.
   */
  tryAcquire(): Guard | null {
    if (this.disposed) this.checkLive("acquire");
    const core = this.#core;
    const mine = core.mine;
    if (mine !== null) return this.#again(mine);
    return this.#tryTake(null);
  }

  /** @param hold the one to take it for; null for one of the caller's flow */
  #tryTake(hold: Hold | null): Guard | null {
    const core = this.#core;
    let abandoned = core.attempt(false);
    if (abandoned === NOTHING) abandoned = core.attemptDead();
    if (abandoned === NOTHING) return null;
    return this.#guard(hold ?? core.next(enter), abandoned);
  }

  /**
   * Takes the lock, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {RangeError} other code of this thread has it, which cannot release it while the thread is blocked; and so may this code, if it did not
   * await anything since: nest in `runSync`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): Guard {
    this.checkLive("acquire");
    const timeout = this.session.waits.checkBlocking("acquire the lock synchronously", w);
    return this.tryAcquire() ?? this.#block(timeout, enter);
  }

  #block(timeout: number, make: () => Hold): Guard {
    const core = this.#core;
    if (core.isMine) {
      throw new RangeError(
        "Cannot acquire the lock synchronously: another flow of this thread has it, or one that began in this very piece of synchronous code, and could not release it while the thread is blocked; await acquire(), or nest in runSync() or run()",
      );
    }
    const abandoned = this.session.waits.waitSync(core.waiters, timeout);
    return this.#guard(core.next(make), abandoned);
  }

  /** Releases the lock once. @throws {RangeError} the calling code does not own it */
  release(): void {
    if (this.disposed) this.checkLive("release");
    const core = this.#core;
    const mine = core.releasable;
    if (mine === null) {
      throw new RangeError(
        `Cannot release the lock: ${
          core.owner === 0
            ? "it is not held"
            : core.isMine
            ? "another flow of this agent owns it"
            : `its owner is ${describeOwner(this.session, core.owner)}`
        }; only its owner releases it, once for each acquire`,
      );
    }
    core.leave(mine);
  }

  /** Whether somebody holds it now. */
  locked(): boolean {
    if (this.disposed) this.checkLive("look at");
    return this.#core.owner !== 0;
  }

  /** Runs `fn`, as a flow of its own, with the lock held, and releases it whatever happens, also if the handle is disposed meanwhile. */
  async run<R>(fn: (guard: Guard) => R | PromiseLike<R>, w: WaitOptions = NO_OPTIONS): Promise<R> {
    this.checkLive("acquire");
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return await timeout;
    const core = this.#core;
    const mine = core.mine;
    this.keep();
    try {
      if (mine !== null) return await within(this.#again(mine), fn);
      const hold = core.next(() => new Hold(0));
      const work = async (): Promise<R> => await within(await this.#take(hold, w, timeout), fn);
      return await (core.isFlow ? runIn(hold, work) : work());
    } finally {
      this.letGo();
    }
  }

  /**
   * Runs a synchronous `fn`, as a flow of its own, with the lock held, blocking the thread until it has it.
   *
   * @throws {TypeError} `fn` returned a promise, whose work would go on without the lock
   * @throws what `acquireSync` throws
   */
  runSync<R>(fn: (guard: Guard) => R, w: SyncWaitOptions = {}): R {
    this.checkLive("acquire");
    const timeout = this.session.waits.checkBlocking("acquire the lock synchronously", w);
    const core = this.#core;
    const mine = core.mine;
    this.keep();
    try {
      if (mine !== null) return withinSync(this.#again(mine), fn);
      const hold = core.next(() => new Hold(0));
      const work = (): R => withinSync(this.#tryTake(hold) ?? this.#block(timeout, () => hold), fn);
      return core.isFlow ? runIn(hold, work) : work();
    } finally {
      this.letGo();
    }
  }

  /** For people: who holds it, and how often. `RLock(None, 0)`, `RLock(MainProcess, 3)`, `RLock(SomeOtherProcess 4711, nonzero)`. */
  override toString(): string {
    if (this.disposed) return super.toString();
    const { owner, hold } = this.#core;
    const count = owner === 0 ? 0 : owner === this.session.token ? hold?.count ?? 1 : "nonzero";
    return `RLock(${describeOwner(this.session, owner)}, ${count})`;
  }

  /** @ignore */
  [kRelock](): Relockable {
    const core = this.#core;
    const giveUp = (): [Hold, number] => {
      const hold = core.releasable!;
      const { count } = hold;
      hold.count = 0;
      core.hold = null;
      core.release(true);
      return [hold, count];
    };
    return {
      isMine: () => core.releasable !== null,
      giveUp,
      takeBack: async (given, w) => {
        const [hold, count] = given as ReturnType<typeof giveUp>;
        let abandoned = core.attempt(false);
        if (abandoned === NOTHING) abandoned = await core.waiters.wait(w, Infinity);
        core.took(hold, abandoned, count);
      },
      takeBackSync: (given) => {
        const [hold, count] = given as ReturnType<typeof giveUp>;
        let abandoned = core.attempt(false);
        if (abandoned === NOTHING) abandoned = this.session.waits.waitSync(core.waiters, Infinity);
        core.took(hold, abandoned, count);
      },
    };
  }
}

async function within<R>(guard: Guard, fn: (guard: Guard) => R | PromiseLike<R>): Promise<R> {
  try {
    return await fn(guard);
  } finally {
    guard.release();
  }
}

function withinSync<R>(guard: Guard, fn: (guard: Guard) => R): R {
  try {
    const result = fn(guard);
    if (!(result instanceof Promise)) return result;
    result.catch(() => {});
    throw new TypeError(
      "Cannot run the function with the lock held in runSync(): it returned a promise; await run(), or make it synchronous",
    );
  } finally {
    guard.release();
  }
}

/** Checks an owner, and gives what writes it into the lock's block. */
function ownedBy({ owner = "flow" }: RLockOptions): (m: Int32Array, block: Block) => void {
  if (owner !== "flow" && owner !== "agent") {
    throw new TypeError(`Cannot make a lock with owner ${String(owner)}: it must be "flow" or "agent"`);
  }
  return (m, block) => {
    m[block + O_FLOW] = owner === "flow" ? 1 : 0;
  };
}

reviver(K_RLOCK, (existing) => new RLock(existing));
installLock(K_RLOCK);
