/**
 * Shared memory in a named file, for systems without memfd: one file in a fresh folder that only its user may enter.
 * Whoever makes it unlinks it; the path travels beside the descriptor.
 *
 * @module
 */
import { check, cString, errno, SystemError } from "../../ffi/mod.ts";
import type { SharedMemoryMechanism } from "../types.ts";
import { getenv } from "./environment.ts";
import { constants, errnos, libc } from "./system.ts";

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

/**
 * Opens shared memory by its path, for reading and writing, closed on exec.
 *
 * @throws {SystemError} ENOENT: it was removed
 */
export function openSharedPath(path: string): number {
  const name = cString(path);
  const fd = check("open", libc.open(name, constants.O_RDWR | constants.O_CLOEXEC, 0), path);
  paths.set(fd, path);
  return fd;
}

/**
 * Removes the file and its folder. Processes that have it open or mapped keep it. Removing twice is no error.
 *
 * @param path as {@linkcode sharedPath} gave it
 * @throws {SystemError} EACCES and the like
 */
export function removeShared(path: string): void {
  const name = cString(path);
  if (libc.unlink(name) < 0 && errno() !== errnos.ENOENT) throw new SystemError("unlink", errno(), path);
  const folder = path.slice(0, path.lastIndexOf("/"));
  const folderName = cString(folder);
  if (libc.rmdir(folderName) < 0) {
    const code = errno();
    // The core keeps its doorbells there too, so the last who leaves removes the folder.
    if (code !== errnos.ENOENT && code !== errnos.ENOTEMPTY && code !== errnos.EEXIST) {
      throw new SystemError("rmdir", code, folder);
    }
  }
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
  return {
    createShared(label: string): number {
      const path = `${privateFolder()}/${label.replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 24) || "arena"}`;
      const name = cString(path);
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_CLOEXEC;
      const fd = libc.open(name, flags, 0o600);
      if (fd < 0) {
        const code = errno();
        removeShared(path);
        throw new SystemError("open", code, path);
      }
      paths.set(fd, path);
      return fd;
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
    ...calls,
  };
}
