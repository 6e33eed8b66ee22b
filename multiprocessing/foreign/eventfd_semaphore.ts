/**
 * Semaphores that programs in any language share by a descriptor, without a name: Linux's eventfd.
 *
 * @module
 */
import {
  closeFd,
  fallbacksForced,
  isSystemError,
  osName,
  UnsupportedPlatformError,
  waitReadable,
} from "../../platform/mod.ts";
import {
  addToEventFd,
  createEventFd,
  describeEventFd,
  tryTakeFromEventFd,
} from "../../platform/linux/eventfd.ts";
import { kHandle } from "../codec/mod.ts";
import type { SyncWaitOptions, WaitOptions } from "../core/waits.ts";
import { checkPermits, Waiters } from "./waiters.ts";

/** How an {@linkcode EventFdSemaphore} is made, or which descriptor it wraps. */
export type EventFdSemaphoreOptions = {
  /** How many permits there are at first, 0 to 4,294,967,295. @default 0 */
  value?: number;
  fd?: undefined;
} | {
  /** An eventfd of this process with EFD_SEMAPHORE, blocking or not. It is this object's from then on, which closes it. */
  fd: number;
  value?: undefined;
};

const MOST_AT_FIRST = 2 ** 32 - 1;

/**
 * A counter behind a descriptor (eventfd with EFD_SEMAPHORE): any child that inherits the descriptor shares it, whatever its language. Reading 8
 * bytes takes a permit, writing a 64-bit number adds as many. It belongs to no session, and is gone with its last descriptor.
 *
 * - Close it: a dropped one stays open, as children may be using its number.
 * - The descriptor that it makes is non-blocking and closed on exec; Python waits for it with `select.poll`, C with poll.
 * - Waits are as those of {@linkcode NamedSemaphore}: in order within an agent, without a thread, some 10 ms late at most, and leave nothing
 *   behind; and have the same limit against peers that block.
 * - Cannot be sent: start the child so that it inherits `fd`, and adopt it there.
 *
 * Linux 5.8 and later.
 *
 * @example
 * ```ts
 * import { EventFdSemaphore } from "@karellen/geventmp";
 * using done = new EventFdSemaphore();
 * done.release(2);
 * await done.acquire({ timeout: 1000 });
 * ```
 */
export class EventFdSemaphore implements Disposable {
  readonly #fd: number;
  readonly #waiters: Waiters;
  #closed = false;

  /**
   * Makes a semaphore, or adopts one.
   *
   * @param options its first value; or a descriptor to adopt
   * @throws {UnsupportedPlatformError} on macOS
   * @throws {RangeError} a value out of bounds
   * @throws {TypeError} the descriptor is no eventfd, or one without EFD_SEMAPHORE
   * @throws {SystemError} EBADF: the descriptor is not open; EMFILE
   */
  constructor(options: EventFdSemaphoreOptions = {}) {
    if (osName !== "linux" || fallbacksForced()) {
      throw new UnsupportedPlatformError(
        osName === "darwin" ? "macOS" : "this system",
        "EventFdSemaphore",
        "only Linux has eventfd; use a NamedSemaphore with foreign programs, or a Semaphore within a session",
      );
    }
    const { fd, value } = options;
    if (fd === undefined) this.#fd = create(value ?? 0);
    else {
      if (value !== undefined) {
        throw new TypeError(
          "Cannot adopt an eventfd with a value: it has one already; call release(n) to add to it",
        );
      }
      this.#fd = adopt(fd);
    }
    this.#waiters = new Waiters(`the eventfd ${this.#fd}`, () => this.#take());
  }

  /** Its descriptor, to hand to children. */
  get fd(): number {
    this.#check("hand on");
    return this.#fd;
  }

  #check(what: string): void {
    if (this.#closed) {
      throw new TypeError(
        `Cannot ${what} the eventfd ${this.#fd}: it was closed; use it before its "using" scope ends`,
      );
    }
  }

  #take(): boolean {
    return tryTakeFromEventFd(this.#fd) !== null;
  }

  /**
   * Takes a permit, waiting for one if need be, behind those who wait already.
   *
   * @throws {TimeoutError} the time was over
   * @throws {TypeError} it was closed, before or meanwhile
   */
  acquire(w: WaitOptions = {}): Promise<void> {
    try {
      this.#check("acquire");
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#waiters.acquire(w, this);
  }

  /** Takes a permit if there is one. */
  tryAcquire(): boolean {
    this.#check("acquire");
    return this.#take();
  }

  /**
   * Takes a permit, blocking the thread.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): void {
    this.#check("acquire");
    this.#waiters.acquireSync(w, (milliseconds) => waitReadable(this.#fd, milliseconds) && this.#take());
  }

  /**
   * Adds permits, all at once.
   *
   * @param n how many
   * @throws {RangeError} `n` is no whole number above 0, or the value would pass 2^64 - 2
   */
  release(n: number = 1): void {
    this.#check("release");
    checkPermits(n, Number.MAX_SAFE_INTEGER);
    if (!addToEventFd(this.#fd, n)) {
      throw new RangeError(
        `Cannot release ${n} permits to the eventfd ${this.#fd}: its value would pass 2^64 - 2`,
      );
    }
    this.#waiters.hint();
  }

  /** Closes the descriptor: waits reject; children that have it go on. Closing twice is closing once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiters.rejectAll(new TypeError(`Cannot go on waiting for the eventfd ${this.#fd}: it was closed`));
    closeFd(this.#fd);
  }

  /** The same as {@linkcode close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @ignore */
  [kHandle](): never {
    throw new TypeError(
      `Cannot send the EventFdSemaphore of descriptor ${this.#fd}: Process does not hand descriptors on; use a NamedSemaphore or a Semaphore, or start the child by other means so that it inherits fd`,
    );
  }

  /** For people: its descriptor. */
  toString(): string {
    return `EventFdSemaphore(${this.#closed ? "closed" : `fd ${this.#fd}`})`;
  }
}

function create(value: number): number {
  if (!(Number.isInteger(value) && value >= 0 && value <= MOST_AT_FIRST)) {
    throw new RangeError(
      `Cannot make an eventfd of value ${value}: it must be a whole number from 0 to ${MOST_AT_FIRST}`,
    );
  }
  try {
    return createEventFd({ value, semaphore: true });
  } catch (error) {
    if (isSystemError(error, "EMFILE")) error.message += "; close some files, or raise ulimit -n";
    throw error;
  }
}

function adopt(fd: number): number {
  if (!(Number.isInteger(fd) && fd >= 0 && fd <= 0x7fffffff)) {
    throw new TypeError(`Cannot adopt ${fd} as an eventfd: a descriptor is a whole number from 0 on`);
  }
  const is = describeEventFd(fd);
  if (is !== null && (!is.eventFd || is.semaphore === false)) {
    throw new TypeError(
      `Cannot adopt descriptor ${fd}: ${
        is.eventFd ? "a read of this eventfd takes all permits at once" : "it is no eventfd"
      }; make it by eventfd(value, EFD_SEMAPHORE)`,
    );
  }
  return fd;
}
