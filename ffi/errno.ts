/**
 * errno, and the one check that turns a negative result into a {@linkcode SystemError}.
 *
 * errno is read through a view of its own memory, mapped once per thread: reading it is no call, so nothing can
 * change it between the failed call and the read. A JavaScript agent never changes its thread, so one view is enough.
 *
 * @module
 */
import { backend, ForeignCallError } from "./backend.ts";
import type { Address, ForeignFunction } from "./types.ts";

/** Each libc's function that returns errno's address, and where it may be found. */
const LOCATIONS: readonly (readonly [library: string, name: string])[] = [
  ["libc.so.6", "__errno_location"], // int *__errno_location(void); glibc and musl
  ["/usr/lib/libSystem.B.dylib", "__error"], // int *__error(void); Darwin
  ["libc.so", "__errno_location"],
];

let cell: Int32Array | undefined;
let describe: ((errno: number) => string) | undefined;

/** Maps errno's memory. `open` calls it before a first C call, because mapping later would overwrite the value. */
export function mapErrno(): Int32Array {
  if (cell !== undefined) return cell;
  let failure: unknown;
  for (const [library, name] of LOCATIONS) {
    try {
      const location = backend().bind(library, name, { parameters: [], result: "address" });
      if (location === null) continue;
      return cell = new Int32Array(backend().viewAt(location() as Address, 4));
    } catch (error) {
      // The missing permission says more than a library name of another system.
      if (error instanceof ForeignCallError && error.code !== "FFI_NO_LIBRARY") throw error;
      failure ??= error;
    }
  }
  throw failure ??
    new ForeignCallError(
      "FFI_NO_SYMBOL",
      "Cannot read errno: no libc with __errno_location or __error; use Linux or macOS",
    );
}

/** The errno of the last failed C call of this thread. */
export function errno(): number {
  return (cell ?? mapErrno())[0];
}

let nameOf: (errno: number) => string | undefined = () => undefined;

/**
 * Sets where names of error numbers come from. They differ between systems, so the platform supplies them.
 *
 * @param source gives the name ("EAGAIN") of a number, or undefined
 */
export function useErrnoNames(source: (errno: number) => string | undefined): void {
  nameOf = source;
}

/**
 * The name of an error number.
 *
 * @returns for example "EAGAIN"; "E123" for a number without a name
 */
export function errnoName(errno: number): string {
  return nameOf(errno) ?? `E${errno}`;
}

/**
 * The system's own description of an error number, by `strerror`.
 *
 * @returns for example "Resource temporarily unavailable"
 */
export function errnoText(errno: number): string {
  if (describe === undefined) {
    let strerror: ForeignFunction | null = null; // char *strerror(int errnum);
    for (const [library] of LOCATIONS) {
      try {
        strerror = backend().bind(library, "strerror", { parameters: ["i32"], result: "address" });
        if (strerror !== null) break;
      } catch {
        // The next library's name.
      }
    }
    const call = strerror;
    describe = call === null ? (n) => `error ${n}` : (n) => backend().readCString(call(n) as Address);
  }
  return describe(errno);
}

/** A failed system call. */
export class SystemError extends Error {
  /** The error's name, for example "EAGAIN". */
  readonly code: string;
  /** The error's number on this system. */
  readonly errno: number;
  /** The call that failed, for example "read". */
  readonly syscall: string;

  /**
   * Makes the error.
   *
   * @param syscall the call's name
   * @param errno its error number
   * @param detail what it was about, for example a path
   * @param options a `cause`
   */
  constructor(syscall: string, errno: number, detail?: string, options?: ErrorOptions) {
    const code = errnoName(errno);
    super(
      `Cannot ${syscall}${detail === undefined ? "" : ` ${detail}`}: ${code} (${errnoText(errno)})`,
      options,
    );
    this.name = "SystemError";
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
  }
}

/**
 * Checks a result of the usual kind: negative means that errno says why. Call it right after the C call, with nothing
 * between.
 *
 * @param syscall the call's name, for the message
 * @param result what it returned
 * @param detail what it was about, for example a path
 * @returns the result
 * @throws {SystemError} the result is negative
 */
export function check(syscall: string, result: number, detail?: string): number {
  if (result < 0) throw new SystemError(syscall, errno(), detail);
  return result;
}
