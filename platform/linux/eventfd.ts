/**
 * eventfd(2): a counter behind a descriptor, for children in any language. Only Linux has it.
 *
 * @module
 */
import { addressOf, check, errno, SystemError } from "../../ffi/mod.ts";
import { readFd, readSmallFile, writeFd } from "../posix/files.ts";
import { errnos, libc } from "../posix/system.ts";
import { constants, recentConstants } from "./constants.ts";
import { numbers } from "./memory.ts";
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

// In a buffer made for it: V8 keeps a small array without one where its collector may move it.
const counter = new BigUint64Array(new ArrayBuffer(8));

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

/** struct iovec { void *iov_base; size_t iov_len; } of the counter, filled at the first use. */
const vector = new BigUint64Array(2);

/**
 * The same, and never blocks, though the descriptor be a blocking one: O_NONBLOCK belongs to all processes that share the open file, and must
 * not be set behind the others' backs. Needs Linux 5.8.
 *
 * @param fd an eventfd
 * @returns what was taken; null when it is 0
 * @throws {SystemError} EBADF; EOPNOTSUPP: it is another kind of file, or Linux is older
 */
export function tryTakeFromEventFd(fd: number): bigint | null {
  if (vector[1] === 0n) {
    vector[0] = BigInt(addressOf(counter));
    vector[1] = 8n;
  }
  for (;;) {
    // At -1, the descriptor's own position: an eventfd has no other.
    if (linuxLibc.preadv2(numbers.SYS_preadv2, fd, vector, 1, -1, -1, recentConstants.RWF_NOWAIT) >= 0) {
      return counter[0];
    }
    const code = errno();
    if (code === errnos.EAGAIN) return null;
    if (code !== errnos.EINTR) throw new SystemError("preadv2", code, `descriptor ${fd}`);
  }
}

/**
 * Whether a descriptor is an eventfd, and one whose reads take one.
 *
 * @returns null where /proc does not tell (`semaphore` since Linux 6.5)
 * @throws {SystemError} EBADF
 */
export function describeEventFd(
  fd: number,
): { readonly eventFd: boolean; readonly semaphore: boolean | null } | null {
  check("fcntl", libc.fcntlInt(fd, constants.F_GETFD, 0), `F_GETFD of descriptor ${fd}`);
  let text: string;
  try {
    text = new TextDecoder().decode(readSmallFile(`/proc/self/fdinfo/${fd}`));
  } catch {
    return null;
  }
  const semaphore = /^eventfd-semaphore:\s*(\d)/m.exec(text);
  return {
    eventFd: /^eventfd-count:/m.test(text),
    semaphore: semaphore === null ? null : semaphore[1] === "1",
  };
}
