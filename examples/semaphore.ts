/**
 * Six processes, two permits: never more than two of them are at it at once. A queue that holds one note per process inside shows it.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/semaphore.ts`, `bun examples/semaphore.ts`
 */
import process from "node:process";
import { Process, Queue, Semaphore, task } from "../mod.ts";

export const visit = task(
  import.meta,
  async function visit(permits: Semaphore, inside: Queue<string>, most: Queue<number>) {
    await permits.acquire();
    try {
      await inside.put("here");
      await most.put(inside.qsize());
      await new Promise((resolve) => setTimeout(resolve, 20));
      await inside.get();
    } finally {
      permits.release();
    }
  },
);

async function main(): Promise<void> {
  using permits = new Semaphore(2);
  using inside = new Queue<string>();
  using most = new Queue<number>();
  const children = await Promise.all(
    Array.from({ length: 6 }, () => new Process({ target: visit, args: [permits, inside, most] }).start()),
  );
  const counts: number[] = [];
  for (const child of children) {
    counts.push(await most.get());
    await child.join();
  }
  console.log("visits:", counts.length);
  console.log("never more than two at once:", counts.every((count) => count <= 2));
  console.log("permits left:", permits.getValue());
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
