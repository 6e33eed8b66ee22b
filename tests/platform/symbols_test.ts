import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { check, symbolAddress } from "../../ffi/mod.ts";
import { constants as linuxConstants } from "../../platform/linux/constants.ts";
import { openPidFd } from "../../platform/linux/identity.ts";
import { closeFd, killProcess, osName, signals, spawn, waitReadable } from "../../platform/mod.ts";
import { constants, libc, libraries } from "../../platform/posix/system.ts";
import { reap } from "./child.ts";

/** What the module needs of libc on every system. */
const EVERYWHERE = [
  "sem_open",
  "sem_close",
  "sem_unlink",
  "sem_wait",
  "sem_trywait",
  "sem_post",
  "fcntl",
  "fork",
  "posix_spawn",
  "posix_spawn_file_actions_init",
  "posix_spawn_file_actions_destroy",
  "posix_spawn_file_actions_adddup2",
  "posix_spawn_file_actions_addopen",
  "posix_spawn_file_actions_addclose",
  "posix_spawn_file_actions_addchdir_np",
  "posix_spawnattr_init",
  "posix_spawnattr_destroy",
  "posix_spawnattr_setflags",
  "posix_spawnattr_setpgroup",
  "posix_spawnattr_setsigdefault",
  "posix_spawnattr_setsigmask",
  "waitpid",
  "pipe",
  "read",
  "write",
  "poll",
  "mmap",
  "munmap",
  "madvise",
  "shm_open",
  "shm_unlink",
  "ftruncate",
  "socketpair",
  "socket",
  "bind",
  "connect",
  "sendto",
  "kill",
  "getpid",
  "sysconf",
  "umask",
];
const ON_LINUX = [
  "eventfd",
  "sem_timedwait",
  "sem_getvalue",
  "pipe2",
  "posix_fallocate",
  "fallocate",
  "syscall",
  "prctl",
  "sched_getaffinity",
];

describe("platform: symbols", () => {
  it("are all in libc", () => {
    const names = osName === "linux" ? [...EVERYWHERE, ...ON_LINUX] : EVERYWHERE;
    assertEquals(names.filter((name) => symbolAddress(libraries(), name) === null), []);
  });

  it("bind fork, which is not called here: it would copy a runtime of many threads", () => {
    assertEquals(typeof libc.fork, "function");
  });

  it("advise about memory and give it back", () => {
    const length = 65536;
    const protection = constants.PROT_READ | constants.PROT_WRITE;
    const address = libc.mmap(0, length, protection, constants.MAP_PRIVATE | constants.MAP_ANONYMOUS, -1, 0);
    assert(address > 0);
    if (osName === "linux") {
      check("madvise", libc.madvise(address, length, linuxConstants.MADV_DONTFORK));
      check("madvise", libc.madvise(address, length, linuxConstants.MADV_DOFORK));
    }
    check("munmap", libc.munmap(address, length));
    assertEquals(libc.mmap(0, 0, protection, constants.MAP_PRIVATE, -1, 0), -1);
  });

  it("keep 64-bit time exact", () => {
    const bytes = new BigInt64Array(2);
    check("clock_gettime", libc.clock_gettime(constants.CLOCK_REALTIME, bytes));
    assert(Math.abs(Number(bytes[0]) - Date.now() / 1000) < 10);
    assert(bytes[1] >= 0n && bytes[1] < 1_000_000_000n);
  });

  if (osName === "linux") {
    it("watch a process by its pidfd", () => {
      const pid = spawn({ file: "/bin/sleep", argv: ["sleep", "60"], env: {} });
      const fd = openPidFd(pid);
      if (fd === null) throw new Error("This kernel has no pidfd_open: run the tests on Linux 5.3 or later");
      assertEquals(waitReadable(fd, 0), false);
      killProcess(pid, signals.SIGKILL);
      assertEquals(waitReadable(fd, 10_000), true);
      assertEquals(reap(pid), -signals.SIGKILL);
      closeFd(fd);
      assertEquals(openPidFd(pid), null);
    });
  }
});
