/** What the Worker's child process runs. A task stands in a module that can be loaded anywhere. */
import { type Queue, task } from "../../mod.ts";

export const square = task(import.meta, async function square(n: number, results: Queue<number>) {
  await results.put(n * n);
});
