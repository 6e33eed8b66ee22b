/**
 * The arena's memory: spans claimed by agents, blocks handed out from them.
 *
 * Each agent allocates only from spans that it owns, so that creating something never waits for another process. Anyone may free: that
 * changes the block's HEAD, and the span's owner finds it when it next runs out. Spans of dead agents are adopted.
 *
 * @module
 */
import { extend, mapShared, punchHole, unmapShared } from "../../platform/mod.ts";
import { crashPoint } from "./crash.ts";
import {
  A_GEN,
  AGENT_WORDS,
  AGENTS,
  B_HEAD,
  B_INFO,
  B_OWNER,
  CLASS_BYTES,
  CONTINUED,
  DYING,
  FIRST_SPAN,
  FREE,
  GENERATION_SHIFT,
  H_CAP,
  H_DIRTY,
  H_EXTENT,
  H_GENERATION,
  LIVE,
  MAX_SPANS,
  SPAN_BYTES,
  SPAN_CLASS,
  SPAN_MULTI,
  SPAN_SHIFT,
  SPAN_WORDS,
  SPANS,
  TOKEN_SLOT_BITS,
  TOKEN_SLOT_MASK,
} from "./layout.ts";

/** Word index of a block. */
export type Block = number;

const LARGEST_CLASS = CLASS_BYTES.length - 1;
const GENERATIONS = (1 << (32 - GENERATION_SHIFT)) - 1;
/** The file grows by steps of 256 KiB to 4 MiB: `posix_fallocate` takes about 0.28 ms a MiB. */
const SMALLEST_STEP = 4;
const LARGEST_STEP = 64;
const PAGE = 4096;
/** A visit of all blocks looks whether it is to stop every so many blocks: some 5 µs. */
const STRIDE = 64;
/** Freed spans keep their pages, warm for the next message, up to this many (8 MiB). */
const DIRTY_SPANS = 128;

/** What an arena holds, for tests and inspection. */
export interface ArenaUse {
  /** Spans of 64 KiB that the file holds. */
  readonly extent: number;
  /** Spans owned by some agent, dead or alive. */
  readonly claimed: number;
  /** Blocks that are live or dying. */
  readonly blocks: number;
}

export class Arena {
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly address: number;
  readonly buffer: ArrayBuffer;
  readonly fd: number;
  /** Token and slot of the agent whose view this is; set once it has a slot. */
  token = 0;
  slot = 0;
  /** Free blocks of each class in spans of ours. What is in here is FREE in shared memory, so a kill loses nothing. */
  readonly #free: Block[][] = CLASS_BYTES.map(() => []);
  readonly #owned: number[][] = CLASS_BYTES.map(() => []);
  /** How many blocks of each span are in `#free`, and how many spans of each class have all of theirs there. */
  readonly #freeIn: Uint16Array;
  readonly #empty: number[] = CLASS_BYTES.map(() => 0);
  #searchFrom = FIRST_SPAN;
  #i64: BigInt64Array | undefined;

  /** @param bytes address space to map once and for ever: the most that the file may grow to */
  constructor(fd: number, bytes: number) {
    // Before the mapping: V8 answers a buffer that is made right after it with a collection.
    this.#freeIn = new Uint16Array(bytes / SPAN_BYTES);
    const { address, buffer } = mapShared(fd, bytes);
    this.fd = fd;
    this.address = address;
    this.buffer = buffer;
    this.i32 = new Int32Array(buffer);
    this.u8 = new Uint8Array(buffer);
  }

  /** The same memory by 64-bit words, made when first needed. */
  get i64(): BigInt64Array {
    return this.#i64 ??= new BigInt64Array(this.buffer);
  }

  /** Unmaps. Every view of the arena is detached first, so that a late use throws instead of crashing. */
  unmap(): void {
    unmapShared(this);
  }

