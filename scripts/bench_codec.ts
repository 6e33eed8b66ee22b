/**
 * Measures the codec: nanoseconds for a value there and back, beside JSON with TextEncoder and structuredClone.
 *
 * Run: `deno run -A scripts/bench_codec.ts`, `bun scripts/bench_codec.ts`. The contenders take turns, so that a
 * busy machine slows all of them; the median of the rounds is printed.
 */

import { decode, encode, kHandle } from "../multiprocessing/codec/mod.ts";

const ROUNDS = 15;
const ROUND_MS = 25;

const channel = new Uint8Array(1 << 21);
const revive = (kind: number, block: number, generation: number): object => ({
  [kHandle]: () => ({ kind, block, generation }),
});
let place = 0;

function codec(value: unknown): unknown {
  const encoded = encode(value);
  // Messages in a ring begin anywhere.
  place = (place + 61) & 1023;
  encoded.writeTo(channel, place);
  return decode(channel, place, encoded.byteLength, revive);
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function json(value: unknown): unknown {
  const bytes = encoder.encode(JSON.stringify(value));
  channel.set(bytes, 3);
  return JSON.parse(decoder.decode(channel.subarray(3, 3 + bytes.length)));
}

function clone(value: unknown): unknown {
  return structuredClone(value);
}

const text = "The quick brown fox jumps over the lazy dog. ".repeat(23).slice(0, 1024);
class Point {
  x = 1;
  y = 2.5;
}
let count = 0;
const values: [name: string, make: () => unknown, json: boolean][] = [
  ["number", () => count++, true],
  ["fraction", () => count++ + 0.25, true],
  ["short string", () => "hello", true],
  [
    "{id, name, args: [3], nested}",
    () => ({ id: count++, name: "hello", args: [1, 2, 3], nested: { a: true, b: null } }),
    true,
  ],
  ["class instance", () => new Point(), true],
  ["handle", () => revive(1, 2, 3), false],
  ["Map of 3", () => new Map([["a", 1], ["b", 2], ["c", 3]]), false],
  ["Date", () => new Date(1e12 + count++), false],
  ["BigInt", () => 12345678901234n, false],
  ["Error", () => new RangeError("out of range"), false],
  ["string of 20", () => "a string of 20 bytes", true],
  ["string of 50", () => text.slice(0, 50), true],
  ["string of 100", () => text.slice(0, 100), true],
  ["string of 1 KiB", () => text, true],
  ["wide string of 20", () => "日本語のテキスト、二十文字くらいです。はい", true],
  ["100 objects of 3 keys", () => objects, true],
  ["1,000 numbers", () => numbers, true],
  ["100,000 numbers", () => many, true],
  ["Uint8Array of 16", () => tiny, false],
  ["buffer of 64 KiB", () => buffer, false],
  ["buffer of 1 MiB", () => large, false],
];
const objects = Array.from({ length: 100 }, (_, i) => ({ id: i, label: `item ${i}`, done: i % 2 === 0 }));
const numbers = Array.from({ length: 1000 }, (_, i) => i * 7);
const many = Array.from({ length: 100_000 }, (_, i) => i * 7);
const tiny = new Uint8Array(16);
const buffer = new Uint8Array(65536).fill(7);
const large = new Uint8Array(1 << 20).fill(7);

let sink: unknown;

function round(way: (value: unknown) => unknown, make: () => unknown, turns: number): number {
  const start = performance.now();
  for (let i = 0; i < turns; i++) sink = way(make());
  return (performance.now() - start) / turns * 1e6;
}

function calibrate(way: (value: unknown) => unknown, make: () => unknown): number {
  let turns = 1;
  while (round(way, make, turns) * turns < 4e6) turns *= 2;
  return Math.max(1, Math.floor(turns * ROUND_MS / 4));
}

function median(figures: number[]): number {
  return figures.sort((a, b) => a - b)[figures.length >> 1];
}

const filter = (globalThis as { process?: { argv: string[] } }).process?.argv[2];
console.log(`${"Bun" in globalThis ? "Bun" : "Deno"}, nanoseconds there and back`);
console.log(`${"".padEnd(30)}${"codec".padStart(12)}${"JSON".padStart(12)}${"structuredClone".padStart(18)}`);
for (const [name, make, isJson] of values) {
  if (filter !== undefined && !name.includes(filter)) continue;
  const ways = [codec, ...(isJson ? [json] : []), ...(name === "handle" ? [] : [clone])];
  const turns = ways.map((way) => calibrate(way, make));
  const figures: number[][] = ways.map(() => []);
  for (let i = 0; i < ROUNDS; i++) {
    ways.forEach((way, w) => figures[w].push(round(way, make, turns[w])));
  }
  const shown = new Map(ways.map((way, w) => [way, median(figures[w]).toFixed(0)]));
  console.log(
    `${name.padEnd(30)}${(shown.get(codec) ?? "").padStart(12)}${(shown.get(json) ?? "-").padStart(12)}${
      (shown.get(clone) ?? "-").padStart(18)
    }`,
  );
}
void sink;
