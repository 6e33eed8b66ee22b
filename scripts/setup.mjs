// deno-lint-ignore-file explicit-module-boundary-types -- plain JavaScript: node runs it before anything is installed
/**
 * Makes a machine with only node and npm ready: installs the pinned packages when they are missing or older than the lock
 * file, and finds both runtimes' programs.
 */
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readSync, statSync, utimesSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(root, "node_modules", ".bin");
/** Each runtime's package puts its program in place with this script, which npm may have been told not to run. */
const INSTALLERS = { deno: "install.cjs", bun: "install.js" };

/** Not a script that stands in for the program: that would be a process more, and turn the signal that ended it into 1. */
function isNative(program) {
  const start = new Uint8Array(2);
  const fd = openSync(program, "r");
  readSync(fd, start);
  closeSync(fd);
  return String.fromCharCode(...start) !== "#!";
}

function works(program) {
  return existsSync(program) && isNative(program) &&
    spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
}

function installPackages() {
  const installed = join(root, "node_modules", ".package-lock.json");
  const lock = join(root, "package-lock.json");
  const complete = ["deno", "bun", "tsc"].every((name) => existsSync(join(bin, name)));
  if (complete && existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return;
  console.log("set-up: installing the packages that package-lock.json names");
  // The runtimes are development and optional packages: NODE_ENV=production, or a setting, would leave them out.
  const { status, error } = spawnSync(
    "npm",
    ["ci", "--include=dev", "--include=optional", "--no-audit", "--no-fund"],
    { cwd: root, stdio: ["ignore", "inherit", "inherit"] },
  );
  if (status !== 0) {
    throw new Error(
      `Cannot install the packages: npm ci ${
        error ? `did not start (${error.message})` : `ended with ${status}`
      }; see its message above`,
    );
  }
  if (existsSync(installed)) utimesSync(installed, new Date(), new Date());
}

function findRuntime(name) {
  const program = join(bin, name);
  if (works(program)) return program;
  spawnSync(process.execPath, [join(root, "node_modules", name, INSTALLERS[name])], { stdio: "inherit" });
  if (works(program)) return program;
  throw new Error(
    `Cannot run ${name}: its npm package has no program for ${process.platform} ${process.arch}, or could not put it in ` +
      "place; remove node_modules and try again",
  );
}

/**
 * Installs what is missing.
 *
 * @returns {{deno: string, bun: string, tsc: string}} the paths of the programs
 */
export function setup() {
  try {
    installPackages();
    return { deno: findRuntime("deno"), bun: findRuntime("bun"), tsc: join(bin, "tsc") };
  } catch (error) {
    // Nothing can follow, and the place in this file helps nobody.
    console.error(`set-up: ${error.message}`);
    process.exit(1);
  }
}
