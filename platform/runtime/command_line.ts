/**
 * How to start another process of this same runtime: its executable, its flags, and the text of its main module.
 *
 * The main module is a data: URL on both runtimes, because it costs no more than a file (Deno 13.7 against 14.2 ms,
 * Bun 5.3 against 5.7 ms, start to exit), needs no file to exist, and because Deno loads what it imports, statically
 * or by a literal `import()`, as part of the program: without `--allow-read`. In the target's module `import.meta.main`
 * is therefore `false`, as `__name__` is not `"__main__"` in a child of CPython's multiprocessing, so a script
 * that starts its processes under `if (import.meta.main)` can be its own target.
 *
 * @module
 */
import { open, readCString, viewAt } from "../../ffi/mod.ts";
import { getenv } from "../posix/environment.ts";
import { readSmallFile } from "../posix/files.ts";
import { osName } from "../posix/system.ts";
import { type BunCommandLine, parseBunCommandLine } from "./bun_flags.ts";
import { type DenoCommandLine, discoverDenoConfig, parseDenoCommandLine } from "./deno_flags.ts";
import { isMainThread } from "./globals.ts";
import { denoPermissionFlags, expandPermissionSet, type PermissionQuery } from "./permissions.ts";

export { type BunCommandLine, parseBunCommandLine } from "./bun_flags.ts";
export {
  type DenoCommandLine,
  discoverDenoConfig,
  parseDenoCommandLine,
  type ReadText,
} from "./deno_flags.ts";
export { isMainThread } from "./globals.ts";
export { denoPermissionFlags, expandPermissionSet } from "./permissions.ts";
export type {
  DenoGrants,
  PermissionContext,
  PermissionKind,
  PermissionQuery,
  PermissionRequest,
} from "./permissions.ts";

interface DenoNamespace {
  readonly version: { readonly deno: string };
  readonly build: { readonly standalone?: boolean };
  readonly mainModule?: string;
  readonly permissions: { querySync: PermissionQuery };
  cwd(): string;
  execPath(): string;
}

interface BunNamespace {
  readonly version: string;
  readonly main: string;
  readonly isMainThread: boolean;
  pathToFileURL(path: string): URL;
}

interface Globals {
  readonly Deno?: DenoNamespace;
  readonly Bun?: BunNamespace;
  readonly process?: { readonly execPath: string; readonly execArgv: readonly string[]; cwd(): string };
}

const globals = globalThis as unknown as Globals;
// A Bun program may define a `Deno` global as a shim, so Bun is looked for first.
const bun = globals.Bun;
const deno = bun === undefined ? globals.Deno : undefined;

/** Which runtime this is. */
export const runtimeName: "deno" | "bun" = bun === undefined ? "deno" : "bun";

/** The runtime's version, for example `"2.9.6"`. */
export const runtimeVersion: string = bun?.version ?? deno?.version.deno ?? "";

/** Taken at load, before the program has a chance to change it: the command line's relative paths start here. */
const startFolder: string = currentFolder();

function currentFolder(): string {
  try {
    return deno === undefined ? globals.process?.cwd() ?? "/" : deno.cwd();
  } catch {
    // The folder is gone, so nothing relative to it exists either.
    return "/";
  }
}

/**
 * The URL of the module that this process was started with.
 *
 * @returns `null` where no other process could load it: in a Worker on Deno, `-e`, standard input, a compiled
 *   executable, and under `deno test`, which has a main module of its own
 */
