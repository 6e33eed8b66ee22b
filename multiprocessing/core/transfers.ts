/**
 * Transfers: how a message that is too large for a direction's lanes goes through a few slots, however large it is. `layout.ts` has the states.
 *
 * The sender keeps its message until the receiver says DONE, so nothing is lost with either of them but what its own death takes:
 *
 * | killed | what becomes of the message |
 * |---|---|
 * | the sender, before DONE | nobody gets it, not even a part: CANCELLED |
 * | the receiver, before DONE | the sender sends it again from its first byte, to whoever has the receiving end now |
 * | the receiver, after DONE | its program had it |
 * | the receiver, RECEIVER set, the record not DONE | as before; the record is one more notice, which is passed over |
 *
 * Both sides are written as generators that yield what they wait for, so that one text serves the promises and the `…Sync` methods.
 *
 * @module
 */
import { timers } from "../../platform/runtime/timers.ts";
import { type HandleId, kHandle } from "../codec/mod.ts";
import type { Block } from "./arena.ts";
import { now, section } from "./clock.ts";
import { crashPoint } from "./crash.ts";
import {
  K_TRANSFER,
  N_CHANNEL,
  N_CHANNEL2,
  SYNC_NODES,
  TR_ABANDONED,
  TR_CANCELLED,
  TR_DATA,
  TR_DONE,
  TR_FILLED,
  TR_FIRST,
  TR_KIND,
  TR_LENGTH,
  TR_OPEN,
  TR_RECEIVER,
  TR_RECEIVER_WAITS,
  TR_SENDER,
  TR_SENDER_WAITS,
  TR_SLOT_BYTES,
  TR_SLOTS,
  TR_STATE,
  TR_TAKEN,
} from "./layout.ts";
import { onOpen, type Session } from "./session.ts";
import { NOTHING, type Source, WaitList, type WaitOptions } from "./waits.ts";
import { SessionError, TimeoutError } from "../errors.ts";

/** Copying goes on for this long before the loop turns; a slot may take 0.3 ms more. */
const LONGEST_MS = 1;
const BYTES = (TR_DATA * 4) + TR_SLOTS * TR_SLOT_BYTES;

/** What a side of a transfer stops for: others (a list to wait in), or a turn of the loop (null). */
export type Steps<T> = Generator<WaitList<true> | null, T>;

const box = new Float64Array(1);
const boxWords = new Int32Array(box.buffer);

function writeSize(m: Int32Array, at: number, size: number): void {
  box[0] = size;
  m[at] = boxWords[0];
  m[at + 1] = boxWords[1];
}

function readSize(m: Int32Array, at: number): number {
  boxWords[0] = m[at];
  boxWords[1] = m[at + 1];
  return box[0];
}

function wake(session: Session, block: Block, flag: number): void {
  if (Atomics.load(session.arena.i32, block + flag) === 0) return;
  Atomics.store(session.arena.i32, block + flag, 0);
  session.waits.wakeNext(block, SYNC_NODES, flag === TR_SENDER_WAITS ? N_CHANNEL : N_CHANNEL2);
}

/** One side of a transfer, and where it waits for the other. */
abstract class Side {
  readonly session: Session;
  readonly block: Block;
  protected readonly m: Int32Array;
  protected readonly waiters: WaitList<true>;

  constructor(session: Session, block: Block, node: number, flag: number) {
    this.session = session;
    this.block = block;
    this.m = session.arena.i32;
    const source: Source<true> = {
      attempt: () => this.isDue() ? true : NOTHING,
      mark: () => {
        Atomics.store(this.m, block + flag, 1);
        return this.isDue();
      },
      reserve: () => {},
      pass: () => {},
      check: (isDead) => this.check(isDead),
    };
    this.waiters = new WaitList(
      session.waits,
      block,
      node,
      flag === TR_SENDER_WAITS ? N_CHANNEL : N_CHANNEL2,
      source,
      (ms) => new TimeoutError(`Cannot send: the message was not received within ${ms} ms`),
    );
  }

  /** Whether there is something to do. */
  protected abstract isDue(): boolean;
  protected abstract check(isDead: (token: number) => boolean): void;

  protected load(word: number): number {
    return Atomics.load(this.m, this.block + word);
  }

  protected exchange(word: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.m, this.block + word, from, to) === from;
  }

  protected slot(number: number): number {
    return (this.block + TR_DATA) * 4 + (number % TR_SLOTS) * TR_SLOT_BYTES;
  }

  /** The other side died: its scrub changes the words. */
  protected reapIfDead(token: number, isDead: (token: number) => boolean): void {
    if (token > 0 && isDead(token)) this.session.agents.reap(token);
  }
}

/** The direction that a transfer goes, as its sender sees it. */
export interface Way {
  /** Puts a record that carries a handle to the transfer. */
  announce(handle: object): void;
  /** Whether nobody has the receiving end any more. */
  isClosed(): boolean;
  /** Looks whether those who have it live. */
  check(isDead: (token: number) => boolean): void;
  /** Kept as long as the transfer goes on: the handle of the sending end. */
  readonly handle: object;
}

