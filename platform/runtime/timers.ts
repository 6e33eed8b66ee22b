/**
 * The runtime's own timers, whatever a test puts in their place later.
 *
 * Deno loads its timers (4 ms) when `globalThis.setTimeout` is first read, so what is taken at load is the property's getter.
 *
 * @module
 */

/** The timer functions, untouched by fakes. */
export interface Timers {
  setTimeout(callback: () => void, milliseconds: number): unknown;
  clearTimeout(id: unknown): void;
  setInterval(callback: () => void, milliseconds: number): unknown;
  clearInterval(id: unknown): void;
  setImmediate(callback: () => void): unknown;
}

const names = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate"] as const;
const properties = names.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
let taken: Timers | undefined;

/** The runtime's timers. */
export function timers(): Timers {
  if (taken !== undefined) return taken;
  const functions = properties.map((property) =>
    property?.get === undefined ? property?.value : property.get.call(globalThis)
  );
  return taken = Object.fromEntries(names.map((name, i) => [name, functions[i]])) as unknown as Timers;
}
