/**
 * One process makes numbers, another adds them up. The queue between them holds eight, so that the maker is never far ahead; what ends it is
 * `shutdown`.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/queue.ts`, `bun examples/queue.ts`
 */
import process from "node:process";
import { Process, Queue, ShutDown, task } from "../mod.ts";

/** Anything that structured clone carries can be an item, and every handle. */
interface Item {
  readonly n: bigint;
  readonly made: Date;
}

export const make = task(import.meta, async function make(items: Queue<Item>, count: number) {
  for (let n = 1; n <= count; n++) await items.put({ n: BigInt(n), made: new Date() });
  items.shutdown();
});

export const add = task(import.meta, async function add(items: Queue<Item>, sums: Queue<bigint>) {
  let sum = 0n;
  for await (const { n } of items) sum += n;
  await sums.put(sum);
});

async function main(): Promise<void> {
  using items = new Queue<Item>({ maxSize: 8 });
  using sums = new Queue<bigint>();
  const children = [
    await new Process({ target: make, args: [items, 1000], name: "maker" }).start(),
    await new Process({ target: add, args: [items, sums], name: "adder" }).start(),
  ];
  console.log("sum of 1 to 1000:", String(await sums.get()));
  for (const child of children) console.log(`${child.name} ended with`, await child.join());

  console.log("nothing there:", sums.tryGet());
  await sums.get({ timeout: 10 }).catch((error) => console.log("within 10 ms:", error.name));
  await items.put({ n: 0n, made: new Date() }).catch((error) =>
    console.log("after the shutdown:", error instanceof ShutDown)
  );
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
