/**
 * The environment. On Deno it is read from libc, which needs no `--allow-env`; on Bun from `process.env`, because
 * what a program sets there never reaches libc.
 *
 * @module
 */
import { check, cString, readCString, symbolAddress, viewAt } from "../../ffi/mod.ts";
import { darwinLibc } from "../darwin/symbols.ts";
import { libc, libraries, osName, scriptEnvironment } from "./system.ts";

// libc copies what it is given. Taken before a session maps its memory: with that much mapped V8 collects at the next buffers that are made,
// and a program that only wants a lock should not pay for it.
const keyScratch = new Uint8Array(64);
const valueScratch = new Uint8Array(512);
const encoder = new TextEncoder();

/** As {@linkcode cString}, without an allocation where it fits. */
function inScratch(text: string, scratch: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (text.length * 3 >= scratch.length || text.includes("\0")) return cString(text);
  scratch[encoder.encodeInto(text, scratch).written] = 0;
  return scratch;
}

/**
 * One environment variable.
 *
 * @param name its name
 * @returns its value, or null when it is not set
 */
export function getenv(name: string): string | null {
  if (scriptEnvironment !== null) return scriptEnvironment[name] ?? null;
  const value = libc.getenv(inScratch(name, keyScratch));
  return value === 0 ? null : readCString(value);
}

/**
 * A variable of this process, as its other agents see it: from libc's environment, then from the runtime's own copy.
 *
 * @param name its name
 * @returns its value, or null when it is not set
 */
export function getSharedEnv(name: string): string | null {
  const value = libc.getenv(inScratch(name, keyScratch));
  return value === 0 ? scriptEnvironment?.[name] ?? null : readCString(value);
}

/**
 * Sets a variable for the other agents of this process and for children. With `overwrite` false the first agent to set it wins.
 *
 * @param name its name
 * @param value its value
 * @param overwrite whether a value that is there is replaced
 */
export function setSharedEnv(name: string, value: string, overwrite: boolean): void {
  const key = inScratch(name, keyScratch);
  check("setenv", libc.setenv(key, inScratch(value, valueScratch), overwrite ? 1 : 0), name);
  // Bun hands its own copy on to children and Workers.
  if (scriptEnvironment !== null && (overwrite || !scriptEnvironment[name])) scriptEnvironment[name] = value;
}

/** Removes a variable that {@linkcode setSharedEnv} set. */
export function unsetSharedEnv(name: string): void {
  check("unsetenv", libc.unsetenv(inScratch(name, keyScratch)), name);
  if (scriptEnvironment !== null) delete scriptEnvironment[name];
}

/** All environment variables. */
export function environ(): Record<string, string> {
  const all: Record<string, string> = {};
  if (scriptEnvironment !== null) {
    for (const name of Object.keys(scriptEnvironment)) {
      const value = scriptEnvironment[name];
      if (value !== undefined) all[name] = value;
    }
    return all;
  }
  // extern char **environ;
  const variable = osName === "darwin"
    ? darwinLibc._NSGetEnviron()
    : symbolAddress(libraries(), "environ") ?? 0;
  if (variable === 0) return all;
  const entries = pointerAt(variable);
  if (entries === 0) return all;
  for (let entry = entries;; entry += 8) {
    const text = pointerAt(entry);
    if (text === 0) return all;
    const line = readCString(text);
    // A name may begin with "=", an odd leftover that some shells make.
    const equals = line.indexOf("=", 1);
    if (equals > 0) all[line.slice(0, equals)] = line.slice(equals + 1);
  }
}

function pointerAt(address: number): number {
  return Number(new BigUint64Array(viewAt(address, 8))[0]);
}

/** Whether GEVENTMP_FORCE asks for Darwin's fallbacks, so that they can be tested on Linux. */
export function fallbacksForced(): boolean {
  return (getenv("GEVENTMP_FORCE") ?? "").split(",").includes("darwin-fallbacks");
}