  /**
   * A block of at least `bytes` bytes, FREE still and with stale contents: write it, then {@linkcode publish} it.
   *
   * @throws {RangeError} when the arena is at its cap.
   */
  allocate(bytes: number): Block {
    for (let c = 0; c <= LARGEST_CLASS; c++) {
      if (bytes > CLASS_BYTES[c]) continue;
      const block = this.#free[c].pop() ?? this.#refill(c);
      if (this.#freeIn[block >>> SPAN_SHIFT]-- === blocksIn(c)) this.#empty[c]--;
      return block;
    }
    return this.#allocateSpans(Math.ceil(bytes / SPAN_BYTES));
  }

  /** Makes a written block live and returns its generation. */
  publish(block: Block, kind: number): number {
    const m = this.i32;
    m[block + B_INFO] = kind;
    m[block + B_OWNER] = this.token;
    crashPoint("arena.publish");
    const generation = (((m[block + B_HEAD] >>> GENERATION_SHIFT) + 1) & GENERATIONS) || 1;
    Atomics.store(m, block + B_HEAD, (generation << GENERATION_SHIFT) | LIVE);
    return generation;
  }

  generation(block: Block): number {
    return Atomics.load(this.i32, block + B_HEAD) >>> GENERATION_SHIFT;
  }

  isLive(block: Block, generation: number): boolean {
    return Atomics.load(this.i32, block + B_HEAD) === ((generation << GENERATION_SHIFT) | LIVE);
  }

  kind(block: Block): number {
    return this.i32[block + B_INFO];
  }

  /** LIVE -> DYING, by one agent only. `false` when another did, or the block is not of this generation any more. */
  condemn(block: Block, head: number): boolean {
    if ((head & 3) !== LIVE) return false;
    const dying = ((head >>> GENERATION_SHIFT) << GENERATION_SHIFT) | (this.slot << 2) | DYING;
    return Atomics.compareExchange(this.i32, block + B_HEAD, head, dying) === head;
  }

  /** DYING -> FREE. Only for the agent that condemned the block, or the reaper of its slot. */
  free(block: Block): void {
    const m = this.i32;
    crashPoint("arena.dying");
    const span = block >>> SPAN_SHIFT;
    const info = Atomics.load(m, SPANS + span * 2 + 1);
    if (info & SPAN_MULTI) {
      // Ours from here on, so that our own reaper finds it whatever step we die at.
      Atomics.store(m, SPANS + span * 2, this.token);
      return this.#freeSpans(span, info & ~SPAN_MULTI);
    }
    Atomics.store(m, block + B_HEAD, (m[block + B_HEAD] >>> GENERATION_SHIFT) << GENERATION_SHIFT);
    if (Atomics.load(m, SPANS + span * 2) !== this.token) return;
    const c = info & 0xff;
    this.#push(block, c);
    // Half of what is looked through is given back, so freeing one block costs the same however many there are.
    if (this.#empty[c] > 1 && this.#empty[c] * 2 * blocksIn(c) > this.#free[c].length) this.#trim(c);
  }

  /** Condemns and frees a block that nothing hangs on. @param head as it was when the block was found, for who does not know that it still is there */
  discard(block: Block, head: number = Atomics.load(this.i32, block + B_HEAD)): void {
    if (this.condemn(block, head)) this.free(block);
  }

  /** A token is stale once its slot was scrubbed; nothing in shared memory refers to it but what is adopted on sight. */
  isStale(token: number): boolean {
    return Atomics.load(this.i32, AGENTS + (token & TOKEN_SLOT_MASK) * AGENT_WORDS + A_GEN) !==
      token >>> TOKEN_SLOT_BITS;
  }

  /**
   * Calls `visit` for each block that is live or dying, from block `first` on, until `more()` is false, which is asked every {@linkcode STRIDE}
   * blocks; returns where to go on, or 0 at the end.
   *
   * A visitor may have been stopped since it found the block, and the memory been given to something else: what it concludes from words of the
   * block counts only if HEAD still is `head` after they were read, and {@linkcode condemn} with `head` is safe at any time.
   */
  visitBlocks(first: Block, visit: (block: Block, head: number) => void, more: () => boolean): Block {
    const m = this.i32;
    const extent = Atomics.load(m, H_EXTENT);
    let visited = 0;
    for (let span = Math.max(first >>> SPAN_SHIFT, FIRST_SPAN); span < extent; span++) {
      const start = span << SPAN_SHIFT;
      if (++visited % STRIDE === 0 && !more()) return start;
      const owner = Atomics.load(m, SPANS + span * 2);
      if (owner === 0 || owner < 0) continue;
      const info = Atomics.load(m, SPANS + span * 2 + 1);
      if (info & SPAN_MULTI) {
        const head = Atomics.load(m, start + B_HEAD);
        if ((head & 3) !== FREE && Atomics.load(m, SPANS + span * 2 + 1) === info) visit(start, head);
      } else if (info & SPAN_CLASS) {
        const words = CLASS_BYTES[info & 0xff] / 4;
        // A block of another class may begin elsewhere than the one that was the next when the last visit stopped here.
        for (let b = Math.max(start, first & ~(words - 1)), end = start + SPAN_WORDS; b < end; b += words) {
          if (++visited % STRIDE === 0 && !more()) return b;
          const head = Atomics.load(m, b + B_HEAD);
          // A span that changed hands meanwhile holds something else now, data perhaps.
          if ((head & 3) !== FREE && Atomics.load(m, SPANS + span * 2 + 1) === info) visit(b, head);
        }
      }
    }
    return 0;
  }

  /**
   * Gives back what a dead agent's spans do not need: half-claimed spans, unpublished large blocks, and spans without a live block. Goes from span
   * `first` on until `more()` is false; returns where to go on, or 0 at the end.
   */
  reclaimSpans(dead: number, first: number, more: () => boolean): number {
    const m = this.i32;
    const extent = Atomics.load(m, H_EXTENT);
    for (let span = Math.max(first, FIRST_SPAN); span < extent; span++) {
      const at = SPANS + span * 2;
      const owner = Atomics.load(m, at);
      if (owner <= 0 || (owner !== dead && !this.isStale(owner))) continue;
      const info = Atomics.load(m, at + 1);
      // Whoever changes OWNER from the dead token owns the span alone from then on.
      if (info & SPAN_MULTI) {
        const unpublished = (Atomics.load(m, (span << SPAN_SHIFT) + B_HEAD) & 3) === FREE;
        if (unpublished && this.#take(at, owner)) this.#freeSpans(span, info & ~SPAN_MULTI);
      } else if (info === 0) {
        if (this.#take(at, owner)) this.#freeSpans(span, MAX_SPANS);
      } else if (this.#isEmpty(span, info & 0xff) && this.#take(at, owner)) {
        // No one allocates from a dead agent's span, so empty stays empty.
        this.#releaseSpan(span);
      }
      if (!more()) return span + 1;
    }
    return 0;
  }

  /** When this agent leaves: gives back its empty spans; the others wait for an adopter. */
  leave(): void {
    for (let c = 0; c <= LARGEST_CLASS; c++) {
      this.#clear(c);
      for (const span of this.#owned[c]) if (this.#isEmpty(span, c)) this.#releaseSpan(span);
      this.#owned[c].length = 0;
    }
  }

  use(): ArenaUse {
    const m = this.i32;
    const extent = Atomics.load(m, H_EXTENT);
    let claimed = 0;
    let blocks = 0;
    for (let span = FIRST_SPAN; span < extent; span++) if (Atomics.load(m, SPANS + span * 2) !== 0) claimed++;
    this.visitBlocks(0, () => blocks++, () => true);
    return { extent, claimed, blocks };
  }

  #take(at: number, owner: number): boolean {
    return Atomics.compareExchange(this.i32, at, owner, this.token) === owner;
  }

  #refill(c: number): Block {
    const stack = this.#free[c];
    const owned = this.#owned[c];
    for (const span of owned) this.#collect(span, c);
    // Fewer than a quarter free would mean scanning all over again soon.
    if (stack.length === 0 || stack.length * 4 < owned.length * blocksIn(c)) {
      const adopted = this.#adopt(c);
      const span = adopted ?? this.#claimSpan(c, stack.length > 0);
      if (span !== 0) owned.push(span);
      if (adopted !== undefined) this.#collect(adopted, c);
    }
    return stack.pop() ?? this.#refill(c);
  }

  #collect(span: number, c: number): void {
    const m = this.i32;
    const words = CLASS_BYTES[c] / 4;
    for (
      let b = (span << SPAN_SHIFT) + SPAN_WORDS - words, first = span << SPAN_SHIFT;
      b >= first;
      b -= words
    ) {
      if ((Atomics.load(m, b + B_HEAD) & 3) === FREE) this.#push(b, c);
    }
  }

  #push(block: Block, c: number): void {
    this.#free[c].push(block);
    if (++this.#freeIn[block >>> SPAN_SHIFT] === blocksIn(c)) this.#empty[c]++;
  }

  #clear(c: number): void {
    this.#free[c].length = 0;
    this.#empty[c] = 0;
    for (const span of this.#owned[c]) this.#freeIn[span] = 0;
  }

  /** A dead agent's span of this class, if there is one. */
  #adopt(c: number): number | undefined {
    const m = this.i32;
    const extent = Atomics.load(m, H_EXTENT);
    for (let span = FIRST_SPAN; span < extent; span++) {
      const at = SPANS + span * 2;
      const owner = Atomics.load(m, at);
      if (
        owner > 0 && owner !== this.token && this.isStale(owner) &&
        Atomics.load(m, at + 1) === (SPAN_CLASS | c) && this.#take(at, owner)
      ) {
        return span;
      }
    }
    return undefined;
  }

  #claimSpan(c: number, optional: boolean): number {
    const span = this.#claimRun(1, optional);
    if (span === 0) return 0;
    const m = this.i32;
    const fresh = Atomics.add(m, H_GENERATION, 1) & GENERATIONS;
    const words = CLASS_BYTES[c] / 4;
    const stack = this.#free[c];
    const first = span << SPAN_SHIFT;
    for (let b = first + SPAN_WORDS - words; b >= first; b -= words) {
      m[b + B_HEAD] = fresh << GENERATION_SHIFT;
      stack.push(b);
    }
    Atomics.store(m, SPANS + span * 2 + 1, SPAN_CLASS | c);
    return span;
  }

