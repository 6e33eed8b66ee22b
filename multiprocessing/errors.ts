/**
 * Errors that a caller catches. Each has a `code` that survives a trip to another process. Misuse is a `TypeError` or a `RangeError`.
 *
 * @module
 */

/** Base of the errors of processes and their channels (CPython's `multiprocessing.ProcessError`). */
export class ProcessError extends Error {
  /** The class's name. */
  override name = "ProcessError";
  /** Stable name of the kind of error. */
  readonly code: string = "ERR_PROCESS";
}

/** A wait's time was over. Nothing was taken, and nothing is left behind. */
export class TimeoutError extends ProcessError {
  /** The class's name. */
  override name = "TimeoutError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_TIMEOUT";
}

/** Nothing to get: `get` with a time-out, or `getNowait` (CPython's `queue.Empty`). */
export class Empty extends TimeoutError {
  /** The class's name. */
  override name = "Empty";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_EMPTY";
}

/** No room to put: `put` with a time-out, or `putNowait` (CPython's `queue.Full`). */
export class Full extends TimeoutError {
  /** The class's name. */
  override name = "Full";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_FULL";
}

/** The queue was shut down (CPython's `queue.ShutDown`). */
export class ShutDown extends ProcessError {
  /** The class's name. */
  override name = "ShutDown";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_SHUT_DOWN";
}

/** The barrier was broken or reset while the call waited, or is broken (CPython's `threading.BrokenBarrierError`). */
export class BrokenBarrierError extends ProcessError {
  /** The class's name. */
  override name = "BrokenBarrierError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_BROKEN_BARRIER";
}

/** The other end of a pipe is gone, and everything it sent was received (CPython's `EOFError`). */
export class EOFError extends ProcessError {
  /** The class's name. */
  override name = "EOFError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_EOF";
}

/** A message does not fit into the buffer that it was to be received into (CPython's `multiprocessing.BufferTooShort`). */
export class BufferTooShort extends ProcessError {
  /** The class's name. */
  override name = "BufferTooShort";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_BUFFER_TOO_SHORT";
  /** The whole message, which was received. */
  readonly bytes: Uint8Array;

  /** Makes the error. */
  constructor(message: string, bytes: Uint8Array) {
    super(message);
    this.bytes = bytes;
  }
}

/** A `…Sync` method on a main thread, whose event loop it would stop. */
export class BlockingError extends ProcessError {
  /** The class's name. */
  override name = "BlockingError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_BLOCKING";
}

/** What the other side threw; `cause` has its class name, message and stack. */
export class RemoteError extends ProcessError {
  /** The class's name. */
  override name = "RemoteError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_REMOTE";
}

/** The session cannot be joined or used. */
export class SessionError extends ProcessError {
  /** The class's name. */
  override name = "SessionError";
  /** Stable name of the kind of error. */
  override readonly code: string = "ERR_SESSION";
}
