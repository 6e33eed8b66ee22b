/**
 * One direction of a pipe, as an agent sees it: messages in order, with a bound on what lies in it, until one of its ends is gone.
 *
 * What a message is stands in its first byte. Small ones lie in lanes, as a queue's items do (`lanes.ts`); of a large one there is a record that
 * names its transfer (`transfers.ts`). While this agent receives or sends a large one, what follows waits, so that order is kept.
 *
 * @module
 */
import { decode, type HandleId, kHandle } from "../codec/mod.ts";
import { errnos, SystemError } from "../../platform/mod.ts";
import { BufferTooShort, EOFError, TimeoutError } from "../errors.ts";
import type { Block } from "./arena.ts";
import { now } from "./clock.ts";
import { revive } from "./handle.ts";
import { Consumer, finishLanes, laneUse, type Message, orphanLane, Producer } from "./lanes.ts";
import {
  D_RECEIVER,
  D_SENDER,
  K_DIRECTION,
  LN_NEXT,
  N_CHANNEL,
  N_CHANNEL2,
  N_HOLDER,
  Q_GETTERS,
  Q_LANES,
  Q_PUTTERS,
  QUEUE_NODES,
  SYNC_NODES,
} from "./layout.ts";
import { onOpen, type Session } from "./session.ts";
import { BUFFERS_APART, joined, type Large, ONE_PART, tableIn } from "./parts.ts";
import { drive, driveSync, Incoming, Outgoing, type Steps, type Way } from "./transfers.ts";
import { NodeCursor, NOTHING, type Source, WaitList, type WaitOptions } from "./waits.ts";

/** What a record is: a message, or word of a transfer. Whether its bytes are a value is for its receiver to know, as in CPython. */
const FRAME_MESSAGE = 0;
const FRAME_TRANSFER = 1;
/** Senders wait while this many bytes lie in the direction, as they do at 64 KiB in a pipe of the system's. */
export const BOUND_BYTES = 1 << 20;
/** Larger messages become transfers. */
const LARGEST_RECORD = 1 << 20;
/** Up to here a message may be read by two agents, one of which finds out that it was too late. */
const SURE_BYTES = 1024;
export const DIRECTION_BYTES = 512;

const NO_HANDLES: readonly object[] = [];

/** What a receiver wants. */
export interface Request {
  /** Whether it only wants to know when there is something. */
  readonly look: boolean;
  /** Whether it wants a value, rather than bytes. */
  readonly value: boolean;
  /** Most bytes that it takes. */
  readonly maxLength: number;
  /** Where the bytes are to go; the result is then how many they were. */
  readonly into: Uint8Array | undefined;
  /** Whether the thread is blocked, so that a large message does not come by itself. */
  readonly blocking: boolean;
  /** Keeps the handle, and with it this agent's hold of the end, while the request waits. */
  readonly handle: object | null;
}

/** What a wait for a message came to. */
export interface Received {
  readonly value: unknown;
  readonly error: unknown;
  readonly failed: boolean;
}

/** What a sender that waits for room has. */
export interface Sending {
  /** `null`: a message that needs a transfer, which waits for its turn. */
  readonly message: Message | null;
  readonly handle: object;
}

/** Not a message: a large one has begun, for a blocking request; there is one, for who only looks. */
const BEGUN: Received = { value: undefined, error: undefined, failed: false };

/** A message with its kind before it. */
class Frame implements Message {
  kind = 0;
  message: Message = this;

  get byteLength(): number {
    return 1 + this.message.byteLength;
  }

  get handles(): readonly object[] {
    return this.message.handles;
  }

  writeTo(target: Uint8Array, offset: number): void {
    target[offset] = this.kind;
    this.message.writeTo(target, offset + 1);
  }
}

