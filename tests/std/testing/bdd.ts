/**
 * The part of `@std/testing/bdd` that this project's tests use, over each runtime's own runner: `Deno.test` on Deno,
 * `bun:test` on Bun.
 *
 * Each `it` becomes one test of the runner, named `suite > inner suite > test`, so that filters, counts and reports say
 * the same on both. Hooks run as in `@std/testing`: outer `beforeEach` first, outer `afterEach` last; `beforeAll` before
 * the suite's first test that runs, `afterAll` after its last one.
 *
 * Two things differ from the original, on purpose: suites and tests take a `timeout`, and every test has one (120 seconds
 * unless told otherwise), because a test of waits that never ends would stop everything after it.
 *
 * @module
 */
import process from "node:process";

/** What a suite or a test may say about how it runs; a suite's options are its tests' defaults. */
export interface TestOptions {
  /**
   * Do not run it. Say why in the name.
   * @default {false}
   */
  ignore?: boolean;
  /**
   * Run this one alone. Both runners then fail the run as a whole or say so loudly.
   * @default {false}
   */
  only?: boolean;
  /**
   * Deno only: fail when an asynchronous operation outlives the test.
   * @default {false}
   */
  sanitizeOps?: boolean;
  /**
   * Deno only: fail when a resource that the test opened is still open after it.
   * @default {false}
   */
  sanitizeResources?: boolean;
  /**
   * Deno only: fail when the test ends the process.
   * @default {true}
   */
  sanitizeExit?: boolean;
  /**
   * Deno only: the permissions the test runs with.
   * @default {"inherit"}
   */
  permissions?: "inherit" | "none" | Record<string, unknown>;
  /**
   * Milliseconds the test, its hooks included, may take.
   * @default {120000}
   */
  timeout?: number;
}

/** A test's body, or a hook's. */
export type TestFunction = () => void | Promise<void>;

/** A suite as one object. */
export interface DescribeDefinition extends TestOptions {
  /** The suite's name. */
  name: string;
  /** Registers the suite's tests, synchronously. */
  fn?: () => void;
}

/** A test as one object. */
export interface ItDefinition extends TestOptions {
  /** The test's name. */
  name: string;
  /** The test's body. */
  fn: TestFunction;
}

/** The ways to call `describe`. */
export type DescribeArgs =
  | [name: string, fn: () => void]
  | [name: string, options: TestOptions, fn: () => void]
  | [options: DescribeDefinition]
  | [options: TestOptions & { name: string }, fn: () => void];

/** The ways to call `it`. */
export type ItArgs =
  | [name: string, fn: TestFunction]
  | [name: string, options: TestOptions, fn: TestFunction]
  | [options: ItDefinition]
  | [options: TestOptions & { name: string }, fn: TestFunction];

/** `describe`, with its variants. */
export interface Describe {
  (...args: DescribeArgs): void;
  /** Registers a suite that runs alone. */
  only(...args: DescribeArgs): void;
  /** Registers a suite that does not run; its name says why. */
  ignore(...args: DescribeArgs): void;
  /** The same as `ignore`. */
  skip(...args: DescribeArgs): void;
}

/** `it`, with its variants. */
export interface It {
  (...args: ItArgs): void;
  /** Registers a test that runs alone. */
  only(...args: ItArgs): void;
  /** Registers a test that does not run; its name says why. */
  ignore(...args: ItArgs): void;
  /** The same as `ignore`. */
  skip(...args: ItArgs): void;
}

/** Long stress runs are the same tests with a larger number. */
const DEFAULT_TIMEOUT_MS = process.env.GEVENTMP_STRESS === undefined ? 120_000 : 60 * 60_000;

/** One test as a runner takes it. */
interface RunnerTest {
  name: string;
  fn: () => Promise<void>;
  options: TestOptions;
}

interface Runner {
  test(test: RunnerTest): void;
  /** Runs once after every test of the file. */
  afterFile(fn: () => Promise<void>): void;
}

// Deno's and Bun's globals are looked up, not named, because each runtime's types lack the other's.
interface DenoTestApi {
  (definition: Record<string, unknown>): void;
  afterAll(fn: () => Promise<void>): void;
}
interface BunTestFunction {
  (name: string, fn: () => Promise<void>, options: { timeout: number }): void;
  only: BunTestFunction;
  skip: BunTestFunction;
}
interface BunTestModule {
  test: BunTestFunction;
  afterAll(fn: () => Promise<void>): void;
}

