/**
 * Semaphores that programs in any language share by name.
 *
 * @module
 */
import { isSystemError, osName, UnsupportedPlatformError } from "../../platform/mod.ts";
import type { Address } from "../../platform/mod.ts";
import {
  closeSemaphore,
  openSemaphore,
  postSemaphore,
  semaphoreValue,
  tryWaitSemaphore,
  unlinkSemaphore,
  waitSemaphore,
} from "../../platform/posix/semaphores.ts";
import { kHandle, type NamedId } from "../codec/mod.ts";
import { opener } from "../core/handle.ts";
import type { SyncWaitOptions, WaitOptions } from "../core/waits.ts";
import { checkPermits, Waiters } from "./waiters.ts";

/** How a {@linkcode NamedSemaphore} is opened. */
export interface NamedSemaphoreOptions {
  /** Makes the semaphore when there is none of this name. @default false */
  create?: boolean;
  /** With `create`: fails with EEXIST when there is one. @default false */
  exclusive?: boolean;
  /** With `create`: how many permits a semaphore that is made has at first, 0 to 2,147,483,647 (macOS: 32,767). @default 0 */
  value?: number;
  /** With `create`: permission bits of a semaphore that is made, less the umask. @default 0o600, this user's alone */
  mode?: number;
}

/** SEM_VALUE_MAX. */
const MOST = osName === "darwin" ? 32_767 : 2_147_483_647;
/** The C libraries of Linux make a file `sem.<name>` of it; PSEMNAMLEN on Darwin. */
const LONGEST_NAME = osName === "darwin" ? 30 : 251;

/** Its kind among what belongs to the machine. */
const NAMED_SEMAPHORE = 1;

/** An open semaphore: one for all handles of this agent to it, so that their waits stand in one line. */
interface Opened {
  readonly address: Address;
  readonly waiters: Waiters;
  handles: number;
}

/** sem_open gives one address for one semaphore, as often as a process opens it. */
const opened = new Map<Address, Opened>();

function close(semaphore: Opened): void {
  if (--semaphore.handles === 0) opened.delete(semaphore.address);
  closeSemaphore(semaphore.address);
}

const dropped = new FinalizationRegistry<Opened>(close);

/**
 * A POSIX semaphore with a name (sem_open): a counter shared with C, Python (`_multiprocessing.SemLock`, `posix_ipc`) and whatever else of the
 * machine opens the name. It belongs to no session.
 *
 * - It stays, with its value, until somebody calls `unlink()`, though every process be gone; then the name is free, and who has it open goes on.
 * - A permit that a killed process held is lost.
 * - Waits of one agent are served in order. Among processes there is no order: who comes at the right moment takes the permit.
 * - An `acquire` that has to wait looks at the semaphore from this agent's event loop: no thread stands behind it, and it sees a permit within
 *   some 10 ms. A wait that times out, is aborted, or dies with its process has taken nothing.
 * - So it is for handing over, and for permits that are free now and then. Against several peers that block on a lock which is never free for
 *   longer than a few microseconds it takes tens of milliseconds, and may take seconds: there let a Worker block, by `acquireSync`.
 * - May be sent, as an argument of a Process or in a queue's item: what travels is the name, and the receiver opens what then has it. Where
 *   it was unlinked meanwhile, receiving rejects with a TypeError; dispose the handle that was received.
 *
 * @example
 * ```ts
 * import { NamedSemaphore } from "@karellen/geventmp";
 * using jobs = new NamedSemaphore("/jobs", { create: true });
 * jobs.release(); // sem_post; a C program in sem_wait("/jobs") goes on
 * await jobs.acquire({ timeout: 1000 });
 * jobs.unlink();
 * ```
 */
export class NamedSemaphore implements Disposable {
  /** Its name, with the slash. */
  readonly name: string;
  #semaphore: Opened | null;

  /**
   * Opens a semaphore, or makes it.
   *
   * @param name a slash, then 1 to 250 bytes (macOS: 29) without a slash
   * @param options whether to make it, and how
   * @throws {TypeError} a name that is none; `exclusive`, `value` or `mode` without `create`
   * @throws {RangeError} a value or mode out of bounds
   * @throws {SystemError} ENOENT: there is none; EEXIST: there is one; EACCES: it is another user's; EMFILE
   */
  constructor(name: string, options: NamedSemaphoreOptions = {}) {
    checkName(name);
    checkOptions(name, options);
    this.name = name;
    let address: Address;
    try {
      address = openSemaphore(name, options);
    } catch (error) {
      throw withCure(error);
    }
    let semaphore = opened.get(address);
    if (semaphore === undefined) {
      const waiters = new Waiters(`the semaphore ${name}`, () => tryWaitSemaphore(address));
      opened.set(address, semaphore = { address, waiters, handles: 0 });
    }
    semaphore.handles++;
    this.#semaphore = semaphore;
    dropped.register(this, semaphore, this);
  }

  /**
   * Removes a name. Those who have the semaphore open go on with it; the next to make one of this name gets a new one.
   *
   * @returns false when there is none of this name
   * @throws {SystemError} EACCES: it is another user's
   */
  static unlink(name: string): boolean {
    checkName(name);
    return unlinkSemaphore(name);
  }