/** Plain bytes as a message. */
export class BytesMessage implements Message {
  readonly #bytes: Uint8Array;
  readonly handles = NO_HANDLES;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  writeTo(target: Uint8Array, offset: number): void {
    target.set(this.#bytes, offset);
  }
}

/** The block of a transfer, and the handles of its message, as a message. */
class Notice implements Message {
  readonly byteLength = 4;
  readonly handles: readonly object[];
  readonly #block: Block;

  constructor(block: Block, handles: readonly object[]) {
    this.#block = block;
    this.handles = handles;
  }

  writeTo(target: Uint8Array, offset: number): void {
    for (let i = 0; i < 4; i++) target[offset + i] = this.#block >>> (8 * i);
  }
}

function noticed(u8: Uint8Array, offset: number): Block {
  return u8[offset + 1] | (u8[offset + 2] << 8) | (u8[offset + 3] << 16) | (u8[offset + 4] << 24);
}

/** A large message that this agent receives. */
interface Reception {
  readonly incoming: Incoming;
  readonly steps: Steps<boolean>;
  /** Whose buffer it goes into, if it goes straight there. */
  readonly request: Request | null;
  whole: boolean;
  failure: unknown;
}

/** A direction, as all handles of this agent to either of its ends share it. */
export class Direction {
  readonly session: Session;
  readonly block: Block;
  readonly receivers: WaitList<Received>;
  readonly senders: WaitList<unknown>;
  readonly #m: Int32Array;
  readonly #u8: Uint8Array;
  readonly #node: number;
  readonly #consumer: Consumer;
  #producer: Producer | undefined;
  readonly #frame = new Frame();
  /** Bytes that may be put before it is looked again how many lie there. */
  #credit = 0;
  /** The large message that this agent sends, or that its turn has come. */
  #outgoing: Outgoing | "next" | null = null;
  #reception: Reception | null = null;
  #request: Request | null = null;
  #value: unknown;
  #begun: Incoming | null = null;

  constructor(session: Session, block: Block, node: number) {
    this.session = session;
    this.block = block;
    this.#node = node;
    this.#m = session.arena.i32;
    this.#u8 = session.arena.u8;
    this.#consumer = new Consumer(session, block, node);
    this.receivers = new WaitList<Received>(
      session.waits,
      block,
      node,
      N_CHANNEL,
      this.#receiving(),
      (ms) => new TimeoutError(`Cannot receive: no message came within ${ms} ms`),
    );
    this.senders = new WaitList<unknown>(
      session.waits,
      block,
      node,
      N_CHANNEL2,
      this.#sendingSource(),
      (ms) => new TimeoutError(`Cannot send: ${BOUND_BYTES} bytes lay in the pipe for ${ms} ms`),
    );
  }

  // ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────

  #isGone(end: number): boolean {
    return !this.session.arena.isLive(this.#m[this.block + end], this.#m[this.block + end + 1]);
  }

  /** Whether nobody has the receiving end. */
  get isClosed(): boolean {
    return this.#isGone(D_RECEIVER);
  }

  /** Has the end's holders that died give it up. */
  #reapHolders(end: number, isDead: (token: number) => boolean): void {
    const m = this.#m;
    if (this.#isGone(end)) return;
    for (const c = new NodeCursor(m).start(m[this.block + end], SYNC_NODES); c.next();) {
      const holder = Atomics.load(m, c.at + N_HOLDER);
      if (holder > 0 && isDead(holder)) this.session.agents.reap(holder);
    }
  }

