/**
 * Counts the words and the SHA-256 digest of every file under a folder, first one file after the other in this process, then with N processes
 * fed by a queue, and compares every digest. Exits with 1 on any difference, with 2 when it was called wrongly.
 *
 *   npm run demo                          on both runtimes, with node_modules
 *   deno run -A scripts/demo.ts <folder> --processes 4
 *   bun scripts/demo.ts <folder> --processes 4
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { cpuCount, Lock, Process, Queue } from "../mod.ts";
import { FileCounter } from "./demo/count.ts";
import { type FileEntry, filesUnder } from "./demo/files.ts";
import { Progress } from "./demo/progress.ts";
import { type Stall, StallWatch } from "./demo/stall.ts";
import { TotalFile, type Totals } from "./demo/total.ts";
import { countFiles, type Job, type Outcome, outcomeOf, type Result } from "./demo/worker.ts";

const DIFFERENCES_SHOWN = 10;
/** Jobs that lie ready for each process: enough that none waits for the parent. */
const JOBS_AHEAD = 16;

interface Run {
  readonly outcomes: readonly Outcome[];
  readonly seconds: number;
}

interface ParallelRun extends Run {
  readonly total: Totals;
  readonly stalls: { readonly starting: Stall; readonly longest: Stall; readonly busiest: Stall };
}

/** The plain program: one process, no part of this module. */
async function sequentially(folder: string, files: readonly FileEntry[], bytes: number): Promise<Run> {
  const counter = new FileCounter();
  {
    // Both runs find the files in memory, so that the second has no advantage.
    using progress = new Progress(process.stdout, "reading once     ", bytes);
    for (const { name, size } of files) {
      await counter.read(join(folder, name)).catch(() => {}); // the runs report it
      progress.advance(size);
    }
  }
  using progress = new Progress(process.stdout, "sequential run   ", bytes);
  const outcomes: Outcome[] = [];
  const start = performance.now();
  for (const { name, size } of files) {
    outcomes.push(await outcomeOf(counter, join(folder, name)));
    progress.advance(size);
  }
  return { outcomes, seconds: (performance.now() - start) / 1000 };
}

/** The same with N processes. The time includes starting and ending them. */
async function inParallel(
  folder: string,
  files: readonly FileEntry[],
  bytes: number,
  processes: number,
): Promise<ParallelRun> {
  const own = await mkdtemp(join(tmpdir(), "demo-total-"));
  const totalPath = join(own, "total");
  TotalFile.create(totalPath);
  using progress = new Progress(process.stdout, processesText(processes).padEnd(17), bytes);
  using watch = new StallWatch();
  try {
    const start = performance.now();
    using jobs = new Queue<Job>({ maxSize: processes * JOBS_AHEAD });
    using results = new Queue<Result>();
    using lock = new Lock();
    // A process that dies takes a file with it, so nothing may wait for that one.
    const failed = new AbortController();
    const { signal } = failed;
    await using children = new AsyncDisposableStack();
    const exits: Promise<void>[] = [];
    for (let i = 0; i < processes; i++) {
      const child = children.use(
        new Process({
          target: countFiles,
          args: [{ folder, totalPath, jobs, results, lock }],
          name: `counter ${i + 1}`,
        }),
      );
      await child.start();
      exits.push(child.exited.then((code) => {
        if (code !== 0) {
          failed.abort(
            new Error(
              `Cannot finish: ${child.name} ended with exit code ${code}; its stack, if it threw, is above`,
            ),
          );
        }
      }));
    }
    await new Promise((resolve) => setTimeout(resolve, 2)); // the watch's turn
    const starting = watch.take().longest;
    const feeding = (async () => {
      for (const [index, { name }] of files.entries()) await jobs.put({ index, name }, { signal });
      jobs.shutdown();
    })();
    const collecting = (async () => {
      const outcomes = new Array<Outcome>(files.length);
      for (let i = 0; i < files.length; i++) {
        const { index, outcome } = await results.get({ signal });
        outcomes[index] = outcome;
        progress.advance(files[index].size);
      }
      return outcomes;
    })();
    const [outcomes] = await Promise.all([collecting, feeding]);
    await Promise.all(exits);
    signal.throwIfAborted();
    const seconds = (performance.now() - start) / 1000;
    using total = new TotalFile(totalPath);
    return { outcomes, seconds, total: total.read(), stalls: { starting, ...watch.take() } };
  } finally {
    await rm(own, { recursive: true });
  }
}

