/**
 * What starting a process needs beyond this agent's own use of the session: loaded at the first start.
 *
 * @module
 */
import { spawnPreparation } from "../platform/posix/spawn.ts";
import { commandPreparation } from "../platform/runtime/command_line.ts";
import { timers } from "../platform/runtime/timers.ts";
import { now } from "./core/clock.ts";

export { childCommand, childMain } from "../platform/runtime/command_line.ts";
export { spawn } from "../platform/posix/spawn.ts";
export { readableFromChild, writableToChild } from "../platform/runtime/streams.ts";
export { prepareLaunch } from "./launch.ts";

const PIECE_MS = 0.4;

/** Gives what lets the loop turn, if the caller has run for longer than a piece may take. */
export function makeTurns(): () => Promise<void> | void {
  let began = now();
  return () => {
    if (now() - began < PIECE_MS) return;
    return new Promise<void>((resolve) => void timers().setImmediate(resolve)).then(() =>
      void (began = now())
    );
  };
}

let prepared: Promise<void> | undefined;

/** Reads and binds what every start needs, once, in pieces between which the loop turns. A piece that fails does so again, and is heard, at the start. */
export function prepareStart(): Promise<void> {
  return prepared ??= (async () => {
    const turn = makeTurns();
    for (const piece of [...commandPreparation, ...spawnPreparation]) {
      try {
        piece();
      } catch { /* see above */ }
      await turn();
    }
  })();
}
