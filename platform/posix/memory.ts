/**
 * Memory that processes share: mapping it, sizing it, and giving it a POSIX name for programs in any language.
 *
 * @module
 */
import { type Address, check, cString, errno, SystemError, viewAt } from "../../ffi/mod.ts";
import type { SharedMapping } from "../types.ts";
import { constants, errnos, libc, osName } from "./system.ts";

/**
 * Maps a file for reading and writing, shared with every process that does. The length may go beyond the file's end,
 * as long as nobody touches that part before the file has grown.
 *
 * @param fd a descriptor open for reading and writing
 * @param length in bytes; at most 4 GiB, because Bun has no larger ArrayBuffer of this kind
 * @throws {SystemError} ENOMEM, EACCES, EBADF
 */
export function mapShared(fd: number, length: number): SharedMapping {
  const address = libc.mmap(
    0,
    length,
    constants.PROT_READ | constants.PROT_WRITE,
    constants.MAP_SHARED,
    fd,
    0,
  );
  if (address === -1) throw new SystemError("mmap", errno(), `${length} bytes of descriptor ${fd}`);
  try {
    return { address, buffer: viewAt(address, length) };
  } catch (error) {
    libc.munmap(address, length);
    throw error;
  }
}

/**
 * Takes a mapping away. Every view of its buffer is detached first: reading one of unmapped memory would kill the
 * process. Twice is no error.
 *
 * @param mapping as {@linkcode mapShared} returned it
 * @throws {SystemError} the address is not what mapShared returned
 */
export function unmapShared(mapping: SharedMapping): void {
  const length = mapping.buffer.byteLength;
  if (mapping.buffer.detached) return;
  mapping.buffer.transfer();
  unmap(mapping.address, length);
}

/**
 * Takes a mapping away whose buffer is detached, or collected.
 *
 * @param address as {@linkcode mapShared} returned it
 * @param length as it was given to mapShared
 * @throws {SystemError} the address is not what mapShared returned
 */
export function unmap(address: Address, length: number): void {
  check("munmap", libc.munmap(address, length));
}

/**
 * A buffer of its own for a part of a mapping, so that it can be detached while the mapping stays. `buffer.transfer()` detaches it, and must
 * before the mapping goes.
 *
 * @param address where the part begins
 * @param length in bytes, at least 1
 */
export function showMemory(address: Address, length: number): ArrayBuffer {
  return viewAt(address, length);
}

/**
 * Fills memory with random bytes fit for secrets. `crypto.getRandomValues` does the same; Deno takes 0.2 ms to load it.
 *
 * @param address where
 * @param length in bytes, at most 256
 * @throws {SystemError} EIO
 */
export function fillRandom(address: Address, length: number): void {
  check("getentropy", libc.getentropy(address, length));
}

/** Bytes that a name for {@linkcode openNamedMemory} may have after its slash: NAME_MAX on Linux; Darwin's PSHMNAMLEN counts the slash. */
export const LONGEST_MEMORY_NAME: number = osName === "darwin" ? 30 : 255;

/** How {@linkcode openNamedMemory} opens. */
export interface OpenNamedMemoryOptions {
  /** Makes it; fails with EEXIST when it exists. @default false */
  readonly create?: boolean;
  /** Permission bits when it is made, less the umask. @default 0o600 */
  readonly mode?: number;
}

/**
 * Opens shared memory by shm_open, for reading and writing, closed on exec.
 *
 * @param name as POSIX wants it: a slash first and no other; at most 30 bytes on Darwin
 * @param options whether to make it
 * @returns its descriptor
 * @throws {SystemError} ENOENT, EEXIST, EACCES, naming it
 */
export function openNamedMemory(name: string, options: OpenNamedMemoryOptions = {}): number {
  const flags = constants.O_RDWR | (options.create === true ? constants.O_CREAT | constants.O_EXCL : 0);
  const text = cString(name);
  // shm_open sets close-on-exec by itself on both systems.
  return check("shm_open", libc.shm_open(text, flags, options.mode ?? 0o600), name);
}

/**
 * Removes the name; the memory goes on for those who have it open or mapped.
 *
 * @returns false when there is none of this name
 * @throws {SystemError} EACCES
 */
export function unlinkNamedMemory(name: string): boolean {
  const text = cString(name);
  if (libc.shm_unlink(text) === 0) return true;
  const code = errno();
  if (code === errnos.ENOENT) return false;
  throw new SystemError("shm_unlink", code, name);
}

/**
 * Sets a file's size. Growing so makes no real pages: a full disk shows as SIGBUS at the first touch.
 *
 * @param fd a descriptor open for writing
 * @param length in bytes
 * @throws {SystemError} EINVAL, EFBIG; EPERM when the file is sealed
 */
export function truncateFd(fd: number, length: number): void {
  check("ftruncate", libc.ftruncate(fd, length), `descriptor ${fd} to ${length} bytes`);
}
