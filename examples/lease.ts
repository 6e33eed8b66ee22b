/**
 * Jobs that must be done, whoever dies: a consumer leases a job and says when it is done. The one that is killed in the middle of a job loses
 * nothing but its time.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/lease.ts`, `bun examples/lease.ts`
 */
import process from "node:process";
import { JoinableQueue, Process, Queue, task } from "../mod.ts";

export const careless = task(
  import.meta,
  async function careless(jobs: JoinableQueue<string>, news: Queue<string>) {
    const lease = await jobs.lease();
    await news.put(lease.value);
    await new Promise(() => setInterval(() => {}, 1000)); // until it is killed
  },
);

export const careful = task(
  import.meta,
  async function careful(jobs: JoinableQueue<string>, news: Queue<string>) {
    for (;;) {
      using lease = await jobs.lease();
      await news.put(lease.value);
      lease.ack(); // without this the job would go back to the queue here
    }
  },
);

async function main(): Promise<void> {
  using jobs = new JoinableQueue<string>();
  using news = new Queue<string>();
  for (const job of ["first", "second", "third"]) await jobs.put(job);

  const victim = await new Process({ target: careless, args: [jobs, news] }).start();
  console.log("leased:", await news.get());
  victim.kill();
  console.log("its taker ended with", await victim.join());

  await using _other = await new Process({ target: careful, args: [jobs, news] }).start();
  for (let i = 0; i < 3; i++) console.log("done:", await news.get());
  await jobs.join();
  console.log("all are finished:", jobs.tryJoin());
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