function totalsOf(outcomes: readonly Outcome[]): Totals {
  const total = { files: 0, bytes: 0, words: 0 };
  for (const outcome of outcomes) {
    if ("error" in outcome) continue;
    total.files++;
    total.bytes += outcome.bytes;
    total.words += outcome.words;
  }
  return total;
}

function describe(outcome: Outcome): string {
  return "error" in outcome
    ? `cannot be read (${outcome.error})`
    : `${outcome.bytes} bytes, ${outcome.words} words, SHA-256 ${outcome.digest}`;
}

function processesText(count: number): string {
  return count === 1 ? "1 process" : `${count} processes`;
}

function printTable(rows: readonly string[][]): void {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  for (const row of rows) {
    console.log(
      row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  "),
    );
  }
}

function row(name: string, { outcomes, seconds }: Run, reference: Run): string[] {
  const { files, bytes, words } = totalsOf(outcomes);
  return [
    name,
    files.toLocaleString("en"),
    bytes.toLocaleString("en"),
    words.toLocaleString("en"),
    seconds.toFixed(2),
    (bytes / 1e6 / seconds).toFixed(0),
    `${(reference.seconds / seconds).toFixed(2)}x`,
  ];
}

/** Runs the demo. The result is its exit code. */
async function main(args: string[]): Promise<number> {
  let folder: string;
  let processes: number;
  try {
    const { values, positionals } = parseArgs({
      args,
      options: { processes: { type: "string", short: "n" } },
      allowPositionals: true,
    });
    if (positionals.length > 1) throw new RangeError(`there is one folder, not ${positionals.length}`);
    folder = resolve(positionals[0] ?? fileURLToPath(new URL("../node_modules", import.meta.url)));
    processes = Number(values.processes ?? cpuCount());
    if (!Number.isInteger(processes) || processes < 1) {
      throw new RangeError(`--processes must be a whole number from 1, not "${values.processes}"`);
    }
  } catch (error) {
    console.error(`${(error as Error).message}\nusage: demo.ts [folder] [--processes n]`);
    return 2;
  }
  let files: FileEntry[];
  try {
    files = await filesUnder(folder);
  } catch (error) {
    console.error(`Cannot list the files under ${folder}: ${(error as Error).message}`);
    return 2;
  }
  if (files.length === 0) {
    console.error(`Cannot count anything: there is no file under ${folder}; name another folder`);
    return 2;
  }
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  console.log(`${files.length.toLocaleString("en")} files under ${folder}`);
  const one = await sequentially(folder, files, bytes);
  let many: ParallelRun;
  try {
    many = await inParallel(folder, files, bytes, processes);
  } catch (error) {
    console.error((error as Error).message);
    return 1;
  }

  const name = processesText(processes);
  printTable([
    ["", "files", "bytes", "words", "seconds", "MB/s", "speed-up"],
    row("sequential run", one, one),
    row(name, many, one),
  ]);
  const { starting, longest, busiest } = many.stalls;
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  console.log(
    `longest stall of the parent's event loop: ${ms(longest.late)}, of which it worked ${ms(longest.own)} ` +
      `(the rest it waited for a processor); by its own work: ${ms(busiest.own)}; ` +
      `while it started the processes: ${ms(starting.late)}`,
  );

  let differences = 0;
  for (const [index, file] of files.entries()) {
    const [expected, found] = [one.outcomes[index], many.outcomes[index]].map(describe);
    if (expected === found || ++differences > DIFFERENCES_SHOWN) continue;
    console.error(`different: ${file.name}\n  sequential run: ${expected}\n  ${name}: ${found}`);
  }
  if (differences > DIFFERENCES_SHOWN) console.error(`… ${differences - DIFFERENCES_SHOWN} more`);
  const expected = JSON.stringify(totalsOf(one.outcomes));
  const found = JSON.stringify(many.total);
  if (expected !== found) {
    differences++;
    console.error(`different: the total under the lock is ${found}, and should be ${expected}`);
  }
  if (differences > 0) {
    console.error(differences === 1 ? "1 difference" : `${differences} differences`);
    return 1;
  }
  console.log(
    `all ${
      files.length.toLocaleString("en")
    } digests and the total under the lock are as in the sequential run`,
  );
  return 0;
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2));
