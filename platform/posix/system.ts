/**
 * Which system this is, decided once, and libc's functions that Linux and Darwin share.
 *
 * @module
 */
import { type Bound, open, useErrnoNames } from "../../ffi/mod.ts";
import * as darwin from "../darwin/constants.ts";
import * as linux from "../linux/constants.ts";

/** Thrown at the first use of what this system does not have, and of anything on a system that this module does not know. */
export class UnsupportedPlatformError extends Error {
  /** Stable across versions and processes. */
  readonly code: "UNSUPPORTED_PLATFORM" = "UNSUPPORTED_PLATFORM";

  /**
   * Makes the error.
   *
   * @param system the system's name, as the runtime gives it
   * @param what what it lacks, where it is not unknown as a whole
   * @param cure what to do instead
   */
  constructor(
    system: string,
    what: string = "geventmp",
    cure: string = "it needs Linux or macOS on x86-64 or arm64; run it in a Linux container",
  ) {
    super(`Cannot use ${what} on ${system}: ${cure}`);
    this.name = "UnsupportedPlatformError";
  }
}

/** What a runtime says about its system; on Deno `process` is left alone, because touching it loads the Node layer. */
interface Runtime {
  readonly Bun?: object;
  readonly Deno?: { readonly build: { readonly os: string; readonly arch: string } };
  readonly process?: {
    readonly platform: string;
    readonly arch: string;
    readonly env: Record<string, string | undefined>;
  };
}

const runtime = globalThis as Runtime;
const onDeno = runtime.Bun === undefined && runtime.Deno !== undefined;
const rawSystem = onDeno ? runtime.Deno!.build.os : runtime.process?.platform ?? "an unknown system";
const rawArchitecture = onDeno ? runtime.Deno!.build.arch : runtime.process?.arch ?? "an unknown processor";

/** The operating system; "other" means that every function throws {@linkcode UnsupportedPlatformError}. */
export const osName: "linux" | "darwin" | "other" = rawSystem === "linux" || rawSystem === "darwin"
  ? rawSystem
  : "other";

/** The processor, by Deno's names. */
export const architecture: "x86_64" | "aarch64" | "other" =
  rawArchitecture === "x86_64" || rawArchitecture === "x64"
    ? "x86_64"
    : rawArchitecture === "aarch64" || rawArchitecture === "arm64"
    ? "aarch64"
    : "other";

/** Whether variadic arguments go on the stack: Apple's arm64 convention. */
export const variadicOnStack: boolean = osName === "darwin" && architecture === "aarch64";

/** The process environment as JavaScript sees it, where that is not libc's: Bun. */
export const scriptEnvironment: Record<string, string | undefined> | null = onDeno
  ? null
  : runtime.process?.env ?? null;

type LinuxConstants = typeof linux.constants & typeof linux.constantsByArchitecture["x86_64"];

/** Constants that both systems have, with this system's values. */
export const constants: Record<keyof LinuxConstants & keyof typeof darwin.constants, number> =
  osName === "darwin" ? darwin.constants : {
    ...linux.constants,
    ...linux.constantsByArchitecture[architecture === "aarch64" ? "aarch64" : "x86_64"],
  };

/** Names of the signals that both systems have. */
export type SignalName = Extract<keyof typeof linux.signals, keyof typeof darwin.signals>;

/** Names of the errors that both systems have. */
export type ErrorName = Extract<keyof typeof linux.errnos, keyof typeof darwin.errnos>;

/** Signal numbers by name, as this system numbers them. */
export const signals: Readonly<Record<SignalName, number>> = osName === "darwin"
  ? darwin.signals
  : linux.signals;

/** Error numbers by name, as this system numbers them. */
export const errnos: Readonly<Record<ErrorName, number>> = osName === "darwin" ? darwin.errnos : linux.errnos;

type SharedStruct = keyof typeof linux.structs & keyof typeof darwin.structs;
type Layouts = {
  readonly [S in SharedStruct]: {
    readonly [F in keyof (typeof linux.structs)[S] & keyof (typeof darwin.structs)[S]]: number;
  };
};

/** Struct layouts that both systems have, with this system's sizes and offsets in bytes. */
export const structs: Layouts = osName === "darwin" ? darwin.structs : linux.structs;

/** Where libc is. The longer names serve a system whose loader does not find the short one. */
const LIBRARIES = {
  // musl's loader takes any name that begins with "libc." for itself.
  linux: ["libc.so.6", "libc.so", "libpthread.so.0", "librt.so.1", "libdl.so.2"],
  darwin: ["/usr/lib/libSystem.B.dylib"],
} as const;

/**
 * The libraries that hold libc. A glibc before 2.34 keeps semaphores and shm_open in separate ones.
 *
 * @throws {UnsupportedPlatformError} neither Linux nor Darwin, or an unknown processor
 */
export function libraries(): readonly string[] {
  if (osName === "other") throw new UnsupportedPlatformError(rawSystem);
  if (architecture === "other") throw new UnsupportedPlatformError(`${rawSystem} on ${rawArchitecture}`);
  return LIBRARIES[osName];
}

