/**
 * Replaces: `Bun.spawnSync`. `import { spawnSync } from "bun"` follows it, and Bun's `node:child_process` looks it up at each call: so `spawnSync`,
 * `execSync` and `execFileSync` are patched however they were imported, and whenever.
 *
 * @module
 */
import { type AnyFunction, state } from "./state.ts";
import { replaceSyncCall } from "./sync_call.ts";

const TARGET = "Bun.spawnSync";
const CALLERS = "node:child_process";
const NAMES = ["spawnSync", "execSync", "execFileSync"] as const;

interface BunProcess {
  getBuiltinModule(name: string): { [name in typeof NAMES[number]]: AnyFunction };
}

/** Patches the function. */
export function patchBunSpawnSync(bun: { spawnSync: AnyFunction }): void {
  const { targets } = state();
  if (targets.has(TARGET)) return;
  replaceSyncCall(bun, "spawnSync", TARGET);
  targets.set(TARGET, { patched: true, finish: () => {} });
  targets.set(CALLERS, { patched: true, finish: () => addCallers(bun) });
}

/** The functions of the module were not replaced, so their originals are these themselves, over the original of what they call. */
function addCallers(bun: { spawnSync: AnyFunction }): void {
  const { originals } = state();
  const { process } = globalThis as unknown as { process: BunProcess };
  const callers = process.getBuiltinModule(CALLERS);
  for (const name of NAMES) {
    const key = `${CALLERS}.${name}`;
    if (originals.has(key)) continue;
    const caller = callers[name];
    originals.set(key, (...args) => {
      const patched = bun.spawnSync;
      bun.spawnSync = originals.get(TARGET)!;
      try {
        return caller(...args);
      } finally {
        bun.spawnSync = patched;
      }
    });
  }
}
