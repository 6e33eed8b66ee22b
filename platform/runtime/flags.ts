/**
 * Splits a runtime's command line into flags and the rest, by a table: what `deno_flags.ts` and `bun_flags.ts` share.
 *
 * @module
 */

/**
 * How a flag takes its value: not at all; only as `--flag=value`; as `--flag=value` or in the next argument; or as
 * `loose`, in the next argument unless that one is a flag itself (Deno's `--lock`).
 */
export type ValueForm = "none" | "optional" | "required" | "loose";

/** One flag as it stood on the command line, under its long name without dashes. */
export interface Flag {
  readonly name: string;
  /** `undefined` when it has none, which is not the same as an empty one. */
  readonly value: string | undefined;
}

/** What a runtime's command line may hold. */
export interface FlagTable {
  /** The form of a long flag's value. Unknown flags should be `"optional"`: then none of them eats the script. */
  form(name: string): ValueForm;
  /** Long names of the one-letter flags. */
  readonly letters: Readonly<Record<string, string>>;
  /** Whether the first argument that is no flag is a subcommand, after these flags. */
  isSubcommand(word: string, flags: readonly Flag[]): boolean;
}

/** A command line, split. */
export interface SplitCommandLine {
  /** The subcommand, or `null` where a script stands alone. */
  readonly subcommand: string | null;
  readonly flags: readonly Flag[];
  /** The script, then its arguments. */
  readonly rest: readonly string[];
}

/**
 * Splits a command line.
 *
 * @param words the arguments, without the executable
 * @param table what they may hold
 * @returns the flags before the script, and the rest untouched
 */
export function splitCommandLine(words: readonly string[], table: FlagTable): SplitCommandLine {
  const flags: Flag[] = [];
  let subcommand: string | null = null;
  let at = 0;

  const separate = (form: ValueForm): string | undefined => {
    if (form === "required" && at < words.length) return words[at++];
    if (form === "loose" && at < words.length && !words[at].startsWith("-")) return words[at++];
    return undefined;
  };

  while (at < words.length) {
    const word = words[at];
    if (word === "--") {
      at++;
      break;
    }
    if (word === "-" || !word.startsWith("-")) {
      if (subcommand !== null || !table.isSubcommand(word, flags)) break;
      subcommand = word;
      at++;
      continue;
    }
    at++;
    if (word.startsWith("--")) {
      const equals = word.indexOf("=");
      const name = word.slice(2, equals < 0 ? undefined : equals);
      flags.push({ name, value: equals < 0 ? separate(table.form(name)) : word.slice(equals + 1) });
      continue;
    }
    for (let letter = 1; letter < word.length; letter++) {
      const name = table.letters[word[letter]];
      if (name === undefined) break;
      const form = table.form(name);
      const tail = word.slice(letter + 1);
      if (form === "none" && !tail.startsWith("=")) {
        flags.push({ name, value: undefined });
        continue;
      }
      if (tail === "") flags.push({ name, value: separate(form) });
      else if (tail.startsWith("=")) flags.push({ name, value: tail.slice(1) });
      // `-RW` is two permissions, `-R/tmp` is one with a path, `-cdeno.json` is a flag with its value.
      else if (form === "optional" && table.letters[tail[0]] !== undefined) {
        flags.push({ name, value: undefined });
        continue;
      } else flags.push({ name, value: tail });
      break;
    }
  }
  return { subcommand, flags, rest: words.slice(at) };
}

/**
 * Writes a flag in the one form that every flag with a value understands.
 *
 * @returns `--name` or `--name=value`
 */
export function flagText(flag: Flag): string {
  return flag.value === undefined ? `--${flag.name}` : `--${flag.name}=${flag.value}`;
}

/** Whether a specifier carries a scheme (`https:`, `npm:`, …) and so needs no folder to mean something. */
export function hasScheme(specifier: string): boolean {
  return /^[a-z][a-z0-9+.-]+:/i.test(specifier);
}

/**
 * Makes a path absolute without asking the system, as POSIX path resolution would but for links.
 *
 * @param path any path
 * @param folder the absolute folder that relative paths start from
 * @returns the path from the root, without `.` and `..`
 */
export function absolutePath(path: string, folder: string): string {
  const parts: string[] = [];
  for (const part of (path.startsWith("/") ? path : `${folder}/${path}`).split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}