  #allocateSpans(count: number): Block {
    const span = this.#claimRun(count, false);
    const m = this.i32;
    m[(span << SPAN_SHIFT) + B_HEAD] = (Atomics.add(m, H_GENERATION, 1) & GENERATIONS) << GENERATION_SHIFT;
    Atomics.store(m, SPANS + span * 2 + 1, SPAN_MULTI | count);
    return span << SPAN_SHIFT;
  }

  /** Claims `count` spans in a row; 0 when `optional` and the arena is at its cap. */
  #claimRun(count: number, optional: boolean): number {
    const m = this.i32;
    for (let from = this.#searchFrom;;) {
      const extent = Atomics.load(m, H_EXTENT);
      let first = from;
      for (let span = from; span < extent; span++) {
        if (Atomics.load(m, SPANS + span * 2) !== 0) first = span + 1;
        else if (span - first + 1 === count) {
          if (this.#claimAll(first, count)) {
            this.#searchFrom = count === 1 ? first + 1 : this.#searchFrom;
            return first;
          }
          first = span + 1;
        }
      }
      if (from > FIRST_SPAN) {
        from = this.#searchFrom = FIRST_SPAN;
        continue;
      }
      if (!this.#grow(extent, count - (extent - first))) {
        if (optional) return 0;
        const cap = this.buffer.byteLength / 2 ** 20;
        throw new RangeError(
          `Cannot allocate ${
            count * SPAN_BYTES
          } bytes of shared memory: the session's arena is at its cap of ${cap} MiB; take items out of its queues, dispose handles, or set GEVENTMP_ARENA_MIB to a larger cap (at most 4096) before the first process of the session starts`,
        );
      }
    }
  }

  #claimAll(first: number, count: number): boolean {
    const m = this.i32;
    if (Atomics.compareExchange(m, SPANS + first * 2, 0, this.token) !== 0) return false;
    Atomics.store(m, SPANS + first * 2 + 1, 0);
    if (Atomics.sub(m, H_DIRTY, count) < count) Atomics.store(m, H_DIRTY, 0);
    crashPoint("arena.claim");
    for (let span = first + 1; span < first + count; span++) {
      crashPoint("arena.multi");
      if (Atomics.compareExchange(m, SPANS + span * 2, 0, CONTINUED | first) !== 0) {
        this.#freeSpans(first, span - first);
        return false;
      }
    }
    return true;
  }

  /** Extends the file. The system call may be repeated by any number of agents; the extent only rises. */
  #grow(extent: number, needed: number): boolean {
    const m = this.i32;
    const cap = Math.min(Atomics.load(m, H_CAP), MAX_SPANS);
    if (extent + needed > cap) return false;
    const target = Math.min(
      cap,
      extent + Math.max(needed, Math.min(LARGEST_STEP, Math.max(SMALLEST_STEP, extent - FIRST_SPAN))),
    );
    for (let at = extent; at < target;) {
      const next = Math.min(at + LARGEST_STEP, target);
      extend(this.fd, at * SPAN_BYTES, (next - at) * SPAN_BYTES);
      let seen = Atomics.load(m, H_EXTENT);
      while (seen < next) {
        const found = Atomics.compareExchange(m, H_EXTENT, seen, next);
        if (found === seen) break;
        seen = found;
      }
      at = next;
    }
    return true;
  }

  /** From the last span to the first, so that a kill leaves a shorter run which still says how far it goes. */
  #freeSpans(first: number, count: number): void {
    const m = this.i32;
    const continued = CONTINUED | first;
    let end = first + 1;
    const limit = Math.min(first + count, Atomics.load(m, H_EXTENT));
    while (end < limit && Atomics.load(m, SPANS + end * 2) === continued) end++;
    if (Atomics.load(m, H_DIRTY) + end - first <= DIRTY_SPANS) Atomics.add(m, H_DIRTY, end - first);
    // All but the first page, whose HEAD says who is freeing it.
    else punchHole(this.fd, first * SPAN_BYTES + PAGE, (end - first) * SPAN_BYTES - PAGE);
    for (let span = end - 1; span > first; span--) Atomics.compareExchange(m, SPANS + span * 2, continued, 0);
    this.#releaseSpan(first);
  }

  #releaseSpan(span: number): void {
    Atomics.store(this.i32, SPANS + span * 2 + 1, 0);
    Atomics.store(this.i32, SPANS + span * 2, 0);
    if (span < this.#searchFrom) this.#searchFrom = span;
  }

  #isEmpty(span: number, c: number): boolean {
    const m = this.i32;
    const words = CLASS_BYTES[c] / 4;
    for (let b = span << SPAN_SHIFT, end = b + SPAN_WORDS; b < end; b += words) {
      if ((Atomics.load(m, b + B_HEAD) & 3) !== FREE) return false;
    }
    return true;
  }

  /** Gives back all empty spans of a class but one. */
  #trim(c: number): void {
    const all = blocksIn(c);
    const free = this.#free[c];
    const spare = free[free.length - 1] >>> SPAN_SHIFT;
    const goes = (span: number): boolean => span !== spare && this.#freeIn[span] === all;
    this.#free[c] = free.filter((block) => !goes(block >>> SPAN_SHIFT));
    this.#owned[c] = this.#owned[c].filter((span) => {
      if (!goes(span)) return true;
      this.#freeIn[span] = 0;
      this.#empty[c]--;
      this.#releaseSpan(span);
      return false;
    });
  }
}

function blocksIn(c: number): number {
  return SPAN_BYTES / CLASS_BYTES[c];
}
