/**
 * Patches the runtime's own calls when it is imported, once: `import "@karellen/geventmp/patch"` as the first import, `deno run --preload`
 * or `bun --preload`. What is patched says {@linkcode patchAll}. `GEVENTMP=0` in the environment turns it off.
 *
 * @module
 */
import { patchAll } from "./api.ts";

export * from "./api.ts";

patchAll();
