/**
 * What each system must supply beyond POSIX, and when a call is legal. `mod.ts` picks one implementation of each
 * interface at its first use; everything else of the platform is plain POSIX and lies in `posix/`.
 *
 * Every call here is synchronous, may be made in any agent, and throws {@linkcode SystemError} when the system
 * refuses, unless its comment says otherwise. A descriptor is a small non-negative number that the caller owns: the
 * function never closes one that it was given.
 *
 * @module
 */
import type { Address } from "../ffi/types.ts";

/** Memory that several processes map, and one process's view of it. */
export interface SharedMapping {
  /** Where the mapping begins. */
  readonly address: Address;
  /** The same memory for JavaScript; detached by `unmapShared`. */
  readonly buffer: ArrayBuffer;
}

/** What tells two files apart. */
export interface FileIdentity {
  /** The device that holds the file. */
  readonly device: bigint;
  /** The file's number on that device. */
  readonly inode: bigint;
  /** The file's size in bytes. */
  readonly size: number;
  /** The user that it belongs to. */
  readonly owner: number;
  /** Permission bits, 0 to 0o7777. */
  readonly mode: number;
}

/** The files behind shared memory. */
export interface SharedMemoryMechanism {
  /**
   * Makes an empty file for shared memory, readable and writable, closed on exec.
   *
   * @param label a word that helps a person who looks at /proc; not a name that anyone can open
   */
  createShared(label: string): number;
  /** Forbids shrinking the file for ever, where the system can; legal once, by the creator. */
  sealShrink(fd: number): void;
  /** Makes the file hold real pages from `offset` on for `length` bytes; ENOSPC instead of a later SIGBUS. */
  extend(fd: number, offset: number, length: number): void;
  /** Gives a range's pages back; it reads as zeros afterwards. Legal while others map the file. */
  punchHole(fd: number, offset: number, length: number): void;
  /** Another open file description of the same file: what a life lock must be held through. */
  reopen(fd: number, path?: string): number;
  /** The same for a descriptor of another process of the same user. */
  openOf(pid: number, fd: number, path?: string): number;
  /**
   * Gives a named object its size, and real pages from `from` to `to` of it; ENOSPC instead of a later SIGBUS where the system has a limit for
   * these. Legal from 0 upwards, by the object's maker.
   */
  sizeNamed(fd: number, from: number, to: number, size: number): void;
  /** What tells this file from others. */
  fileIdentity(fd: number): FileIdentity;
  /** Removes a file that has a path and its folder, unless somebody has it open. Whether both are gone. Never throws. */
  removeShared(path: string): boolean;
  /** The same for all that lie beside it. */
  sweepShared(path: string): void;
}

/** Who runs, and since when. None of these throws because a process is gone. */
export interface IdentityMechanism {
  /** The calling thread's number. */
  threadId(): number;
  /** When a process started, in units of this system, to compare for equality only; null when there is none. */
  processStartTime(pid: number): number | null;
  /** Whether a process has ended and only waits to be reaped. */
  isZombie(pid: number): boolean;
  /** The same for one thread; null when it is gone. */
  threadStartTime(pid: number, tid: number): number | null;
  /** Whether a process runs as the same user as this one. */
  sameUser(pid: number): boolean;
  /** What tells pid namespaces apart; 0n where there are none. */
  pidNamespace(): bigint;
  /** How many processors this process may keep busy, at least 1. */
  onlineCpus(): number;
  /** The absolute path of this runtime's program. */
  executablePath(): string;
}

/** Blocking one thread until a word changes. Legal only where blocking the agent is. */
export interface ParkingMechanism {
  /** Returns on a wake-up, when the word is not `expected`, on a signal, and after the time: look again, always. */
  parkWord(address: Address, expected: number, milliseconds: number): void;
  /** Wakes all threads of all processes that are parked on the word. */
  unparkWord(address: Address): void;
}

/** Descriptors that exist with their flags at once, or the nearest thing. */
export interface DescriptorMechanism {
  /** A pipe, closed on exec: its reading end, then its writing end. */
  pipe(nonblocking: boolean): [number, number];
  /** A socket of the unix family, closed on exec. */
  socket(type: "stream" | "datagram", nonblocking: boolean): number;
  /** Two connected sockets of the unix family, closed on exec. */
  socketPair(type: "stream" | "datagram", nonblocking: boolean): [number, number];
}
