/**
 * Conditions.
 *
 * @module
 */
import { agentAt } from "../core/agents.ts";
import type { Block } from "../core/arena.ts";
import { Call, type CallRules, CHECK_MS } from "../core/calls.ts";
import { now } from "../core/clock.ts";
import { crashPoint } from "../core/crash.ts";
import { type Existing, Handle, isExisting, revive, reviver } from "../core/handle.ts";
import {
  A_HELD,
  C_LOCK,
  C_LOCK_GENERATION,
  C_LOCK_KIND,
  CALL_NODES,
  CALL_WAITING,
  CALL_WOKEN,
  CLASS_512,
  CLASS_BYTES,
  K_CONDITION,
  N_CHANNEL,
  N_HOLDER,
  N_SYNC,
} from "../core/layout.ts";
import { kHandle } from "../codec/mod.ts";
import { onOpen, type Session } from "../core/session.ts";
import { NodeCursor, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { TimeoutError } from "../errors.ts";
import { NO_OPTIONS, refuse, timeoutOf } from "./common.ts";
import { type Guard, kRelock, type Relockable } from "./guard.ts";
import { Lock } from "./lock.ts";
import { RLock } from "./rlock.ts";

/** A call that waits, as a scan of the nodes finds it. */
interface Waiting {
  readonly at: number;
  readonly word: number;
  readonly holder: number;
  /** Whether its thread is blocked, and not by this very call. */
  readonly held: boolean;
}

/** Order of waking: by tickets, which wrap round; those that cannot go on now are the last. */
function compare(a: number, aHeld: boolean, b: number, bHeld: boolean): number {
  if (aHeld !== bHeld) return aHeld ? 1 : -1;
  return ((a & ~3) - (b & ~3)) | 0;
}

/** The condition, as all handles of this agent to it share it. */
class ConditionCore implements CallRules {
  readonly session: Session;
  readonly block: Block;
  readonly #m: Int32Array;
  #checked = 0;

  constructor(session: Session, block: Block) {
    this.session = session;
    this.block = block;
    this.#m = session.arena.i32;
  }

  leave(call: Call): boolean {
    return call.withdraw();
  }

  /** Whose process was notified and then killed has a notification that is due to another: who waits reaps it, as no parent may be left to. */
  check(isDead: (token: number) => boolean): void {
    // Once for all calls of this agent.
    if (now() - this.#checked < CHECK_MS) return;
    this.#checked = now();
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      if (Atomics.load(m, c.at + N_CHANNEL) === 0) continue;
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder > 0 && isDead(holder)) this.session.agents.reap(holder);
    }
  }

  passOn(call: Call): void {
    // The other first: killed in between, one too many is woken, and none too few.
    if (this.notify(1, { but: call.node }) > 0) call.stand();
  }

  /**
   * Wakes the `n` calls that have waited longest. Calls of agents whose thread is blocked by something else are the last: they cannot go on now.
   *
   * @param instead the call that was woken and cannot go on, and its agent if that is dead; while it lives, only a call is woken that can go on now
   * @returns how many
   */
  notify(n: number, instead?: { but: number; dead?: number }): number {
    const { waits, agents, token } = this.session;
    const m = this.#m;
    let woken = 0;
    const dead: number[] = instead?.dead === undefined ? [] : [instead.dead];
    let living: Set<number> | undefined;
    while (woken < n) {
      const calls = this.#waiting(n - woken === 1, dead, instead);
      if (calls.length === 0) break;
      living ??= new Set([token]);
      for (const { at, word, holder } of calls) {
        if (woken === n) break;
        if (dead.includes(holder)) continue;
        if (!living.has(holder)) {
          if (agents.isDead(holder)) {
            dead.push(holder);
            continue;
          }
          living.add(holder);
        }
        if (Atomics.compareExchange(m, at, word, (word & ~3) | CALL_WOKEN) !== word) continue;
        woken++;
        crashPoint("call.woken");
        waits.ring(holder);
      }
    }
    // While one death is dealt with others are left to who looks next.
    if (instead === undefined) { for (const each of dead) agents.reap(each); }
    return woken;
  }

  /** Calls that wait, the longest first; with `one` only the first. */
  #waiting(
    one: boolean,
    dead: readonly number[],
    instead: { but: number; dead?: number } | undefined,
  ): Waiting[] {
    const m = this.#m;
    const but = instead?.but;
    // A notification of the dead has to go somewhere; that of a living call whose thread is about to block may stay with it.
    const onlyNow = instead !== undefined && instead.dead === undefined;
    const calls: Waiting[] = [];
    let first: Waiting | undefined;
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      const word = Atomics.load(m, c.at + N_CHANNEL);
      if ((word & 3) !== CALL_WAITING || c.at === but) continue;
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder <= 0 || this.session.arena.isStale(holder) || dead.includes(holder)) continue;
      const held = Atomics.load(m, agentAt(holder) + A_HELD) !== 0 && m[c.at + N_SYNC] === 0;
      if (held && onlyNow) continue;
      if (one && first !== undefined && compare(word, held, first.word, first.held) >= 0) continue;
      first = { at: c.at + N_CHANNEL, word, holder, held };
      if (!one) calls.push(first);
    }
    if (one) return first === undefined ? [] : [first];
    return calls.sort((a, b) => compare(a.word, a.held, b.word, b.held));
  }

  get waiting(): number {
    const m = this.#m;
    let count = 0;
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      if ((Atomics.load(m, c.at + N_CHANNEL) & 3) === CALL_WAITING) count++;
    }
    return count;
  }
}

