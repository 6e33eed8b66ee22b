/**
 * Shared memory in a memfd: a file without a name, so that nothing can be left behind, whoever is killed when.
 *
 * @module
 */
import { check, cString, errno, SystemError } from "../../ffi/mod.ts";
import { type SharedFileCalls, sharedFiles } from "../posix/shared_file.ts";
import { truncateFd } from "../posix/memory.ts";
import { architecture, libc } from "../posix/system.ts";
import type { FileIdentity, SharedMemoryMechanism } from "../types.ts";
import { constants, constantsByArchitecture, errnos, recentConstants, structs } from "./constants.ts";
import { linuxLibc } from "./symbols.ts";

/** The numbers that depend on the processor. libc is never reached on another one. */
export const numbers: Record<keyof typeof constantsByArchitecture["x86_64"], number> =
  constantsByArchitecture[architecture === "aarch64" ? "aarch64" : "x86_64"];

const NOTHING = new Uint8Array(1);

/** Asks statx, whose struct is the same on every processor and in every libc, unlike stat's. */
export function statx(directory: number, path: string, mask: number): DataView | null {
  const bytes = new Uint8Array(structs["struct statx"].size);
  const name = path === "" ? NOTHING : cString(path);
  const flags = path === "" ? constants.AT_EMPTY_PATH : 0;
  return linuxLibc.statx(numbers.SYS_statx, directory, name, flags, mask, bytes) < 0
    ? null
    : new DataView(bytes.buffer);
}

const STATX_IDENTITY = constants.STATX_INO | constants.STATX_SIZE | constants.STATX_UID |
  constants.STATX_MODE;

const roomInFiles: SharedFileCalls = {
  extend(fd: number, offset: number, length: number): void {
    for (;;) {
      // It returns the error number and leaves errno alone.
      const code = linuxLibc.posix_fallocate(fd, offset, length);
      if (code === 0) return;
      if (code !== errnos.EINTR) {
        throw new SystemError("posix_fallocate", code, `${length} bytes at ${offset} of descriptor ${fd}`);
      }
    }
  },
  punchHole(fd: number, offset: number, length: number): void {
    const mode = constants.FALLOC_FL_PUNCH_HOLE | constants.FALLOC_FL_KEEP_SIZE;
    check(
      "fallocate",
      linuxLibc.fallocate(fd, mode, offset, length),
      `a hole of ${length} bytes at ${offset}`,
    );
  },
  sizeNamed(fd: number, from: number, to: number, size: number): void {
    // At once, so that nobody who attaches sees another size.
    if (from === 0) truncateFd(fd, size);
    if (to > from) roomInFiles.extend(fd, from, to - from);
  },
  fileIdentity(fd: number): FileIdentity {
    const found = statx(fd, "", STATX_IDENTITY);
    if (found === null) throw new SystemError("statx", errno(), `descriptor ${fd}`);
    const layout = structs["struct statx"];
    const major = BigInt(found.getUint32(layout.stx_dev_major, true));
    const minor = BigInt(found.getUint32(layout.stx_dev_minor, true));
    return {
      // glibc's makedev, so that the number is the one that stat shows.
      device: ((major & 0xfffff000n) << 32n) | ((major & 0xfffn) << 8n) | ((minor & 0xffffff00n) << 12n) |
        (minor & 0xffn),
      inode: found.getBigUint64(layout.stx_ino, true),
      size: Number(found.getBigUint64(layout.stx_size, true)),
      owner: found.getUint32(layout.stx_uid, true),
      mode: found.getUint16(layout.stx_mode, true) & 0o7777,
    };
  },
};

/** The fallback, for tests and for kernels that refuse memfd_create. */
export const linuxSharedFiles: SharedMemoryMechanism = sharedFiles(roomInFiles);

function openLink(link: string): number {
  const path = cString(link);
  return check("open", libc.open(path, constants.O_RDWR | constants.O_CLOEXEC, 0), link);
}

/** Memfds, opened again through /proc. */
export const linuxMemory: SharedMemoryMechanism = {
  createShared(label: string): number {
    const name = cString(label.slice(0, 200));
    const flags = constants.MFD_CLOEXEC | constants.MFD_ALLOW_SEALING;
    const fd = linuxLibc.memfd_create(numbers.SYS_memfd_create, name, flags);
    if (fd >= 0) return fd;
    let code = errno();
    if (code === errnos.EACCES) {
      // vm.memfd_noexec = 2 wants the flag that older kernels refuse.
      const sealed = linuxLibc.memfd_create(
        numbers.SYS_memfd_create,
        name,
        flags | recentConstants.MFD_NOEXEC_SEAL,
      );
      if (sealed >= 0) return sealed;
      code = errno();
    }
    // A sandbox may forbid the call; a file does as well.
    if (code === errnos.ENOSYS || code === errnos.EPERM || code === errnos.EACCES) {
      return linuxSharedFiles.createShared(label);
    }
    throw new SystemError("memfd_create", code, label);
  },
  sealShrink(fd: number): void {
    if (libc.fcntlInt(fd, constants.F_ADD_SEALS, constants.F_SEAL_SHRINK | constants.F_SEAL_SEAL) < 0) {
      const code = errno();
      // EINVAL: a file of the fallback, which has no seals.
      if (code !== errnos.EINVAL) throw new SystemError("fcntl", code, `F_ADD_SEALS of descriptor ${fd}`);
    }
  },
  reopen(fd: number, path?: string): number {
    return path === undefined ? openLink(`/proc/self/fd/${fd}`) : linuxSharedFiles.reopen(fd, path);
  },
  openOf(pid: number, fd: number, path?: string): number {
    return path === undefined ? openLink(`/proc/${pid}/fd/${fd}`) : linuxSharedFiles.openOf(pid, fd, path);
  },
  removeShared: linuxSharedFiles.removeShared,
  sweepShared: linuxSharedFiles.sweepShared,
  ...roomInFiles,
};
