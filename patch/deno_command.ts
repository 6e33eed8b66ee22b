/**
 * Replaces: `Deno.Command.prototype.outputSync`, which `Deno.spawnAndWaitSync` calls.
 *
 * Deno loads its process API (3 to 5 ms) when `Deno.Command` is first read, so the replacement waits for that.
 *
 * @module
 */
import { type AnyFunction, state } from "./state.ts";
import { replaceSyncCall } from "./sync_call.ts";

const TARGET = "Deno.Command";

interface CommandClass {
  readonly prototype: { outputSync: AnyFunction };
}

/** Patches the class, at its first use. */
export function patchDenoCommand(deno: { readonly Command: CommandClass }): void {
  const { targets } = state();
  if (targets.has(TARGET)) return;
  const command = Object.getOwnPropertyDescriptor(deno, "Command");
  const readCommand = (): CommandClass => command?.get?.call(deno) ?? deno.Command;
  const traps: (() => void)[] = [];
  const finish = (): void => {
    for (const remove of traps.splice(0)) remove();
    replaceSyncCall(readCommand().prototype, "outputSync", `${TARGET}.prototype.outputSync`);
  };
  targets.set(TARGET, { patched: true, finish });
  // Another version of Deno may have loaded the class already.
  if (command?.get === undefined) return finish();
  for (const key of ["Command", "spawnAndWaitSync"]) {
    const property = Object.getOwnPropertyDescriptor(deno, key);
    if (property?.get === undefined || !property.configurable) continue;
    const get = function (this: unknown): unknown {
      finish();
      return property.get!.call(this);
    };
    Object.defineProperty(deno, key, { ...property, get });
    traps.push(() => {
      // A test may have put a class of its own here.
      if (Object.getOwnPropertyDescriptor(deno, key)?.get === get) Object.defineProperty(deno, key, property);
    });
  }
}
