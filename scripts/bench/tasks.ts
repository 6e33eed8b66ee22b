/** What the benchmark's children run. */
import process from "node:process";
import { type Lock, type Queue, type Semaphore, task } from "../../mod.ts";
import { takeLongestSection } from "../../multiprocessing/core/clock.ts";

export const pong = task(
  import.meta,
  async function pong(ping: Semaphore, back: Semaphore, rounds: number) {
    for (let i = 0; i < rounds; i++) {
      await ping.acquire();
      back.release();
    }
  },
);

export const produce = task(import.meta, async function produce(queue: Queue<number>, count: number) {
  for (let i = 0; i < count; i++) await queue.put(i);
});

export const nothing = task(import.meta, function nothing() {});

/** What a contending child found. */
export interface Contention {
  /** The longest section of this module on its loop, in milliseconds of processor time. */
  longest: number;
  /** Milliseconds of processor time that one turn took. */
  perTurn: number;
}

const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));

/** Contends for a lock, a semaphore and a queue until told to stop. */
export const contend = task(
  import.meta,
  async function contend(
    lock: Lock,
    semaphore: Semaphore,
    queue: Queue<number>,
    until: number,
    found: Queue<Contention>,
  ) {
    takeLongestSection();
    const before = cpu();
    let turns = 0;
    for (; Date.now() < until; turns++) {
      for (let i = 0; i < 20; i++) {
        (await lock.acquire()).release();
        await semaphore.acquire();
        semaphore.release();
        await queue.put(i);
        await queue.get();
      }
      await turn();
    }
    await found.put({ longest: takeLongestSection(), perTurn: (cpu() - before) / Math.max(1, turns) });
  },
);

/** The same load without this module: as much processor time in each turn of the loop. */
export const burn = task(import.meta, async function burn(until: number, perTurn: number) {
  while (Date.now() < until) {
    const end = cpu() + perTurn;
    while (cpu() < end) await Promise.resolve();
    await turn();
  }
});
