/**
 * Who runs, from libproc, which libSystem holds. Darwin has no pid namespaces.
 *
 * @module
 */
import { SystemError } from "../../ffi/mod.ts";
import { posixIdentity } from "../posix/process.ts";
import { libc } from "../posix/system.ts";
import type { IdentityMechanism } from "../types.ts";
import { constants, structs } from "./constants.ts";
import { darwinLibc } from "./symbols.ts";

/** Null when there is no such process. */
function processInfo(pid: number): DataView | null {
  const layout = structs["struct proc_bsdinfo"];
  const bytes = new Uint8Array(layout.size);
  // The argument 1 has the kernel look among zombies too.
  const length = darwinLibc.proc_pidinfo(pid, constants.PROC_PIDTBSDINFO, 1, bytes, layout.size);
  return length === layout.size ? new DataView(bytes.buffer) : null;
}

/** Identity by proc_pidinfo. */
export const darwinIdentity: IdentityMechanism = {
  ...posixIdentity,
  threadId(): number {
    const id = new BigUint64Array(1);
    const code = darwinLibc.pthread_threadid_np(0, id);
    if (code !== 0) throw new SystemError("pthread_threadid_np", code);
    return Number(id[0]);
  },
  /** In microseconds since 1970. */
  processStartTime(pid: number): number | null {
    const info = processInfo(pid);
    if (info === null) return null;
    const layout = structs["struct proc_bsdinfo"];
    const seconds = Number(info.getBigUint64(layout.pbi_start_tvsec, true));
    return seconds * 1e6 + Number(info.getBigUint64(layout.pbi_start_tvusec, true));
  },
  isZombie(pid: number): boolean {
    return processInfo(pid)?.getUint32(structs["struct proc_bsdinfo"].pbi_status, true) === constants.SZOMB;
  },
  /** The kernel gives a thread number once only, so 0 does for every living thread. */
  threadStartTime(pid: number, tid: number): number | null {
    const bytes = new Uint8Array(structs["struct proc_threadinfo"].size);
    return darwinLibc.proc_pidinfo(pid, constants.PROC_PIDTHREADID64INFO, tid, bytes, bytes.length) > 0
      ? 0
      : null;
  },
  sameUser(pid: number): boolean {
    return processInfo(pid)?.getUint32(structs["struct proc_bsdinfo"].pbi_uid, true) === libc.geteuid();
  },
  executablePath(): string {
    let bytes = new Uint8Array(1024);
    const size = new Uint32Array([bytes.length]);
    if (darwinLibc._NSGetExecutablePath(bytes, size) !== 0) {
      bytes = new Uint8Array(size[0]);
      darwinLibc._NSGetExecutablePath(bytes, size);
    }
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  },
};