  // ── receiving ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The next message, or NOTHING. @throws {EOFError} there will be none */
  take(request: Request): unknown {
    for (;;) {
      if (this.#reception !== null) {
        const value = this.#deliver(request);
        if (value !== NOTHING || this.#reception !== null) return value;
      }
      // In this order: what was put before the end went is found.
      const ended = this.#isGone(D_SENDER);
      this.#request = request;
      let taken: boolean;
      try {
        taken = this.#consumer.take(this.#read);
      } finally {
        this.#request = null;
        if (Atomics.load(this.#m, this.block + Q_PUTTERS) !== 0) this.#passSender();
      }
      const value = this.#value;
      this.#value = undefined;
      const begun = this.#begun;
      this.#begun = null;
      if (begun !== null) {
        this.#begin(begun, request);
        continue;
      }
      if (!taken) {
        if (!ended) return NOTHING;
        throw new EOFError("Cannot receive: the other end of the pipe is closed, and nothing is left in it");
      }
      if (value === NOTHING) continue; // a notice that meant nothing any more
      if (request.into !== undefined && value instanceof Uint8Array) {
        request.into.set(value);
        return value.length;
      }
      return value;
    }
  }

  readonly #read = (offset: number, byteLength: number): void => {
    const u8 = this.#u8;
    const request = this.#request!;
    const kind = u8[offset];
    if (kind === FRAME_TRANSFER) {
      this.#begun = Incoming.begin(this.session, noticed(u8, offset));
      this.#value = NOTHING;
      return;
    }
    checkLength(request, byteLength - 1);
    if (request.value) this.#value = decode(u8, offset + 1, byteLength - 1, revive);
    else if (request.into === undefined || byteLength <= SURE_BYTES) {
      const bytes = u8.slice(offset + 1, offset + byteLength);
      checkFits(request, bytes);
      this.#value = bytes;
    } else {
      if (byteLength - 1 > request.into.length) checkFits(request, u8.slice(offset + 1, offset + byteLength));
      request.into.set(u8.subarray(offset + 1, offset + byteLength));
      this.#value = byteLength - 1;
    }
  };

  /** This agent is a transfer's receiver now. */
  #begin(incoming: Incoming, request: Request): void {
    try {
      checkLength(request, incoming.byteLength);
    } catch (error) {
      incoming.finish();
      throw error;
    }
    const straight = request.into !== undefined && incoming.kind === ONE_PART &&
      incoming.byteLength <= request.into.length;
    const steps = incoming.run((first) => {
      if (first === null) {
        return [
          straight ? request.into!.subarray(0, incoming.firstBytes) : new Uint8Array(incoming.firstBytes),
        ];
      }
      return incoming.kind === BUFFERS_APART ? tableIn(first).sizes.map((size) => new Uint8Array(size)) : [];
    });
    const reception: Reception = {
      incoming,
      steps,
      request: straight ? request : null,
      whole: false,
      failure: undefined,
    };
    this.#reception = reception;
    // Waits are not counted: who waits for the message keeps the process alive.
    if (!request.blocking) {
      drive(this.session, steps, { ref: false }, Infinity).then(
        (whole) => this.#received(reception, whole),
        (error) => this.#received(reception, true, error),
      );
    }
  }

  #received(reception: Reception, whole: boolean, failure?: unknown): void {
    if (this.#reception !== reception) return;
    reception.whole = true;
    reception.failure = failure;
    if (!whole) {
      this.#reception = null;
      reception.incoming.finish();
    }
    if (this.receivers.first !== undefined) this.receivers.service(false);
  }

  /** The message of the transfer that has come, if it has come whole. */
  #deliver(request: Request): unknown {
    const { incoming, whole, failure, request: owner } = this.#reception!;
    if (!whole) return NOTHING;
    let value: unknown;
    let error: unknown = failure;
    if (error === undefined) {
      try {
        value = this.#open(request, incoming, owner !== null);
      } catch (caught) {
        error = caught;
      }
    }
    this.#reception = null;
    if (!incoming.finish()) return NOTHING;
    if (error !== undefined) throw error;
    return value;
  }

