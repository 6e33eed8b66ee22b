/**
 * Signals to a process and all that it started.
 *
 * @module
 */
import { killProcess } from "../platform/mod.ts";
import { agentAt } from "./core/agents.ts";
import { A_PARENT, A_PID } from "./core/layout.ts";
import type { Session } from "./core/session.ts";

/**
 * Signals a child, then what descends from it, until nobody new is found: from the top down, because what has not had the signal yet may start
 * more.
 *
 * @param token of the child
 * @param pid of the child
 * @param group whether it leads a process group, for those who did not join the session
 */
export function signalTree(
  session: Session,
  token: number,
  pid: number,
  signal: number,
  group: boolean,
): void {
  // Who is dead and reaped is no longer in the table, so whom it started must be known by then.
  const tree = new Map([[token, pid]]);
  grow(session, tree);
  killProcess(pid, signal);
  if (group) killProcess(-pid, signal);
  const told = new Set([pid]);
  do {
    for (const each of tree.values()) {
      if (told.has(each)) continue;
      told.add(each);
      killProcess(each, signal);
    }
  } while (grow(session, tree));
}

/** Adds living agents whose parent is in the tree. Whether there were any. */
function grow(session: Session, tree: Map<number, number>): boolean {
  const m = session.arena.i32;
  const before = tree.size;
  for (let size = -1; size !== tree.size;) {
    size = tree.size;
    for (const token of session.agents.all()) {
      const at = agentAt(token);
      if (tree.has(token) || !tree.has(m[at + A_PARENT]) || session.agents.isDead(token)) continue;
      const pid = Atomics.load(m, at + A_PID);
      // 0 when it left meanwhile; to signal that would be to signal this process's own group.
      if (pid > 0) tree.set(token, pid);
    }
  }
  return tree.size > before;
}