/** The sender's side. */
export class Outgoing extends Side {
  readonly #parts: readonly Uint8Array[];
  readonly #sizes: readonly number[];
  readonly #way: Way;
  #part = 0;
  #stopped: unknown;
  #offset = 0;

  /**
   * @param message how it is cut, which its receiver is told, its parts, and its length
   */
  constructor(
    session: Session,
    { kind, parts, byteLength }: { kind: number; parts: readonly Uint8Array[]; byteLength: number },
    way: Way,
  ) {
    const m = session.arena.i32;
    const { block, held } = session.references.create(K_TRANSFER, BYTES, (at) => {
      for (const word of [TR_SENDER_WAITS, TR_RECEIVER_WAITS]) m[at + word] = 0;
      m[at + TR_SENDER] = session.token;
      m[at + TR_KIND] = kind;
      writeSize(m, at + TR_FIRST, parts[0].length);
      writeSize(m, at + TR_LENGTH, byteLength);
    });
    super(session, block, held.node, TR_SENDER_WAITS);
    this.#parts = parts;
    this.#sizes = parts.map(({ length }) => length);
    this.#way = way;
    crashPoint("transfer.made");
  }

  /** Sends until the message was received. The answer is whether it was: not, when the other end is gone. */
  *run(): Steps<boolean> {
    const { m, block } = this;
    this.#tell();
    for (let until = now() + LONGEST_MS;;) {
      const state = this.load(TR_STATE);
      if (state === TR_DONE) return true;
      if (state === TR_CANCELLED) throw this.#stopped;
      if (this.#way.isClosed()) return !this.cancel();
      if (this.load(TR_RECEIVER) === TR_ABANDONED) {
        this.#part = this.#offset = 0;
        Atomics.store(m, block + TR_FILLED, 0);
        Atomics.store(m, block + TR_TAKEN, 0);
        Atomics.store(m, block + TR_RECEIVER, 0);
        crashPoint("transfer.again");
        this.#tell();
      } else if (this.#hasRoom()) {
        this.#fill();
        if (now() > until) {
          yield null;
          until = now() + LONGEST_MS;
        }
      } else {
        yield this.waiters;
        until = now() + LONGEST_MS;
      }
    }
  }

  /** Ends it. `false`: it had been received by then. */
  cancel(): boolean {
    this.exchange(TR_STATE, TR_OPEN, TR_CANCELLED);
    wake(this.session, this.block, TR_RECEIVER_WAITS);
    return this.load(TR_STATE) !== TR_DONE;
  }

  /** Ends it, and who waits for its end. */
  stop(reason: unknown): void {
    this.#stopped = reason;
    this.cancel();
    this.waiters.rejectAll(reason);
  }

  /** The error of a wait whose time is over. */
  timedOut(ms: number): Error {
    return this.waiters.timedOut(ms);
  }

  /** Lets go of the block. */
  close(): void {
    this.session.references.release(this.block);
  }

  #tell(): void {
    const { block } = this;
    const id: HandleId = { kind: K_TRANSFER, block, generation: this.session.arena.generation(block) };
    this.#way.announce({ [kHandle]: () => id });
    crashPoint("transfer.announced");
  }