  #open(what: string): Opened {
    if (this.#semaphore === null) {
      throw new TypeError(
        `Cannot ${what} the semaphore ${this.name}: this handle to it was closed; open it again`,
      );
    }
    return this.#semaphore;
  }

  /**
   * Takes a permit, waiting for one if need be, behind those of this agent who wait already.
   *
   * @throws {TimeoutError} the time was over
   * @throws {TypeError} the handle was closed, before or meanwhile
   */
  acquire(w: WaitOptions = {}): Promise<void> {
    try {
      return this.#open("acquire").waiters.acquire(w, this);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Takes a permit if there is one. */
  tryAcquire(): boolean {
    return tryWaitSemaphore(this.#open("acquire").address);
  }

  /**
   * Takes a permit, blocking the thread. On macOS the thread looks every 2 ms.
   *
   * @throws {BlockingError} on a main thread without `allowBlocking`
   * @throws {TimeoutError} the time was over
   */
  acquireSync(w: SyncWaitOptions = {}): void {
    const { address, waiters } = this.#open("acquire");
    waiters.acquireSync(w, (milliseconds) => waitSemaphore(address, milliseconds));
  }

  /**
   * Adds permits, one after the other.
   *
   * @param n how many
   * @throws {RangeError} `n` is no whole number above 0
   * @throws {SystemError} EOVERFLOW: the value cannot grow any more; those before were added
   */
  release(n: number = 1): void {
    const { address, waiters } = this.#open("release");
    checkPermits(n, MOST);
    try {
      for (let i = 0; i < n; i++) postSemaphore(address);
    } finally {
      waiters.hint();
    }
  }

  /**
   * How many permits there are now.
   *
   * @throws {UnsupportedPlatformError} on macOS, which does not tell
   */
  getValue(): number {
    const value = semaphoreValue(this.#open("look at").address);
    if (value === null) {
      throw new UnsupportedPlatformError(
        "macOS",
        "NamedSemaphore.getValue",
        "it does not tell a semaphore's value; use tryAcquire, or a Semaphore within a session",
      );
    }
    return value;
  }

  /** Removes its name: see the static method. */
  unlink(): boolean {
    return NamedSemaphore.unlink(this.name);
  }

  /** Lets go of it: waits of this handle reject, permits that were taken stay taken, and the name stays. Closing twice is closing once. */
  close(): void {
    const semaphore = this.#semaphore;
    if (semaphore === null) return;
    this.#semaphore = null;
    dropped.unregister(this);
    semaphore.waiters.rejectOf(
      this,
      new TypeError(`Cannot go on waiting for the semaphore ${this.name}: this handle to it was closed`),
    );
    close(semaphore);
  }

  /** The same as {@linkcode close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** @ignore */
  [kHandle](): NamedId {
    this.#open("send");
    return { kind: NAMED_SEMAPHORE, name: this.name };
  }

  /** For people: its name. */
  toString(): string {
    return `NamedSemaphore(${this.name}${this.#semaphore === null ? ", closed" : ""})`;
  }
}

function checkName(name: string): void {
  const because = typeof name !== "string"
    ? `it is a ${typeof name}`
    : !name.startsWith("/")
    ? "it does not begin with a slash"
    : name.length === 1
    ? "nothing follows the slash"
    : name.includes("/", 1)
    ? "it has a second slash"
    : name.includes("\0")
    ? "it holds a NUL"
    : undefined;
  if (because !== undefined) {
    throw new TypeError(
      `Cannot use ${
        typeof name === "string" ? JSON.stringify(name) : String(name)
      } as a semaphore's name: ${because}; pass a slash and a word, like "/jobs"`,
    );
  }
  const { length } = new TextEncoder().encode(name);
  if (length > LONGEST_NAME) {
    throw new TypeError(
      `Cannot use ${
        JSON.stringify(name)
      } as a semaphore's name: it has ${length} bytes, and ${LONGEST_NAME} is the most; pass a shorter one`,
    );
  }
}

function checkOptions(name: string, { create, exclusive, value, mode }: NamedSemaphoreOptions): void {
  if (create !== true && (exclusive === true || value !== undefined || mode !== undefined)) {
    throw new TypeError(
      `Cannot open the semaphore ${name}: exclusive, value and mode are for one that is made; pass create: true with them`,
    );
  }
  if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= MOST)) {
    throw new RangeError(
      `Cannot make the semaphore ${name} of value ${value}: it must be a whole number from 0 to ${MOST}`,
    );
  }
  if (mode !== undefined && !(Number.isInteger(mode) && mode >= 0 && mode <= 0o777)) {
    throw new RangeError(
      `Cannot make the semaphore ${name} of mode ${mode}: it must be permission bits from 0 to 0o777, like 0o660`,
    );
  }
}

const CURES = {
  ENOENT: "pass { create: true } to make it",
  EEXIST: "leave exclusive out to use the one that is there, or unlink it first",
  EACCES: "its maker must give this user read and write permission by mode",
  EMFILE: "close some files, or raise ulimit -n",
} as const;

function withCure(error: unknown): unknown {
  for (const code of ["ENOENT", "EEXIST", "EACCES", "EMFILE"] as const) {
    if (isSystemError(error, code)) error.message += `; ${CURES[code]}`;
  }
  return error;
}

opener(NAMED_SEMAPHORE, (name) => {
  try {
    return new NamedSemaphore(name);
  } catch (error) {
    if (!isSystemError(error, "ENOENT")) throw error;
    throw new TypeError(
      `Cannot receive the NamedSemaphore ${name}: it was unlinked after it was sent; unlink it when the receiver has it open`,
      { cause: error },
    );
  }
});
