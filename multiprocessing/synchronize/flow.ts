/**
 * Flows: whose code it is that runs now, where one thread runs many functions in turns.
 *
 * A hold of a re-entrant lock is noted in the asynchronous context (`AsyncLocalStorage`) of the code that took it. What that code awaits, calls
 * or starts runs in the same context, and so re-enters; code elsewhere does not.
 *
 * `run` makes a context of its own and is exact. A bare `acquire` can only enter the context of the caller, which goes on in it, and so does the
 * caller's caller until it awaits. Two functions that are started in one go, `Promise.all([f(), g()])`, must exclude each other all the same: so a
 * hold entered by `acquire` does not count before the next microtask, as whoever takes a lock by `acquire` awaits it before it goes on.
 *
 * @module
 */
import { queueMicrotask } from "../core/clock.ts";

/** One owner's hold of one lock, from its first acquire to its last release. */
export class Hold {
  /** How often it is held; 0 while it is waited for, and during a condition's wait. */
  count = 0;
  /** Whether it is over, or came to nothing. */
  over = false;
  abandoned = false;
  /** The piece of synchronous code that entered it by `acquire`, 0 for others. */
  readonly segment: number;

  constructor(segment: number) {
    this.segment = segment;
  }
}

type Context = readonly Hold[];

/** What is used of `node:async_hooks`. */
interface AsyncLocalStorage<T> {
  getStore(): T | undefined;
  enterWith(value: T): void;
  run<R>(value: T, work: () => R): R;
}
interface AsyncHooks {
  readonly AsyncLocalStorage: new <T>() => AsyncLocalStorage<T>;
}

const NONE: Context = [];

let storage: AsyncLocalStorage<Context> | undefined;
let segment = 1;
let counting = false;

function context(): Context {
  if (storage === undefined) {
    const { process } = globalThis as unknown as { process: { getBuiltinModule(name: string): AsyncHooks } };
    storage = new (process.getBuiltinModule("node:async_hooks").AsyncLocalStorage)<Context>();
  }
  return storage.getStore() ?? NONE;
}

const counts = (hold: Hold): boolean => !hold.over && hold.segment !== segment;

/** Whether the code that runs now is of the hold's flow. */
export function isInFlow(hold: Hold): boolean {
  return hold.segment !== segment && context().includes(hold);
}

/** A hold by a bare acquire: the caller goes on in its flow once it has awaited. */
export function enterLater(): Hold {
  const before = context().filter(counts);
  if (!counting) {
    counting = true;
    queueMicrotask(() => {
      counting = false;
      segment++;
    });
  }
  const hold = new Hold(segment);
  storage!.enterWith([...before, hold]);
  return hold;
}

/** A hold that its caller has already: it goes on in its flow at once. */
export function enter(hold: Hold): void {
  const before = context().filter(counts);
  storage!.enterWith([...before, hold]);
}

/** Runs `fn` in the flow of a hold, and nothing else. */
export function runIn<R>(hold: Hold, fn: () => R): R {
  const before = context().filter(counts);
  return storage!.run([...before, hold], fn);
}
