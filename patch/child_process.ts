/**
 * Replaces, on Deno: `spawnSync`, `execSync` and `execFileSync` of `node:child_process`. (On Bun they call `Bun.spawnSync`: see bun_spawn_sync.ts.)
 *
 * Deno's `node:child_process` cannot be reached without loading Node's `process`, which costs a program that has no use for it about 15 ms of
 * its start, and nothing tells when a program imports it by itself. So by default the replacement waits until the program reads
 * `globalThis.process`, which loads the same; `patchAll({ subprocess: true })` does not wait.
 *
 * | how the program gets the function | is it patched |
 * |---|---|
 * | default import, `require`, `process.getBuiltinModule` | for calls after the replacement |
 * | named import, `import *` | if the module was first loaded after the replacement; else these keep what they found |
 *
 * @module
 */
import { type AnyFunction, state } from "./state.ts";
import { replaceSyncCall } from "./sync_call.ts";

const TARGET = "node:child_process";
const NAMES = ["spawnSync", "execSync", "execFileSync"] as const;

type ChildProcessModule = { [name in typeof NAMES[number]]: AnyFunction };
interface ProcessGlobal {
  getBuiltinModule?(name: string): ChildProcessModule | undefined;
}

/**
 * Patches the module.
 *
 * @param atOnce whether Node's layer may be loaded for it
 */
export function patchChildProcess(atOnce: boolean): void {
  const { targets } = state();
  const target = targets.get(TARGET) ?? addTarget();
  if (atOnce) target.finish();
}

function addTarget(): { patched: boolean; finish(): void } {
  const scope = globalThis as { process?: ProcessGlobal };
  const property = Object.getOwnPropertyDescriptor(scope, "process");
  const target = { patched: false, finish: () => replaceIn(scope.process) };
  state().targets.set(TARGET, target);

  const replaceIn = (process: ProcessGlobal | undefined): void => {
    if (target.patched || process?.getBuiltinModule === undefined) return;
    const childProcess = process.getBuiltinModule(TARGET);
    if (childProcess === undefined) return;
    for (const name of NAMES) replaceSyncCall(childProcess, name, `${TARGET}.${name}`);
    target.patched = true;
  };

  if (property?.get === undefined || !property.configurable) {
    target.finish();
    return target;
  }
  let reading = false;
  const get = function (this: unknown): unknown {
    // Loading Node's layer reads it too.
    if (reading) return property.get!.call(this);
    reading = true;
    try {
      const process = property.get!.call(this);
      replaceIn(process);
      if (target.patched && Object.getOwnPropertyDescriptor(scope, "process")?.get === get) {
        Object.defineProperty(scope, "process", property);
      }
      return process;
    } finally {
      reading = false;
    }
  };
  Object.defineProperty(scope, "process", { ...property, get });
  return target;
}
