/**
 * The parts of the runtimes' global objects that this folder uses, typed here, so that one source checks under both runtimes' types.
 *
 * @module
 */

/** What is used of `Deno`. */
export interface DenoGlobal {
  listen(options: { transport: "unix"; path: string }): DenoListener;
  permissions: { querySync(descriptor: { name: string; path?: string; host?: string }): { state: string } };
  refTimer(id: unknown): void;
  unrefTimer(id: unknown): void;
  version: { deno: string };
  mainModule?: string;
  exit(code?: number): never;
}

/** A listener of Deno's own. */
export interface DenoListener {
  accept(): Promise<DenoConnection>;
  close(): void;
  ref(): void;
  unref(): void;
}

/** A connection of Deno's own. */
export interface DenoConnection {
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): Promise<number>;
  close(): void;
  ref(): void;
  unref(): void;
}

/** What is used of `Bun`. */
export interface BunGlobal {
  connect(options: { fd: number; socket: BunSocketHandlers }): Promise<BunSocket>;
  version: string;
  main: string;
  isMainThread: boolean;
}

/** A socket of Bun's own. */
export interface BunSocket {
  ref(): void;
  unref(): void;
  terminate(): void;
  pause(): void;
  resume(): void;
  /** How many bytes were taken; -1 when it is closed. */
  write(bytes: Uint8Array): number;
}

/** What Bun calls when something happens on a socket. */
export interface BunSocketHandlers {
  data(socket: BunSocket, data: Uint8Array): void;
  open(socket: BunSocket): void;
  /** There is room for more. */
  drain?(socket: BunSocket): void;
  close(socket: BunSocket): void;
  error(socket: BunSocket, error: unknown): void;
}

const scope = globalThis as unknown as { Deno?: DenoGlobal; Bun?: BunGlobal };

// A Bun program may define a `Deno` global as a shim, so Bun is looked for first.
export const bun: BunGlobal | undefined = scope.Bun;
export const deno: DenoGlobal | undefined = bun === undefined ? scope.Deno : undefined;

/** Whether this agent is its process's main thread. Workers of `node:worker_threads` count as Workers. */
export function isMainThread(): boolean {
  if (bun !== undefined) return bun.isMainThread;
  // In a Worker Deno knows no main module, whichever kind it is; WorkerGlobalScope tells of Web Workers only.
  return deno?.mainModule !== undefined;
}

/** Whether this agent may load a module that it has not loaded yet, without anybody being asked. */
export function mayLoad(url: URL): boolean {
  if (deno === undefined) return true;
  const request = url.protocol === "file:"
    ? { name: "read", path: decodeURIComponent(url.pathname) }
    : { name: "import", host: url.host };
  return deno.permissions.querySync(request).state === "granted";
}
