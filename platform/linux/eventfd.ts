/**
 * eventfd(2): a counter behind a descriptor, for children in any language. Only Linux has it.
 *
 * @module
 */
import { check } from "../../ffi/mod.ts";
import { readFd, writeFd } from "../posix/files.ts";
import { constants } from "./constants.ts";
import { linuxLibc } from "./symbols.ts";

/** How {@linkcode createEventFd} makes one. */
export interface EventFdOptions {
  /** The counter at first, below 2^32. @default 0 */
  readonly value?: number;
  /** Whether a read takes one instead of all. @default false */
  readonly semaphore?: boolean;
  /** Whether reads and writes return at once. @default true */
  readonly nonblocking?: boolean;
  /** Whether a started program loses it. @default true */
  readonly cloexec?: boolean;
}

/**
 * Makes an eventfd.
 *
 * @returns its descriptor
 * @throws {SystemError} EMFILE, ENFILE, ENOMEM
 */
export function createEventFd(options: EventFdOptions = {}): number {
  const flags = (options.semaphore === true ? constants.EFD_SEMAPHORE : 0) |
    (options.nonblocking === false ? 0 : constants.EFD_NONBLOCK) |
    (options.cloexec === false ? 0 : constants.EFD_CLOEXEC);
  return check("eventfd", linuxLibc.eventfd(options.value ?? 0, flags));
}

const counter = new BigUint64Array(1);

/**
 * Adds to the counter.
 *
 * @param fd an eventfd
 * @param amount how much, below 2^64 - 1
 * @returns false when a non-blocking one is full
 * @throws {SystemError} EBADF, EINVAL
 */
export function addToEventFd(fd: number, amount: number | bigint = 1n): boolean {
  counter[0] = BigInt(amount);
  return writeFd(fd, counter) >= 0;
}

/**
 * Takes the counter, or one from it if it is a semaphore.
 *
 * @param fd an eventfd
 * @returns what was taken; null when a non-blocking one is 0
 * @throws {SystemError} EBADF
 */
export function takeFromEventFd(fd: number): bigint | null {
  return readFd(fd, counter) < 0 ? null : counter[0];
}
