/**
 * Proves the constants, struct sizes and offsets of `platform/`.
 *
 * Linux: a C program that prints each figure is compiled with the system's compiler, and again with musl-gcc (Debian's
 * musl-tools), run, and compared. Linux on arm64 and Darwin: compared with figures recorded in
 * `check_abi_recorded.json`, which names their sources. The lists come from the objects that the platform exports, so
 * a new constant is checked, or reported as unrecorded, without a change here.
 *
 * Usage: `deno run -A scripts/check_abi.ts [--require-musl]`, or the same with bun. Exits 1 on any difference; with
 * `--require-musl` also when musl-gcc is missing.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as darwin from "../platform/darwin/constants.ts";
import * as linux from "../platform/linux/constants.ts";
import recorded from "./check_abi_recorded.json" with { type: "json" };

type Figures = Map<string, number>;

/** Flattens an object of figures into "NAME" or "struct x.field". */
function figures(...tables: object[]): Figures {
  const all: Figures = new Map();
  for (const table of tables) {
    for (const [name, value] of Object.entries(table)) {
      if (typeof value === "number") all.set(name, value);
      else {for (const [field, figure] of Object.entries(value as object)) {
          all.set(`${name}.${field}`, figure as number);
        }}
    }
  }
  return all;
}

let checked = 0;
const failures: string[] = [];

function compare(
  where: string,
  stated: Figures,
  actual: ReadonlyMap<string, number>,
  mayLack: ReadonlySet<string>,
): void {
  const before = failures.length;
  for (const [name, value] of stated) {
    const figure = actual.get(name);
    if (figure === undefined) {
      if (!mayLack.has(name)) {
        failures.push(`${where}: ${name} is stated as ${value}, and nothing says what it is there`);
      }
      continue;
    }
    checked++;
    if (figure !== value) failures.push(`${where}: ${name} is stated as ${value}, but it is ${figure}`);
  }
  console.log(`${where}: ${stated.size} figures, ${failures.length - before} wrong`);
}

const HEADERS = [
  "dirent.h",
  "errno.h",
  "fcntl.h",
  "poll.h",
  "sched.h",
  "signal.h",
  "spawn.h",
  "stddef.h",
  "stdio.h",
  "time.h",
  "unistd.h",
  "sys/eventfd.h",
  "sys/mman.h",
  "sys/prctl.h",
  "sys/socket.h",
  "sys/stat.h",
  "sys/syscall.h",
  "sys/uio.h",
  "sys/un.h",
  "sys/wait.h",
  "linux/futex.h",
];

/** A C program that prints "name=value" for each figure that the headers know. */
function probe(stated: Figures): string {
  const lines: string[] = [];
  for (const name of stated.keys()) {
    const dot = name.indexOf(".");
    const [type, field] = dot < 0 ? [] : [name.slice(0, dot), name.slice(dot + 1)];
    if (type === undefined) {
      lines.push(`#ifdef ${name}`, `  printf("${name}=%lld\\n", (long long) (${name}));`, "#endif");
    } else {
      const expression = field === "size" ? `sizeof(${type})` : `offsetof(${type}, ${field})`;
      lines.push(`  printf("${name}=%lld\\n", (long long) ${expression});`);
    }
  }
  return [
    "#define _GNU_SOURCE 1",
    ...HEADERS.map((header) => `#include <${header}>`),
    // glibc's sys/stat.h brings statx, an older musl's does not.
    "#ifndef STATX_INO",
    "#include <linux/stat.h>",
    "#endif",
    "int main(void) {",
    ...lines,
    "  return 0;",
    "}",
    "",
  ].join("\n");
}

function compileAndRun(
  compiler: string,
  options: readonly string[],
  source: string,
  folder: string,
): Figures {
  const file = join(folder, `${compiler}.c`);
  const program = join(folder, compiler);
  writeFileSync(file, source);
  const compiled = spawnSync(compiler, [...options, "-o", program, file], { encoding: "utf8" });
  if (compiled.status !== 0) {
    throw new Error(
      `Cannot compile the probe with ${compiler}: ${compiled.stderr ?? compiled.error}; install its headers`,
    );
  }
  const run = spawnSync(program, [], { encoding: "utf8" });
  if (run.status !== 0) {
    throw new Error(`Cannot run the probe of ${compiler}: ${run.stderr ?? run.error}; run on Linux`);
  }
  return new Map(
    run.stdout.trim().split("\n").map((line) => {
      const equals = line.lastIndexOf("=");
      return [line.slice(0, equals), Number(line.slice(equals + 1))];
    }),
  );
}

