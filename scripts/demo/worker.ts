/** What each of the demo's processes runs. */
import { join } from "node:path";
import process from "node:process";
import { type Lock, type Queue, task } from "../../mod.ts";
import { type FileCount, FileCounter } from "./count.ts";
import { TotalFile } from "./total.ts";

/** A file to count. */
export interface Job {
  /** Which of the files it is. */
  readonly index: number;
  /** Its path below the folder. */
  readonly name: string;
}

/** What one file came to: its count, or why there is none. */
export type Outcome = FileCount | { readonly error: string };

/** An outcome on its way to the parent. */
export interface Result {
  readonly index: number;
  readonly outcome: Outcome;
}

/** Everything a process shares with the others. */
export interface Shared {
  readonly folder: string;
  readonly totalPath: string;
  readonly jobs: Queue<Job>;
  readonly results: Queue<Result>;
  readonly lock: Lock;
}

/** Counts a file. One that cannot be read is an outcome, too: the sequential run must find the same. */
export async function outcomeOf(counter: FileCounter, path: string): Promise<Outcome> {
  try {
    return await counter.count(path);
  } catch (error) {
    return { error: (error as { code?: string }).code ?? String(error) };
  }
}

/** For tests: `digest:<name>`, `total:<name>` and `death:<name>` in this variable make one file come out wrong. */
const fault = process.env["GEVENTMP_DEMO_FAULT"];

/** Takes files from one queue until it is shut down, puts what they came to into another, and adds to the total under the lock. */
export const countFiles = task(
  import.meta,
  async function countFiles({ folder, totalPath, jobs, results, lock }: Shared) {
    const counter = new FileCounter();
    using total = new TotalFile(totalPath);
    for await (const { index, name } of jobs) {
      let outcome = await outcomeOf(counter, join(folder, name));
      if (fault === `death:${name}`) process.kill(process.pid, "SIGKILL");
      if (!("error" in outcome)) {
        using _guard = await lock.acquire();
        total.add(fault === `total:${name}` ? { ...outcome, words: outcome.words + 1 } : outcome);
      }
      if (fault === `digest:${name}` && !("error" in outcome)) {
        outcome = { ...outcome, digest: outcome.digest.replace(/./, (c) => c === "0" ? "1" : "0") };
      }
      await results.put({ index, outcome });
    }
  },
);
