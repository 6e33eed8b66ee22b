// Generated from the sources by scripts/build.mjs. Do not edit.
export * from "../multiprocessing/mod.ts";
export * from "../patch/api.ts";
