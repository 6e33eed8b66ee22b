/**
 * The table of agents: who is in the session, who is alive, and what is done about the dead.
 *
 * A slot is taken by locking one byte of the arena's file through an open file description of one's own. The kernel drops that lock
 * at death and at nothing else: not at SIGSTOP, not when a pid is reused; a zombie has lost it already.
 *
 * @module
 */
import { isByteLocked, lockByte, processId, threadStartTime, unlockByte } from "../../platform/mod.ts";
import type { Arena, Block } from "./arena.ts";
import { timers } from "../../platform/runtime/timers.ts";
import { now, section } from "./clock.ts";
import { crashPoint } from "./crash.ts";
import {
  A_EXIT,
  A_FD,
  A_GEN,
  A_HELD,
  A_KIND,
  A_LEAVING,
  A_PARENT,
  A_PID,
  A_TID,
  A_TSTART,
  AGENT_WORDS,
  AGENTS,
  GEN_MASK,
  H_NEXT_SLOT,
  K_DIRECTION,
  K_QUEUE,
  KIND_WORKER,
  MAX_AGENTS,
  REAP_BYTES,
  TOKEN_SLOT_BITS,
  TOKEN_SLOT_MASK,
} from "./layout.ts";

/** First word of the slot of a token. */
export function agentAt(token: number): number {
  return AGENTS + (token & TOKEN_SLOT_MASK) * AGENT_WORDS;
}

/** What is to be done for each block when an agent is gone: see {@linkcode Agents.reap}. */
export type Scrub = (block: Block, dead: number, head: number) => void;

/** Where the scrub of an agent has come to: what of it is done, and the block or span to go on at. */
interface Scrubbing {
  readonly token: number;
  phase: "queues" | "blocks" | "spans";
  next: number;
  /** Who wants to know that it is over. */
  readonly done: (() => void)[];
}

const REAP_SLICE_MS = 0.4;
const toTheEnd = (): boolean => true;

export class Agents {
  readonly #arena: Arena;
  readonly #scrub: Scrub;
  readonly #afterReap: (dead: number) => void;

  constructor(arena: Arena, scrub: Scrub, afterReap: (dead: number) => void) {
    this.#arena = arena;
    this.#scrub = scrub;
    this.#afterReap = afterReap;
  }

  /**
   * Takes a free slot, with the lock held through `fd`: for this agent, or for a child that will inherit `fd`.
   *
   * @returns the token
   * @throws {RangeError} when all 1,024 slots belong to living agents.
   */
  take(fd: number, parent: number): number {
    const token = this.#tryTake(fd, parent);
    if (token !== 0) return token;
    this.reapAll();
    const again = this.#tryTake(fd, parent);
    if (again !== 0) return again;
    throw new RangeError(
      `Cannot join the session: all ${MAX_AGENTS} places are taken by living agents; end some processes or Workers first`,
    );
  }

