/**
 * Waiting: who waits for what, how one is woken, and why no wake-up is lost.
 *
 * An agent waits for an object through its node in the object's block: the node's CHANNEL word holds the ticket of the first of the agent's
 * waiters; the others stand behind it in a list of this agent's own. So a time-out or an abort is, mostly, a change of a list in one thread.
 *
 * Why no wake-up is lost: a waiter says WAITING, then sets the object's waiters flag, then looks again whether there is something to take, and
 * only then sleeps. Who makes something available does so first and then looks at the flag. In the one order of these four steps the waiter
 * finds what is available; in the other its flag is seen. The flag's finder clears it and wakes the waiter with the lowest ticket (WAITING ->
 * WOKEN), who tries, and sets the flag again when it takes, and when it leaves without taking, as others may be left. So while something is available and somebody waits, there is
 * always one agent that is WOKEN and on its way. Where that agent dies or is slow, the others look by themselves every 100 ms.
 *
 * Fairness: a free object may be taken by who comes by (that keeps a busy lock from being handed over at the price of a wake-up each time), but
 * a waiter that was passed over for more than 1 ms reserves it, and then the next release leaves it to those who were woken. Where nobody is
 * woken, the reservation ends with that release: nobody would come to use it.
 *
 * `models/` holds this for spin to check.
 *
 * @module
 */
import { parkWord, unparkWord } from "../../platform/mod.ts";
import type { Arena, Block } from "./arena.ts";
import { agentAt, type Agents } from "./agents.ts";
import { clearTimeout, now, queueMicrotask, section, setTimeout, sharedTime } from "./clock.ts";
import { crashPoint } from "./crash.ts";
import type { Holder } from "./holders.ts";
import { afterTurn, isDue } from "./turns.ts";
import { timers } from "../../platform/runtime/timers.ts";
import {
  A_BELL,
  A_HELD,
  A_KIND,
  A_WOKEN_AT,
  B_MORE,
  BELL_ARMED,
  BELL_AWAKE,
  BELL_RUNG,
  BELL_SYNC,
  KIND_MASK,
  M_BASE,
  M_NEXT,
  M_WORDS,
  N_HOLDER,
  type Nodes,
  O_TICKET,
  WAITING,
  WAITING_SYNC,
  WOKEN,
} from "./layout.ts";
import { BlockingError } from "../errors.ts";

/** How long to wait, and for what not to: see {@linkcode checkWait}. */
export interface WaitOptions {
  /** Milliseconds; 0 or less tries once; undefined, null and Infinity wait for ever. */
  timeout?: number | null;
  /** Ends the wait: it rejects with the signal's reason, and leaves nothing behind. */
  signal?: AbortSignal | null;
  /** Whether the wait keeps the process alive. @default true */
  ref?: boolean;
}

/** How long a `…Sync` wait may block. */
export interface SyncWaitOptions {
  /** Milliseconds; 0 or less tries once; undefined, null and Infinity wait for ever. */
  timeout?: number | null;
  /** Needed on a main thread, whose event loop stands still meanwhile. @default false */
  allowBlocking?: boolean;
}

/** What {@linkcode Source.attempt} returns when there is nothing to take. */
export const NOTHING: unique symbol = Symbol("nothing");

/** The object that is waited for, as one agent sees it. All methods are called on the agent's own thread. */
export interface Source<T> {
  /** Takes, if there is something to take; `woken` may take what is reserved. */
  attempt(woken: boolean, item?: unknown): T | typeof NOTHING;
  /** Sets the waiters flag, unless there is something to take now, for one who was woken or not, and for what it waits with: then `true`. */
  mark(woken: boolean, item?: unknown): boolean;
  /** Keeps those who come by from taking what the next release makes available. */
  reserve(): void;
  /** Sets the waiters flag, and wakes the next waiter if there is something to take. Who takes it first finds the flag. */
  pass(): void;
  /** Looks whether who holds the object still lives. `isDead` remembers its answers for the round. */
  check(isDead: (token: number) => boolean): void;
}

