/**
 * Numbers and arrays of numbers in the session's memory: CPython's `multiprocessing.sharedctypes`.
 *
 * @module
 */
export {
  SharedArray,
  type TypedArray,
  type TypedArrayConstructor,
  type TypedArrayElement,
} from "./sharedctypes/shared_array.ts";
export { Value, type ValueOf, type ValueType } from "./sharedctypes/value.ts";
