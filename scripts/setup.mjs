/**
 * Makes a machine with only node and npm ready: installs the pinned packages when they are missing or older than the lock file, and finds both
 * runtimes' programs.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, statSync, utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, "node_modules", ".bin");

function works(program) {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
}

/** Installs what is missing. Returns the paths of the programs. */
export function setup() {
  const installed = join(root, "node_modules", ".package-lock.json");
  const lock = join(root, "package-lock.json");
  if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
    console.log("set-up: installing the packages that package-lock.json names");
    execFileSync("npm", ["ci", "--no-audit", "--no-fund"], {
      cwd: root,
      stdio: ["ignore", "inherit", "inherit"],
    });
    if (existsSync(installed)) utimesSync(installed, new Date(), new Date());
  }
  const programs = {};
  for (const [name, installer] of [["deno", "install.cjs"], ["bun", "install.js"]]) {
    const program = join(bin, name);
    // npm may not have run the packages' own install scripts, which put the program in place.
    if (!works(program)) {
      execFileSync(process.execPath, [join(root, "node_modules", name, installer)], { stdio: "inherit" });
    }
    if (!works(program)) {
      throw new Error(`Cannot run ${program}: the npm package "${name}" has no program for this machine`);
    }
    programs[name] = program;
  }
  return { ...programs, tsc: join(bin, "tsc") };
}
