/**
 * Three processes add to one number in a file. The lock makes each read-add-write whole. One of them is killed while it holds the lock: the
 * next one gets it all the same, and is told so.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/lock.ts`, `bun examples/lock.ts`
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { Lock, Process, Semaphore, task } from "../mod.ts";

export const addOne = task(import.meta, async function addOne(lock: Lock, path: string, times: number) {
  for (let i = 0; i < times; i++) {
    using _guard = await lock.acquire();
    await writeFile(path, String(Number(await readFile(path, "utf8")) + 1));
  }
});

export const hold = task(import.meta, async function hold(lock: Lock, holding: Semaphore) {
  using _guard = await lock.acquire();
  holding.release();
  for (;;) await new Promise((resolve) => setTimeout(resolve, 1000)); // until it is killed
});

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "example-"));
  const path = join(folder, "number");
  await writeFile(path, "0");
  using lock = new Lock();

  const children = await Promise.all(
    [1, 2, 3].map(() => new Process({ target: addOne, args: [lock, path, 100] }).start()),
  );
  await Promise.all(children.map((child) => child.join()));
  console.log("counted to", await readFile(path, "utf8"));
  await rm(folder, { recursive: true });

  using holding = new Semaphore(0);
  await using holder = await new Process({ target: hold, args: [lock, holding] }).start();
  await holding.acquire();
  console.log("without waiting:", lock.tryAcquire());
  await lock.acquire({ timeout: 20 }).catch((error) => console.log("within 20 ms:", error.name));
  holder.kill();
  using guard = await lock.acquire();
  console.log("its owner died:", guard.abandoned, "with exit code", await holder.join());
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
