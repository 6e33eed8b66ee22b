/**
 * The permission flags of a child process on Deno: what the calling agent may do at this moment, and never more than
 * the command line granted.
 *
 * Deno can be asked whether something is granted, not what is. So each item of the command line is asked for, and kept
 * if it still stands; what a Worker was given item by item, or a user granted at a prompt, is on no command line and
 * is not handed on. Every answer but "granted" counts as no, so that nothing ever prompts.
 *
 * @module
 */
import { absolutePath } from "./flags.ts";

/** The names of Deno's permissions. */
export type PermissionKind = "read" | "write" | "net" | "env" | "run" | "sys" | "ffi" | "import";

/** Every permission of Deno. */
export const permissionKinds: readonly PermissionKind[] = [
  "read",
  "write",
  "net",
  "env",
  "run",
  "sys",
  "ffi",
  "import",
];

/** What a command line grants and denies: `true` for a kind as a whole, else the items. */
export interface DenoGrants {
  /** `--allow-all`. */
  readonly all: boolean;
  /** The name given to `--permission-set`, empty for the default set, `null` without the flag. */
  readonly set: string | null;
  /** `--allow-…`. */
  readonly allow: Readonly<Partial<Record<PermissionKind, true | readonly string[]>>>;
  /** `--deny-…`. */
  readonly deny: Readonly<Partial<Record<PermissionKind, true | readonly string[]>>>;
  /** `--ignore-…`: refused too, but as if the variable or file did not exist. */
  readonly ignore: Readonly<Partial<Record<PermissionKind, true | readonly string[]>>>;
}

/** What `Deno.permissions.querySync` is asked. */
export interface PermissionRequest {
  /** Alone it asks for the permission as a whole. */
  readonly name: PermissionKind;
  /** For read, write and ffi. */
  readonly path?: string;
  /** For net and import, with or without a port. */
  readonly host?: string;
  /** For env. */
  readonly variable?: string;
  /** For run. */
  readonly command?: string;
  /** For sys. */
  readonly kind?: string;
}

/** `Deno.permissions.querySync`. */
export type PermissionQuery = (
  request: PermissionRequest,
) => { readonly state: "granted" | "denied" | "prompt"; readonly partial?: boolean };

/** Where the answer depends on more than the permissions. */
export interface PermissionContext {
  /** The absolute folder the process was started in: relative paths on its command line start here. */
  readonly folder: string;
  /** Whether the calling agent is a Worker. */
  readonly worker: boolean;
  /** The value of `PATH`, by which Deno resolved the bare names of `--allow-run`. */
  readonly searchPath: string;
}

/** The hosts that modules may come from when the command line says nothing (`deno run --help`). */
const defaultImportHosts: readonly string[] = [
  "deno.land:443",
  "jsr.io:443",
  "esm.sh:443",
  "raw.esm.sh:443",
  "cdn.jsdelivr.net:443",
  "raw.githubusercontent.com:443",
  "gist.githubusercontent.com:443",
];

function namesPaths(kind: PermissionKind): kind is "read" | "write" | "ffi" {
  return kind === "read" || kind === "write" || kind === "ffi";
}

/**
 * Makes the permission flags of a child.
 *
 * @param query `Deno.permissions.querySync` of the calling agent
 * @param grants what the command line grants, with permission sets expanded ({@linkcode expandPermissionSet})
 * @param context the calling agent's surroundings
 * @returns the flags, `--no-prompt` always among them
 */
export function denoPermissionFlags(
  query: PermissionQuery,
  grants: DenoGrants,
  context: PermissionContext,
): string[] {
  const whole = new Map(permissionKinds.map((kind) => [kind, ask(query, { name: kind })]));
  const restricted = Object.keys(grants.deny).length > 0 || Object.keys(grants.ignore).length > 0;
  const everything = permissionKinds.every((kind) =>
    whole.get(kind) === "whole" && grantedAsWhole(grants, kind)
  );
  if (everything && !restricted) return ["--allow-all", "--no-prompt"];

  const flags: string[] = [];
  for (const kind of permissionKinds) {
    const denied = denials(grants.deny[kind], kind, context);
    const ignored = denials(grants.ignore[kind], kind, context);
    // A refusal that cannot be written down must not be lost: then the kind is refused as a whole.
    if (denied === "inexpressible" || ignored === "inexpressible") {
      flags.push(kind === "import" ? `--deny-import=${defaultImportHosts.join(",")}` : `--deny-${kind}`);
      continue;
    }
    if (kind === "import") {
      flags.push(...importFlags(query, grants, context, denied, stands(whole.get(kind), grants)));
      continue;
    }
    if (denied !== null) flags.push(listFlag(`deny-${kind}`, denied));
    if (ignored !== null) flags.push(listFlag(`ignore-${kind}`, ignored));
    if (stands(whole.get(kind), grants) && grantedAsWhole(grants, kind)) {
      flags.push(`--allow-${kind}`);
      continue;
    }
    // Beside a refusal of the whole kind Deno still grants what is listed (measured), so the lists are kept there too.
    const kept = keptItems(query, kind, grants.allow[kind], context);
    if (kept.length > 0) flags.push(listFlag(`allow-${kind}`, kept));
  }
  flags.push("--no-prompt");
  return flags;
}

