/** Values and arrays: `_TestValue`, `_TestArray`, `_TestSharedCTypes` and `_TestHeap` of CPython's suite by their rows, and what is ours. */
import { assert, assertAlmostEquals, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  Process,
  Queue,
  type RLock,
  session,
  SharedArray,
  type TypedArray,
  Value,
  type ValueType,
} from "../../multiprocessing/mod.ts";
import { CLASS_BYTES, SPAN_BYTES, SPAN_MULTI, SPAN_SHIFT, SPANS } from "../../multiprocessing/core/layout.ts";
import { current } from "../../multiprocessing/core/session.ts";
import {
  addOften,
  addUnderLock,
  double,
  flip,
  type Mixed,
  returnArray,
  sendArray,
  setValues,
  structOf,
  sumUp,
  takeLock,
} from "../fixtures/shared_tasks.ts";
import { backTo, pause, STALL_MS, timed, use, within } from "./support.ts";

const NUMBERS = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831];

async function run(process: Process<never[]>): Promise<void> {
  await process.start();
  assertEquals(await process.join({ timeout: STALL_MS }), 0);
}

/** A full collection, where the runtime lets tests ask for one. */
function collect(): void {
  const scope = globalThis as unknown as { gc?: () => void; Bun?: { gc(force: boolean): void } };
  if (scope.Bun !== undefined) scope.Bun.gc(true);
  else scope.gc!();
}

