/**
 * Everything that must hold, in one command: set-up, static checks, all suites on Deno and on Bun, and again with Darwin's fallbacks forced.
 * Last line: `N passed, N failed`.
 *
 *   npm test                 all
 *   npm test -- queues       only test files whose path has "queues" in it, no static checks
 *   npm test -- --static     only the static checks
 *   GEVENTMP_TEST_RUNTIME=deno npm test
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { closingLine, countsOf } from "./counts.mjs";
import { root, setup } from "./setup.mjs";

/** For one test file, or one check. The slowest take half a minute; GEVENTMP_STRESS makes some take longer. */
const LIMIT_MS = process.env.GEVENTMP_STRESS ? 60 * 60_000 : 3 * 60_000;
/** How long output may follow the end of the program that was run. */
const OUTPUT_GRACE_MS = 2_000;
const onlyStatic = process.argv[2] === "--static";
const filter = onlyStatic ? undefined : process.argv[2];
const programs = setup();
const runtimes = ["deno", "bun"].filter((name) =>
  !process.env.GEVENTMP_TEST_RUNTIME || process.env.GEVENTMP_TEST_RUNTIME === name
);
let passed = 0;
let failed = 0;
let suites = 0;
const failures = [];

/** Runs a program in a process group of its own, which is killed when it takes too long. */
function run(program, args, { env = {}, limit = LIMIT_MS } = {}) {
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
    // A process that outlives the suite may hold its output open: it is for the leak check to find, not to be waited for.
    child.on("exit", () => {
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, OUTPUT_GRACE_MS).unref();
    });
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
  for (const [line] of output.matchAll(/^SKIPPED: .*$/gm)) console.log(`note   ${line}`);
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

async function suite(runtime, file, forced) {
  const started = performance.now();
  const mark = `${process.pid}-${suites++}`;
  // Sessions with a path make their folder here; the name must leave room for a socket's.
  const folder = mkdtempSync("/tmp/gt-");
  const before = new Set(traces(mark, folder));
  const args = runtime === "deno"
    ? ["test", "-A", "--no-prompt", "--no-check", "--v8-flags=--expose-gc", file]
    : ["test", "--timeout", String(Math.max(120_000, LIMIT_MS)), `./${file}`];
  const { code, output } = await run(programs[runtime], args, {
    env: {
      GEVENTMP_TEST_MARK: mark,
      XDG_RUNTIME_DIR: folder,
      TMPDIR: folder,
      ...(forced ? { GEVENTMP_FORCE: "darwin-fallbacks" } : {}),
    },
  });
  const counts = countsOf(runtime, code, output);
  // What is about to end gets a moment to do so.
  let left = [];
  for (let i = 0; i < 20; i++) {
    left = traces(mark, folder).filter((trace) => !before.has(trace));
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  // It must not disturb what runs next. Only processes with this suite's own mark are in the list.
  for (const path of left) {
    const pid = /^\/proc\/(\d+)$/.exec(path)?.[1];
    if (pid === undefined) continue;
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch { /* gone */ }
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

async function staticChecks() {
  const configuration = JSON.parse(readFileSync(join(root, "deno.json"), "utf8"));
  const entries = Object.values(configuration.exports);
  const published = ["mod.ts", "ffi", "platform", "multiprocessing", "patch"].filter((path) =>
    existsSync(join(root, path))
  );
  if (!existsSync(join(root, "patch/mod.ts"))) console.log("note   there is no patch/mod.ts to check yet");
  await check("formatting", programs.deno, ["fmt", "--check"]);
  await check("lint", programs.deno, ["lint"]);
  // Tests and scripts may; but whoever loads the module must not have to wait for it.
  await check("no await at top level", programs.deno, [
    "lint",
    "--rules-include=no-top-level-await",
    ...published,
  ]);
  await check("types on Deno", programs.deno, ["check", ...published, "tests", "scripts", "examples"]);
  await check("types on Bun", programs.tsc, ["-p", "tsconfig.json"]);
  await check("documentation of public symbols", programs.deno, ["doc", "--lint", ...entries]);
  await check("publish, dry run", programs.deno, ["publish", "--dry-run", "--allow-dirty"]);
  await check("dist/ is what the sources give", process.execPath, [
    join(root, "scripts", "build.mjs"),
    "--check",
  ]);
  await check("import direction", process.execPath, [join(root, "scripts", "check_imports.mjs")]);
  await check("constants and layouts against the system's headers", programs.deno, [
    "run",
    "-A",
    "scripts/check_abi.ts",
    ...(process.env.CI ? ["--require-musl"] : []),
  ]);
}

async function allSuites() {
  const files = testFiles("tests").filter((file) => filter === undefined || file.includes(filter));
  // Nothing to run is a mistake in the command, not a success.
  if (files.length === 0 || runtimes.length === 0) {
    const why = files.length === 0
      ? `no test file's path has "${filter}" in it`
      : `GEVENTMP_TEST_RUNTIME is "${process.env.GEVENTMP_TEST_RUNTIME}", not deno or bun`;
    note("finding tests", false, { passed: 0, failed: 1 }, performance.now(), `Cannot run tests: ${why}`);
    return;
  }
  for (const runtime of runtimes) for (const file of files) await suite(runtime, file, false);
  const withFallbacks = files.filter((file) =>
    file.startsWith("tests/platform/") || file.startsWith("tests/patch/") ||
    (file.startsWith("tests/multiprocessing/") && !file.includes("codec"))
  );
  for (const runtime of runtimes) for (const file of withFallbacks) await suite(runtime, file, true);
}

if (filter === undefined) await staticChecks();
if (filter === undefined && !onlyStatic) {
  await check("models of the waiting, by spin", process.execPath, [join(root, "scripts", "models.mjs")], {
    limit: Math.max(LIMIT_MS, 10 * 60_000), // a minute of one processor, which may be busy otherwise
  });
}
if (!onlyStatic) await allSuites();

if (failures.length > 0) console.log(`\nfailed:\n${failures.map((name) => `  ${name}`).join("\n")}`);
console.log(`\n${closingLine(passed, failed)}`);
process.exit(failed === 0 ? 0 : 1);
