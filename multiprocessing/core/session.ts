/**
 * The session: a process and all descendants that joined it, and this agent's membership in it.
 *
 * A session's memory is a file without a name (a memfd; on Darwin a file in a folder that only this user may enter). Children of ours inherit a
 * descriptor of it, on which their parent has already taken their life lock; other descendants learn from `GEVENTMP_SESSION` where a member
 * holds one open.
 *
 * @module
 */
import {
  closeAbandoned,
  closeFd,
  createShared,
  executablePath,
  extend,
  fileIdentity,
  fillRandom,
  getenv,
  getSharedEnv,
  isByteLocked,
  killProcess,
  lockByte,
  mapShared,
  onlineCpus,
  openOf,
  processId,
  removeFile,
  removeShared,
  reopen,
  sealShrink,
  setCloexec,
  setSharedEnv,
  sharedPath,
  signals,
  sleepSync,
  sweepShared,
  threadId,
  threadStartTime,
  unmapShared,
  unsetSharedEnv,
} from "../../platform/mod.ts";
import { isMainThread } from "../../platform/runtime/globals.ts";
import {
  type Doorbell,
  Interval,
  onExit,
  openDoorbell,
  Ringers,
  type Sentinel,
} from "../../platform/runtime/loop.ts";
import { SessionError } from "../errors.ts";
import { Arena, type ArenaUse } from "./arena.ts";
import { agentAt, Agents } from "./agents.ts";
import { now, setTimeout } from "./clock.ts";
import { armCrashFromEnvironment } from "./crash.ts";
import {
  A_BELL_INFO,
  A_GEN,
  A_KIND,
  A_LEAVING,
  A_PARENT,
  A_PID,
  A_TID,
  A_TSTART,
  AGENTS,
  FIRST_SPAN,
  H_CAP,
  H_EXTENT,
  H_LAYOUT,
  H_MAGIC,
  H_NONCE,
  KIND_PIPE,
  KIND_WORKER,
  LAYOUT,
  MAGIC,
  MAX_SPANS,
  SPAN_BYTES,
  SPANS,
  TOKEN_SLOT_BITS,
  TOKEN_SLOT_MASK,
} from "./layout.ts";
import { holders } from "./holders.ts";
import { hasNames, removeNames } from "./names.ts";
import { References } from "./references.ts";
import { TICK_MS, Waits } from "./waits.ts";
import type { Window } from "./windows.ts";

/** Where {@linkcode spawnRecord} has a child find its arena and its sentinel. */
export const CHILD_ARENA_FD = 3;
export const CHILD_SENTINEL_FD = 4;

/** Most that the arena may grow to. On Deno a mapping of 1 GiB and more costs every process a collection of 2 ms, as V8 counts it as its own. */
const DEFAULT_CAP_MIB = 512;
/** One ArrayBuffer shows it all, and Bun's end at 4 GiB. */
const LARGEST_CAP_MIB = 4096;
const SESSION_VARIABLE = "GEVENTMP_SESSION";
const CHILD_VARIABLE = "GEVENTMP_CHILD";
const PAGE = 4096;
/** How long a process that ends waits for its daemons, when something is left to do for the last member. */
const DAEMONS_END_MS = 100;

/** Where somebody holds the arena open. */
interface Member {
  readonly pid: number;
  readonly fd: number;
}

/**
 * What `GEVENTMP_SESSION` says: layout:nonce:cap in MiB:spawner:root:path, a member as pid.fd. A pid may be another process by now: what is opened
 * through it counts only if it begins with the nonce.
 */
interface SessionRecord {
  readonly layout: number;
  readonly nonce: string;
  readonly cap: number;
  readonly spawner: Member;
  readonly root: Member;
  readonly path: string | undefined;
}

function parseMember(text: string | undefined): Member {
  const [pid, fd] = (text ?? "").split(".").map(Number);
  return { pid, fd };
}

function isCap(mib: number): boolean {
  return Number.isInteger(mib) && mib >= 1 && mib <= LARGEST_CAP_MIB;
}

