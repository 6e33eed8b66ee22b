/**
 * Standard streams of a child, as web streams of this agent. Each is one connected socket whose other end the child has as descriptor 0, 1 or 2.
 *
 * | runtime | how the loop gets this end |
 * |---|---|
 * | Deno | a connection to the doorbell's own listener: see {@linkcode Doorbell.connect} |
 * | Deno without net permission, or without abstract names | one of a socket pair, adopted as `net.Socket` (25 ms once) |
 * | Bun | one of a socket pair, adopted with `Bun.connect({ fd })` |
 *
 * Nothing is read before somebody asks, so a child that writes much waits until then; and nothing but a pending read or write keeps the
 * process alive.
 *
 * @module
 */
import { closeFd, errnos, setNonblocking, socketPair, SystemError } from "../mod.ts";
import { bun, type BunSocket, type DenoConnection } from "./globals.ts";
import type { Doorbell } from "./loop.ts";

/** One standard stream of a child. */
export interface ChildStream<S> {
  /** The descriptor that the child, and nobody else, is to hold open. Close it here once the child has it. */
  readonly childFd: number;
  readonly stream: S;
  /** Lets go of this end, whatever the stream is doing. */
  close(): void;
}

/** This agent's end. A pending call keeps the loop alive, and nothing else does. */
interface End {
  /** The next bytes; null at the end. */
  read(): Promise<Uint8Array | null>;
  /** Writes all of it. */
  write(chunk: Uint8Array): Promise<void>;
  close(): void;
}

/** What a child writes. Ends when nobody holds its other end any more. @param onClosed called when this end is closed, for whatever reason */
export function readableFromChild(
  doorbell: Doorbell,
  onClosed: () => void,
): ChildStream<ReadableStream<Uint8Array>> {
  const { end, childFd } = openEnd(doorbell);
  const close = closeOnce(end, onClosed);
  const stream = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const chunk = await end.read();
      if (chunk !== null) return controller.enqueue(chunk);
      close();
      controller.close();
    },
    cancel: close,
  }, { highWaterMark: 0 });
  return { childFd, stream, close };
}

/** What a child reads. A write rejects with EPIPE when nobody holds the other end any more. @param onClosed as above */
export function writableToChild(
  doorbell: Doorbell,
  onClosed: () => void,
): ChildStream<WritableStream<Uint8Array>> {
  const { end, childFd } = openEnd(doorbell);
  const close = closeOnce(end, onClosed);
  const stream = new WritableStream<Uint8Array>({
    write: (chunk) => end.write(chunk),
    close,
    abort: close,
  });
  return { childFd, stream, close };
}

function closeOnce(end: End, onClosed: () => void): () => void {
  let open = true;
  return () => {
    if (!open) return;
    open = false;
    end.close();
    onClosed();
  };
}

function openEnd(doorbell: Doorbell): { end: End; childFd: number } {
  if (doorbell.connect !== undefined) {
    const { childFd, connection } = doorbell.connect();
    // Programs expect standard streams that block.
    setNonblocking(childFd, false);
    return { end: new DenoEnd(connection), childFd };
  }
  const [ours, childFd] = socketPair("stream", { nonblocking: true });
  setNonblocking(childFd, false);
  return { end: bun === undefined ? new NodeEnd(ours) : new BunEnd(ours), childFd };
}

function brokenPipe(): SystemError {
  return new SystemError("write", errnos.EPIPE, "to a child that has ended or closed its standard input");
}

class DenoEnd implements End {
  readonly #opening: Promise<{ connection: DenoConnection; rest: Uint8Array } | null>;
  #rest: Uint8Array | undefined;
  #closed = false;

  constructor(opening: Promise<{ connection: DenoConnection; rest: Uint8Array } | null>) {
    this.#opening = opening;
  }

  async #use<R>(call: (connection: DenoConnection) => Promise<R>): Promise<R | null> {
    const opened = await this.#opening;
    if (opened === null || this.#closed) return null;
    this.#rest ??= opened.rest;
    opened.connection.ref();
    try {
      return await call(opened.connection);
    } catch {
      return null; // reset by the child's death, or closed by us
    } finally {
      opened.connection.unref();
    }
  }

  read(): Promise<Uint8Array | null> {
    return this.#use(async (connection) => {
      const early = this.#rest!;
      if (early.length > 0) {
        this.#rest = new Uint8Array(0);
        return early;
      }
      const buffer = new Uint8Array(16 * 1024);
      const count = await connection.read(buffer);
      return count === null ? null : buffer.subarray(0, count);
    });
  }

  async write(chunk: Uint8Array): Promise<void> {
    const done = await this.#use(async (connection) => {
      for (let at = 0; at < chunk.length;) at += await connection.write(chunk.subarray(at));
      return true;
    });
    if (done === null) throw brokenPipe();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#opening.then((opened) => {
      try {
        opened?.connection.close();
      } catch { /* closed already */ }
    });
  }
}

