/**
 * The operating system, behind one contract: `types.ts` says what each system supplies. Which implementation serves a
 * call is decided at its first use. `GEVENTMP_FORCE=darwin-fallbacks` in the environment has Linux use everything
 * that Darwin must do without memfd, /proc, futex, abstract names and flags at creation.
 *
 * What few programs need is not loaded with this module: import `posix/semaphores.ts` and `linux/eventfd.ts` directly.
 *
 * Functions throw {@linkcode SystemError} when the system refuses, and {@linkcode UnsupportedPlatformError} on a system
 * other than Linux and Darwin, unless they say otherwise.
 *
 * @module
 */
import { type Address, SystemError } from "../ffi/mod.ts";
import { darwinIdentity } from "./darwin/identity.ts";
import { darwinMemory } from "./darwin/memory.ts";
import { linuxDescriptors } from "./linux/descriptors.ts";
import {
  linuxIdentity,
  linuxIdentityWithoutProc,
  parentDeathSignal as linuxParentDeathSignal,
} from "./linux/identity.ts";
import { linuxMemory, linuxSharedFiles } from "./linux/memory.ts";
import { linuxParking } from "./linux/parking.ts";
import { fallbacksForced } from "./posix/environment.ts";
import { closeFd, plainDescriptors } from "./posix/files.ts";
import { sleepingParking } from "./posix/parking.ts";
import { connectUnix } from "./posix/sockets.ts";
import { errnos, type ErrorName, osName } from "./posix/system.ts";
import type {
  DescriptorMechanism,
  FileIdentity,
  IdentityMechanism,
  ParkingMechanism,
  SharedMemoryMechanism,
} from "./types.ts";

export { ForeignCallError, SystemError } from "../ffi/mod.ts";
export type { Address } from "../ffi/mod.ts";
export { openPidFd } from "./linux/identity.ts";
export {
  environ,
  fallbacksForced,
  getenv,
  getSharedEnv,
  setSharedEnv,
  unsetSharedEnv,
} from "./posix/environment.ts";
export {
  closeAbandoned,
  closeFd,
  duplicate,
  isCloexec,
  openFile,
  readFd,
  readSmallFile,
  setCloexec,
  setNonblocking,
  waitReadable,
  writeFd,
} from "./posix/files.ts";
export type { OpenFileOptions } from "./posix/files.ts";
export { isByteLocked, lockByte, unlockByte } from "./posix/life.ts";
export {
  fillRandom,
  LONGEST_MEMORY_NAME,
  mapShared,
  openNamedMemory,
  showMemory,
  truncateFd,
  unlinkNamedMemory,
  unmap,
  unmapShared,
} from "./posix/memory.ts";
export type { OpenNamedMemoryOptions } from "./posix/memory.ts";
export { sleepSync } from "./posix/parking.ts";
export {
  exitNow,
  killProcess,
  pageSize,
  parentProcessId,
  processId,
  setUmask,
  threadCpuTime,
  userId,
  waitProcess,
} from "./posix/process.ts";
export { privateFolder, removeFile, sharedPath } from "./posix/shared_file.ts";
export {
  acceptUnix,
  bindUnix,
  connectUnix,
  listenUnix,
  receiveFd,
  sendFd,
  sendTo,
  unixAddress,
} from "./posix/sockets.ts";
export { spawn } from "./posix/spawn.ts";
export type { SpawnOptions } from "./posix/spawn.ts";
export { architecture, errnos, osName, signals, UnsupportedPlatformError } from "./posix/system.ts";
export type { ErrorName, SignalName } from "./posix/system.ts";
export type { FileIdentity, SharedMapping } from "./types.ts";

/** One of each, for this system. */
interface Mechanisms {
  readonly memory: SharedMemoryMechanism;
  readonly identity: IdentityMechanism;
  readonly parking: ParkingMechanism;
  readonly descriptors: DescriptorMechanism;
  readonly abstractNames: boolean;
}

let chosen: Mechanisms | undefined;