describe("Value", () => {
  for (const [row, locked] of [["VAL-01", true], ["VAL-02", false]] as const) {
    timed(`${row} is read and written by a child, ${locked ? "locked" : "unlocked"}`, 30_000, async () => {
      const before = use();
      const values = [
        new Value("i32", 4343),
        new Value("f64", 3.625),
        new Value("i16", -232),
        new Value("i64", 2n ** 33n),
        new Value("u8", "x".charCodeAt(0)),
      ] as Value[];
      assertEquals(values.map((value) => value.value), [4343, 3.625, -232, 2n ** 33n, 120] as never[]);
      const wanted = [24234, -4.25, 234, 2n ** 34n, "y".charCodeAt(0)];
      await run(new Process({ target: setValues, args: [values, wanted, locked] }) as never);
      assertEquals(values.map((value) => value.value), wanted as never[]);
      for (const value of values) value[Symbol.dispose]();
      await backTo(before);
    });
  }

  it("VAL-04 of a type that there is not", () => {
    assertThrows(() => new Value("x" as ValueType), TypeError, "bad typecode");
    assertThrows(() => new Value(undefined as never), TypeError, "bad typecode");
  });

  it("of each type has its bounds", () => {
    const bounds: [ValueType, number | bigint, number | bigint][] = [
      ["i8", -128, 127],
      ["u8", 0, 255],
      ["i16", -32768, 32767],
      ["u16", 0, 65535],
      ["i32", -(2 ** 31), 2 ** 31 - 1],
      ["u32", 0, 2 ** 32 - 1],
      ["i64", -(2n ** 63n), 2n ** 63n - 1n],
      ["u64", 0n, 2n ** 64n - 1n],
    ];
    for (const [type, least, most] of bounds) {
      using value = new Value(type) as unknown as Value<"i64">;
      const one = (typeof least === "bigint" ? 1n : 1) as bigint;
      for (const edge of [least, most] as bigint[]) {
        value.value = edge;
        assertEquals(value.value, edge);
      }
      const message = `from ${least} to ${most}`;
      assertThrows(() => value.value = most as bigint + one, RangeError, message);
      assertThrows(() => value.value = least as bigint - one, RangeError, message);
      assertThrows(() => value.add(one), RangeError, message);
      assertEquals(value.value, most as bigint);
      assertEquals(value.add(-one), most as bigint - one);
      value.value = least as bigint;
      assertThrows(() => value.add(-one), RangeError, message);
      assertEquals(value.add(one), least as bigint + one);
      assertThrows(() => new Value(type, (most as bigint + one) as never), RangeError, message);
      assertThrows(() => value.value = "1" as never, TypeError, "string");
      assertThrows(() => value.add("1" as never), TypeError, "string");
      assertThrows(() => value.value = (typeof least === "bigint" ? 1 : 1n) as never, TypeError);
      assertEquals(String(value), `Value(${type}, ${least as bigint + one})`);
    }
    assertThrows(() => new Value("i32", 1.5), RangeError, "whole");
    assertThrows(() => new Value("i32", NaN), RangeError, "whole");
    using whole = new Value("i32");
    assertThrows(() => whole.add(0.5), TypeError, "whole");
  });

  it("may be a boolean or a fraction", () => {
    using flag = new Value("bool");
    assertStrictEquals(flag.value, false);
    flag.value = true;
    assertStrictEquals(flag.value, true);
    assertThrows(() => flag.value = 1 as never, TypeError, "boolean");
    assertThrows(() => flag.add(true), TypeError, "getLock");
    for (const number of [0, -0, 1 / 3, -1e308, NaN, Infinity, 5e-324]) {
      using double = new Value("f64", number);
      assertStrictEquals(double.value, number);
      using single = new Value("f32", number);
      assertStrictEquals(single.value, Math.fround(number));
    }
    using fraction = new Value("f64");
    assertThrows(() => fraction.add(1), TypeError, "integers");
    assertThrows(() => new Value("f64", 1n as never), TypeError, "number");
  });

  it("cannot be used once disposed", () => {
    const value = new Value("i32", 5);
    const lock = value.getLock();
    assertStrictEquals(value.getLock(), lock);
    value[Symbol.dispose]();
    assertThrows(() => value.value, TypeError, "disposed");
    assertThrows(() => value.value = 1, TypeError, "disposed");
    assertThrows(() => value.add(1), TypeError, "disposed");
    assertThrows(() => value.getLock(), TypeError, "disposed");
    assertEquals(lock.disposed, true);
    assertEquals(String(value), "Value(i32, disposed)");
  });

  timed("loses no addition, whatever its width", 60_000, async () => {
    const before = use();
    const types: ValueType[] = ["i16", "u16", "i32", "u32", "i64", "u64"];
    const values = types.map((type) => new Value(type));
    const small = [new Value("i8", -128), new Value("u8")];
    const [ready, go] = [new Queue<string>(), new Queue<string>()];
    const children = [];
    for (let i = 0; i < 2; i++) {
      children.push(
        await new Process({ target: addOften, args: [values as Value[], 10_000, ready, go] }).start(),
      );
      children.push(
        await new Process({ target: addOften, args: [small as Value[], 100, ready, go] }).start(),
      );
    }
    for (const _ of children) await ready.get({ timeout: STALL_MS });
    for (const _ of children) await go.put("go");
    for (const child of children) assertEquals(await child.join({ timeout: STALL_MS }), 0);
    assertEquals(values.map((value) => Number(value.value)), types.map(() => 20_000));
    assertEquals(small.map((value) => value.value), [72, 200]);
    for (const handle of [...values, ...small, ready, go]) handle[Symbol.dispose]();
    await backTo(before);
  });

  timed("is never seen half written", 60_000, async () => {
    using big = new Value("i64");
    using float = new Value("f64", 5e-324);
    using on = new Value("bool", true);
    using ready = new Queue<string>();
    const child = await new Process({ target: flip, args: [big, float, on, ready] }).start();
    await ready.get({ timeout: STALL_MS });
    const bigs = new Map<bigint, number>();
    const floats = new Map<number, number>();
    const started = performance.now();
    while (
      performance.now() - started < 10_000 && (bigs.size < 2 || floats.size < 2 || bigs.get(0n)! < 50_000)
    ) {
      for (let i = 0; i < 1000; i++) {
        const [b, f] = [big.value, float.value];
        bigs.set(b, (bigs.get(b) ?? 0) + 1);
        floats.set(f, (floats.get(f) ?? 0) + 1);
      }
      await pause(0);
    }
    on.value = false;
    assertEquals(await child.join({ timeout: STALL_MS }), 0);
    assertEquals([...bigs.keys()].sort(), [-1n, 0n]);
    assertEquals([...floats.keys()].sort((a, b) => a - b), [5e-324, 1.7976931348623157e308]);
  });

  timed("has a lock that travels alone, and passes on when its owner is killed", 40_000, async () => {
    const before = use();
    const value = new Value("i32");
    const out = new Queue<boolean>();
    const lock = value.getLock();
    const guard = await lock.acquire();
    const first = await new Process({ target: takeLock, args: [lock, out] }).start();
    // The child's lock keeps the block, whatever becomes of the value here.
    guard.release();
    assertEquals(await out.get({ timeout: STALL_MS }), false);
    assertEquals(await first.join({ timeout: STALL_MS }), 0);
    const ready = new Queue<string>();
    const array = new SharedArray(Int32Array, 100_000);
    const child = await new Process({ target: addUnderLock, args: [array, ready] }).start();
    await ready.get({ timeout: STALL_MS });
    child.kill();
    await child.join();
    {
      using late = await array.getLock().acquire({ timeout: STALL_MS });
      const { view } = array;
      assert(view[0] >= 10);
      // Whole, or half changed and known to be.
      assert(late.abandoned || view.every((each) => each === view[0]));
    }
    for (const handle of [value, out, ready, array]) handle[Symbol.dispose]();
    await backTo(before);
  });

  timed("sends its lock in a queue, which keeps its memory", 20_000, async () => {
    const before = use();
    const queue = new Queue<RLock>();
    const value = new Value("i32");
    await queue.put(value.getLock());
    value[Symbol.dispose]();
    const lock = await queue.get({ timeout: STALL_MS });
    using guard = await lock.acquire();
    assert(lock.tryAcquire() !== null, "it is re-entrant");
    lock.release();
    guard.release();
    for (const handle of [lock, queue]) handle[Symbol.dispose]();
    await backTo(before);
  });
});

