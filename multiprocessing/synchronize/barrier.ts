/**
 * Barriers.
 *
 * @module
 */
import { agentAt } from "../core/agents.ts";
import type { Block } from "../core/arena.ts";
import { Call, type CallRules, CHECK_MS } from "../core/calls.ts";
import { now } from "../core/clock.ts";
import { crashPoint } from "../core/crash.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import {
  A_PID,
  AR_INDEX_MASK,
  AR_QUEUED,
  AR_ROUND_SHIFT,
  AR_UNSURE,
  BR_ACTING,
  BR_ACTION,
  BR_BROKEN_ABORT,
  BR_BROKEN_ACTION,
  BR_BROKEN_DEATH,
  BR_BROKEN_TIMEOUT,
  BR_FILLING,
  BR_LAST_MASK,
  BR_LAST_SHIFT,
  BR_PARTIES,
  BR_PASSING,
  BR_RESETTING,
  BR_ROUND_MASK,
  BR_ROUND_SHIFT,
  BR_STATE_MASK,
  BR_TEXT,
  BR_TIMEOUT,
  BR_WHO,
  CALL_NODES,
  CALL_REFUSED,
  CALL_WAITING,
  CALL_WOKEN,
  K_BARRIER,
  N_ARRIVAL,
  N_CHANNEL,
  N_HOLDER,
  O_WORD,
} from "../core/layout.ts";
import { onOpen, type Session } from "../core/session.ts";
import { mayLoad } from "../../platform/runtime/globals.ts";
import {
  checkWait,
  indexOfNode,
  nodeAt,
  NodeCursor,
  type SyncWaitOptions,
  type WaitOptions,
} from "../core/waits.ts";
import { BrokenBarrierError, TimeoutError } from "../errors.ts";
import { findTask, type TaskReference, taskReference } from "../task.ts";
import { NO_OPTIONS, noFill } from "./common.ts";

const stateOf = (word: number): number => word & BR_STATE_MASK;
const lastOf = (word: number): number => (word >>> BR_LAST_SHIFT) & BR_LAST_MASK;
const roundOf = (word: number): number => word >>> BR_ROUND_SHIFT;
const withState = (word: number, state: number): number => (word & ~BR_STATE_MASK) | state;
const isBroken = (word: number): boolean => stateOf(word) >= BR_BROKEN_ABORT;

/** The barrier, as all handles of this agent to it share it. */
class BarrierCore implements CallRules {
  readonly session: Session;
  readonly block: Block;
  readonly parties: number;
  readonly timeout: number;
  readonly action: TaskReference | null;
  readonly #m: Int32Array;
  readonly #word: number;
  #checked = 0;

  constructor(session: Session, block: Block) {
    this.session = session;
    this.block = block;
    const { i32: m, u8 } = session.arena;
    this.#m = m;
    this.#word = block + O_WORD;
    this.parties = m[block + BR_PARTIES];
    this.timeout = new Float64Array(m.slice(block + BR_TIMEOUT, block + BR_TIMEOUT + 2).buffer)[0];
    const length = m[block + BR_ACTION];
    const text = (block + BR_TEXT) * 4;
    this.action = length === 0
      ? null
      : JSON.parse(new TextDecoder().decode(u8.slice(text, text + length))) as TaskReference;
  }

