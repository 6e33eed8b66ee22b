/**
 * Everything that must hold, in one command: set-up, static checks, all suites on Deno and on Bun, and again with Darwin's fallbacks forced.
 * Last line: `N passed, N failed`.
 *
 *   npm test                 all
 *   npm test -- queues       only test files whose path has "queues" in it, no static checks
 *   GEVENTMP_TEST_RUNTIME=deno npm test
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root, setup } from "./setup.mjs";

const FILE_LIMIT_MS = 10 * 60_000;
const filter = process.argv[2];
const programs = setup();
const runtimes = ["deno", "bun"].filter((name) =>
  !process.env.GEVENTMP_TEST_RUNTIME || process.env.GEVENTMP_TEST_RUNTIME === name
);
let passed = 0;
let failed = 0;
let suites = 0;
const failures = [];

/** Runs a program in a process group of its own, which is killed when it takes too long. */
function run(program, args, { env = {}, limit = FILE_LIMIT_MS } = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd: root,
      env: { ...process.env, NO_COLOR: "1", ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    let output = "";
    child.stdout.on("data", (data) => output += data);
    child.stderr.on("data", (data) => output += data);
    const timer = setTimeout(() => {
      output += `\nstopped after ${limit / 1000} s\n`;
      try {
        process.kill(-child.pid, "SIGKILL");
      } catch { /* gone */ }
    }, limit);
    child.on("error", (error) => output += error);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, output });
    });
  });
}

function note(name, ok, counts, started, output) {
  passed += counts.passed;
  failed += counts.failed;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `${ok ? "ok    " : "FAILED"} ${name} (${seconds} s${
      counts.passed + counts.failed > 1 ? `, ${counts.passed} passed, ${counts.failed} failed` : ""
    })`,
  );
  if (!ok) {
    failures.push(name);
    console.log(output.split("\n").slice(-120).map((line) => `       ${line}`).join("\n"));
  }
}

async function check(name, program, args, options) {
  const started = performance.now();
  const { code, output } = await run(program, args, options);
  note(name, code === 0, code === 0 ? { passed: 1, failed: 0 } : { passed: 0, failed: 1 }, started, output);
}

/** What a suite left behind: shared memory with a name, files in the folder that it was given, and processes with its mark. */
function traces(mark, folder) {
  const list = (path) => {
    try {
      return readdirSync(path).map((name) => join(path, name));
    } catch {
      return [];
    }
  };
  const processes = list("/proc").filter((path) => {
    try {
      return /^\/proc\/\d+$/.test(path) &&
        readFileSync(join(path, "environ"), "latin1").includes(`GEVENTMP_TEST_MARK=${mark}\0`);
    } catch {
      return false;
    }
  });
  return [...list("/dev/shm"), ...list(folder), ...processes];
}

/** Counts of the runners' closing lines. A suite that crashed, or ran nothing, has failed. */
export function countsOf(runtime, code, output) {
  const deno = [...output.matchAll(/\| (\d+) passed (?:\([^)]*\) )?\| (\d+) failed/g)].at(-1);
  const bunPassed = [...output.matchAll(/^\s*(\d+) pass$/gm)].at(-1);
  const bunFailed = [...output.matchAll(/^\s*(\d+) fail$/gm)].at(-1);
  const counts = runtime === "deno"
    ? { passed: Number(deno?.[1] ?? 0), failed: Number(deno?.[2] ?? 0) }
    : { passed: Number(bunPassed?.[1] ?? 0), failed: Number(bunFailed?.[1] ?? 0) };
  if (counts.passed + counts.failed === 0 || (code !== 0 && counts.failed === 0)) counts.failed++;
  return counts;
}

async function suite(runtime, file, forced) {
  const started = performance.now();
  const mark = `${process.pid}-${suites++}`;
  // Sessions with a path make their folder here; the name must leave room for a socket's.
  const folder = mkdtempSync("/tmp/gt-");
  const before = new Set(traces(mark, folder));
  const args = runtime === "deno"
    ? ["test", "-A", "--no-prompt", "--no-check", "--v8-flags=--expose-gc", file]
    : ["test", "--timeout", "120000", `./${file}`];
  const { code, output } = await run(programs[runtime], args, {
    env: forced ? { GEVENTMP_FORCE: "darwin-fallbacks" } : {},
  });
  const counts = countsOf(runtime, code, output);
  // What is about to end gets a moment to do so.
  let left = [];
  for (let i = 0; i < 20; i++) {
    left = traces(mark, folder).filter((trace) => !before.has(trace));
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  rmSync(folder, { recursive: true, force: true });
  if (left.length > 0) counts.failed++;
  note(
    `${file} on ${runtime}${forced ? ", Darwin's fallbacks" : ""}`,
    counts.failed === 0,
    counts,
    started,
    left.length > 0 ? `${output}\nleft behind: ${left.join(", ")}` : output,
  );
}

function testFiles(folder) {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return testFiles(path);
    return entry.name.endsWith("_test.ts") ? [path] : [];
  }).sort();
}

if (filter === undefined) {
  const sources = ["mod.ts", "ffi", "platform", "multiprocessing", "tests", "scripts", "examples"].filter(
    (path) => {
      try {
        return readdirSync(root).includes(path);
      } catch {
        return false;
      }
    },
  );
  await check("formatting", programs.deno, ["fmt", "--check"]);
  await check("lint", programs.deno, ["lint"]);
  await check("types on Deno", programs.deno, ["check", ...sources]);
  await check("types on Bun", programs.tsc, ["-p", "tsconfig.json"]);
  await check("documentation of public symbols", programs.deno, ["doc", "--lint", "mod.ts"]);
  await check("publish, dry run", programs.deno, ["publish", "--dry-run", "--allow-dirty"]);
  await check("import direction", process.execPath, [join(root, "scripts", "check_imports.mjs")]);
  await check("constants and layouts against the system's headers", programs.deno, [
    "run",
    "-A",
    "scripts/check_abi.ts",
    ...(process.env.CI ? ["--require-musl"] : []),
  ]);
}
const files = testFiles("tests").filter((file) => filter === undefined || file.includes(filter));
for (const runtime of runtimes) for (const file of files) await suite(runtime, file, false);
const withFallbacks = files.filter((file) =>
  file.startsWith("tests/platform/") || (file.startsWith("tests/multiprocessing/") && !file.includes("codec"))
);
for (const runtime of runtimes) for (const file of withFallbacks) await suite(runtime, file, true);

if (failures.length > 0) console.log(`\nfailed:\n${failures.map((name) => `  ${name}`).join("\n")}`);
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
