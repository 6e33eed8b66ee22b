/**
 * Calls C through `Deno.dlopen`. Nothing of Deno is touched before the first call.
 *
 * Every library is closed as soon as a symbol has been taken from it: an open one is a resource, which
 * `deno test --sanitize-resources` would report as a leak of the user's test. A function keeps what it needs by
 * itself, and libraries other than libc are pinned by one `dlopen(3)` of our own.
 *
 * @module
 */
import type { ForeignCallError } from "./backend.ts";
import type { Address, Backend, CType, ForeignFunction, FunctionSignature } from "./types.ts";

/** An opaque pointer object of Deno's. */
type PointerObject = object;

interface Signature {
  readonly name?: string;
  readonly parameters: readonly string[];
  readonly result: string;
}

/** The part of Deno's namespace that this file uses. */
interface DenoNamespace {
  dlopen?(
    path: string,
    symbols: Record<string, Signature | { readonly type: "pointer"; readonly optional: true }>,
  ): { readonly symbols: Record<string, ForeignFunction | PointerObject | null>; close(): void };
  readonly UnsafeFnPointer: new (
    pointer: PointerObject,
    signature: Signature,
  ) => { readonly call: ForeignFunction };
  readonly UnsafePointer: {
    of(view: ArrayBufferView): PointerObject | null;
    create(address: bigint): PointerObject | null;
    value(pointer: PointerObject | null): bigint | number;
  };
  readonly UnsafePointerView: {
    new (pointer: PointerObject): { getCString(): string };
    getArrayBuffer(pointer: PointerObject, byteLength: number): ArrayBuffer;
  };
  readonly permissions: {
    querySync(
      descriptor: { name: "ffi"; path?: string },
    ): { readonly state: "granted" | "denied" | "prompt" };
  };
}

/** RTLD_LAZY has this value on Linux and on Darwin. */
const RTLD_LAZY = 1;
/** "Whatever this process has loaded", as a handle. */
const RTLD_DEFAULT = 0;
const RTLD_DEFAULT_DARWIN = -2;

/** Libraries that no process unloads. */
const ALWAYS_LOADED = /(^|\/)lib(c|System)\./;

const DENO_TYPES: Record<CType, string> = {
  void: "void",
  i8: "i8",
  u8: "u8",
  i16: "i16",
  u16: "u16",
  i32: "i32",
  u32: "u32",
  i64: "i64",
  u64: "u64",
  isize: "isize",
  usize: "usize",
  // Signed, so that (void *) -1, which is MAP_FAILED and SEM_FAILED, comes back as -1.
  address: "isize",
  buffer: "buffer",
};

/**
 * Makes Deno's backend.
 *
 * @param Failure the class to throw, handed in because its file imports this one
 */
