/**
 * Three processes square the numbers of one array, each its part of it, and count what they have done in one value: nothing is copied. Then a
 * process finds memory by its name, as a program in any language could: in Python `SharedMemory(name)`.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/shared_memory.ts`, `bun examples/shared_memory.ts`
 */
import process from "node:process";
import { Process, SharedArray, SharedMemory, task, Value } from "../mod.ts";

type Numbers = SharedArray<Float64Array<ArrayBuffer>>;

export const squareSome = task(
  import.meta,
  function squareSome(numbers: Numbers, done: Value<"u32">, from: number, to: number) {
    const { view } = numbers;
    for (let i = from; i < to; i++) view[i] *= view[i];
    done.add(to - from);
  },
);

export const greet = task(import.meta, function greet(name: string) {
  using memory = new SharedMemory({ name });
  new TextEncoder().encodeInto("hello by name", new Uint8Array(memory.buffer));
});

async function main(): Promise<void> {
  const parts = 3;
  const size = 100_000;
  using numbers = new SharedArray(Float64Array, parts * size);
  using done = new Value("u32");
  numbers.view.fill(3);
  const children = await Promise.all(
    Array.from(
      { length: parts },
      (_, i) => new Process({ target: squareSome, args: [numbers, done, i * size, (i + 1) * size] }).start(),
    ),
  );
  await Promise.all(children.map((child) => child.join()));
  console.log("squared:", done.value, "and all are 9:", numbers.view.every((n) => n === 9));

  // One for whoever agrees on it, for what takes more than one step.
  using guard = await numbers.getLock().acquire();
  console.log("the last owner is alive:", !guard.abandoned);

  // In pieces, so that not even gigabytes stop the event loop.
  using memory = await SharedMemory.create({ size: 64 * 2 ** 20 });
  const child = await new Process({ target: greet, args: [memory.name] }).start();
  await child.join();
  const bytes = new Uint8Array(memory.buffer);
  console.log("it wrote:", new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0))));
  memory.unlink(); // or the last process of this session does
  memory.close();
  console.log("a view of closed memory:", bytes.length);
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
