/**
 * Replaces: `Bun.spawnSync`. `import { spawnSync } from "bun"` follows it, and Bun's `node:child_process` looks it up at each call: so `spawnSync`,
 * `execSync` and `execFileSync` are patched however they were imported, and whenever.
 *
 * @module
 */
import { type AnyFunction, state } from "./state.ts";
import { replaceSyncCall } from "./sync_call.ts";

const TARGET = "Bun.spawnSync";

/** Patches the function. */
export function patchBunSpawnSync(bun: { spawnSync: AnyFunction }): void {
  const { targets } = state();
  if (targets.has(TARGET)) return;
  replaceSyncCall(bun, "spawnSync", TARGET);
  const done = { patched: true, finish: () => {} };
  targets.set(TARGET, done);
  targets.set("node:child_process", done);
}
