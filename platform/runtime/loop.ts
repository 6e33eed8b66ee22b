/**
 * What this module has the runtime's own event loop watch: a doorbell by which other agents wake this one, sentinels of children, and a
 * heartbeat. No helper thread stands behind any of them.
 *
 * | runtime | doorbell | a ring | sentinel of a child |
 * |---|---|---|---|
 * | Deno | unix stream listener of its own | a connection for each ringer, then one byte | a connection to the listener that the child holds open |
 * | Deno without net permission | a pipe, adopted as `net.Socket` (25 ms once) | the pipe, opened through /proc | a pipe adopted likewise |
 * | Bun | bound unix datagram socket, adopted with `Bun.connect({ fd })` | one datagram | a socket pair, adopted likewise |
 *
 * Nothing here keeps the process alive by itself but what is `ref`'d.
 *
 * @module
 */
import {
  abstractNamesSupported,
  bindUnix,
  closeFd,
  connectUnix,
  datagramSocket,
  errnos,
  openFile,
  pipe,
  sendFd,
  sendTo,
  setNonblocking,
  socketPair,
  streamSocket,
  SystemError,
  unixAddress,
  writeFd,
} from "../mod.ts";
import { timers } from "./timers.ts";
import { bun, type BunSocket, deno, type DenoConnection, type DenoListener } from "./globals.ts";

/** How an agent is rung. The numbers stand in the arena's agent table. */
export const BELL_NONE = 0;
export const BELL_STREAM = 1;
export const BELL_DATAGRAM = 2;
export const BELL_PIPE = 3;

/** The end of one child, as the loop sees it. */
export interface Sentinel {
  /** Descriptor that the child, and nobody else, is to hold open. Close it here once the child has it. */
  readonly childFd: number;
  ref(): void;
  unref(): void;
  close(): void;
}

/** What wakes this agent. */
export interface Doorbell {
  readonly kind: number;
  /** The descriptor that ringers open through /proc, for {@linkcode BELL_PIPE}; else 0. */
  readonly info: number;
  /** Watches for the end of a child. */
  watch(onClose: () => void): Sentinel;
  /**
   * Two connected sockets, one of them in this agent's loop; only where the loop can have it so. `connection` gives also what the other end sent
   * before it was taken over, and null when the bell is closed first.
   */
  connect?(): {
    readonly childFd: number;
    readonly connection: Promise<{ connection: DenoConnection; rest: Uint8Array } | null>;
  };
  close(): void;
}

const ONE = new Uint8Array([1]);
/** More ringers than a session has agents are no ringers. */
const MOST_CONNECTIONS = 2048;
const HELLO_RING = 0x52;
const HELLO_SENTINEL = 0x53;
const HELLO_STREAM = 0x54;
const HELLO_BYTES = 21;

/**
 * Opens this agent's doorbell.
 *
 * @param name its address: a name in the abstract namespace, or a path where there is none
 * @param nonce 16 bytes that a ringer must know
 * @param onRing called when somebody rang
 */
export function openDoorbell(name: string, nonce: Uint8Array, onRing: () => void): Doorbell {
  if (bun !== undefined) return new DatagramDoorbell(name, onRing);
  if (mayListen()) return new StreamDoorbell(name, nonce, onRing);
  return new PipeDoorbell(onRing);
}

function mayListen(): boolean {
  const granted = (kind: string): boolean => deno!.permissions.querySync({ name: kind }).state === "granted";
  return granted("net") && (abstractNamesSupported() || (granted("read") && granted("write")));
}

function hello(kind: number, nonce: Uint8Array, id: number): Uint8Array {
  const bytes = new Uint8Array(HELLO_BYTES);
  bytes[0] = kind;
  bytes.set(nonce, 1);
  new DataView(bytes.buffer).setUint32(17, id, true);
  return bytes;
}

class StreamDoorbell implements Doorbell {
  readonly kind = BELL_STREAM;
  readonly info = 0;
  readonly #listener: DenoListener;
  readonly #name: string;
  readonly #nonce: Uint8Array;
  readonly #onRing: () => void;
  readonly #connections = new Set<DenoConnection>();
  readonly #sentinels = new Map<
    number,
    { onClose: () => void; refs: boolean; connection: DenoConnection | undefined }
  >();
  readonly #streams = new Map<
    number,
    (opened: { connection: DenoConnection; rest: Uint8Array } | null) => void
  >();
  #nextId = 1;
  #unaccepted = 0;
  #closed = false;

  constructor(name: string, nonce: Uint8Array, onRing: () => void) {
    this.#name = name;
    this.#nonce = nonce;
    this.#onRing = onRing;
    this.#listener = deno!.listen({ transport: "unix", path: abstractNamesSupported() ? `\0${name}` : name });
    this.#listener.unref();
    this.#accept();
  }

