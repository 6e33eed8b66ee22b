/**
 * Starts children of the tests with this project's own posix_spawn. Deno's `node:child_process` will not do: it adds
 * `-A` to a `deno run` that names no permission.
 */
import { fileURLToPath } from "node:url";
import {
  closeFd,
  environ,
  executablePath,
  killProcess,
  pipe,
  readFd,
  signals,
  sleepSync,
  spawn,
  waitProcess,
  waitReadable,
} from "../../platform/mod.ts";

export const onDeno: boolean = !("Bun" in globalThis);

const LIMIT = 30_000;

/** Reaps a child, killing it when it takes too long. */
export function reap(pid: number): number | "gone" {
  const end = performance.now() + LIMIT;
  for (;;) {
    const status = waitProcess(pid);
    if (status !== null) return status;
    if (performance.now() > end) killProcess(pid, signals.SIGKILL);
    sleepSync(1);
  }
}

/** Reads until the end of file, or until a line has come. */
export function readText(fd: number, oneLine = false): string {
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(65536);
  let text = "";
  while (waitReadable(fd, LIMIT)) {
    const count = readFd(fd, bytes);
    if (count <= 0) break;
    text += decoder.decode(bytes.subarray(0, count), { stream: true });
    if (oneLine && text.includes("\n")) break;
  }
  return text;
}

export interface Script {
  readonly pid: number;
  /** What the script writes to stdout. */
  readonly out: number;
  /** The writing end of its stdin. */
  readonly in: number;
}

/** Starts a script in this runtime; `flags` are Deno's. */
export function startScript(url: URL, args: readonly string[], flags: readonly string[] = ["-A"]): Script {
  const file = fileURLToPath(url);
  const program = executablePath();
  const argv = onDeno
    ? [program, "run", "--no-lock", "--no-config", ...flags, file, ...args]
    : [program, file, ...args];
  const [childIn, ourIn] = pipe();
  const [ourOut, childOut] = pipe();
  const pid = spawn({ file: program, argv, env: environ(), fds: [[0, childIn], [1, childOut]] });
  closeFd(childIn);
  closeFd(childOut);
  return { pid, out: ourOut, in: ourIn };
}

/** Runs a script to its end. */
export function runScript(
  url: URL,
  args: readonly string[] = [],
  flags?: readonly string[],
): { text: string; status: number | "gone" } {
  const script = startScript(url, args, flags);
  closeFd(script.in);
  const text = readText(script.out);
  closeFd(script.out);
  return { text, status: reap(script.pid) };
}
