/**
 * Deno's command line: which of its flags a child process must have as well, and what it grants.
 *
 * @module
 */
import { absolutePath, type Flag, flagText, hasScheme, splitCommandLine, type ValueForm } from "./flags.ts";
import { type DenoGrants, type PermissionKind, permissionKinds } from "./permissions.ts";

/** How this process was started, as far as its children are concerned. */
export interface DenoCommandLine {
  /** `"run"` also for a bare `deno script.ts`; `"compiled"` for an executable made by `deno compile`. */
  readonly subcommand: string;
  /** Flags to hand on, each as `--flag` or `--flag=value`, relative paths made absolute; no permissions. */
  readonly flags: readonly string[];
  /** What the permission flags grant and deny. */
  readonly grants: DenoGrants;
  /** The absolute path of `--config`; `false` for `--no-config`; `null` where Deno looks for one by itself. */
  readonly config: string | false | null;
  /** The script as given: a path, a URL, `-` for standard input; `null` without one. */
  readonly script: string | null;
  /** The script's own arguments. */
  readonly args: readonly string[];
}

const letters: Readonly<Record<string, string>> = {
  A: "allow-all",
  E: "allow-env",
  I: "allow-import",
  L: "log-level",
  N: "allow-net",
  P: "permission-set",
  R: "allow-read",
  S: "allow-sys",
  W: "allow-write",
  c: "config",
  f: "filter",
  h: "help",
  j: "jobs",
  p: "print",
  q: "quiet",
  r: "reload",
  u: "update-snapshots",
  y: "yes",
};

const required = new Set(
  ("ext import-map node-modules-linker config cert min-dep-age inspect-publish-uid location seed preload require " +
    "conditions log-level coverage-threshold filter junit-path related repeats reporter retry shard host port eval-file " +
    "cwd jobs package").split(" "),
);

const plain = new Set(
  ("allow-all quiet no-prompt no-remote no-npm no-config no-lock cached-only no-code-cache use-env-proxy print help yes " +
    "update-snapshots").split(" "),
);

/**
 * Flags that shape how modules are found and run, or how the engine works. `--coverage` is among them: code that runs
 * in a child counts, and Deno gives each process a file of its own. Not among them: what would make a child a second
 * tool of the same kind (watching, inspecting, reloading, test selection), type checking, which the parent's start
 * has already done, `--ext`, which speaks of the main module only, and `--env-file`, since a child inherits the
 * environment that the file has already become part of.
 */
const kept = new Set(
  ("config no-config import-map lock no-lock frozen frozen-lockfile node-modules-dir node-modules-linker vendor no-remote " +
    "no-npm cached-only cert unsafely-ignore-certificate-errors use-env-proxy min-dep-age location v8-flags seed " +
    "preload require conditions no-code-cache coverage quiet log-level").split(" "),
);

const pathValued = new Set(["config", "import-map", "cert", "lock", "preload", "require", "coverage"]);

const subcommands = new Set(
  ("run watch serve eval fmt lint test upgrade cache check info doc task bench compile coverage repl install uninstall " +
    "types completions init create jupyter publish add remove outdated update deploy sandbox clean list link unlink " +
    "approve-scripts lsp vendor bundle audit why transpile bump-version ci desktop pack x help").split(" "),
);

const table = {
  letters,
  form(name: string): ValueForm {
    if (required.has(name)) return "required";
    if (name === "lock") return "loose";
    return plain.has(name) || name.startsWith("no-prompt") ? "none" : "optional";
  },
  isSubcommand: (word: string): boolean => subcommands.has(word),
};

function normalise({ name, value }: Flag, folder: string): Flag {
  if (value === undefined) {
    // The defaults of both are relative to the working directory, which a child may not share.
    if (name === "coverage") return { name, value: absolutePath("coverage", folder) };
    if (name === "lock") return { name, value: absolutePath("deno.lock", folder) };
    return { name, value };
  }
  return { name, value: pathValued.has(name) && !hasScheme(value) ? absolutePath(value, folder) : value };
}

function items(value: string | undefined): string[] {
  return value === undefined ? [] : value.split(",").filter((item) => item !== "");
}

type Lists = Partial<Record<PermissionKind, true | string[]>>;

/** A list wins over a bare flag of the same kind, as in Deno: `--allow-read --allow-read=/a` grants `/a` alone. */
function add(lists: Lists, kind: PermissionKind, listed: string[]): void {
  const before = lists[kind];
  if (listed.length === 0) lists[kind] = before ?? true;
  else lists[kind] = before === undefined || before === true ? listed : [...before, ...listed];
}