  async #accept(): Promise<void> {
    while (!this.#closed) {
      let connection: DenoConnection;
      try {
        connection = await this.#listener.accept();
      } catch {
        if (this.#closed) return;
        await Promise.resolve(); // EMFILE and the like: ringers fall back to the heartbeat
        continue;
      }
      connection.unref();
      if (this.#closed || this.#connections.size >= MOST_CONNECTIONS) connection.close();
      else this.#serve(connection);
    }
  }

  async #serve(connection: DenoConnection): Promise<void> {
    this.#connections.add(connection);
    const buffer = new Uint8Array(64);
    let onClose: (() => void) | undefined;
    let taken = false;
    try {
      let have = 0;
      while (have < HELLO_BYTES) {
        const n = await connection.read(buffer.subarray(have));
        if (n === null) return;
        have += n;
      }
      for (let i = 0; i < 16; i++) if (buffer[1 + i] !== this.#nonce[i]) return;
      const id = new DataView(buffer.buffer).getUint32(17, true);
      if (buffer[0] === HELLO_STREAM) {
        if (--this.#unaccepted === 0) this.#listener.unref();
        const take = this.#streams.get(id);
        if (take === undefined || !this.#streams.delete(id)) return;
        taken = true;
        return take({ connection, rest: buffer.subarray(HELLO_BYTES, have) });
      }
      if (buffer[0] === HELLO_SENTINEL) {
        const sentinel = this.#sentinels.get(id);
        if (sentinel === undefined) {
          // Closed before it came here.
          if (--this.#unaccepted === 0) this.#listener.unref();
          return;
        }
        sentinel.connection = connection;
        if (--this.#unaccepted === 0) this.#listener.unref();
        if (sentinel.refs) connection.ref();
        onClose = () => {
          if (this.#sentinels.delete(id)) sentinel.onClose();
        };
      } else this.#onRing();
      for (;;) {
        if (await connection.read(buffer) === null) return;
        this.#onRing();
      }
    } catch {
      // reset by the peer's death, or closed by us
    } finally {
      this.#connections.delete(connection);
      try {
        if (!taken) connection.close();
      } catch { /* closed already */ }
      onClose?.();
    }
  }

  watch(onClose: () => void): Sentinel {
    const id = this.#nextId++;
    const entry = { onClose, refs: true, connection: undefined as DenoConnection | undefined };
    this.#sentinels.set(id, entry);
    let fd: number;
    try {
      fd = this.#dial(HELLO_SENTINEL, id);
    } catch (error) {
      this.#sentinels.delete(id);
      throw error;
    }
    return {
      childFd: fd,
      ref: () => {
        entry.refs = true;
        entry.connection?.ref();
      },
      unref: () => {
        entry.refs = false;
        entry.connection?.unref();
      },
      close: () => {
        this.#sentinels.delete(id);
        try {
          entry.connection?.close();
        } catch { /* closed already */ }
      },
    };
  }

  connect(): ReturnType<NonNullable<Doorbell["connect"]>> {
    const id = this.#nextId++;
    const { promise, resolve } = Promise.withResolvers<
      { connection: DenoConnection; rest: Uint8Array } | null
    >();
    const childFd = this.#dial(HELLO_STREAM, id);
    this.#streams.set(id, resolve);
    return { childFd, connection: promise };
  }

  /** A connection to this bell itself. Until it is accepted, the listener keeps the loop alive in its place. */
  #dial(kind: number, id: number): number {
    const fd = streamSocket();
    const failed = connectUnix(fd, unixAddress(this.#name, abstractNamesSupported()));
    if (failed < 0 || sendFd(fd, hello(kind, this.#nonce, id)) !== HELLO_BYTES) {
      closeFd(fd);
      throw new Error(
        `Cannot watch a child: this agent's own doorbell did not take a connection (errno ${-failed}); too many processes are being started at once`,
      );
    }
    if (this.#unaccepted++ === 0) this.#listener.ref();
    return fd;
  }

  close(): void {
    this.#closed = true;
    for (const take of this.#streams.values()) take(null);
    this.#streams.clear();
    this.#listener.close();
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch { /* closed already */ }
    }
    this.#sentinels.clear();
  }
}

class DatagramDoorbell implements Doorbell {
  readonly kind = BELL_DATAGRAM;
  readonly info = 0;
  readonly #adopted: Adopted;

  constructor(name: string, onRing: () => void) {
    const fd = datagramSocket();
    bindUnix(fd, unixAddress(name, abstractNamesSupported()));
    this.#adopted = new Adopted(fd, onRing, undefined);
    this.#adopted.unref();
  }

  watch(onClose: () => void): Sentinel {
    const [ours, theirs] = socketPair("stream", { nonblocking: true });
    const adopted = new Adopted(ours, undefined, onClose);
    return {
      childFd: theirs,
      ref: () => adopted.ref(),
      unref: () => adopted.unref(),
      close: () => adopted.close(),
    };
  }

  close(): void {
    this.#adopted.close();
  }
}

/** A socket in Bun's loop. `Bun.connect` answers later; what is asked meanwhile is done then. */
class Adopted {
  #socket: BunSocket | undefined;
  #refs = true;
  #closed = false;

  constructor(fd: number, onData: (() => void) | undefined, onClose: (() => void) | undefined) {
    bun!.connect({
      fd,
      socket: {
        open: (socket) => this.#opened(socket),
        data: () => onData?.(),
        close: () => {
          if (this.#closed) return;
          this.#closed = true;
          onClose?.();
        },
        error: () => {},
      },
    }).then((socket) => this.#opened(socket), () => onClose?.());
  }

  #opened(socket: BunSocket): void {
    this.#socket = socket;
    if (this.#closed) socket.terminate();
    else if (this.#refs) socket.ref();
    else socket.unref();
  }

  ref(): void {
    this.#refs = true;
    this.#socket?.ref();
  }

  unref(): void {
    this.#refs = false;
    this.#socket?.unref();
  }

  close(): void {
    this.#closed = true;
    this.#socket?.terminate();
  }
}

interface NodeSocket {
  on(event: string, listener: (...args: unknown[]) => void): void;
  ref(): void;
  unref(): void;
  destroy(): void;
}

/** Only here does Deno's Node compatibility get loaded: it alone adopts a descriptor without a permission. */
function adoptPipe(fd: number, onData: () => void, onClose: () => void): NodeSocket {
  const process = (globalThis as unknown as {
    process: { getBuiltinModule(name: string): { Socket: new (options: object) => NodeSocket } };
  }).process;
  const { Socket } = process.getBuiltinModule("node:net");
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on("data", onData);
  socket.on("close", onClose);
  socket.on("error", () => {});
  return socket;
}

class PipeDoorbell implements Doorbell {
  readonly kind = BELL_PIPE;
  readonly info: number;
  readonly #socket: NodeSocket;

  constructor(onRing: () => void) {
    const [reading, writing] = pipe({ nonblocking: true });
    this.info = writing;
    this.#socket = adoptPipe(reading, onRing, () => {});
    this.#socket.unref();
  }

  watch(onClose: () => void): Sentinel {
    const [ours, theirs] = pipe({ nonblocking: true });
    let open = true;
    const socket = adoptPipe(ours, () => {}, () => {
      if (open) onClose();
      open = false;
    });
    return {
      childFd: theirs,
      ref: () => socket.ref(),
      unref: () => socket.unref(),
      close: () => {
        open = false;
        socket.destroy();
      },
    };
  }

  close(): void {
    this.#socket.destroy();
    closeFd(this.info);
  }
}

/** The descriptors through which this agent rings others. */
export class Ringers {
  readonly #nonce: () => Uint8Array;
  readonly #connections = new Map<number, number>();
  readonly #addresses = new Map<number, Uint8Array>();
  #datagram = -1;

  /** What {@linkcode prepare} has still to do. */
  #unprepared: Interval | undefined;

  constructor(nonce: () => Uint8Array) {
    this.#nonce = nonce;
  }

  /**
   * Binds and compiles what the first ring needs, 1 to 2 ms in all, in small pieces and not in the midst of a wait. The calls name no descriptor,
   * so they fail and ring nobody.
   *
   * @param kind of this agent's own bell, as others of its session mostly have the same
   * @param name of that bell
   */
  prepare(kind: number, name: string): void {
    let address: Uint8Array;
    const naming = (): void => void (address = unixAddress(name, abstractNamesSupported()));
    const steps = kind === BELL_DATAGRAM
      ? [naming, () => closeFd(datagramSocket()), () => sendTo(-1, ONE, address)]
      : kind === BELL_STREAM
      ? [naming, () => closeFd(streamSocket()), () => connectUnix(-1, address), () => sendFd(-1, ONE)]
      : [];
    const interval = this.#unprepared = new Interval(1);
    interval.start(() => {
      const step = steps.shift();
      if (step === undefined) return interval.stop();
      try {
        step();
      } catch {
        // No descriptor is left: rings fail then, too, and say so.
      }
    });
    interval.unref();
  }

  /**
   * Rings once. A ring may fail, and often that does not matter: a full buffer holds rings already, and a dead agent needs none.
   *
   * @param token of the agent, as key for what is kept open
   * @param kind one of the `BELL_` numbers
   * @param name gives its address: a socket's name, or for a pipe the path in /proc
   */
  ring(token: number, kind: number, name: (token: number) => string): boolean {
    if (kind === BELL_DATAGRAM) {
      if (this.#datagram < 0) this.#datagram = datagramSocket();
      let address = this.#addresses.get(token);
      if (address === undefined) {
        this.#addresses.set(token, address = unixAddress(name(token), abstractNamesSupported()));
      }
      return sendTo(this.#datagram, ONE, address) === 1;
    }
    if (kind !== BELL_STREAM && kind !== BELL_PIPE) return false;
    const open = this.#connections.get(token);
    if (open !== undefined) {
      const sent = kind === BELL_STREAM ? sendFd(open, ONE) : writePipe(open);
      // A full buffer holds rings already; any other failure means that nobody reads any more.
      if (sent === 1 || sent === -errnos.EAGAIN) return sent === 1;
      this.forget(token);
      return false;
    }
    try {
      return this.#connect(token, kind, name(token));
    } catch {
      return false;
    }
  }

  #connect(token: number, kind: number, name: string): boolean {
    if (kind === BELL_PIPE) {
      const fd = openFile(name, { write: true });
      setNonblocking(fd, true);
      this.#connections.set(token, fd);
      return writePipe(fd) === 1;
    }
    const fd = streamSocket();
    // The hello is a ring in itself.
    if (
      connectUnix(fd, unixAddress(name, abstractNamesSupported())) < 0 ||
      sendFd(fd, hello(HELLO_RING, this.#nonce(), 0)) !== HELLO_BYTES
    ) {
      closeFd(fd);
      return false;
    }
    this.#connections.set(token, fd);
    return true;
  }

  /** Closes what is open towards an agent that is gone. */
  forget(token: number): void {
    this.#addresses.delete(token);
    const fd = this.#connections.get(token);
    if (fd === undefined) return;
    this.#connections.delete(token);
    closeFd(fd);
  }

  close(): void {
    this.#unprepared?.stop();
    for (const token of [...this.#connections.keys()]) this.forget(token);
    if (this.#datagram >= 0) closeFd(this.#datagram);
    this.#datagram = -1;
    this.#addresses.clear();
  }
}

function writePipe(fd: number): number {
  try {
    return writeFd(fd, ONE) === 1 ? 1 : -errnos.EAGAIN;
  } catch (error) {
    return error instanceof SystemError ? -error.errno : -errnos.EPIPE;
  }
}

/** A repeated call that keeps the loop alive only while it is ref'd. */
export class Interval {
  #id: unknown;
  readonly #milliseconds: number;

  constructor(milliseconds: number) {
    this.#milliseconds = milliseconds;
  }

  start(tick: () => void): void {
    this.#id = timers().setInterval(tick, this.#milliseconds);
  }

  ref(): void {
    if (this.#id !== undefined) refTimer(this.#id);
  }

  unref(): void {
    if (this.#id !== undefined) unrefTimer(this.#id);
  }

  stop(): void {
    if (this.#id !== undefined) timers().clearInterval(this.#id);
    this.#id = undefined;
  }
}

/** One call after a time, which keeps the loop alive only while it is ref'd. */
export class Alarm {
  #id: unknown;
  #refs = true;
  readonly #ring: () => void;

  constructor(ring: () => void) {
    this.#ring = ring;
  }

  /** Sets it, or sets it anew. */
  set(milliseconds: number): void {
    this.stop();
    this.#id = timers().setTimeout(() => {
      this.#id = undefined;
      this.#ring();
    }, milliseconds);
    if (!this.#refs) unrefTimer(this.#id);
  }

  ref(): void {
    this.#refs = true;
    if (this.#id !== undefined) refTimer(this.#id);
  }

  unref(): void {
    this.#refs = false;
    if (this.#id !== undefined) unrefTimer(this.#id);
  }

  stop(): void {
    if (this.#id !== undefined) timers().clearTimeout(this.#id);
    this.#id = undefined;
  }
}

function refTimer(id: unknown): void {
  if (deno !== undefined) deno.refTimer(id);
  else (id as { ref(): void }).ref();
}

function unrefTimer(id: unknown): void {
  if (deno !== undefined) deno.unrefTimer(id);
  else (id as { unref(): void }).unref();
}

/** Calls back when this agent ends by itself: by the end of its work or by exit, not by a signal. */
export function onExit(callback: () => void): void {
  if (bun === undefined) return globalThis.addEventListener("unload", callback);
  (globalThis as unknown as { process: { on(event: string, listener: () => void): void } }).process.on(
    "exit",
    callback,
  );
}
