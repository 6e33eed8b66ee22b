import { describe, it } from "@std/testing/bdd";
import {
  assert,
  assertAlmostEquals,
  assertArrayIncludes,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertNotMatch,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "@std/assert";

/** The AssertionError of a check that must fail. Written out, so that these tests trust no assertion under test. */
function failureOf(fn: () => unknown): Error {
  try {
    fn();
  } catch (error) {
    if (error instanceof AssertionError) return error;
    throw error;
  }
  throw new Error("the assertion passed, but it should fail");
}

/** The same for an assertion that returns a promise. */
async function rejectionOf(fn: () => Promise<unknown>): Promise<Error> {
  try {
    await fn();
  } catch (error) {
    if (error instanceof AssertionError) return error;
    throw error;
  }
  throw new Error("the assertion passed, but it should fail");
}

function expectText(text: string, part: string): void {
  if (!text.includes(part)) throw new Error(`${JSON.stringify(text)} lacks ${JSON.stringify(part)}`);
}

describe("@std/assert", () => {
  it("tells truthy values from falsy ones", () => {
    assert(1);
    assertFalse(0);
    failureOf(() => assert(0));
    expectText(failureOf(() => assert(null, "own message")).message, "own message");
    failureOf(() => assertFalse("x"));
  });

  it("compares deeply, by type and by content", () => {
    assertEquals({ a: [1, new Map([["k", new Set([1])]])] }, { a: [1, new Map([["k", new Set([1])]])] });
    assertEquals(new Uint8Array([1, 2]), new Uint8Array([1, 2]));
    assertEquals(NaN, NaN);
    assertEquals(10n, 10n);
    failureOf(() => assertEquals(0, -0));
    failureOf(() => assertEquals<unknown>([1], { 0: 1, length: 1 }));
    failureOf(() => assertEquals<unknown>({ a: undefined }, {}));
    failureOf(() => assertEquals<unknown>(1, "1"));
    expectText(failureOf(() => assertEquals({ a: 1 }, { a: 2 }, "why")).message, "why");
    assertNotEquals<unknown>([1], [2]);
    failureOf(() => assertNotEquals([1], [1]));
  });

  it("compares by identity", () => {
    const object = {};
    assertStrictEquals(object, object);
    failureOf(() => assertStrictEquals({}, {}));
    assertNotStrictEquals({}, {});
    failureOf(() => assertNotStrictEquals(object, object));
  });

  it("checks existence and classes", () => {
    assertExists(0);
    failureOf(() => assertExists(undefined));
    failureOf(() => assertExists(null));
    assertInstanceOf(new RangeError("x"), Error);
    expectText(failureOf(() => assertInstanceOf([], Map)).message, "Map");
  });

  it("looks into texts, arrays and objects", () => {
    assertMatch("abc", /b/);
    failureOf(() => assertMatch("abc", /d/));
    assertNotMatch("abc", /d/);
    failureOf(() => assertNotMatch("abc", /b/));
    assertStringIncludes("abc", "bc");
    failureOf(() => assertStringIncludes("abc", "cb"));
    assertArrayIncludes([{ a: 1 }, { b: 2 }], [{ b: 2 }]);
    failureOf(() => assertArrayIncludes([1, 2], [3]));
  });

  it("compares sizes", () => {
    assertGreater(2, 1);
    assertGreaterOrEqual(2, 2);
    assertLess(1n, 2n);
    assertLessOrEqual("a", "a");
    failureOf(() => assertGreater(1, 1));
    failureOf(() => assertGreaterOrEqual(1, 2));
    failureOf(() => assertLess(NaN, 2));
    failureOf(() => assertLessOrEqual(3, 2));
    assertAlmostEquals(0.1 + 0.2, 0.3);
    assertAlmostEquals(1, 2, 1);
    failureOf(() => assertAlmostEquals(1, 2, 0.5));
    failureOf(() => assertAlmostEquals(1, NaN));
  });

  it("expects a throw, by class and by message", () => {
    const error = assertThrows(
      () => {
        throw new RangeError("too large");
      },
      RangeError,
      "too",
    );
    assertStrictEquals(error.message, "too large");
    assertStrictEquals(
      assertThrows(() => {
        throw "text";
      }),
      "text",
    );
    expectText(failureOf(() => assertThrows(() => 1, Error, "", "own message")).message, "own message");
    failureOf(() =>
      assertThrows(() => {
        throw new TypeError("x");
      }, RangeError)
    );
    failureOf(() =>
      assertThrows(
        () => {
          throw new RangeError("x");
        },
        RangeError,
        "y",
      )
    );
    failureOf(() =>
      assertThrows(() => {
        throw "text";
      }, Error)
    );
  });

  it("expects a rejection, by class and by message", async () => {
    const error = await assertRejects(() => Promise.reject(new RangeError("too large")), RangeError, "large");
    assertStrictEquals(error.message, "too large");
    assertStrictEquals(await assertRejects(() => Promise.reject(5)), 5);
    await rejectionOf(() => assertRejects(() => Promise.resolve()));
    await rejectionOf(() => assertRejects(() => Promise.reject(new TypeError("x")), RangeError));
  });

  it("fails on demand", () => {
    expectText(failureOf(() => fail("because")).message, "because");
  });
});
