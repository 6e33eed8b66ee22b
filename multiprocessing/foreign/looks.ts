/**
 * When this agent looks at the foreign objects that it waits for.
 *
 * A foreign semaphore wakes threads that block in the kernel, and nothing else: no descriptor that a loop can watch tells of a named semaphore, and
 * neither runtime's loop adopts an eventfd. So a promise needs a thread that blocks in its stead, or looks. This agent looks, from its own loop:
 *
 * - A thread that blocks in sem_wait takes the permit before anyone knows whether it is still wanted. While a wait that was cancelled is being
 *   recalled, permits vanish into it for a while; at the end of the process for good. Who looks takes a permit in the same step that gives it to
 *   a waiter, so a cancelled wait is over at once and a permit is never under way.
 * - Deno keeps a process alive for a Worker and for a pending call, so `ref: false` would not hold; its Workers take 22 ms to start, need
 *   `--allow-read`, and serve one semaphore at a time, as the kernel offers no wait for several.
 * - Darwin has no sem_timedwait: there a thread would have to look as well.
 *
 * What looking costs is time and, while something waits, turns of the loop. The pace keeps both small: turn after turn of the loop for the first
 * half millisecond, as long as that has helped lately, and then at intervals of a sixteenth of the time that nothing has come, 1 to 10 ms. So a
 * peer that answers is heard as fast as a blocked thread would hear it, and after a long silence a permit is seen within some 10 ms.
 *
 * And it costs standing: the kernel wakes who blocks. Where two peers or more pass one permit around without a pause, as a lock that is never
 * free, a permit is there for microseconds only, between a post and the next wait. A look seldom meets that moment. So what has waited in vain for
 * a while is looked at without a pause for a third of a millisecond now and then. Blocking in sem_timedwait for as long does not help: who waits
 * already comes first, and would have to be served within it. ARCHITECTURE.md has the figures.
 *
 * @module
 */
import { Alarm } from "../../platform/runtime/loop.ts";
import { timers } from "../../platform/runtime/timers.ts";
import { now, section } from "../core/clock.ts";

/** Something that waits and can be looked at. */
export interface Looked {
  /** Gives what there is to those who wait. Never throws. Whether there was something. */
  look(): boolean;
}

/** For how long every turn of the loop looks, in milliseconds. */
const TURNS_MS = 0.5;
const SHORTEST_MS = 1;
const LONGEST_MS = 10;
const FRACTION = 16;
/** Turns are looked in while there is credit: they earn some when they help, cost some when not, and are tried anew now and then. */
const MOST_CREDIT = 16;
const EARNED = 4;
const SKIPPED = 64;
/** What has waited for so long is stared at, for how long at once, and how often at most, in milliseconds. */
const STARE_AFTER_MS = 5;
const STARE_MS = 0.3;
const STARE_EVERY_MS = 2;

/** Everything that this agent waits for and must look at. */
class Looks {
  /** And when each last got something, or began to wait. */
  readonly #waiting = new Map<Looked, number>();
  #stared = 0;
  readonly #alarm = new Alarm(() => this.#look());
  #refs = 0;
  /** When something came last, or began to wait. */
  #since = 0;
  #turning = false;
  #credit = MOST_CREDIT / 2;
  #skipped = 0;
  /** Whether looking in turns is on since `#since`. */
  #eager = false;

  constructor() {
    this.#alarm.unref();
  }

  add(looked: Looked): void {
    if (this.#waiting.has(looked)) return;
    this.#waiting.set(looked, now());
    this.soon();
  }

  remove(looked: Looked): void {
    if (this.#waiting.delete(looked) && this.#waiting.size === 0) this.#alarm.stop();
  }

  ref(): void {
    if (this.#refs++ === 0) this.#alarm.ref();
  }

  unref(): void {
    if (--this.#refs === 0) this.#alarm.unref();
  }

  /** Something began to wait, or is likely to come. */
  soon(): void {
    if (this.#waiting.size === 0) return;
    this.#begin();
    this.#schedule(0);
  }

  #begin(): void {
    this.#since = now();
    this.#eager = this.#credit > 0 || ++this.#skipped >= SKIPPED;
    if (this.#eager) this.#skipped = 0;
  }

  #schedule(waited: number): void {
    if (!this.#eager) {
      return this.#alarm.set(Math.min(LONGEST_MS, Math.max(SHORTEST_MS, waited / FRACTION)));
    }
    this.#alarm.stop();
    if (this.#turning) return;
    this.#turning = true;
    timers().setImmediate(() => {
      this.#turning = false;
      this.#look();
    });
  }

  #lookAt(looked: Looked): boolean {
    if (!looked.look()) return false;
    // It may have nobody left who waits.
    if (this.#waiting.has(looked)) this.#waiting.set(looked, now());
    return true;
  }

  /** Looks without a pause at what has waited for long. Whether there was something. */
  #stare(): boolean {
    const start = now();
    if (start - this.#stared < STARE_EVERY_MS) return false;
    const starved = [...this.#waiting].filter(([, since]) => start - since > STARE_AFTER_MS);
    if (starved.length === 0) return false;
    try {
      do {
        for (const [looked] of starved) if (this.#lookAt(looked)) return true;
      } while (now() - start < STARE_MS);
      return false;
    } finally {
      this.#stared = now();
    }
  }

  #look(): void {
    let found = false;
    section(() => {
      for (const looked of this.#waiting.keys()) if (this.#lookAt(looked)) found = true;
      if (!found) found = this.#stare();
    });
    if (found) {
      if (this.#eager) this.#credit = Math.min(MOST_CREDIT, Math.max(0, this.#credit) + EARNED);
      this.#begin();
    }
    if (this.#waiting.size === 0) return;
    const waited = now() - this.#since;
    if (this.#eager && waited > TURNS_MS) {
      this.#eager = false;
      this.#credit = Math.max(0, this.#credit - 1);
    }
    this.#schedule(waited);
  }
}

/** Of this agent. */
export const looks: Looks = new Looks();
