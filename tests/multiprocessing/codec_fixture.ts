/**
 * Values whose bytes are written down, so that both runtimes are held to the same ones.
 *
 * @module
 */

import { kHandle } from "../../multiprocessing/codec/mod.ts";

function fixedError(): Error {
  const error = Object.assign(new RangeError("out of range", { cause: [1] }), { code: "ERANGE", errno: 34 });
  error.stack = "RangeError: out of range\n    at somewhere";
  return error;
}

function namedError(): Error {
  const error = new AggregateError([new Date(0)], "both");
  error.name = "Special";
  error.stack = "Special: both";
  return error;
}

function cycle(): unknown {
  const node: Record<string, unknown> = { list: [] };
  (node.list as unknown[]).push(node, node.list);
  return node;
}

function holes(): unknown[] {
  const array: unknown[] = [0, , undefined];
  array.length = 5;
  return array;
}

function sparse(): unknown[] {
  const array: unknown[] = [];
  array[5000] = "end";
  return array;
}

function views(): unknown {
  const buffer = new ArrayBuffer(64);
  new Uint8Array(buffer).forEach((_, i, all) => all[i] = i);
  return [new Uint8Array(buffer, 9, 3), new Float32Array(buffer, 16, 2), new DataView(buffer, 30, 1)];
}

function resizable(): unknown {
  const buffer = new ArrayBuffer(4, { maxByteLength: 16 });
  return { buffer, follows: new Int8Array(buffer), fixed: new Int8Array(buffer, 0, 4) };
}

class Point {
  x = 1;
  y = 2;
}

/** Makes the values, each with a name. */
export function fixtureValues(): [name: string, value: unknown][] {
  return [
    ["undefined", undefined],
    ["null", null],
    ["booleans", [true, false]],
    ["integers", [
      0,
      63,
      64,
      255,
      256,
      -1,
      -32768,
      32767,
      32768,
      -32769,
      2147483647,
      -2147483648,
      2147483648,
    ]],
    ["fractions", [-0, 0.1, -1.5, NaN, Infinity, -Infinity, 5e-324, 1.7976931348623157e308, 2 ** 53]],
    ["bigints", [
      0n,
      -1n,
      2n ** 63n - 1n,
      -(2n ** 63n),
      2n ** 63n,
      2n ** 64n,
      -(2n ** 100n),
      0x123456789abcdef0123n,
    ]],
    ["short strings", ["", "hello", "caf\u00e9", "x".repeat(31)]],
    ["long strings", ["x".repeat(32), "y".repeat(200), "\u00e9".repeat(40), "\u{1f600}".repeat(20)]],
    ["wide strings", ["日本", "\ud800", "\udc00x".repeat(20), "\ufeff"]],
    ["dates", [new Date(0), new Date(1.7e12), new Date(NaN)]],
    ["regexps", [/a+/gi, /[/\]]/u, new RegExp("")]],
    ["map", new Map<unknown, unknown>([["a", 1], [{ k: 1 }, new Map()]])],
    ["set", new Set<unknown>([1, "a", [2]])],
    ["array", Array.from({ length: 20 }, (_, i) => i * 100)],
    ["holes", holes()],
    ["sparse array", sparse()],
    ["named properties", Object.assign([1, 2], { name: "list", other: [3] })],
    ["object", { id: 1, name: "hello", args: [1, 2, 3], nested: { a: true, b: null } }],
    ["objects of one shape", Array.from({ length: 5 }, (_, i) => ({ id: i, text: `t${i}` }))],
    ["objects of many shapes", Array.from({ length: 40 }, (_, i) => [{ [`k${i}`]: i }, { [`k${i}`]: -i }])],
    ["dictionary", { 1: "a", 2: "b", x: "c" }],
    ["wide keys", { "日本": 1, ["k".repeat(300)]: 2 }],
    ["many keys", Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`key${i}`, i]))],
    ["a key __proto__", JSON.parse('{"__proto__": 1, "a": {"__proto__": null}}')],
    ["class instance", new Point()],
    ["boxed", [Object(true), Object(-0), Object("s"), Object(5n)]],
    ["error", fixedError()],
    ["error of another name", namedError()],
    ["cycle", cycle()],
    ["repeated references", Array(30).fill([{}])],
    ["handle", { [kHandle]: () => ({ kind: 7, block: 4000000000, generation: 9 }) }],
    ["small buffer", new Uint8Array([1, 2, 3]).buffer],
    ["large buffer", new Uint8Array(1500).map((_, i) => i)],
    ["views", views()],
    ["resizable buffer", resizable()],
    ["every view", [
      new Int8Array([-1]),
      new Uint8ClampedArray([1]),
      new Int16Array([-2]),
      new Uint16Array([2]),
      new Int32Array([-3]),
      new Uint32Array([3]),
      new Float32Array([1.5]),
      new Float64Array([2.5]),
      new BigInt64Array([-4n]),
      new BigUint64Array([4n]),
    ]],
  ];
}
