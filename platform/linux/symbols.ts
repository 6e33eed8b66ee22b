/**
 * libc's functions that only Linux has.
 *
 * @module
 */
import { type Bound, open } from "../../ffi/mod.ts";
import { libraries } from "../posix/system.ts";

const symbols = {
  // int memfd_create(const char *name, unsigned int flags);  by number, because glibc has it only since 2.27
  memfd_create: { name: "syscall", parameters: ["isize", "buffer", "u32"], result: "isize" },
  // int posix_fallocate(int fd, off_t offset, off_t len);  returns the error number
  posix_fallocate: { parameters: ["i32", "i64", "i64"], result: "i32" },
  // int fallocate(int fd, int mode, off_t offset, off_t len);
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  // int pipe2(int pipefd[2], int flags);
  pipe2: { parameters: ["buffer", "i32"], result: "i32" },
  // int eventfd(unsigned int initval, int flags);
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  // int prctl(int option, ...);  with unsigned long arg2 to arg5
  prctl: { parameters: ["i32", "usize", "usize", "usize", "usize"], result: "i32" },
  // int sched_getaffinity(pid_t pid, size_t cpusetsize, cpu_set_t *mask);
  sched_getaffinity: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  // int sem_timedwait(sem_t *restrict sem, const struct timespec *restrict abs_timeout);
  sem_timedwait: { parameters: ["address", "buffer"], result: "i32" },
  // int sem_getvalue(sem_t *restrict sem, int *restrict sval);
  sem_getvalue: { parameters: ["address", "buffer"], result: "i32" },
  // long syscall(long number, ...);  SYS_gettid
  gettid: { name: "syscall", parameters: ["isize"], result: "isize" },
  // int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *file_actions, int from);  glibc since 2.34
  posix_spawn_file_actions_addclosefrom_np: { parameters: ["buffer", "i32"], result: "i32" },
  // SYS_tgkill: pid_t tgid, pid_t tid, int sig
  tgkill: { name: "syscall", parameters: ["isize", "i32", "i32", "i32"], result: "isize" },
  // SYS_pidfd_open: pid_t pid, unsigned int flags
  pidfd_open: { name: "syscall", parameters: ["isize", "i32", "u32"], result: "isize" },
  // SYS_pidfd_send_signal: int pidfd, int sig, siginfo_t *info, unsigned int flags
  pidfd_send_signal: {
    name: "syscall",
    parameters: ["isize", "i32", "i32", "address", "u32"],
    result: "isize",
  },
  // SYS_statx: int dirfd, const char *path, int flags, unsigned int mask, struct statx *buffer
  statx: { name: "syscall", parameters: ["isize", "i32", "buffer", "i32", "u32", "buffer"], result: "isize" },
  // SYS_preadv2: int fd, const struct iovec *iov, int iovcnt, unsigned long low, unsigned long high, int flags
  preadv2: {
    name: "syscall",
    parameters: ["isize", "i32", "buffer", "i32", "isize", "isize", "i32"],
    result: "isize",
    hot: true,
  },
  // SYS_futex: uint32_t *uaddr, int op, uint32_t val, const struct timespec *timeout
  futex: {
    name: "syscall",
    parameters: ["isize", "address", "i32", "u32", "buffer"],
    result: "isize",
    hot: true,
  },
} as const;

/** libc's functions that only Linux has. */
export const linuxLibc: Bound<typeof symbols> = open(libraries, symbols);