export function mainModuleUrl(): string | null {
  if (deno !== undefined) {
    const url = deno.mainModule;
    return url === undefined || url.includes("/$deno$") || isCompiled() ? null : url;
  }
  const main = bun?.main ?? "";
  if (main.startsWith("data:") || main.startsWith("/data:")) return main.replace(/^\//, "");
  if (main === "" || isCompiled() || /\/\[(?:eval|stdin)\]$/.test(main)) return null;
  return bun?.pathToFileURL(main).href ?? null;
}

/** Whether the program is an executable of its own, made by `deno compile` or `bun build --compile`. */
function isCompiled(): boolean {
  if (deno !== undefined) return deno.build.standalone === true;
  return bun?.main.startsWith("/$bunfs/") === true;
}

/**
 * Reads this process's command line as the system holds it, without a permission but ffi.
 *
 * @returns the arguments, the executable first; `null` where the system does not tell
 */
export function ownArguments(): string[] | null {
  if (osName === "darwin") return darwinArguments();
  try {
    const words = new TextDecoder().decode(readSmallFile("/proc/self/cmdline")).split("\0");
    words.pop();
    return words;
  } catch {
    return null;
  }
}

function darwinArguments(): string[] {
  const crt = open("/usr/lib/libSystem.B.dylib", {
    // int *_NSGetArgc(void);
    _NSGetArgc: { parameters: [], result: "address" },
    // char ***_NSGetArgv(void);
    _NSGetArgv: { parameters: [], result: "address" },
  });
  const count = new Int32Array(viewAt(crt._NSGetArgc(), 4))[0];
  const table = Number(new BigUint64Array(viewAt(crt._NSGetArgv(), 8))[0]);
  const pointers = new BigUint64Array(viewAt(table, count * 8));
  return Array.from(pointers, (pointer) => readCString(Number(pointer)));
}

/**
 * Writes a child's main module: it loads the bootstrap, then hands it a function that loads the target, so that the
 * bootstrap runs first and can report a target that does not exist or throws.
 *
 * @param bootstrapUrl the module whose `run(load?)` takes over; file:, https:, or wherever this package was loaded from
 * @param targetUrl the target's module; `null` leaves `load` out, for a child that is told its target later
 * @returns the module as a data: URL
 * @throws {TypeError} when another process cannot load one of the two: a blob: URL, a file inside an executable
 */
export function childMain(bootstrapUrl: string, targetUrl: string | null): { main: string } {
  const bootstrap = JSON.stringify(loadable(bootstrapUrl));
  const load = targetUrl === null ? "" : `()=>import(${JSON.stringify(loadable(targetUrl))})`;
  const text = encodeURIComponent(`import{run}from${bootstrap};run(${load});`);
  return { main: withoutDots(`data:text/javascript,${text}`) };
}

/** Bun takes what follows the last dot of a data: URL for a file extension, and a module of an unknown one for an asset. */
function withoutDots(url: string): string {
  return url.replaceAll(".", "%2E");
}

function loadable(url: string): string {
  const { href, protocol } = new URL(url);
  if (protocol === "blob:") {
    throw new TypeError(
      `Cannot load ${href} in a child process: a blob: URL exists in its own process only; use a file: or data: URL`,
    );
  }
  if (bun !== undefined && ["npm:", "jsr:", "http:", "https:"].includes(protocol)) {
    throw new TypeError(
      `Cannot load ${href} in a child process: Bun loads no ${protocol} URL; install the package and pass a file: URL, ` +
        `new URL(import.meta.resolve("<package>"))`,
    );
  }
  if (/\/(?:\$deno\$(?:eval|stdin)[^/]*|(?:\[|%5B)(?:eval|stdin)(?:\]|%5D))$/.test(href)) {
    throw new TypeError(
      `Cannot load ${href} in a child process: the program was given by -e or on standard input, so no other process ` +
        `can read it; move the target to a file`,
    );
  }
  if (href.includes("/$bunfs/")) {
    throw new TypeError(
      `Cannot load ${href} in a child process: the module is inside an executable made by "bun build --compile"; ` +
        `keep the target and this package outside of it (--external), or run the program with "bun run"`,
    );
  }
  return protocol === "data:" ? withoutDots(href) : href;
}

/** What to start. */
export interface ChildCommandOptions {
  /** The main module: a data: or file: URL, as {@linkcode childMain} makes one. */
  readonly main: string;
}

/** A process to start. */
export interface ChildCommand {
  /** The executable's absolute path. */
  readonly file: string;
  /** Its arguments, the executable first. */
  readonly argv: string[];
  /** Variables that the environment must have besides. */
  readonly env: Record<string, string>;
}

let ownBun: BunCommandLine | undefined;
let ownDeno: DenoCommandLine | undefined;
let ownConfig: { config: string | null; flags: string[] } | undefined;

function bunCommandLine(): BunCommandLine {
  return ownBun ??= parseBunCommandLine(
    ownArguments(),
    globals.process?.execArgv ?? [],
    startFolder,
    isCompiled(),
  );
}

function denoCommandLine(): DenoCommandLine {
  return ownDeno ??= parseDenoCommandLine(ownArguments() ?? [deno!.execPath(), "run"], startFolder);
}

function denoConfig(): { config: string | null; flags: string[] } {
  return ownConfig ??= discoverDenoConfig(denoCommandLine(), startFolder, readText);
}

/**
 * What the first {@linkcode childCommand} would read, 3 to 7 ms on Deno in all, in pieces: a caller whose loop must not stall runs them one by
 * one beforehand.
 */
export const commandPreparation: readonly (() => unknown)[] = deno === undefined
  ? [bunCommandLine]
  : [denoCommandLine, denoConfig];

/**
 * Makes the command that starts a child of this same runtime with this process's own flags; on Deno with no more than
 * the permissions that the calling agent has at this moment.
 *
 * A program given by `-e`, on standard input or to `deno test` has such children as well: what they run is `main`.
 * Relative paths in flags are made absolute, so the child may start in any folder. `--no-env-file` on Bun, and the
 * lack of `--env-file` on Deno, are meant: the environment that a child is given is complete.
 *
 * @param options what to start
 * @returns the command
 * @throws {TypeError} in an executable made by `deno compile`, which can run nothing but its own main module
 */
export function childCommand(options: ChildCommandOptions): ChildCommand {
  const compiled = isCompiled();
  if (deno === undefined) {
    const file = globals.process?.execPath ?? "";
    // An executable made by `bun build --compile` is Bun itself when this variable says so.
    const env: Record<string, string> = compiled ? { BUN_BE_BUN: "1" } : {};
    return { file, argv: [file, ...bunCommandLine().flags, "--no-env-file", options.main], env };
  }
  if (compiled) {
    throw new TypeError(
      `Cannot start a child process: this program is an executable made by "deno compile", which can run nothing but ` +
        `its own main module; run it with "deno run"`,
    );
  }
  const file = deno.execPath();
  const own = denoCommandLine();
  const { config: path, flags } = denoConfig();
  const text = own.grants.set === null || path === null ? null : readText(path);
  const grants = expandPermissionSet(
    own.grants,
    own.subcommand,
    path === null || text === null ? null : { path, text },
  );
  const permissions = denoPermissionFlags((request) => deno.permissions.querySync(request), grants, {
    folder: startFolder,
    worker: !isMainThread(),
    searchPath: getenv("PATH") ?? "",
  });
  return {
    file,
    argv: [file, "run", ...own.flags, ...flags, ...permissions, options.main],
    env: {},
  };
}

function readText(path: string): string | null {
  try {
    return new TextDecoder().decode(readSmallFile(path));
  } catch {
    return null;
  }
}
