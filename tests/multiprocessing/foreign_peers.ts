/** Programs in other languages that tests of foreign semaphores talk to. */
import { it } from "@std/testing/bdd";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

/** A language, and how its peer program is started. */
export interface Language {
  readonly name: string;
  /** The program and its first arguments; null where this machine cannot run it. */
  readonly command: readonly [string, ...string[]] | null;
}

const folder = mkdtempSync(join(tmpdir(), "foreign-peer-"));

function python(): Language["command"] {
  // A version manager's shim would be a shell, which a signal does not pass.
  const found = spawnSync("python3", ["-c", "import sys, _multiprocessing; print(sys.executable)"], {
    encoding: "utf8",
  });
  return found.status === 0 ? [found.stdout.trim(), fixture("foreign_peer.py")] : null;
}

function c(): Language["command"] {
  const program = join(folder, "peer");
  const compiled = spawnSync("cc", ["-O1", "-Wall", "-pthread", "-o", program, fixture("foreign_peer.c")], {
    encoding: "utf8",
  });
  if (compiled.error === undefined && compiled.status !== 0) throw new Error(compiled.stderr);
  return compiled.status === 0 ? [program] : null;
}

/** Python and C, as far as this machine has them. */
export const languages: readonly Language[] = [
  { name: "Python", command: python() },
  { name: "C", command: c() },
];

/** Removes what was compiled. */
export function removePeers(): void {
  rmSync(folder, { recursive: true, force: true });
}

/** One test for each language. Where one is missing the test fails in CI; elsewhere it is skipped, and its name says so. */
export function each(
  name: string,
  body: (command: readonly [string, ...string[]]) => Promise<void>,
): void {
  for (const language of languages) {
    const { command } = language;
    if (command !== null) it(`${name} (${language.name})`, () => body(command));
    else if (process.env.CI) {
      it(`${name} (${language.name})`, () => {
        throw new Error(
          `Cannot test with ${language.name}: this machine lacks it; install python3, gcc and libc6-dev`,
        );
      });
    } else it.skip(`${name} (no ${language.name} on this machine)`, () => {});
  }
}
