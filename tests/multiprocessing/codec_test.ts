import { describe, it } from "@std/testing/bdd";
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { CodecError, decode, encode, kHandle, MAX_DEPTH } from "../../multiprocessing/codec/mod.ts";
import { difference } from "./codec_compare.ts";

const noHandle = (): object => {
  throw new Error("no handle was sent");
};

function pass(value: unknown, offset = 5): unknown {
  const encoded = encode(value);
  const memory = new Uint8Array(encoded.byteLength + offset + 3).fill(0xee);
  encoded.writeTo(memory, offset);
  for (const i of [offset - 1, offset + encoded.byteLength]) {
    if (i >= 0) assertEquals(memory[i], 0xee, "nothing outside the message is written");
  }
  const result = decode(memory, offset, encoded.byteLength, noHandle);
  memory.fill(0xee);
  return result;
}

function assertSame(actual: unknown, expected: unknown): void {
  const found = difference(actual, expected);
  assert(found === undefined, found);
}

/** Passes a value and compares with the value itself. */
function assertKept(value: unknown): void {
  assertSame(pass(value), value);
}

/** Passes a value and compares with what the runtime's structured clone makes of it. */
function assertCloned(value: unknown): void {
  assertSame(pass(value), structuredClone(value));
}

const anyString = fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 80 }).map((units) =>
  String.fromCharCode(...units)
);
const anyKey = fc.oneof(
  fc.string(),
  anyString,
  fc.constantFrom("__proto__", "constructor", "toString", "length", "0", "1", "-1", "4294967295", ""),
);
const anyValue = fc.anything({
  key: anyKey,
  maxDepth: 4,
  withBigInt: true,
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withNullPrototype: true,
  withSet: true,
  withSparseArray: true,
  withTypedArray: true,
  values: [
    fc.boolean(),
    fc.integer(),
    fc.double(),
    anyString,
    fc.bigInt(),
    fc.bigInt({ min: -(2n ** 200n), max: 2n ** 200n }),
    fc.constantFrom(
      undefined,
      null,
      -0,
      NaN,
      Infinity,
      -Infinity,
      2 ** 31,
      -(2 ** 31),
      2 ** 53,
      255,
      256,
      -1,
    ),
    fc.constantFrom(/a+/gi, /[\u{1F600}/]/u, new RegExp("")),
    fc.constant(new Date(NaN)),
  ],
});

/** Objects of all kinds, each with any of the others inside it, itself too. */
const anyGraph = fc.record({
  kinds: fc.array(fc.constantFrom("object", "array", "map", "set", "error"), { minLength: 1, maxLength: 30 }),
  edges: fc.array(fc.tuple(fc.nat(29), fc.nat(29), fc.string({ maxLength: 3 })), { maxLength: 80 }),
}).map(({ kinds, edges }) => {
  const nodes = kinds.map((kind): unknown =>
    kind === "object"
      ? {}
      : kind === "array"
      ? []
      : kind === "map"
      ? new Map()
      : kind === "set"
      ? new Set()
      : new RangeError("node")
  );
  for (const [a, b, name] of edges) {
    const from = nodes[a % nodes.length];
    const to = nodes[b % nodes.length];
    if (from instanceof Map) from.set(to, from.get(to) === undefined ? to : nodes[0]);
    else if (from instanceof Set) from.add(to);
    else if (from instanceof Error) from.cause = to;
    else if (Array.isArray(from)) from.push(to);
    else (from as Record<string, unknown>)[`k${name}`] = to;
  }
  return nodes;
});

