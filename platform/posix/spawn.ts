/**
 * Starting a program by posix_spawn, which shares no memory with the child and so is safe in a process of many threads.
 *
 * @module
 */
import { cString, cStringArray, keepAlive, symbolAddress, SystemError } from "../../ffi/mod.ts";
import { linuxLibc } from "../linux/symbols.ts";
import { fallbacksForced } from "./environment.ts";
import { duplicate, isCloexec } from "./files.ts";
import { constants, libc, libraries, osName, signals, structs } from "./system.ts";

/** What to start, and how. */
export interface SpawnOptions {
  /** The program's path. A relative one is looked for in `cwd`; PATH is not searched. */
  readonly file: string;
  /** The program's arguments, its own name first. */
  readonly argv: readonly string[];
  /** The child's whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** The child's working folder. @default this process's */
  readonly cwd?: string;
  /**
   * Which descriptors the child gets: its number for one, then this process's, or "null" for /dev/null. Any other
   * descriptor is inherited only if it is not closed on exec; 0, 1 and 2 usually are not.
   *
   * @default none
   */
  readonly fds?: readonly (readonly [childFd: number, parentFd: number | "null"])[];
  /**
   * Whether the child loses every descriptor from 3 on that `fds` does not name, also those that are not closed on
   * exec.
   *
   * @default false
   */
  readonly closeOthers?: boolean;
  /** Whether the child leads a process group of its own. @default false */
  readonly processGroup?: boolean;
  /**
   * Whether the child starts with every signal unblocked and handled by default. Runtimes ignore SIGPIPE, and an
   * ignored signal stays ignored in a child.
   *
   * @default true
   */
  readonly resetSignals?: boolean;
}

/**
 * Starts a program. Reap it with `waitProcess`: no runtime reaps a child that it did not start.
 *
 * @param options what and how
 * @returns the child's process number
 * @throws {SystemError} ENOENT, EACCES, EAGAIN, … naming the program
 */
export function spawn(options: SpawnOptions): number {
  const file = cString(options.file);
  const argv = cStringArray(options.argv);
  const envp = cStringArray(Object.keys(options.env).map((name) => `${name}=${options.env[name]}`));
  const actions = new FileActions();
  const attributes = new Attributes();
  const pid = new Int32Array(1);
  try {
    actions.add(options);
    attributes.set(options);
    const code = libc.posix_spawn(pid, file, actions.bytes, attributes.bytes, argv.pointers, envp.pointers);
    if (code !== 0) {
      throw new SystemError(
        "posix_spawn",
        code,
        options.cwd === undefined ? options.file : `${options.file} in ${options.cwd}`,
      );
    }
    return pid[0];
  } finally {
    actions.destroy();
    attributes.destroy();
    keepAlive(file, argv, envp);
  }
}

/** posix_spawn and its helpers return the error number and leave errno alone. */
function demand(syscall: string, code: number, detail?: string): void {
  if (code !== 0) throw new SystemError(syscall, code, detail);
}

/** What happens to descriptors and the working folder in the child, before the program starts. */
class FileActions {
  readonly bytes = new Uint8Array(structs["posix_spawn_file_actions_t"].size);
  /** Descriptors of this process that exist only until the child has started. */
  readonly #temporary: number[] = [];
  /** Texts that libc may read until posix_spawn returns. */
  readonly #texts: Uint8Array[] = [];

  constructor() {
    demand("posix_spawn_file_actions_init", libc.posix_spawn_file_actions_init(this.bytes));
  }

  add({ fds = [], cwd, closeOthers = false }: SpawnOptions): void {
    const highest = fds.reduce((top, [childFd]) => Math.max(top, childFd), 2);
    const targets = new Set(fds.map(([childFd]) => childFd));
    for (const [childFd, parentFd] of fds) {
      if (parentFd === "null") {
        const path = cString("/dev/null");
        this.#texts.push(path);
        demand(
          "posix_spawn_file_actions_addopen",
          libc.posix_spawn_file_actions_addopen(this.bytes, childFd, path, constants.O_RDWR, 0),
        );
        continue;
      }
      // An earlier dup2 may have overwritten this number; and a dup2 onto itself would leave close-on-exec set.
      // A copy above all targets is free of both.
      let source = parentFd;
      if (targets.has(parentFd)) {
        source = duplicate(parentFd, highest + 1);
        this.#temporary.push(source);
      }
      demand(
        "posix_spawn_file_actions_adddup2",
        libc.posix_spawn_file_actions_adddup2(this.bytes, source, childFd),
        `descriptor ${parentFd} as ${childFd}`,
      );
    }
    if (closeOthers) this.#closeOthers(targets, highest);
    if (cwd !== undefined) {
      const path = cString(cwd);
      this.#texts.push(path);
      demand(
        "posix_spawn_file_actions_addchdir_np",
        libc.posix_spawn_file_actions_addchdir_np(this.bytes, path),
        cwd,
      );
    }
  }

