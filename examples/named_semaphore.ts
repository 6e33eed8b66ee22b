/**
 * A Python program shares two semaphores with this one, by their names. It waits in the kernel, this one in its event loop, which turns
 * meanwhile.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/named_semaphore.ts`, `bun examples/named_semaphore.ts`
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { NamedSemaphore } from "../mod.ts";

async function main(): Promise<void> {
  const [jobs, done] = ["jobs", "done"].map((word) =>
    new NamedSemaphore(`/example-${word}-${process.pid}`, { create: true, exclusive: true })
  );
  let turns = 0;
  const turning = setInterval(() => turns++, 1);
  try {
    const script = fileURLToPath(new URL("named_semaphore/peer.py", import.meta.url));
    const python = spawn("python3", [script, jobs.name, done.name], { stdio: "inherit" });
    const ended = once(python, "exit");
    for (let job = 1; job <= 3; job++) {
      jobs.release();
      await done.acquire({ timeout: 30_000 });
      console.log("Python did job", job);
    }
    console.log("it ended with", (await ended)[0]);
    console.log("the event loop turned:", turns > 0);
  } finally {
    clearInterval(turning);
    // A name stays until somebody removes it, even when nobody is left.
    for (const semaphore of [jobs, done]) {
      semaphore.unlink();
      semaphore.close();
    }
  }
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
