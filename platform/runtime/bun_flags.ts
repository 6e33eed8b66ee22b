/**
 * Bun's command line: which of its flags a child process must have as well.
 *
 * @module
 */
import { absolutePath, type Flag, flagText, hasScheme, splitCommandLine, type ValueForm } from "./flags.ts";

/** How this process was started, as far as its children are concerned. */
export interface BunCommandLine {
  /** `"run"` also for a bare `bun script.ts`; `"eval"` for `-e` and `-p`; `"compiled"` for `bun build --compile`. */
  readonly subcommand: string;
  /** Flags to hand on, each as `--flag` or `--flag=value`, relative paths made absolute. */
  readonly flags: readonly string[];
  /** The script as given: a path, a URL, `-` for standard input; `null` without one. */
  readonly script: string | null;
  /** The script's own arguments. */
  readonly args: readonly string[];
}

const letters: Readonly<Record<string, string>> = {
  F: "filter",
  b: "bun",
  c: "config",
  d: "define",
  e: "eval",
  h: "help",
  i: "install-fallback",
  l: "loader",
  p: "print",
  r: "preload",
  t: "test-name-pattern",
  u: "update-snapshots",
  v: "version",
};

/** Flags with a value that may be the next argument. `--config` and `--inspect` are not among them: they need `=`. */
const valued = new Set(
  ("filter elide-lines shell watch-kill-signal preload require import cpu-prof-name cpu-prof-dir " +
    "cpu-prof-interval heap-prof-name heap-prof-dir heap-prof-interval install eval print port conditions " +
    "fetch-preconnect max-http-header-size dns-result-order redirect-warnings disable-warning title " +
    "unhandled-rejections console-depth user-agent cron-title cron-period main-fields extension-order " +
    "tsconfig-override define drop feature loader jsx-factory jsx-fragment jsx-import-source jsx-runtime env-file " +
    "cwd timeout rerun-each retry seed coverage-reporter coverage-dir test-name-pattern reporter " +
    "reporter-outfile max-concurrency path-ignore-patterns shard timings").split(" "),
);

/**
 * Flags that shape how modules are found, compiled and run, or how the engine works. Not among them: what would make
 * a child a second tool of the same kind (watching, inspecting, profiling, a port, a title, test selection), and
 * `.env` files, since a child inherits the environment that they have already become part of.
 */
const kept = new Set(
  ("smol preload conditions install no-install prefer-offline prefer-latest define drop feature loader config " +
    "tsconfig-override no-addons no-ffi-cc expose-gc no-deprecation throw-deprecation no-warnings trace-warnings " +
    "trace-deprecation pending-deprecation redirect-warnings disable-warning zero-fill-buffers use-system-ca " +
    "use-openssl-ca use-bundled-ca tls-min-v1.0 tls-min-v1.1 tls-min-v1.2 tls-min-v1.3 tls-max-v1.2 tls-max-v1.3 " +
    "unhandled-rejections console-depth user-agent max-http-header-size insecure-http-parser dns-result-order " +
    "experimental-http2-fetch experimental-http3-fetch experimental-stream-iter main-fields preserve-symlinks " +
    "preserve-symlinks-main extension-order no-macros jsx-factory jsx-fragment jsx-import-source jsx-runtime " +
    "jsx-side-effects ignore-dce-annotations").split(" "),
);

const pathValued = new Set(["config", "tsconfig-override", "redirect-warnings"]);

const subcommands = new Set(
  ("run test check fmt x repl exec install i add a remove rm update audit dedupe prune outdated link unlink publish " +
    "patch pm info why build init create c upgrade").split(" "),
);

function evaluates(flags: readonly Flag[]): boolean {
  return flags.some((flag) => flag.name === "eval" || flag.name === "print");
}

const table = {
  letters,
  form(name: string): ValueForm {
    if (valued.has(name)) return "required";
    return name === "install-fallback" || name === "smol" || name === "bun" ? "none" : "optional";
  },
  // `bun -e code a` gives the program the argument `a`; `bun a` is `bun add`.
  isSubcommand: (word: string, flags: readonly Flag[]): boolean => subcommands.has(word) && !evaluates(flags),
};

function normalise(flag: Flag, folder: string): Flag {
  let { name, value } = flag;
  if (name === "require" || name === "import") name = "preload";
  if (name === "install-fallback") return { name: "install", value: "fallback" };
  if (value !== undefined) {
    if (pathValued.has(name)) value = absolutePath(value, folder);
    // A bare name may be a package, which Bun looks for from the working directory's node_modules.
    else if (name === "preload" && value.startsWith(".") && !hasScheme(value)) {
      value = absolutePath(value, folder);
    }
  }
  return { name, value };
}

/**
 * Reads Bun's command line.
 *
 * @param argv the process's arguments as the system holds them, the executable first; `null` where they cannot be
 *   read. Then `execArgv` must do, which lacks the flags after `bun test`.
 * @param execArgv Bun's `process.execArgv`, which also holds what `BUN_OPTIONS` added
 * @param folder the absolute folder the process was started in
 * @param compiled whether the program is an executable made by `bun build --compile`: all of its arguments belong to
 *   the program, and only `execArgv` holds flags
 * @returns what a child needs of it
 */
export function parseBunCommandLine(
  argv: readonly string[] | null,
  execArgv: readonly string[],
  folder: string,
  compiled = false,
): BunCommandLine {
  const split = splitCommandLine(compiled || argv === null ? execArgv : argv.slice(1), table);
  const cwd = split.flags.findLast((flag) => flag.name === "cwd")?.value;
  const base = cwd === undefined ? folder : absolutePath(cwd, folder);
  const flags = split.flags.map((flag) => normalise(flag, base)).filter((flag) => kept.has(flag.name)).map(
    flagText,
  );
  if (compiled) {
    return { subcommand: "compiled", flags, script: null, args: argv === null ? [] : argv.slice(1) };
  }
  if (evaluates(split.flags)) return { subcommand: "eval", flags, script: null, args: split.rest };
  return {
    subcommand: split.subcommand ?? "run",
    flags,
    script: split.rest[0] ?? null,
    args: split.rest.slice(1),
  };
}