describe("codec: values", () => {
  it("passes whatever structured clone does, as structured clone does", () => {
    fc.assert(fc.property(anyValue, (value) => assertCloned(value)), { numRuns: 1500 });
  });

  it("passes any string unit by unit", () => {
    fc.assert(fc.property(anyString, assertKept), { numRuns: 500 });
    fc.assert(fc.property(fc.string({ maxLength: 200 }), assertKept), { numRuns: 500 });
    for (const size of [30, 31, 32, 33, 127, 128, 65535, 65536, 100_000]) {
      for (const unit of ["a", "\xff", "日", "\ud800", "\udc00", "\ufffd"]) {
        assertKept(unit.repeat(size));
        assertKept({ [unit.repeat(size)]: unit });
      }
      assertKept("😀".repeat(size / 2 | 0));
    }
    assertKept("\ufeffx".repeat(40));
  });

  it("passes any number", () => {
    fc.assert(fc.property(fc.oneof(fc.double(), fc.integer(), fc.maxSafeInteger()), assertKept), {
      numRuns: 1000,
    });
    for (let bit = 0; bit < 64; bit++) {
      for (const near of [-1, 0, 1]) {
        assertKept(2 ** bit + near);
        assertKept(-(2 ** bit) + near);
        assertKept(2n ** BigInt(bit) + BigInt(near));
        assertKept(-(2n ** BigInt(bit)) + BigInt(near));
      }
    }
    for (const bits of [65n, 100n, 4096n, 100_003n]) assertKept(2n ** bits - 3n), assertKept(-(2n ** bits));
  });

  it("keeps cycles and repeated references", () => {
    fc.assert(fc.property(anyGraph, (nodes) => assertSame(pass(nodes), nodes)), { numRuns: 500 });
  });

  it("keeps holes and the named properties of arrays", () => {
    const named: unknown[] & { foo?: string } = [1, , 3];
    named.foo = "bar";
    named[5] = undefined;
    assertCloned(named);
    assertCloned("abc".match(/b(?<c>c)/));
    assertCloned([, , ,]);
    const sparse: unknown[] = [];
    sparse.length = 100_000;
    sparse[12345] = { a: 1 };
    assertCloned(sparse);
    // Bun's structured clone takes ten seconds for this one.
    sparse.length = 1e9;
    assertKept(sparse);
    const full = new Array<number>(4294967295);
    full[4294967294] = 1;
    assertKept(full);
    const holes = Array.from({ length: 3000 }, (_, i) => i);
    delete holes[1000];
    delete holes[2999];
    assertCloned(holes);
    assertCloned(Object.assign([], { x: [1], "01": 2, "4294967295": 3 }));
  });

  it("leaves the named properties of an array of more than 64 elements behind", () => {
    const at64 = Object.assign(new Array(64).fill(0), { name: 1 });
    const at65 = Object.assign(new Array(65).fill(0), { name: 1 });
    assertKept(at64);
    assertSame(pass(at65), new Array(65).fill(0));
  });

  it("passes a class instance as a plain object, with own enumerable properties only", () => {
    class Base {
      own = 1;
      get inherited(): number {
        return 2;
      }
    }
    class Derived extends Base {
      #secret = 3;
      array = [this.#secret];
    }
    assertCloned(new Derived());
    assertCloned(
      Object.create({ inherited: 1 }, { hidden: { value: 1 }, seen: { value: 2, enumerable: true } }),
    );
    assertCloned({ [Symbol("key")]: 1, text: 2 });
    assertCloned(Object.assign(Object.create(null), { a: 1 }));
    for (const Class of [Map, Set, Date, RegExp, Array, Uint8Array]) {
      const Sub = class extends (Class as MapConstructor) {};
      assertCloned(new Sub());
    }
    for (
      const { prototype } of [
        Map,
        Set,
        Date,
        RegExp,
        Error,
        ArrayBuffer,
        Boolean,
        Number,
        String,
        BigInt,
        DOMException,
      ]
    ) {
      const heir: unknown = Object.assign(Object.create(prototype), { x: 1 });
      assertSame(pass(heir), { x: 1 });
    }
  });

  it("calls accessors, in order, and copes with what they do", () => {
    const order: string[] = [];
    const value = {
      get a(): number {
        order.push("a");
        delete (value as { c?: number }).c;
        return 1;
      },
      get b(): unknown {
        order.push("b");
        const inner = encode({ inside: [1, "two", new Uint8Array(3)], again: { inside: 1 } });
        const memory = new Uint8Array(inner.byteLength);
        inner.writeTo(memory, 0);
        return decode(memory, 0, memory.length, noHandle);
      },
      c: 3,
      d: { a: 1, b: "x".repeat(10_000) },
    };
    assertSame(pass(value), {
      a: 1,
      b: { inside: [1, "two", new Uint8Array(3)], again: { inside: 1 } },
      d: { a: 1, b: "x".repeat(10_000) },
    });
    assertEquals(order, ["a", "b"]);
    const map = new Map<unknown, unknown>();
    map.set(1, {
      get x(): number {
        map.set(2, 2);
        return 1;
      },
    });
    assertSame(pass(map), new Map([[1, { x: 1 }]]));
    const failing = {
      get x(): number {
        throw new RangeError("mine");
      },
    };
    assertThrows(() => encode({ a: [failing] }), RangeError, "mine");
    assertKept({ after: "a failure" });
  });

  it("makes __proto__ a property like any other", () => {
    const value = JSON.parse('{"__proto__": {"polluted": 1}, "a": {"__proto__": 5}, "constructor": 1}');
    assertCloned(value);
    const dictionary = JSON.parse('{"1": 1, "__proto__": {"polluted": 1}}');
    assertCloned(dictionary);
    const array = Object.assign([1], JSON.parse('{"x": 1}'));
    Object.defineProperty(array, "__proto__", { value: { polluted: 1 }, enumerable: true });
    assertSame(Object.keys(pass(array) as object), ["0", "x", "__proto__"]);
    assertEquals(({} as { polluted?: number }).polluted, undefined);
    assertEquals(([] as { polluted?: number }).polluted, undefined);
  });

  it("passes objects of many shapes and sizes", () => {
    const values: unknown[] = [];
    for (let count = 0; count < 60; count++) {
      for (const name of ["k", "a long name of a property ", "é", "日"]) {
        values.push(Object.fromEntries(Array.from({ length: count }, (_, i) => [`${name}${i}`, i])));
      }
    }
    assertCloned(values);
    assertCloned(values.concat(values));
    assertCloned(Array.from({ length: 2000 }, (_, i) => ({ [`key${i}`]: i, [`x${i % 7}`]: {} })));
  });
});

describe("codec: errors", () => {
  it("keeps class, name, message, stack and cause", () => {
    const classes = [Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError];
    for (const Class of classes) {
      const sent = new Class("what went wrong", { cause: { code: 5 } });
      const got = pass(sent) as Error;
      assertEquals(Object.getPrototypeOf(got), Class.prototype);
      assertEquals([got.name, got.message, got.stack], [sent.name, sent.message, sent.stack]);
      assertSame(got.cause, { code: 5 });
      const { enumerable } = Object.getOwnPropertyDescriptor(got, "cause")!;
      assertEquals(enumerable, false);
    }
    assert(!Object.hasOwn(pass(new Error()) as Error, "message"));
    assert(!Object.hasOwn(pass(new Error("x")) as Error, "cause"));
    assert(Object.hasOwn(pass(new Error("x", { cause: undefined })) as Error, "cause"));
  });

  it("keeps the errors of an AggregateError", () => {
    const sent = new AggregateError([new TypeError("a"), "b"], "several");
    const got = pass(sent) as AggregateError;
    assert(got instanceof AggregateError);
    assertEquals([got.message, got.errors.length, got.errors[0].name, got.errors[1]], [
      "several",
      2,
      "TypeError",
      "b",
    ]);
  });

  it("keeps a name of its own and properties such as code, not what cannot be sent", () => {
    class NotFound extends TypeError {
      override name = "NotFound";
      code = "ENOENT";
      errno = 2;
      retry = (): void => {};
    }
    const got = pass(new NotFound("gone")) as NotFound;
    assertEquals(Object.getPrototypeOf(got), TypeError.prototype);
    assertEquals([got.name, got.message, got.code, got.errno], ["NotFound", "gone", "ENOENT", 2]);
    assert(!("retry" in got));
    const renamed = new Error("x");
    renamed.name = "RangeError";
    assert(pass(renamed) instanceof RangeError, "as structured clone: the class goes by the name");
  });

  it("keeps a cycle through cause", () => {
    const sent = new Error("x");
    sent.cause = { error: sent };
    const got = pass(sent) as { cause: { error: unknown } };
    assert(got.cause.error === got);
  });

  it("passes a DOMException", () => {
    const got = pass(new DOMException("timed out", "TimeoutError")) as DOMException;
    assert(got instanceof DOMException);
    assertEquals([got.name, got.message, got.code], ["TimeoutError", "timed out", 23]);
  });
});

describe("codec: buffers", () => {
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
    BigInt64Array,
    BigUint64Array,
    ...("Float16Array" in globalThis ? [Float16Array] : []),
  ];

  function filled(size: number): ArrayBuffer {
    const buffer = new ArrayBuffer(size);
    new Uint8Array(buffer).forEach((_, i, all) => all[i] = i * 7 + 1);
    return buffer;
  }

  it("passes every class of view", () => {
    for (const size of [0, 8, 64, 1016, 1024, 4096, 1 << 20]) {
      for (const Class of classes) assertCloned(new Class(filled(size)));
      assertCloned(new DataView(filled(size)));
      assertCloned(filled(size));
    }
  });

  it("sends only the part of a buffer that its views cover", () => {
    const buffer = filled(1 << 20);
    assert(encode(new Uint8Array(buffer, 500_000, 10)).byteLength < 64);
    const one = pass(new Uint16Array(buffer, 500_000, 10)) as Uint16Array;
    assertEquals([one.length, one.byteOffset, one.buffer.byteLength], [10, 0, 20]);
    assertEquals([...one], [...new Uint16Array(buffer, 500_000, 10)]);
    const two = pass([new Uint8Array(buffer, 1003, 5), new Float64Array(buffer, 1016, 2)]) as [
      Uint8Array,
      Float64Array,
    ];
    assert(two[0].buffer === two[1].buffer);
    assertEquals([two[0].byteOffset, two[1].byteOffset, two[0].buffer.byteLength], [3, 16, 32]);
    assertSame([...two[0], ...two[1]], [
      ...new Uint8Array(buffer, 1003, 5),
      ...new Float64Array(buffer, 1016, 2),
    ]);
  });

  it("keeps views over one buffer together", () => {
    const buffer = filled(5000);
    const value = [
      new Uint8Array(buffer, 10, 20),
      { buffer },
      new DataView(buffer, 4000),
      new Int32Array(buffer, 8, 1),
    ];
    assertCloned(value);
    const got = pass(value) as [Uint8Array, { buffer: ArrayBuffer }];
    got[0][0] = 99;
    assertEquals(new Uint8Array(got[1].buffer)[10], 99);
    assertEquals(new Uint8Array(buffer)[10], 71);
    const view = new Uint8Array(buffer);
    const same = pass([view, view, buffer, buffer]) as unknown[];
    assert(same[0] === same[1] && same[2] === same[3]);
  });

  it("passes many buffers of all sizes among other values", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3000), anyString), { maxLength: 40 }), (parts) => {
        assertCloned(parts.map(([size, text]) => ({ data: new Uint8Array(filled(size)), text })));
      }),
      { numRuns: 60 },
    );
  });

  it("keeps a resizable buffer resizable, and its views following it", () => {
    for (const most of [16, 20, 64]) {
      const buffer = new ArrayBuffer(16, { maxByteLength: most });
      new Uint8Array(buffer).set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
      const value = {
        whole: new Uint8Array(buffer),
        tail: new Uint16Array(buffer, 4),
        fixed: new Uint8Array(buffer, 8, 8),
        inside: new Uint8Array(buffer, 2, 2),
        data: new DataView(buffer, 1),
        fixedData: new DataView(buffer, 1, 15),
      };
      const got = pass(value) as typeof value;
      assertEquals([...new Uint8Array(buffer)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
      assertEquals(buffer.byteLength, 16);
      assertSame([...got.whole], [...value.whole]);
      const copy = got.whole.buffer as ArrayBuffer;
      assertEquals([copy.resizable, copy.maxByteLength, copy.byteLength], [true, most, 16]);
      copy.resize(12);
      assertEquals(
        [got.whole.length, got.tail.length, got.fixed.length, got.inside.length, got.data.byteLength],
        [12, 4, 0, 2, 11],
      );
      assertThrows(() => got.fixedData.byteLength, TypeError);
    }
  });

  it("reads large buffers when the message is written, and notices when they are gone", () => {
    const large = new Uint8Array(4096).fill(1);
    const encoded = encode({ large });
    large[0] = 2;
    const memory = new Uint8Array(encoded.byteLength);
    encoded.writeTo(memory, 0);
    assertEquals((decode(memory, 0, memory.length, noHandle) as { large: Uint8Array }).large[0], 2);
    structuredClone(large.buffer, { transfer: [large.buffer] });
    assertThrows(() => encoded.writeTo(memory, 0), TypeError, "transferred away");
    assertThrows(
      () => encode([large]),
      TypeError,
      "Cannot send value[0]: its ArrayBuffer was transferred away",
    );
    assertThrows(
      () => encode([large.buffer]),
      TypeError,
      "Cannot send value[0]: its ArrayBuffer was transferred away",
    );
  });

  it("reads from memory that is a subclass of Uint8Array", () => {
    class Odd extends Uint8Array {
      override subarray(): Uint8Array<ArrayBuffer> {
        throw new Error("not this one");
      }
    }
    const encoded = encode(["x".repeat(500), new Uint8Array(2000)]);
    const memory = new Odd(encoded.byteLength);
    encoded.writeTo(memory, 0);
    assertSame(decode(memory, 0, memory.length, noHandle), ["x".repeat(500), new Uint8Array(2000)]);
  });
});

