/**
 * Flows: whose code it is that runs now, where one thread runs many functions in turns.
 *
 * A hold of a re-entrant lock is noted in the asynchronous context (`AsyncLocalStorage`) of the code that took it. What that code awaits, calls
 * or starts runs in the same context, and so re-enters; code elsewhere does not.
 *
 * `run` makes a context of its own and is exact. A bare `acquire` can only enter the context of the caller, which goes on in it, and so does the
 * caller's caller until it awaits. Whether what else is done in that piece of synchronous code is done by the same function, or by another one
 * that was started beside it, `Promise.all([f(), g()])`, nothing tells. Functions started side by side must exclude each other, so:
 * - a hold does not count before the next microtask;
 * - two holds that were entered in one piece do not count together: the later one puts the earlier aside, in the context that it makes.
 * What is aside, or does not count yet, its code may still release, for only who owns it has a reason to.
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
  /** The piece of synchronous code that entered it, 0 for what `run` made. */
  readonly segment: number;

  constructor(segment: number) {
    this.segment = segment;
  }
}

interface Context {
  readonly holds: readonly Hold[];
  /** Entered in one piece with what came later. */
  readonly aside: readonly Hold[];
}

/** What is used of `node:async_hooks`. */
interface AsyncLocalStorage<T> {
  getStore(): T | undefined;
  enterWith(value: T): void;
  run<R>(value: T, work: () => R): R;
}
interface AsyncHooks {
  readonly AsyncLocalStorage: new <T>() => AsyncLocalStorage<T>;
}

const NONE: Context = { holds: [], aside: [] };

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

/** The context that a further hold makes of the one that runs now. */
function extended(hold: Hold): Context {
  const { holds, aside } = context();
  const live = holds.filter((each) => !each.over);
  return {
    holds: [...live.filter((each) => each.segment !== segment), hold],
    aside: [...aside.filter((each) => !each.over), ...live.filter((each) => each.segment === segment)],
  };
}

/** Whether the code that runs now is of the hold's flow, and so may take the lock again. */
export function isInFlow(hold: Hold): boolean {
  return hold.segment !== segment && context().holds.includes(hold);
}

/** Whether the code that runs now may be of the hold's flow: enough to release it. */
export function mayBeInFlow(hold: Hold): boolean {
  const { holds, aside } = context();
  return holds.includes(hold) || aside.includes(hold);
}

/** A hold by a bare acquire: the caller goes on in its flow once it has awaited. */
export function enter(): Hold {
  if (!counting) {
    counting = true;
    queueMicrotask(() => {
      counting = false;
      segment++;
    });
  }
  const hold = new Hold(segment);
  const next = extended(hold);
  storage!.enterWith(next);
  return hold;
}

/** Runs `fn` in the flow of a hold, and nothing else. */
export function runIn<R>(hold: Hold, fn: () => R): R {
  const next = extended(hold);
  return storage!.run(next, fn);
}
