/**
 * Who runs, from /proc.
 *
 * @module
 */
import { check, cString, errno, SystemError } from "../../ffi/mod.ts";
import { readSmallFile } from "../posix/files.ts";
import { posixIdentity } from "../posix/process.ts";
import { libc } from "../posix/system.ts";
import type { IdentityMechanism } from "../types.ts";
import { cpuQuota } from "./cgroup.ts";
import { constants, errnos, signals, structs } from "./constants.ts";
import { numbers, statx } from "./memory.ts";
import { linuxLibc } from "./symbols.ts";

/** What this module reads from a `stat` file of /proc. */
export interface ProcessStat {
  /** One letter: R, S, D, T, Z, X, … */
  readonly state: string;
  /** Field 22: clock ticks between boot and start. */
  readonly startTime: number;
}

/**
 * Reads a line of /proc/<pid>/stat. The second field is a program's name in parentheses, which may itself hold spaces
 * and parentheses, so fields count from the last one (proc_pid_stat(5)).
 *
 * @returns null for a line that is none
 */
export function parseStat(line: string): ProcessStat | null {
  const end = line.lastIndexOf(")");
  if (end < 0) return null;
  // fields[0] is field 3.
  const fields = line.slice(end + 2).split(" ");
  const startTime = Number(fields[19]);
  return fields[0] === "" || fields.length < 20 || !Number.isFinite(startTime)
    ? null
    : { state: fields[0], startTime };
}

const decoder = new TextDecoder();

/** Null when there is no such process or thread. */
function readStat(path: string): ProcessStat | null {
  try {
    return parseStat(decoder.decode(readSmallFile(path)));
  } catch (error) {
    if (error instanceof SystemError && (error.errno === errnos.ENOENT || error.errno === errnos.ESRCH)) {
      return null;
    }
    throw error;
  }
}

function readLink(path: string): string {
  const name = cString(path);
  const target = new Uint8Array(4096);
  const length = check("readlink", libc.readlink(name, target, target.length), path);
  return decoder.decode(target.subarray(0, length));
}

/** How many processors the process may run on, by its mask. */
function affinity(): number {
  // The kernel refuses a mask that is smaller than its own.
  for (let size = 128; size <= 65536; size *= 4) {
    const mask = new Uint8Array(size);
    if (linuxLibc.sched_getaffinity(libc.getpid(), size, mask) < 0) {
      if (errno() === errnos.EINVAL) continue;
      break;
    }
    let count = 0;
    for (const byte of mask) for (let bits = byte; bits !== 0; bits &= bits - 1) count++;
    if (count > 0) return count;
  }
  return Math.max(1, libc.sysconf(constants._SC_NPROCESSORS_ONLN));
}

function threadId(): number {
  return linuxLibc.gettid(numbers.SYS_gettid);
}

/** Identity by /proc. */
export const linuxIdentity: IdentityMechanism = {
  threadId,
  processStartTime(pid: number): number | null {
    return readStat(`/proc/${pid}/stat`)?.startTime ?? null;
  },
  isZombie(pid: number): boolean {
    const state = readStat(`/proc/${pid}/stat`)?.state;
    return state === "Z" || state === "X";
  },
  threadStartTime(pid: number, tid: number): number | null {
    const stat = readStat(`/proc/${pid}/task/${tid}/stat`);
    return stat === null || stat.state === "Z" || stat.state === "X" ? null : stat.startTime;
  },
  sameUser(pid: number): boolean {
    const found = statx(constants.AT_FDCWD, `/proc/${pid}`, constants.STATX_UID);
    return found !== null && found.getUint32(structs["struct statx"].stx_uid, true) === libc.geteuid();
  },
  pidNamespace(): bigint {
    const inode = /\[(\d+)\]/.exec(readLink("/proc/self/ns/pid"))?.[1];
    return inode === undefined ? 0n : BigInt(inode);
  },
  onlineCpus(): number {
    const quota = cpuQuota((path) => {
      try {
        return decoder.decode(readSmallFile(path));
      } catch {
        return null;
      }
    });
    return Math.max(1, Math.min(affinity(), Math.ceil(quota)));
  },
  executablePath(): string {
    const path = readLink("/proc/self/exe");
    // A program that was replaced while it runs still runs from here.
    return path.endsWith(" (deleted)") ? `/proc/${libc.getpid()}/exe` : path;
  },
};

/** The fallback, for tests: what Linux can tell without /proc. */
export const linuxIdentityWithoutProc: IdentityMechanism = {
  ...posixIdentity,
  threadId,
  threadStartTime(pid: number, tid: number): number | null {
    return linuxLibc.tgkill(numbers.SYS_tgkill, pid, tid, 0) === 0 || errno() !== errnos.ESRCH ? 0 : null;
  },
};

/**
 * Has the kernel send this process a signal when the *thread* that started it ends.
 *
 * @param signal its number; 0 undoes it
 * @returns true
 * @throws {SystemError} EINVAL: no such signal
 */
export function parentDeathSignal(signal: number = signals.SIGTERM): boolean {
  check("prctl", linuxLibc.prctl(constants.PR_SET_PDEATHSIG, signal, 0, 0, 0), `PR_SET_PDEATHSIG ${signal}`);
  return true;
}

/**
 * A descriptor that becomes readable when a process ends, closed on exec.
 *
 * @param pid a process, not a thread
 * @returns the descriptor; null when there is no such process, or the kernel has no pidfd_open (before 5.3)
 * @throws {SystemError} EMFILE and the like
 */
export function openPidFd(pid: number): number | null {
  const fd = linuxLibc.pidfd_open(numbers.SYS_pidfd_open, pid, 0);
  if (fd >= 0) return fd;
  const code = errno();
  if (code === errnos.ESRCH || code === errnos.ENOSYS || code === errnos.EPERM) return null;
  throw new SystemError("pidfd_open", code, `process ${pid}`);
}
