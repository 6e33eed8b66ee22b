/** What the benchmark's children run. */
import process from "node:process";
import { type Lock, type Queue, type Semaphore, task } from "../../multiprocessing/mod.ts";
import { takeLongestSection } from "../../multiprocessing/core/clock.ts";
import { threadCpuTime } from "../../platform/mod.ts";

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

/** What {@linkcode contend} uses: this module's objects, or ones of its own process. */
export interface Contended {
  readonly lock: { acquire(): Promise<{ release(): void }> };
  readonly semaphore: { acquire(): Promise<unknown>; release(): void };
  readonly queue: { put(value: number): Promise<void>; get(): Promise<number> };
}

/** When a process takes part: in every second window of a row. Times are those of `Date.now()`. */
export interface Windows {
  /** When the first one begins. */
  readonly start: number;
  /** Milliseconds of each. */
  readonly length: number;
  /** How many there are; those below `warm` are not measured. */
  readonly count: number;
  readonly warm: number;
}

/** What one process saw in one window. */
export interface Seen {
  /** How late a timer of 1 ms was, each time, in milliseconds. */
  lags: number[];
  /** Turns of the load. */
  turns: number;
  /** Milliseconds of processor time of the process, and of its main thread. */
  cpu: number;
  main: number;
}

/** What a contending process found. */
export interface Contention {
  seen: Seen[];
  /** The longest section of this module on its loop, in milliseconds of processor time: in the measured windows, and before them. */
  longest: number;
  starting: number;
}

const cpu = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A few microseconds of a program's own work. */
function work(seed: number): number {
  let x = seed | 1;
  for (let i = 0; i < 4000; i++) x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
  return x;
}

/** One turn: work under a lock and under a semaphore, and what comes of it through a queue. */
async function once({ lock, semaphore, queue }: Contended): Promise<void> {
  for (let i = 0; i < 10; i++) {
    const guard = await lock.acquire();
    let x = work(i);
    guard.release();
    await semaphore.acquire();
    x = work(x);
    semaphore.release();
    await queue.put(x);
    await queue.get();
  }
}

/** Every second window from `first` on: turns of the load, and beside them a timer that looks how late the loop is. */
export async function takePart(things: Contended, windows: Windows, first: number): Promise<Contention> {
  const seen: Seen[] = [];
  let starting = 0;
  for (let w = first; w < windows.count; w += 2) {
    const start = windows.start + w * windows.length;
    const end = start + windows.length;
    await sleep(Math.max(0, start - Date.now()));
    // Each begins at another moment, as programs do.
    await sleep(Math.random() * 2);
    const before = { cpu: cpu(), main: threadCpuTime() };
    const found: Seen = { lags: [], turns: 0, cpu: 0, main: 0 };
    const probe = (async () => {
      while (Date.now() < end) {
        const at = performance.now();
        await sleep(1);
        found.lags.push(performance.now() - at - 1);
      }
    })();
    for (; Date.now() < end; found.turns++) {
      await once(things);
      await sleep(1);
    }
    await probe;
    found.cpu = cpu() - before.cpu;
    found.main = threadCpuTime() - before.main;
    if (w >= windows.warm) seen.push(found);
    else starting = Math.max(starting, takeLongestSection());
  }
  return { seen, starting, longest: takeLongestSection() };
}

/** Contends for a lock, a semaphore and a queue with all others. */
export const contend = task(
  import.meta,
  async function contend(
    lock: Lock,
    semaphore: Semaphore,
    queue: Queue<number>,
    ready: Semaphore,
    begin: Queue<Windows>,
    found: Queue<Contention>,
  ) {
    takeLongestSection();
    ready.release();
    await found.put(await takePart({ lock, semaphore, queue }, await begin.get(), 0));
  },
);

/** A lock or a semaphore within one process. */
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

/** What a program would use that has no other processes to share with. */
export function own(): Contended {
  const items: number[] = [];
  return {
    lock: new OwnPermits(1),
    semaphore: new OwnPermits(4),
    queue: {
      put: (value) => Promise.resolve(void items.push(value)),
      get: () => Promise.resolve(items.shift()!),
    },
  };
}

/**
 * The same load without this module: the same turns of the same work, as many processes, the same timers, with objects of each process's own. No
 * processor time is burned in place of what this module takes; that is what the comparison is to find.
 */
export const contendAlone = task(
  import.meta,
  async function contendAlone(ready: Semaphore, begin: Queue<Windows>, found: Queue<Contention>) {
    ready.release();
    await found.put(await takePart(own(), await begin.get(), 1));
  },
);