function parseRecord(text: string): SessionRecord | null {
  const [layout, nonce, cap, spawner, root, ...path] = text.split(":");
  const record = {
    layout: Number(layout),
    nonce,
    cap: Number(cap),
    spawner: parseMember(spawner),
    root: parseMember(root),
    path: path.length > 0 ? path.join(":") : undefined,
  };
  return /^[0-9a-f]{32}$/.test(nonce ?? "") && record.layout > 0 && isCap(record.cap) ? record : null;
}

/** This agent's membership in a session. */
export class Session {
  /** Whether it was joined, rather than made by this agent. */
  readonly inherited: boolean;
  readonly arena: Arena;
  readonly agents: Agents;
  readonly references: References;
  readonly waits: Waits;
  /** This agent's token. */
  readonly token: number;
  readonly ringers: Ringers;
  readonly #nonce: string;
  readonly #cap: number;
  readonly #path: string | null;
  readonly #root: Member;
  #doorbell: Doorbell | undefined;
  /** Whether its maker has sealed the file, or others are to. */
  #sealed: boolean;
  /** Whether this agent has left. */
  closed = false;
  readonly #exits: (() => void)[] = [];
  /** What shows memory that this agent's end in the session takes away. */
  readonly windows: Set<Window> = new Set();
  /** Numbers of the children that end with this process. */
  readonly daemons: Set<number> = new Set();
  readonly #closers = new Set<() => void | Promise<void>>();

