/**
 * References: who holds a block, and what happens when nobody does.
 *
 * | step of a release | killed after it |
 * |---|---|
 * | the node's channels = 0 | the reaper finds HOLDER and goes on |
 * | HOLDER = 0 | if it was the last: the block is found without holders by the next scan of a reaper |
 * | no holder seen, ADDS unchanged, LIVE -> DYING | the reaper of who condemned it finishes |
 * | what hangs on it is freed, piece by piece: OWNER = me, unlinked, freed | unlinked and owned by the dead: freed by its reaper |
 * | DYING -> FREE | |
 *
 * @module
 */
import type { Arena, Block } from "./arena.ts";
import { crashPoint } from "./crash.ts";
import {
  B_ADDS,
  B_HEAD,
  B_INFO,
  B_MORE,
  B_OWNER,
  CLASS_512,
  CLASS_BYTES,
  DYING,
  FREE,
  IN_FLIGHT,
  K_LANE,
  K_NODES,
  LANE_MASK,
  LANE_SHIFT,
  LIVE,
  LN_PRODUCER,
  M_BASE,
  M_NEXT,
  M_PARENT,
  N_AUX,
  N_CHANNEL,
  N_CHANNEL2,
  N_HOLDER,
  nodesOf,
  RAISING,
} from "./layout.ts";
import { NodeCursor } from "./waits.ts";

/** What a kind of block does when an agent, or the block itself, comes to its end. */
export interface KindRules {
  /** Whether this agent holds the object itself, as a lock is held: then a handle that was merely dropped does not give it up. */
  isOwned?(block: Block): boolean;
  /** The dead agent had this node: undo what it held and pass on what it was woken for. Repeatable. */
  scrubNode?(block: Block, node: number, dead: number): void;
  /** The dead agent had this node, and its channels still say what it was told: passes that on. Repeatable; what was passed on already may be again. */
  passOn?(block: Block, node: number, dead: number): void;
  /** Whether the block, while it is not free, keeps another: see {@linkcode References.keep}. */
  keeps?(block: Block, other: Block): boolean;
  /** For blocks without nodes: frees what the dead agent did not finish linking, if it still is what had this `head`. Repeatable. */
  scrubBlock?(block: Block, dead: number, head: number): void;
  /** Frees what hangs on a condemned block. Repeatable. */
  finish?(block: Block): void;
}

/** What this agent has of a block. */
export interface Held {
  /** Its node. */
  readonly node: number;
  /** Handles, guards and waits of this agent that need the block. */
  count: number;
  /** What all handles of this agent to the block share: its waiters above all. */
  shared: unknown;
  /** Where the last free node was found: see {@linkcode References.claimAnother}. */
  free?: NodeCursor;
}

export class References {
  readonly #arena: Arena;
  readonly #rules = new Map<number, KindRules>();
  /** Blocks that this agent holds: its node, and how many handles here share it. */
  readonly #held = new Map<Block, Held>();
  readonly #cursor: NodeCursor;
  /** Whether a lane still has records up to a number to be taken: for handles in flight. Set by the queue's rules. */
  inFlight: (lane: Block, number: number) => boolean = () => false;

  #installed = false;
  readonly #installRules: () => void;