describe("codec: handles", () => {
  class Thing {
    readonly #block: number;
    constructor(block: number) {
      this.#block = block;
    }
    [kHandle](): { kind: number; block: number; generation: number } {
      return { kind: 200, block: this.#block, generation: 4294967295 };
    }
  }

  it("travel inside values, each once, and come back through revive", () => {
    const a = new Thing(4294967295);
    const b = new Thing(1);
    const plain = { [kHandle]: () => ({ kind: 0, block: 0, generation: 0 }), ignored: (): void => {} };
    const encoded = encode({ a, list: [b, a], map: new Map<unknown, unknown>([[a, plain]]) });
    assertEquals(encoded.handles.length, 3);
    assert(encoded.handles[0] === a && encoded.handles[1] === b && encoded.handles[2] === plain);
    const memory = new Uint8Array(encoded.byteLength);
    encoded.writeTo(memory, 0);
    const calls: number[][] = [];
    const got = decode(memory, 0, memory.length, (kind, block, generation) => {
      calls.push([kind, block, generation]);
      // A revive may read a message itself.
      const inner = encode([1, { a: [] }]);
      const innerMemory = new Uint8Array(inner.byteLength);
      inner.writeTo(innerMemory, 0);
      decode(innerMemory, 0, innerMemory.length, noHandle);
      return { block };
    }) as { a: object; list: object[]; map: Map<unknown, unknown> };
    assertEquals(calls, [[200, 4294967295, 4294967295], [200, 1, 4294967295], [0, 0, 0]]);
    assert(got.list[1] === got.a && got.map.has(got.a));
    assertSame([got.a, got.list[0]], [{ block: 4294967295 }, { block: 1 }]);
  });

  it("have a name where they live outside the session, and then are in no list", () => {
    for (const name of ["/jobs", "/größe".repeat(40), "/任务"]) {
      const thing = { [kHandle]: () => ({ kind: 7, name }) };
      const encoded = encode([thing, { thing, after: "x" }]);
      assertEquals(encoded.handles.length, 0);
      const memory = new Uint8Array(encoded.byteLength);
      encoded.writeTo(memory, 0);
      const calls: unknown[] = [];
      const [one, { thing: two, after }] = decode(memory, 0, memory.length, (...call) => {
        calls.push(call);
        return {};
      }) as [object, { thing: object; after: string }];
      assert(one === two);
      assertEquals([calls, after], [[[7, 0, 0, name]], "x"]);
    }
  });

  it("are none for other values, in one shared list", () => {
    const first = encode({}).handles;
    assertEquals(first.length, 0);
    assert(Object.isFrozen(first) && encode([1]).handles === first);
  });

  it("pass on what their method and revive throw", () => {
    const closed = {
      [kHandle]: (): never => {
        throw new TypeError("closed");
      },
    };
    assertThrows(() => encode([closed]), TypeError, "closed");
    const encoded = encode(new Thing(1));
    const memory = new Uint8Array(encoded.byteLength);
    encoded.writeTo(memory, 0);
    assertThrows(() => decode(memory, 0, memory.length, noHandle), Error, "no handle was sent");
    assertKept([1]);
  });
});

describe("codec: what cannot be sent", () => {
  const refused: [value: () => unknown, message: string][] = [
    [() => () => 1, "Cannot send value: a function cannot be copied to another process; send a task or data"],
    [
      () => ({ items: [1, 2, 3, { callback(): void {} }] }),
      "Cannot send value.items[3].callback: a function",
    ],
    [() => ({ "a b": [Symbol("x")] }), 'Cannot send value["a b"][0]: a symbol cannot be copied'],
    [() => Object(Symbol("x")), "a symbol cannot be copied"],
    [
      () => new Map([["k", [Promise.resolve()]]]),
      'Cannot send value.get("k")[0]: a Promise cannot be copied',
    ],
    [() => new Map([[(): void => {}, 1]]), "Cannot send value.keys()[0]: a function"],
    [() => new Set([1, new WeakMap()]), "Cannot send value.values()[1]: a WeakMap belongs to this process"],
    [() => [new WeakSet()], "Cannot send value[0]: a WeakSet"],
    [() => [new WeakRef({})], "Cannot send value[0]: a WeakRef"],
    [() => [new FinalizationRegistry(() => {})], "Cannot send value[0]: a FinalizationRegistry"],
    [() => new Error("x", { cause: [() => 1] }), "Cannot send value.cause[0]: a function"],
    [() => new AggregateError([1, () => 1]), "Cannot send value.errors[1]: a function"],
    [
      () => [new SharedArrayBuffer(8)],
      "Cannot send value[0]: a SharedArrayBuffer is the memory of one process",
    ],
    [() => [new Uint8Array(new SharedArrayBuffer(8))], "Cannot send value[0]: a SharedArrayBuffer"],
    [
      () => (function* (): Generator<number> {})(),
      "a Generator cannot be copied to another process; collect it",
    ],
    [() => [1].values(), "an Array Iterator cannot be copied"],
    [() => new Map().keys(), "a Map Iterator cannot be copied"],
    [() => new Intl.NumberFormat(), "a NumberFormat belongs to this process"],
    [() => new URL("http://localhost/"), "a URL belongs to this process"],
    [() => new Blob(["x"]), "a Blob belongs to this process"],
    [() => new Headers(), "a Headers belongs to this process"],
    [() => new ReadableStream(), "a ReadableStream belongs to this process"],
    [() => ({ signal: new AbortController().signal }), "Cannot send value.signal: an AbortSignal belongs"],
    [() => new (class Mine extends EventTarget {})(), "an EventTarget belongs to this process"],
    [() =>
      new (class File {
        [Symbol.dispose](): void {}
      })(), "a File belongs to this process"],
    [() =>
      new (class Socket {
        async [Symbol.asyncDispose](): Promise<void> {}
      })(), "a Socket belongs"],
    [() => Object.assign([], { named: () => 1 }), "Cannot send value.named: a function"],
  ];

  for (const [value, message] of refused) {
    it(`refuses: ${message}`, () => {
      assertThrows(() => encode(value()), TypeError, message);
      assertKept({ after: [1] });
    });
  }

  it("refuses what nests too deep, in every kind of container, and passes what just does not", () => {
    const wrap: ((value: unknown) => unknown)[] = [
      (value) => [value],
      (value) => ({ value }),
      (value) => ({ 1: value }),
      (value) => new Map([["key", value]]),
      (value) => new Map([[value, 1]]),
      (value) => new Set([value]),
      (value) => new Error("x", { cause: value }),
      (value) => Object.assign([], { value }),
    ];
    for (const wrapped of wrap) {
      let value: unknown = 1;
      for (let i = 0; i < MAX_DEPTH; i++) value = wrapped(value);
      pass(value);
      value = wrapped(value);
      assertThrows(() => encode(value), RangeError, "nests more than");
      for (let i = 0; i < 100_000; i++) value = wrapped(value);
      assertThrows(() => encode(value), RangeError, "nests more than");
    }
  });
});

describe("codec: the encoded message", () => {
  const value = {
    text: "x".repeat(70_000),
    wide: "\ud800".repeat(70_000),
    big: new Uint8Array(300_000).map((_, i) => i * 31),
    small: new Uint8Array(100).fill(3),
    list: Array.from({ length: 500 }, (_, i) => ({ i, data: new Float64Array(200).fill(i) })),
  };

  it("is written in pieces of any size as it is in one", () => {
    const encoded = encode(value);
    const whole = new Uint8Array(encoded.byteLength);
    encoded.writeTo(whole, 0);
    assertCloned(value);
    const again = encode(value);
    for (const size of [1 << 20, 65_536, 4099, 1000]) {
      const pieces = new Uint8Array(again.byteLength);
      for (let from = 0; from < again.byteLength; from += size) {
        const to = Math.min(from + size, again.byteLength);
        const part = new Uint8Array(size + 2);
        again.writePart(part, 1, from, to);
        assertEquals([part[0], part[to - from + 1]], [0, 0]);
        pieces.set(part.subarray(1, 1 + to - from), from);
      }
      assert(pieces.every((byte, i) => byte === whole[i]));
    }
    const small = encode([1, "two", { three: 3.5 }]);
    const bytes = new Uint8Array(small.byteLength);
    small.writeTo(bytes, 0);
    for (let from = 0; from <= bytes.length; from++) {
      for (let to = from; to <= bytes.length; to++) {
        const part = new Uint8Array(to - from);
        small.writePart(part, 0, from, to);
        assertEquals([...part], [...bytes.subarray(from, to)]);
      }
    }
  });

  it("is valid until the next encode, and longer after keep()", () => {
    const first = encode([1, "two"]);
    const kept = encode(value);
    const memory = new Uint8Array(kept.byteLength);
    assertThrows(() => first.writeTo(memory, 0), TypeError, "encode() was called again");
    assertThrows(() => first.writePart(memory, 0, 0, 1), TypeError, "encode() was called again");
    assertThrows(() => first.keep(), TypeError, "encode() was called again");
    kept.keep();
    kept.keep();
    encode({ other: "y".repeat(100_000) });
    kept.writeTo(memory, 0);
    assertSame(decode(memory, 0, memory.length, noHandle), structuredClone(value));
  });

  it("does not leave the target", () => {
    for (const message of [[1, 2, 3], value]) {
      const encoded = encode(message);
      const { byteLength } = encoded;
      assertThrows(() => encoded.writeTo(new Uint8Array(byteLength - 1), 0), RangeError, "Cannot write");
      assertThrows(() => encoded.writeTo(new Uint8Array(byteLength), 1), RangeError, "Cannot write");
      assertThrows(() => encoded.writeTo(new Uint8Array(byteLength), -1), RangeError, "Cannot write");
      assertThrows(
        () => encoded.writePart(new Uint8Array(9), 0, 0, byteLength + 1),
        RangeError,
        "Cannot write",
      );
      assertThrows(() => encoded.writePart(new Uint8Array(9), 0, 3, 2), RangeError, "Cannot write");
      assertThrows(() => encoded.writePart(new Uint8Array(1), 0, 0, 2), RangeError, "Cannot write");
      assertThrows(() => encoded.writePart(new Uint8Array(1), 0, NaN, 2), RangeError, "Cannot write");
    }
  });

  it("is compact for common values", () => {
    assertEquals(encode(7).byteLength, 2);
    assertEquals(encode(70).byteLength, 3);
    assertEquals(encode("hello").byteLength, 7);
    const record = { id: 1, name: "hello", ok: true };
    const one = encode([record]).byteLength;
    const hundred = encode(Array.from({ length: 100 }, () => ({ ...record }))).byteLength;
    assert(hundred < one + 99 * 10, "keys are written once");
  });
});

describe("codec: decode", () => {
  it("refuses a range outside the memory", () => {
    for (const [offset, size] of [[0, 5], [4, 1], [-1, 2], [2, -1], [NaN, 1], [0, NaN]]) {
      assertThrows(
        () => decode(new Uint8Array(4), offset, size, noHandle),
        RangeError,
        "Cannot read a message",
      );
    }
  });

  it("names what is wrong", () => {
    const cases: [bytes: number[], message: string][] = [
      [[], "it ends too early"],
      [[0], "it ends too early"],
      [[9, 0], "its flags are 9"],
      [[0, 1, 2], "1 bytes follow its value"],
      [[0, 0xff], "255 is no tag"],
      [[0, 0x45, 1], "it ends too early"],
      [[0, 0x8e], "a hole stands where a value must"],
      [[2, 0x90, 0], "refers to object 0"],
      [[0, 0x70], "refers to shape 0"],
      [[0, 0xa0, 0], "refers to buffer 0"],
      [[0, 0x96, 255, 255, 255, 255, 255, 255, 255, 255], "a length is out of range"],
      [[0, 0x93, 2, 2, 1, 97, 1, 1], "a list of keys is broken"],
      [[0, 0x9a, 0x41, 40, 0x40], "Cannot read a message"],
      [[0, 0x8d, 2, 0xc3, 0x28], "Cannot read a message"],
      [[0, 0x9e, 99, 0], "an error is of no known class"],
    ];
    for (const [bytes, message] of cases) {
      const error = assertThrows(
        () => decode(new Uint8Array(bytes), 0, bytes.length, noHandle),
        CodecError,
        message,
      );
      assertEquals(error.code, "EBADMESSAGE");
      assertEquals(error.name, "CodecError");
    }
  });
});
