/**
 * Events.
 *
 * @module
 */
import type { Block } from "../core/arena.ts";
import { crashPoint } from "../core/crash.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { E_EPOCH_SHIFT, E_SET, E_WAITERS, K_EVENT, N_CHANNEL, O_WORD, SYNC_NODES } from "../core/layout.ts";
import type { Session } from "../core/session.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { NOTHING, type Source, type SyncWaitOptions, WaitList, type WaitOptions } from "../core/waits.ts";
import { TimeoutError } from "../errors.ts";
import { BLOCK_BYTES, NO_OPTIONS, noFill, refuse, timeoutOf } from "./common.ts";

/** The event, as all handles of this agent to it share it. Who waits does so with the epoch in which it came. */
class EventCore implements Source<undefined> {
  readonly session: Session;
  readonly block: Block;
  readonly waiters: WaitList<undefined>;
  readonly #m: Int32Array;
  readonly #word: number;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.waiters = new WaitList(
      session.waits,
      block,
      node,
      N_CHANNEL,
      this,
      (ms) => new TimeoutError(`Cannot go on: the event was not set within ${ms} ms`),
    );
    this.#m = session.arena.i32;
    this.#word = block + O_WORD;
  }

  get isSet(): boolean {
    return (Atomics.load(this.#m, this.#word) & E_SET) !== 0;
  }

  get epoch(): number {
    return Atomics.load(this.#m, this.#word) >>> E_EPOCH_SHIFT;
  }

  attempt(_woken: boolean, epoch: unknown): undefined | typeof NOTHING {
    const seen = Atomics.load(this.#m, this.#word);
    return (seen & E_SET) !== 0 || seen >>> E_EPOCH_SHIFT !== epoch ? undefined : NOTHING;
  }

  mark(_woken: boolean, epoch?: unknown): boolean {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      if ((seen & E_SET) !== 0) return true;
      if (epoch !== undefined && seen >>> E_EPOCH_SHIFT !== epoch) return true;
      if ((seen & E_WAITERS) !== 0) return false;
      const found = Atomics.compareExchange(m, this.#word, seen, seen | E_WAITERS);
      if (found === seen) return false;
      seen = found;
    }
  }

  set(): void {
    const m = this.#m;
    for (let seen = Atomics.load(m, this.#word);;) {
      if ((seen & E_SET) !== 0) return;
      const next = (((seen >>> E_EPOCH_SHIFT) + 1) << E_EPOCH_SHIFT) | E_SET;
      const found = Atomics.compareExchange(m, this.#word, seen, next);
      if (found !== seen) {
        seen = found;
        continue;
      }
      crashPoint("event.set");
      if ((seen & E_WAITERS) !== 0) this.session.waits.wakeAll(this.block, SYNC_NODES, N_CHANNEL);
      return;
    }
  }

  clear(): void {
    Atomics.and(this.#m, this.#word, ~E_SET);
    crashPoint("event.cleared");
  }

  // A set event is there for all: nothing is reserved, nothing passed on, and nobody holds it.
  reserve(): void {}
  pass(): void {}
  check(): void {}
}

/**
 * A flag that agents wait for, shared by the session: CPython's `multiprocessing.Event`. Setting it ends the wait of everybody who waits at that
 * moment, even if it is cleared at once.
 *
 * @example
 * ```ts
 * import { Event } from "@karellen/geventmp";
 * using ready = new Event();
 * setTimeout(() => ready.set(), 10);
 * await ready.wait({ timeout: 1000 });
 * ```
 */
export class Event extends Handle {
  readonly #core: EventCore;

  /** Makes an event that is not set. */
  constructor();
  /** @ignore */
  constructor(existing?: Existing);
  constructor(existing?: Existing) {
    super(K_EVENT, isExisting(existing) ? existing : null, BLOCK_BYTES, noFill);
    this.#core = (this.held.shared ??= new EventCore(this.session, this.block, this.held.node)) as EventCore;
  }

  /** Whether it is set now. */
  isSet(): boolean {
    if (this.disposed) this.checkLive("look at");
    return this.#core.isSet;
  }

  /** Sets it, and wakes all who wait. Setting it twice is setting it once. */
  set(): void {
    if (this.disposed) this.checkLive("set");
    this.#core.set();
  }

  /** Unsets it. */
  clear(): void {
    if (this.disposed) this.checkLive("clear");
    this.#core.clear();
  }

  /**
   * Waits until it is set, or was since this call.
   *
   * @throws {TimeoutError} the time was over
   */
  wait(w: WaitOptions = NO_OPTIONS): Promise<void> {
    if (this.disposed) return refuse(() => this.checkLive("wait for"));
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return timeout;
    if (this.#core.isSet) return isDue() ? afterTurn(undefined) : Promise.resolve();
    return this.#core.waiters.wait(w, timeout, this.#core.epoch);
  }

  /** What {@linkcode wait} would find without waiting: the same as `isSet`. */
  tryWait(): boolean {
    return this.isSet();
  }

  /**
   * Waits until it is set, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  waitSync(w: SyncWaitOptions = {}): void {
    this.checkLive("wait for");
    const timeout = this.session.waits.checkBlocking("wait for the event synchronously", w);
    if (!this.#core.isSet) this.session.waits.waitSync(this.#core.waiters, timeout, this.#core.epoch);
  }

  /** For people: `Event(set)` or `Event(unset)`. */
  override toString(): string {
    return this.disposed ? super.toString() : `Event(${this.#core.isSet ? "set" : "unset"})`;
  }
}

reviver(K_EVENT, (existing) => new Event(existing));
