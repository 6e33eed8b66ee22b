/** How long the event loop kept a timer waiting. */

const PERIOD_MS = 1;

/** Watches this thread's event loop until it is disposed. */
export class StallWatch implements Disposable {
  /** The longest stall so far, in milliseconds: how much later than asked for a timer of 1 ms came. */
  longest = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor() {
    const arm = (): void => {
      const start = performance.now();
      this.#timer = setTimeout(() => {
        this.longest = Math.max(this.longest, performance.now() - start - PERIOD_MS);
        arm();
      }, PERIOD_MS);
    };
    arm();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
