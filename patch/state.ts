/**
 * What was patched in this agent, and what stood there before. It sits under a `Symbol.for` key, so that two copies of this module patch once, and
 * nobody takes a replacement for an original.
 *
 * @module
 */
import type { Watcher } from "./loop_blocked.ts";

/** Any function; what is called through it is the caller's knowledge. */
// deno-lint-ignore no-explicit-any -- as in the declarations of the runtimes' own wrappers: each function has its own parameters
export type AnyFunction = (...args: any[]) => any;

/** A class, module or function of the runtime whose calls are patched. */
export interface Target {
  /** Whether all calls that reach it from now on are served. */
  patched: boolean;
  /** Replaces now what was to be replaced at its first use. */
  finish(): void;
}

/** Shared by all copies of this module in the agent, of any version: only ever add to it. */
export interface PatchState {
  /** By its name, as one writes it: what stood there before. Never overwritten. */
  readonly originals: Map<string, AnyFunction>;
  readonly targets: Map<string, Target>;
  readonly watchers: Set<Watcher>;
  /** What was said on stderr already. */
  readonly said: Set<string>;
}

const KEY = Symbol.for("geventmp.patch");
const scope = globalThis as { [KEY]?: PatchState };

/** This agent's state. */
export function state(): PatchState {
  return scope[KEY] ??= { originals: new Map(), targets: new Map(), watchers: new Set(), said: new Set() };
}

/** Says something on stderr, once in this agent. */
export function warnOnce(text: string): void {
  const { said } = state();
  if (said.has(text)) return;
  said.add(text);
  console.warn(`geventmp: ${text}`);
}
