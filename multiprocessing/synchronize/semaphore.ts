/**
 * Semaphores.
 *
 * @module
 */
import type { Block } from "../core/arena.ts";
import { type Existing, Handle, isExisting, reviver } from "../core/handle.ts";
import { K_BOUNDED, K_SEMAPHORE, O_BOUND, O_ROBUST, O_WORD, S_MAX, S_VALUE_SHIFT } from "../core/layout.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import type { SyncWaitOptions, WaitOptions } from "../core/waits.ts";
import { BLOCK_BYTES, NO_OPTIONS, noFill, refuse, timeoutOf } from "./common.ts";
import { installSemaphore, type PlainCore, type RobustCore, semaphoreCore } from "./semaphore_core.ts";

/** How a semaphore counts. */
export interface SemaphoreOptions {
  /**
   * Whether permits belong to the agents that acquired them: then a dead agent's are free again, and an agent can release only what it acquired.
   * Its initial value is then how many permits there are, and stays that. @default false
   */
  robust?: boolean;
}

/**
 * A counter that cannot go below zero, shared by the session: CPython's `multiprocessing.Semaphore`. Anyone may release it, so a permit that a
 * killed process held is lost, as in POSIX; `{ robust: true }` gives it back.
 *
 * @example
 * ```ts
 * import { Semaphore } from "@karellen/geventmp";
 * using semaphore = new Semaphore(2, { robust: true });
 * await semaphore.run(() => fetch("https://example.com")); // at most two at once, in all processes together
 * ```
 */
export class Semaphore extends Handle {
  readonly #core: PlainCore | RobustCore;

  /**
   * Makes a semaphore.
   *
   * @param value how many permits there are at first, 0 to 536,870,911
   * @throws {RangeError} a value out of bounds
   */
  constructor(value?: number, options?: SemaphoreOptions);
  /** @ignore */
  constructor(value?: Existing | number, options?: SemaphoreOptions, kind?: number);
  constructor(value: Existing | number = 1, options: SemaphoreOptions = {}, kind: number = K_SEMAPHORE) {
    super(
      kind,
      isExisting(value) ? value : null,
      BLOCK_BYTES,
      isExisting(value) ? noFill : permits(value, options, kind === K_BOUNDED),
    );
    this.#core = (this.held.shared ??= semaphoreCore(this.session, this.block, this.held.node)) as
      | PlainCore
      | RobustCore;
  }

  /**
   * Takes a permit, waiting for one if need be.
   *
   * @throws {TimeoutError} the time was over
   */
  acquire(w: WaitOptions = NO_OPTIONS): Promise<void> {
    if (this.disposed) return refuse(() => this.checkLive("acquire"));
    const timeout = timeoutOf(w);
    if (typeof timeout !== "number") return timeout;
    if (this.#core.attempt(false) === undefined) return isDue() ? afterTurn(undefined) : Promise.resolve();
    return this.#core.waiters.wait(w, timeout);
  }

  /** Takes a permit if there is one. */
  tryAcquire(): boolean {
    if (this.disposed) this.checkLive("acquire");
    return this.#core.attempt(false) === undefined;
  }

  /**
   * Takes a permit, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): void {
    this.checkLive("acquire");
    const timeout = this.session.waits.checkBlocking("acquire the semaphore synchronously", w);
    if (!this.tryAcquire()) this.session.waits.waitSync(this.#core.waiters, timeout);
  }

  /**
   * Gives back `n` permits, or adds them.
   *
   * @throws {RangeError} `n` is no whole number above 0, the value would be too large, or the semaphore is robust and this agent has fewer
   */
  release(n = 1): void {
    if (this.disposed) this.checkLive("release");
    if (!(n >= 1) || !Number.isInteger(n)) {
      throw new RangeError(`Cannot release ${n} permits: it must be a whole number of at least 1`);
    }
    this.#core.release(n);
  }

  /** Runs `fn` with a permit, and gives it back whatever happens, also if the handle is disposed meanwhile. */
  async run<R>(fn: () => R | PromiseLike<R>, w?: WaitOptions): Promise<R> {
    this.checkLive("acquire");
    this.keep();
    try {
      await this.acquire(w);
      try {
        return await fn();
      } finally {
        if (!this.session.closed) this.#core.release(1);
      }
    } finally {
      this.letGo();
    }
  }

  /** How many permits there are now. */
  getValue(): number {
    if (this.disposed) this.checkLive("look at");
    return this.#core.value;
  }

  /** For people: its value, and a bounded one's bound. `Semaphore(value=2)`, `BoundedSemaphore(value=1, max=2)`. */
  override toString(): string {
    if (this.disposed) return super.toString();
    const bound = this.session.arena.i32[this.block + O_BOUND];
    return `${this.constructor.name}(value=${this.#core.value}${bound === 0 ? "" : `, max=${bound}`})`;
  }
}

/** Checks a semaphore's first value, and gives what writes it into its block. */
function permits(
  value: number,
  { robust = false }: SemaphoreOptions,
  bounded: boolean,
): (m: Int32Array, block: Block) => void {
  if (!Number.isInteger(value) || value < 0 || value > S_MAX) {
    throw new RangeError(
      `Cannot make a semaphore of value ${value}: it must be a whole number from 0 to ${S_MAX}`,
    );
  }
  if (bounded && value === 0) {
    throw new RangeError("Cannot make a bounded semaphore of value 0: nothing could ever be acquired");
  }
  return (m, block) => {
    m[block + O_WORD] = value << S_VALUE_SHIFT;
    m[block + O_ROBUST] = robust ? 1 : 0;
    m[block + O_BOUND] = bounded ? value : 0;
  };
}

reviver(K_SEMAPHORE, (existing) => new Semaphore(existing));
installSemaphore(K_SEMAPHORE);