  #hasRoom(): boolean {
    return this.#part < this.#parts.length && this.load(TR_FILLED) - this.load(TR_TAKEN) < TR_SLOTS;
  }

  #fill(): void {
    const part = this.#parts[this.#part];
    const size = this.#sizes[this.#part];
    if (part.length !== size) {
      throw new TypeError(
        "Cannot send: a buffer in the message was transferred away or shrunk before it was received; keep it until `send` is done, or send a copy",
      );
    }
    const filled = this.load(TR_FILLED);
    const end = Math.min(size, this.#offset + TR_SLOT_BYTES);
    this.session.arena.u8.set(part.subarray(this.#offset, end), this.slot(filled));
    this.#offset = end;
    if (end === size) {
      this.#part++;
      this.#offset = 0;
    }
    crashPoint("transfer.filled");
    Atomics.store(this.m, this.block + TR_FILLED, filled + 1);
    wake(this.session, this.block, TR_RECEIVER_WAITS);
  }

  protected override isDue(): boolean {
    return this.load(TR_STATE) !== TR_OPEN || this.load(TR_RECEIVER) === TR_ABANDONED || this.#hasRoom() ||
      this.#way.isClosed();
  }

  protected override check(isDead: (token: number) => boolean): void {
    this.reapIfDead(this.load(TR_RECEIVER), isDead);
    this.#way.check(isDead);
  }
}

/** The receiver's side. */
export class Incoming extends Side {
  /** How the message is cut. */
  readonly kind: number;
  /** Bytes of the first part. */
  readonly firstBytes: number;
  /** Bytes of the message. */
  readonly byteLength: number;
  /** What has been received; whole once {@linkcode run} says so. */
  readonly parts: Uint8Array[] = [];

  private constructor(session: Session, block: Block, node: number) {
    super(session, block, node, TR_RECEIVER_WAITS);
    this.kind = this.m[block + TR_KIND];
    this.firstBytes = readSize(this.m, block + TR_FIRST);
    this.byteLength = readSize(this.m, block + TR_LENGTH);
  }

  /** Whether a transfer that a record tells of is over, or has a receiver. */
  static isVoid(session: Session, block: Block): boolean {
    const m = session.arena.i32;
    const sender = m[block + TR_SENDER];
    if (Atomics.load(m, block + TR_STATE) !== TR_OPEN || Atomics.load(m, block + TR_RECEIVER) !== 0) {
      return true;
    }
    return session.arena.isStale(sender) || session.agents.isDead(sender);
  }

  /** Becomes the receiver. To be called while the record that tells of the block keeps it. `null`: it is void. */
  static begin(session: Session, block: Block): Incoming | null {
    if (Incoming.isVoid(session, block)) return null;
    const { references, token, arena } = session;
    const held = references.hold(block);
    if (Atomics.compareExchange(arena.i32, block + TR_RECEIVER, 0, token) !== 0) {
      references.release(block);
      return null;
    }
    crashPoint("transfer.begun");
    return new Incoming(session, block, held.node);
  }

  /**
   * Receives the parts.
   *
   * @param layOut given the first part, or null before there is one: where the next parts are to lie, none when there are no more
   * @returns whether the message is whole; otherwise its sender gave up, or died
   */
  *run(layOut: (first: Uint8Array | null) => Uint8Array[]): Steps<boolean> {
    this.parts.push(...layOut(null));
    let part = 0;
    let offset = 0;
    for (let until = now() + LONGEST_MS;;) {
      while (part < this.parts.length && offset === this.parts[part].length) {
        if (part++ === 0) this.parts.push(...layOut(this.parts[0]));
        offset = 0;
      }
      if (part === this.parts.length) return true;
      if (this.load(TR_STATE) !== TR_OPEN) return false;
      if (!this.#hasPiece()) {
        yield this.waiters;
        until = now() + LONGEST_MS;
        continue;
      }
      const taken = this.load(TR_TAKEN);
      const target = this.parts[part];
      const size = Math.min(TR_SLOT_BYTES, target.length - offset);
      const from = this.slot(taken);
      target.set(this.session.arena.u8.subarray(from, from + size), offset);
      offset += size;
      crashPoint("transfer.taken");
      Atomics.store(this.m, this.block + TR_TAKEN, taken + 1);
      wake(this.session, this.block, TR_SENDER_WAITS);
      if (now() > until) {
        yield null;
        until = now() + LONGEST_MS;
      }
    }
  }

  /** The program has the message. `false`: its sender gave up before. */
  finish(): boolean {
    const done = this.exchange(TR_STATE, TR_OPEN, TR_DONE);
    crashPoint("transfer.done");
    wake(this.session, this.block, TR_SENDER_WAITS);
    this.session.references.release(this.block);
    return done;
  }

  /** Somebody else is to receive it, from its first byte. */
  abandon(): void {
    Atomics.store(this.m, this.block + TR_RECEIVER, TR_ABANDONED);
    crashPoint("transfer.abandoned");
    wake(this.session, this.block, TR_SENDER_WAITS);
    this.waiters.rejectAll(new Error("abandoned"));
    this.session.references.release(this.block);
  }

  #hasPiece(): boolean {
    return this.load(TR_TAKEN) !== this.load(TR_FILLED);
  }

  protected override isDue(): boolean {
    return this.#hasPiece() || this.load(TR_STATE) !== TR_OPEN;
  }

  protected override check(isDead: (token: number) => boolean): void {
    this.reapIfDead(this.m[this.block + TR_SENDER], isDead);
  }
}

/** Takes the steps of a side while the loop turns. */
export async function drive<T>(
  session: Session,
  steps: Steps<T>,
  w: WaitOptions,
  timeout: number,
): Promise<T> {
  const deadline = now() + timeout;
  for (;;) {
    let step: IteratorResult<WaitList<true> | null, T> | undefined;
    section(() => step = steps.next());
    const { done, value } = step!;
    if (done) return value;
    w.signal?.throwIfAborted();
    if (value !== null) await value.wait(w, Math.max(deadline - now(), 0));
    else await new Promise<void>((resolve) => timers().setImmediate(resolve));
    if (session.closed) throw new SessionError("Cannot go on: the session was disposed in this agent");
  }
}

/** Takes one step of a side, and blocks the thread for what it waits for. */
export function driveSync<T>(session: Session, steps: Steps<T>, left: number): IteratorResult<unknown, T> {
  const step = steps.next();
  if (!step.done && step.value !== null) session.waits.waitSync(step.value, left);
  return step;
}

onOpen((session) => {
  const m = session.arena.i32;
  session.references.rule(K_TRANSFER, {
    scrubNode: (block, _node, dead) => {
      if (m[block + TR_SENDER] === dead) {
        Atomics.compareExchange(m, block + TR_STATE, TR_OPEN, TR_CANCELLED);
      }
      Atomics.compareExchange(m, block + TR_RECEIVER, dead, TR_ABANDONED);
      for (const flag of [TR_SENDER_WAITS, TR_RECEIVER_WAITS]) wake(session, block, flag);
    },
  });
});
