/**
 * Side by side in one run, interleaved: this module, CPython's multiprocessing where python3 exists, and the bare runtime. Medians over rounds;
 * read the ratios, not the times.
 *
 *   deno task bench · bun run bench · GEVENTMP_BENCH_SCALE=0.2 for a quick look
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import process from "node:process";
import { Lock, Process, Queue, Semaphore } from "../mod.ts";
import { takeLongestSection } from "../multiprocessing/core/clock.ts";
import { type Channels, ourChannels, peerChannels } from "./bench/channels.ts";
import { contend, contendAlone, type Contention, nothing, pong, produce } from "./bench/tasks.ts";

const scale = Number(process.env["GEVENTMP_BENCH_SCALE"] ?? "1");
const rounds = scale < 1 ? 3 : 5;
const onBun = "Bun" in globalThis;
const runtime = onBun ? "bun" : "deno";

const median = (values: number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1];
const quantile = (values: number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))];

interface Figures {
  lockTry: number;
  lockAwait: number;
  pingpong: number;
  queue: number;
  process: number;
}

// Each loop is a function of its own, which the runtime compiles by itself, as it does with a user's.

/** Nanoseconds of one tryAcquire and release. */
function lockTry(lock: Lock, n: number): number {
  const start = performance.now();
  for (let i = 0; i < n; i++) lock.tryAcquire()!.release();
  return (performance.now() - start) / n * 1e6;
}

/** Nanoseconds of one awaited acquire and release. */
async function lockAwait(lock: Lock, n: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < n; i++) (await lock.acquire()).release();
  return (performance.now() - start) / n * 1e6;
}

/** Microseconds there and back. */
async function pingpong(ping: Semaphore, back: Semaphore, hops: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < hops; i++) {
    ping.release();
    await back.acquire();
  }
  return (performance.now() - start) / hops * 1e3;
}

/** Items a second. */
async function drain(queue: Queue<number>, count: number): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < count; i++) await queue.get();
  return count / (performance.now() - start) * 1e3;
}

/** Milliseconds of a process from start to exit. */
async function processOnce(): Promise<number> {
  const start = performance.now();
  await (await new Process({ target: nothing }).start()).join();
  return performance.now() - start;
}

async function ours(): Promise<Figures> {
  using lock = new Lock();
  const n = Math.round(500_000 * scale);
  lockTry(lock, 100_000);
  await lockAwait(lock, 100_000);
  const figures = { lockTry: lockTry(lock, n), lockAwait: await lockAwait(lock, n) };

  using ping = new Semaphore(0);
  using back = new Semaphore(0);
  const hops = Math.round(20_000 * scale);
  const partner = await new Process({ target: pong, args: [ping, back, hops] }).start();
  await pingpong(ping, back, 1); // the partner is up
  const hop = await pingpong(ping, back, hops - 1);
  await partner.join();

  using queue = new Queue<number>();
  const count = Math.round(300_000 * scale);
  const producer = await new Process({ target: produce, args: [queue, count] }).start();
  await queue.get(); // the producer is up
  const rate = await drain(queue, count - 1);
  await producer.join();

  const times: number[] = [];
  for (let i = 0; i < 5; i++) times.push(await processOnce());
  return { ...figures, pingpong: hop, queue: rate, process: median(times) };
}

function cpython():
  | { lock: number; pingpong: number; queue: number; process: number; channels: Channels }
  | null {
  const script = fileURLToPath(new URL("./bench/cpython.py", import.meta.url));
  const { status, stdout } = spawnSync("python3", [script, String(scale)], { encoding: "utf8" });
  return status === 0 ? JSON.parse(stdout) : null;
}

/** Start to exit of a program, in milliseconds. */
function startToExit(file: string): number {
  const start = performance.now();
  const args = onBun ? [file] : ["run", "-A", "--no-prompt", "--no-check", file];
  const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return performance.now() - start;
}