useErrnoNames((errno) => {
  const table: Record<string, number> = errnos;
  for (const name in table) if (table[name] === errno) return name;
  return undefined;
});

const inode64 = osName === "darwin" && architecture === "x86_64" ? "$INODE64" : "";

const posixSymbols = {
  // pid_t getpid(void);
  getpid: { parameters: [], result: "i32" },
  // pid_t getppid(void);
  getppid: { parameters: [], result: "i32" },
  // uid_t geteuid(void);
  geteuid: { parameters: [], result: "u32" },
  // pid_t fork(void);
  fork: { parameters: [], result: "i32" },
  // void _exit(int status);
  _exit: { parameters: ["i32"], result: "void" },
  // int kill(pid_t pid, int sig);
  kill: { parameters: ["i32", "i32"], result: "i32" },
  // pid_t waitpid(pid_t pid, int *stat_loc, int options);
  waitpid: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // mode_t umask(mode_t cmask);  mode_t is 32 bits on Linux and 16 on Darwin: an int argument fits both
  umask: { parameters: ["u32"], result: "u32" },
  // long sysconf(int name);
  sysconf: { parameters: ["i32"], result: "isize" },
  // char *getenv(const char *name);
  getenv: { parameters: ["buffer"], result: "address" },
  // int unsetenv(const char *name);
  unsetenv: { parameters: ["buffer"], result: "i32" },
  // int setenv(const char *name, const char *value, int overwrite);
  setenv: { parameters: ["buffer", "buffer", "i32"], result: "i32" },
  // ssize_t readlink(const char *restrict path, char *restrict buf, size_t bufsize);
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  // char *mkdtemp(char *template);
  mkdtemp: { parameters: ["buffer"], result: "address" },
  // int rmdir(const char *path);
  rmdir: { parameters: ["buffer"], result: "i32" },
  // int unlink(const char *path);
  unlink: { parameters: ["buffer"], result: "i32" },
  // int open(const char *path, int oflag, ...);
  open: { parameters: ["buffer", "i32", "u32"], result: "i32", fixed: 2 },
  // int openat(int fd, const char *path, int oflag, ...);
  openat: { parameters: ["i32", "buffer", "i32", "u32"], result: "i32", fixed: 3 },
  // int unlinkat(int fd, const char *path, int flag);
  unlinkat: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  // DIR *fdopendir(int fd);  Darwin on x86-64 kept the plain names for the struct with 32-bit inodes
  fdopendir: { name: `fdopendir${inode64}`, parameters: ["i32"], result: "address" },
  // int readdir_r(DIR *restrict dirp, struct dirent *restrict entry, struct dirent **restrict result);
  readdir_r: { name: `readdir_r${inode64}`, parameters: ["address", "buffer", "buffer"], result: "i32" },
  // int closedir(DIR *dirp);
  closedir: { parameters: ["address"], result: "i32" },
  // int close(int fildes);
  close: { parameters: ["i32"], result: "i32" },
  // ssize_t read(int fildes, void *buf, size_t nbyte);
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", hot: true },
  // ssize_t read(int fildes, void *buf, size_t nbyte);  for what is read once: binding is cheaper so on Deno
  readOnce: { name: "read", parameters: ["i32", "buffer", "usize"], result: "isize" },
  // ssize_t write(int fildes, const void *buf, size_t nbyte);
  write: { parameters: ["i32", "buffer", "usize"], result: "isize", hot: true },
  // int fcntl(int fildes, int cmd, ...);  with an int
  fcntlInt: { name: "fcntl", parameters: ["i32", "i32", "i32"], result: "i32", fixed: 2 },
  // int fcntl(int fildes, int cmd, ...);  with a pointer to a struct; asked in every tick of a waiting agent
  fcntlStruct: { name: "fcntl", parameters: ["i32", "i32", "buffer"], result: "i32", fixed: 2, hot: true },
  // int fcntl(int fildes, int cmd, ...);  the same, for what is done once
  fcntlStructOnce: { name: "fcntl", parameters: ["i32", "i32", "buffer"], result: "i32", fixed: 2 },
  // int ftruncate(int fildes, off_t length);
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  // int pipe(int fildes[2]);
  pipe: { parameters: ["buffer"], result: "i32" },
  // int poll(struct pollfd fds[], nfds_t nfds, int timeout);  nfds_t is unsigned long on Linux, unsigned int on Darwin
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32" },
  // int nanosleep(const struct timespec *rqtp, struct timespec *rmtp);
  nanosleep: { parameters: ["buffer", "buffer"], result: "i32" },
  // int clock_gettime(clockid_t clock_id, struct timespec *tp);
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  // void *mmap(void *addr, size_t len, int prot, int flags, int fildes, off_t off);
  mmap: { parameters: ["address", "usize", "i32", "i32", "i32", "i64"], result: "address" },
  // int munmap(void *addr, size_t len);
  munmap: { parameters: ["address", "usize"], result: "i32" },
  // int madvise(void *addr, size_t len, int advice);
  madvise: { parameters: ["address", "usize", "i32"], result: "i32" },
  // int getentropy(void *buffer, size_t length);
  getentropy: { parameters: ["address", "usize"], result: "i32" },
  // int shm_open(const char *name, int oflag, mode_t mode);  variadic on Darwin: (const char *, int, ...)
  shm_open: { parameters: ["buffer", "i32", "u32"], result: "i32", fixed: 2 },
  // int shm_unlink(const char *name);
  shm_unlink: { parameters: ["buffer"], result: "i32" },
  // int socket(int domain, int type, int protocol);
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  // int socketpair(int domain, int type, int protocol, int socket_vector[2]);
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  // int bind(int socket, const struct sockaddr *address, socklen_t address_len);
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // int listen(int socket, int backlog);
  listen: { parameters: ["i32", "i32"], result: "i32" },
  // int accept(int socket, struct sockaddr *restrict address, socklen_t *restrict address_len);
  accept: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  // int connect(int socket, const struct sockaddr *address, socklen_t address_len);
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  // ssize_t send(int socket, const void *buffer, size_t length, int flags);
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize", hot: true },
  // ssize_t sendto(int socket, const void *message, size_t length, int flags, const struct sockaddr *dest_addr,
  //                socklen_t dest_len);
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize", hot: true },
  // ssize_t recv(int socket, void *buffer, size_t length, int flags);
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  // int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *file_actions,
  //                 const posix_spawnattr_t *restrict attrp, char *const argv[restrict], char *const envp[restrict]);
  posix_spawn: { parameters: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"], result: "i32" },
  // int posix_spawn_file_actions_init(posix_spawn_file_actions_t *file_actions);
  posix_spawn_file_actions_init: { parameters: ["buffer"], result: "i32" },
  // int posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *file_actions);
  posix_spawn_file_actions_destroy: { parameters: ["buffer"], result: "i32" },
  // int posix_spawn_file_actions_adddup2(posix_spawn_file_actions_t *file_actions, int fildes, int newfildes);
  posix_spawn_file_actions_adddup2: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  // int posix_spawn_file_actions_addclose(posix_spawn_file_actions_t *file_actions, int fildes);
  posix_spawn_file_actions_addclose: { parameters: ["buffer", "i32"], result: "i32" },
  // int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t *restrict file_actions, int fildes,
  //                                      const char *restrict path, int oflag, mode_t mode);
  posix_spawn_file_actions_addopen: { parameters: ["buffer", "i32", "buffer", "i32", "u32"], result: "i32" },
  // int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *restrict, const char *restrict path);
  posix_spawn_file_actions_addchdir_np: { parameters: ["buffer", "buffer"], result: "i32" },
  // int posix_spawnattr_init(posix_spawnattr_t *attr);
  posix_spawnattr_init: { parameters: ["buffer"], result: "i32" },
  // int posix_spawnattr_destroy(posix_spawnattr_t *attr);
  posix_spawnattr_destroy: { parameters: ["buffer"], result: "i32" },
  // int posix_spawnattr_setflags(posix_spawnattr_t *attr, short flags);
  posix_spawnattr_setflags: { parameters: ["buffer", "i16"], result: "i32" },
  // int posix_spawnattr_setpgroup(posix_spawnattr_t *attr, pid_t pgroup);
  posix_spawnattr_setpgroup: { parameters: ["buffer", "i32"], result: "i32" },
  // int posix_spawnattr_setsigdefault(posix_spawnattr_t *restrict attr, const sigset_t *restrict sigdefault);
  posix_spawnattr_setsigdefault: { parameters: ["buffer", "buffer"], result: "i32" },
  // int posix_spawnattr_setsigmask(posix_spawnattr_t *restrict attr, const sigset_t *restrict sigmask);
  posix_spawnattr_setsigmask: { parameters: ["buffer", "buffer"], result: "i32" },
  // sem_t *sem_open(const char *name, int oflag, ...);  with mode_t mode, unsigned value
  sem_open: { parameters: ["buffer", "i32", "u32", "u32"], result: "address", fixed: 2 },
  // int sem_close(sem_t *sem);
  sem_close: { parameters: ["address"], result: "i32" },
  // int sem_unlink(const char *name);
  sem_unlink: { parameters: ["buffer"], result: "i32" },
  // int sem_wait(sem_t *sem);
  sem_wait: { parameters: ["address"], result: "i32" },
  // int sem_trywait(sem_t *sem);
  sem_trywait: { parameters: ["address"], result: "i32", hot: true },
  // int sem_post(sem_t *sem);
  sem_post: { parameters: ["address"], result: "i32", hot: true },
} as const;

/** libc's functions that both systems have. */
export const libc: Bound<typeof posixSymbols> = open(libraries, posixSymbols, { variadicOnStack });
