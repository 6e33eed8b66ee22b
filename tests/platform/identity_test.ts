import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import process from "node:process";
import { cpuQuota } from "../../platform/linux/cgroup.ts";
import { parseStat } from "../../platform/linux/identity.ts";
import {
  architecture,
  environ,
  executablePath,
  fallbacksForced,
  getenv,
  getSharedEnv,
  isZombie,
  killProcess,
  onlineCpus,
  osName,
  pageSize,
  parentDeathSignal,
  parentProcessId,
  pidNamespace,
  processId,
  processStartTime,
  sameUser,
  setSharedEnv,
  setUmask,
  SystemError,
  threadId,
  threadStartTime,
  userId,
} from "../../platform/mod.ts";

/** No system gives this number to a process. */
const NOBODY = 0x3ffffff;

describe("platform: identity", () => {
  it("agrees with the runtime", () => {
    assertEquals(processId(), process.pid);
    assertEquals(parentProcessId(), process.ppid);
    assertEquals(userId(), process.geteuid!());
    assertEquals(osName, process.platform);
    assertEquals(architecture, process.arch === "x64" ? "x86_64" : "aarch64");
    assert([4096, 16384, 65536].includes(pageSize()));
    assert(executablePath().startsWith("/"));
  });

  it("tells processes and threads apart by their start", () => {
    const own = processStartTime(processId());
    assert(own !== null);
    assertEquals(processStartTime(processId()), own);
    assertEquals(processStartTime(NOBODY), null);
    assertEquals(isZombie(processId()), false);
    assertEquals(isZombie(NOBODY), false);
    assert(threadStartTime(processId(), threadId()) !== null);
    assertEquals(threadStartTime(processId(), NOBODY), null);
    assertEquals(threadStartTime(NOBODY, NOBODY), null);
    assertEquals(sameUser(processId()), true);
    assertEquals(sameUser(NOBODY), false);
    if (osName === "linux" && !fallbacksForced()) {
      assert(own > 0);
      assert(pidNamespace() > 0n);
    } else {
      assertEquals(pidNamespace(), 0n);
    }
  });

  it("signals", () => {
    assertEquals(killProcess(processId(), 0), true);
    assertEquals(killProcess(NOBODY, 0), false);
    assertEquals(assertThrows(() => killProcess(processId(), 9999), SystemError).code, "EINVAL");
    // Undone at once: it must not outlive the test.
    assertEquals(parentDeathSignal(0), osName === "linux" && !fallbacksForced());
  });

  it("sets the umask", () => {
    const before = setUmask(0o027);
    assertEquals(setUmask(before), 0o027);
  });

  it("reads the environment", () => {
    const all = environ();
    assertEquals(getenv("PATH"), process.env.PATH ?? null);
    assertEquals(all.PATH, process.env.PATH);
    assertEquals(getenv("GEVENTMP_NOT_SET"), null);
    process.env.GEVENTMP_TEST_VALUE = "größe = ✓";
    try {
      assertEquals(getenv("GEVENTMP_TEST_VALUE"), "größe = ✓");
      assertEquals(environ().GEVENTMP_TEST_VALUE, "größe = ✓");
    } finally {
      delete process.env.GEVENTMP_TEST_VALUE;
    }
    assertEquals(getenv("GEVENTMP_TEST_VALUE"), null);
    assertEquals(Object.hasOwn(environ(), "GEVENTMP_TEST_VALUE"), false);
    const name = `GEVENTMP_TEST_SHARED_${processId()}`;
    setSharedEnv(name, "für alle", false);
    setSharedEnv(name, "später", false);
    assertEquals([getSharedEnv(name), getenv(name), environ()[name]], ["für alle", "für alle", "für alle"]);
    setSharedEnv(name, "ersetzt", true);
    assertEquals([getSharedEnv(name), getenv(name)], ["ersetzt", "ersetzt"]);
    assertEquals(getSharedEnv("GEVENTMP_NOT_SET"), null);
  });

  it("counts at least one processor", () => {
    const count = onlineCpus();
    assert(Number.isInteger(count) && count >= 1);
  });
});

describe("platform: /proc/<pid>/stat", () => {
  const rest = "S 1 4 4 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 31337 1000 2000";

  it("is read from the last parenthesis on", () => {
    assertEquals(parseStat(`42 (deno) ${rest}`), { state: "S", startTime: 31337 });
    assertEquals(parseStat(`42 (a) Z (b) ${rest}\n`), { state: "S", startTime: 31337 });
    assertEquals(parseStat(`42 () ${rest}`), { state: "S", startTime: 31337 });
  });

  it("is null when it is none", () => {
    for (const line of ["", "42", "42 (deno)", "42 (deno) S 1 2 3"]) assertEquals(parseStat(line), null);
  });
});

describe("platform: control groups", () => {
  function quota(files: Record<string, string>): number {
    return cpuQuota((path) => files[path] ?? null);
  }

  it("of version 2 limit at every level", () => {
    assertEquals(quota({}), Infinity);
    assertEquals(quota({ "/proc/self/cgroup": "0::/\n" }), Infinity);
    assertEquals(quota({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "150000 100000\n" }), 1.5);
    assertEquals(
      quota({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "max 100000\n" }),
      Infinity,
    );
    assertEquals(
      quota({
        "/proc/self/cgroup": "0::/a/b:c\n",
        "/sys/fs/cgroup/a/b:c/cpu.max": "400000 100000\n",
        "/sys/fs/cgroup/a/cpu.max": "200000 100000\n",
      }),
      2,
    );
  });

  it("of version 1 too, wherever they are mounted", () => {
    assertEquals(
      quota({
        "/proc/self/cgroup": "5:devices:/x\n4:cpu,cpuacct:/docker/1\n0::/\n",
        "/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_quota_us": "50000\n",
        "/sys/fs/cgroup/cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000\n",
      }),
      0.5,
    );
    assertEquals(
      quota({
        "/proc/self/cgroup": "4:cpu:/\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      }),
      Infinity,
    );
  });
});
