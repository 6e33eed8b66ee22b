/**
 * Descriptors: flags, bytes in and out, small files.
 *
 * @module
 */
import { check, cString, errno, SystemError } from "../../ffi/mod.ts";
import type { DescriptorMechanism } from "../types.ts";
import { unlockAll } from "./life.ts";
import { forgetSharedPath } from "./shared_file.ts";
import { constants, errnos, libc, structs } from "./system.ts";

/**
 * Closes a descriptor.
 *
 * @throws {SystemError} EBADF: it was not open
 */
export function closeFd(fd: number): void {
  forgetSharedPath(fd);
  // After EINTR the descriptor is gone on both systems: closing again could hit somebody else's.
  if (libc.close(fd) < 0 && errno() !== errnos.EINTR) {
    throw new SystemError("close", errno(), `descriptor ${fd}`);
  }
}

/**
 * Closes a descriptor that a terminated Worker left. What the Worker mapped stays mapped and keeps the open file description, and with it its locks, so
 * they are given back first.
 *
 * @throws {SystemError} EBADF
 */
export function closeAbandoned(fd: number): void {
  unlockAll(fd);
  closeFd(fd);
}

/**
 * Sets whether a program that this process becomes or starts loses the descriptor.
 *
 * @throws {SystemError} EBADF
 */
export function setCloexec(fd: number, on: boolean): void {
  const flags = check("fcntl", libc.fcntlInt(fd, constants.F_GETFD, 0), `F_GETFD of descriptor ${fd}`);
  const wanted = on ? flags | constants.FD_CLOEXEC : flags & ~constants.FD_CLOEXEC;
  if (wanted !== flags) {
    check("fcntl", libc.fcntlInt(fd, constants.F_SETFD, wanted), `F_SETFD of descriptor ${fd}`);
  }
}

/** Whether the descriptor is closed on exec; null when it is not open. */
export function isCloexec(fd: number): boolean | null {
  const flags = libc.fcntlInt(fd, constants.F_GETFD, 0);
  return flags < 0 ? null : (flags & constants.FD_CLOEXEC) !== 0;
}

/**
 * Sets whether reads and writes return at once. The flag belongs to the open file description, so every descriptor
 * of it changes, in other processes too.
 *
 * @throws {SystemError} EBADF
 */
export function setNonblocking(fd: number, on: boolean): void {
  const flags = check("fcntl", libc.fcntlInt(fd, constants.F_GETFL, 0), `F_GETFL of descriptor ${fd}`);
  const wanted = on ? flags | constants.O_NONBLOCK : flags & ~constants.O_NONBLOCK;
  if (wanted !== flags) {
    check("fcntl", libc.fcntlInt(fd, constants.F_SETFL, wanted), `F_SETFL of descriptor ${fd}`);
  }
}

/**
 * Another descriptor of the same open file description, closed on exec.
 *
 * @param fd the descriptor
 * @param atLeast the lowest number that it may get
 * @throws {SystemError} EBADF, EMFILE
 */
export function duplicate(fd: number, atLeast = 3): number {
  return check(
    "fcntl",
    libc.fcntlInt(fd, constants.F_DUPFD_CLOEXEC, atLeast),
    `F_DUPFD_CLOEXEC of descriptor ${fd}`,
  );
}

/**
 * Reads once.
 *
 * @param fd a descriptor
 * @param view where the bytes go
 * @returns how many bytes came, 0 at the end, -1 when a non-blocking descriptor has none now (EAGAIN)
 * @throws {SystemError} any other failure
 */
export function readFd(fd: number, view: ArrayBufferView): number {
  for (;;) {
    const count = libc.read(fd, view, view.byteLength);
    if (count >= 0) return count;
    const code = errno();
    if (code === errnos.EAGAIN) return -1;
    if (code !== errnos.EINTR) throw new SystemError("read", code, `descriptor ${fd}`);
  }
}

/**
 * Writes once.
 *
 * @param fd a descriptor
 * @param view what to write
 * @returns how many bytes went, -1 when a non-blocking descriptor takes none now (EAGAIN)
 * @throws {SystemError} any other failure
 */
export function writeFd(fd: number, view: ArrayBufferView): number {
  for (;;) {
    const count = libc.write(fd, view, view.byteLength);
    if (count >= 0) return count;
    const code = errno();
    if (code === errnos.EAGAIN) return -1;
    if (code !== errnos.EINTR) throw new SystemError("write", code, `descriptor ${fd}`);
  }
}

