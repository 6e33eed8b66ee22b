/**
 * The part of JSR's `@std/testing/bdd` that the tests use, over each runtime's own runner, so that one file runs on both.
 *
 * @module
 */
type Body = () => void | Promise<void>;
type Hook = Body;

/** How one test runs. */
export interface TestOptions {
  /** Skips it. Write the reason beside it. */
  ignore?: boolean;
  /** Deno only: fails when operations are left pending. @default false */
  sanitizeOps?: boolean;
  /** Deno only: fails when resources are left open. @default false */
  sanitizeResources?: boolean;
}

interface Suite {
  readonly name: string;
  readonly beforeAll: Hook[];
  readonly afterAll: Hook[];
  readonly beforeEach: Hook[];
  readonly afterEach: Hook[];
  readonly tests: { name: string; body: Body; options: TestOptions }[];
  readonly parent: Suite | null;
}

interface BunTest {
  test: ((name: string, body: Body, timeout: number) => void) & { skip(name: string, body: Body): void };
  beforeAll(hook: Hook): void;
  afterAll(hook: Hook): void;
  beforeEach(hook: Hook): void;
  afterEach(hook: Hook): void;
  describe(name: string, body: () => void): void;
}

const scope = globalThis as unknown as {
  Deno?: { test(definition: Record<string, unknown>): void };
  Bun?: unknown;
  process: { getBuiltinModule?(name: string): unknown };
};
const onBun = scope.Bun !== undefined;
// bun:test is no builtin that getBuiltinModule knows, and must not be imported where Deno would look for it.
const bunTest: BunTest | null = onBun ? await import("bun:" + "test") as BunTest : null;
/** Bun ends a test after this long. Suites have their own deadlines, as a rule shorter. */
const TEST_TIMEOUT_MS = 120_000;

let current: Suite | null = null;

function fullName(suite: Suite | null, name: string): string {
  return suite === null ? name : `${fullName(suite.parent, suite.name)} > ${name}`;
}

/** A group of tests. */
export function describe(name: string, body: () => void): void {
  if (bunTest !== null) return bunTest.describe(name, body);
  const suite: Suite = {
    name,
    beforeAll: [],
    afterAll: [],
    beforeEach: [],
    afterEach: [],
    tests: [],
    parent: current,
  };
  const outer = current;
  current = suite;
  try {
    body();
  } finally {
    current = outer;
  }
  suite.tests.forEach((test, i) => registerDeno(suite, test, i === 0, i === suite.tests.length - 1));
}

function chain(suite: Suite | null, which: "beforeEach" | "afterEach"): Hook[] {
  if (suite === null) return [];
  return which === "beforeEach"
    ? [...chain(suite.parent, which), ...suite[which]]
    : [...suite[which], ...chain(suite.parent, which)];
}

function registerDeno(
  suite: Suite | null,
  { name, body, options }: Suite["tests"][number],
  first: boolean,
  last: boolean,
): void {
  scope.Deno!.test({
    name: fullName(suite, name),
    ignore: options.ignore ?? false,
    sanitizeOps: options.sanitizeOps ?? false,
    sanitizeResources: options.sanitizeResources ?? false,
    sanitizeExit: false,
    async fn() {
      if (first) { for (const hook of suite?.beforeAll ?? []) await hook(); }
      try {
        for (const hook of chain(suite, "beforeEach")) await hook();
        try {
          await body();
        } finally {
          for (const hook of chain(suite, "afterEach")) await hook();
        }
      } finally {
        if (last) { for (const hook of suite?.afterAll ?? []) await hook(); }
      }
    },
  });
}

/** One test. */
export function it(name: string, body: Body): void;
/** One test, with options. */
export function it(name: string, options: TestOptions, body: Body): void;
export function it(name: string, optionsOrBody: TestOptions | Body, maybeBody?: Body): void {
  const body = typeof optionsOrBody === "function" ? optionsOrBody : maybeBody!;
  const options = typeof optionsOrBody === "function" ? {} : optionsOrBody;
  if (bunTest !== null) {
    if (options.ignore === true) bunTest.test.skip(name, body);
    else bunTest.test(name, body, TEST_TIMEOUT_MS);
    return;
  }
  const test = { name, body, options };
  if (current === null) registerDeno(null, test, true, true);
  else current.tests.push(test);
}

/** A test that is not run. Write the reason beside it. */
it.skip = (name: string, body: Body): void => it(name, { ignore: true }, body);
/** The same, by its other name. */
it.ignore = it.skip;

function hook(which: "beforeAll" | "afterAll" | "beforeEach" | "afterEach"): (body: Hook) => void {
  return (body) => {
    if (bunTest !== null) bunTest[which](body);
    else if (current === null) throw new Error(`${which} must stand inside describe`);
    else current[which].push(body);
  };
}

/** Before the first test of the group. */
export const beforeAll: (body: Hook) => void = hook("beforeAll");
/** After the last test of the group. */
export const afterAll: (body: Hook) => void = hook("afterAll");
/** Before each test of the group. */
export const beforeEach: (body: Hook) => void = hook("beforeEach");
/** After each test of the group. */
export const afterEach: (body: Hook) => void = hook("afterEach");