describe("SharedArray", () => {
  for (const [row, locked] of [["VAL-05", true], ["VAL-07", false]] as const) {
    timed(`${row} is an array like another, ${locked ? "locked" : "unlocked"}`, 30_000, async () => {
      const before = use();
      const array = new SharedArray(Int32Array, NUMBERS);
      const list = [...NUMBERS];
      assertEquals([array.length, array.view.length], [10, 10]);
      assertEquals(array.view[3], 821);
      assertEquals([...array.view.slice(2, 7)], list.slice(2, 7));
      array.view.set([1, 2, 3, 4], 4);
      list.splice(4, 4, 1, 2, 3, 4);
      assertEquals([...array.view], list);
      await run(new Process({ target: sumUp, args: [array, locked] }) as never);
      for (let i = 1; i < list.length; i++) list[i] += list[i - 1];
      assertEquals([...array.view], list);
      array[Symbol.dispose]();
      await backTo(before);
    });
  }

  it("VAL-06 is zeros at first, on used memory too", () => {
    for (let round = 0; round < 3; round++) {
      const array = new SharedArray(Int32Array, 10);
      assertEquals([...array.view], new Array(10).fill(0));
      array.view.set(Array.from({ length: 10 }, (_, i) => i));
      assertEquals([...array.view], Array.from({ length: 10 }, (_, i) => i));
      array[Symbol.dispose]();
    }
    for (let round = 0; round < 2; round++) {
      using array = new SharedArray(Uint8Array, 1_000_000);
      assert(array.view.every((each) => each === 0));
      array.view.fill(7);
    }
  });

  it("VAL-09 of a class that is none", () => {
    for (const wrong of ["x", undefined, Array, DataView, ArrayBuffer, class Own extends Int8Array {}]) {
      assertThrows(() => new SharedArray(wrong as never, 1), TypeError, "bad typecode");
    }
    for (const wrong of [-1, 1.5, NaN, 2 ** 32]) {
      assertThrows(() => new SharedArray(Uint8Array, wrong), RangeError, String(wrong));
    }
    assertThrows(() => new SharedArray(Uint8Array, 2 ** 31), RangeError, "GEVENTMP_ARENA_MIB");
  });

  for (const [row, locked] of [["VAL-10", false], ["VAL-11", true]] as const) {
    timed(`${row} and values are doubled by a child, ${locked ? "locked" : "unlocked"}`, 30_000, async () => {
      const before = use();
      const mixed: Mixed = {
        x: new Value("i32", 7),
        y: new Value("f64", 1 / 3),
        z: new Value("i64", 2n ** 33n),
        // There are no structs: bytes, and a DataView, are what JavaScript has for them.
        struct: new SharedArray(Uint8Array, 24),
        array: new SharedArray(Float64Array, Array.from({ length: 10 }, (_, i) => i)),
        string: new SharedArray(Uint8Array, 20),
      };
      const struct = structOf(mixed.struct);
      struct.setInt32(0, 3, true);
      struct.setFloat64(8, 2, true);
      struct.setBigInt64(16, 2n ** 33n, true);
      mixed.string.view.set(new TextEncoder().encode("hello"));
      await run(new Process({ target: double, args: [mixed, locked] }) as never);
      assertEquals(mixed.x.value, 14);
      assertAlmostEquals(mixed.y.value, 2 / 3, 1e-7);
      assertEquals(mixed.z.value, 2n ** 34n);
      assertEquals([struct.getInt32(0, true), struct.getFloat64(8, true)], [6, 4]);
      assertEquals(struct.getBigInt64(16, true), 2n ** 33n);
      assertEquals([...mixed.array.view], Array.from({ length: 10 }, (_, i) => 2 * i));
      assertEquals(new TextDecoder().decode(mixed.string.view.slice(0, 10)), "hellohello");
      for (const handle of Object.values(mixed)) (handle as Disposable)[Symbol.dispose]();
      await backTo(before);
    });
  }

  it("VAL-12 is copied by slice", () => {
    using shared = new SharedArray(Float64Array, [2, 5, 2 ** 33]);
    const copy = shared.view.slice();
    shared.view.fill(0);
    assertEquals([...copy], [2, 5, 2 ** 33]);
  });

  it("may be of each class", () => {
    const classes = [
      Int8Array,
      Uint8Array,
      Uint8ClampedArray,
      Int16Array,
      Uint16Array,
      Int32Array,
      Uint32Array,
      Float32Array,
      Float64Array,
    ] as const;
    const half = (globalThis as unknown as { Float16Array?: typeof Float32Array }).Float16Array;
    for (const each of [...classes, ...(half === undefined ? [] : [half])]) {
      using array = new SharedArray(each as typeof Float64Array, [1, 2, 3]);
      assert(array.view instanceof each);
      assertEquals([...array.view], [1, 2, 3]);
      assertEquals(array.view.buffer.byteLength, 3 * each.BYTES_PER_ELEMENT);
      using empty = new SharedArray(each as typeof Float64Array, 0);
      assertEquals([empty.length, empty.view.length], [0, 0]);
    }
    for (const each of [BigInt64Array, BigUint64Array] as const) {
      using array = new SharedArray(each as typeof BigInt64Array, new Set([1n, 2n]));
      assertEquals([...array.view], [1n, 2n]);
      assertEquals(String(array), `SharedArray(${each.name}, 2)`);
    }
    assertThrows(() => new SharedArray(BigInt64Array, [1] as never), TypeError);
  });

  it("cannot be touched once disposed, though its memory is another's", () => {
    const array = new SharedArray(Int32Array, 8);
    const { view } = array;
    const bytes = new Uint8Array(view.buffer);
    array[Symbol.dispose]();
    using next = new SharedArray(Int32Array, 8);
    view[0] = 1;
    assertThrows(() => bytes.fill(255), TypeError);
    assertEquals([view.length, view[0], bytes.length], [0, undefined, 0]);
    assertEquals([...next.view], new Array(8).fill(0));
    assertThrows(() => array.view, TypeError, "disposed");
    assertEquals(String(array), "SharedArray(Int32Array, 8, disposed)");
  });

  timed("travels by a queue, there and back, and outlives who made it", 40_000, async () => {
    const before = use();
    const [there, back] = [
      new Queue<SharedArray<Float64Array<ArrayBuffer>>>(),
      new Queue<SharedArray<Float64Array<ArrayBuffer>>>(),
    ];
    for (const length of [3, 100_000]) {
      const child = await new Process({
        target: sendArray,
        args: [there as unknown as Queue<SharedArray<TypedArray>>, length],
      }).start();
      assertEquals(await child.join({ timeout: STALL_MS }), 0);
      const other = await new Process({ target: returnArray, args: [there, back] }).start();
      using array = await back.get({ timeout: STALL_MS });
      assertEquals([array.length, array.view[0], array.view[length - 1]], [length, 3, 1.5]);
      assertEquals(await other.join({ timeout: STALL_MS }), 0);
      array[Symbol.dispose]();
    }
    for (const queue of [there, back]) queue[Symbol.dispose]();
    await backTo(before);
  });
});

