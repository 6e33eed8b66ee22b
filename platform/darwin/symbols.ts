/**
 * libSystem's functions that only Darwin has, and those that it names differently.
 *
 * @module
 */
import { type Bound, open } from "../../ffi/mod.ts";
import { architecture, libraries, variadicOnStack } from "../posix/system.ts";

const symbols = {
  // int fstat(int fildes, struct stat *buf);  x86-64 kept the plain name for the struct with 32-bit inodes
  fstat: {
    name: architecture === "x86_64" ? "fstat$INODE64" : "fstat",
    parameters: ["i32", "buffer"],
    result: "i32",
  },
  // int fcntl(int fildes, int cmd, ...);  with an fstore_t or fpunchhole_t
  fcntlBlock: { name: "fcntl", parameters: ["i32", "i32", "buffer"], result: "i32", fixed: 2 },
  // int pthread_threadid_np(pthread_t thread, uint64_t *thread_id);
  pthread_threadid_np: { parameters: ["address", "buffer"], result: "i32" },
  // int proc_pidinfo(int pid, int flavor, uint64_t arg, void *buffer, int buffersize);
  proc_pidinfo: { parameters: ["i32", "i32", "u64", "buffer", "i32"], result: "i32" },
  // char ***_NSGetEnviron(void);
  _NSGetEnviron: { parameters: [], result: "address" },
  // int _NSGetExecutablePath(char *buf, uint32_t *bufsize);
  _NSGetExecutablePath: { parameters: ["buffer", "buffer"], result: "i32" },
} as const;

/** libSystem's functions that only Darwin has. */
export const darwinLibc: Bound<typeof symbols> = open(libraries, symbols, { variadicOnStack });