type Answer = "whole" | "part" | "none";

/** Whether the command line grants a kind without naming items. An unreadable permission set may have. */
function grantedAsWhole(grants: DenoGrants, kind: PermissionKind): boolean {
  return grants.all || grants.allow[kind] === true ||
    (grants.set !== null && grants.allow[kind] === undefined);
}

/** A partial grant is handed on only where its exceptions are known, so not from a set that could not be read. */
function stands(answer: Answer | undefined, grants: DenoGrants): boolean {
  return answer === "whole" || (answer === "part" && grants.set === null);
}

/** `part` is granted but for what is denied. A question that Deno refuses as malformed grants nothing. */
function ask(query: PermissionQuery, request: PermissionRequest): Answer {
  try {
    const { state, partial } = query(request);
    return state !== "granted" ? "none" : partial === true ? "part" : "whole";
  } catch {
    return "none";
  }
}

function denials(
  listed: true | readonly string[] | undefined,
  kind: PermissionKind,
  context: PermissionContext,
): true | readonly string[] | "inexpressible" | null {
  if (listed === undefined || listed === true) return listed ?? null;
  // Deno's lists have no way to write a comma.
  if (listed.some((item) => item.includes(","))) return "inexpressible";
  return listed.map((item) =>
    namesPaths(kind) || isRelativeCommand(kind, item) ? absolutePath(item, context.folder) : item
  );
}

function listFlag(name: string, listed: true | readonly string[]): string {
  return listed === true ? `--${name}` : `--${name}=${listed.join(",")}`;
}

function isRelativeCommand(kind: PermissionKind, item: string): boolean {
  return kind === "run" && item.includes("/");
}

function keptItems(
  query: PermissionQuery,
  kind: PermissionKind,
  listed: true | readonly string[] | undefined,
  context: PermissionContext,
): string[] {
  if (listed === undefined || listed === true) return [];
  const kept: string[] = [];
  for (const item of listed.flatMap((each) => expandPort(kind, each))) {
    if (item.includes(",")) continue;
    if (namesPaths(kind)) {
      const path = absolutePath(item, context.folder);
      if (ask(query, { name: kind, path }) !== "none") kept.push(path);
    } else if (kind === "run") {
      const command = commandPath(query, item, context);
      if (command !== null) kept.push(command);
    } else if (kind === "env") {
      if (ask(query, { name: kind, variable: item }) !== "none") kept.push(item);
    } else if (kind === "sys") {
      if (ask(query, { name: kind, kind: item }) !== "none") kept.push(item);
    } else if (hostStands(query, kind, item, listed, context)) kept.push(item);
  }
  return kept;
}

/**
 * Finds the program that a bare name of `--allow-run` stood for when this process started. Deno resolves such names by
 * `PATH` once, so the child, whose `PATH` may be another, is told the place and not the name.
 */
function commandPath(query: PermissionQuery, item: string, context: PermissionContext): string | null {
  const granted = (command: string): boolean => ask(query, { name: "run", command }) !== "none";
  if (item.includes("/")) {
    const path = absolutePath(item, context.folder);
    return granted(path) ? path : null;
  }
  for (const folder of context.searchPath.split(":")) {
    const path = absolutePath(`${folder}/${item}`, context.folder);
    if (folder !== "" && granted(path)) return path;
  }
  return null;
}

/** Deno reads `:8080` as the three names of the own machine. */
function expandPort(kind: PermissionKind, item: string): string[] {
  if (kind !== "net" || !/^:\d+$/.test(item)) return [item];
  return [`0.0.0.0${item}`, `127.0.0.1${item}`, `localhost${item}`];
}

/**
 * Tells whether a host of the command line is still granted.
 *
 * Deno cannot be asked about an address range or `*.example.com` as such, but a main thread loses such an item as a
 * whole or not at all, so one member stands for all of it, if no other item of the list covers that member. A Worker
 * may have been given the one member alone, so there the item is let go.
 */
