/**
 * Life locks: a write lock on one byte of a file, owned by an open file description. It ends when the last descriptor
 * of that description closes, so with its process, however that dies, and not before.
 *
 * Linux has these locks since 3.15; Darwin has them with the same meaning (F_OFD_SETLK in xnu's sys/fcntl.h).
 * A lock is told from another by its open file description: descriptors that are duplicates of each other, or that a
 * child inherited, hold the same one.
 *
 * @module
 */
import { errno, SystemError } from "../../ffi/mod.ts";
import { constants, errnos, libc, structs } from "./system.ts";

// One struct for every call of this agent: these run in each tick of a waiting agent and allocate nothing.
const layout = structs["struct flock"];
const request = new Uint8Array(layout.size);
const shorts = new Int16Array(request.buffer);
const words = new Int32Array(request.buffer);
const TYPE = layout.l_type / 2;
const WHENCE = layout.l_whence / 2;
const START = layout.l_start / 4;
const LENGTH = layout.l_len / 4;
const PID = layout.l_pid / 4;

function prepare(type: number, byte: number, length = 1): void {
  shorts[TYPE] = type;
  shorts[WHENCE] = constants.SEEK_SET;
  // off_t in two halves, because a bigint would be an allocation.
  words[START] = byte;
  words[START + 1] = 0;
  words[LENGTH] = length;
  words[LENGTH + 1] = 0;
  words[PID] = 0;
}

function take(fd: number, what: string): boolean {
  if (libc.fcntlStructOnce(fd, constants.F_OFD_SETLK, request) >= 0) return true;
  const code = errno();
  if (code === errnos.EAGAIN || code === errnos.EACCES) return false;
  throw new SystemError("fcntl", code, `F_OFD_SETLK of ${what} of descriptor ${fd}`);
}

/**
 * Takes the lock of one byte, or leaves it.
 *
 * @param fd a descriptor open for writing, whose description nobody else shares
 * @param byte the byte's offset, below 2^31; the file need not reach so far
 * @returns false when another open file description holds it
 * @throws {SystemError} any other failure
 */
export function lockByte(fd: number, byte: number): boolean {
  prepare(constants.F_WRLCK, byte);
  return take(fd, `byte ${byte}`);
}

/**
 * Takes the lock of one byte together with others who do the same.
 *
 * @param fd a descriptor open for reading
 * @param byte the byte's offset, below 2^31
 * @returns false when another open file description holds it for itself alone
 * @throws {SystemError} any other failure
 */
export function shareByte(fd: number, byte: number): boolean {
  prepare(constants.F_RDLCK, byte);
  return take(fd, `byte ${byte}`);
}

/**
 * Takes the locks of all bytes, there and to come, in one step.
 *
 * @param fd a descriptor open for writing
 * @returns false when another open file description holds any
 * @throws {SystemError} any other failure
 */
export function lockAll(fd: number): boolean {
  prepare(constants.F_WRLCK, 0, 0);
  return take(fd, "all bytes");
}

/**
 * Looks whether an open file description other than `fd`'s holds the lock of a byte.
 *
 * @param fd a descriptor
 * @param byte the byte's offset, below 2^31
 * @throws {SystemError} looking failed, which says nothing about the holder
 */
export function isByteLocked(fd: number, byte: number): boolean {
  prepare(constants.F_WRLCK, byte);
  if (libc.fcntlStruct(fd, constants.F_OFD_GETLK, request) < 0) {
    throw new SystemError("fcntl", errno(), `F_OFD_GETLK of byte ${byte} of descriptor ${fd}`);
  }
  return shorts[TYPE] !== constants.F_UNLCK;
}

/**
 * Gives the lock of a byte back. One that is not held is no error.
 *
 * @param fd the descriptor that it was taken through
 * @param byte the byte's offset, below 2^31
 * @throws {SystemError} EBADF
 */
export function unlockByte(fd: number, byte: number): void {
  prepare(constants.F_UNLCK, byte);
  if (libc.fcntlStructOnce(fd, constants.F_OFD_SETLK, request) < 0) {
    throw new SystemError("fcntl", errno(), `F_OFD_SETLK of byte ${byte} of descriptor ${fd}`);
  }
}

/**
 * Gives all locks back that were taken through a descriptor's description.
 *
 * @throws {SystemError} EBADF
 */
export function unlockAll(fd: number): void {
  prepare(constants.F_UNLCK, 0, 0);
  take(fd, "all bytes");
}
