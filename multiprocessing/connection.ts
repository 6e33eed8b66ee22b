/**
 * Pipes between all processes and Workers of a session: CPython's `multiprocessing.Pipe` and `Connection`, in shared memory.
 *
 * @module
 */
import { encode } from "./codec/mod.ts";
import type { Block } from "./core/arena.ts";
import { crashPoint } from "./core/crash.ts";
import {
  BytesMessage,
  Direction,
  DIRECTION_BYTES,
  type Request,
  throwIfError,
  unwrap,
} from "./core/directions.ts";
import { type Existing, Handle, isExisting, revive, reviver } from "./core/handle.ts";
import {
  D_RECEIVER,
  D_SENDER,
  EN_IN,
  EN_OUT,
  K_DIRECTION,
  K_END,
  N_CHANNEL,
  N_CHANNEL2,
  Q_GETTERS,
  Q_PUTTERS,
  QUEUE_NODES,
} from "./core/layout.ts";
import { current, onOpen, type Session } from "./core/session.ts";
import { afterTurn, isDue } from "./core/turns.ts";
import { largeBytes, largeValue } from "./core/parts.ts";
import { kWaitable, type Readiness, type Waitable } from "./core/waitable.ts";
import { checkWait, NOTHING, type SyncWaitOptions, type WaitOptions } from "./core/waits.ts";
import { errnos, SystemError } from "../platform/mod.ts";
import { EOFError, TimeoutError } from "./errors.ts";

const END_BYTES = 128;
const NO_OPTIONS: WaitOptions = {};
const ANY_VALUE: Request = {
  look: false,
  value: true,
  maxLength: Infinity,
  into: undefined,
  blocking: false,
  handle: null,
};
const ANY_BYTES: Request = { ...ANY_VALUE, value: false };

/** What part of a buffer to send. */
export interface SendBytesOptions extends WaitOptions {
  /** First byte. @default 0 */
  offset?: number;
  /** How many bytes. @default all from the offset on */
  size?: number;
}

/** What to take of bytes. */
export interface RecvBytesOptions extends WaitOptions {
  /** Most bytes that the message may have. @default Infinity */
  maxLength?: number;
}

/** Where received bytes are to go. */
export interface RecvBytesIntoOptions extends WaitOptions {
  /** First byte of the buffer to write to. @default 0 */
  offset?: number;
}

/** An end of a pipe, as all handles of this agent to it share it. */
class End {
  readonly in: Direction | null;
  readonly out: Direction | null;
  readonly #session: Session;

  constructor(session: Session, block: Block) {
    this.#session = session;
    const m = session.arena.i32;
    this.in = this.#direction(m[block + EN_IN]);
    this.out = this.#direction(m[block + EN_OUT]);
  }

  #direction(block: Block): Direction | null {
    if (block === 0) return null;
    const held = this.#session.references.hold(block);
    return (held.shared ??= new Direction(this.#session, block, held.node)) as Direction;
  }

  /** This agent has no handle to the end any more. */
  close(): void {
    // Who leaves the session is scrubbed like the dead.
    if (this.#session.closed) return;
    const reason = new TypeError("Cannot go on waiting: the connection was closed in this agent");
    this.in?.closeReceiver(reason);
    this.out?.closeSender(reason);
    for (const direction of [this.in, this.out]) {
      if (direction !== null) this.#session.references.release(direction.block);
    }
  }
}

/** Ends that this agent has, for what is done when it lets go of them. */
const ends = new WeakMap<Session, Map<Block, End>>();

function endsOf(session: Session): Map<Block, End> {
  let map = ends.get(session);
  if (map === undefined) ends.set(session, map = new Map());
  return map;
}

/**
 * One end of a {@linkcode Pipe}: CPython's `multiprocessing.connection.Connection`. Messages arrive whole and in order.
 *
 * Any number of agents may have the same end: a message goes to one of those that receive. When nobody has the other end any more, whether it was
 * closed or its process was killed, what was sent is still received, and then `recv` rejects with `EOFError`.
 */
export class Connection<T = unknown> extends Handle implements AsyncIterable<T>, Waitable {
  readonly #end: End;

  /** Connections are made by {@linkcode Pipe}. @ignore */
  constructor(existing: Existing) {
    if (!isExisting(existing)) {
      throw new TypeError("Cannot make a connection: a pipe makes both its ends; call Pipe()");
    }
    super(K_END, existing, END_BYTES, () => {});
    const { session, block } = this;
    let end = this.held.shared as End | undefined;
    if (end === undefined) endsOf(session).set(block, this.held.shared = end = new End(session, block));
    this.#end = end;
  }

  /** Whether it may receive. */
  get readable(): boolean {
    return this.#end.in !== null;
  }

  /** Whether it may send. */
  get writable(): boolean {
    return this.#end.out !== null;
  }

  /** Whether this handle was closed. */
  get closed(): boolean {
    return this.disposed;
  }

  #receiver(what: string): Direction {
    if (this.disposed) this.checkLive(what);
    return this.#end.in ?? refuse(what, "this end of the pipe only sends");
  }

  #sender(): Direction {
    if (this.disposed) this.checkLive("send on");
    return this.#end.out ?? refuse("send on", "this end of the pipe only receives");
  }

