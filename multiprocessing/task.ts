/**
 * Tasks: functions that another process can call by reference. What travels is the module's URL and a name, never code.
 *
 * @module
 */

/** Where a task is found in another process. */
export interface TaskReference {
  /** URL of the module that registers it. */
  readonly url: string;
  /** Its name in that module. */
  readonly name: string;
}

type AnyFunction = ((...args: never[]) => unknown) | (abstract new (...args: never[]) => unknown);

// Two copies of this package in one agent (a file and its published form) share their tasks.
const KEY = Symbol.for("geventmp.tasks");
interface Registry {
  readonly references: WeakMap<AnyFunction, TaskReference>;
  readonly functions: Map<string, AnyFunction>;
}
const scope = globalThis as { [KEY]?: Registry };
const registry: Registry = scope[KEY] ??= { references: new WeakMap(), functions: new Map() };

/**
 * Makes a function one that other processes can call: `export const work = task(import.meta, async function work(queue) { … })`.
 *
 * The other process loads the module and finds the function by its name, so call this at the module's top level. The function is returned
 * unchanged.
 *
 * A subclass of `Process` that has a `run` of its own is registered in the same way: `task(import.meta, MyProcess)`.
 *
 * @param meta the calling module's `import.meta`
 * @param fn the function; asynchronous or not
 * @param name its name within the module @default fn.name
 * @returns `fn`
 * @throws {TypeError} the function has no name and none was given, or another of that name is registered in the module
 */
export function task<
  F extends ((...args: never[]) => unknown) | (abstract new (...args: never[]) => unknown),
>(
  meta: { readonly url: string },
  fn: F,
  name: string = fn.name,
): F {
  if (typeof fn !== "function") {
    throw new TypeError(`Cannot make a task of ${fn === null ? "null" : typeof fn}: it must be a function`);
  }
  if (typeof meta?.url !== "string") {
    throw new TypeError(`Cannot make a task: the first argument must be the module's import.meta`);
  }
  if (name === "") {
    throw new TypeError(
      `Cannot make a task of an anonymous function in ${meta.url}: name the function, or pass a name as third argument`,
    );
  }
  const key = `${meta.url}#${name}`;
  const other = registry.functions.get(key);
  if (other !== undefined && other !== fn) {
    throw new TypeError(
      `Cannot make a second task "${name}" in ${meta.url}: names are how other processes find a task; pass another as third argument`,
    );
  }
  registry.functions.set(key, fn);
  registry.references.set(fn, { url: meta.url, name });
  return fn;
}

/** Where a task is found; null for a function that is no task. */
export function taskReference(fn: unknown): TaskReference | null {
  return typeof fn === "function" ? registry.references.get(fn as AnyFunction) ?? null : null;
}

/** The task that a loaded module registered. @throws {TypeError} it registered none of that name; the message lists what it did */
export function findTask({ url, name }: TaskReference): (...args: unknown[]) => unknown {
  const fn = registry.functions.get(`${url}#${name}`);
  if (fn !== undefined) return fn as (...args: unknown[]) => unknown;
  const known = [...registry.functions.keys()].filter((key) => key.startsWith(`${url}#`)).map((key) =>
    key.slice(url.length + 1)
  );
  throw new TypeError(
    `Cannot run task "${name}": ${url} registers ${
      known.length === 0 ? "no task" : `only ${known.join(", ")}`
    } when it is loaded in a child; call task(import.meta, …) at the module's top level, outside of "if (import.meta.main)"`,
  );
}