  /** @param installRules has each kind register its rules; called before the first is needed, which is never in many programs */
  constructor(arena: Arena, installRules: () => void) {
    this.#arena = arena;
    this.#installRules = installRules;
    this.#cursor = new NodeCursor(arena.i32);
    this.#rules.set(K_NODES, {
      scrubBlock: (block, dead, head) => {
        const m = arena.i32;
        if (m[block + B_OWNER] === dead && !this.#isLinked(block)) arena.discard(block, head);
      },
    });
  }

  /** Registers what a kind does at its end. */
  rule(kind: number, rules: KindRules): void {
    this.#rules.set(kind, rules);
  }

  #install(): void {
    if (this.#installed) return;
    this.#installed = true;
    this.#installRules();
  }

  #rulesOf(kind: number): KindRules | undefined {
    this.#install();
    return this.#rules.get(kind);
  }

  /** How many blocks this agent holds. */
  get size(): number {
    return this.#held.size;
  }

  /** A new block of a kind with nodes, held by this agent and zeroed but for `fill`. Returns its generation. */
  create(
    kind: number,
    bytes: number,
    fill: (block: Block) => void,
  ): { block: Block; held: Held; generation: number } {
    const arena = this.#arena;
    const block = arena.allocate(bytes);
    const nodes = nodesOf(kind)!;
    const m = arena.i32;
    m.fill(0, block + B_OWNER, block + (nodes.base + nodes.stride * nodes.count));
    const node = block + nodes.base;
    m[node + N_HOLDER] = arena.token;
    fill(block);
    const generation = arena.publish(block, kind);
    const held = { node, count: 1, shared: undefined };
    this.#held.set(block, held);
    return { block, held, generation };
  }

  /** Takes one more handle's reference; the first one of this agent claims a node. The caller got the block from a holder. */
  hold(block: Block): Held {
    let held = this.#held.get(block);
    if (held !== undefined) held.count++;
    else {this.#held.set(
        block,
        held = { node: this.claim(block, this.#arena.token), count: 1, shared: undefined },
      );}
    return held;
  }

  /** Whether dropping a handle would give up what this agent owns. */
  isLastOfOwned(block: Block): boolean {
    return this.#held.get(block)?.count === 1 &&
      this.#rulesOf(this.#arena.i32[block + B_INFO])?.isOwned?.(block) === true;
  }

  /** Drops one handle's reference. */
  release(block: Block): void {
    const held = this.#held.get(block);
    if (held === undefined || --held.count > 0) return;
    this.#held.delete(block);
    const m = this.#arena.i32;
    // What it still holds of the object is given up as by a death: closing a held lock abandons it.
    this.#rulesOf(m[block + B_INFO])?.scrubNode?.(block, held.node, this.#arena.token);
    Atomics.store(m, held.node + N_CHANNEL, 0);
    Atomics.store(m, held.node + N_CHANNEL2, 0);
    Atomics.store(m, held.node + N_HOLDER, 0);
    crashPoint("handle.release");
    this.collect(block);
  }

  /** A node of the block for `holder`: the one it has, or a free one. */
  claim(block: Block, holder: number): number {
    const m = this.#arena.i32;
    const nodes = nodesOf(m[block + B_INFO])!;
    for (;;) {
      let free = 0;
      const c = this.#cursor.start(block, nodes);
      while (c.next()) {
        const is = Atomics.load(m, c.at + N_HOLDER);
        if (is === holder) return c.at;
        if (is === 0 && free === 0) free = c.at;
      }
      if (free === 0) free = this.#addNodes(block, c.link, holder);
      else if (Atomics.compareExchange(m, free + N_HOLDER, 0, holder) !== 0) continue;
      if (free === 0) continue;
      crashPoint("handle.hold");
      Atomics.add(m, block + B_ADDS, 1);
      return free;
    }
  }

  /** One more node of a block that this agent holds, for a call. Looks on from where it found the last one: calls come and go in crowds. */
  claimAnother(block: Block): number {
    const m = this.#arena.i32;
    const { token } = this.#arena;
    const nodes = nodesOf(m[block + B_INFO])!;
    const held = this.#held.get(block)!;
    const c = held.free ??= new NodeCursor(m).start(block, nodes);
    for (let round = 0;; round++) {
      while (c.next()) {
        if (
          Atomics.load(m, c.at + N_HOLDER) === 0 &&
          Atomics.compareExchange(m, c.at + N_HOLDER, 0, token) === 0
        ) return c.at;
      }
      if (round > 0) {
        const added = this.#addNodes(block, c.link, token);
        if (added !== 0) return added;
      }
      // The end of the list stands where nodes would be added; what was given back lies before it.
      if (round === 0) c.start(block, nodes);
    }
  }

  #addNodes(block: Block, link: number, holder: number): number {
    const arena = this.#arena;
    const m = arena.i32;
    const more = arena.allocate(CLASS_BYTES[CLASS_512]);
    m.fill(0, more + B_OWNER, more + CLASS_BYTES[CLASS_512] / 4);
    m[more + M_PARENT] = block;
    m[more + M_BASE + N_HOLDER] = holder;
    arena.publish(more, K_NODES);
    if (Atomics.compareExchange(m, link, 0, more) === 0) return more + M_BASE;
    arena.discard(more);
    return 0;
  }

  #isLinked(more: Block): boolean {
    const m = this.#arena.i32;
    const parent = m[more + M_PARENT];
    if ((Atomics.load(m, parent + B_HEAD) & 3) === FREE || nodesOf(m[parent + B_INFO]) === null) return false;
    for (let at = Atomics.load(m, parent + B_MORE); at !== 0; at = Atomics.load(m, at + M_NEXT)) {
      if (at === more) return true;
    }
    return false;
  }

  /** Frees the block if nobody holds it. @param head as it was when the block was found, for who does not know that it still is there */
  collect(block: Block, head: number = Atomics.load(this.#arena.i32, block + B_HEAD)): void {
    const arena = this.#arena;
    const m = arena.i32;
    if ((head & 3) !== LIVE) return;
    const nodes = nodesOf(m[block + B_INFO]);
    if (nodes === null) return;
    for (;;) {
      // A reference moves by being added at one node and then removed at another. A scan that missed the first and came too late for the
      // second sees ADDS changed; one that did not may believe its eyes, for nobody can get a reference but from a holder.
      const adds = Atomics.load(m, block + B_ADDS);
      for (const c = this.#cursor.start(block, nodes); c.next();) {
        const holder = Atomics.load(m, c.at + N_HOLDER);
        if (holder === 0) continue;
        if (Atomics.load(m, block + B_HEAD) !== head) return;
        if (holder < 0) {
          if (this.#isKept(block, holder, c.at)) return;
          // Its number may have been raised since. While the node is ours, it cannot be.
          if (Atomics.compareExchange(m, c.at + N_HOLDER, holder, arena.token) !== holder) return;
          if (this.#isKept(block, holder, c.at)) return void Atomics.store(m, c.at + N_HOLDER, holder);
          Atomics.store(m, c.at + N_HOLDER, 0);
        } else if (!arena.isStale(holder)) return;
        else Atomics.compareExchange(m, c.at + N_HOLDER, holder, 0);
      }
      if (Atomics.load(m, block + B_ADDS) === adds) break;
    }
    if (arena.condemn(block, head)) this.#finish(block);
  }

  /** Whether what an IN_FLIGHT node of a block names still keeps the block. */
  #isKept(block: Block, holder: number, node: number): boolean {
    const m = this.#arena.i32;
    const keeper = (holder & LANE_MASK) << LANE_SHIFT;
    // One that is being freed still needs what it keeps: it lets go as its last step.
    if ((Atomics.load(m, keeper + B_HEAD) & 3) !== FREE) {
      const keeps = this.#rulesOf(m[keeper + B_INFO])?.keeps?.(keeper, block);
      if (keeps !== undefined) return keeps;
    }
    return this.#mayArrive(holder, node);
  }

  /** From now on `block` lives as long as `keeper`, a live block whose kind has a rule for it. The caller holds both. */
  keep(block: Block, keeper: Block): void {
    this.claim(block, IN_FLIGHT | (keeper >>> LANE_SHIFT));
  }

  /** Whether `keeper` keeps the block. Only who frees the keeper may rely on a yes. */
  isKeptBy(block: Block, keeper: Block): boolean {
    const m = this.#arena.i32;
    const nodes = nodesOf(m[block + B_INFO]);
    if (nodes === null) return false;
    const kept = IN_FLIGHT | (keeper >>> LANE_SHIFT);
    for (const c = new NodeCursor(m).start(block, nodes); c.next();) {
      if (Atomics.load(m, c.at + N_HOLDER) === kept) return true;
    }
    return false;
  }

  /** The condemned `keeper` keeps `block` no longer. Repeatable. */
  letGo(block: Block, keeper: Block): void {
    const m = this.#arena.i32;
    const nodes = nodesOf(m[block + B_INFO]);
    if (nodes === null) return;
    const kept = IN_FLIGHT | (keeper >>> LANE_SHIFT);
    const cursor = new NodeCursor(m).start(block, nodes);
    while (cursor.next()) Atomics.compareExchange(m, cursor.at + N_HOLDER, kept, 0);
    this.collect(block);
  }

  /** Whether a record that may carry the handle is still to be taken. */
  #mayArrive(holder: number, node: number): boolean {
    const m = this.#arena.i32;
    const lane = (holder & LANE_MASK) << LANE_SHIFT;
    if ((holder & RAISING) !== 0 && this.isLane(lane)) {
      const producer = Atomics.load(m, lane + LN_PRODUCER);
      if (producer !== 0 && !this.#arena.isStale(producer)) return true;
    }
    this.#install();
    return this.inFlight(lane, Atomics.load(m, node + N_AUX));
  }

  /** Frees all blocks that nobody holds. */
  sweep(): void {
    this.#arena.visitBlocks(0, (block, head) => this.collect(block, head), () => true);
  }

  #finish(block: Block): void {
    const arena = this.#arena;
    const m = arena.i32;
    const kind = m[block + B_INFO];
    this.#rulesOf(kind)?.finish?.(block);
    if (nodesOf(kind) !== null) {
      for (let more = m[block + B_MORE]; more !== 0; more = m[block + B_MORE]) {
        this.drop(block + B_MORE, more, m[more + M_NEXT]);
      }
    }
    arena.free(block);
  }

  /** Unlinks a block that hangs on a condemned one and frees it. */
  drop(link: number, block: Block, next: number): void {
    const m = this.#arena.i32;
    Atomics.store(m, block + B_OWNER, this.#arena.token);
    Atomics.store(m, link, next);
    this.#arena.discard(block);
  }

  /** Removes an agent from a block: see `Agents.scrub`. */
  readonly scrub = (block: Block, dead: number, head: number): void => {
    const arena = this.#arena;
    const m = arena.i32;
    const kind = m[block + B_INFO];
    if (Atomics.load(m, block + B_HEAD) !== head) return;
    if ((head & 3) === DYING) {
      // What the dead agent condemned, nobody else touches.
      if (((head >>> 2) & 0x3ff) === arena.slot) this.#finish(block);
      return;
    }
    const rules = this.#rulesOf(kind);
    rules?.scrubBlock?.(block, dead, head);
    const nodes = nodesOf(kind);
    if (nodes === null) return;
    let mine = 0;
    const cursor = new NodeCursor(m).start(block, nodes);
    while (cursor.next()) {
      if (Atomics.load(m, cursor.at + N_HOLDER) !== dead) continue;
      // If this still is the block, then the dead agent's own reference keeps it until the store below.
      if (Atomics.load(m, block + B_HEAD) !== head) return;
      mine++;
      rules?.passOn?.(block, cursor.at, dead);
      Atomics.store(m, cursor.at + N_CHANNEL, 0);
      Atomics.store(m, cursor.at + N_CHANNEL2, 0);
      rules?.scrubNode?.(block, cursor.at, dead);
      Atomics.add(m, block + B_ADDS, 1);
      Atomics.store(m, cursor.at + N_HOLDER, 0);
    }
    this.collect(block, head);
  };

  /** Notes that a handle to `block` travels in record `number` of a lane: the block lives until that record is taken. */
  carry(block: Block, lane: Block, number: number): void {
    const m = this.#arena.i32;
    const carried = IN_FLIGHT | (lane >>> LANE_SHIFT);
    // Nobody takes the node away while it says RAISING and this agent, the lane's only producer, lives.
    const raising = carried | RAISING;
    let node = 0;
    const cursor = this.#cursor.start(block, nodesOf(m[block + B_INFO])!);
    while (node === 0 && cursor.next()) {
      if (Atomics.compareExchange(m, cursor.at + N_HOLDER, carried, raising) === carried) node = cursor.at;
    }
    if (node === 0) node = this.claim(block, raising);
    Atomics.store(m, node + N_AUX, number);
    Atomics.store(m, node + N_HOLDER, carried);
    Atomics.add(m, block + B_ADDS, 1);
  }

  /** Whether a block is a live lane. */
  isLane(block: Block): boolean {
    return (Atomics.load(this.#arena.i32, block + B_HEAD) & 3) !== FREE && this.#arena.kind(block) === K_LANE;
  }
}
