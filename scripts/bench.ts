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
// The sources, not dist/: the counter of sections must be the one that the module counts with.
import { Lock, Process, Queue, Semaphore } from "../multiprocessing/mod.ts";
import { takeLongestSection } from "../multiprocessing/core/clock.ts";
import { type Channels, ourChannels, peerChannels } from "./bench/channels.ts";
import {
  contend,
  contendAlone,
  type Contention,
  nothing,
  own,
  pong,
  produce,
  takePart,
  type Windows,
} from "./bench/tasks.ts";

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

const ROUNDS = 9;
const PAIRS_IN_ROUND = 10;

interface Stalls {
  /** In the measured windows, and before them. */
  section: number;
  starting: number;
  /** p99 of the lag over all nine loops, in milliseconds, with this module and without: of each round. */
  rounds: [number, number][];
  /** Per second and process: turns of the load, and processor time. */
  turns: [number, number];
  cpu: [number, number];
  main: [number, number];
}

/**
 * Eight processes and this one contend, and beside them as many run the same load without this module, each side asleep in the other's windows.
 * So both meet the same moods of the machine, and neither is measured while it starts or its code is being compiled. The lag of every loop counts,
 * not only this one's: a p99 of one window is then that of some thousands of timers.
 */
async function stalls(): Promise<Stalls> {
  using lock = new Lock();
  using semaphore = new Semaphore(4);
  using queue = new Queue<number>();
  using ready = new Semaphore(0);
  using begin = new Queue<Windows>();
  using found = new Queue<Contention>();
  using foundAlone = new Queue<Contention>();
  const children = [];
  for (let i = 0; i < 8; i++) {
    children.push(
      await new Process({ target: contend, args: [lock, semaphore, queue, ready, begin, found] }).start(),
      await new Process({ target: contendAlone, args: [ready, begin, foundAlone] }).start(),
    );
  }
  for (let i = 0; i < children.length; i++) await ready.acquire();
  const pairs = ROUNDS * PAIRS_IN_ROUND;
  const length = Math.round(Math.max(60, 150 * scale));
  const windows = {
    start: Date.now() + 200,
    length,
    count: 2 * (pairs + PAIRS_IN_ROUND),
    warm: 2 * PAIRS_IN_ROUND,
  };
  for (let i = 0; i < children.length; i++) await begin.put(windows);
  takeLongestSection();
  const [mine, alone] = await Promise.all([
    takePart({ lock, semaphore, queue }, windows, 0),
    takePart(own(), windows, 1),
  ]);
  const withUs = [mine];
  const without = [alone];
  for (let i = 0; i < 8; i++) {
    withUs.push(await found.get());
    without.push(await foundAlone.get());
  }
  for (const child of children) await child.join();
  const p99 = (side: Contention[], round: number): number =>
    quantile(
      side.flatMap(({ seen }) =>
        seen.slice(round * PAIRS_IN_ROUND, (round + 1) * PAIRS_IN_ROUND).flatMap(({ lags }) => lags)
      ),
      0.99,
    );
  const rate = (side: Contention[], what: "turns" | "cpu" | "main"): number =>
    median(
      mine.seen.map((_, i) =>
        side.reduce((sum, { seen }) => sum + seen[i][what], 0) / side.length / windows.length * 1e3
      ),
    );
  const both = (
    what: "turns" | "cpu" | "main",
  ): [number, number] => [rate(withUs, what), rate(without, what)];
  const section = Math.max(...[...withUs, alone].map(({ longest }) => longest));
  if (!(section > 0)) {
    throw new Error("the counter of sections saw none: it is not that of the module that ran");
  }
  return {
    // This process has one counter for both its parts.
    section,
    starting: Math.max(...[...withUs, alone].map(({ starting }) => starting)),
    rounds: Array.from({ length: ROUNDS }, (_, i) => [p99(withUs, i), p99(without, i)]),
    turns: both("turns"),
    cpu: both("cpu"),
    main: both("main"),
  };
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
const ratios = stall.rounds.map(([ours, alone]) => ours / alone);
console.log(
  `8 processes contend: longest section of this module on a loop ${stall.section.toFixed(2)} ms, ${
    stall.starting.toFixed(2)
  } ms while they start (aim 1 ms); loop lag p99 ${
    median(stall.rounds.map(([ours]) => ours)).toFixed(2)
  } ms, the same load without it ${median(stall.rounds.map(([, alone]) => alone)).toFixed(2)} ms: ${
    median(ratios).toFixed(2)
  }x (aim 1.2x), ${Math.min(...ratios).toFixed(2)} to ${
    Math.max(...ratios).toFixed(2)
  } over ${ratios.length} rounds`,
);
console.log(
  `  turns a second and process ${stall.turns[0].toFixed(0)} and ${
    stall.turns[1].toFixed(0)
  }, processor time ${(stall.cpu[0] / 10).toFixed(1)}% and ${
    (stall.cpu[1] / 10).toFixed(1)
  }%, of its main thread ${(stall.main[0] / 10).toFixed(1)}% and ${(stall.main[1] / 10).toFixed(1)}%`,
);
if (theirs.length === 0) console.log("python3 was not found, so there is nothing to compare with");
