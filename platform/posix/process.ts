/**
 * Processes that run: their numbers, signals and ends, and what POSIX tells about others.
 *
 * @module
 */
import { check, errno, SystemError } from "../../ffi/mod.ts";
import type { IdentityMechanism } from "../types.ts";
import { constants, errnos, libc } from "./system.ts";

/** This process's number. */
export function processId(): number {
  return libc.getpid();
}

/** The parent's number; changes when the parent dies. */
export function parentProcessId(): number {
  return libc.getppid();
}

/** The user whose rights this process has. */
export function userId(): number {
  return libc.geteuid();
}

/**
 * Sends a signal.
 *
 * @param pid a process; negative for a process group
 * @param signal its number, from `signals`; 0 only looks
 * @returns false when there is no such process
 * @throws {SystemError} EPERM, EINVAL
 */
export function killProcess(pid: number, signal: number): boolean {
  if (libc.kill(pid, signal) === 0) return true;
  const code = errno();
  if (code === errnos.ESRCH) return false;
  throw new SystemError("kill", code, `process ${pid} with signal ${signal}`);
}

const status = new Int32Array(1);

/**
 * Looks whether a child has ended, and reaps it if so.
 *
 * @param pid a child of this process
 * @returns its exit code, or minus the number of the signal that ended it, as CPython's `exitcode`; null while it
 *   runs; "gone" when this process has no such child, because it was reaped or is somebody else's
 * @throws {SystemError} EINVAL
 */
export function waitProcess(pid: number): number | null | "gone" {
  for (;;) {
    const result = libc.waitpid(pid, status, constants.WNOHANG);
    if (result > 0) {
      const signal = status[0] & 0x7f;
      return signal === 0 ? (status[0] >> 8) & 0xff : -signal;
    }
    if (result === 0) return null;
    const code = errno();
    if (code === errnos.ECHILD) return "gone";
    if (code !== errnos.EINTR) throw new SystemError("waitpid", code, `process ${pid}`);
  }
}

/**
 * Ends this process at once: no exit handler, no flush, nothing of the runtime's.
 *
 * @param code the exit code, 0 to 255
 */
export function exitNow(code: number): never {
  libc._exit(code);
  throw new Error("Cannot happen: _exit returned");
}

/**
 * Sets which permission bits new files of this process do not get.
 *
 * @param mask the bits
 * @returns the mask until now
 */
export function setUmask(mask: number): number {
  return libc.umask(mask);
}

/**
 * The size of a page of memory, in bytes.
 */
export function pageSize(): number {
  return libc.sysconf(constants._SC_PAGESIZE);
}

/** The part of a runtime that knows its own program. */
interface Runtime {
  readonly Bun?: object;
  readonly Deno?: { execPath(): string };
  readonly process?: { readonly execPath: string };
}

/** Whether a process exists, a zombie included. */
export function exists(pid: number): boolean {
  return libc.kill(pid, 0) === 0 || errno() !== errnos.ESRCH;
}

/**
 * What plain POSIX can tell about processes, for systems without /proc and without libproc: all but threads, whose
 * numbers it does not define. A start time is not to be had this way: every living process has 0, so a number that
 * was given anew is not noticed.
 */
export const posixIdentity: Omit<IdentityMechanism, "threadId" | "threadStartTime"> = {
  processStartTime(pid: number): number | null {
    return exists(pid) ? 0 : null;
  },
  isZombie(): boolean {
    return false;
  },
  sameUser(pid: number): boolean {
    return libc.kill(pid, 0) === 0;
  },
  pidNamespace(): bigint {
    return 0n;
  },
  onlineCpus(): number {
    return Math.max(1, libc.sysconf(constants._SC_NPROCESSORS_ONLN));
  },
  executablePath(): string {
    const runtime = globalThis as Runtime;
    if (runtime.Bun === undefined && runtime.Deno !== undefined) return runtime.Deno.execPath();
    return runtime.process?.execPath ?? "";
  },
};

const timespec = new Uint8Array(16);
const timespecWords = new Uint32Array(timespec.buffer);

/** Processor time that the calling thread has used, in milliseconds: what a busy machine cannot stretch. */
export function threadCpuTime(): number {
  check("clock_gettime", libc.clock_gettime(constants.CLOCK_THREAD_CPUTIME_ID, timespec));
  return timespecWords[0] * 1000 + timespecWords[2] / 1e6;
}
