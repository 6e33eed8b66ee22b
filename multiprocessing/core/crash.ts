/**
 * Crash points: named places between two steps of a change of shared state, where a test can have this process killed or stopped.
 * Compiled in, so that what is tested is what runs; unarmed, one costs a comparison.
 *
 * Armed by `GEVENTMP_CRASH=<name>[:<nth>[:kill|stop]]`, or from a test by {@linkcode armCrash}.
 *
 * @module
 */
import { getenv, killProcess, processId, signals } from "../../platform/mod.ts";

let armed: string | null = null;
let remaining = 0;
let signal = 0;

/** Every name that {@linkcode crashPoint} is called with; tests run through them all. */
export const CRASH_POINTS = [
  "arena.claim", // a span is claimed, its purpose not yet written
  "arena.multi", // some spans of a larger block are claimed
  "arena.publish", // a block is written, not yet live
  "arena.dying", // a block is being given back
  "agent.locked", // a slot's life lock is held, its PID not yet written
  "agent.taken", // PID is written, nobody knows the token yet
  "agent.reap", // a dead agent is half scrubbed
  "agent.sliced", // a piece of a reap is done, the right to reap given back
  "agent.reaped", // scrubbed, the slot not yet free
  "handle.hold", // a node is claimed, ADDS not yet raised
  "handle.release", // a node is given up, the block not yet looked at
  "wait.published", // the node says WAITING, the flag is not yet set
  "wait.marked", // the flag is set, not yet asleep
  "wait.cleared", // a releaser took the waiters flag, nobody is woken yet
  "wait.woken", // a node says WOKEN, the doorbell is not yet rung
  "wait.rung", // the doorbell is rung, its word does not say so
  "lock.taken", // the lock's word is ours, the caller does not know
  "lock.released", // the lock's word is free, waiters not yet looked at
  "semaphore.taken",
  "semaphore.released",
  "semaphore.claimed", // robust: a permit is claimed, all are not yet counted
  "semaphore.counted", // robust: the count allows it, the claim is not yet a permit
  "event.set", // set, nobody is woken yet
  "event.cleared",
  "call.claimed", // a call has its node, and does not wait yet
  "call.waiting", // the call's node says WAITING; a condition's lock is still held
  "call.woken", // a call is woken or refused, its agent not yet rung
  "call.taken", // the call's agent knows, and has a condition's lock back; its node still says so
  "condition.kept", // the condition is live, and does not keep its lock yet
  "condition.left", // the lock is free, the call not yet asleep
  "barrier.announced", // a call says that it arrives, and is not counted
  "barrier.arrived", // it is counted, and not yet sure
  "barrier.full", // complete: the round is passed, nobody was told
  "barrier.told", // all were told, the next round has not begun
  "barrier.broken", // broken, or being reset; nobody was told
  "queue.written", // a record is written, not published
  "queue.published", // published, getters not yet looked at
  "queue.ring", // a further ring is made, not linked
  "queue.link", // linked, the old one not ended
  "queue.claimed", // a record is claimed, not read
  "queue.read", // read, not done
  "queue.done", // done, the lane's READ not moved
  "queue.counted", // joinable: a record is being counted, COUNT does not say so yet
  "queue.finished", // an item is finished, joiners not yet looked at
  "lease.table", // a table of leases is made, not linked
  "lease.taken", // a lease's entry is taken, not written
  "lease.held", // the item is the lease's, its record not done
  "lease.again", // an item that came back is leased again, its message still the last taker's
  "lease.ended", // acknowledged, its message not freed
  "lease.returned", // given back, or returned by a reaper, RETURNS not raised
  "memory.named", // a named object exists, nothing says that it is the session's
  "memory.noted", // noted, no size and no pages yet
  "memory.unlinked", // its name is gone, still noted
  "pipe.kept", // a pipe's end is made, and keeps one of its directions
  "pipe.ended", // an end is condemned, those who wait at the other are not yet woken
  "pipe.letGo", // they are, and the end keeps its directions no longer
  "transfer.made", // a large message's block is made, no record speaks of it
  "transfer.announced", // one does
  "transfer.begun", // its receiver stands in it, and the record is not yet done
  "transfer.filled", // a slot is written, not yet counted
  "transfer.taken", // a slot is read, not yet counted
  "transfer.done", // the message is received, its sender does not know
  "transfer.abandoned", // the receiver stepped back, the sender does not know
  "transfer.again", // the sender begins again, and has not yet said so
] as const;
export type CrashPoint = typeof CRASH_POINTS[number];

/** Arms one crash point in this process. @throws {RangeError} for an unknown name. */
export function armCrash(name: CrashPoint, nth = 1, action: "kill" | "stop" = "kill"): void {
  if (!CRASH_POINTS.includes(name)) {
    throw new RangeError(`Cannot arm crash point "${name}": there is none of that name`);
  }
  armed = name;
  remaining = nth;
  signal = action === "stop" ? signals.SIGSTOP : signals.SIGKILL;
}

/** Reads `GEVENTMP_CRASH`, once, when an agent joins. */
export function armCrashFromEnvironment(): void {
  const text = getenv("GEVENTMP_CRASH");
  if (text === null || text === "") return;
  const [name, nth, action] = text.split(":");
  armCrash(name as CrashPoint, nth ? Number(nth) : 1, action === "stop" ? "stop" : "kill");
}

/** A place where a test can kill this process. */
export function crashPoint(name: CrashPoint): void {
  if (armed !== null) reached(name);
}

function reached(name: CrashPoint): void {
  if (armed !== name || --remaining > 0) return;
  armed = null;
  killProcess(processId(), signal);
}
