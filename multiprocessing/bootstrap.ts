/**
 * Where a child begins: its main module imports this one and calls {@linkcode run}.
 *
 * @module
 */
import {
  killProcess,
  parentDeathSignal,
  parentProcessId,
  processId,
  setCloexec,
  signals,
} from "../platform/mod.ts";
import { CHILD_SENTINEL_FD, current, type Session } from "./core/session.ts";
import { beChild, childLoaded } from "./current_process.ts";
import { Interval } from "../platform/runtime/loop.ts";
import { takeLaunch } from "./launch.ts";
import { runInChild } from "./process.ts";
// Handles of every kind may stand in the arguments.
import "./synchronize.ts";
import "./queues.ts";
import "./shared_memory.ts";
import "./sharedctypes.ts";
import "./connection.ts";
import "./foreign/named_semaphore.ts";

const PARENT_CHECK_MS = 100;

/**
 * Runs what the parent asked for. An error ends the process with exit code 1 and its stack on stderr, as an uncaught one does.
 *
 * @param load loads the target's module
 */
export async function run(load: () => Promise<Record<string, unknown>>): Promise<void> {
  const session = current();
  if (!session.inherited) throw new Error("Cannot start: the parent's session is gone");
  // Held open until this process ends, whoever it starts meanwhile: that end is what the parent sees.
  setCloexec(CHILD_SENTINEL_FD, true);
  const launch = takeLaunch(session);
  beChild(launch);
  if (launch.daemon) dieWithParent(session, launch.parent.pid, launch.byMainThread);
  const module = await load();
  childLoaded();
  await runInChild(launch, module);
}

/** A daemon ends with its parent: by the system's signal where it is to be trusted, and by looking where not. */
function dieWithParent(session: Session, parent: number, byMainThread: boolean): void {
  if (byMainThread) parentDeathSignal(signals.SIGKILL);
  const check = (): void => {
    if (parentProcessId() === parent) return;
    try {
      // What has a name must be removed by its last member, which this may be.
      session.leave();
    } finally {
      killProcess(processId(), signals.SIGKILL);
    }
  };
  const interval = new Interval(PARENT_CHECK_MS);
  interval.start(check);
  interval.unref();
  check();
}
