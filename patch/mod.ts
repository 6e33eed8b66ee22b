/**
 * Patches the runtime's own calls when it is imported, once: `import "@karellen/geventmp/patch"` as the first import, `deno run --preload`
 * or `bun --preload`. What is patched says {@linkcode patchAll}. `GEVENTMP=0` in the environment turns it off.
 *
 * @module
 */
// What is loaded is dist/, the same in one file.
// @ts-types="./api.ts"
import { patchAll } from "../dist/patch.js";

// @ts-types="./api.ts"
export * from "../dist/patch.js";

patchAll();
