/**
 * Processes bring parts, and one waits until there are enough: a condition with the lock that goes with it. The lock is re-entrant.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/condition.ts`, `bun examples/condition.ts`
 */
import process from "node:process";
import { Condition, Process, Semaphore, task } from "../mod.ts";

export const bring = task(
  import.meta,
  async function bring(changed: Condition, parts: Semaphore, count: number) {
    for (let i = 0; i < count; i++) {
      using _guard = await changed.acquire();
      parts.release();
      changed.notifyAll();
    }
  },
);

async function main(): Promise<void> {
  using changed = new Condition();
  using parts = new Semaphore(0); // a number that all processes see
  const children = await Promise.all(
    [1, 2].map(() => new Process({ target: bring, args: [changed, parts, 50] }).start()),
  );
  {
    using _guard = await changed.acquire();
    await changed.waitFor(() => parts.getValue() === 100); // gives the lock up while it waits
    console.log("parts:", parts.getValue());
    await changed.wait({ timeout: 20 }).catch((error) => console.log("within 20 ms:", error.name));
    console.log(String(changed));
  }
  for (const child of children) await child.join();
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
