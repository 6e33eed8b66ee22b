/**
 * The other side of the runtime's own channels: a child with an IPC channel, or a Worker. It says "ready", and begins when told "go".
 * Arguments: role, count, bytes of a message (0: a number). Its starter ends it.
 */
import process from "node:process";
import { parentPort, workerData } from "node:worker_threads";

const [role, count, bytes] = (parentPort === null ? process.argv.slice(2) : workerData as string[]).map((
  argument,
  i,
) => i === 0 ? argument : Number(argument)) as [string, number, number];

/** Resolves when the message is on its way: an IPC channel says so, a port takes everything at once. */
const send = (message: unknown): Promise<void> => {
  if (parentPort !== null) return Promise.resolve(parentPort.postMessage(message));
  return new Promise((resolve) => void process.send!(message, () => resolve()));
};
const receive = (listener: (message: unknown) => void): void => {
  if (parentPort !== null) parentPort.on("message", listener);
  else process.on("message", listener);
};
async function produce(): Promise<void> {
  const large = new Uint8Array(bytes);
  for (let i = 0; i < count; i++) await send(bytes === 0 ? i : large);
}

receive((message) => {
  if (role === "echo") send(message);
  else produce();
});
await send("ready");