/**
 * Waiting for something that a lock protects to become so: CPython's `multiprocessing.Condition`, with its lock, an `RLock` unless another is
 * given. Several conditions may share one lock.
 *
 * `notify(n)` wakes exactly the `n` living calls that have waited longest. A notification is never lost to a time-out, an abort or a death: who
 * was notified resolves, and what a killed process was notified of goes to the next. In the last case one call may be woken that was not to be,
 * so look at what you wait for, as `waitFor` does.
 *
 * @example
 * ```ts
 * import { Condition } from "@karellen/geventmp";
 * using condition = new Condition();
 * {
 *   using _guard = await condition.acquire();
 *   await condition.waitFor(() => true);
 *   condition.notifyAll();
 * }
 * ```
 */
export class Condition extends Handle {
  readonly #core: ConditionCore;
  readonly #lock: Lock | RLock;
  readonly #ownsLock: boolean;
  readonly #relock: Relockable;
  readonly #lockBlock: Block;

  /**
   * Makes a condition.
   *
   * @param lock the lock that goes with it @default new RLock()
   * @throws {TypeError} a lock that is neither a `Lock` nor an `RLock`
   */
  constructor(lock?: Lock | RLock);
  /** @ignore */
  constructor(lock?: Existing | Lock | RLock);
  constructor(lock?: Existing | Lock | RLock) {
    const existing = isExisting(lock) ? lock : null;
    const given = isExisting(lock) || lock === undefined ? null : lock;
    if (given !== null && !(given instanceof Lock || given instanceof RLock)) {
      throw new TypeError(
        `Cannot make a condition with ${String(given)}: its lock must be a Lock or an RLock`,
      );
    }
    const own = existing === null ? given ?? new RLock() : null;
    const id = own?.[kHandle]();
    super(K_CONDITION, existing, CLASS_BYTES[CLASS_512], (m, block) => {
      m[block + C_LOCK] = id!.block;
      m[block + C_LOCK_KIND] = id!.kind;
      m[block + C_LOCK_GENERATION] = id!.generation;
    });
    const m = this.session.arena.i32;
    if (id !== undefined) {
      crashPoint("condition.kept");
      this.session.references.keep(id.block, this.block);
    }
    this.#lock = own ??
      revive(m[this.block + C_LOCK_KIND], m[this.block + C_LOCK], m[this.block + C_LOCK_GENERATION]) as
        | Lock
        | RLock;
    this.#ownsLock = given === null;
    this.#relock = this.#lock[kRelock]();
    this.#lockBlock = m[this.block + C_LOCK];
    this.#core = (this.held.shared ??= new ConditionCore(this.session, this.block)) as ConditionCore;
  }

