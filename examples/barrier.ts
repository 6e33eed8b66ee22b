/**
 * Three processes start together, at an event, and work in rounds: nobody begins a round before all are through with the one before. Then one of
 * them is killed while it waits for the others, who are told.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/barrier.ts`, `bun examples/barrier.ts`
 */
import process from "node:process";
import { Barrier, type BrokenBarrierError, Event, Process, Semaphore, task } from "../mod.ts";

export const work = task(
  import.meta,
  async function work(start: Event, barrier: Barrier, done: Semaphore, rounds: number) {
    await start.wait();
    for (let round = 1; round <= rounds; round++) {
      done.release(); // the work of this round
      await barrier.wait();
      if (done.getValue() < 3 * round) throw new Error("somebody is behind");
    }
  },
);

async function main(): Promise<void> {
  using start = new Event();
  using barrier = new Barrier(3);
  using done = new Semaphore(0);
  const children = await Promise.all(
    [1, 2, 3].map(() => new Process({ target: work, args: [start, barrier, done, 100] }).start()),
  );
  start.set();
  console.log("exit codes:", (await Promise.all(children.map((child) => child.join()))).join(" "));
  console.log("work done:", done.getValue());

  const alone = await new Process({ target: work, args: [start, barrier, done, 1] }).start();
  while (barrier.nWaiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const waiting = barrier.wait();
  alone.kill();
  await waiting.catch((error: BrokenBarrierError) => console.log("a party was killed:", error.name));
  await alone.join();
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