/** A system that is neither is served as Linux: the first libc function it asks for throws. */
function mechanisms(): Mechanisms {
  if (chosen !== undefined) return chosen;
  if (osName === "darwin") {
    return chosen = {
      memory: darwinMemory,
      identity: darwinIdentity,
      parking: sleepingParking,
      descriptors: plainDescriptors,
      abstractNames: false,
    };
  }
  if (fallbacksForced()) {
    return chosen = {
      memory: linuxSharedFiles,
      identity: linuxIdentityWithoutProc,
      parking: sleepingParking,
      descriptors: plainDescriptors,
      abstractNames: false,
    };
  }
  return chosen = {
    memory: linuxMemory,
    identity: linuxIdentity,
    parking: linuxParking,
    descriptors: linuxDescriptors,
    abstractNames: true,
  };
}

// ── memory ──

/**
 * Makes an empty file for shared memory, closed on exec: on Linux a memfd, else a file in a folder of its own that only
 * this user may enter (see {@linkcode sharedPath}).
 *
 * @param label a word for people who look at /proc
 * @returns its descriptor
 */
export function createShared(label: string): number {
  return mechanisms().memory.createShared(label);
}

/** Forbids that the file ever shrinks, which would kill who touches the lost part; nothing where there are no seals. */
export function sealShrink(fd: number): void {
  mechanisms().memory.sealShrink(fd);
}

/**
 * Makes the file hold real pages. Takes about 0.28 ms a MiB, so grow in small steps. Keep a cap of your own: a memfd has
 * no limit, and asking for more than the machine has is no ENOSPC but the end of whichever process the kernel picks.
 *
 * @param fd a descriptor open for writing
 * @param offset where the room begins, in bytes
 * @param length how much, in bytes
 * @throws {SystemError} ENOSPC: no room is left on the file's device; EFBIG: the end is beyond what an offset can say
 */
export function extend(fd: number, offset: number, length: number): void {
  mechanisms().memory.extend(fd, offset, length);
}

/**
 * Gives the pages of a range back; it reads as zeros afterwards. The file keeps its size.
 *
 * @param fd a descriptor open for writing
 * @param offset in bytes; only whole pages are given back
 * @param length in bytes
 */
export function punchHole(fd: number, offset: number, length: number): void {
  mechanisms().memory.punchHole(fd, offset, length);
}

/**
 * Another open file description of the same file, for reading and writing, closed on exec.
 *
 * @param fd a descriptor of it
 * @param path the file's path, needed where shared memory has one and another agent opened `fd`
 * @throws {TypeError} the path is needed and not known
 */
export function reopen(fd: number, path?: string): number {
  return mechanisms().memory.reopen(fd, path);
}

/**
 * Opens a file through another process's descriptor of it.
 *
 * @param pid a process of the same user
 * @param fd its descriptor
 * @param path the file's path, needed where shared memory has one
 * @throws {SystemError} ENOENT: the process is gone or has no such descriptor; EACCES: another user's
 * @throws {TypeError} the path is needed and missing
 */
export function openOf(pid: number, fd: number, path?: string): number {
  return mechanisms().memory.openOf(pid, fd, path);
}

/**
 * Gives a named object its size, and real pages from `from` to `to`, where the system limits these: call it piece by piece, from 0 upwards. Takes
 * about 0.28 ms a MiB on Linux, and no time on Darwin.
 *
 * @param fd from {@linkcode openNamedMemory}, which made the object
 * @param from where the piece begins, in bytes
 * @param to where it ends
 * @param size of the whole object, which it has from the first piece on
 * @throws {SystemError} ENOSPC: the file system of such objects is full
 */
export function sizeNamedMemory(fd: number, from: number, to: number, size: number): void {
  mechanisms().memory.sizeNamed(fd, from, to, size);
}

/** What tells a file from others, and its size. */
export function fileIdentity(fd: number): FileIdentity {
  return mechanisms().memory.fileIdentity(fd);
}

/**
 * Removes shared memory that has a path, with its folder and what lies in it, unless somebody has it open.
 *
 * @param path as {@linkcode sharedPath} gave it
 * @returns whether nothing of it is left
 */
export function removeShared(path: string): boolean {
  return mechanisms().memory.removeShared(path);
}

/**
 * Removes what killed processes left: each folder of this kind and this user beside a path whose memory nobody has open.
 *
 * @param path of shared memory, there still or not
 */
export function sweepShared(path: string): void {
  mechanisms().memory.sweepShared(path);
}

// ── identity ──

/** The calling thread's number. */
export function threadId(): number {
  return mechanisms().identity.threadId();
}

