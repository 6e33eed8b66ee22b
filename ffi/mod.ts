/**
 * C functions, typed, bound at their first use, the same on Deno and on Bun.
 *
 * ```ts ignore
 * const libc = open("libc.so.6", {
 *   // pid_t getpid(void);
 *   getpid: { parameters: [], result: "i32" },
 * });
 * libc.getpid();
 * ```
 *
 * @module
 */
import { backend, ForeignCallError } from "./backend.ts";
import { mapErrno } from "./errno.ts";
import type { Address, Bound, CType, ForeignFunction, FunctionSignature, SymbolTable } from "./types.ts";

export { ForeignCallError } from "./backend.ts";
export type { ForeignCallCode } from "./backend.ts";
export { check, errno, errnoName, errnoText, SystemError, useErrnoNames } from "./errno.ts";
export { addressOf, cString, cStringArray, keepAlive, readCString, viewAt } from "./memory.ts";
export type { CStringArray } from "./memory.ts";
export type {
  Address,
  Argument,
  Arguments,
  Bound,
  CType,
  ForeignFunction,
  FunctionSignature,
  Result,
  SymbolTable,
} from "./types.ts";

/** Options of {@linkcode open}. */
export interface OpenOptions {
  /**
   * Pass what follows the fixed arguments of a variadic function on the stack, as Apple's arm64 convention does.
   *
   * @default false
   */
  readonly variadicOnStack?: boolean;
}

/** How many integer arguments Apple's arm64 convention passes in registers. */
const REGISTERS = 8;

/**
 * Describes C functions without binding any: each binds at its first use, in the first of the libraries that has it,
 * and then is a plain function of the returned object.
 *
 * @param library a library's name or path, or several to try in order; a function of them, if they depend on the system
 * @param symbols the functions
 * @param options how variadic functions are called
 * @throws {ForeignCallError} at a function's first use: no FFI, no permission, no such library, no such symbol
 */
export function open<const T extends SymbolTable>(
  library: string | readonly string[] | (() => readonly string[]),
  symbols: T,
  options: OpenOptions = {},
): Bound<T> {
  // The traps stand behind the object: a bound function is the object's own property, found before them. So a table
  // costs nothing when a program starts, however long it is.
  const binder = new Proxy({}, {
    get(_target, key, receiver): ForeignFunction | undefined {
      if (typeof key !== "string" || !Object.hasOwn(symbols, key)) return undefined;
      const value = bindFirst(library, key, symbols[key], options.variadicOnStack === true);
      Object.defineProperty(receiver, key, { value, enumerable: true });
      return value;
    },
    has: (_target, key) => Object.hasOwn(symbols, key),
  });
  return Object.create(binder) as Bound<T>;
}

/**
 * The address of a function or a variable.
 *
 * @param library a library's name or path, or several to try in order
 * @param name the symbol
 * @returns the address, or null when no library of these has the symbol
 * @throws {ForeignCallError} no FFI, no permission, or none of the libraries can be opened
 */
export function symbolAddress(library: string | readonly string[], name: string): Address | null {
  mapErrno();
  return firstOf(
    typeof library === "string" ? [library] : library,
    (path) => backend().symbolAddress(path, name),
  );
}

function bindFirst(
  library: string | readonly string[] | (() => readonly string[]),
  key: string,
  signature: FunctionSignature,
  variadicOnStack: boolean,
): ForeignFunction {
  const libraries = typeof library === "function"
    ? library()
    : typeof library === "string"
    ? [library]
    : library;
  mapErrno();
  const name = signature.name ?? key;
  const onStack = variadicOnStack && signature.fixed !== undefined;
  const called = onStack ? paddedSignature(signature) : signature;
  const found = firstOf(libraries, (path) => backend().bind(path, name, called));
  if (found === null) {
    throw new ForeignCallError(
      "FFI_NO_SYMBOL",
      `Cannot call ${name}: ${
        libraries.join(", ")
      } has no such function; this system's C library is too old or of another kind`,
    );
  }
  return onStack ? padded(found, signature) : found;
}

/** The first result that is not null; an error only when every library failed to open. */
function firstOf<R>(libraries: readonly string[], look: (path: string) => R | null): R | null {
  let failure: unknown;
  let opened = false;
  for (const path of libraries) {
    try {
      const found = look(path);
      if (found !== null) return found;
      opened = true;
    } catch (error) {
      if (!(error instanceof ForeignCallError) || error.code !== "FFI_NO_LIBRARY") throw error;
      failure ??= error;
    }
  }
  if (!opened && failure !== undefined) throw failure;
  return null;
}

/** The type of a variadic argument's eight-byte place on the stack. */
function widened(type: CType): CType {
  switch (type) {
    case "i8":
    case "i16":
    case "i32":
      return "isize";
    case "u8":
    case "u16":
    case "u32":
      return "usize";
    default:
      return type;
  }
}

/**
 * Fills the registers with zeros after the fixed arguments, so that the variadic ones come to lie on the stack, where
 * Apple's arm64 convention has them. There each takes eight bytes, unlike other arguments on the stack.
 */
function paddedSignature(signature: FunctionSignature): FunctionSignature {
  const { parameters, fixed = parameters.length } = signature;
  return {
    ...signature,
    parameters: [
      ...parameters.slice(0, fixed),
      ...new Array<CType>(REGISTERS - fixed).fill("usize"),
      ...parameters.slice(fixed).map(widened),
    ],
  };
}

function padded(call: ForeignFunction, signature: FunctionSignature): ForeignFunction {
  const { parameters, fixed = parameters.length } = signature;
  // fcntl's shape is the one on a hot path.
  if (fixed === 2 && parameters.length === 3) return (a, b, c) => call(a, b, 0, 0, 0, 0, 0, 0, c);
  const zeros = new Array<number>(REGISTERS - fixed).fill(0);
  return (...args) => call(...args.slice(0, fixed), ...zeros, ...args.slice(fixed));
}