function exists(compiler: string): boolean {
  return spawnSync(compiler, ["--version"]).error === undefined;
}

/**
 * A folder that shows the kernel's headers and nothing of glibc's: musl-gcc brings only musl's own.
 *
 * @returns compiler options
 */
function kernelHeaders(folder: string, machine: string): string[] {
  const root = join(folder, "kernel");
  mkdirSync(root);
  const multiarch = `/usr/include/${machine}-linux-gnu/asm`;
  symlinkSync("/usr/include/linux", join(root, "linux"));
  symlinkSync("/usr/include/asm-generic", join(root, "asm-generic"));
  symlinkSync(existsSync(multiarch) ? multiarch : "/usr/include/asm", join(root, "asm"));
  return ["-idirafter", root];
}

function checkLinux(requireMusl: boolean): void {
  const machine = process.arch === "arm64" ? "aarch64" : "x86_64";
  const stated = figures(
    linux.constants,
    linux.recentConstants,
    linux.constantsByArchitecture[machine],
    linux.signals,
    linux.errnos,
    linux.structs,
  );
  const mayLack = new Set(Object.keys(linux.recentConstants));
  const folder = mkdtempSync(join(tmpdir(), "check-abi-"));
  try {
    if (exists("cc")) {
      compare(`cc, ${machine}`, stated, compileAndRun("cc", [], probe(stated), folder), mayLack);
    } else {
      failures.push("cc: no C compiler is installed; install gcc or clang with libc's headers");
    }
    if (exists("musl-gcc")) {
      const options = ["-static", ...kernelHeaders(folder, machine)];
      compare(
        `musl-gcc, ${machine}`,
        stated,
        compileAndRun("musl-gcc", options, probe(stated), folder),
        mayLack,
      );
    } else {
      console.log("musl-gcc: not installed, so musl's figures are NOT checked; install Debian's musl-tools");
      if (requireMusl) failures.push("musl-gcc: not installed, and --require-musl wants it");
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface RecordedFigure {
  readonly value: number;
}

function recordedFigures(table: Readonly<Record<string, number | RecordedFigure>>): Figures {
  return new Map(
    Object.entries(table).map(([name, figure]) => [name, typeof figure === "number" ? figure : figure.value]),
  );
}

function recordedStructs(
  table: Readonly<Record<string, Readonly<Record<string, number | string>>>>,
): Figures {
  const all: Figures = new Map();
  for (const [name, fields] of Object.entries(table)) {
    for (const [field, figure] of Object.entries(fields)) {
      if (typeof figure === "number") all.set(`${name}.${field}`, figure);
    }
  }
  return all;
}

function checkRecorded(): void {
  const none = new Set<string>();
  const arm = recorded["linux-aarch64"];
  compare(
    `${arm.source}, aarch64`,
    figures(linux.constantsByArchitecture.aarch64),
    recordedFigures(arm.constants),
    none,
  );
  const apple = recorded.darwin;
  const sources = apple.sources.map((source) => source.tag).join(" and ");
  compare(`${sources}, constants`, figures(darwin.constants), recordedFigures(apple.constants), none);
  compare(`${sources}, signals`, figures(darwin.signals), recordedFigures(apple.signals), none);
  compare(`${sources}, errnos`, figures(darwin.errnos), recordedFigures(apple.errnos), none);
  compare(`${sources}, structs`, figures(darwin.structs), recordedStructs(apple.structs), none);
}

// The Linux headers of this machine can say nothing about a Mac, nor can they be found there.
if (process.platform === "linux") checkLinux(process.argv.includes("--require-musl"));
else console.log("Not on Linux: only recorded figures are checked");
checkRecorded();
for (const failure of failures) console.error(failure);
console.log(`${checked} figures checked, ${failures.length} wrong`);
if (failures.length > 0) process.exit(1);
