/**
 * The launch record: what a parent tells the child that it starts. It lies in a block that both hold, and its number travels in the child's
 * environment, so that nothing of it stands in an argument list.
 *
 * @module
 */
import { decode, encode, type HandleId, kHandle } from "./codec/mod.ts";
import { getenv } from "../platform/mod.ts";
import { revive } from "./core/handle.ts";
import { K_LAUNCH, LA_BYTES, LA_DATA } from "./core/layout.ts";
import type { Session } from "./core/session.ts";
import { SessionError } from "./errors.ts";
import type { StartMethod } from "./start_method.ts";
import type { TaskReference } from "./task.ts";

const LAUNCH_VARIABLE = "GEVENTMP_LAUNCH";

/** What the child is told. */
export interface Launch {
  /** The process's name. */
  readonly name: string;
  /** Its place among its parent's children, behind its parent's own. */
  readonly identity: readonly number[];
  readonly daemon: boolean;
  readonly startMethod: StartMethod;
  /** Whether a main thread started it: only then may the system's parent-death signal be used. */
  readonly byMainThread: boolean;
  readonly parent: { readonly name: string; readonly pid: number };
  /** The module that it loads. */
  readonly module: string;
  /** The task that it runs; null: the module's default export, or the module itself, unless there is a `type`. */
  readonly task: TaskReference | null;
  readonly args: readonly unknown[];
  /** The subclass of Process whose `run` it runs, and the object's fields. */
  readonly type: TaskReference | null;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** A launch record that a child can be given. */
export interface Prepared {
  /** Hands it, and all handles in it, to the child, and lets go of it. Returns what the child's environment must have. */
  handOver(child: number): Record<string, string>;
  /** Lets go of it. */
  cancel(): void;
}

/** Writes a launch record. @throws {TypeError} an argument cannot be copied; the message says where in it */
export function prepareLaunch(session: Session, launch: Launch): Prepared {
  const message = encode(launch);
  const { arena, references } = session;
  const { block, generation } = references.create(K_LAUNCH, LA_DATA * 4 + message.byteLength, (at) => {
    arena.i32[at + LA_BYTES] = message.byteLength;
    message.writeTo(arena.u8, (at + LA_DATA) * 4);
  });
  const carried = message.handles.map((handle) => (handle as { [kHandle](): HandleId })[kHandle]().block);
  return {
    handOver(child) {
      for (const handle of carried) references.claim(handle, child);
      references.claim(block, child);
      references.release(block);
      return { [LAUNCH_VARIABLE]: `${block}.${generation}` };
    },
    cancel: () => references.release(block),
  };
}

/** Reads this process's launch record, once. @throws {SessionError} there is none */
export function takeLaunch(session: Session): Launch {
  const [block, generation] = (getenv(LAUNCH_VARIABLE) ?? "").split(".").map(Number);
  const { arena, references } = session;
  if (!(block > 0) || !arena.isLive(block, generation) || arena.kind(block) !== K_LAUNCH) {
    throw new SessionError(
      "Cannot start: this process was not started by Process.start(), or its parent is gone; do not run the bootstrap module by hand",
    );
  }
  references.hold(block);
  try {
    return decode(arena.u8, (block + LA_DATA) * 4, arena.i32[block + LA_BYTES], revive) as Launch;
  } finally {
    references.release(block);
  }
}