function denoRunner(api: DenoTestApi): Runner {
  return {
    test({ name, fn, options }): void {
      const definition: Record<string, unknown> = { name, fn };
      for (
        const key of [
          "ignore",
          "only",
          "sanitizeOps",
          "sanitizeResources",
          "sanitizeExit",
          "permissions",
        ] as const
      ) {
        if (options[key] !== undefined) definition[key] = options[key];
      }
      // The runner's own deadline also ends a synchronous loop. It is the longer one, so that the deadline in runTest,
      // whose message names the test and leaves the hooks time to clean up, comes first where it can.
      definition.timeout = (options.timeout ?? DEFAULT_TIMEOUT_MS) + 10_000;
      api(definition);
    },
    afterFile(fn): void {
      api.afterAll(fn);
    },
  };
}

function bunRunner(bun: BunTestModule): Runner {
  return {
    test({ name, fn, options }): void {
      const timeout = (options.timeout ?? DEFAULT_TIMEOUT_MS) + 10_000;
      const register = options.ignore ? bun.test.skip : options.only ? bun.test.only : bun.test;
      register(name, fn, { timeout });
    },
    afterFile(fn): void {
      bun.afterAll(fn);
    },
  };
}

function pickRunner(): Runner {
  const globals = globalThis as unknown as {
    Bun?: unknown;
    Deno?: { test?: DenoTestApi };
    process?: { getBuiltinModule?(name: string): unknown };
  };
  if (globals.Bun !== undefined) {
    return bunRunner(globals.process!.getBuiltinModule!("bun:test") as BunTestModule);
  }
  if (globals.Deno?.test) return denoRunner(globals.Deno.test);
  throw new Error(
    "Cannot register tests: neither Deno nor Bun runs this file; use `deno test` or `bun test`",
  );
}

/** A suite while it is being registered, and its hooks while its tests run. */
interface Suite {
  readonly name: string;
  readonly parent: Suite | null;
  readonly options: TestOptions;
  readonly beforeAll: TestFunction[];
  readonly afterAll: TestFunction[];
  readonly beforeEach: TestFunction[];
  readonly afterEach: TestFunction[];
  /** Tests below it, inner suites included, that are still to run. */
  remaining: number;
  /** The outcome of its beforeAll hooks, once the first test needed it; each later test sees the same error. */
  opened: Promise<void> | null;
  closed: boolean;
}

function makeSuite(name: string, parent: Suite | null, options: TestOptions): Suite {
  return {
    name,
    parent,
    options,
    beforeAll: [],
    afterAll: [],
    beforeEach: [],
    afterEach: [],
    remaining: 0,
    opened: null,
    closed: false,
  };
}

const root: Suite = makeSuite("", null, {});
const suites: Suite[] = [root];
let current: Suite = root;
let runner: Runner | null = null;
// A fake clock in a test must not stop the deadline that watches it.
const { setTimeout: startTimer, clearTimeout: stopTimer } = globalThis;

function getRunner(): Runner {
  if (runner === null) {
    runner = pickRunner();
    // A filter can leave out the test that would have closed a suite.
    runner.afterFile(async () => {
      for (const suite of [...suites].reverse()) await closeSuite(suite);
    });
  }
  return runner;
}

/** The suites around a test, outermost first. */
function chainOf(suite: Suite): Suite[] {
  const chain: Suite[] = [];
  for (let s: Suite | null = suite; s !== null; s = s.parent) chain.unshift(s);
  return chain;
}

async function runAll(hooks: readonly TestFunction[]): Promise<void> {
  for (const hook of hooks) await hook();
}

async function closeSuite(suite: Suite): Promise<void> {
  if (suite.closed || suite.opened === null) return;
  suite.closed = true;
  await runAll(suite.afterAll);
}

/** Runs a body with every hook around it. Clean-up runs whatever failed; the first error is the one that is told. */
async function runWithHooks(suite: Suite, body: TestFunction): Promise<void> {
  const chain = chainOf(suite);
  const errors: unknown[] = [];
  const attempt = async (fn: TestFunction): Promise<boolean> => {
    try {
      await fn();
      return true;
    } catch (error) {
      errors.push(error);
      return false;
    }
  };
  const ready = await attempt(async () => {
    for (const s of chain) await (s.opened ??= runAll(s.beforeAll));
  });
  if (ready) {
    const prepared = await attempt(async () => {
      for (const s of chain) await runAll(s.beforeEach);
    });
    if (prepared) await attempt(body);
    for (const s of [...chain].reverse()) await attempt(() => runAll(s.afterEach));
  }
  for (const s of [...chain].reverse()) {
    s.remaining--;
    if (s.remaining === 0) await attempt(() => closeSuite(s));
  }
  if (errors.length > 0) throw errors[0];
}

