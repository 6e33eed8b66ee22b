/**
 * Compares two values down to what structured clone keeps: identity inside the value, holes, order of keys, -0, which
 * class, and which bytes of which buffer.
 *
 * @module
 */

/**
 * Finds the first difference between two values.
 *
 * @returns Where and what it is, or undefined when there is none.
 */
export function difference(actual: unknown, expected: unknown): string | undefined {
  return new Comparison().compare(actual, expected, "value");
}

class Comparison {
  readonly #partners: Map<unknown, unknown> = new Map();
  readonly #taken: Set<unknown> = new Set();

  compare(a: unknown, b: unknown, path: string): string | undefined {
    if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) {
      return Object.is(a, b) ? undefined : `${path}: ${describe(a)} is not ${describe(b)}`;
    }
    if (this.#partners.has(b) || this.#taken.has(a)) {
      return this.#partners.get(b) === a ? undefined : `${path}: identity differs`;
    }
    this.#partners.set(b, a);
    this.#taken.add(a);
    const [classA, classB] = [a, b].map((value) => Object.prototype.toString.call(value));
    if (classA !== classB) return `${path}: ${classA} is not ${classB}`;
    const found = this.#compareContent(a, b, path);
    if (found !== undefined || ArrayBuffer.isView(b) || b instanceof Error) return found;
    const [keysA, keysB] = [Object.keys(a), Object.keys(b)];
    if (keysA.length !== keysB.length) return `${path}: ${keysA.length} keys, not ${keysB.length}`;
    for (let i = 0; i < keysB.length; i++) {
      const key = keysB[i];
      if (keysA[i] !== key) return `${path}: key ${describe(keysA[i])} is not ${describe(key)}`;
      const [textA, textB] = [a, b].map((value) => (value as Record<string, unknown>)[key]);
      const inner = this.compare(textA, textB, `${path}[${JSON.stringify(key)}]`);
      if (inner !== undefined) return inner;
    }
    return undefined;
  }

  #compareContent(a: object, b: object, path: string): string | undefined {
    const primitives = [a, b].map((value) =>
      value instanceof Boolean || value instanceof Number || value instanceof String ||
        value instanceof BigInt || value instanceof Date
        ? value.valueOf()
        : value instanceof RegExp
        ? `${value} ${value.lastIndex}`
        : Array.isArray(value)
        ? value.length
        : undefined
    );
    if (!Object.is(primitives[0], primitives[1])) {
      return `${path}: ${describe(primitives[0])} is not ${describe(primitives[1])}`;
    }
    if (b instanceof Map || b instanceof Set) {
      return this.compareLists([...a as Iterable<unknown>], [...b], `${path}.entries`);
    }
    if (b instanceof Error && a instanceof Error) {
      return this.compareLists(
        [a.name, a.message, a.stack, a.cause],
        [b.name, b.message, b.stack, b.cause],
        path,
      );
    }
    if (b instanceof ArrayBuffer) {
      return compareBytes(new Uint8Array(a as ArrayBuffer), new Uint8Array(b), path);
    }
    if (ArrayBuffer.isView(b)) {
      const [bytesA, bytesB] = [a as ArrayBufferView, b].map((view) =>
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength)
      );
      return compareBytes(bytesA, bytesB, path);
    }
    return undefined;
  }

  compareLists(a: unknown[], b: unknown[], path: string): string | undefined {
    if (a.length !== b.length) return `${path}: ${a.length} elements, not ${b.length}`;
    for (let i = 0; i < b.length; i++) {
      const [itemA, itemB] = [a[i], b[i]];
      // An entry of a Map is an array of its own each time it is read.
      const found = Array.isArray(itemB) && path.endsWith(".entries") && Array.isArray(itemA)
        ? this.compareLists(itemA, itemB, `${path}[${i}]`)
        : this.compare(itemA, itemB, `${path}[${i}]`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function compareBytes(a: Uint8Array, b: Uint8Array, path: string): string | undefined {
  if (a.length !== b.length) return `${path}: ${a.length} bytes, not ${b.length}`;
  const at = a.findIndex((byte, i) => byte !== b[i]);
  return at < 0 ? undefined : `${path}: byte ${at} is ${a[at]}, not ${b[at]}`;
}

function describe(value: unknown): string {
  if (Object.is(value, -0)) return "-0";
  return typeof value === "string" ? JSON.stringify(value.slice(0, 100)) : `${typeof value} ${String(value)}`;
}
