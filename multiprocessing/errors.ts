/**
 * Errors that a caller catches. Each has a `code` that survives a trip to another process. Misuse is a `TypeError` or a `RangeError`.
 *
 * @module
 */

/** Base of the errors of processes and their channels (CPython's `multiprocessing.ProcessError`). */
export class ProcessError extends Error {
  override name = "ProcessError";
  /** Stable name of the kind of error. */
  readonly code: string = "ERR_PROCESS";
}

/** A wait's time was over. Nothing was taken, and nothing is left behind. */
export class TimeoutError extends ProcessError {
  override name = "TimeoutError";
  override readonly code: string = "ERR_TIMEOUT";
}

/** Nothing to get: `get` with a time-out, or `getNowait` (CPython's `queue.Empty`). */
export class Empty extends TimeoutError {
  override name = "Empty";
  override readonly code: string = "ERR_EMPTY";
}

/** No room to put: `put` with a time-out, or `putNowait` (CPython's `queue.Full`). */
export class Full extends TimeoutError {
  override name = "Full";
  override readonly code: string = "ERR_FULL";
}

/** The queue was shut down (CPython's `queue.ShutDown`). */
export class ShutDown extends ProcessError {
  override name = "ShutDown";
  override readonly code: string = "ERR_SHUT_DOWN";
}

/** A `…Sync` method on a main thread, whose event loop it would stop. */
export class BlockingError extends ProcessError {
  override name = "BlockingError";
  override readonly code: string = "ERR_BLOCKING";
}

/** What the other side threw; `cause` has its class name, message and stack. */
export class RemoteError extends ProcessError {
  override name = "RemoteError";
  override readonly code: string = "ERR_REMOTE";
}

/** The session cannot be joined or used. */
export class SessionError extends ProcessError {
  override name = "SessionError";
  override readonly code: string = "ERR_SESSION";
}
