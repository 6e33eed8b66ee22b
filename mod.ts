/**
 * Python-style multiprocessing for Deno and Bun: every wait is a promise, and the event loop never stalls.
 *
 * @module
 */
export * from "./multiprocessing/mod.ts";
export * from "./patch/api.ts";
