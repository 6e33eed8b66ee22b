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
  admitDatagrams,
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

/** Where an agent is rung. */
export interface BellAddress {
  /** A socket's name: in the abstract namespace, where every user sees it, or a path where there is none. For a pipe, its path in /proc. */
  readonly name: string;
  /** {@linkcode KEY_BYTES} bytes that a ringer must know, and only who sees the session's memory does. */
  readonly key: Uint8Array;
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
/** Ringers that are listened to at once, well below the usual limit of 1,024 descriptors. Others are left to the heartbeat. */
const MOST_RINGERS = 512;
/** Connections that have not said hello yet, of which the oldest makes room for a new one: any user can connect to an abstract name. */
const MOST_STRANGERS = 32;
/** How long one may take for its hello, in milliseconds. Ours say it as they connect. */
const HELLO_MS = 1000;
/** How long the doorbell rests when no descriptor is left, in milliseconds. */
const REST_MS = 100;
const HELLO_RING = 0x52;
const HELLO_SENTINEL = 0x53;
const HELLO_STREAM = 0x54;
/** Bytes of a bell's key. */
export const KEY_BYTES = 8;
const HELLO_BYTES = 1 + KEY_BYTES + 4;

/**
 * Opens this agent's doorbell.
 *
 * @param address where it is to be found, and what it is to be told
 * @param onRing called when somebody rang
 */
export function openDoorbell(address: BellAddress, onRing: () => void): Doorbell {
  if (bun !== undefined) return new DatagramDoorbell(address, onRing);
  if (mayListen()) return new StreamDoorbell(address, onRing);
  return new PipeDoorbell(onRing);
}

function beginsWith(bytes: Uint8Array, key: Uint8Array): boolean {
  return key.every((byte, i) => bytes[i] === byte);
}

function mayListen(): boolean {
  const granted = (kind: string): boolean => deno!.permissions.querySync({ name: kind }).state === "granted";
  return granted("net") && (abstractNamesSupported() || (granted("read") && granted("write")));
}

function hello(kind: number, key: Uint8Array, id: number): Uint8Array {
  const bytes = new Uint8Array(HELLO_BYTES);
  bytes[0] = kind;
  bytes.set(key, 1);
  new DataView(bytes.buffer).setUint32(1 + KEY_BYTES, id, true);
  return bytes;
}

function closeQuietly(connection: DenoConnection | undefined): void {
  try {
    connection?.close();
  } catch { /* closed already */ }
}

class StreamDoorbell implements Doorbell {
  readonly kind = BELL_STREAM;
  readonly info = 0;
  readonly #listener: DenoListener;
  readonly #address: BellAddress;
  readonly #onRing: () => void;
  readonly #connections = new Set<DenoConnection>();
  /** Those that have not said hello yet, the oldest first. */
  readonly #strangers = new Set<DenoConnection>();
  #ringers = 0;
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
  #rest: Alarm | undefined;
  #closed = false;

