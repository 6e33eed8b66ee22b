/**
 * How much processor time the control groups of this process allow.
 *
 * @module
 */

/** Reads a file as text; null when there is none. */
export type ReadText = (path: string) => string | null;

/** Version 2: "max 100000" or "150000 100000": microseconds a period. */
function quotaOfV2(text: string | null): number {
  const [quota, period] = (text ?? "").trim().split(/\s+/);
  const share = Number(quota) / Number(period);
  return share > 0 ? share : Infinity;
}

/** Version 1: two files, with a negative quota for none. */
function quotaOfV1(quota: string | null, period: string | null): number {
  const share = Number(quota ?? "-1") / Number(period ?? "0");
  return Number(quota) > 0 && share > 0 && Number.isFinite(share) ? share : Infinity;
}

/** A group's path and those of all groups above it, down to "". */
function* upwards(path: string): Generator<string> {
  for (let at = path.replace(/\/+$/, ""); at !== ""; at = at.slice(0, at.lastIndexOf("/"))) yield at;
  yield "";
}

/**
 * The smallest quota on the way from this process's group to the root, versions 1 and 2 (cgroups(7)).
 *
 * @param read how to read a file
 * @returns processors, with fractions; Infinity without a quota
 */
export function cpuQuota(read: ReadText): number {
  let least = Infinity;
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    // hierarchy:controllers:path, with "0::path" for version 2
    const [hierarchy, controllers, ...rest] = line.split(":");
    const path = rest.join(":");
    if (path === "") continue;
    if (hierarchy === "0" && controllers === "") {
      for (const at of upwards(path)) least = Math.min(least, quotaOfV2(read(`/sys/fs/cgroup${at}/cpu.max`)));
    } else if (controllers.split(",").includes("cpu")) {
      for (const mount of new Set([controllers, "cpu,cpuacct", "cpu"])) {
        for (const at of upwards(path)) {
          const folder = `/sys/fs/cgroup/${mount}${at}`;
          least = Math.min(
            least,
            quotaOfV1(read(`${folder}/cpu.cfs_quota_us`), read(`${folder}/cpu.cfs_period_us`)),
          );
        }
      }
    }
  }
  return least;
}