async function withDeadline(name: string, timeout: number, body: () => Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = startTimer(
      () =>
        reject(
          new Error(`Test "${name}" is not done after ${timeout} ms; it waits for something that never came`),
        ),
      timeout,
    );
  });
  try {
    await Promise.race([body(), deadline]);
  } finally {
    stopTimer(timer);
  }
}

function registerSuite(extra: TestOptions, args: DescribeArgs): void {
  const [name, options, fn] = parseArgs<() => void>(args);
  if (fn === undefined) throw new TypeError(`Cannot register suite "${name}": it has no function; pass one`);
  const suite = makeSuite(name, current, { ...current.options, ...options, ...extra });
  suites.push(suite);
  const outer = current;
  current = suite;
  try {
    const result: unknown = fn();
    if (result instanceof Promise) {
      throw new TypeError(
        `Cannot register suite "${name}": its function is async; register tests synchronously`,
      );
    }
  } finally {
    current = outer;
  }
}

function registerTest(extra: TestOptions, args: ItArgs): void {
  const [name, own, fn] = parseArgs<TestFunction>(args);
  if (fn === undefined) throw new TypeError(`Cannot register test "${name}": it has no function; pass one`);
  const suite = current;
  const options: TestOptions = { ...suite.options, ...own, ...extra };
  const fullName = [...chainOf(suite).map((s) => s.name), name].filter((part) => part !== "").join(" > ");
  if (!options.ignore) { for (const s of chainOf(suite)) s.remaining++; }
  const timeout = options.timeout ?? DEFAULT_TIMEOUT_MS;
  getRunner().test({
    name: fullName,
    options,
    fn: () => withDeadline(fullName, timeout, () => runWithHooks(suite, fn)),
  });
}

function parseArgs<F>(args: readonly unknown[]): [name: string, options: TestOptions, fn: F | undefined] {
  const [first, second, third] = args;
  if (typeof first === "string") {
    return typeof second === "function"
      ? [first, {}, second as F]
      : [first, (second ?? {}) as TestOptions, third as F | undefined];
  }
  const { name, fn, ...options } = first as TestOptions & { name: string; fn?: F };
  return [name, options, (second as F | undefined) ?? fn];
}

/**
 * Registers a suite. Suites nest; their function must be synchronous.
 *
 * @throws {TypeError} When the function is missing or async.
 */
export const describe: Describe = Object.assign(
  (...args: DescribeArgs): void => registerSuite({}, args),
  {
    only: (...args: DescribeArgs): void => registerSuite({ only: true }, args),
    ignore: (...args: DescribeArgs): void => registerSuite({ ignore: true }, args),
    skip: (...args: DescribeArgs): void => registerSuite({ ignore: true }, args),
  },
);

/**
 * Registers a test in the suite around it.
 *
 * @throws {TypeError} When the function is missing.
 */
export const it: It = Object.assign(
  (...args: ItArgs): void => registerTest({}, args),
  {
    only: (...args: ItArgs): void => registerTest({ only: true }, args),
    ignore: (...args: ItArgs): void => registerTest({ ignore: true }, args),
    skip: (...args: ItArgs): void => registerTest({ ignore: true }, args),
  },
);

/** The same as {@linkcode it}. */
export const test: It = it;

/** Runs a function before the first test of the suite around it; when it fails, each of the suite's tests fails with its error. */
export function beforeAll(fn: TestFunction): void {
  current.beforeAll.push(fn);
}

/** Runs a function after the last test of the suite around it. */
export function afterAll(fn: TestFunction): void {
  current.afterAll.push(fn);
}

/** Runs a function before every test of the suite around it, inner suites included; outer suites' first. */
export function beforeEach(fn: TestFunction): void {
  current.beforeEach.push(fn);
}

/** Runs a function after every test of the suite around it, failed ones included; inner suites' first. */
export function afterEach(fn: TestFunction): void {
  current.afterEach.push(fn);
}

/** The same as {@linkcode beforeAll}. */
export const before: typeof beforeAll = beforeAll;
/** The same as {@linkcode afterAll}. */
export const after: typeof afterAll = afterAll;