/** Waiters look by themselves this often: the backstop for a ringer that died, a full socket, a stopped process. */
export const TICK_MS = 100;
const TICK_SLICE_MS = 0.5;
const PASSED_OVER_MS = 1;
/** In 0.1 ms: a woken agent that has not come by then is taken for busy, and another is woken. */
const SLOW = 20;
const SPIN_MS = 0.02;
/** After a sleeper was rung: it takes 30 to 70 µs to come, and only who still looks then gets both out of taking turns at sleeping. */
const SPIN_AFTER_RING_MS = 0.1;
const SYNC_SLICE_MS = 50;
/** Waiters settled in one turn of the loop, which takes about 0.2 ms. */
const SERVED_AT_ONCE = 256;

/** The same for calls: their code goes on to take the condition's lock back, which is more. */
const CALLS_AT_ONCE = 64;
/** A wake-up of this agent by itself and what it leads to, as a multiple of a wait that is over at once. */
const WAKE_WEIGHT = 32;

/** What of this agent waits for a block: a list of waiters, or a call. */
export interface Standing {
  readonly block: Block;
  /** The doorbell was rung. */
  look(): void;
  /** Looks by itself. */
  tick(isDead: (token: number) => boolean): void;
  /** Before this agent blocks its thread: what it was woken for goes to another. */
  passOn(): void;
  /** The agent leaves the session. */
  rejectAll(reason: unknown): void;
}

interface Waiter<T> {
  readonly ticket: number;
  readonly since: number;
  readonly ref: boolean;
  /** What this waiter wants to give, where waiters differ. */
  readonly item: unknown;
  resolve(value: T): void;
  reject(reason: unknown): void;
  timer: unknown;
  signal: AbortSignal | null;
  onAbort: (() => void) | undefined;
  previous: Waiter<T> | undefined;
  next: Waiter<T> | undefined;
}

/**
 * Checks a wait's options, all of them, before anything is changed, and returns its time-out in milliseconds: Infinity, or 0 for "try once".
 *
 * @throws {TypeError} an option is of a wrong type
 * @throws the signal's reason, if it is aborted
 */
export function checkWait(w: WaitOptions): number {
  if (typeof w !== "object" || w === null) {
    throw new TypeError(
      `Cannot wait: the options must be an object, and they are ${
        show(w)
      }; pass { timeout: 1000 }, or leave them out`,
    );
  }
  const { timeout, signal, ref } = w;
  if (signal !== undefined && signal !== null && !isSignal(signal)) {
    throw new TypeError(
      `Cannot wait: signal must be an AbortSignal, and it is ${show(signal)}; pass the controller's signal`,
    );
  }
  if (ref !== undefined && typeof ref !== "boolean") {
    throw new TypeError(
      `Cannot wait: ref must be true or false, and it is ${
        show(ref)
      }; leave it out to keep the process alive`,
    );
  }
  if (timeout !== undefined && timeout !== null && (typeof timeout !== "number" || Number.isNaN(timeout))) {
    throw new TypeError(
      `Cannot wait: timeout must be a number of milliseconds, and it is ${
        show(timeout)
      }; leave it out to wait for ever`,
    );
  }
  if (signal?.aborted) throw signal.reason;
  if (timeout === undefined || timeout === null) return Infinity;
  return timeout > 0 ? timeout : 0;
}

/** Whether it can be listened to: another realm's signal, or a polyfill's, is as good. */
function isSignal(value: unknown): boolean {
  const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>;
  return typeof aborted === "boolean" && typeof addEventListener === "function" &&
    typeof removeEventListener === "function";
}

/** A wrong option, for people; whatever it is, this does not throw. */
function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "object" && value !== null
    ? Object.prototype.toString.call(value).slice(8, -1)
    : String(value);
}

/** Walks the nodes of a block, those inside it and those in further blocks. */
export class NodeCursor {
  #m: Int32Array;
  #stride = 0;
  #end = 0;
  #link = 0;
  at = 0;

  constructor(m: Int32Array) {
    this.#m = m;
  }

  /** Stands before the first node. */
  start(block: Block, nodes: Nodes): this {
    this.#stride = nodes.stride;
    this.at = block + nodes.base - nodes.stride;
    this.#end = block + nodes.base + nodes.count * nodes.stride;
    this.#link = block + B_MORE;
    return this;
  }

