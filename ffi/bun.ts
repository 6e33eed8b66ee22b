/**
 * Calls C through `bun:ffi`, which is taken with `process.getBuiltinModule` at the first call: a static import of it
 * would make the file unloadable on Deno.
 *
 * @module
 */
import type { ForeignCallError } from "./backend.ts";
import type { Address, Backend, CType, ForeignFunction, FunctionSignature } from "./types.ts";

/** The part of `bun:ffi` that this file uses. */
interface BunForeign {
  dlopen(
    path: string,
    symbols: Record<string, { readonly args: readonly string[]; readonly returns: string }>,
  ): { readonly symbols: Record<string, ForeignFunction & { readonly ptr: number }> };
  ptr(view: ArrayBufferView): number;
  toArrayBuffer(pointer: number, byteOffset: number, byteLength: number): ArrayBuffer;
  readonly CString: new (pointer: number) => object;
}

const BUN_TYPES: Record<CType, string> = {
  void: "void",
  i8: "i8",
  u8: "u8",
  i16: "i16",
  u16: "u16",
  i32: "i32",
  u32: "u32",
  i64: "i64",
  u64: "u64",
  // The fast kinds take and give numbers, and a bigint only beyond 2^53.
  isize: "i64_fast",
  usize: "u64_fast",
  address: "i64_fast",
  buffer: "ptr",
};

/**
 * Makes Bun's backend.
 *
 * @param Failure the class to throw, handed in because its file imports this one
 */
export function bunBackend(Failure: typeof ForeignCallError): Backend {
  const runtime = globalThis as { process?: { getBuiltinModule?(name: string): unknown } };
  const loaded = runtime.process?.getBuiltinModule?.("bun:ffi") as BunForeign | undefined;
  if (loaded === undefined || typeof loaded.dlopen !== "function") {
    throw new Failure(
      "FFI_UNAVAILABLE",
      "Cannot call C functions: this Bun has no bun:ffi; update Bun to 1.4 or later",
    );
  }
  const ffi = loaded;
  const opened = new Set<string>();

  const openSymbol = (
    library: string,
    name: string,
    args: readonly string[],
    returns: string,
  ): (ForeignFunction & { readonly ptr: number }) | null => {
    try {
      const symbol = ffi.dlopen(library, { [name]: { args, returns } }).symbols[name];
      opened.add(library);
      return symbol;
    } catch (cause) {
      const { code, message } = cause as { code?: unknown; message?: unknown };
      // Bun has a code for a library that it cannot open, and none for a symbol that is not in it.
      if (code !== "ERR_DLOPEN_FAILED" && (opened.has(library) || /^Symbol /.test(String(message)))) {
        return null;
      }
      throw new Failure(
        "FFI_NO_LIBRARY",
        `Cannot open the library ${library}: ${String(message)}; install it or name another`,
        {
          cause,
        },
      );
    }
  };

  return {
    name: "Bun",

    bind(library: string, name: string, signature: FunctionSignature): ForeignFunction | null {
      const call = openSymbol(
        library,
        name,
        signature.parameters.map((type) => BUN_TYPES[type]),
        BUN_TYPES[signature.result],
      );
      if (call === null) return null;
      switch (signature.result) {
        case "isize":
        case "usize":
        case "address":
          return numbered(call, name, signature.parameters.length);
        default:
          return call;
      }
    },

    symbolAddress(library: string, name: string): Address | null {
      return openSymbol(library, name, [], "void")?.ptr ?? null;
    },

    addressOf(view: ArrayBufferView): Address {
      return view.byteLength === 0 ? 0 : ffi.ptr(view);
    },

    viewAt(address: Address, byteLength: number): ArrayBuffer {
      if (address === 0) {
        throw new TypeError("Cannot view memory: its address is NULL; check the call that returned it");
      }
      return ffi.toArrayBuffer(address, 0, byteLength);
    },

    readCString(address: Address): string {
      if (address === 0) {
        throw new TypeError("Cannot read a C string: its address is NULL; check the call that returned it");
      }
      return String(new ffi.CString(address));
    },
  };
}

/** A size or an address that no number holds exactly is an error, not a rounded value. */
function numbered(call: ForeignFunction, name: string, parameters: number): ForeignFunction {
  const convert = (result: number | bigint | undefined): number => {
    if (typeof result === "number") return result;
    // Near 2^53 Bun turns to bigints a little early.
    const value = Number(result);
    if (Number.isSafeInteger(value)) return value;
    throw new RangeError(
      `Cannot return the result of ${name}: ${result} is beyond 2^53; declare it as i64 or u64`,
    );
  };
  switch (parameters) {
    case 0:
      return () => convert(call());
    case 1:
      return (a) => convert(call(a));
    case 2:
      return (a, b) => convert(call(a, b));
    case 3:
      return (a, b, c) => convert(call(a, b, c));
    case 4:
      return (a, b, c, d) => convert(call(a, b, c, d));
    default:
      return (...args) => convert(call(...args));
  }
}
