/**
 * Start methods: how children come into being, and which is meant when nobody says so.
 *
 * @module
 */

/** How a child comes into being. */
export type StartMethod = "spawn" | "forkserver" | "fork";

const OFFERED: readonly StartMethod[] = ["spawn"];

let chosen: StartMethod | null = null;

/** The start methods that this module offers on this system, the default first. So far that is `["spawn"]`. */
export function getAllStartMethods(): StartMethod[] {
  return [...OFFERED];
}

/** @throws {RangeError} it is not offered @ignore */
export function checkStartMethod(method: StartMethod): StartMethod {
  if (OFFERED.includes(method)) return method;
  throw new RangeError(
    `Cannot start processes by "${method}": this system offers ${
      OFFERED.map((name) => `"${name}"`).join(", ")
    }`,
  );
}

/**
 * Sets how processes are started that do not say so themselves, in this process and its children. Once, before any is started.
 *
 * @param method the method; null, together with `force`, forgets what was set
 * @param options `force`: also if one was set before, or was decided by starting a process. @default false
 * @throws {RangeError} the method is not offered
 * @throws {TypeError} it was decided already
 */
export function setStartMethod(method: StartMethod | null, options: { readonly force?: boolean } = {}): void {
  const { force = false } = options;
  if (method !== null) checkStartMethod(method);
  if (!force && (chosen !== null || method === null)) {
    throw new TypeError(
      `Cannot set the start method to "${method}": ${
        chosen === null ? "none was set" : `it is "${chosen}" already`
      }; set it once, before a process is started, or pass { force: true }`,
    );
  }
  chosen = method;
}

/** How processes are started that do not say so themselves. Asking decides it, unless `allowNone` is true. */
export function getStartMethod(): StartMethod;
/** The same, or null while nothing has decided it. */
export function getStartMethod(options: { readonly allowNone?: boolean }): StartMethod | null;
export function getStartMethod({ allowNone = false }: { readonly allowNone?: boolean } = {}):
  | StartMethod
  | null {
  if (chosen === null && !allowNone) chosen = OFFERED[0];
  return chosen;
}