  #closeOthers(targets: ReadonlySet<number>, highest: number): void {
    const first = highest + 1;
    const closesFrom = hasCloseFrom();
    const open = closesFrom ? Array.from({ length: highest - 2 }, (_, i) => i + 3) : openDescriptors();
    for (const fd of open) {
      if (fd > 2 && !targets.has(fd) && isCloexec(fd) === false) {
        demand(
          "posix_spawn_file_actions_addclose",
          libc.posix_spawn_file_actions_addclose(this.bytes, fd),
          `of ${fd}`,
        );
      }
    }
    if (closesFrom) {
      demand(
        "posix_spawn_file_actions_addclosefrom_np",
        linuxLibc.posix_spawn_file_actions_addclosefrom_np(this.bytes, first),
        `from ${first} on`,
      );
    }
  }

  destroy(): void {
    libc.posix_spawn_file_actions_destroy(this.bytes);
    for (const fd of this.#temporary) libc.close(fd);
    keepAlive(this.#texts);
  }
}

let closeFrom: boolean | undefined;

/** Whether libc closes all descriptors of the child by one action: glibc since 2.34. Elsewhere the parent looks which are open. */
function hasCloseFrom(): boolean {
  return closeFrom ??= osName === "linux" && !fallbacksForced() &&
    symbolAddress(libraries(), "posix_spawn_file_actions_addclosefrom_np") !== null;
}

/**
 * What the first {@linkcode spawn} would bind, 3 to 5 ms on Deno in all, in pieces: a caller whose loop must not stall runs them one by one
 * beforehand.
 */
export const spawnPreparation: readonly (() => unknown)[] = [
  () => libc.posix_spawn,
  hasCloseFrom,
  () => closeFrom === true && linuxLibc.posix_spawn_file_actions_addclosefrom_np,
  () => libc.posix_spawn_file_actions_adddup2,
  () => new FileActions().destroy(),
  () => {
    const attributes = new Attributes();
    attributes.set({});
    attributes.destroy();
  },
];

/** A table of more descriptors than this is not looked through. */
const MOST_DESCRIPTORS = 65536;

/** The descriptors that are open in this process: one poll call answers POLLNVAL for each that is not. */
function openDescriptors(): number[] {
  const limit = libc.sysconf(constants._SC_OPEN_MAX);
  const count = limit <= 0 ? 1024 : Math.min(limit, MOST_DESCRIPTORS);
  const layout = structs["struct pollfd"];
  const entries = new DataView(new ArrayBuffer(count * layout.size));
  for (let fd = 0; fd < count; fd++) entries.setInt32(fd * layout.size + layout.fd, fd, true);
  if (libc.poll(entries, count, 0) < 0) return [];
  const found: number[] = [];
  for (let fd = 0; fd < count; fd++) {
    const events = entries.getInt16(fd * layout.size + layout.revents, true);
    if ((events & constants.POLLNVAL) === 0) found.push(fd);
  }
  return found;
}

/** How the child's signals and process group begin. */
class Attributes {
  readonly bytes = new Uint8Array(structs["posix_spawnattr_t"].size);

  constructor() {
    demand("posix_spawnattr_init", libc.posix_spawnattr_init(this.bytes));
  }

  set(
    { processGroup = false, resetSignals = true }: Pick<SpawnOptions, "processGroup" | "resetSignals">,
  ): void {
    let flags = 0;
    if (processGroup) {
      flags |= constants.POSIX_SPAWN_SETPGROUP;
      // 0: a group named after the child.
      demand("posix_spawnattr_setpgroup", libc.posix_spawnattr_setpgroup(this.bytes, 0));
    }
    if (resetSignals) {
      flags |= constants.POSIX_SPAWN_SETSIGDEF | constants.POSIX_SPAWN_SETSIGMASK;
      const none = new Uint8Array(structs["sigset_t"].size);
      const all = none.slice();
      for (let signal = 1; signal <= 31; signal++) {
        // The two that nobody can handle are errors to some systems.
        if (signal !== signals.SIGKILL && signal !== signals.SIGSTOP) {
          all[(signal - 1) >> 3] |= 1 << ((signal - 1) & 7);
        }
      }
      demand("posix_spawnattr_setsigdefault", libc.posix_spawnattr_setsigdefault(this.bytes, all));
      demand("posix_spawnattr_setsigmask", libc.posix_spawnattr_setsigmask(this.bytes, none));
    }
    demand("posix_spawnattr_setflags", libc.posix_spawnattr_setflags(this.bytes, flags));
  }

  destroy(): void {
    libc.posix_spawnattr_destroy(this.bytes);
  }
}