  next(): boolean {
    this.at += this.#stride;
    if (this.at < this.#end) return true;
    const more = Atomics.load(this.#m, this.#link);
    if (more === 0) return false;
    this.at = more + M_BASE;
    this.#end = this.at + Math.floor(M_WORDS / this.#stride) * this.#stride;
    this.#link = more + M_NEXT;
    return true;
  }

  /** Word that would link a further block of nodes, once {@linkcode next} has said `false`. */
  get link(): number {
    return this.#link;
  }
}

/** Node number `index` of a block, counted as {@linkcode NodeCursor} walks; it must exist. */
export function nodeAt(m: Int32Array, block: Block, nodes: Nodes, index: number): number {
  if (index < nodes.count) return block + nodes.base + index * nodes.stride;
  const each = Math.floor(M_WORDS / nodes.stride);
  let more = Atomics.load(m, block + B_MORE);
  for (index -= nodes.count; index >= each; index -= each) more = Atomics.load(m, more + M_NEXT);
  return more + M_BASE + index * nodes.stride;
}

/** The number of a node of a block. */
export function indexOfNode(m: Int32Array, block: Block, nodes: Nodes, node: number): number {
  const inside = (node - block - nodes.base) / nodes.stride;
  if (inside >= 0 && inside < nodes.count) return inside;
  const each = Math.floor(M_WORDS / nodes.stride);
  let before = nodes.count;
  for (let more = Atomics.load(m, block + B_MORE); more !== 0; more = Atomics.load(m, more + M_NEXT)) {
    const within = (node - more - M_BASE) / nodes.stride;
    if (within >= 0 && within < each) return before + within;
    before += each;
  }
  return -1;
}

/** Keeps the loop alive, or not, and calls back every 100 ms while something waits: supplied by the session. */
export interface Heartbeat {
  start(tick: () => void): void;
  ref(): void;
  unref(): void;
  stop(): void;
}

/** All waits of this agent. */
export class Waits implements Holder {
  readonly arena: Arena;
  readonly agents: Agents;
  readonly #heartbeat: Heartbeat;
  readonly #openBell: () => void;
  /** Keep a block while something of this agent waits for it. */
  readonly hold: (block: Block) => void;
  readonly release: (block: Block) => void;
  readonly #ring: (token: number, kind: number) => void;
  readonly #cpus: () => number;
  readonly #mayBlock: boolean;
  readonly #waiting = new Set<Standing>();
  #refs = 0;
  /** Synchronous calls that this agent is inside of. */
  #holds = 0;
  #beating = false;
  #closed = false;
  #bellOpen = false;
  #localWake = false;
  #spinCredit: number | undefined;
  #spinSkipped = 0;
  #rang = false;
  readonly #cursor: NodeCursor;

  constructor(arena: Arena, agents: Agents, o: {
    heartbeat: Heartbeat;
    openBell: () => void;
    ring: (token: number, kind: number) => void;
    hold: (block: Block) => void;
    release: (block: Block) => void;
    mayBlock: boolean;
    cpus: () => number;
  }) {
    this.arena = arena;
    this.agents = agents;
    this.#heartbeat = o.heartbeat;
    this.#openBell = o.openBell;
    this.#ring = o.ring;
    this.#cpus = o.cpus;
    this.hold = o.hold;
    this.release = o.release;
    this.#mayBlock = o.mayBlock;
    this.#cursor = new NodeCursor(arena.i32);
  }

  /** Opens the doorbell, if it is not, so that others can wake this agent. */
  open(): void {
    if (this.#bellOpen) return;
    this.#openBell();
    this.#bellOpen = true;
  }

  /** The doorbell was rung: look. */
  readonly rung = (): void => section(() => this.#look());

  #look(): void {
    // Woken by itself just before it left.
    if (this.#closed) return;
    this.#arm();
    const enough = this.#waiting.size - CALLS_AT_ONCE;
    for (const standing of this.#waiting) {
      standing.look();
      if (this.#waiting.size > enough) continue;
      // Who was woken stays so; the loop turns first.
      timers().setImmediate(this.rung);
      return;
    }
  }

  #arm(): void {
    const m = this.arena.i32;
    const bell = agentAt(this.arena.token) + A_BELL;
    const epoch = (m[bell] >>> 2) + 1;
    Atomics.store(m, bell, (epoch << 2) | (this.#waiting.size > 0 ? BELL_ARMED : BELL_AWAKE));
  }

  /** A list got its first waiter, or a call begins. */
  add(standing: Standing): void {
    if (this.#waiting.has(standing)) return;
    this.open();
    this.#waiting.add(standing);
    this.hold(standing.block);
    if (!this.#beating) {
      this.#beating = true;
      this.#heartbeat.start(this.#tick);
      if (this.#refs === 0) this.#heartbeat.unref();
    }
    const m = this.arena.i32;
    if ((m[agentAt(this.arena.token) + A_BELL] & 3) !== BELL_ARMED) this.#arm();
  }

  /** A list has no waiter any more, or a call is over. */
  remove(standing: Standing): void {
    if (this.#waiting.delete(standing)) this.release(standing.block);
  }

  /** Whether all waits were ended, as the agent leaves the session. */
  get closed(): boolean {
    return this.#closed;
  }

  ref(): void {
    if (this.#refs++ === 0 && this.#beating) this.#heartbeat.ref();
  }

  unref(): void {
    if (--this.#refs === 0 && this.#beating) this.#heartbeat.unref();
  }

  /** Ends everything: each wait rejects with `reason`. */
  close(reason: unknown): void {
    this.#closed = true;
    for (const list of [...this.#waiting]) list.rejectAll(reason);
    if (this.#beating) this.#heartbeat.stop();
    this.#beating = false;
  }

  readonly #tick = (): void => {
    if (this.#waiting.size === 0) {
      this.#beating = false;
      this.#heartbeat.stop();
      return;
    }
    const known = new Map<number, boolean>();
    const isDead = (token: number): boolean => {
      let dead = known.get(token);
      if (dead === undefined) known.set(token, dead = this.agents.isDead(token));
      return dead;
    };
    const lists = [...this.#waiting];
    const slice = (): void =>
      section(() => {
        const until = now() + TICK_SLICE_MS;
        while (lists.length > 0) {
          const list = lists.pop()!;
          if (this.#waiting.has(list)) list.tick(isDead);
          if (now() > until) break;
        }
        if (lists.length > 0) setTimeout(slice, 0);
      });
    this.#arm();
    slice();
  };

  /**
   * Wakes the waiter with the lowest ticket on a channel of a block, unless one is on its way already. Whoever calls has made something
   * available, and cleared the waiters flag.
   *
   * @returns whether anybody is on the way now
   */
  wakeNext(block: Block, nodes: Nodes, channel: number): boolean {
    const m = this.arena.i32;
    for (;;) {
      let best = 0;
      let seen = 0;
      let token = 0;
      for (const c = this.#cursor.start(block, nodes); c.next();) {
        const word = Atomics.load(m, c.at + channel);
        if (word === 0) continue;
        const holder = Atomics.load(m, c.at + N_HOLDER);
        if (holder <= 0 || this.arena.isStale(holder)) continue;
        const agent = agentAt(holder);
        const state = word & 3;
        const held = Atomics.load(m, agent + A_HELD) !== 0;
        if (state === WOKEN) {
          const ago = sharedTime() - m[agent + A_WOKEN_AT];
          if (!held && ago >= 0 && ago <= SLOW) return true;
          continue;
        }
        if (state === WAITING && held) continue;
        if (best === 0 || (word & ~3) - (seen & ~3) < 0) {
          best = c.at + channel;
          seen = word;
          token = holder;
        }
      }
      if (best === 0) return false;
      const agent = agentAt(token);
      m[agent + A_WOKEN_AT] = sharedTime();
      if (Atomics.compareExchange(m, best, seen, (seen & ~3) | WOKEN) !== seen) continue;
      crashPoint("wait.woken");
      this.ring(token);
      // It has begun to block since, and may have looked at its node too early to pass this on.
      if ((seen & 3) === WAITING && Atomics.load(m, agent + A_HELD) !== 0) continue;
      return true;
    }
  }

  /** Wakes all who wait on a channel of a block. Whoever calls has made something available to all, and cleared the waiters flag. */
  wakeAll(block: Block, nodes: Nodes, channel: number): void {
    const m = this.arena.i32;
    for (const c = new NodeCursor(m).start(block, nodes); c.next();) {
      const word = Atomics.load(m, c.at + channel);
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (word === 0 || (word & 3) === WOKEN || holder <= 0) continue;
      if (Atomics.compareExchange(m, c.at + channel, word, (word & ~3) | WOKEN) !== word) continue;
      crashPoint("wait.woken");
      this.ring(holder);
    }
  }

  /** Has an agent look at its nodes. No system call unless it is asleep. */
  ring(token: number): void {
    if (token === this.arena.token) return this.#wakeSelf();
    const m = this.arena.i32;
    const at = agentAt(token);
    const bell = Atomics.load(m, at + A_BELL);
    if ((bell & 3) === BELL_SYNC) return unparkWord(this.#bellAddress(at, m, bell));
    if ((bell & 3) !== BELL_ARMED) return;
    this.#ring(token, Atomics.load(m, at + A_KIND) & KIND_MASK);
    this.#rang = true;
    crashPoint("wait.rung");
    Atomics.compareExchange(m, at + A_BELL, bell, (bell & ~3) | BELL_RUNG);
  }

  /** A thread parked on its bell word sleeps only while the word is unchanged: change it, then wake. */
  #bellAddress(at: number, m: Int32Array, bell: number): number {
    Atomics.compareExchange(m, at + A_BELL, bell, (((bell >>> 2) + 1) << 2) | BELL_SYNC);
    return this.arena.address + (at + A_BELL) * 4;
  }

  ringAll(): void {
    for (const token of this.agents.all()) this.ring(token);
  }

  #wakeSelf(): void {
    if (this.#localWake) return;
    this.#localWake = true;
    const look = (): void => {
      this.#localWake = false;
      this.rung();
    };
    // Functions of one agent that hand a lock on to each other would keep the loop from turning.
    if (isDue(WAKE_WEIGHT)) void afterTurn(undefined).then(look);
    else queueMicrotask(look);
  }

  /**
   * Looks at memory for at most 20 µs before sleeping: a hand-over between two awake agents then costs 1 µs instead of 30 to 70. Less and less
   * often where it did not help, as on a machine whose processors are all busy.
   */
  spin<T>(source: Source<T>, item: unknown): T | typeof NOTHING {
    const credit = this.#spinCredit ??= this.#cpus() > 1 ? 8 : -1;
    if (credit <= 0) {
      if (credit < 0 || ++this.#spinSkipped < 64) return NOTHING;
      this.#spinSkipped = 0;
    }
    const until = now() + (this.#rang ? SPIN_AFTER_RING_MS : SPIN_MS);
    this.#rang = false;
    do {
      for (let i = 0; i < 16; i++) {
        const value = source.attempt(false, item);
        if (value !== NOTHING) {
          this.#spinCredit = Math.min(16, credit + 4);
          return value;
        }
      }
    } while (now() < until);
    this.#spinCredit = Math.max(0, credit - 1);
    return NOTHING;
  }

  /** @throws {BlockingError} on a main thread without `allowBlocking`. */
  checkBlocking(what: string, w: SyncWaitOptions): number {
    const timeout = checkWait(w);
    if (!this.#mayBlock && !w.allowBlocking) {
      throw new BlockingError(
        `Cannot ${what}: it would stop the event loop of the main thread; await the asynchronous method, or pass { allowBlocking: true }`,
      );
    }
    return timeout;
  }

  /**
   * Blocks the thread until `source` gives something. Meanwhile the agent is marked held: grants for its other waits go to others, and what it
   * was already granted is passed on.
   */
  waitSync<T>(list: WaitList<T>, timeout: number, item?: unknown): T {
    const m = this.arena.i32;
    const { source } = list;
    const ticket = list.takeTicket();
    try {
      const value = this.parkUntil((first) => {
        Atomics.store(m, list.at, (ticket << 2) | WAITING_SYNC);
        if (!first) source.check((token) => this.agents.isDead(token));
        source.mark(true, item);
        return source.attempt(true, item);
      }, timeout);
      if (value === NOTHING) throw list.timedOut(timeout);
      return value;
    } finally {
      // Those who wait asynchronously have said so again at the end of the hold.
      if (list.first === undefined) Atomics.store(m, list.at, 0);
      source.pass();
    }
  }

  /** Blocks the thread, marked held, until `look` finds something, at each ring and every 50 ms; NOTHING when the time is over. */
  parkUntil<T>(look: (first: boolean) => T | typeof NOTHING, timeout: number): T | typeof NOTHING {
    const m = this.arena.i32;
    const at = agentAt(this.arena.token);
    const deadline = now() + timeout;
    this.beginHold();
    try {
      for (let first = true;; first = false) {
        const bell = (((m[at + A_BELL] >>> 2) + 1) << 2) | BELL_SYNC;
        Atomics.store(m, at + A_BELL, bell);
        const value = look(first);
        if (value !== NOTHING) return value;
        const left = deadline - now();
        if (left <= 0) return NOTHING;
        parkWord(this.arena.address + (at + A_BELL) * 4, bell, Math.min(left, SYNC_SLICE_MS));
      }
    } finally {
      this.endHold();
    }
  }

  /** Runs something that blocks the thread, marked held. */
  held<T>(work: () => T): T {
    this.beginHold();
    try {
      return work();
    } finally {
      this.endHold();
    }
  }

  /** From now on grants skip this agent, and what it was granted goes to others. Ends with {@linkcode endHold}; may be nested. */
  beginHold(): void {
    if (this.#holds++ > 0) return;
    Atomics.store(this.arena.i32, agentAt(this.arena.token) + A_HELD, 1);
    for (const standing of this.#waiting) standing.passOn();
  }

  /** Who skipped this agent did so because it was held: it looks now. */
  endHold(): void {
    if (--this.#holds > 0) return;
    Atomics.store(this.arena.i32, agentAt(this.arena.token) + A_HELD, 0);
    this.#arm();
    for (const standing of this.#waiting) standing.tick((token) => this.agents.isDead(token));
  }
}

/** The waiters of this agent for one channel of one block, in order. */
export class WaitList<T> implements Standing {
  readonly #waits: Waits;
  readonly block: Block;
  /** The error of a wait whose time is over. */
  readonly timedOut: (timeout: number) => Error;
  readonly source: Source<T>;
  /** Word of the channel in this agent's node. */
  readonly at: number;
  first: Waiter<T> | undefined;
  #last: Waiter<T> | undefined;

  constructor(
    waits: Waits,
    block: Block,
    node: number,
    channel: number,
    source: Source<T>,
    timedOut: (timeout: number) => Error,
  ) {
    this.#waits = waits;
    this.block = block;
    this.at = node + channel;
    this.source = source;
    this.timedOut = timedOut;
  }

  /** How many wait. */
  count(): number {
    let n = 0;
    for (let waiter = this.first; waiter !== undefined; waiter = waiter.next) n++;
    return n;
  }

  takeTicket(): number {
    // 30 bits; compared as differences, so wrapping round is fine while fewer than 2^29 wait.
    return Atomics.add(this.#waits.arena.i32, this.block + O_TICKET, 1) & 0x3fffffff;
  }

  /** Waits until the source gives something. Call only after an attempt failed. */
  wait(w: WaitOptions, timeout: number, item?: unknown): Promise<T> {
    if (timeout === 0) return Promise.reject(this.timedOut(0));
    if (this.first === undefined) {
      const value = this.#waits.spin(this.source, item);
      if (value !== NOTHING) return Promise.resolve(value);
    }
    return new Promise<T>((resolve, reject) => {
      const waiter: Waiter<T> = {
        ticket: this.takeTicket(),
        since: now(),
        ref: w.ref !== false,
        item,
        resolve,
        reject,
        timer: undefined,
        signal: w.signal ?? null,
        onAbort: undefined,
        previous: this.#last,
        next: undefined,
      };
      if (timeout !== Infinity) {
        waiter.timer = setTimeout(
          () => this.#end(waiter, this.timedOut(timeout)),
          Math.min(timeout, 0x7fffffff),
        );
      }
      if (waiter.signal !== null) {
        waiter.onAbort = () => this.#end(waiter, waiter.signal!.reason);
        waiter.signal.addEventListener("abort", waiter.onAbort);
      }
      if (waiter.ref) this.#waits.ref();
      if (this.#last === undefined) this.first = waiter;
      else this.#last.next = waiter;
      this.#last = waiter;
      if (this.first === waiter) {
        this.#waits.add(this);
        this.#publish(false);
      }
    });
  }

  /** Says WAITING for the first waiter, sets the flag, and looks once more. */
  #publish(woken: boolean): void {
    const m = this.#waits.arena.i32;
    while (this.first !== undefined) {
      // A wake-up that came since this agent looked counts: it may be for what is reserved, and nobody else was woken.
      if ((Atomics.exchange(m, this.at, (this.first.ticket << 2) | WAITING) & 3) === WOKEN) woken = true;
      crashPoint("wait.published");
      if (!this.source.mark(woken, this.first.item)) {
        crashPoint("wait.marked");
        return;
      }
      const value = this.source.attempt(woken, this.first.item);
      if (value !== NOTHING) this.#settle(this.first, value);
    }
    this.#empty();
  }

  look(): void {
    if ((Atomics.load(this.#waits.arena.i32, this.at) & 3) === WOKEN) this.service(true);
  }

  /** Tries for as many waiters as there is something to take, then says WAITING for who is left. */
  service(woken: boolean): void {
    for (let served = 0; this.first !== undefined; served++) {
      if (served === SERVED_AT_ONCE) {
        // Still WOKEN, so nobody else is woken for what is left; the loop turns first.
        setTimeout(() => section(() => this.service(woken)), 0);
        return;
      }
      const value = this.source.attempt(woken, this.first.item);
      if (value === NOTHING) {
        // The reservation may come just after a release that nobody was woken by: publishing looks again, as one who may take it.
        if (woken && now() - this.first.since > PASSED_OVER_MS) this.source.reserve();
        break;
      }
      this.#settle(this.first, value);
    }
    this.source.pass();
    this.#publish(woken);
  }

  tick(isDead: (token: number) => boolean): void {
    this.source.check(isDead);
    this.service((Atomics.load(this.#waits.arena.i32, this.at) & 3) === WOKEN);
  }

  passOn(): void {
    const m = this.#waits.arena.i32;
    const word = Atomics.load(m, this.at);
    if ((word & 3) !== WOKEN) return;
    Atomics.store(m, this.at, (word & ~3) | WAITING);
    this.source.pass();
  }

  rejectAll(reason: unknown): void {
    while (this.first !== undefined) this.#end(this.first, reason);
  }

  #settle(waiter: Waiter<T>, value: T): void {
    this.#unlink(waiter);
    waiter.resolve(value);
  }

  /** A time-out or abort. */
  #end(waiter: Waiter<T>, reason: unknown): void {
    const wasFirst = this.first === waiter;
    this.#unlink(waiter);
    waiter.reject(reason);
    if (!wasFirst) return;
    const m = this.#waits.arena.i32;
    const woken = (Atomics.load(m, this.at) & 3) === WOKEN;
    if (this.first !== undefined) return woken ? this.service(true) : this.#publish(false);
    this.#empty();
  }

  #empty(): void {
    // Woken, and nobody here wants it any more: the wake-up goes to another.
    if ((Atomics.exchange(this.#waits.arena.i32, this.at, 0) & 3) === WOKEN) this.source.pass();
    this.#waits.remove(this);
  }

  #unlink(waiter: Waiter<T>): void {
    if (waiter.previous === undefined) this.first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) this.#last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    if (waiter.timer !== undefined) clearTimeout(waiter.timer);
    if (waiter.onAbort !== undefined) waiter.signal!.removeEventListener("abort", waiter.onAbort);
    if (waiter.ref) this.#waits.unref();
  }
}
