/**
 * Room in files on Darwin, which has neither memfd nor posix_fallocate.
 *
 * @module
 */
import { check, errno, SystemError } from "../../ffi/mod.ts";
import { sharedFiles } from "../posix/shared_file.ts";
import { truncateFd } from "../posix/memory.ts";
import { libc } from "../posix/system.ts";
import type { FileIdentity, SharedMemoryMechanism } from "../types.ts";
import { constants, structs } from "./constants.ts";
import { darwinLibc } from "./symbols.ts";

function sizeAndIdentity(fd: number): FileIdentity {
  const layout = structs["struct stat"];
  const bytes = new Uint8Array(layout.size);
  check("fstat", darwinLibc.fstat(fd, bytes), `descriptor ${fd}`);
  const view = new DataView(bytes.buffer);
  return {
    device: BigInt(view.getUint32(layout.st_dev, true)),
    inode: view.getBigUint64(layout.st_ino, true),
    size: Number(view.getBigInt64(layout.st_size, true)),
    owner: view.getUint32(layout.st_uid, true),
    mode: view.getUint16(layout.st_mode, true) & 0o7777,
  };
}

/** Files, extended by F_PREALLOCATE. */
export const darwinMemory: SharedMemoryMechanism = sharedFiles({
  extend(fd: number, offset: number, length: number): void {
    const { size } = sizeAndIdentity(fd);
    const end = offset + length;
    if (end <= size) return;
    const layout = structs["struct fstore"];
    const store = new DataView(new ArrayBuffer(layout.size));
    store.setUint32(layout.fst_flags, constants.F_ALLOCATEALL, true);
    // The only mode for growing: blocks after the last one, so the offset is 0 (fcntl(2)).
    store.setInt32(layout.fst_posmode, constants.F_PEOFPOSMODE, true);
    store.setBigInt64(layout.fst_length, BigInt(end - size), true);
    if (darwinLibc.fcntlBlock(fd, constants.F_PREALLOCATE, store) < 0) {
      throw new SystemError("fcntl", errno(), `F_PREALLOCATE of ${end - size} bytes of descriptor ${fd}`);
    }
    check("ftruncate", libc.ftruncate(fd, end), `descriptor ${fd} to ${end} bytes`);
  },
  punchHole(fd: number, offset: number, length: number): void {
    const layout = structs["struct fpunchhole"];
    const hole = new DataView(new ArrayBuffer(layout.size));
    hole.setBigInt64(layout.fp_offset, BigInt(offset), true);
    hole.setBigInt64(layout.fp_length, BigInt(length), true);
    check(
      "fcntl",
      darwinLibc.fcntlBlock(fd, constants.F_PUNCHHOLE, hole),
      `F_PUNCHHOLE of ${length} bytes at ${offset}`,
    );
  },
  sizeNamed(fd: number, from: number, _to: number, size: number): void {
    // The size can be set once; pages come from the system's memory when they are touched, as any others (pshm_truncate in xnu's posix_shm.c).
    if (from === 0) truncateFd(fd, size);
  },
  fileIdentity: sizeAndIdentity,
});