/** What arrives by itself is kept until it is asked for; the socket is paused as long as anything is kept. */
abstract class PushedEnd implements End {
  readonly #chunks: Uint8Array[] = [];
  #reader: ((chunk: Uint8Array | null) => void) | undefined;
  #ended = false;

  protected abstract resume(): void;
  protected abstract pause(): void;
  /** Whether the socket keeps the loop alive. */
  protected abstract keep(alive: boolean): void;
  abstract write(chunk: Uint8Array): Promise<void>;
  abstract close(): void;

  protected arrived(chunk: Uint8Array): void {
    if (this.#reader === undefined) this.#chunks.push(chunk);
    else this.#answer(chunk);
    this.pause();
  }

  protected ended(): void {
    this.#ended = true;
    this.#answer(null);
  }

  #answer(chunk: Uint8Array | null): void {
    const reader = this.#reader;
    this.#reader = undefined;
    this.keep(false);
    reader?.(chunk);
  }

  read(): Promise<Uint8Array | null> {
    const next = this.#chunks.shift();
    if (next !== undefined) return Promise.resolve(next);
    if (this.#ended) return Promise.resolve(null);
    return new Promise((resolve) => {
      this.#reader = resolve;
      this.keep(true);
      this.resume();
    });
  }
}

class BunEnd extends PushedEnd {
  #socket: BunSocket | undefined;
  #alive = false;
  #flowing = false;
  #closed = false;
  #pending = Promise.withResolvers<void>();

  constructor(fd: number) {
    super();
    bun!.connect({
      fd,
      socket: {
        open: (socket) => this.#opened(socket),
        // Bun uses the buffer again.
        data: (_socket, data) => this.arrived(data.slice()),
        drain: () => this.#advance(),
        close: () => this.#gone(),
        error: () => {},
      },
    }).then((socket) => this.#opened(socket), () => this.#gone());
  }

  #opened(socket: BunSocket): void {
    if (this.#socket !== undefined) return;
    this.#socket = socket;
    if (this.#closed) return socket.terminate();
    if (!this.#flowing) socket.pause();
    this.keep(this.#alive);
    this.#advance();
  }

  #advance(): void {
    this.#pending.resolve();
    this.#pending = Promise.withResolvers();
  }

  #gone(): void {
    this.#closed = true;
    this.ended();
    this.#advance();
  }

  protected resume(): void {
    this.#flowing = true;
    this.#socket?.resume();
  }

  protected pause(): void {
    this.#flowing = false;
    this.#socket?.pause();
  }

  protected keep(alive: boolean): void {
    this.#alive = alive;
    if (alive) this.#socket?.ref();
    else this.#socket?.unref();
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.keep(true);
    try {
      for (let at = 0; at < chunk.length && !this.#closed;) {
        const count = this.#socket?.write(chunk.subarray(at)) ?? 0;
        if (count < 0) throw brokenPipe();
        at += count;
        if (at < chunk.length) await this.#pending.promise;
        else return;
      }
      if (chunk.length > 0) throw brokenPipe();
    } finally {
      this.keep(false);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket?.terminate();
    this.ended();
    this.#advance();
  }
}

interface NodeSocket {
  on(event: string, listener: (argument: Uint8Array) => void): void;
  write(chunk: Uint8Array, done: (error?: Error | null) => void): void;
  pause(): void;
  resume(): void;
  ref(): void;
  unref(): void;
  end(): void;
  destroy(): void;
}

class NodeEnd extends PushedEnd {
  readonly #socket: NodeSocket;

  constructor(fd: number) {
    super();
    const { process } = globalThis as unknown as {
      process: { getBuiltinModule(name: string): { Socket: new (options: object) => NodeSocket } };
    };
    const { Socket } = process.getBuiltinModule("node:net");
    try {
      this.#socket = new Socket({ fd, readable: true, writable: true });
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#socket.on("data", (chunk) => this.arrived(chunk.slice()));
    this.#socket.on("close", () => this.ended());
    this.#socket.on("error", () => {});
    this.#socket.pause();
    this.#socket.unref();
  }

  protected resume(): void {
    this.#socket.resume();
  }

  protected pause(): void {
    this.#socket.pause();
  }

  protected keep(alive: boolean): void {
    if (alive) this.#socket.ref();
    else this.#socket.unref();
  }

  write(chunk: Uint8Array): Promise<void> {
    this.keep(true);
    return new Promise<void>((resolve, reject) =>
      this.#socket.write(chunk, (error) => error ? reject(brokenPipe()) : resolve())
    ).finally(() => this.keep(false));
  }

  close(): void {
    this.#socket.destroy();
  }
}