  constructor(address: BellAddress, onRing: () => void) {
    this.#address = address;
    this.#onRing = onRing;
    const { name } = address;
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
        // EMFILE and the like: ringers fall back to the heartbeat.
        if (!this.#closed) await this.#pause(REST_MS);
        continue;
      }
      connection.unref();
      this.#connections.add(connection);
      // One whose hello has come is no stranger any more once the loop has turned.
      if (this.#strangers.size >= MOST_STRANGERS) await this.#pause(0);
      if (this.#strangers.size >= MOST_STRANGERS) closeQuietly([...this.#strangers][0]);
      if (this.#closed) closeQuietly(connection);
      else this.#serve(connection);
    }
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.#rest = new Alarm(resolve);
      if (this.#unaccepted === 0) this.#rest.unref();
      this.#rest.set(milliseconds);
    });
  }

  async #serve(connection: DenoConnection): Promise<void> {
    const buffer = new Uint8Array(64);
    let rings = false;
    let onClose: (() => void) | undefined;
    let taken = false;
    try {
      if (!await this.#isOurs(connection, buffer)) return;
      const id = new DataView(buffer.buffer).getUint32(1 + KEY_BYTES, true);
      if (buffer[0] === HELLO_STREAM) {
        if (--this.#unaccepted === 0) this.#listener.unref();
        const take = this.#streams.get(id);
        if (take === undefined || !this.#streams.delete(id)) return;
        taken = true;
        return take({ connection, rest: buffer.subarray(0, 0) });
      }
      if (buffer[0] === HELLO_SENTINEL) {
        const sentinel = this.#sentinels.get(id);
        if (--this.#unaccepted === 0) this.#listener.unref();
        if (sentinel === undefined) return; // closed before it came here
        sentinel.connection = connection;
        if (sentinel.refs) connection.ref();
        onClose = () => {
          if (this.#sentinels.delete(id)) sentinel.onClose();
        };
      } else {
        this.#onRing();
        if (this.#ringers >= MOST_RINGERS) return;
        this.#ringers++;
        rings = true;
      }
      for (;;) {
        if (await connection.read(buffer) === null) return;
        this.#onRing();
      }
    } catch {
      // reset by the peer's death, or closed by us
    } finally {
      this.#connections.delete(connection);
      if (rings) this.#ringers--;
      if (!taken) closeQuietly(connection);
      onClose?.();
    }
  }

  /** Reads the hello, and whether it is one of this session. */
  async #isOurs(connection: DenoConnection, buffer: Uint8Array): Promise<boolean> {
    this.#strangers.add(connection);
    // Twice half the time: after a blocked loop timers may come before what was sent meanwhile.
    let halves = 2;
    const patience = new Alarm(() => --halves > 0 ? patience.set(HELLO_MS / 2) : closeQuietly(connection));
    patience.unref();
    patience.set(HELLO_MS / 2);
    try {
      for (let have = 0; have < HELLO_BYTES;) {
        const n = await connection.read(buffer.subarray(have, HELLO_BYTES));
        if (n === null) return false;
        have += n;
      }
      return beginsWith(buffer.subarray(1), this.#address.key);
    } finally {
      patience.stop();
      this.#strangers.delete(connection);
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
        closeQuietly(entry.connection);
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
    const failed = connectUnix(fd, unixAddress(this.#address.name, abstractNamesSupported()));
    if (failed < 0 || sendFd(fd, hello(kind, this.#address.key, id)) !== HELLO_BYTES) {
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
    this.#rest?.stop();
    for (const connection of this.#connections) closeQuietly(connection);
    this.#sentinels.clear();
  }
}

class DatagramDoorbell implements Doorbell {
  readonly kind = BELL_DATAGRAM;
  readonly info = 0;
  readonly #adopted: Adopted;

  constructor({ name, key }: BellAddress, onRing: () => void) {
    const fd = datagramSocket();
    const abstract = abstractNamesSupported();
    // An empty datagram would close the socket for Bun, and any user can send to an abstract name.
    if (abstract) admitDatagrams(fd, key);
    bindUnix(fd, unixAddress(name, abstract));
    this.#adopted = new Adopted(fd, (data) => beginsWith(data, key) && onRing(), undefined);
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

  constructor(
    fd: number,
    onData: ((data: Uint8Array) => void) | undefined,
    onClose: (() => void) | undefined,
  ) {
    bun!.connect({
      fd,
      socket: {
        open: (socket) => this.#opened(socket),
        data: (_socket, data) => onData?.(data),
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
  readonly #connections = new Map<number, number>();
  readonly #addresses = new Map<number, { name: Uint8Array; key: Uint8Array }>();
  #datagram = -1;

  /** What {@linkcode prepare} has still to do. */
  #unprepared: Interval | undefined;

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
   * @param find gives its address
   */
  ring(token: number, kind: number, find: (token: number) => BellAddress): boolean {
    if (kind === BELL_DATAGRAM) {
      if (this.#datagram < 0) this.#datagram = datagramSocket();
      let address = this.#addresses.get(token);
      if (address === undefined) {
        const { name, key } = find(token);
        this.#addresses.set(token, address = { name: unixAddress(name, abstractNamesSupported()), key });
      }
      return sendTo(this.#datagram, address.key, address.name) === KEY_BYTES;
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
      return this.#connect(token, kind, find(token));
    } catch {
      return false;
    }
  }

  #connect(token: number, kind: number, { name, key }: BellAddress): boolean {
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
      sendFd(fd, hello(HELLO_RING, key, 0)) !== HELLO_BYTES
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

/**
 * Calls back when this agent ends by itself: by the end of its work, by exit or by an uncaught error, not by a signal. Perhaps twice. (Deno tells
 * nothing when a top-level await never resolves.)
 */
export function onExit(callback: () => void): void {
  if (bun === undefined) {
    globalThis.addEventListener("unload", callback);
    globalThis.addEventListener("error", (event) => {
      // Without a place in a source it is an event that the program made itself, and lives on after.
      if (event.cancelable && (event as ErrorEvent).filename !== "") whenUnprevented(event, 1, callback);
    });
    globalThis.addEventListener("unhandledrejection", (event) => whenUnprevented(event, 3, callback));
    return;
  }
  (globalThis as unknown as { process: { on(event: string, listener: () => void): void } }).process.on(
    "exit",
    callback,
  );
}

/**
 * Calls back if an error's event was left to end the program, for which Deno fires no "unload". A listener cannot know, as others come after it; but
 * when all are through Deno looks at `defaultPrevented`, and at nothing else: once for an error, and for a rejection a third time after Node's handlers
 * (`process.on("unhandledRejection")`). If another version looks less often, what the callback removes stays.
 */
function whenUnprevented(event: Event, looks: number, callback: () => void): void {
  const { get } = Object.getOwnPropertyDescriptor(Event.prototype, "defaultPrevented")!;
  Object.defineProperty(event, "defaultPrevented", {
    configurable: true,
    get(this: Event): boolean {
      const prevented: boolean = get!.call(this);
      if (!prevented && this.eventPhase === Event.NONE && --looks === 0) callback();
      return prevented;
    },
  });
}
