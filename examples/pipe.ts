/**
 * Pipes: questions to two processes and their answers, `wait` for whichever is there first, a large array, and the end, which a process learns
 * from its pipe however the other one ended.
 *
 * In a program of your own import from "@karellen/geventmp". Run: `deno run -A examples/pipe.ts`, `bun examples/pipe.ts`
 */
import process from "node:process";
import { type Connection, EOFError, Pipe, Process, task, wait } from "../mod.ts";

export const sum = task(import.meta, async function sum(numbers: Connection<Float64Array | number>) {
  for await (const question of numbers) {
    if (typeof question !== "number") await numbers.send(question.reduce((all, n) => all + n, 0));
  }
});

async function start(): Promise<[Connection<Float64Array | number>, Process]> {
  const [here, there] = Pipe<Float64Array | number>();
  const child = await new Process({ target: sum, args: [there] }).start();
  there.close(); // the child has this end now; its death is the end of the pipe
  return [here, child as unknown as Process];
}

async function main(): Promise<void> {
  const [first, one] = await start();
  const [second, two] = await start();
  // 16 MB: this goes in pieces while the loops of both processes turn.
  await first.send(new Float64Array(2_000_000).fill(0.5));
  const [ready] = await wait([first, second, one.sentinel]);
  console.log("the first is ready:", ready === first, "with", await first.recv());
  console.log("within 10 ms:", (await wait([first, second], { timeout: 10 })).length, "are");

  first.close(); // ends the child's loop
  console.log("closed, it ends with", await one.join());
  two.kill();
  await second.recv().catch((error) => console.log("killed, it is the end:", error instanceof EOFError));
  await second.send(1).catch((error) => console.log("and nobody receives:", error.code));
}

if (import.meta.main) main().catch((error) => (console.error(error), process.exitCode = 1));
