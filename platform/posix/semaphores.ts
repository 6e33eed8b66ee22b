/**
 * Named POSIX semaphores: shared by name with programs in any language.
 *
 * @module
 */
import { type Address, check, cString, errno, SystemError } from "../../ffi/mod.ts";
import { linuxLibc } from "../linux/symbols.ts";
import { setTimespec, sleepSync } from "./parking.ts";
import { constants, errnos, libc, osName } from "./system.ts";
import { fallbacksForced } from "./environment.ts";

/** How {@linkcode openSemaphore} opens. */
export interface OpenSemaphoreOptions {
  /** Makes the semaphore when there is none. @default false */
  readonly create?: boolean;
  /** With `create`: fails with EEXIST when there is one. @default false */
  readonly exclusive?: boolean;
  /** The value of a semaphore that is made. @default 0 */
  readonly value?: number;
  /** Permission bits of a semaphore that is made, less the umask. @default 0o600 */
  readonly mode?: number;
}

/**
 * Opens a semaphore, by sem_open.
 *
 * @param name as POSIX wants it: a slash first and no other; at most 30 bytes on Darwin
 * @param options whether and how to make it
 * @returns its address, for the functions below
 * @throws {SystemError} ENOENT, EEXIST, EACCES, EINVAL, ENAMETOOLONG, naming the semaphore
 */
export function openSemaphore(name: string, options: OpenSemaphoreOptions = {}): Address {
  const flags = (options.create === true ? constants.O_CREAT : 0) |
    (options.exclusive === true ? constants.O_EXCL : 0);
  const text = cString(name);
  const address = libc.sem_open(text, flags, options.mode ?? 0o600, options.value ?? 0);
  // SEM_FAILED is NULL on Linux and (sem_t *) -1 on Darwin.
  if (address === 0 || address === -1) throw new SystemError("sem_open", errno(), name);
  return address;
}

/**
 * Lets go of a semaphore; it goes on for others, and under its name.
 *
 * @throws {SystemError} EINVAL: it is no semaphore
 */
export function closeSemaphore(semaphore: Address): void {
  check("sem_close", libc.sem_close(semaphore));
}

/**
 * Removes a semaphore's name; it goes on for those who have it open.
 *
 * @returns false when there is none of this name
 * @throws {SystemError} EACCES
 */
export function unlinkSemaphore(name: string): boolean {
  const text = cString(name);
  if (libc.sem_unlink(text) === 0) return true;
  const code = errno();
  if (code === errnos.ENOENT) return false;
  throw new SystemError("sem_unlink", code, name);
}

/**
 * Adds one.
 *
 * @throws {SystemError} EOVERFLOW
 */
export function postSemaphore(semaphore: Address): void {
  check("sem_post", libc.sem_post(semaphore));
}

/**
 * Takes one, if there is one.
 *
 * @returns whether it did
 * @throws {SystemError} EINVAL
 */
export function tryWaitSemaphore(semaphore: Address): boolean {
  while (libc.sem_trywait(semaphore) < 0) {
    const code = errno();
    if (code === errnos.EAGAIN) return false;
    if (code !== errnos.EINTR) throw new SystemError("sem_trywait", code);
  }
  return true;
}

/** First and longest pause between looks, in milliseconds, where the system cannot wait for a limited time. */
const FIRST_PAUSE = 0.05;
const LONGEST_PAUSE = 2;

/**
 * Takes one, blocking the thread. Darwin has no sem_timedwait: there it looks again after short sleeps.
 *
 * @param semaphore from {@linkcode openSemaphore}
 * @param milliseconds how long at most; Infinity for ever
 * @returns false when the time is over
 * @throws {SystemError} EINVAL
 */
export function waitSemaphore(semaphore: Address, milliseconds: number): boolean {
  if (milliseconds === Infinity) {
    while (libc.sem_wait(semaphore) < 0) {
      const code = errno();
      if (code !== errnos.EINTR) throw new SystemError("sem_wait", code);
    }
    return true;
  }
  if (osName === "darwin" || fallbacksForced()) {
    const end = performance.now() + milliseconds;
    for (let pause = FIRST_PAUSE; !tryWaitSemaphore(semaphore); pause = Math.min(LONGEST_PAUSE, pause * 2)) {
      const left = end - performance.now();
      if (left <= 0) return false;
      sleepSync(Math.min(pause, left));
    }
    return true;
  }
  const bytes = new Uint8Array(16);
  // sem_timedwait wants a point of the real-time clock, which is Date's; a jump of that clock moves it.
  setTimespec(new Int32Array(bytes.buffer), Date.now() + Math.max(0, milliseconds));
  while (linuxLibc.sem_timedwait(semaphore, bytes) < 0) {
    const code = errno();
    if (code === errnos.ETIMEDOUT) return false;
    if (code !== errnos.EINTR) throw new SystemError("sem_timedwait", code);
  }
  return true;
}

/**
 * The value now, which may be another at once.
 *
 * @returns the value; null on Darwin, which does not tell
 * @throws {SystemError} EINVAL
 */
export function semaphoreValue(semaphore: Address): number | null {
  if (osName === "darwin") return null;
  const value = new Int32Array(1);
  check("sem_getvalue", linuxLibc.sem_getvalue(semaphore, value));
  return value[0];
}