  /** Takes the lock, as its own `acquire` does. */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<Guard> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    return this.#lock.acquire(w);
  }

  /** Takes the lock if it is free, else gives `null` at once. */
  tryAcquire(): Guard | null {
    this.checkLive("acquire");
    return this.#lock.tryAcquire();
  }

  /** Takes the lock, blocking the thread, as its own `acquireSync` does. */
  acquireSync(w: SyncWaitOptions = {}): Guard {
    this.checkLive("acquire");
    return this.#lock.acquireSync(w);
  }

  /** Releases the lock, as its own `release` does. */
  release(): void {
    this.checkLive("release");
    this.#lock.release();
  }

  /** Whether somebody holds the lock now. */
  locked(): boolean {
    this.checkLive("look at");
    return this.#lock.locked();
  }

  /** Runs `fn` with the lock held, as the lock's own `run` does. */
  run<R>(fn: (guard: Guard) => R | PromiseLike<R>, w?: WaitOptions): Promise<R> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    return this.#lock.run(fn, w);
  }

  /**
   * Releases the lock, waits until notified, and takes the lock back before it resolves or rejects, however long that takes; a re-entrant lock
   * is released fully and is held as often as before.
   *
   * @throws {RangeError} the calling code does not hold the lock
   * @throws {TimeoutError} the time was over
   */
  async wait(w: WaitOptions = NO_OPTIONS): Promise<void> {
    this.checkLive("wait for");
    this.#checkMine("wait for the condition");
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return await timeout;
    const call = this.#stand();
    const given = this.#giveUp();
    try {
      await call.wait(w, timeout, () => notNotified(timeout));
    } finally {
      // The node says WOKEN until the lock is taken back: if this agent is killed before, the notification goes to another call.
      try {
        // A session that was left has no locks.
        if (!this.session.waits.closed) {
          await this.#relock.takeBack(given, w.ref === false ? { ref: false } : NO_OPTIONS);
        }
      } finally {
        if (this.session.waits.closed) call.retire();
        call.close();
        if (!this.session.waits.closed) this.session.waits.release(this.#lockBlock);
      }
    }
  }

  /**
   * As {@linkcode Condition.wait}, blocking the thread. Notifications from this thread cannot come meanwhile.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   */
  waitSync(w: SyncWaitOptions = {}): void {
    this.checkLive("wait for");
    const timeout = this.session.waits.checkBlocking("wait for the condition synchronously", w);
    this.#checkMine("wait for the condition");
    const call = this.#stand(true);
    const given = this.#giveUp();
    try {
      call.waitSync(timeout, () => notNotified(timeout));
    } finally {
      this.#relock.takeBackSync(given);
      call.close();
      this.session.waits.release(this.#lockBlock);
    }
  }

  /**
   * Waits until `predicate`, called with the lock held, gives something truthy, and resolves with that. The time-out is for all of it, however
   * often it is notified meanwhile.
   *
   * @throws {RangeError} the calling code does not hold the lock
   * @throws {TimeoutError} the time was over, and the predicate still false
   */
  async waitFor<R>(predicate: () => R | PromiseLike<R>, w: WaitOptions = NO_OPTIONS): Promise<R> {
    this.checkLive("wait for");
    this.#checkMine("wait for the condition");
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return await timeout;
    const end = now() + timeout;
    for (;;) {
      const value = await predicate();
      if (value) return value;
      const left = end - now();
      if (left <= 0) throw notNotified(timeout);
      try {
        await this.wait(timeout === Infinity ? w : { ...w, timeout: left });
      } catch (error) {
        // An abort's reason may be a TimeoutError, too.
        if (!(error instanceof TimeoutError) || error === w.signal?.reason) throw error;
        // The predicate may have become true without a notification.
        const last = await predicate();
        if (last) return last;
        throw notNotified(timeout);
      }
    }
  }

  /** As {@linkcode Condition.waitFor}, blocking the thread. */
  waitForSync<R>(predicate: () => R, w: SyncWaitOptions = {}): R {
    this.checkLive("wait for");
    const timeout = this.session.waits.checkBlocking("wait for the condition synchronously", w);
    this.#checkMine("wait for the condition");
    const end = now() + timeout;
    for (;;) {
      const value = predicate();
      if (value) return value;
      const left = end - now();
      if (left <= 0) throw notNotified(timeout);
      try {
        this.waitSync(timeout === Infinity ? w : { ...w, timeout: left });
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error;
        const last = predicate();
        if (last) return last;
        throw notNotified(timeout);
      }
    }
  }

  /**
   * Wakes the `n` calls that have waited longest, or all if there are fewer.
   *
   * @throws {RangeError} the calling code does not hold the lock, or `n` is no whole number above 0
   */
  notify(n = 1): void {
    this.checkLive("notify");
    if (!Number.isInteger(n) || n < 1) {
      throw new RangeError(`Cannot notify ${n} waiters: it must be a whole number of at least 1`);
    }
    this.#checkMine("notify the condition's waiters");
    this.#core.notify(n);
  }

  /** Wakes all calls that wait. @throws {RangeError} the calling code does not hold the lock */
  notifyAll(): void {
    this.checkLive("notify");
    this.#checkMine("notify the condition's waiters");
    this.#core.notify(Infinity);
  }

  /** Lets go of this agent's reference. */
  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    if (this.#ownsLock) this.#lock[Symbol.dispose]();
  }

  /** The lock's block stays, though its handles may be disposed meanwhile. */
  #giveUp(): unknown {
    this.session.waits.hold(this.#lockBlock);
    const given = this.#relock.giveUp();
    crashPoint("condition.left");
    return given;
  }

  #stand(sync = false): Call {
    const call = new Call(this.session, this.block, this.#core, sync);
    call.stand();
    return call;
  }

  #checkMine(what: string): void {
    if (!this.#relock.isMine()) {
      throw new RangeError(
        `Cannot ${what}: the calling code does not hold its lock, which is ${this.#lock}; acquire the condition first`,
      );
    }
  }

  /** For people: its lock, and how many wait. `Condition(RLock(None, 0), waiters=0)`. */
  override toString(): string {
    return this.disposed ? super.toString() : `Condition(${this.#lock}, waiters=${this.#core.waiting})`;
  }
}

function notNotified(timeout: number): TimeoutError {
  return new TimeoutError(`Cannot go on: the condition was not notified within ${timeout} ms`);
}

reviver(K_CONDITION, (existing) => new Condition(existing));

onOpen((session) => {
  const m = session.arena.i32;
  session.references.rule(K_CONDITION, {
    keeps: (block, other) => m[block + C_LOCK] === other,
    passOn: (block, node, dead) => {
      if ((Atomics.load(m, node + N_CHANNEL) & 3) !== CALL_WOKEN) return;
      new ConditionCore(session, block).notify(1, { but: node, dead });
    },
    finish: (block) => {
      const lock = m[block + C_LOCK];
      if (session.arena.isLive(lock, m[block + C_LOCK_GENERATION])) session.references.letGo(lock, block);
    },
  });
});