  private constructor(
    fd: number,
    o: { inherited: boolean; slot: number; cap: number; root: Member | undefined; path: string | null },
  ) {
    this.inherited = o.inherited;
    const arena = this.arena = new Arena(fd, o.cap * 2 ** 20);
    this.#cap = o.cap;
    const m = arena.i32;
    if (!o.inherited) initialize(arena);
    this.#nonce = nonceOf(m);
    this.#path = o.path;
    this.#sealed = o.inherited;
    this.references = new References(arena, () => {
      for (const install of installers) install(this);
    });
    this.agents = new Agents(arena, this.references.scrub, (dead) => {
      this.ringers.forget(dead);
      if (this.#path !== null) removeFile(this.#bellName(dead));
      this.waits.ringAll();
    });
    this.ringers = new Ringers(() => nonceBytes(arena));
    this.waits = new Waits(arena, this.agents, {
      heartbeat: new Interval(TICK_MS),
      openBell: () => void this.doorbell,
      ring: (token, kind) => this.ringers.ring(token, kind, this.#bellName),
      hold: (block) => void this.references.hold(block),
      release: (block) => this.references.release(block),
      mayBlock: !isMainThread(),
      cpus: onlineCpus,
    });
    const pid = processId();
    if (o.slot >= 0) {
      arena.token = (Atomics.load(m, AGENTS + o.slot * 16 + A_GEN) << TOKEN_SLOT_BITS) | o.slot;
      arena.slot = o.slot;
      m[agentAt(arena.token) + A_PID] = pid;
    } else {
      arena.slot = -1;
      arena.token = this.agents.take(fd, 0);
      arena.slot = arena.token & TOKEN_SLOT_MASK;
    }
    this.token = arena.token;
    if (!isMainThread()) {
      const at = agentAt(this.token);
      m[at + A_TID] = threadId();
      m[at + A_TSTART] = (threadStartTime(pid, m[at + A_TID]) ?? 0) | 0;
      Atomics.store(m, at + A_KIND, KIND_WORKER);
      this.agents.onWorkerGone = undefined;
    }
    this.agents.onWorkerGone = closeAbandoned;
    this.#root = o.root ?? { pid, fd };
    // Programs that no Process of ours started have no parent that reaps them.
    if (o.inherited && o.slot < 0) this.agents.reapAll();
    // A memfd goes with its last member; what has a name must be removed by it.
    onExit(() => this.leave());
  }

  /** Joins the session that the environment names, or makes one. */
  static open(): Session {
    armCrashFromEnvironment();
    const text = getSharedEnv(SESSION_VARIABLE);
    const record = text === null || text === "" ? null : parseRecord(text);
    const joined = record === null ? null : Session.#join(record);
    if (joined !== null) return joined;
    const made = Session.#make();
    // Two agents of one process may come here at once: the variable's first writer wins.
    const own = made.record();
    setSharedEnv(SESSION_VARIABLE, own, text !== null);
    const winner = getSharedEnv(SESSION_VARIABLE);
    if (winner === own) return made;
    const now = parseRecord(winner ?? "");
    if (now === null || now.nonce === made.#nonce) return made;
    const other = Session.#join(now);
    if (other === null) return made;
    made.#leave();
    return other;
  }

  static #make(): Session {
    const fd = createShared("geventmp");
    const path = sharedPath(fd);
    if (path !== null) sweepShared(path);
    extend(fd, 0, PAGE);
    extend(fd, AGENTS * 4, PAGE);
    extend(fd, SPANS * 4, PAGE);
    extend(fd, FIRST_SPAN * SPAN_BYTES, 4 * SPAN_BYTES);
    return new Session(fd, {
      inherited: false,
      slot: -1,
      cap: ownCap(),
      root: undefined,
      path,
    });
  }

  static #join(record: SessionRecord): Session | null {
    const child = parseChild(getenv(CHILD_VARIABLE));
    const { fd, slot } = (child !== null && isMainThread() ? inheritedArena(record, child) : null) ??
      openThroughMember(record);
    if (fd < 0) return null;
    if (record.layout !== LAYOUT) {
      closeFd(fd);
      throw new SessionError(
        `Cannot join the session of process ${record.root.pid}: its shared memory has layout version ${record.layout}, and this program (${executablePath()}) has version ${LAYOUT} of @karellen/geventmp; use one version in all processes of a session, or start this one without ${SESSION_VARIABLE} in its environment`,
      );
    }
    const session = new Session(fd, {
      inherited: true,
      slot,
      cap: record.cap,
      root: record.root,
      path: record.path ?? null,
    });
    if (slot < 0 && session.#isAlone()) {
      // A file with a path outlives a session whose members were all killed, until it is swept. This removes it.
      session.#leave();
      return null;
    }
    // From here on our own descendants look here first.
    setSharedEnv(SESSION_VARIABLE, session.record(), true);
    return session;
  }

  /** What a descendant needs to join, as `GEVENTMP_SESSION`. */
  record(): string {
    const { pid, fd } = this.#root;
    return `${LAYOUT}:${this.#nonce}:${this.#cap}:${processId()}.${this.arena.fd}:${pid}.${fd}${
      this.#path === null ? "" : `:${this.#path}`
    }`;
  }

  /**
   * Takes a place for a child that is about to be started: a descriptor which the child inherits, and on which its life is locked already.
   */
  reserve(): { fd: number; token: number; env: Record<string, string> } {
    // Only others could shrink the file under us.
    if (!this.#sealed) sealShrink(this.arena.fd);
    this.#sealed = true;
    const fd = reopen(this.arena.fd, this.#path ?? undefined);
    const token = this.agents.take(fd, this.token);
    return { fd, token, env: { [SESSION_VARIABLE]: this.record(), [CHILD_VARIABLE]: String(token) } };
  }

  /** This agent's doorbell, opened at first use. */
  get doorbell(): Doorbell {
    if (this.#doorbell === undefined) {
      const m = this.arena.i32;
      const at = agentAt(this.token);
      const bell = openDoorbell(
        this.#bellName(this.token),
        nonceBytes(this.arena),
        () => this.waits.rung(),
      );
      this.#doorbell = bell;
      this.ringers.prepare(bell.kind, this.#bellName(this.token));
      m[at + A_BELL_INFO] = bell.info;
      Atomics.store(m, at + A_KIND, bell.kind | (m[at + A_KIND] & KIND_WORKER));
    }
    return this.#doorbell;
  }

  /** Has the loop watch a child's end. */
  watch(onClose: () => void): Sentinel {
    return this.doorbell.watch(onClose);
  }

  readonly #bellName = (token: number): string => {
    const m = this.arena.i32;
    const at = agentAt(token);
    if ((m[at + A_KIND] & 0xff) === KIND_PIPE) return `/proc/${m[at + A_PID]}/fd/${m[at + A_BELL_INFO]}`;
    const name = `${token & TOKEN_SLOT_MASK}-${token >>> TOKEN_SLOT_BITS}`;
    return this.#path === null
      ? `geventmp-${this.#nonce}-${name}`
      : `${this.#path.slice(0, this.#path.lastIndexOf("/"))}/${name}`;
  };

  /** What is done when the session ends in this agent. */
  onClose(closer: () => void | Promise<void>): () => void {
    this.#closers.add(closer);
    return () => this.#closers.delete(closer);
  }

  /** What is done when this process ends by itself or by an exit call: synchronously, and while the arena is still there. */
  atExit(work: () => void): void {
    this.#exits.push(work);
  }

  /** What the arena holds now, for tests and inspection. */
  use(): ArenaUse & { agents: number; held: number } {
    return { ...this.arena.use(), agents: this.agents.all().length, held: this.references.size };
  }

  /** The process of an agent, and whether it lives. */
  describe(token: number): { pid: number; alive: boolean; parent: number } {
    const at = agentAt(token);
    return {
      pid: this.arena.i32[at + A_PID],
      alive: !this.agents.isDead(token),
      parent: this.arena.i32[at + A_PARENT],
    };
  }

  /** Leaves: pending waits reject, nothing stays open. */
  async close(): Promise<void> {
    if (this.closed) return;
    for (const closer of [...this.#closers]) await closer();
    for (const closer of closers) closer();
    this.waits.close(new SessionError("Cannot go on waiting: the session was disposed in this agent"));
    // What the rejections set free still runs against the arena.
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
    this.#leave();
    await new Promise<void>((resolve) => setTimeout(resolve, 0));
  }

  /** What is to be done when the process ends, without waiting for anything. */
  leave(): void {
    if (this.closed) return;
    for (const work of this.#exits) work();
    this.#exit();
  }

  #isAlone(): boolean {
    return this.agents.all().every((token) => this.agents.isDead(token) || token === this.token);
  }

  /** Whether something has a name that outlives the session unless its last member removes it. */
  get #hasLeftovers(): boolean {
    return this.#path !== null || hasNames(this.arena);
  }

  /** At the process's end. */
  #exit(): void {
    if (!this.#hasLeftovers) return;
    // They are killed by this end anyway, and could not do what the last member does.
    for (const pid of this.daemons) killProcess(pid, signals.SIGKILL);
    const patience = this.daemons.size > 0 ? DAEMONS_END_MS : 0;
    if (this.#path !== null) this.#leave(isMainThread(), patience);
    else if (this.#isLast(isMainThread(), patience)) removeNames(this.arena);
  }

  /**
   * Whether no other member is left who could remove what has a name. Of several that end at the same time, each says so before it looks at the
   * others: so at least one sees that it is the last.
   *
   * @param withProcess whether all agents of this process end with this one
   * @param patience how long others may take to end, in milliseconds
   */
  #isLast(withProcess: boolean, patience: number): boolean {
    const m = this.arena.i32;
    const pid = processId();
    for (const token of this.agents.all()) {
      const at = agentAt(token);
      if (token === this.token || (withProcess && m[at + A_PID] === pid)) Atomics.store(m, at + A_LEAVING, 1);
    }
    const staying = (token: number): boolean =>
      Atomics.load(m, agentAt(token) + A_LEAVING) === 0 && !this.agents.isDead(token);
    for (const until = now() + patience; this.agents.all().some(staying);) {
      if (now() >= until) return false;
      sleepSync(1);
    }
    return true;
  }

  #leave(withProcess = false, patience = 0): void {
    // Nobody else will reap who is dead by now; a terminated Worker of this process keeps a descriptor until then.
    if (this.#path !== null && this.#isAlone()) this.agents.reapAll();
    this.waits.close(new SessionError("Cannot go on waiting: this agent left the session"));
    const last = this.#hasLeftovers && this.#isLast(withProcess, patience);
    if (last) removeNames(this.arena);
    this.closed = true;
    holders().delete(this.waits);
    for (const window of [...this.windows]) window.close();
    this.#doorbell?.close();
    if (this.#path !== null) removeFile(this.#bellName(this.token));
    this.ringers.close();
    this.arena.leave();
    this.agents.leave();
    closeFd(this.arena.fd);
    this.arena.unmap();
    // Refused while another member lives. What killed sessions left goes with the last one, or with the next that is made.
    if (this.#path !== null && removeShared(this.#path)) sweepShared(this.#path);
    if (!this.inherited) unsetSharedEnv(SESSION_VARIABLE);
  }
}

function initialize(arena: Arena): void {
  const m = arena.i32;
  fillRandom(arena.address + H_NONCE * 4, 16);
  m[H_EXTENT] = FIRST_SPAN + 4;
  m[H_CAP] = Math.min(MAX_SPANS, arena.buffer.byteLength / SPAN_BYTES);
  m[H_LAYOUT] = LAYOUT;
  Atomics.store(m, H_MAGIC, MAGIC);
}

function ownCap(): number {
  const text = getenv("GEVENTMP_ARENA_MIB");
  const mib = text === null || text === "" ? DEFAULT_CAP_MIB : Number(text);
  if (!isCap(mib)) {
    throw new RangeError(
      `Cannot make a session: GEVENTMP_ARENA_MIB must be a whole number of MiB from 1 to ${LARGEST_CAP_MIB}, and it is "${text}"`,
    );
  }
  return mib;
}

function nonceBytes(arena: Arena): Uint8Array {
  return arena.u8.slice(H_NONCE * 4, H_NONCE * 4 + 16);
}

function nonceOf(m: Int32Array): string {
  let text = "";
  for (let i = 0; i < 4; i++) text += (m[H_NONCE + i] >>> 0).toString(16).padStart(8, "0");
  return text;
}

function parseChild(text: string | null): number | null {
  const token = Number(text);
  return text !== null && Number.isInteger(token) && token > 0 ? token : null;
}

/** The descriptor that a parent of ours left at number 3, if this process is the child it was meant for. */
function inheritedArena(record: SessionRecord, token: number): { fd: number; slot: number } | null {
  try {
    if (!isArena(CHILD_ARENA_FD, record)) return null;
    setCloexec(CHILD_ARENA_FD, true);
    const slot = token & TOKEN_SLOT_MASK;
    // Ours is the description that holds the lock: to it the byte looks free, and taking it again changes nothing.
    if (isByteLocked(CHILD_ARENA_FD, slot) || !lockByte(CHILD_ARENA_FD, slot)) return null;
    return { fd: CHILD_ARENA_FD, slot };
  } catch {
    return null; // no such descriptor: an inherited environment only
  }
}

/** Opens the arena through a living member's descriptor; fd -1 when there is none, or it is not the arena that the record speaks of. */
function openThroughMember(record: SessionRecord): { fd: number; slot: number } {
  for (const { pid, fd: theirs } of [record.spawner, record.root]) {
    let fd: number;
    try {
      fd = pid === processId() ? reopen(theirs, record.path) : openOf(pid, theirs, record.path);
    } catch {
      continue; // gone meanwhile, another user's, or another pid namespace's
    }
    if (isArena(fd, record)) return { fd, slot: -1 };
    closeFd(fd);
  }
  return { fd: -1, slot: -1 };
}

function isArena(fd: number, record: SessionRecord): boolean {
  // What lies behind a file's end must not be touched.
  if (fileIdentity(fd).size < PAGE) return false;
  const header = mapShared(fd, PAGE);
  const m = new Int32Array(header.buffer);
  const same = m[H_MAGIC] === MAGIC && nonceOf(m) === record.nonce;
  unmapShared(header);
  return same;
}

let active: Session | undefined;

/** This agent's session: joined, or made, at first use. */
export function current(): Session {
  if (active === undefined || active.closed) holders().add((active = Session.open()).waits);
  return active;
}

const closers: (() => void)[] = [];

/** What is done whenever a session of this agent is disposed: for waits that are in no session. */
export function atClose(closer: () => void): void {
  closers.push(closer);
}

const installers: ((session: Session) => void)[] = [];

/** Has a kind of block register its rules in each session that this agent opens. */
export function onOpen(install: (session: Session) => void): void {
  installers.push(install);
}
