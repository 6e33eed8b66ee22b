/**
 * Picks the backend, at the first call and not on load, so that importing the module works on any runtime.
 *
 * @module
 */
import { bunBackend } from "./bun.ts";
import { denoBackend } from "./deno.ts";
import type { Backend } from "./types.ts";

/** Why a C function cannot be called. */
export type ForeignCallCode = "FFI_UNAVAILABLE" | "FFI_DENIED" | "FFI_NO_LIBRARY" | "FFI_NO_SYMBOL";

/** Thrown when a C function cannot be reached at all: no FFI, no permission, no library, no symbol. */
export class ForeignCallError extends Error {
  /** Stable across versions and processes. */
  readonly code: ForeignCallCode;

  /**
   * Makes the error.
   *
   * @param code what is missing
   * @param message the full message
   * @param options the runtime's own error as `cause`
   */
  constructor(code: ForeignCallCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ForeignCallError";
    this.code = code;
  }
}

let chosen: Backend | undefined;

/**
 * The backend of this runtime.
 *
 * @throws {ForeignCallError} `FFI_UNAVAILABLE`: neither Deno nor Bun, or one without FFI
 */
export function backend(): Backend {
  // Bun first, because a Bun program may define a `Deno` global as a shim; `process` is left alone, because
  // touching it makes Deno load its whole Node layer.
  return chosen ??= "Bun" in globalThis ? bunBackend(ForeignCallError) : denoBackend(ForeignCallError);
}
