/** How long the event loop kept a timer waiting, and how much of that the process worked itself. */
import process from "node:process";

const PERIOD_MS = 1;

/** A stall of the event loop, in milliseconds. */
export interface Stall {
  /** How much later than asked for a timer of 1 ms came. */
  readonly late: number;
  /** How much of that this process was at work; for the rest it waited for a processor that others had. */
  readonly own: number;
}

/** The processor time that this process has used, all its threads together. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Watches this thread's event loop until it is disposed. */
export class StallWatch implements Disposable {
  #longest: Stall = { late: 0, own: 0 };
  #busiest: Stall = { late: 0, own: 0 };
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    const arm = (): void => {
      const start = performance.now();
      const before = processorTime();
      this.#timer = setTimeout(() => {
        const late = Math.max(0, performance.now() - start - PERIOD_MS);
        const stall = { late, own: Math.min(late, processorTime() - before) };
        if (stall.late > this.#longest.late) this.#longest = stall;
        if (stall.own > this.#busiest.own) this.#busiest = stall;
        arm();
      }, PERIOD_MS);
    };
    arm();
  }

  /** The longest stall since the last call, and the one with the most work of this process in it. */
  take(): { readonly longest: Stall; readonly busiest: Stall } {
    const found = { longest: this.#longest, busiest: this.#busiest };
    this.#longest = this.#busiest = { late: 0, own: 0 };
    return found;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
