/**
 * Letting the loop turn: a wait that is over at once costs no turn of the loop, so a program that only ever finds something to take would keep
 * timers and I/O from running. About every millisecond such a wait takes one turn.
 *
 * @module
 */
import { timers } from "../../platform/runtime/timers.ts";
import { now } from "./clock.ts";

/** So many waits in a row take some 0.1 ms; only then is the clock looked at. */
const UNWATCHED = 512;
const LONGEST_MS = 1;

let left = UNWATCHED;
/** Settles when the loop has turned; undefined while nobody watches. */
let turn: Promise<void> | undefined;
let since = 0;

/**
 * Counts a wait that was over at once. Whether it should take a turn of the loop, by {@linkcode afterTurn}.
 *
 * @param weight how many such waits take as long as what is counted
 */
export function isDue(weight = 1): boolean {
  return (left -= weight) <= 0 && look();
}

function look(): boolean {
  left = UNWATCHED;
  if (turn !== undefined) return now() - since > LONGEST_MS;
  since = now();
  turn = new Promise((resolve) =>
    timers().setImmediate(() => {
      turn = undefined;
      left = UNWATCHED;
      resolve();
    })
  );
  return false;
}

/** The value, once the loop has turned. */
export function afterTurn<T>(value: T): Promise<T> {
  return turn === undefined ? Promise.resolve(value) : turn.then(() => value);
}