/** Flags of {@linkcode openFile}. */
export interface OpenFileOptions {
  /** Writing too. @default false */
  readonly write?: boolean;
  /** Makes the file; fails with EEXIST when it exists. @default false */
  readonly create?: boolean;
  /** Permission bits of a file that is made. @default 0o600 */
  readonly mode?: number;
}

/**
 * Opens a file, closed on exec. Needs no permission but ffi.
 *
 * @throws {SystemError} for example ENOENT, naming the path
 */
export function openFile(path: string, options: OpenFileOptions = {}): number {
  const flags = (options.write === true ? constants.O_RDWR : constants.O_RDONLY) | constants.O_CLOEXEC |
    (options.create === true ? constants.O_CREAT | constants.O_EXCL : 0);
  const name = cString(path);
  return check("open", libc.open(name, flags, options.mode ?? 0o600), path);
}

/**
 * Reads a whole small file by FFI, so that /proc and the like need no permission but ffi.
 *
 * @param path the file
 * @returns its bytes
 * @throws {SystemError} for example ENOENT, naming the path
 */
export function readSmallFile(path: string): Uint8Array<ArrayBuffer> {
  const fd = openFile(path);
  try {
    // /proc tells no size, so the end is where a read returns 0.
    let bytes = new Uint8Array(4096);
    let length = 0;
    for (;;) {
      if (length === bytes.length) {
        const larger = new Uint8Array(bytes.length * 4);
        larger.set(bytes);
        bytes = larger;
      }
      const count = libc.readOnce(fd, bytes.subarray(length), bytes.length - length);
      if (count > 0) length += count;
      else if (count === 0) return bytes.slice(0, length);
      else if (errno() !== errnos.EINTR) throw new SystemError("read", errno(), path);
    }
  } finally {
    libc.close(fd);
  }
}

/**
 * Waits until a descriptor can be read, or is at its end. Blocks the thread.
 *
 * @param fd a descriptor
 * @param milliseconds how long at most; 0 only looks
 * @returns whether a read would return at once
 * @throws {SystemError} EBADF for a descriptor that is not open
 */
export function waitReadable(fd: number, milliseconds: number): boolean {
  const layout = structs["struct pollfd"];
  const bytes = new Uint8Array(layout.size);
  const entry = new DataView(bytes.buffer);
  entry.setInt32(layout.fd, fd, true);
  entry.setInt16(layout.events, constants.POLLIN, true);
  // Rounded up: poll takes whole milliseconds, and a wait must not end before its time.
  const count = libc.poll(bytes, 1, Math.ceil(Math.max(0, Math.min(milliseconds, 0x7fffffff))));
  if (count < 0) {
    const code = errno();
    if (code === errnos.EINTR) return false;
    throw new SystemError("poll", code, `descriptor ${fd}`);
  }
  const events = entry.getInt16(layout.revents, true);
  if ((events & constants.POLLNVAL) !== 0) throw new SystemError("poll", errnos.EBADF, `descriptor ${fd}`);
  return events !== 0;
}

/**
 * Descriptors whose flags are set after they were made. Between the two a thread of this process that forks leaks
 * them, which Linux's own calls avoid.
 */
export const plainDescriptors: DescriptorMechanism = {
  pipe(nonblocking: boolean): [number, number] {
    const ends = new Int32Array(2);
    check("pipe", libc.pipe(ends));
    return finished([ends[0], ends[1]], nonblocking);
  },
  socket(type: "stream" | "datagram", nonblocking: boolean): number {
    const kind = type === "stream" ? constants.SOCK_STREAM : constants.SOCK_DGRAM;
    return finished([check("socket", libc.socket(constants.AF_UNIX, kind, 0))], nonblocking)[0];
  },
  socketPair(type: "stream" | "datagram", nonblocking: boolean): [number, number] {
    const kind = type === "stream" ? constants.SOCK_STREAM : constants.SOCK_DGRAM;
    const ends = new Int32Array(2);
    check("socketpair", libc.socketpair(constants.AF_UNIX, kind, 0, ends));
    return finished([ends[0], ends[1]], nonblocking);
  },
};

function finished<T extends number[]>(fds: T, nonblocking: boolean): T {
  for (const fd of fds) {
    setCloexec(fd, true);
    if (nonblocking) setNonblocking(fd, true);
  }
  return fds;
}