/**
 * When a process started, to compare for equality only: clock ticks since boot on Linux, microseconds since 1970 on
 * Darwin. A zombie still has one.
 *
 * @returns null when there is no such process
 */
export function processStartTime(pid: number): number | null {
  return mechanisms().identity.processStartTime(pid);
}

/** Whether a process has ended and only waits to be reaped. */
export function isZombie(pid: number): boolean {
  return mechanisms().identity.isZombie(pid);
}

/**
 * The same as {@linkcode processStartTime} for one thread.
 *
 * @returns null when the thread is gone
 */
export function threadStartTime(pid: number, tid: number): number | null {
  return mechanisms().identity.threadStartTime(pid, tid);
}

/** Whether a process exists and runs as the same user as this one. */
export function sameUser(pid: number): boolean {
  return mechanisms().identity.sameUser(pid);
}

/** What tells pid namespaces apart; 0n where there are none. */
export function pidNamespace(): bigint {
  return mechanisms().identity.pidNamespace();
}

/** How many processors this process may keep busy: affinity and control group quota, rounded up, at least 1. */
export function onlineCpus(): number {
  return mechanisms().identity.onlineCpus();
}

/** The absolute path of this runtime's program. */
export function executablePath(): string {
  return mechanisms().identity.executablePath();
}

/**
 * Has the system send this process a signal when the *thread* that started it ends, which may be before its process.
 *
 * @param signal its number, from `signals`
 * @returns false where the system has no such thing
 */
export function parentDeathSignal(signal: number): boolean {
  return osName === "linux" && !fallbacksForced() ? linuxParentDeathSignal(signal) : false;
}

// ── parking ──

/**
 * Blocks the calling thread until a word of shared memory changes, at most for a time. It may return early: look at the
 * word again, always.
 *
 * @param address of an aligned 32-bit word
 * @param expected returns at once when the word is another
 * @param milliseconds how long at most
 */
export function parkWord(address: Address, expected: number, milliseconds: number): void {
  mechanisms().parking.parkWord(address, expected, milliseconds);
}

/** Wakes every thread of every process that is parked on a word. Change the word first. */
export function unparkWord(address: Address): void {
  mechanisms().parking.unparkWord(address);
}

// ── descriptors ──

/**
 * A pipe, closed on exec.
 *
 * @param options `nonblocking` for both ends, false by default
 * @returns the reading end, then the writing end
 */
export function pipe(options: { readonly nonblocking?: boolean } = {}): [number, number] {
  return mechanisms().descriptors.pipe(options.nonblocking === true);
}

/** A datagram socket of the unix family without an address, non-blocking, closed on exec. */
export function datagramSocket(): number {
  return mechanisms().descriptors.socket("datagram", true);
}

/** A stream socket of the unix family without an address, non-blocking, closed on exec. */
export function streamSocket(): number {
  return mechanisms().descriptors.socket("stream", true);
}

/**
 * Two connected sockets, closed on exec.
 *
 * @param type bytes or whole messages
 * @param options `nonblocking` for both, true by default
 */
export function socketPair(
  type: "stream" | "datagram",
  options: { readonly nonblocking?: boolean } = {},
): [number, number] {
  return mechanisms().descriptors.socketPair(type, options.nonblocking !== false);
}

/**
 * Connects to a listener without waiting. Never throws for what the listener does.
 *
 * @param address from {@linkcode unixAddress}
 * @returns the connection's descriptor, non-blocking and closed on exec; or minus the error number: ECONNREFUSED and
 *   ENOENT when nobody listens, EAGAIN when too many wait already, EMFILE
 */
export function connectStream(address: Uint8Array): number {
  let fd: number;
  try {
    fd = streamSocket();
  } catch (error) {
    if (error instanceof SystemError) return -error.errno;
    throw error;
  }
  const result = connectUnix(fd, address);
  if (result === 0) return fd;
  closeFd(fd);
  return result;
}

/** Whether sockets may have names that are no files; decided at the first call. */
export function abstractNamesSupported(): boolean {
  return mechanisms().abstractNames;
}

/** Whether an error is a {@linkcode SystemError} of one of these codes. */
export function isSystemError(error: unknown, ...codes: ErrorName[]): error is SystemError {
  return error instanceof SystemError &&
    (codes.length === 0 || codes.some((code) => errnos[code] === error.errno));
}