  #open(request: Request, { kind, parts, byteLength }: Incoming, straight: boolean): unknown {
    checkLength(request, byteLength);
    if (request.value) {
      const [first, ...buffers] = parts as Uint8Array<ArrayBuffer>[];
      if (kind === ONE_PART) return decode(first, 0, first.length, revive);
      const { head } = tableIn(first);
      return decode(first, head, first.length - head, revive, buffers);
    }
    const bytes = kind === ONE_PART ? parts[0] : joined(parts, byteLength);
    if (request.into === undefined) return bytes;
    checkFits(request, bytes);
    if (!straight) request.into.set(bytes);
    return byteLength;
  }

  /** A request that waited has ended: what was on its way into its buffer is to be sent again. */
  forget(request: Request): void {
    if (this.#reception?.request === request) this.#stepBack();
  }

  /** This agent has the receiving end no longer. */
  closeReceiver(reason: unknown): void {
    this.#stepBack();
    this.receivers.rejectAll(reason);
  }

  #stepBack(): void {
    const reception = this.#reception;
    if (reception === null) return;
    this.#reception = null;
    reception.steps.return(false);
    reception.incoming.abandon();
  }

  /** Whether a receive would not wait. Takes nothing. */
  isReady(): boolean {
    if (this.#reception !== null) return this.#reception.whole;
    const ended = this.#isGone(D_SENDER);
    return this.#consumer.hasRecord(this.#isVoid) || ended;
  }

  readonly #isVoid = (offset: number): boolean =>
    this.#u8[offset] === FRAME_TRANSFER && Incoming.isVoid(this.session, noticed(this.#u8, offset));

  /** Receives, blocking the thread. */
  takeSync(request: Request, timeout: number): unknown {
    const deadline = now() + timeout;
    try {
      for (;;) {
        const value = this.take(request);
        if (value !== NOTHING) return value;
        const left = Math.max(deadline - now(), 0);
        const reception = this.#reception;
        if (reception !== null) {
          let step: IteratorResult<unknown, boolean>;
          try {
            step = driveSync(this.session, reception.steps, left);
          } catch (error) {
            if (error instanceof TimeoutError) throw error;
            this.#received(reception, true, error);
            continue;
          }
          if (step.done) this.#received(reception, step.value);
          continue;
        }
        const received = this.session.waits.waitSync(this.receivers, left, request);
        if (received !== BEGUN) return unwrap(received);
      }
    } catch (error) {
      // Nothing goes on with it by itself.
      this.#stepBack();
      throw error;
    }
  }

  #receiving(): Source<Received> {
    const attempt = (item: unknown): Received | typeof NOTHING => {
      const request = item as Request;
      if (request.look) return this.isReady() ? BEGUN : NOTHING;
      try {
        const value = this.take(request);
        if (value !== NOTHING) return { value, error: undefined, failed: false };
        return request.blocking && this.#reception !== null ? BEGUN : NOTHING;
      } catch (error) {
        return { value: undefined, error, failed: true };
      }
    };
    return {
      attempt: (woken, item) => {
        // Others may wait that nobody will set the flag for: it was cleared to wake this agent.
        if (woken) Atomics.store(this.#m, this.block + Q_GETTERS, 1);
        return attempt(item);
      },
      mark: () => {
        Atomics.store(this.#m, this.block + Q_GETTERS, 1);
        return this.isReady();
      },
      reserve: () => {},
      pass: () => {
        Atomics.store(this.#m, this.block + Q_GETTERS, 1);
        if (this.#reception === null && this.isReady()) this.#wakeReceiver();
      },
      check: (isDead) => this.#reapHolders(D_SENDER, isDead),
    };
  }

  #wakeReceiver(): void {
    Atomics.store(this.#m, this.block + Q_GETTERS, 0);
    this.session.waits.wakeNext(this.block, QUEUE_NODES, N_CHANNEL);
  }

  // ── sending ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Whether a message is to go by {@linkcode transmit}. */
  isLarge(message: Message): boolean {
    return message.byteLength >= LARGEST_RECORD;
  }

  /** Sends a small message if there is room. @throws {SystemError} EPIPE: nobody has the other end */
  offer(message: Message): boolean {
    if (this.#isGone(D_RECEIVER)) throw brokenPipe();
    if (this.#outgoing !== null) return false;
    const size = message.byteLength;
    if (this.#credit <= 0 && (this.#credit = BOUND_BYTES - this.#bytes()) <= 0) return false;
    this.#put(FRAME_MESSAGE, message);
    this.#credit -= size + 64;
    return true;
  }

  #put(kind: number, message: Message): void {
    const producer = this.#producer ??= Producer.open(this.session, this.block, this.#node);
    const frame = this.#frame;
    frame.kind = kind;
    frame.message = message;
    try {
      producer.put(frame);
    } finally {
      frame.message = frame;
    }
    if (Atomics.load(this.#m, this.block + Q_GETTERS) !== 0) this.#wakeReceiver();
  }

  #bytes(): number {
    const m = this.#m;
    let bytes = 0;
    for (let lane = Atomics.load(m, this.block + Q_LANES); lane !== 0; lane = m[lane + LN_NEXT]) {
      bytes += laneUse(m, lane).bytes;
    }
    return bytes;
  }

  /** Sends a message by a transfer, in its turn. Its buffers are read until it was received. */
  async transmit(
    sending: Sending,
    large: Large,
    w: WaitOptions,
    timeout: number,
  ): Promise<void> {
    const deadline = now() + timeout;
    const release = this.#hold(large);
    try {
      if (this.senders.first !== undefined || !this.#takeTurn()) {
        throwIfError(await this.senders.wait(w, timeout, sending));
      }
      const outgoing = this.#start(sending, large);
      try {
        if (!await drive(this.session, outgoing.run(), w, Math.max(deadline - now(), 0))) throw brokenPipe();
      } catch (error) {
        this.#failed(outgoing, error, timeout);
      } finally {
        this.#end(outgoing);
      }
    } finally {
      release();
    }
  }

  /** As {@linkcode transmit}, blocking the thread. */
  transmitSync(
    sending: Sending,
    large: Large,
    timeout: number,
  ): void {
    const deadline = now() + timeout;
    const release = this.#hold(large);
    try {
      if (!this.#takeTurn()) throwIfError(this.session.waits.waitSync(this.senders, timeout, sending));
      const outgoing = this.#start(sending, large);
      try {
        const steps = outgoing.run();
        for (;;) {
          const step = driveSync(this.session, steps, Math.max(deadline - now(), 0));
          if (!step.done) continue;
          if (!step.value) throw brokenPipe();
          return;
        }
      } catch (error) {
        this.#failed(outgoing, error, timeout);
      } finally {
        this.#end(outgoing);
      }
    } finally {
      release();
    }
  }

  /** What a large send needs as long as it goes on: the direction, and the handles in it until the receiver has decoded them. */
  #hold({ handles }: Large): () => void {
    const { references } = this.session;
    const blocks = [this.block, ...blocksOf(handles)];
    for (const block of blocks) references.hold(block);
    return () => {
      if (!this.session.closed) { for (const block of blocks) references.release(block); }
    };
  }

  /** One large message at a time: what follows it must not pass it. */
  #takeTurn(): boolean {
    if (this.#isGone(D_RECEIVER)) throw brokenPipe();
    if (this.#outgoing !== null) return false;
    this.#outgoing = "next";
    return true;
  }

  #start({ handle }: Sending, large: Large): Outgoing {
    const way: Way = {
      announce: (notice) =>
        this.#put(FRAME_TRANSFER, new Notice(blocksOf([notice])[0], [notice, ...large.handles])),
      isClosed: () => this.#isGone(D_RECEIVER),
      check: (isDead) => this.#reapHolders(D_RECEIVER, isDead),
      handle,
    };
    try {
      return this.#outgoing = new Outgoing(this.session, large, way);
    } catch (error) {
      this.#end(null);
      throw error;
    }
  }

  /** Throws the error of a send, unless its message was received all the same. */
  #failed(outgoing: Outgoing, error: unknown, timeout: number): void {
    if (!this.session.closed && !outgoing.cancel()) return;
    throw error instanceof TimeoutError ? outgoing.timedOut(timeout) : error;
  }

  #end(outgoing: Outgoing | null): void {
    this.#outgoing = null;
    if (this.session.closed) return;
    outgoing?.close();
    if (this.senders.first !== undefined) this.senders.service(false);
  }

  /** This agent has the sending end no longer. */
  closeSender(reason: unknown): void {
    this.senders.rejectAll(reason);
    if (this.#outgoing instanceof Outgoing) this.#outgoing.stop(reason);
  }

  #hasRoom(below: number): boolean {
    return this.#outgoing === null && this.#bytes() < below;
  }

  #wakeSender(): void {
    Atomics.store(this.#m, this.block + Q_PUTTERS, 0);
    this.session.waits.wakeNext(this.block, QUEUE_NODES, N_CHANNEL2);
  }

  /** After a receive: half empty is early enough, and one wake-up then serves for many messages. */
  #passSender(): void {
    if (this.#bytes() < BOUND_BYTES / 2) this.#wakeSender();
  }

  #sendingSource(): Source<unknown> {
    return {
      attempt: (woken, item) => {
        if (woken) Atomics.store(this.#m, this.block + Q_PUTTERS, 1);
        const { message } = item as Sending;
        try {
          return (message === null ? this.#takeTurn() : this.offer(message)) ? null : NOTHING;
        } catch (error) {
          return error;
        }
      },
      mark: () => {
        Atomics.store(this.#m, this.block + Q_PUTTERS, 1);
        return this.#hasRoom(BOUND_BYTES) || this.isClosed;
      },
      reserve: () => {},
      pass: () => {
        Atomics.store(this.#m, this.block + Q_PUTTERS, 1);
        if (this.#bytes() < BOUND_BYTES || this.isClosed) this.#wakeSender();
      },
      check: (isDead) => this.#reapHolders(D_RECEIVER, isDead),
    };
  }
}

function blocksOf(handles: readonly object[]): Block[] {
  return handles.map((handle) => (handle as { [kHandle](): HandleId })[kHandle]().block);
}

function checkLength(request: Request, byteLength: number): void {
  if (byteLength > request.maxLength) {
    throw new SystemError(
      "receive",
      errnos.EMSGSIZE,
      `a message of ${byteLength} bytes, which is dropped, as maxLength is ${request.maxLength}`,
    );
  }
}

function checkFits(request: Request, bytes: Uint8Array): void {
  if (request.into !== undefined && bytes.length > request.into.length) {
    throw new BufferTooShort(
      `Cannot receive a message of ${bytes.length} bytes into a buffer with room for ${request.into.length}: the error's "bytes" has the whole message`,
      bytes,
    );
  }
}

function brokenPipe(): SystemError {
  return new SystemError("send", errnos.EPIPE, "on the connection, whose other end is closed everywhere");
}

/** What a wait for a message came to. */
export function unwrap(received: Received): unknown {
  if (received.failed) throw received.error;
  return received.value;
}

/** A wait for room gives null, or why there will be none. */
export function throwIfError(result: unknown): void {
  if (result !== null) throw result;
}

onOpen((session) => {
  const m = session.arena.i32;
  session.references.rule(K_DIRECTION, {
    scrubNode: (block, node, dead) => {
      orphanLane(session, block, node, dead);
      for (const [flag, channel] of [[Q_GETTERS, N_CHANNEL], [Q_PUTTERS, N_CHANNEL2]]) {
        if (Atomics.exchange(m, block + flag, 1) !== 0) session.waits.wakeNext(block, QUEUE_NODES, channel);
      }
    },
    finish: (block) => finishLanes(session, block),
  });
});