  #tryTake(fd: number, parent: number): number {
    const m = this.#arena.i32;
    const start = Atomics.load(m, H_NEXT_SLOT);
    for (let i = 0; i < MAX_AGENTS; i++) {
      const slot = (start + i) & TOKEN_SLOT_MASK;
      const at = AGENTS + slot * AGENT_WORDS;
      if (Atomics.load(m, at + A_PID) !== 0 || !lockByte(fd, slot)) continue;
      crashPoint("agent.locked");
      if (Atomics.load(m, at + A_PID) !== 0) {
        unlockByte(fd, slot); // someone died here between the two looks
        continue;
      }
      // Before PID says that the slot counts: what is left of a Worker would make this agent look dead.
      m[at + A_PARENT] = parent;
      m[at + A_FD] = fd;
      for (const word of [A_KIND, A_TID, A_TSTART, A_HELD, A_EXIT, A_LEAVING]) m[at + word] = 0;
      if (m[at + A_GEN] === 0) m[at + A_GEN] = 1;
      Atomics.store(m, at + A_PID, processId());
      crashPoint("agent.taken");
      Atomics.store(m, H_NEXT_SLOT, (slot + 1) & TOKEN_SLOT_MASK);
      return (m[at + A_GEN] << TOKEN_SLOT_BITS) | slot;
    }
    return 0;
  }

  /** Whether the agent is gone for good. A stopped or busy one is not; a Worker is once its thread is. About 1.5 µs. */
  isDead(token: number): boolean {
    if (token === this.#arena.token) return false;
    if (this.#arena.isStale(token)) return true;
    return this.#isSlotDead(token & TOKEN_SLOT_MASK);
  }

  #isSlotDead(slot: number): boolean {
    const m = this.#arena.i32;
    const at = AGENTS + slot * AGENT_WORDS;
    if (slot === this.#arena.slot) return false;
    const kind = Atomics.load(m, at + A_KIND);
    const pid = Atomics.load(m, at + A_PID);
    if (pid === 0) return false;
    if (!isByteLocked(this.#arena.fd, slot)) return true;
    if ((kind & KIND_WORKER) === 0) return false;
    // The descriptor outlives a terminated Worker: only its thread tells.
    const started = threadStartTime(pid, Atomics.load(m, at + A_TID));
    return started === null || (started | 0) !== Atomics.load(m, at + A_TSTART);
  }

  /** Reaps every dead agent. One look at each taken slot. */
  reapAll(): void {
    const m = this.#arena.i32;
    for (let slot = 0; slot < MAX_AGENTS; slot++) {
      if (Atomics.load(m, AGENTS + slot * AGENT_WORDS + A_PID) !== 0 && this.#isSlotDead(slot)) {
        this.#reapSlot(slot);
      }
    }
  }

  /** How long a piece of a reap may hold the loop, in milliseconds; 0 for the smallest pieces. */
  sliceMs = REAP_SLICE_MS;
  /** Slots whose reap goes on when the loop has turned. */
  readonly #underWay = new Map<number, Scrubbing>();

  /**
   * Reaps one agent if it is dead and nobody else is at it: now, if that takes no more than {@linkcode sliceMs}, else in pieces, between which the
   * loop turns. In between nobody has the right to reap it; whoever takes it then begins anew, as after a reaper's death.
   *
   * @param done called when this agent has nothing more to do for it, now or later
   */
  reap(token: number, done: () => void = () => {}): void {
    const slot = token & TOKEN_SLOT_MASK;
    const underWay = this.#underWay.get(slot);
    if (underWay?.token === token) return void underWay.done.push(done);
    if (underWay !== undefined || this.#arena.isStale(token) || !this.isDead(token)) return done();
    this.#reapPiece(slot, { token, phase: "queues", next: 0, done: [done] });
  }

  /** Goes on with what was begun to its end, for a thread that blocks anyway. */
  finishReaps(): void {
    for (const [slot, scrubbing] of this.#underWay) {
      this.#underWay.delete(slot);
      this.#reapSlot(slot, scrubbing);
      for (const each of scrubbing.done) each();
    }
  }

  #reapPiece(slot: number, scrubbing: Scrubbing): void {
    section(() => {
      const until = now() + this.sliceMs;
      if (this.#reapSlot(slot, scrubbing, () => now() < until)) {
        this.#underWay.delete(slot);
        for (const each of scrubbing.done) each();
        return;
      }
      this.#underWay.set(slot, scrubbing);
      crashPoint("agent.sliced");
      timers().setImmediate(() => this.#underWay.get(slot) === scrubbing && this.#reapPiece(slot, scrubbing));
    });
  }

  /** Whether nothing is left to do: all is done, or another agent is at it, or was. */
  #reapSlot(slot: number, scrubbing?: Scrubbing, more: () => boolean = toTheEnd): boolean {
    const arena = this.#arena;
    const m = arena.i32;
    const at = AGENTS + slot * AGENT_WORDS;
    if (!lockByte(arena.fd, REAP_BYTES + slot)) return true; // a living agent is at it
    // What the reaper condemns is marked with the dead slot: if the reaper dies, the next one goes on.
    const own = arena.slot;
    const ownToken = arena.token;
    let token = 0;
    try {
      if (Atomics.load(m, at + A_PID) === 0 || !this.#isSlotDead(slot)) return true;
      if (this.#isLeftToItsProcess(at) && isByteLocked(arena.fd, slot)) return true;
      token = (Atomics.load(m, at + A_GEN) << TOKEN_SLOT_BITS) | slot;
      // Reaped by another meanwhile, and perhaps taken by a new agent that is dead, too.
      if (scrubbing !== undefined && scrubbing.token !== token) return true;
      arena.slot = slot;
      // Who joins a full table has no token yet; what it takes over stays the dead's, for the next reaper.
      if (ownToken === 0) arena.token = token;
      if (!this.#scrubOn(scrubbing ?? { token, phase: "queues", next: 0, done: [] }, more)) return false;
      crashPoint("agent.reaped");
      this.#freeSlot(at, slot);
    } finally {
      arena.slot = own;
      arena.token = ownToken;
      unlockByte(arena.fd, REAP_BYTES + slot);
    }
    this.#afterReap(token);
    return true;
  }

  /** Removes every trace of an agent from the arena, then raises its slot's generation. Repeatable from any step. */
  scrub(token: number): void {
    this.#scrubOn({ token, phase: "queues", next: 0, done: [] }, toTheEnd);
  }

  /** Goes on until `more()` is false. Whether all is done. */
  #scrubOn(s: Scrubbing, more: () => boolean): boolean {
    const arena = this.#arena;
    const m = arena.i32;
    const { token } = s;
    if (s.phase === "queues") {
      // First, as what lies in a lane, or was taken from it, counts as held until the lane says that its agent is gone.
      s.next = arena.visitBlocks(s.next, (block, head) => {
        const kind = arena.kind(block);
        if (kind === K_QUEUE || kind === K_DIRECTION) this.#scrub(block, token, head);
      }, more);
      if (s.next !== 0) return false;
      s.phase = "blocks";
      crashPoint("agent.reap");
    }
    if (s.phase === "blocks") {
      s.next = arena.visitBlocks(s.next, (block, head) => this.#scrub(block, token, head), more);
      if (s.next !== 0) return false;
      s.phase = "spans";
    }
    s.next = arena.reclaimSpans(token, s.next, more);
    if (s.next !== 0) return false;
    const at = agentAt(token);
    if (Atomics.load(m, at + A_GEN) === token >>> TOKEN_SLOT_BITS) {
      Atomics.store(m, at + A_GEN, (((token >>> TOKEN_SLOT_BITS) + 1) & GEN_MASK) || 1);
    }
    return true;
  }

  /** This agent's own end, while it lives: the slot is free at once. */
  leave(): void {
    const arena = this.#arena;
    this.finishReaps();
    this.scrub(arena.token);
    Atomics.store(arena.i32, agentAt(arena.token) + A_PID, 0);
    unlockByte(arena.fd, arena.slot);
  }

  /** Frees the slot. That of a terminated Worker stays locked, by its descriptor and its mapping, until its own process unlocks it or ends. */
  #freeSlot(at: number, slot: number): void {
    const m = this.#arena.i32;
    if ((m[at + A_KIND] & KIND_WORKER) !== 0) {
      if (m[at + A_PID] === processId()) {
        unlockByte(m[at + A_FD], slot);
        this.onWorkerGone?.(m[at + A_FD]);
      } else if (isByteLocked(this.#arena.fd, slot)) return void Atomics.store(m, at + A_TID, 0);
    }
    Atomics.store(m, at + A_PID, 0);
  }

  /** Whether all that another process can do for a terminated Worker was done. */
  #isLeftToItsProcess(at: number): boolean {
    const m = this.#arena.i32;
    return (m[at + A_KIND] & KIND_WORKER) !== 0 && m[at + A_TID] === 0 && m[at + A_PID] !== processId();
  }

  /** Told the descriptors that a terminated Worker of this process left open. */
  onWorkerGone: ((fd: number) => void) | undefined;

  /** Tokens of all agents that have a slot, dead or alive. */
  all(): number[] {
    const m = this.#arena.i32;
    const tokens: number[] = [];
    for (let slot = 0; slot < MAX_AGENTS; slot++) {
      const at = AGENTS + slot * AGENT_WORDS;
      if (Atomics.load(m, at + A_PID) !== 0) {
        tokens.push((Atomics.load(m, at + A_GEN) << TOKEN_SLOT_BITS) | slot);
      }
    }
    return tokens;
  }
}
