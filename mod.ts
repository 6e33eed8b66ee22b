/**
 * Python-style multiprocessing for Deno and Bun: every wait is a promise, and the event loop never stalls.
 *
 * What is loaded is `dist/`, the same modules in a few files: see scripts/build.mjs.
 *
 * @module
 */
// @ts-types="./dist/mod.d.ts"
export * from "./dist/mod.js";