function readGrants(flags: readonly Flag[], all: boolean): DenoGrants {
  const allow: Lists = {};
  const deny: Lists = {};
  const ignore: Lists = {};
  let set: string | null = null;
  for (const { name, value } of flags) {
    if (name === "allow-all") all = true;
    else if (name === "permission-set") set = value ?? "";
    const match = /^(allow|deny|ignore)-([a-z]+)$/.exec(name);
    const kind = permissionKinds.find((each) => each === match?.[2]);
    if (match === null || kind === undefined) continue;
    add(match[1] === "allow" ? allow : match[1] === "deny" ? deny : ignore, kind, items(value));
  }
  return { all, set, allow, deny, ignore };
}

/**
 * Reads Deno's command line.
 *
 * @param argv the process's arguments as the system holds them, the executable first
 * @param folder the absolute folder the process was started in
 * @param compiled whether the program is an executable made by `deno compile` (`Deno.build.standalone`): then all of
 *   its arguments belong to the program, and its flags and grants are inside it, not to be read
 * @returns what a child needs of it
 */
export function parseDenoCommandLine(
  argv: readonly string[],
  folder: string,
  compiled = false,
): DenoCommandLine {
  if (compiled) {
    return {
      subcommand: "compiled",
      flags: [],
      grants: { all: false, set: null, allow: {}, deny: {}, ignore: {} },
      config: null,
      script: null,
      args: argv.slice(1),
    };
  }
  const split = splitCommandLine(argv.slice(1), table);
  const subcommand = split.subcommand ?? (split.rest.length === 0 ? "repl" : "run");
  const flags = split.flags.map((flag) => normalise(flag, folder))
    .filter((flag) => kept.has(flag.name) || flag.name.startsWith("unstable-"));
  const config = flags.findLast((flag) => flag.name === "config")?.value;
  const scriptless = subcommand === "eval" || subcommand === "repl" || subcommand === "test" ||
    subcommand === "bench";
  return {
    subcommand,
    flags: flags.map(flagText),
    // `deno eval` runs with every permission and takes no permission flags.
    grants: readGrants(split.flags, subcommand === "eval"),
    config: config ?? (flags.some((flag) => flag.name === "no-config") ? false : null),
    script: scriptless ? null : split.rest[0] ?? null,
    args: scriptless ? split.rest : split.rest.slice(1),
  };
}

/** Reads a text file; `null` when there is none or it may not be read. */
export type ReadText = (path: string) => string | null;

/**
 * Finds the folder where Deno looks for its configuration first.
 *
 * @returns `null` where it looks for none: a script from the network or in a data: URL
 */
function firstFolder(commandLine: DenoCommandLine, folder: string): string | null {
  const { subcommand, script } = commandLine;
  if (subcommand !== "run" || script === null || script.startsWith("npm:")) return folder;
  if (script.startsWith("file:")) {
    return absolutePath(`${decodeURIComponent(new URL(script).pathname)}/..`, "/");
  }
  return hasScheme(script) ? null : absolutePath(`${script}/..`, folder);
}

/** The folders from `start` to the root. */
function* upwards(start: string): Generator<string> {
  for (let folder = start;;) {
    yield folder === "/" ? "" : folder;
    if (folder === "/") return;
    folder = absolutePath("..", folder);
  }
}

/**
 * Finds what a child must be told because its main module, a data: URL, has no folder: Deno looks for no
 * configuration then, not even in the working directory.
 *
 * @param commandLine this process's own
 * @param folder the absolute folder this process was started in
 * @param read reads a text file
 * @returns the configuration file that this process found, or `null`; and the flags that make a child use the same
 */
export function discoverDenoConfig(
  commandLine: DenoCommandLine,
  folder: string,
  read: ReadText,
): { config: string | null; flags: string[] } {
  if (commandLine.config === false) return { config: null, flags: [] };
  if (commandLine.config !== null) return { config: commandLine.config, flags: [] };
  const start = firstFolder(commandLine, folder);
  if (start === null) return { config: null, flags: [] };
  let packageFound = false;
  for (const each of upwards(start)) {
    for (const name of ["deno.json", "deno.jsonc"]) {
      const config = `${each}/${name}`;
      const text = read(config);
      if (text === null) continue;
      // Above a package.json only the root of a workspace counts.
      if (packageFound && !text.includes(`"workspace"`)) break;
      return { config, flags: [`--config=${config}`] };
    }
    packageFound ||= read(`${each}/package.json`) !== null;
  }
  // Without a deno.json there is nothing to point to, but with the node_modules folder in charge Deno resolves bare
  // names from the importing file, which needs none. It is what a package.json stands for unless a flag says otherwise.
  const chosen = commandLine.flags.some((flag) => /^--(?:node-modules-dir|vendor|no-npm)\b/.test(flag));
  return { config: null, flags: packageFound && !chosen ? ["--node-modules-dir=manual"] : [] };
}
