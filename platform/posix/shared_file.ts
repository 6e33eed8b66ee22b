/**
 * Shared memory in a named file, for systems without memfd: one file in a fresh folder that only its user may enter.
 * The path travels beside the descriptor. Who leaves removes what nobody has open any more; `sweep.ts` says how it
 * is known.
 *
 * @module
 */
import { check, cString, errno, SystemError } from "../../ffi/mod.ts";
import type { SharedMemoryMechanism } from "../types.ts";
import { getenv } from "./environment.ts";
import { shareByte } from "./life.ts";
import { removeUnused, sweepUnused } from "./sweep.ts";
import { constants, errnos, libc } from "./system.ts";

/** The byte that all who have the file open hold the lock of together. */
const IN_USE = 0x7fffffff;

/** Paths of the descriptors that this agent opened. */
const paths = new Map<number, string>();

/**
 * The path of a file that holds shared memory.
 *
 * @returns the path; null for memory without a name and for a descriptor that this agent did not open
 */
export function sharedPath(fd: number): string | null {
  return paths.get(fd) ?? null;
}

/** Called when a descriptor is closed: its number will mean another file. */
export function forgetSharedPath(fd: number): void {
  if (paths.size > 0) paths.delete(fd);
}

/** Removes one file, if it is there: a doorbell whose owner is gone. */
export function removeFile(path: string): void {
  libc.unlink(cString(path));
}

/**
 * Makes a folder that only this user may enter, with a name that nobody can foresee.
 *
 * @returns its path, short enough for a socket's address inside
 * @throws {SystemError} no folder for it can be written
 */
export function privateFolder(): string {
  const runtimeFolder = getenv("XDG_RUNTIME_DIR");
  // A long folder leaves no room for a socket's name: sun_path holds 104 bytes on Darwin.
  const parents = runtimeFolder?.startsWith("/") === true && runtimeFolder.length <= 40
    ? [runtimeFolder, "/tmp"]
    : ["/tmp"];
  let code = 0;
  for (const parent of parents) {
    const template = cString(`${parent}/geventmp-XXXXXX`);
    if (libc.mkdtemp(template) !== 0) return new TextDecoder().decode(template.subarray(0, -1));
    code = errno();
  }
  throw new SystemError("mkdtemp", code, `in ${parents.join(" or ")}`);
}

/** What a system's own calls must add. */
export type SharedFileCalls = Pick<
  SharedMemoryMechanism,
  "extend" | "punchHole" | "sizeNamed" | "fileIdentity"
>;

/** Builds the mechanism from a system's own calls for room in a file. */
export function sharedFiles(calls: SharedFileCalls): SharedMemoryMechanism {
  /** Whether the file behind `fd` is what the path leads to. */
  function hasName(fd: number, path: string): boolean {
    const name = cString(path);
    const there = libc.open(name, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_CLOEXEC, 0);
    if (there < 0) return false;
    try {
      const [is, was] = [calls.fileIdentity(there), calls.fileIdentity(fd)];
      return is.inode === was.inode && is.device === was.device;
    } finally {
      libc.close(there);
    }
  }

  /** Keeps sweepers from the file as long as `fd` is open; false, and `fd` is closed, when one was first. */
  function keep(fd: number, path: string): boolean {
    let kept = false;
    try {
      // In this order: a name that is there after the lock was taken stays.
      kept = shareByte(fd, IN_USE) && hasName(fd, path);
    } finally {
      if (kept) paths.set(fd, path);
      else libc.close(fd);
    }
    return kept;
  }

  function openSharedPath(path: string): number {
    const name = cString(path);
    const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_CLOEXEC;
    const fd = check("open", libc.open(name, flags, 0), path);
    if (!keep(fd, path)) throw new SystemError("open", errnos.ENOENT, path);
    return fd;
  }

  return {
    createShared(label: string): number {
      const file = label.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 24) || "arena";
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_CLOEXEC;
      for (;;) {
        const folder = privateFolder();
        const path = `${folder}/${file}`;
        const name = cString(path);
        const fd = libc.open(name, flags, 0o600);
        if (fd >= 0) {
          if (keep(fd, path)) return fd;
          continue;
        }
        const code = errno();
        if (code === errnos.ENOENT) continue; // a sweeper took the empty folder for a dead maker's
        libc.rmdir(cString(folder));
        throw new SystemError("open", code, path);
      }
    },
    sealShrink(): void {
      // A named file has no seals; the folder keeps other users away, which is what they are for.
    },
    reopen(fd: number, path: string | undefined = paths.get(fd)): number {
      if (path === undefined) {
        throw new TypeError(
          `Cannot open descriptor ${fd} again: its path is not known; pass the path from the environment`,
        );
      }
      return openSharedPath(path);
    },
    openOf(pid: number, fd: number, path?: string): number {
      if (path === undefined) {
        throw new TypeError(
          `Cannot open descriptor ${fd} of process ${pid}: this system opens shared memory by path; pass the path`,
        );
      }
      return openSharedPath(path);
    },
    removeShared(path: string): boolean {
      return removeUnused(path, calls.fileIdentity);
    },
    sweepShared(path: string): void {
      sweepUnused(path, calls.fileIdentity);
    },
    ...calls,
  };
}