function hostStands(
  query: PermissionQuery,
  kind: "net" | "import",
  item: string,
  listed: readonly string[],
  context: PermissionContext,
): boolean {
  const range = /^([0-9a-fA-F.:]+)\/\d+$/.exec(item);
  if (range === null && !item.startsWith("*.")) return ask(query, { name: kind, host: item }) !== "none";
  if (context.worker) return false;
  const others = listed.filter((other) => other !== item);
  if (range !== null) {
    const address = range[1];
    const covered = others.some((other) => /^[0-9a-fA-F.:]+\/\d+$/.test(other) || other.includes(address));
    // An IPv6 address is asked for in brackets.
    const host = address.includes(":") ? `[${address}]` : address;
    return !covered && ask(query, { name: kind, host }) !== "none";
  }
  // Another wildcard above or below may cover the member, whatever its port.
  if (others.some((other) => other.startsWith("*.") && (covers(other, item) || covers(item, other)))) {
    return false;
  }
  return ask(query, { name: kind, host: `geventmp-probe${item.slice(1)}` }) !== "none";
}

function covers(wide: string, narrow: string): boolean {
  const name = (host: string): string => host.slice(1).replace(/:\d+$/, "");
  return name(narrow).endsWith(name(wide));
}

/**
 * Imports differ: a command line that says nothing grants a few hosts, and a caller that has lost them must not have
 * them given back to its child.
 */
function importFlags(
  query: PermissionQuery,
  grants: DenoGrants,
  context: PermissionContext,
  denied: true | readonly string[] | null,
  whole: boolean,
): string[] {
  const deny = denied === null ? [] : [listFlag("deny-import", denied)];
  if (whole && grantedAsWhole(grants, "import")) return ["--allow-import", ...deny];
  const listed = grants.allow.import;
  const own = listed !== undefined && listed !== true;
  const kept = keptItems(query, "import", own ? listed : defaultImportHosts, context);
  // As at the command line: nothing to say, and the default hosts are there again.
  if (!own && kept.length === defaultImportHosts.length) return deny;
  if (kept.length > 0) return [listFlag("allow-import", kept), ...deny];
  // The bare flag leaves the default hosts granted (measured), so they are named.
  return [
    listFlag("deny-import", [...new Set([...(denied === true ? [] : denied ?? []), ...defaultImportHosts])]),
  ];
}

/**
 * Puts the contents of a permission set in the place of its name, as if they had stood on the command line.
 *
 * @param grants the command line's
 * @param subcommand `"test"`, `"bench"` and `"compile"` have default sets of their own
 * @param config the configuration file's text and absolute path; `null` where there is none
 * @returns the same grants, when the set cannot be read: then only kinds granted as a whole reach a child
 */
export function expandPermissionSet(
  grants: DenoGrants,
  subcommand: string,
  config: { readonly text: string; readonly path: string } | null,
): DenoGrants {
  if (grants.set === null || config === null) return grants;
  const parsed = parseJsonc(config.text);
  if (!isRecord(parsed)) return grants;
  const sets = isRecord(parsed.permissions) ? parsed.permissions : {};
  let set: unknown;
  if (grants.set !== "") set = sets[grants.set];
  else {
    const section = parsed[subcommand];
    set = isRecord(section) ? section.permissions : undefined;
    if (typeof set === "string") set = sets[set];
    set ??= sets.default;
  }
  if (!isRecord(set)) return grants;

  const folder = config.path.slice(0, config.path.lastIndexOf("/")) || "/";
  const result = {
    all: grants.all || set.all === true,
    set: null,
    allow: { ...grants.allow },
    deny: { ...grants.deny },
    ignore: { ...grants.ignore },
  };
  for (const kind of permissionKinds) {
    const entry = set[kind];
    const parts = isRecord(entry) ? entry : { allow: entry };
    for (const part of ["allow", "deny", "ignore"] as const) {
      const value = parts[part];
      const target = result[part];
      if (value === true) target[kind] ??= true;
      else if (Array.isArray(value)) {
        const listed = value.map(String).map((item) =>
          namesPaths(kind) || isRelativeCommand(kind, item) ? absolutePath(item, folder) : item
        );
        const before = target[kind];
        // Added to a refusal as a whole a list must not narrow it; added to a grant it must not widen it.
        if (before === undefined) target[kind] = listed;
        else if (before !== true) target[kind] = [...before, ...listed];
        else if (part === "allow") target[kind] = listed;
      }
    }
  }
  return result;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** JSON with comments and trailing commas, as Deno's configuration may be; `undefined` when it is not even that. */
function parseJsonc(text: string): unknown {
  const token = /"(?:[^"\\]|\\.)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g;
  const bare = text.replace(token, (match) => match.startsWith(`"`) ? match : " ");
  const strict = bare.replace(/"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])/g, (match) => match === "," ? "" : match);
  try {
    return JSON.parse(strict);
  } catch {
    return undefined;
  }
}
