/** What the tests of patching share. */
import { command, Program, type Runtime } from "../multiprocessing/support.ts";

/** What a fixture said, and how it ended. */
export interface Said {
  readonly lines: string[];
  readonly errors: string;
  readonly ended: number | string;
}

/** Runs a fixture to its end. */
export async function said(
  runtime: Runtime,
  fixture: string,
  { args = [], flags = [], env = {}, permissions }: {
    args?: string[];
    /** Of the runtime, before the fixture's name. */
    flags?: string[];
    env?: Record<string, string | undefined>;
    /** Deno's, in place of all. */
    permissions?: string[];
  } = {},
): Promise<Said> {
  const [file, line] = command(runtime, fixture, args);
  const at = line.findIndex((word) => word.endsWith(fixture));
  // "bun run --preload" takes flags behind "run", as Deno does.
  const before = permissions === undefined ? line.slice(0, at) : ["run", "--no-check", ...permissions];
  const own = { GEVENTMP_SESSION: undefined, GEVENTMP: undefined, GEVENTMP_WARN_BLOCKING: undefined };
  const program = new Program([file, [...before, ...flags, ...line.slice(at)]], { env: { ...own, ...env } });
  program.child.stdin!.end();
  const lines: string[] = [];
  const ended = await program.exited;
  try {
    for (;;) lines.push(await program.line());
  } catch { /* that was all */ }
  return { lines, errors: program.errors, ended };
}

/** Path of the module that patches when it is imported. */
export const patchModule: string = new URL("../../patch/mod.ts", import.meta.url).pathname;
