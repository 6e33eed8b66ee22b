/** Channels: queues of this module beside the runtime's own, a child's IPC channel and a Worker's port. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { Process, Queue } from "../../multiprocessing/mod.ts";
import { echo, produceWhenTold } from "./tasks.ts";

const MIB = 2 ** 20;

export interface Channels {
  /** Messages a second: a number from one producer, and from four. */
  one: number;
  four: number;
  /** MiB a second, in messages of 1 MiB. */
  large: number;
  /** Microseconds of a number there and back. */
  trip: number;
}

const rate = (count: number, start: number): number => count / (performance.now() - start) * 1e3;

/** How many messages each row sends. */
const counts = (scale: number): { small: number; large: number; trips: number } => ({
  small: Math.round(40_000 * scale),
  large: Math.round(200 * scale),
  trips: Math.round(4000 * scale),
});

async function ourRate(producers: number, count: number, bytes: number): Promise<number> {
  using queue = new Queue<unknown>(bytes > 0 ? { maxSize: 4 } : {});
  using go = new Queue<string>();
  const each = Math.ceil(count / producers);
  const children = await Promise.all(
    Array.from(
      { length: producers },
      () => new Process({ target: produceWhenTold, args: [queue, go, each, bytes] }).start(),
    ),
  );
  for (const _ of children) await queue.get();
  for (const _ of children) await go.put("go");
  const start = performance.now();
  for (let i = 0; i < each * producers; i++) await queue.get();
  const found = rate(each * producers, start);
  await Promise.all(children.map((child) => child.join()));
  return found;
}

async function ourTrip(count: number): Promise<number> {
  using there = new Queue<number>();
  using back = new Queue<number>();
  const child = await new Process({ target: echo, args: [there, back, count + 1] }).start();
  await there.put(0);
  await back.get();
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    await there.put(i);
    await back.get();
  }
  const found = (performance.now() - start) / count * 1e3;
  await child.join();
  return found;
}

export async function ourChannels(scale: number): Promise<Channels> {
  const { small, large, trips } = counts(scale);
  return {
    one: await ourRate(1, small, 0),
    four: await ourRate(4, small, 0),
    large: await ourRate(1, large, MIB),
    trip: await ourTrip(trips),
  };
}

/** A child with an IPC channel, or a Worker. */
interface Peer {
  send(message: unknown): void;
  onMessage: (message: unknown) => void;
  end(): Promise<unknown>;
}
export type Kind = "child" | "worker";

function startPeer(kind: Kind, args: [role: string, count: number, bytes: number]): Peer {
  const file = new URL("./channel_peer.ts", import.meta.url);
  const source: ChildProcess | Worker = kind === "child"
    ? fork(fileURLToPath(file), args.map(String), { serialization: "advanced" })
    : new Worker(file, { workerData: args });
  const peer: Peer = {
    send: (message) =>
      source instanceof Worker ? source.postMessage(message) : void source.send(message as string),
    onMessage: () => {},
    end: () => {
      if (source instanceof Worker) return source.terminate();
      source.disconnect();
      return new Promise((resolve) => source.on("exit", resolve));
    },
  };
  source.on("message", (message) => peer.onMessage(message));
  return peer;
}

const ready = (peer: Peer): Promise<void> => new Promise((resolve) => peer.onMessage = () => resolve());

async function peerRate(kind: Kind, producers: number, count: number, bytes: number): Promise<number> {
  const each = Math.ceil(count / producers);
  const peers = Array.from({ length: producers }, () => startPeer(kind, ["produce", each, bytes]));
  await Promise.all(peers.map(ready));
  let received = 0;
  const all = new Promise<void>((resolve) => {
    for (const peer of peers) peer.onMessage = () => void (++received === each * producers && resolve());
  });
  const start = performance.now();
  for (const peer of peers) peer.send("go");
  await all;
  const found = rate(received, start);
  await Promise.all(peers.map((peer) => peer.end()));
  return found;
}

async function peerTrip(kind: Kind, count: number): Promise<number> {
  const peer = startPeer(kind, ["echo", count, 0]);
  await ready(peer);
  const start = performance.now();
  for (let i = 0; i < count; i++) {
    const answer = ready(peer);
    peer.send(i);
    await answer;
  }
  const found = (performance.now() - start) / count * 1e3;
  await peer.end();
  return found;
}

export async function peerChannels(kind: Kind, scale: number): Promise<Channels> {
  const { small, large, trips } = counts(scale);
  return {
    one: await peerRate(kind, 1, small, 0),
    four: await peerRate(kind, 4, small, 0),
    large: await peerRate(kind, 1, large, MIB),
    trip: await peerTrip(kind, trips),
  };
}
