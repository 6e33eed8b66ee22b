/**
 * Calls: waiting where a wake-up is the news itself, and not a hint to look. A condition that notifies three waiters wakes exactly three calls,
 * so each waiting call has a node of its own, and what becomes of it is one compare-exchange of that node's CHANNEL.
 *
 * Of a time-out and a wake-up that come together one wins: who wakes does WAITING -> WOKEN, who gives up WAITING -> 0, and the other sees it.
 *
 * @module
 */
import type { Block } from "./arena.ts";
import { clearTimeout, now, setTimeout } from "./clock.ts";
import { crashPoint } from "./crash.ts";
import { CALL_WAITING, N_CHANNEL, N_HOLDER, N_SYNC, O_TICKET } from "./layout.ts";
import type { Session } from "./session.ts";
import { NOTHING, type Standing, type WaitOptions } from "./waits.ts";

/** Who waits looks by itself every 100 ms; the calls of one agent do so at about the same time, and once is enough. */
export const CHECK_MS = 90;

/** What the object of a call does for it. */
export interface CallRules {
  /** Time-out or abort: leaves the line. `false`: the call was told something before. */
  leave(call: Call): boolean;
  /** Looks by itself, every 100 ms. */
  check?(isDead: (token: number) => boolean): void;
  /** What the call was told goes to another, as this agent blocks its thread; the call waits on. */
  passOn?(call: Call): void;
}

/** One call that waits. */
export class Call implements Standing {
  readonly block: Block;
  readonly node: number;
  readonly #session: Session;
  readonly #rules: CallRules;
  readonly #m: Int32Array;
  #settle: ((reason: unknown) => void) | undefined;

  /** Claims a node. The caller's handle holds the block. @param sync whether it will be waited for by {@linkcode waitSync} */
  constructor(session: Session, block: Block, rules: CallRules, sync = false) {
    this.block = block;
    this.#session = session;
    this.#rules = rules;
    this.#m = session.arena.i32;
    this.node = session.references.claimAnother(block);
    this.#m[this.node + N_SYNC] = sync ? 1 : 0;
    session.waits.hold(block);
    crashPoint("call.claimed");
  }

  /** Takes a place in the line, a new one each time. */
  stand(): void {
    const ticket = Atomics.add(this.#m, this.block + O_TICKET, 1) & 0x3fffffff;
    Atomics.store(this.#m, this.node + N_CHANNEL, (ticket << 2) | CALL_WAITING);
    crashPoint("call.waiting");
  }

  /** CALL_WAITING, or what the call was told. */
  get state(): number {
    return Atomics.load(this.#m, this.node + N_CHANNEL) & 3;
  }

  /** CALL_WAITING -> 0. `false`: the call was told something before. */
  withdraw(): boolean {
    const seen = Atomics.load(this.#m, this.node + N_CHANNEL);
    return (seen & 3) === CALL_WAITING &&
      Atomics.compareExchange(this.#m, this.node + N_CHANNEL, seen, 0) === seen;
  }

  /** Gives the node back. */
  close(): void {
    crashPoint("call.taken");
    if (this.#session.closed) return;
    Atomics.store(this.#m, this.node + N_CHANNEL, 0);
    Atomics.store(this.#m, this.node + N_HOLDER, 0);
    this.#session.waits.release(this.block);
  }

  /**
   * Waits until the call is told something, and resolves with that state. The node still says so.
   *
   * @param late the error of a time-out
   */
  wait(w: WaitOptions, timeout: number, late: () => Error): Promise<number> {
    const { waits } = this.#session;
    return new Promise((resolve, reject) => {
      let timer: unknown;
      const signal = w.signal ?? null;
      const onAbort = (): void => this.#end(signal!.reason);
      const ref = w.ref !== false;
      this.#settle = (reason) => {
        this.#settle = undefined;
        if (timer !== undefined) clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        if (ref) waits.unref();
        waits.remove(this);
        if (reason === NOTHING) resolve(this.state);
        else reject(reason);
      };
      if (ref) waits.ref();
      if (timeout !== Infinity) {
        timer = setTimeout(() => this.#end(late()), Math.min(timeout, 0x7fffffff));
      }
      signal?.addEventListener("abort", onAbort);
      waits.add(this);
      this.look();
    });
  }

  /** As {@linkcode wait}, blocking the thread. */
  waitSync(timeout: number, late: () => Error): number {
    const { waits, agents } = this.#session;
    let looked = now();
    const state = waits.parkUntil(() => {
      if (now() - looked > CHECK_MS) {
        looked = now();
        this.#rules.check?.((token) => agents.isDead(token));
      }
      return this.state === CALL_WAITING ? NOTHING : this.state;
    }, timeout);
    if (state !== NOTHING) return state;
    if (this.#rules.leave(this)) throw late();
    return this.state;
  }

  #end(reason: unknown): void {
    const left = this.#rules.leave(this);
    // A barrier's rules may have settled it on the way.
    this.#settle?.(left ? reason : NOTHING);
  }

  look(): void {
    if (this.state !== CALL_WAITING) this.#settle?.(NOTHING);
  }

  tick(isDead: (token: number) => boolean): void {
    this.#rules.check?.(isDead);
    this.look();
  }

  passOn(): void {
    if (this.state !== CALL_WAITING) this.#rules.passOn?.(this);
  }

  /** Leaves for good; what the call was told goes to another, and again if it is told something meanwhile. */
  retire(): void {
    if (this.#session.closed || this.state === 0) return;
    while (!this.#rules.leave(this) && this.#rules.passOn !== undefined) {
      this.#rules.passOn(this);
      if (this.state !== CALL_WAITING) return; // there is no other
    }
  }

  rejectAll(reason: unknown): void {
    this.retire();
    this.#settle?.(reason);
  }
}
