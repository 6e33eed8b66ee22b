/**
 * Puts that still wait for room when their process ends. What was put is safe, but these were not: whoever calls `process.exit()` gets them
 * sent, for a bounded time, and is told what was lost.
 *
 * @module
 */
import { sleepSync, writeFd } from "../../platform/mod.ts";
import { now } from "../core/clock.ts";
import type { Session } from "../core/session.ts";
import type { QueueCore } from "./core.ts";

const LONGEST_MS = 2000;
/** Queues with puts of this agent that wait for room. */
const unsent = new Set<QueueCore>();
let watched: Session | undefined;
/** For all queues together. */
let deadline: number | undefined;

/** Has what a put waits with sent at the end of the process, if it waits still. */
export function sendAtExit<T>(core: QueueCore, put: Promise<T>): Promise<T> {
  unsent.add(core);
  if (watched !== core.session) {
    watched = core.session;
    watched.atExit(() => unsent.forEach(send));
  }
  const settled = (): void => {
    if (core.putters.first === undefined) unsent.delete(core);
  };
  put.then(settled, settled);
  return put;
}

function send(core: QueueCore): void {
  const { putters, session } = core;
  if (putters.first === undefined) return;
  deadline ??= now() + LONGEST_MS;
  session.waits.held(() => {
    // A put for which no one is left to make room is lost now as well as later.
    for (let checked = 0;; checked++) {
      putters.service(false);
      if (putters.first === undefined || now() > deadline!) return;
      if (checked % 50 === 0 && !core.isShared()) return;
      sleepSync(1);
    }
  });
  const lost = putters.count();
  if (lost === 0) return;
  writeFd(
    2,
    new TextEncoder().encode(
      `geventmp: ${lost} ${
        lost === 1 ? "item is" : "items are"
      } lost that still waited for room in a queue when the process ended, ${
        core.isShared() ? `as nobody made room within ${LONGEST_MS} ms` : "as no other process had it"
      }; await put() before you exit\n`,
    ),
  );
}
