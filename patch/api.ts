/**
 * Patching by hand. Importing this module changes nothing.
 *
 * @module
 */
import { patchBunSpawnSync } from "./bun_spawn_sync.ts";
import { patchChildProcess } from "./child_process.ts";
import { patchDenoCommand } from "./deno_command.ts";
import { obstacle, variable } from "./environment.ts";
import { onLoopBlocked } from "./loop_blocked.ts";
import { type AnyFunction, state, warnOnce } from "./state.ts";

export { type LoopBlocked, type LoopBlockedOptions, onLoopBlocked } from "./loop_blocked.ts";
export type { AnyFunction } from "./state.ts";

/** What {@linkcode isPatched} can be asked about. */
export type PatchTarget = "Deno.Command" | "Bun.spawnSync" | "node:child_process";

/** What {@linkcode original} can give. */
export type PatchedFunction =
  | "Deno.Command.prototype.outputSync"
  | "Bun.spawnSync"
  | "node:child_process.spawnSync"
  | "node:child_process.execSync"
  | "node:child_process.execFileSync";

/** What {@linkcode patchAll} patches. */
export interface PatchOptions {
  /**
   * The calls that start a program and block until it has ended. `true` also loads `node:child_process` on Deno to patch it (about 20 ms);
   * by default that waits until the program itself reads `process`, and named imports made before keep the unpatched functions.
   *
   * @default what costs nothing
   */
  subprocess?: boolean;
  /** Workers: not available in this version, so only `false` is accepted. @default false */
  worker?: boolean;
  /** Joining and patching child processes: not available in this version, so only `false` is accepted. @default false */
  children?: boolean;
  /** Whether anything is patched at all. @default true, unless `GEVENTMP` is `0` in the environment */
  geventmp?: boolean;
}

const OPTIONS = ["subprocess", "worker", "children", "geventmp"];
const NOT_AVAILABLE = ["worker", "children"] as const;

/**
 * Patches the runtime's own calls in this agent, once: synchronous subprocess calls (`Deno.Command`'s `outputSync`, `Deno.spawnAndWaitSync`, `Bun.spawnSync`,
 * `spawnSync`, `execSync` and `execFileSync` of `node:child_process`) then serve the session while they block. They hold the event loop as before, but
 * what the session would grant to this agent meanwhile goes to others. Results, errors and exit codes stay as they are.
 *
 * Where the ffi permission is missing, or the system is neither Linux nor macOS, it says so once on stderr and patches nothing. It never prompts.
 *
 * @param options what to patch
 * @throws {RangeError} an option asks for what is not available in this version, or is unknown
 */
export function patchAll(options: PatchOptions = {}): void {
  for (const key of Object.keys(options)) {
    if (!OPTIONS.includes(key)) {
      throw new RangeError(`Cannot patch: there is no option "${key}"; there are ${OPTIONS.join(", ")}`);
    }
  }
  for (const key of NOT_AVAILABLE) {
    if (options[key]) {
      throw new RangeError(
        `Cannot patch with { ${key}: true }: it is not available in this version; leave it out`,
      );
    }
  }
  if (!(options.geventmp ?? variable("GEVENTMP") !== "0")) return;
  const why = obstacle();
  if (why !== null) return warnOnce(`nothing is patched: ${why}, or set GEVENTMP=0`);
  warnOfBlocking();
  if (options.subprocess ?? true) patchSubprocesses(options.subprocess === true);
}

function patchSubprocesses(atOnce: boolean): void {
  const { Bun, Deno } = globalThis as {
    Bun?: Parameters<typeof patchBunSpawnSync>[0];
    Deno?: Parameters<typeof patchDenoCommand>[0];
  };
  // A Bun program may define a `Deno` global as a shim, so Bun is looked for first.
  if (Bun !== undefined) return patchBunSpawnSync(Bun);
  if (Deno === undefined) return;
  patchDenoCommand(Deno);
  patchChildProcess(atOnce);
}

/** `GEVENTMP_WARN_BLOCKING`: {@linkcode onLoopBlocked} for who cannot change the program. */
function warnOfBlocking(): void {
  const text = variable("GEVENTMP_WARN_BLOCKING");
  const { said } = state();
  if (text === null || text === "" || said.has("blocking")) return;
  said.add("blocking");
  const threshold = Number(text);
  if (!(threshold >= 0)) {
    return warnOnce(`GEVENTMP_WARN_BLOCKING must be a number of milliseconds, and it is "${text}"`);
  }
  onLoopBlocked(
    ({ what, duration, stack }) =>
      console.warn(`geventmp: ${what} blocked the event loop for ${duration.toFixed(0)} ms\n${stack}`),
    { threshold },
  );
}

/**
 * Whether something is patched in this agent.
 *
 * @param what a class, function or module; without it: anything
 */
export function isPatched(what?: PatchTarget): boolean {
  const { targets } = state();
  return what === undefined ? targets.size > 0 : targets.get(what)?.patched === true;
}

/**
 * What stood in a patched function's place before.
 *
 * @param what the function, as one writes it
 * @throws {RangeError} it is not patched in this agent
 */
export function original(what: PatchedFunction): AnyFunction {
  const { originals, targets } = state();
  if (!originals.has(what)) {
    for (const [name, target] of targets) if (what.startsWith(`${name}.`)) target.finish();
  }
  const found = originals.get(what);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot give the original of ${what}: it is not patched here; patched are ${
      [...targets.keys()].join(", ") || "none, call patchAll() first"
    }`,
  );
}
