/**
 * Those of this agent who wait for one foreign object, in order.
 *
 * Nothing of a wait is outside this agent: no other process knows that it waits, and a permit is taken only in the step that gives it to the first
 * of them. So a time-out or an abort removes an entry of a list, and a killed agent leaves nothing.
 *
 * @module
 */
import { isMainThread } from "../../platform/runtime/globals.ts";
import { clearTimeout, now, queueMicrotask, setTimeout } from "../core/clock.ts";
import { atClose } from "../core/session.ts";
import { afterTurn, isDue } from "../core/turns.ts";
import { checkWait, type SyncWaitOptions, type WaitOptions } from "../core/waits.ts";
import { BlockingError, SessionError, TimeoutError } from "../errors.ts";
import { looks } from "./looks.ts";

/** Waiters given something in one turn of the loop. */
const SERVED_AT_ONCE = 256;
/** A thread that blocks comes back to JavaScript this often: then Bun can end a terminated Worker. Deno lets one in a loop go on. */
const SYNC_SLICE_MS = 50;

interface Waiter {
  readonly owner: object;
  readonly ref: boolean;
  resolve(): void;
  reject(reason: unknown): void;
  timer: unknown;
  signal: AbortSignal | null;
  onAbort: (() => void) | undefined;
}

/** Which lists have a waiter, to end them with the session. */
const busy = new Set<Waiters>();

/** The waiters for one object. */
export class Waiters {
  readonly #what: string;
  readonly #take: () => boolean;
  /** In the order of their coming. */
  readonly #waiting = new Set<Waiter>();
  #hinted = false;

  /**
   * @param what the object, for messages
   * @param take takes one permit, if there is one, without blocking; may throw
   */
  constructor(what: string, take: () => boolean) {
    this.#what = what;
    this.#take = take;
  }

  /**
   * Takes a permit, after those who wait already.
   *
   * @param owner the handle that waits: see {@linkcode rejectOf}
   */
  acquire(w: WaitOptions, owner: object): Promise<void> {
    try {
      const timeout = checkWait(w);
      if (this.#waiting.size === 0 && this.#take()) return isDue() ? afterTurn(undefined) : Promise.resolve();
      if (timeout === 0) throw this.#timedOut(0);
      return this.#wait(w, timeout, owner);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Takes a permit, blocking the thread.
   *
   * @param block blocks for at most some milliseconds; whether a permit was taken
   */
  acquireSync(w: SyncWaitOptions, block: (milliseconds: number) => boolean): void {
    const timeout = checkWait(w);
    if (isMainThread() && !w.allowBlocking) {
      throw new BlockingError(
        `Cannot acquire ${this.#what} synchronously: it would stop the event loop of the main thread; await acquire(), or pass { allowBlocking: true }`,
      );
    }
    if (this.#take()) return;
    const deadline = now() + timeout;
    for (let left = timeout; left > 0; left = deadline - now()) {
      if (block(Math.min(left, SYNC_SLICE_MS))) return;
    }
    throw this.#timedOut(timeout);
  }

  #wait(w: WaitOptions, timeout: number, owner: object): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        owner,
        ref: w.ref !== false,
        resolve,
        reject,
        timer: undefined,
        signal: w.signal ?? null,
        onAbort: undefined,
      };
      if (timeout !== Infinity) {
        const over = (): void => this.#end(waiter, this.#timedOut(timeout));
        waiter.timer = setTimeout(over, Math.min(timeout, 0x7fffffff));
      }
      if (waiter.signal !== null) {
        waiter.onAbort = () => this.#end(waiter, waiter.signal!.reason);
        waiter.signal.addEventListener("abort", waiter.onAbort);
      }
      if (waiter.ref) looks.ref();
      this.#waiting.add(waiter);
      busy.add(this);
      looks.add(this);
    });
  }

  /** Gives permits to waiters as long as there are both. Whether there was one. */
  look(): boolean {
    let served = 0;
    try {
      for (const waiter of this.#waiting) {
        if (served === SERVED_AT_ONCE || !this.#take()) break;
        served++;
        this.#remove(waiter);
        waiter.resolve();
      }
    } catch (error) {
      // It cannot be looked at any more: its descriptor is closed, say.
      this.rejectAll(error);
    }
    return served > 0;
  }

  /** A permit was just added by this agent: its own waiters need not wait for the next look. */
  hint(): void {
    if (this.#hinted || this.#waiting.size === 0) return;
    this.#hinted = true;
    queueMicrotask(() => {
      this.#hinted = false;
      if (this.look()) looks.soon();
    });
  }

  /** Ends the waits of one handle. */
  rejectOf(owner: object, reason: unknown): void {
    for (const waiter of this.#waiting) if (waiter.owner === owner) this.#end(waiter, reason);
  }

  /** Ends all waits. */
  rejectAll(reason: unknown): void {
    for (const waiter of this.#waiting) this.#end(waiter, reason);
  }

  #timedOut(timeout: number): TimeoutError {
    return new TimeoutError(`Cannot acquire ${this.#what}: no permit came within ${timeout} ms`);
  }

  #end(waiter: Waiter, reason: unknown): void {
    this.#remove(waiter);
    waiter.reject(reason);
  }

  #remove(waiter: Waiter): void {
    this.#waiting.delete(waiter);
    if (waiter.timer !== undefined) clearTimeout(waiter.timer);
    if (waiter.onAbort !== undefined) waiter.signal!.removeEventListener("abort", waiter.onAbort);
    if (waiter.ref) looks.unref();
    if (this.#waiting.size > 0) return;
    busy.delete(this);
    looks.remove(this);
  }
}

/** Checks how many permits to add. @throws {RangeError} */
export function checkPermits(n: number, most: number): void {
  if (!(n >= 1) || !Number.isInteger(n) || n > most) {
    throw new RangeError(`Cannot release ${n} permits: it must be a whole number from 1 to ${most}`);
  }
}

// Foreign objects belong to no session, but their waits use this agent's loop, and disposing the session leaves nothing in it.
atClose(() => {
  for (const waiters of busy) {
    waiters.rejectAll(new SessionError("Cannot go on waiting: the session was disposed in this agent"));
  }
});
