/**
 * What the environment says about patching, read without ever prompting for a permission.
 *
 * @module
 */
import { getenv } from "../platform/posix/environment.ts";
import { osName } from "../platform/posix/system.ts";

interface DenoGlobal {
  readonly env: { get(name: string): string | undefined };
  readonly permissions: {
    querySync(request: { name: string; variable?: string }): { readonly state: string };
  };
}

const scope = globalThis as { Bun?: unknown; Deno?: DenoGlobal };
// A Bun program may define a `Deno` global as a shim, so Bun is looked for first.
const deno = scope.Bun === undefined ? scope.Deno : undefined;

/** Whether this agent may call libc, as everything in this module needs. */
export function mayCallLibc(): boolean {
  return deno === undefined || deno.permissions.querySync({ name: "ffi" }).state === "granted";
}

/** A variable; null where it is not set, or may not be read. */
export function variable(name: string): string | null {
  if (deno === undefined) return getenv(name);
  // Cheaper than binding libc's getenv, which a program without a session would not need.
  if (deno.permissions.querySync({ name: "env", variable: name }).state === "granted") {
    return deno.env.get(name) ?? null;
  }
  return osName !== "other" && mayCallLibc() ? getenv(name) : null;
}

/** Why nothing can be patched here, and what to do; null where it can. */
export function obstacle(): string | null {
  if (osName === "other") return "this system is neither Linux nor macOS";
  return mayCallLibc() ? null : "the ffi permission is not granted; run with --allow-ffi";
}
