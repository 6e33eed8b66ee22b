/**
 * A Worker is an agent of the session like a process: it makes handles and starts processes of its own. A Worker may also block: `getSync` stops
 * its thread until an item comes, while the main thread's event loop goes on.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/worker_thread.ts`, `bun examples/worker_thread.ts`
 */
import process from "node:process";
import { BlockingError, Queue } from "../mod.ts";

interface Report {
  readonly joined: boolean;
  readonly result: number;
  readonly exitCode: number;
}

async function main(): Promise<void> {
  using queue = new Queue<number>();
  try {
    queue.getSync();
  } catch (error) {
    console.log("the main thread may not block:", error instanceof BlockingError);
  }

  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const worker = new Worker(new URL("./worker_thread/worker.ts", import.meta.url), { type: "module" });
  const { joined, result, exitCode } = await new Promise<Report>((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
  clearInterval(timer);
  worker.terminate();
  console.log("the Worker joined the session:", joined);
  console.log("its child's result:", result, "exit code:", exitCode);
  console.log("meanwhile the event loop turned:", turns > 5);
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
