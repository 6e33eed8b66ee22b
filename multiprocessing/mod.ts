export * from "./errors.ts";
export * from "./synchronize.ts";
export * from "./queues.ts";
