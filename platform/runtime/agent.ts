/**
 * What a runtime tells about the agent that runs.
 *
 * @module
 */
import { bun, deno } from "./globals.ts";

export const runtimeName: "deno" | "bun" | "other" = deno !== undefined ? "deno" : bun !== undefined ? "bun" : "other";

/** Whether this is the process's main thread, and not a Worker. */
export function isMainThread(): boolean {
  if (bun !== undefined) return bun.isMainThread;
  return typeof (globalThis as { WorkerGlobalScope?: unknown }).WorkerGlobalScope === "undefined";
}
