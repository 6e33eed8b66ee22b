/**
 * A fixed number of processes share out the work: tasks in one queue, answers in another, as a pool does it. A timer shows that this process's
 * event loop turns all the while.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/workers.ts`, `bun examples/workers.ts`
 */
import process from "node:process";
import { cpuCount, Process, Queue, task } from "../mod.ts";

interface Answer {
  readonly limit: number;
  readonly primes: number;
}

function countPrimes(limit: number): number {
  const composite = new Uint8Array(limit + 1);
  let count = 0;
  for (let n = 2; n <= limit; n++) {
    if (composite[n] === 1) continue;
    count++;
    for (let multiple = n * n; multiple <= limit; multiple += n) composite[multiple] = 1;
  }
  return count;
}

export const work = task(import.meta, async function work(limits: Queue<number>, answers: Queue<Answer>) {
  for await (const limit of limits) await answers.put({ limit, primes: countPrimes(limit) });
});

async function main(): Promise<void> {
  using limits = new Queue<number>();
  using answers = new Queue<Answer>();
  let turns = 0;
  const timer = setInterval(() => turns++, 1);

  const workers = await Promise.all(
    Array.from({ length: cpuCount() }, () => new Process({ target: work, args: [limits, answers] }).start()),
  );
  const tasks = [10, 100, 1000, 10_000, 100_000, 1_000_000];
  for (const limit of tasks) await limits.put(limit);
  limits.shutdown();

  const found = new Map<number, number>();
  for (const _ of tasks) {
    const { limit, primes } = await answers.get();
    found.set(limit, primes);
  }
  for (const limit of tasks) console.log(`primes up to ${limit}:`, found.get(limit));
  console.log(
    "exit codes are 0:",
    (await Promise.all(workers.map((w) => w.join()))).every((code) => code === 0),
  );
  clearInterval(timer);
  console.log("the event loop turned:", turns > 5);
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