  get word(): number {
    return Atomics.load(this.#m, this.#word);
  }

  /** How many wait for the round to become complete. */
  get count(): number {
    const { word } = this;
    return stateOf(word) === BR_FILLING ? this.#arrived(word) : 0;
  }

  #arrived(word: number): number {
    const last = lastOf(word);
    if (last === 0) return 0;
    return (Atomics.load(this.#m, this.#nodeAt(last - 1) + N_ARRIVAL) & AR_INDEX_MASK) + 1;
  }

  #nodeAt(index: number): number {
    return nodeAt(this.#m, this.block, CALL_NODES, index);
  }

  #indexOf(node: number): number {
    return indexOfNode(this.#m, this.block, CALL_NODES, node);
  }

  /** The call that WORD names has arrived, and from now on its node says so, too. */
  #makeSure(word: number): void {
    const last = lastOf(word);
    if (last === 0) return;
    const at = this.#nodeAt(last - 1) + N_ARRIVAL;
    const seen = Atomics.load(this.#m, at);
    if ((seen & AR_UNSURE) === 0 || ((seen >>> AR_ROUND_SHIFT) & BR_ROUND_MASK) !== roundOf(word)) return;
    Atomics.compareExchange(this.#m, at, seen, seen & ~AR_UNSURE);
  }

  /**
   * Has a call arrive in the round that is filling.
   *
   * @returns its index, -1 when it has to wait for the round's end first, or null when the barrier is broken
   */
  arrive(call: Call): number | null {
    const m = this.#m;
    const mine = this.#indexOf(call.node) + 1;
    if (mine > BR_LAST_MASK) {
      throw new RangeError(`Cannot wait at the barrier: ${BR_LAST_MASK} calls wait, which is the most`);
    }
    for (;;) {
      const seen = this.word;
      const state = stateOf(seen);
      if (isBroken(seen)) return null;
      if (state === BR_PASSING || state === BR_RESETTING) {
        this.#finish(seen);
        continue;
      }
      Atomics.store(m, call.node + N_CHANNEL, 0);
      if (state === BR_ACTING) {
        Atomics.store(m, call.node + N_ARRIVAL, AR_QUEUED);
        call.stand();
        if (stateOf(this.word) !== BR_ACTING) continue;
        return -1;
      }
      this.#makeSure(seen);
      const index = this.#arrived(seen);
      Atomics.store(m, call.node + N_ARRIVAL, AR_UNSURE | (roundOf(seen) << AR_ROUND_SHIFT) | index);
      call.stand();
      crashPoint("barrier.announced");
      const complete = index + 1 >= this.parties;
      const next = !complete ? BR_FILLING : this.action !== null ? BR_ACTING : BR_PASSING;
      const word = (roundOf(seen) << BR_ROUND_SHIFT) | (mine << BR_LAST_SHIFT) | next;
      if (Atomics.compareExchange(m, this.#word, seen, word) !== seen) continue;
      crashPoint("barrier.arrived");
      if (next === BR_PASSING) this.#pass(word);
      return index;
    }
  }

  /** Whether the call that arrived so completed the round, and has to run the action. */
  isToAct(call: Call, index: number): boolean {
    return this.action !== null && index === this.parties - 1 && call.state === CALL_WAITING;
  }

  /** The action was run: its round is passed, unless it was broken or reset meanwhile. */
  acted(round: number): void {
    const { word } = this;
    if (stateOf(word) !== BR_ACTING || roundOf(word) !== round) return;
    const passing = withState(word, BR_PASSING);
    if (Atomics.compareExchange(this.#m, this.#word, word, passing) === word) this.#pass(passing);
  }

  #pass(word: number): void {
    crashPoint("barrier.full");
    this.#finish(word);
  }

  /** Tells all calls that arrived in a round that is passed or reset, then begins the next round. Anyone may, at any time. */
  #finish(word: number): void {
    this.#tell(word, stateOf(word) === BR_PASSING ? CALL_WOKEN : CALL_REFUSED);
    crashPoint("barrier.told");
    const next = ((roundOf(word) + 1) << BR_ROUND_SHIFT) | BR_FILLING;
    Atomics.compareExchange(this.#m, this.#word, word, next);
    this.#wakeQueued();
  }

  #tell(word: number, what: number): void {
    const m = this.#m;
    this.#makeSure(word);
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      const channel = Atomics.load(m, c.at + N_CHANNEL);
      if ((channel & 3) !== CALL_WAITING) continue;
      // The ticket in CHANNEL is of one call and one arrival of it, so a late compare-exchange finds another.
      const arrival = Atomics.load(m, c.at + N_ARRIVAL);
      if (arrival >>> AR_ROUND_SHIFT !== roundOf(word)) continue;
      this.#wake(c.at, channel, what);
    }
  }

  #wakeQueued(): void {
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      const channel = Atomics.load(m, c.at + N_CHANNEL);
      if ((channel & 3) !== CALL_WAITING || Atomics.load(m, c.at + N_ARRIVAL) !== AR_QUEUED) continue;
      this.#wake(c.at, channel, CALL_WOKEN);
    }
  }

  #wake(node: number, channel: number, what: number): void {
    const m = this.#m;
    const holder = Atomics.load(m, node + N_HOLDER);
    const told = (channel & ~3) | what;
    if (Atomics.compareExchange(m, node + N_CHANNEL, channel, told) !== channel || holder <= 0) return;
    crashPoint("call.woken");
    this.session.waits.ring(holder);
  }

  /** Breaks the barrier, if it is not broken; with `round` only if that round is still on. @returns whether this did it */
  break(state: number, pid: number, round?: number): boolean {
    const m = this.#m;
    for (;;) {
      const seen = this.word;
      if (isBroken(seen)) {
        this.#tell(seen, CALL_REFUSED);
        return false;
      }
      if (stateOf(seen) === BR_PASSING || stateOf(seen) === BR_RESETTING) {
        this.#finish(seen);
        continue;
      }
      if (round !== undefined && round !== roundOf(seen)) return false;
      const word = withState(seen, state);
      m[this.block + BR_WHO] = pid;
      if (Atomics.compareExchange(m, this.#word, seen, word) !== seen) continue;
      crashPoint("barrier.broken");
      this.#tell(word, CALL_REFUSED);
      this.#wakeQueued();
      return true;
    }
  }

  reset(): void {
    for (;;) {
      const seen = this.word;
      const state = stateOf(seen);
      if (state === BR_FILLING && lastOf(seen) === 0) return;
      if (state === BR_PASSING || state === BR_RESETTING) {
        this.#finish(seen);
        continue;
      }
      const word = withState(seen, BR_RESETTING);
      if (Atomics.compareExchange(this.#m, this.#word, seen, word) !== seen) continue;
      crashPoint("barrier.broken");
      this.#finish(word);
      return;
    }
  }

  /** A time-out or abort: a call that has arrived breaks the barrier. */
  leave(call: Call): boolean {
    const arrival = this.#m[call.node + N_ARRIVAL];
    if (arrival === AR_QUEUED) return call.withdraw();
    if (call.state !== CALL_WAITING) return false;
    const round = (arrival >>> AR_ROUND_SHIFT) & BR_ROUND_MASK;
    return this.break(BR_BROKEN_TIMEOUT, this.#m[agentAt(this.session.token) + A_PID], round);
  }

  /** Finishes what a killed agent began, and breaks the barrier for who died while it waited: see the rules at the end. */
  check(isDead: (token: number) => boolean): void {
    // Once for all calls of this agent.
    if (now() - this.#checked < CHECK_MS) return;
    this.#checked = now();
    const seen = this.word;
    const state = stateOf(seen);
    if (state === BR_PASSING || state === BR_RESETTING) this.#finish(seen);
    else if (isBroken(seen)) this.#tell(seen, CALL_REFUSED);
    const m = this.#m;
    for (const c = new NodeCursor(m).start(this.block, CALL_NODES); c.next();) {
      const holder = Atomics.load(m, c.at + N_HOLDER);
      const waits = (Atomics.load(m, c.at + N_CHANNEL) & 3) === CALL_WAITING;
      if (waits && holder > 0 && isDead(holder)) this.session.agents.reap(holder);
    }
    if (stateOf(this.word) !== BR_ACTING) this.#wakeQueued();
  }

  /** A call's agent is dead. If it had arrived, in the round that is on, the barrier is broken. */
  lost(node: number, pid: number): void {
    const m = this.#m;
    if ((Atomics.load(m, node + N_CHANNEL) & 3) !== CALL_WAITING) return;
    const arrival = Atomics.load(m, node + N_ARRIVAL);
    if (arrival === AR_QUEUED) return;
    const round = (arrival >>> AR_ROUND_SHIFT) & BR_ROUND_MASK;
    const { word } = this;
    if (roundOf(word) !== round) return;
    // Not sure, and not named: somebody who arrives now would make sure first who is named.
    if ((Atomics.load(m, node + N_ARRIVAL) & AR_UNSURE) !== 0 && lastOf(word) !== this.#indexOf(node) + 1) {
      return;
    }
    this.break(BR_BROKEN_DEATH, pid, round);
  }

  /** The error for who was refused. */
  refused(round: number | null): BrokenBarrierError {
    const { word } = this;
    const who = this.#m[this.block + BR_WHO];
    const state = round === null || round === roundOf(word) ? stateOf(word) : BR_RESETTING;
    const why = state === BR_BROKEN_DEATH
      ? `process ${who} died while it waited at it`
      : state === BR_BROKEN_TIMEOUT
      ? `a wait of process ${who} timed out or was aborted`
      : state === BR_BROKEN_ACTION
      ? `its action failed in process ${who}`
      : state === BR_BROKEN_ABORT
      ? `process ${who} called abort()`
      : "it was reset";
    return new BrokenBarrierError(
      `Cannot pass the barrier of ${this.parties} parties: ${why}; call reset() once all parties know`,
    );
  }
}

/** How a barrier is passed. */
export interface BarrierOptions {
  /** A task, without arguments, that the last one to arrive runs, once, before any is released. */
  action?: (() => unknown) | null;
  /** Time-out, in milliseconds, of each wait that has none of its own. @default none */
  timeout?: number | null;
}

/**
 * A point that a fixed number of calls reach before any goes on: CPython's `multiprocessing.Barrier`. It can be used again and again.
 *
 * A party that times out, is aborted or dies while it waits breaks the barrier: all who wait, and all who come, get a `BrokenBarrierError` until
 * it is reset. The error of a time-out is a `BrokenBarrierError`, too, as in Python; its `cause` is a `TimeoutError`.
 *
 * @example
 * ```ts
 * import { Barrier } from "@karellen/geventmp";
 * using barrier = new Barrier(2);
 * console.log((await Promise.all([barrier.wait(), barrier.wait()])).sort()); // [0, 1]
 * ```
 */
export class Barrier extends Handle {
  readonly #core: BarrierCore;

  /**
   * Makes a barrier.
   *
   * @param parties how many calls it takes to pass, 1 to 65,535
   * @throws {RangeError} parties out of bounds
   * @throws {TypeError} an action that is no task, or a time-out that is no number
   */
  constructor(parties: number, options?: BarrierOptions);
  /** @ignore */
  constructor(parties: Existing | number, options?: BarrierOptions);
  constructor(parties: Existing | number, options: BarrierOptions = {}) {
    const existing = isExisting(parties) ? parties : null;
    const { bytes, fill } = isExisting(parties) ? NOTHING_NEW : description(parties, options);
    super(K_BARRIER, existing, bytes, fill);
    this.#core = (this.held.shared ??= new BarrierCore(this.session, this.block)) as BarrierCore;
  }

  /**
   * Waits for the others.
   *
   * @returns the order of arrival, 0 to parties - 1
   * @throws {BrokenBarrierError} the barrier is broken, or was broken or reset meanwhile; after a time-out `cause` is a `TimeoutError`
   * @throws what the action threw, if this call ran it
   */
  async wait(w: WaitOptions = NO_OPTIONS): Promise<number> {
    this.checkLive("wait at");
    const core = this.#core;
    const timeout = this.#timeout(w);
    const end = now() + timeout;
    const call = new Call(this.session, this.block, core);
    try {
      for (;;) {
        const index = core.arrive(call);
        if (index === null) throw core.refused(null);
        const round = this.#roundOf(call);
        if (core.isToAct(call, index)) await this.#act(round);
        if (call.state === CALL_WAITING) {
          await call.wait(w, timeout === Infinity ? timeout : Math.max(0, end - now()), () => late(timeout));
        }
        const { state } = call;
        if (index >= 0) {
          if (state === CALL_WOKEN) return index;
          throw core.refused(round);
        }
      }
    } finally {
      call.close();
    }
  }

  /**
   * As {@linkcode Barrier.wait}, blocking the thread. If this call is to run the action, that must be synchronous and its module loaded.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   */
  waitSync(w: SyncWaitOptions = {}): number {
    this.checkLive("wait at");
    const core = this.#core;
    this.session.waits.checkBlocking("wait at the barrier synchronously", w);
    const timeout = this.#timeout(w);
    const end = now() + timeout;
    const call = new Call(this.session, this.block, core, true);
    try {
      for (;;) {
        const index = core.arrive(call);
        if (index === null) throw core.refused(null);
        const round = this.#roundOf(call);
        if (core.isToAct(call, index)) this.#actSync(round);
        if (call.state === CALL_WAITING) {
          call.waitSync(timeout === Infinity ? timeout : Math.max(0, end - now()), () => late(timeout));
        }
        const { state } = call;
        if (index >= 0) {
          if (state === CALL_WOKEN) return index;
          throw core.refused(round);
        }
      }
    } finally {
      call.close();
    }
  }

  #roundOf(call: Call): number {
    return (this.session.arena.i32[call.node + N_ARRIVAL] >>> AR_ROUND_SHIFT) & BR_ROUND_MASK;
  }

  #timeout(w: WaitOptions): number {
    const timeout = checkWait(w);
    return w.timeout === undefined ? this.#core.timeout : timeout;
  }

  async #act(round: number): Promise<void> {
    const { action } = this.#core;
    try {
      await (await findAction(action!))();
    } catch (error) {
      this.#fail(round);
      throw error;
    }
    this.#core.acted(round);
  }

  #actSync(round: number): void {
    try {
      const result = findTask(this.#core.action!)();
      if (result instanceof Promise) {
        result.catch(() => {});
        throw new TypeError(
          "Cannot run the barrier's action in waitSync(): it returned a promise; await wait(), or make it synchronous",
        );
      }
    } catch (error) {
      this.#fail(round);
      throw error;
    }
    this.#core.acted(round);
  }

  #fail(round: number): void {
    const { arena, token } = this.session;
    this.#core.break(BR_BROKEN_ACTION, arena.i32[agentAt(token) + A_PID], round);
  }

  /** Makes it new: who waits gets a `BrokenBarrierError`, who comes then waits. */
  reset(): void {
    this.checkLive("reset");
    this.#core.reset();
  }

  /** Breaks it: who waits, and who comes, gets a `BrokenBarrierError` until it is reset. */
  abort(): void {
    this.checkLive("abort");
    const { arena, token } = this.session;
    this.#core.break(BR_BROKEN_ABORT, arena.i32[agentAt(token) + A_PID]);
  }

  /** How many calls it takes to pass. */
  get parties(): number {
    return this.#core.parties;
  }

  /** How many wait now. */
  get nWaiting(): number {
    this.checkLive("look at");
    return this.#core.count;
  }

  /** Whether it is broken. */
  get broken(): boolean {
    this.checkLive("look at");
    return isBroken(this.#core.word);
  }

  /** For people: `Barrier(parties=5, waiting=2)`, or `Barrier(parties=5, broken)`. */
  override toString(): string {
    if (this.disposed) return super.toString();
    const { parties, count, word } = this.#core;
    return `Barrier(parties=${parties}, ${isBroken(word) ? "broken" : `waiting=${count}`})`;
  }
}

/** The action, its module loaded if it is not. */
async function findAction(action: TaskReference): Promise<() => unknown> {
  try {
    return findTask(action);
  } catch (error) {
    if (!mayLoad(new URL(action.url))) throw error;
  }
  await import(action.url);
  return findTask(action);
}

function late(timeout: number): BrokenBarrierError {
  const cause = new TimeoutError(`Cannot go on: not all parties came within ${timeout} ms`);
  return new BrokenBarrierError(`Cannot pass the barrier: not all parties came within ${timeout} ms`, {
    cause,
  });
}

const NOTHING_NEW = { bytes: 0, fill: noFill };

/** Checks what makes a barrier, and gives what writes it into its block. */
function description(
  parties: number,
  { action = null, timeout }: BarrierOptions,
): { bytes: number; fill: (m: Int32Array, block: Block) => void } {
  if (!Number.isInteger(parties) || parties < 1 || parties > BR_LAST_MASK) {
    throw new RangeError(
      `Cannot make a barrier of ${parties} parties: it must be a whole number from 1 to ${BR_LAST_MASK}`,
    );
  }
  const reference = action === null ? null : taskReference(action);
  if (action !== null && reference === null) {
    throw new TypeError(
      "Cannot make a barrier with this action: whoever arrives last runs it, in whatever process, so it must be a task; make it with task(import.meta, …)",
    );
  }
  const text = new TextEncoder().encode(reference === null ? "" : JSON.stringify(reference));
  const halves = new Int32Array(new Float64Array([checkWait({ timeout })]).buffer);
  return {
    bytes: BR_TEXT * 4 + text.length,
    fill: (m, block) => {
      m[block + BR_PARTIES] = parties;
      m[block + BR_ACTION] = text.length;
      m.set(halves, block + BR_TIMEOUT);
      new Uint8Array(m.buffer).set(text, (block + BR_TEXT) * 4);
    },
  };
}

reviver(K_BARRIER, (existing) => new Barrier(existing));

onOpen((session) => {
  const m = session.arena.i32;
  session.references.rule(K_BARRIER, {
    passOn: (block, node, dead) => new BarrierCore(session, block).lost(node, m[agentAt(dead) + A_PID]),
  });
});