describe("the arena", () => {
  timed("HEAP-01 is tiled by its blocks, and empty when all are freed", 60_000, async () => {
    const before = use();
    const live: { array: SharedArray; bytes: number }[] = [];
    const check = (): void => {
      const { arena } = current();
      const m = arena.i32;
      const ranges: [number, number][] = [];
      arena.visitBlocks(0, (block) => {
        const info = m[SPANS + (block >>> SPAN_SHIFT) * 2 + 1];
        ranges.push([
          block * 4,
          (info & SPAN_MULTI) !== 0 ? (info & ~SPAN_MULTI) * SPAN_BYTES : CLASS_BYTES[info & 0xff],
        ]);
      }, () => true);
      ranges.sort(([a], [b]) => a - b);
      for (let i = 1; i < ranges.length; i++) {
        assert(ranges[i - 1][0] + ranges[i - 1][1] <= ranges[i][0], "two blocks overlap");
      }
      assertEquals(ranges.length, before.blocks + live.length);
      for (const { array, bytes } of live) {
        const start = array.view[0];
        assert(array.view.every((each) => each === start), `an array of ${bytes} bytes is not its own`);
      }
    };
    for (let i = 0; i < 5000; i++) {
      // As in CPython: lognormal(0, 1) * 1000 bytes, about 50 at a time.
      const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
      const bytes = Math.floor(Math.exp(normal) * 1000) + 1;
      const array = new SharedArray(Uint8Array, bytes);
      array.view.fill(i);
      live.push({ array, bytes });
      if (live.length > 50) {
        live.splice(Math.floor(Math.random() * live.length), 1)[0].array[Symbol.dispose]();
      }
      if (i % 500 === 0) check();
    }
    check();
    for (const { array } of live) array[Symbol.dispose]();
    live.length = 0;
    await backTo(before);
  });

  // What the collector finds, it finds some time later: so these come last.
  timed("HEAP-02 is given back what the collector finds", 60_000, async () => {
    const before = use();
    for (let i = 0; i < 5000; i++) {
      (() => {
        const [a, b] = [new SharedArray(Uint8Array, 1), new SharedArray(Uint8Array, 1)];
        Object.assign(a, { other: b });
        Object.assign(b, { other: a });
      })();
      if (i % 500 === 0) {
        collect();
        await pause(0);
      }
    }
    // One of the runtimes scans its stack conservatively: a few may stay.
    const start = performance.now();
    while (use().blocks > before.blocks + 100 && performance.now() - start < STALL_MS) {
      collect();
      await pause(10);
    }
    assert(use().blocks <= before.blocks + 100, `${use().blocks - before.blocks} of 10000 blocks stayed`);
  });

  timed("is kept by a view whose handle was dropped", 30_000, async () => {
    const view = (() => new SharedArray(Int32Array, 1000).view.fill(5))();
    for (let i = 0; i < 5; i++) {
      collect();
      await pause(5);
      for (let j = 0; j < 20; j++) {
        using other = new SharedArray(Int32Array, 1000);
        other.view.fill(j);
      }
    }
    assert(view.every((each) => each === 5));
  });
});

describe("the end", () => {
  it("leaves the session, and detaches what shows its memory", async () => {
    const { view } = new SharedArray(Int32Array, 5);
    await session()[Symbol.asyncDispose]();
    await within(STALL_MS, "the end of the view", () => view.length === 0);
    assertEquals(view[0], undefined);
  });
});
