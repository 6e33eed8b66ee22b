/**
 * The neutral vocabulary in which C functions are described. Each backend translates it into what its runtime
 * understands, so that no other file knows how Deno or Bun spell a type.
 *
 * @module
 */

/**
 * A C type as a call sees it.
 *
 * | type | C | argument | result |
 * |---|---|---|---|
 * | `void` | `void` | | `undefined` |
 * | `i8` to `u32` | fixed width integers, `int`, `short`, … | number | number |
 * | `i64`, `u64` | `int64_t`, `uint64_t`, `off_t`, … | number or bigint | bigint, always exact |
 * | `isize`, `usize` | `ssize_t`, `size_t`, `long` | number | number; a result beyond 2^53 is a RangeError |
 * | `address` | any pointer that is only an address | number | number; `(void *) -1` is -1, NULL is 0 |
 * | `buffer` | a pointer to memory that a view shows | view or null | |
 */
export type CType =
  | "void"
  | "i8"
  | "u8"
  | "i16"
  | "u16"
  | "i32"
  | "u32"
  | "i64"
  | "u64"
  | "isize"
  | "usize"
  | "address"
  | "buffer";

/** An address in this process: user space addresses fit in 53 bits, so a number holds each exactly. */
export type Address = number;

/** One C function. Write its C declaration as a comment beside it. */
export interface FunctionSignature {
  /** Types of the arguments, in order. */
  readonly parameters: readonly CType[];
  /** Type of the result. */
  readonly result: CType;
  /** The function's name in the library, when it differs from the key in the table. */
  readonly name?: string;
  /**
   * How many arguments stand before the `...` of a variadic declaration. Apple's arm64 convention passes what
   * follows on the stack, so the backend must know.
   */
  readonly fixed?: number;
  /**
   * Whether calls are frequent. On Deno a frequent function is compiled when it is bound (about 0.2 ms, then some
   * 0.1 µs a call); any other is bound in about 10 µs and costs about 0.9 µs a call. Bun treats both alike.
   *
   * @default false
   */
  readonly hot?: boolean;
}

/** C functions by the name that the caller uses. */
export type SymbolTable = { readonly [name: string]: FunctionSignature };

/** What a call takes for a parameter of type T. */
export type Argument<T> = T extends "buffer" ? ArrayBufferView | null
  : T extends "i64" | "u64" ? number | bigint
  : number;

/** What a call returns for a result of type T. */
export type Result<T> = T extends "void" ? undefined : T extends "i64" | "u64" ? bigint : number;

/** What a call takes for all its parameters. */
export type Arguments<P extends readonly CType[]> = { -readonly [K in keyof P]: Argument<P[K]> };

/** The typed functions of a table. */
export type Bound<T extends SymbolTable> = {
  [K in keyof T]: (...args: Arguments<T[K]["parameters"]>) => Result<T[K]["result"]>;
};

/** A bound function before its types are known. */
export type ForeignFunction = (
  ...args: (number | bigint | ArrayBufferView | null)[]
) => number | bigint | undefined;

/** What each runtime must supply. */
export interface Backend {
  /** The runtime's name, for messages. */
  readonly name: "Deno" | "Bun";
  /**
   * Binds one function.
   *
   * @returns the function, or null when the library has no such symbol
   * @throws {ForeignCallError} the library cannot be opened, or opening it is not allowed
   */
  bind(library: string, name: string, signature: FunctionSignature): ForeignFunction | null;
  /**
   * Where a symbol lies, function or variable.
   *
   * @returns the address, or null when the library has no such symbol
   * @throws {ForeignCallError} as `bind`
   */
  symbolAddress(library: string, name: string): Address | null;
  /** The address of a view's first byte. */
  addressOf(view: ArrayBufferView): Address;
  /** An ArrayBuffer over memory that is already there; nothing is copied and nothing will be freed. */
  viewAt(address: Address, byteLength: number): ArrayBuffer;
  /** The text up to the first NUL; bytes that are not UTF-8 become U+FFFD. */
  readCString(address: Address): string;
}