  /**
   * Sends a value. Resolves when it is in shared memory, safe from this process's death; a message of more than 1 MiB, when it was received. It
   * waits while 1 MiB or more lies in the pipe.
   *
   * @param value anything that structured clone carries, and handles
   * @throws {SystemError} EPIPE: the other end is closed everywhere; EBADF: this end only receives
   * @throws {TypeError} the value holds what cannot be copied to another process; the message says where in it
   * @throws {TimeoutError} the time was over: nothing was sent
   */
  send(value: T, w: WaitOptions = NO_OPTIONS): Promise<void> {
    try {
      const direction = this.#sender();
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      const message = encode(value);
      if (direction.isLarge(message)) {
        return direction.transmit({ message: null, handle: this }, largeValue(message), w, timeout);
      }
      if (direction.senders.first === undefined && direction.offer(message)) return sent();
      message.keep(); // the next encode reuses what is not kept
      return direction.senders.wait(w, timeout, { message, handle: this }).then(
        throwIfError,
      );
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives the next value, waiting for one if there is none.
   *
   * @throws {EOFError} the other end is closed everywhere, and all was received
   * @throws {SystemError} EBADF: this end only sends
   * @throws {TimeoutError} the time was over
   * @throws {CodecError} the message was sent by `sendBytes`, and its bytes are no value
   */
  recv(w: WaitOptions = NO_OPTIONS): Promise<T> {
    return this.#recv(ANY_VALUE, w) as Promise<T>;
  }

  #recv(request: Request, w: WaitOptions): Promise<unknown> {
    try {
      const direction = this.#receiver("receive from");
      const timeout = w === NO_OPTIONS ? Infinity : checkWait(w);
      if (direction.receivers.first === undefined) {
        const value = direction.take(request);
        if (value !== NOTHING) return isDue() ? afterTurn(value) : Promise.resolve(value);
      }
      const own = request.handle === null ? { ...request, handle: this } : request;
      const waiting = direction.receivers.wait(w, timeout, own);
      return waiting.then(
        unwrap,
        request.into === undefined ? undefined : (reason) => {
          direction.forget(own);
          throw reason;
        },
      );
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** The next value if there is one now, as `{ value }`, since any value may be a message. @throws {EOFError} there will be none */
  tryRecv(): { value: T } | null {
    const value = this.#receiver("receive from").take(ANY_VALUE);
    return value === NOTHING ? null : { value: value as T };
  }

  /** As {@linkcode recv}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  recvSync(w: SyncWaitOptions = {}): T {
    return this.#recvSync("receive synchronously", ANY_VALUE, w) as T;
  }

  #recvSync(what: string, request: Request, w: SyncWaitOptions): unknown {
    const direction = this.#receiver("receive from");
    const timeout = this.session.waits.checkBlocking(what, w);
    return direction.takeSync({ ...request, blocking: true }, timeout);
  }

  /** As {@linkcode send}, blocking the thread. @throws {BlockingError} on a main thread without `allowBlocking` */
  sendSync(value: T, w: SyncWaitOptions = {}): void {
    const direction = this.#sender();
    const timeout = this.session.waits.checkBlocking("send synchronously", w);
    const message = encode(value);
    if (direction.isLarge(message)) {
      return direction.transmitSync({ message: null, handle: this }, largeValue(message), timeout);
    }
    if (direction.offer(message)) return;
    message.keep();
    throwIfError(
      this.session.waits.waitSync(direction.senders, timeout, { message, handle: this }),
    );
  }

  /**
   * Sends bytes as one message, for `recvBytes`; as {@linkcode send} in all else. What is sent is read until the promise resolves.
   *
   * @param bytes a typed array, DataView or ArrayBuffer; `offset` and `size` count its bytes
   * @throws {RangeError} `offset` and `size` are not inside it
   */
  sendBytes(bytes: ArrayBufferView | ArrayBuffer, options: SendBytesOptions = NO_OPTIONS): Promise<void> {
    try {
      const direction = this.#sender();
      const part = slice(bytes, options);
      const timeout = options === NO_OPTIONS ? Infinity : checkWait(options);
      const message = new BytesMessage(part);
      if (direction.isLarge(message)) {
        return direction.transmit({ message: null, handle: this }, largeBytes(part), options, timeout);
      }
      if (direction.senders.first === undefined && direction.offer(message)) return sent();
      return direction.senders.wait(options, timeout, { message, handle: this }).then(
        throwIfError,
      );
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives the bytes of a message. Those of one that `send` sent are its encoding: sent on by `sendBytes`, they are received as the value.
   *
   * @throws {SystemError} EMSGSIZE: the message is longer than `maxLength`, and is dropped
   * @throws {RangeError} `maxLength` is negative or no number
   */
  recvBytes(options: RecvBytesOptions = NO_OPTIONS): Promise<Uint8Array<ArrayBuffer>> {
    const { maxLength = Infinity } = options;
    if (!(maxLength >= 0)) {
      return Promise.reject(
        new RangeError(`Cannot receive at most ${maxLength} bytes: maxLength must be 0 or more`),
      );
    }
    return this.#recv(maxLength === Infinity ? ANY_BYTES : { ...ANY_BYTES, maxLength }, options) as Promise<
      Uint8Array<ArrayBuffer>
    >;
  }

  /**
   * Receives the bytes of a message into a buffer.
   *
   * @param buffer a typed array, DataView or ArrayBuffer; `offset` counts its bytes
   * @returns how many bytes the message had
   * @throws {BufferTooShort} the message does not fit; the error has it
   * @throws {RangeError} `offset` is not inside the buffer
   */
  recvBytesInto(
    buffer: ArrayBufferView | ArrayBuffer,
    options: RecvBytesIntoOptions = NO_OPTIONS,
  ): Promise<number> {
    try {
      const into = slice(buffer, { offset: options.offset });
      return this.#recv({ ...ANY_BYTES, into, handle: this }, options) as Promise<number>;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Whether there is something to receive, or to learn: at the end of the pipe too, where `recv` rejects with `EOFError`. Nothing is taken.
   *
   * @param w without it, it looks once; with it, it waits, for ever unless there is a time-out
   * @returns false when the time was over
   */
  async poll(w?: WaitOptions): Promise<boolean> {
    const direction = this.#receiver("poll");
    const timeout = w === undefined ? 0 : checkWait(w);
    if (direction.isReady()) return true;
    if (w === undefined || timeout === 0) return false;
    try {
      await direction.receivers.wait(w, timeout, { ...ANY_VALUE, look: true, handle: this });
      return true;
    } catch (error) {
      if (error instanceof TimeoutError) return false;
      throw error;
    }
  }

  /** Lets go of this handle. The end is closed when nobody in the session has a handle to it; what waits in this agent rejects with its last one. */
  close(): void {
    this[Symbol.dispose]();
  }

  /** Values as they come, until the other end is closed. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<T> {
    for (;;) {
      let value: T;
      try {
        value = await this.recv();
      } catch (error) {
        if (error instanceof EOFError) return;
        throw error;
      }
      yield value;
    }
  }

  /** @ignore */
  get [kWaitable](): Readiness {
    const direction = this.#receiver("wait for");
    return {
      isReady: () => direction.isReady(),
      whenReady: (w) => direction.receivers.wait(w, Infinity, { ...ANY_VALUE, look: true, handle: this }),
    };
  }

  /** For people: what it may do. */
  override toString(): string {
    if (this.disposed) return "Connection(closed)";
    return `Connection(${this.readable ? this.writable ? "duplex" : "receives" : "sends"})`;
  }
}

/** How a {@linkcode Pipe} goes. */
export interface PipeOptions {
  /** Whether both ends send and receive; otherwise the first only receives, and the second only sends. @default true */
  duplex?: boolean;
}

/**
 * Makes a pipe: two connections, of which each receives what the other sends.
 *
 * @example
 * ```ts
 * import { type Connection, Pipe, Process, task } from "@karellen/geventmp";
 * export const shout = task(import.meta, async function shout(words: Connection<string>) {
 *   for await (const word of words) await words.send(word.toUpperCase());
 * });
 * if (import.meta.main) {
 *   const [here, there] = Pipe<string>();
 *   const process = await new Process({ target: shout, args: [there] }).start();
 *   there.close(); // the child has it now
 *   await here.send("hello");
 *   console.log(await here.recv()); // HELLO
 *   here.close(); // ends the child's loop
 *   await process.join();
 * }
 * ```
 */
export function Pipe<T = unknown>(options: PipeOptions = {}): [Connection<T>, Connection<T>] {
  const { duplex = true } = options;
  const session = current();
  const { references, arena } = session;
  const m = arena.i32;
  const directions = (duplex ? [0, 1] : [0]).map(() =>
    references.create(K_DIRECTION, DIRECTION_BYTES, (block) => {
      for (let word = D_RECEIVER; word < D_SENDER + 2; word++) m[block + word] = 0;
    })
  );
  // Direction n is received at end n.
  const made = [0, 1].map((n) =>
    references.create(K_END, END_BYTES, (block) => {
      for (const [at, direction] of [[EN_IN, directions[n]], [EN_OUT, directions[1 - n]]] as const) {
        m[block + at] = direction?.block ?? 0;
        m[block + at + 1] = direction?.generation ?? 0;
      }
    })
  );
  directions.forEach(({ block }, n) => {
    for (const [at, end] of [[D_RECEIVER, made[n]], [D_SENDER, made[1 - n]]] as const) {
      m[block + at] = end.block;
      m[block + at + 1] = end.generation;
      references.keep(block, end.block);
      crashPoint("pipe.kept");
    }
  });
  const connections = made.map(({ block, generation }) => revive(K_END, block, generation) as Connection<T>);
  // The handles hold them now.
  for (const { block } of [...made, ...directions]) references.release(block);
  return connections as [Connection<T>, Connection<T>];
}

function sent(): Promise<void> {
  return isDue() ? afterTurn(undefined) : Promise.resolve();
}

function refuse(what: string, why: string): never {
  throw new SystemError(what, errnos.EBADF, `this connection (${why})`);
}

/** The bytes of a part of a buffer. */
function slice(
  buffer: ArrayBufferView | ArrayBuffer,
  { offset = 0, size }: { offset?: number; size?: number },
): Uint8Array {
  const whole = ArrayBuffer.isView(buffer)
    ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
    : new Uint8Array(buffer);
  const length = size ?? whole.length - offset;
  const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0;
  if (!isCount(offset) || !isCount(length) || offset + length > whole.length) {
    throw new RangeError(
      `Cannot use ${
        size ?? "the"
      } bytes from offset ${offset} on: the buffer has ${whole.length} bytes; pass whole numbers inside it`,
    );
  }
  return whole.subarray(offset, offset + length);
}

reviver(K_END, (existing) => new Connection(existing));

onOpen((session) => {
  const { arena, references, waits } = session;
  const m = arena.i32;
  references.rule(K_END, {
    keeps: (end, other) => m[end + EN_IN] === other || m[end + EN_OUT] === other,
    scrubNode: (end, _node, dead) => {
      if (dead !== session.token) return;
      const own = endsOf(session).get(end);
      endsOf(session).delete(end);
      own?.close();
    },
    // Who waits at the other end learns that this one is gone.
    finish: (end) => {
      crashPoint("pipe.ended");
      for (const [at, flag, channel] of [[EN_IN, Q_PUTTERS, N_CHANNEL2], [EN_OUT, Q_GETTERS, N_CHANNEL]]) {
        const direction = m[end + at];
        // Done already, by an agent that died in the middle of this.
        if (!arena.isLive(direction, m[end + at + 1]) || !references.isKeptBy(direction, end)) continue;
        Atomics.store(m, direction + flag, 0);
        waits.wakeNext(direction, QUEUE_NODES, channel);
        references.letGo(direction, end);
        crashPoint("pipe.letGo");
      }
    },
  });
});
