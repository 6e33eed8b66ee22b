/** The Worker that `worker_thread.ts` starts. */
import { Process, Queue, session } from "../../mod.ts";
import { square } from "./square.ts";

const joined = session().inherited;
using results = new Queue<number>();
const child = await new Process({ target: square, args: [12, results] }).start();
const result = results.getSync({ timeout: 30_000 });
const toMain = globalThis as unknown as { postMessage(report: unknown): void };
toMain.postMessage({ joined, result, exitCode: await child.join() });
