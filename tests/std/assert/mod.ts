/**
 * The part of JSR's `@std/assert` that the tests use, with its signatures, over `node:assert`: for machines that cannot reach JSR, and for both
 * runtimes.
 *
 * @module
 */
import nodeAssert from "node:assert";

/** What a failed assertion throws. */
export const AssertionError: typeof nodeAssert.AssertionError = nodeAssert.AssertionError;

// deno-lint-ignore no-explicit-any -- as in @std/assert: any class counts
type Class<E> = abstract new (...args: any[]) => E;

/** node:assert throws an Error that it is given; a text of ours becomes one. */
function said(message: string | undefined): Error | undefined {
  return message === undefined ? undefined : new AssertionError({ message });
}

/** Fails. */
export function fail(message = "failed"): never {
  nodeAssert.fail(message);
}

/** `condition` is truthy. */
export function assert(condition: unknown, message = "expected a truthy value"): asserts condition {
  if (!condition) fail(message);
}

/** `condition` is falsy. */
export function assertFalse(condition: unknown, message = "expected a falsy value"): void {
  if (condition) fail(message);
}

/** Deep, strict equality. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.deepStrictEqual(actual, expected, said(message));
}

/** Not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  nodeAssert.notDeepStrictEqual(actual, expected, said(message));
}

/** The same value, as `Object.is` has it. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  nodeAssert.strictEqual(actual, expected, said(message));
}

/** Another value. */
export function assertNotStrictEquals(actual: unknown, expected: unknown, message?: string): void {
  nodeAssert.notStrictEqual(actual, expected, said(message));
}

/** Neither null nor undefined. */
export function assertExists<T>(actual: T, message = "expected a value"): asserts actual is NonNullable<T> {
  if (actual === null || actual === undefined) fail(message);
}

/** An instance of a class. */
export function assertInstanceOf<E>(
  actual: unknown,
  expected: Class<E>,
  message?: string,
): asserts actual is E {
  if (!(actual instanceof expected)) {
    fail(message ?? `expected an instance of ${expected.name}, and it is ${String(actual)}`);
  }
}

/** The text matches. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  nodeAssert.match(actual, expected, said(message));
}

/** The text does not match. */
export function assertNotMatch(actual: string, expected: RegExp, message?: string): void {
  nodeAssert.doesNotMatch(actual, expected, said(message));
}

/** The text holds another. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  if (!actual.includes(expected)) {
    fail(message ?? `expected ${JSON.stringify(actual)} to include ${JSON.stringify(expected)}`);
  }
}

/** The array holds all of another's elements. */
export function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, message?: string): void {
  for (const item of Array.from(expected)) {
    if (!Array.from(actual).some((other) => isDeepEqual(other, item))) {
      fail(message ?? `expected an array with ${String(item)}`);
    }
  }
}

function isDeepEqual(a: unknown, b: unknown): boolean {
  try {
    nodeAssert.deepStrictEqual(a, b);
    return true;
  } catch {
    return false;
  }
}

/** Equal within a tolerance. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance = 1e-7,
  message?: string,
): void {
  if (!(Math.abs(actual - expected) <= tolerance)) {
    fail(message ?? `expected about ${expected}, and it is ${actual}`);
  }
}

/** `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  if (!(actual > expected)) fail(message ?? `expected more than ${expected}, and it is ${actual}`);
}

/** `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual >= expected)) fail(message ?? `expected at least ${expected}, and it is ${actual}`);
}

/** `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, message?: string): void {
  if (!(actual < expected)) fail(message ?? `expected less than ${expected}, and it is ${actual}`);
}

/** `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual <= expected)) fail(message ?? `expected at most ${expected}, and it is ${actual}`);
}

function check(error: unknown, expected: Class<unknown> | undefined, includes: string | undefined): void {
  if (expected !== undefined && !(error instanceof expected)) {
    fail(
      `expected ${expected.name} to be thrown, and it was ${
        error instanceof Error ? error.stack : String(error)
      }`,
    );
  }
  if (includes !== undefined) {
    assertStringIncludes(error instanceof Error ? error.message : String(error), includes);
  }
}

/** `fn` throws. Returns what it threw. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  expected?: Class<E>,
  includes?: string,
  message?: string,
): E {
  let error: unknown;
  try {
    fn();
  } catch (thrown) {
    error = thrown;
    check(error, expected, includes);
    return error as E;
  }
  fail(message ?? "expected an error to be thrown");
}

/** `fn`'s promise rejects. Returns what with. */
export async function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  expected?: Class<E>,
  includes?: string,
  message?: string,
): Promise<E> {
  let error: unknown;
  try {
    await fn();
  } catch (thrown) {
    error = thrown;
    check(error, expected, includes);
    return error as E;
  }
  fail(message ?? "expected a rejection");
}