function startUp(): { bare: number; ours: number } {
  const folder = mkdtempSync(join(tmpdir(), "bench-start-"));
  try {
    const empty = join(folder, "empty.ts");
    const locking = join(folder, "locking.ts");
    writeFileSync(empty, "export {};\n");
    writeFileSync(
      locking,
      `import { Lock } from ${
        JSON.stringify(new URL("../mod.ts", import.meta.url).href)
      };\nnew Lock().tryAcquire();\n`,
    );
    const bare: number[] = [];
    const ours: number[] = [];
    for (let i = 0; i < (scale < 1 ? 8 : 21); i++) {
      bare.push(startToExit(empty));
      ours.push(startToExit(locking));
    }
    return { bare: median(bare.slice(1)), ours: median(ours.slice(1)) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Lag of this process's loop, as a timer of 1 ms sees it, while `load` runs. */
async function lag(load: Promise<unknown>): Promise<number[]> {
  const lags: number[] = [];
  let running = true;
  load.finally(() => running = false);
  while (running) {
    const start = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 1));
    lags.push(performance.now() - start - 1);
  }
  return lags;
}

async function stalls(): Promise<{ section: number; with: number; without: number }> {
  const withUs: number[] = [];
  const without: number[] = [];
  let section = 0;
  let perTurn = 0;
  const ms = Math.round(2000 * scale);
  for (let i = 0; i < 3; i++) {
    {
      using lock = new Lock();
      using semaphore = new Semaphore(4);
      using queue = new Queue<number>();
      using found = new Queue<Contention>();
      const until = Date.now() + ms;
      const children = await Promise.all(
        Array.from(
          { length: 8 },
          () => new Process({ target: contend, args: [lock, semaphore, queue, until, found] }).start(),
        ),
      );
      takeLongestSection();
      const own = (async () => {
        while (Date.now() < until) {
          (await lock.acquire()).release();
          await queue.put(1);
          await queue.get();
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      })();
      withUs.push(...await lag(own));
      section = Math.max(section, takeLongestSection());
      const reports = await Promise.all(children.map(() => found.get()));
      section = Math.max(section, ...reports.map((report) => report.longest));
      perTurn = median(reports.map((report) => report.perTurn));
      await Promise.all(children.map((child) => child.join()));
    }
    const until = Date.now() + ms;
    const children = await Promise.all(
      Array.from({ length: 8 }, () => new Process({ target: contendAlone, args: [until, perTurn] }).start()),
    );
    const own = (async () => {
      while (Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 1));
    })();
    without.push(...await lag(own));
    await Promise.all(children.map((child) => child.join()));
  }
  return { section, with: quantile(withUs, 0.99), without: quantile(without, 0.99) };
}

const mine: Figures[] = [];
const theirs: NonNullable<ReturnType<typeof cpython>>[] = [];
const channels: { ours: Channels; child: Channels; worker: Channels }[] = [];
for (let round = 0; round < rounds; round++) {
  mine.push(await ours());
  channels.push({
    ours: await ourChannels(scale),
    child: await peerChannels("child", scale),
    worker: await peerChannels("worker", scale),
  });
  const other = cpython();
  if (other !== null) theirs.push(other);
}
const of = (name: keyof Figures): number => median(mine.map((figures) => figures[name]));
const their = (name: Exclude<keyof (typeof theirs)[number], "channels">): number =>
  theirs.length === 0 ? NaN : median(theirs.map((figures) => figures[name]));

const start = startUp();
const stall = await stalls();

const rows: [string, string, string, string, string][] = [
  ["", runtime, "CPython", "ratio", "aim"],
];
const figure = (v: number, unit: string): string =>
  Number.isNaN(v) ? "-" : `${v.toFixed(v < 10 ? 2 : v < 1000 ? 1 : 0)} ${unit}`;
const row = (what: string, value: number, other: number, unit: string, aim: string): void => {
  const text = (v: number): string => figure(v, unit);
  rows.push([
    what,
    text(value),
    text(other),
    Number.isNaN(other) ? "-" : `${(value / other).toFixed(2)}x`,
    aim,
  ]);
};
row("lock: tryAcquire + release", of("lockTry"), their("lock"), "ns", "<= 0.5x");
row("lock: await acquire + release", of("lockAwait"), their("lock"), "ns", "<= 1.2x");
row("semaphores: there and back, two processes", of("pingpong"), their("pingpong"), "µs", "<= 1.2x");
row("queue: one producer, one consumer", of("queue") / 1e3, their("queue") / 1e3, "k items/s", ">= 2.5x");
row("process: start to exit", of("process"), their("process"), "ms", "");
function print(table: string[][]): void {
  const widths = table[0].map((_, i) => Math.max(...table.map((cells) => cells[i].length)));
  for (const cells of table) {
    console.log(
      cells.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  "),
    );
  }
}
print(rows);

console.log("\nchannels; a ratio is that of this module's rate to the other's");
print([
  ["", runtime, "CPython Queue", "ratio", "child's IPC", "ratio", "Worker's port", "ratio"],
  ...([
    ["a number, one producer", "one", 1e3, "k/s"],
    ["a number, four producers", "four", 1e3, "k/s"],
    ["1 MiB, one producer", "large", 1, "MiB/s"],
    ["there and back", "trip", 1, "µs"],
  ] as const).map(([what, name, per, unit]) => {
    const own = median(channels.map(({ ours }) => ours[name])) / per;
    const others = [
      theirs.length === 0 ? NaN : median(theirs.map((round) => round.channels[name])),
      median(channels.map(({ child }) => child[name])),
      median(channels.map(({ worker }) => worker[name])),
    ].map((value) => value / per);
    return [
      what,
      figure(own, unit),
      ...others.flatMap((
        value,
      ) => [
        figure(value, unit),
        Number.isNaN(value) ? "-" : `${(name === "trip" ? value / own : own / value).toFixed(1)}x`,
      ]),
    ];
  }),
]);
console.log(
  `\nstart-up: empty program ${start.bare.toFixed(1)} ms; with mod.ts and an uncontended lock ${
    start.ours.toFixed(1)
  } ms: ` +
    `${(start.ours - start.bare).toFixed(1)} ms more (aim ${onBun ? 3 : 5} ms)`,
);
console.log(
  `process: start to exit ${of("process").toFixed(1)} ms; the bare runtime ${start.bare.toFixed(1)} ms`,
);
console.log(
  `8 processes contend: longest section of this module on a loop ${
    stall.section.toFixed(2)
  } ms (aim 1 ms); ` +
    `loop lag p99 ${stall.with.toFixed(2)} ms, the same load without it ${stall.without.toFixed(2)} ms: ` +
    `${(stall.with / stall.without).toFixed(2)}x (aim 1.2x)`,
);
if (theirs.length === 0) console.log("python3 was not found, so there is nothing to compare with");
