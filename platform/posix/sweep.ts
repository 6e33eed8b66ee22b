/**
 * Removing shared memory that has a path once nobody has it open, also when all who had it were killed at once.
 *
 * Everyone who has the file open holds a lock on it, from the moment of opening on until death. A sweeper takes all locks of it in one step, without
 * waiting, and removes the file's name only while it has them. Who opens or makes one takes its lock first and then looks whether the file still has
 * its name. So each of the two may stop or die anywhere:
 *
 * | who makes one has | a sweeper | who then goes on |
 * |---|---|---|
 * | made the folder | removes it | cannot make the file in it, and begins anew |
 * | made the file | has all locks; removes it | is refused the lock, or finds the name gone: begins anew |
 * | the lock | is refused: leaves it | |
 *
 * | a sweeper has | who opens the file | after its death |
 * |---|---|---|
 * | all locks | is refused the lock: it is gone | the locks are gone with it, and nothing happened |
 * | removed what lies beside the file | is refused the lock | the next sweeper goes on |
 * | removed the file | finds no name, now or after it got the lock | the next one finds an empty folder |
 * | removed the folder | | |
 *
 * Whose folder it is: only one of this user with mode 0700 and a name as `privateFolder` makes it, looked at and emptied through a descriptor, so that
 * no link or rename leads elsewhere. What has another name than a doorbell or the file stays, and the folder with it.
 *
 * @module
 */
import { cString, errno } from "../../ffi/mod.ts";
import type { FileIdentity } from "../types.ts";
import { lockAll } from "./life.ts";
import { constants, errnos, libc, structs } from "./system.ts";

/** What mkdtemp makes of the template in `privateFolder`. */
const FOLDER = /^geventmp-[A-Za-z0-9]{6}$/;
/** An agent's slot and generation. */
const DOORBELL = /^\d+-\d+$/;

const decoder = new TextDecoder();

type IdentityOf = (fd: number) => FileIdentity;

/** Names in a folder, but for `.` and `..`; none when it cannot be read. */
function namesIn(folder: number): string[] {
  const names: string[] = [];
  // Another description: reading moves its position.
  const fd = openFolder(folder, ".");
  if (fd < 0) return names;
  const stream = libc.fdopendir(fd);
  if (stream === 0) {
    libc.close(fd);
    return names;
  }
  // readdir would return an address, and Deno takes 30 µs to read a text from there.
  const layout = structs["struct dirent"];
  const entry = new Uint8Array(layout.size);
  const found = new BigUint64Array(1);
  while (libc.readdir_r(stream, entry, found) === 0 && found[0] !== 0n) {
    const name = decoder.decode(entry.subarray(layout.d_name, entry.indexOf(0, layout.d_name)));
    if (name !== "." && name !== "..") names.push(name);
  }
  libc.closedir(stream);
  return names;
}

function openFolder(at: number, name: string): number {
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW | constants.O_CLOEXEC;
  return libc.openat(at, cString(name), flags, 0);
}

/** Empties a folder unless somebody has the file in it open. Whether it can be removed. */
function emptied(folder: number, file: string, identityOf: IdentityOf): boolean {
  const user = libc.geteuid();
  const is = identityOf(folder);
  if (is.owner !== user || (is.mode & 0o777) !== 0o700) return false;
  // A FIFO of this name must not block.
  const flags = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_CLOEXEC;
  const name = cString(file);
  const fd = libc.openat(folder, name, flags, 0);
  if (fd < 0) return errno() === errnos.ENOENT;
  try {
    if (identityOf(fd).owner !== user || !lockAll(fd)) return false;
    for (const each of namesIn(folder)) {
      if (DOORBELL.test(each)) libc.unlinkat(folder, cString(each), 0);
    }
    return libc.unlinkat(folder, name, 0) === 0;
  } finally {
    libc.close(fd);
  }
}

/** Whether the folder is gone. Never throws. */
function removeFrom(parent: number, name: string, file: string, identityOf: IdentityOf): boolean {
  const folder = openFolder(parent, name);
  if (folder < 0) return errno() === errnos.ENOENT;
  try {
    if (!emptied(folder, file, identityOf)) return false;
  } catch {
    return false; // looking failed, which says nothing about who has it open
  } finally {
    libc.close(folder);
  }
  // Empty by now, or another's meanwhile, which then is not.
  return libc.unlinkat(parent, cString(name), constants.AT_REMOVEDIR) === 0 || errno() === errnos.ENOENT;
}

/** `path` in pieces: a descriptor of the folder's parent, the folder's name, the file's name. */
function within<T>(path: string, otherwise: T, work: (parent: number, folder: string, file: string) => T): T {
  const [folder, file] = path.split("/").slice(-2);
  const flags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_CLOEXEC;
  const name = cString(path.slice(0, -`/${folder}/${file}`.length) || "/");
  const parent = libc.open(name, flags, 0);
  if (parent < 0) return otherwise;
  try {
    return work(parent, folder, file);
  } finally {
    libc.close(parent);
  }
}

/** Removes a file's folder with what is in it, unless somebody has the file open. Whether it is gone. Never throws. */
export function removeUnused(path: string, identityOf: IdentityOf): boolean {
  return within(path, false, (parent, folder, file) => removeFrom(parent, folder, file, identityOf));
}

/** Does the same for each folder of this kind beside the file's. Never throws. */
export function sweepUnused(path: string, identityOf: IdentityOf): void {
  within(path, undefined, (parent, _, file) => {
    for (const name of namesIn(parent)) if (FOLDER.test(name)) removeFrom(parent, name, file, identityOf);
  });
}
