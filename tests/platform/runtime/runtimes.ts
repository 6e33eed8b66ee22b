/** Both runtimes' executables, and a way to run them, for tests that start one from the other. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("../../../node_modules/.bin/", import.meta.url));

/** Deno's executable, as npm installed it. */
export const denoPath: string = `${bin}deno`;
/** Bun's executable, as npm installed it. */
export const bunPath: string = `${bin}bun`;

/** Runs a program to its end and returns what it wrote to standard output; throws when it failed. */
export function output(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; input?: string } = {},
): string {
  const env = { ...process.env, NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...options.env };
  const result = spawnSync(file, args, { ...options, env, encoding: "utf8", timeout: 20_000 });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    throw new Error(`${file} ${args.join(" ")} ended with ${result.status}: ${result.stderr}`);
  }
  return result.stdout;
}