export function denoBackend(Failure: typeof ForeignCallError): Backend {
  const deno = (globalThis as { Deno?: DenoNamespace }).Deno;
  if (deno === undefined || typeof deno.dlopen !== "function") {
    throw new Failure(
      "FFI_UNAVAILABLE",
      "Cannot call C functions: this runtime offers neither Deno.dlopen nor bun:ffi; run the program with Deno 2 or Bun 1",
    );
  }
  const dlopen = deno.dlopen;
  const encoder = new TextEncoder();
  const pinned = new Set<string>();

  /** Asks before Deno would: a query never prompts, an open does. A program may give up a permission at any time. */
  const demandPermission = (library: string): void => {
    if (deno.permissions.querySync({ name: "ffi" }).state === "granted") return;
    const listed = deno.permissions.querySync({ name: "ffi", path: library }).state === "granted";
    throw new Failure(
      "FFI_DENIED",
      listed
        ? `Cannot call ${library}: --allow-ffi lists this library, but pointers and mapped memory need the whole ` +
          "permission; run with --allow-ffi (no list)"
        : `Cannot call ${library}: the ffi permission is not granted; run with --allow-ffi`,
    );
  };

  /** dlsym(3) of a library that is loaded anyway. One `Deno.dlopen` for each symbol costs several times as much. */
  let find: ForeignFunction | null | undefined;

  const findPointer = (library: string, name: string): PointerObject | null => {
    if (!ALWAYS_LOADED.test(library)) return openSymbol(library, name, null) as PointerObject | null;
    if (find === undefined) {
      const pointer = openSymbol(library, "dlsym", null) as PointerObject | null; // not in a glibc before 2.34
      const signature = { parameters: ["isize", "buffer"], result: "pointer" };
      const foreign = pointer === null ? null : new deno.UnsafeFnPointer(pointer, signature);
      find = foreign === null ? null : (...args) => foreign.call(...args);
    }
    if (find === null) return openSymbol(library, name, null) as PointerObject | null;
    demandPermission(library);
    const text = encoder.encode(name + "\0");
    return find(library.includes("libSystem") ? RTLD_DEFAULT_DARWIN : RTLD_DEFAULT, text) as unknown as
      | PointerObject
      | null;
  };

  const openSymbol = (
    library: string,
    key: string,
    definition: Signature | null,
  ): ForeignFunction | PointerObject | null => {
    demandPermission(library);
    let opened: ReturnType<typeof dlopen>;
    try {
      opened = dlopen(library, { [key]: definition ?? { type: "pointer", optional: true } });
    } catch (cause) {
      throw new Failure(
        "FFI_NO_LIBRARY",
        `Cannot open the library ${library}: ${messageOf(cause)}; install it or name another`,
        {
          cause,
        },
      );
    }
    const found = opened.symbols[key] ?? null;
    if (found !== null) pin(library);
    opened.close();
    return found;
  };

  const pin = (library: string): void => {
    if (pinned.has(library)) return;
    pinned.add(library);
    if (ALWAYS_LOADED.test(library)) return;
    for (const libc of ["libc.so.6", "libdl.so.2", "/usr/lib/libSystem.B.dylib"]) {
      try {
        const open = openSymbol(libc, "dlopen", null);
        if (open === null) continue;
        const call =
          new deno.UnsafeFnPointer(open, { parameters: ["buffer", "i32"], result: "pointer" }).call;
        call(encoder.encode(library + "\0"), RTLD_LAZY);
        return;
      } catch {
        // The next name: which of them exists depends on the system.
      }
    }
  };

  return {
    name: "Deno",

    bind(library: string, name: string, signature: FunctionSignature): ForeignFunction | null {
      const pointer = findPointer(library, name);
      if (pointer === null) return null;
      const translated = {
        parameters: signature.parameters.map((type) => DENO_TYPES[type]),
        result: DENO_TYPES[signature.result],
      };
      let call: ForeignFunction;
      if (signature.hot === true) {
        call = openSymbol(library, name, translated) as ForeignFunction;
      } else {
        const foreign = new deno.UnsafeFnPointer(pointer, translated);
        call = (...args) => foreign.call(...args);
      }
      switch (signature.result) {
        case "isize":
        case "usize":
        case "address":
          return numbered(call, name, signature.parameters.length);
        case "i64":
        case "u64":
          return exact(call);
        default:
          return call;
      }
    },

    symbolAddress(library: string, name: string): Address | null {
      const pointer = findPointer(library, name);
      return pointer === null ? null : Number(deno.UnsafePointer.value(pointer));
    },

    addressOf(view: ArrayBufferView): Address {
      // V8 keeps small arrays inside its movable heap until someone asks for their buffer.
      void view.buffer;
      return Number(deno.UnsafePointer.value(deno.UnsafePointer.of(view)));
    },

    viewAt(address: Address, byteLength: number): ArrayBuffer {
      demandPermission("C");
      const pointer = deno.UnsafePointer.create(BigInt(address));
      if (pointer === null) {
        throw new TypeError("Cannot view memory: its address is NULL; check the call that returned it");
      }
      return deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
    },

    readCString(address: Address): string {
      demandPermission("C");
      const pointer = deno.UnsafePointer.create(BigInt(address));
      if (pointer === null) {
        throw new TypeError("Cannot read a C string: its address is NULL; check the call that returned it");
      }
      return new deno.UnsafePointerView(pointer).getCString();
    },
  };
}

/** Deno returns every 64-bit result as a bigint; sizes and addresses are numbers here. */
function numbered(call: ForeignFunction, name: string, parameters: number): ForeignFunction {
  const convert = (result: number | bigint | undefined): number => {
    const value = Number(result);
    if (!Number.isSafeInteger(value)) {
      throw new RangeError(
        `Cannot return the result of ${name}: ${result} is beyond 2^53; declare it as i64 or u64`,
      );
    }
    return value;
  };
  // Fixed arities, because a rest parameter costs an array a call.
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

/** A compiled call may return a small 64-bit value as a number; the contract says bigint, always. */
function exact(call: ForeignFunction): ForeignFunction {
  return (...args) => {
    const result = call(...args);
    return typeof result === "number" ? BigInt(result) : result;
  };
}

function messageOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^(Could not open library: )+/, "");
}
