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

/** Puts numbers, or arrays of so many bytes, once told. */
export const produceWhenTold = task(
  import.meta,
  async function produceWhenTold(queue: Queue<unknown>, go: Queue<string>, count: number, bytes: number) {
    await queue.put("ready");
    await go.get();
    const large = new Uint8Array(bytes);
    for (let i = 0; i < count; i++) await queue.put(bytes === 0 ? i : large);
  },
);

export const echo = task(
  import.meta,
  async function echo(there: Queue<number>, back: Queue<number>, count: number) {
    for (let i = 0; i < count; i++) await back.put(await there.get());
  },
);

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

/** What {@linkcode contend} uses, within one process and without this module. */
class OwnPermits {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(free: number) {
    this.#free = free;
  }

  acquire(): Promise<{ release(): void }> {
    const permit = { release: () => this.release() };
    if (this.#free > 0) {
      this.#free--;
      return Promise.resolve(permit);
    }
    return new Promise((resolve) => this.#waiting.push(() => resolve(permit)));
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/**
 * The same load without this module: the same program with objects of its own process, then as much processor time as {@linkcode contend} took for
 * a turn. Both make garbage and are compiled alike, which the loops of other processes feel when processors are few.
 */
export const contendAlone = task(
  import.meta,
  async function contendAlone(until: number, perTurn: number) {
    const lock = new OwnPermits(1);
    const semaphore = new OwnPermits(4);
    const queue: Uint8Array[] = [];
    while (Date.now() < until) {
      const end = cpu() + perTurn;
      do {
        for (let i = 0; i < 20; i++) {
          (await lock.acquire()).release();
          await semaphore.acquire();
          semaphore.release();
          await Promise.resolve(queue.push(Uint8Array.of(i)));
          await Promise.resolve(queue.shift());
        }
      } while (cpu() < end);
      await turn();
    }
  },
);
