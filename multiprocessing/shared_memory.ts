/**
 * Shared memory with a name, which programs in any language can open: CPython's `multiprocessing.shared_memory`.
 *
 * @module
 */
import {
  closeFd,
  errnos,
  fileIdentity,
  isSystemError,
  LONGEST_MEMORY_NAME,
  mapShared,
  openNamedMemory,
  type SharedMapping,
  sizeNamedMemory,
  SystemError,
  unlinkNamedMemory,
  unmapShared,
} from "../platform/mod.ts";
import { timers } from "../platform/runtime/timers.ts";
import { crashPoint } from "./core/crash.ts";
import { type Existing, existing, Handle, isExisting, reviver } from "./core/handle.ts";
import { K_SHARED_MEMORY, K_SHARED_NAME } from "./core/layout.ts";
import {
  forget,
  isSame,
  type NamedObject,
  note,
  OBJECT_BYTES,
  objectOf,
  readObject,
  scrubName,
  unlinkObject,
  writeObject,
} from "./core/names.ts";
import { current, onOpen, type Session } from "./core/session.ts";
import { Window } from "./core/windows.ts";
import { SessionError } from "./errors.ts";

/** Bun's largest ArrayBuffer of foreign memory. */
const LARGEST = 2 ** 32;
/** About 1 ms. */
const PIECE = 4 * 2 ** 20;

/** Which memory, and whether to make it. */
export interface SharedMemoryOptions {
  /**
   * Its name, without a slash. As every program sees the same names, take one that nobody else takes.
   *
   * @default with `create`: a new one, "psm_" and eight hexadecimal digits as CPython's
   */
  readonly name?: string;
  /** Makes it, filled with zeros, for this user only (mode 0600). Otherwise it must exist. @default false */
  readonly create?: boolean;
  /** With `create`: bytes, 1 to 2^32. Memory that exists has its own size, whatever this says, as in CPython. */
  readonly size?: number;
}

/** What a handle is made of. */
class Opened {
  readonly existing: Existing;
  readonly object: NamedObject;
  readonly mapping: SharedMapping;

  constructor(existing: Existing, object: NamedObject, mapping: SharedMapping) {
    this.existing = existing;
    this.object = object;
    this.mapping = mapping;
  }
}

/**
 * Memory with a name (shm_open), shared by name with programs in any language, and inside the session by sending the handle. Names and contents
 * are those of CPython's `SharedMemory`: either side can open the other's.
 *
 * The name stays until somebody calls `unlink()`; then the memory goes with the last who has it open. The session's last member removes the names
 * that the session made and nobody unlinked. When all members are killed at once, or the last one is, nobody is left to do so and the name stays;
 * so it does on Deno when the last one ends by an uncaught error. Names that somebody else made are never removed.
 *
 * A CPython process that only attaches removes the name at its end all the same, unless it says `track=False` (3.13).
 *
 * @example
 * ```ts
 * import { SharedMemory } from "@karellen/geventmp";
 * using memory = new SharedMemory({ create: true, size: 4096 });
 * new Uint8Array(memory.buffer).set([1, 2, 3]);
 * console.log(memory.name); // Python: SharedMemory(name).buf[0] == 1
 * memory.unlink();
 * ```
 */
export class SharedMemory extends Handle {
  /** Its name, without a slash. */
  readonly name: string;
  /** Its size in bytes: of memory that exists, what the system says. */
  readonly size: number;
  readonly #object: NamedObject;
  readonly #buffer: ArrayBuffer;
  readonly #window: Window;

  /**
   * Opens memory that exists, or makes it. Making takes 0.3 ms a MiB, as every page is reserved: for more than some MiB use
   * {@linkcode SharedMemory.create}.
   *
   * @throws {TypeError} no name for memory that is to exist; a name that is empty, too long, or has a slash or a NUL in it
   * @throws {RangeError} the size is no whole number from 1 to 2^32
   * @throws {SystemError} EEXIST: there is one of this name; ENOENT: there is none; ENOSPC: /dev/shm is full; EACCES
   */
  constructor(options: SharedMemoryOptions);
  /** @ignore */
  constructor(options: SharedMemoryOptions | Existing);
  constructor(options: SharedMemoryOptions | Existing | Opened) {
    const { existing, object, mapping } = options instanceof Opened
      ? options
      : isExisting(options)
      ? receive(options)
      : openOrMake(options);
    super(K_SHARED_MEMORY, existing, OBJECT_BYTES, () => {});
    this.name = object.name;
    this.size = mapping.buffer.byteLength;
    this.#object = object;
    this.#buffer = mapping.buffer;
    this.#window = new Window(this.session.windows, mapping, this, true);
  }

  /**
   * Makes memory of any size without holding the loop: its pages are reserved in pieces of about a millisecond.
   *
   * @throws as the constructor with `create: true`, and {@linkcode SessionError} when the session is disposed meanwhile
   */
  static async create({ name, size }: { name?: string; size: number }): Promise<SharedMemory> {
    const session = current();
    const making = make(session, name === undefined ? newName : always(checkName(name)), checkSize(size));
    for (;;) {
      const step = making.next();
      if (step.done === true) return new SharedMemory(step.value as Opened & SharedMemoryOptions);
      await new Promise<void>((resolve) => void timers().setImmediate(resolve));
      if (session.closed) {
        making.throw(new SessionError("Cannot go on making shared memory: the session was disposed"));
      }
    }
  }

  /**
   * The memory. Others may change it at any time: use `Atomics`, or a `Lock`, for what must not be torn. Do not transfer it: send the handle.
   *
   * @throws {TypeError} it was closed
   */
  get buffer(): ArrayBuffer {
    this.checkLive("use the buffer of");
    return this.#buffer;
  }

  /**
   * Lets go of the memory, and detaches every view of it: they have length 0 then, and methods that need memory throw a TypeError. It stays under
   * its name, and can still be unlinked. Closing twice is closing once.
   */
  close(): void {
    this[Symbol.dispose]();
  }

  /**
   * Removes the name. Who has the memory open keeps it.
   *
   * @throws {SystemError} ENOENT: it was unlinked before, even if other memory has the name now
   */
  unlink(): void {
    const had = unlinkObject(this.#object);
    crashPoint("memory.unlinked");
    if (!this.session.closed) forget(this.session.arena, this.#object);
    if (!had) throw new SystemError("shm_unlink", errnos.ENOENT, `"${this.name}", which was unlinked before`);
  }

  /** The same as {@linkcode close}. */
  override [Symbol.dispose](): void {
    this.#window.close();
    super[Symbol.dispose]();
  }

  /** For people: name and size. */
  override toString(): string {
    return `SharedMemory("${this.name}", size=${this.size}${this.disposed ? ", closed" : ""})`;
  }
}

function openOrMake({ name, create = false, size }: SharedMemoryOptions): Opened {
  if (create) {
    const making = make(current(), name === undefined ? newName : always(checkName(name)), checkSize(size));
    for (;;) {
      const step = making.next();
      if (step.done === true) return step.value;
    }
  }
  if (size !== undefined && !(size >= 0)) checkSize(size);
  if (name === undefined) {
    throw new TypeError(
      "Cannot open shared memory without a name; pass its name, or create: true and a size",
    );
  }
  return attach(current(), checkName(name));
}

/** A name as CPython makes them. */
function newName(): string {
  let name = "psm_";
  for (const byte of crypto.getRandomValues(new Uint8Array(4))) name += byte.toString(16).padStart(2, "0");
  return name;
}

function always(name: string): () => null | string {
  let first = true;
  return () => {
    if (!first) return null;
    first = false;
    return name;
  };
}

/**
 * Makes memory, piece by piece.
 *
 * @param nextName gives a name, and another one when that is taken, or null to fail then
 */
export function* make(
  session: Session,
  nextName: () => string | null,
  size: number,
): Generator<void, Opened, void> {
  const { name, fd } = openNew(nextName);
  let object: NamedObject | undefined;
  try {
    crashPoint("memory.named");
    object = objectOf(name, fileIdentity(fd));
    note(session.arena, object);
    crashPoint("memory.noted");
    for (let from = 0; from < size; from += PIECE) {
      if (from > 0) yield;
      sizeNamedMemory(fd, from, Math.min(from + PIECE, size), size);
    }
    return adopt(session, object, fd);
  } catch (error) {
    unlinkNamedMemory(`/${name}`);
    if (object !== undefined && !session.closed) forget(session.arena, object);
    throw isSystemError(error, "ENOSPC")
      ? new SystemError(
        error.syscall,
        error.errno,
        `the ${size} bytes of shared memory "${name}": remove what nobody needs from /dev/shm, or make that larger`,
        { cause: error },
      )
      : error;
  } finally {
    closeFd(fd);
  }
}

function openNew(nextName: () => string | null): { name: string; fd: number } {
  for (let name = nextName()!;;) {
    try {
      return { name, fd: openNamedMemory(`/${name}`, { create: true }) };
    } catch (error) {
      const another = isSystemError(error, "EEXIST") ? nextName() : null;
      if (another === null) throw error;
      name = another;
    }
  }
}

function attach(session: Session, name: string): Opened {
  const fd = openNamedMemory(`/${name}`);
  try {
    return adopt(session, objectOf(name, fileIdentity(fd)), fd);
  } finally {
    closeFd(fd);
  }
}

/** Maps the object, and makes what a handle to it refers to. */
function adopt(session: Session, object: NamedObject, fd: number): Opened {
  const mapping = map(object, fd);
  try {
    const { arena, references } = session;
    const made = references.create(
      K_SHARED_MEMORY,
      OBJECT_BYTES,
      (block) => writeObject(arena, block, object),
    );
    return new Opened(existing(session, made), object, mapping);
  } catch (error) {
    unmapShared(mapping);
    throw error;
  }
}

/** What a message carried: a hold of a block that says which object it is. */
function receive(existing: Existing): Opened {
  const { session, block } = existing;
  const object = readObject(session.arena, block);
  try {
    const fd = openNamedMemory(`/${object.name}`);
    try {
      if (!isSame(objectOf(object.name, fileIdentity(fd)), object)) {
        throw new SystemError(
          "shm_open",
          errnos.ENOENT,
          `"${object.name}", which was unlinked; other memory has its name now`,
        );
      }
      return new Opened(existing, object, map(object, fd));
    } finally {
      closeFd(fd);
    }
  } catch (error) {
    session.references.release(block);
    throw error;
  }
}

function map({ name }: NamedObject, fd: number): SharedMapping {
  const { size } = fileIdentity(fd);
  if (size === 0) {
    throw new SystemError("mmap", errnos.EINVAL, `shared memory "${name}", which has no size yet: try again`);
  }
  if (size > LARGEST) {
    throw new RangeError(
      `Cannot open shared memory "${name}": it has ${size} bytes, and one buffer can show ${LARGEST}; use several smaller ones`,
    );
  }
  return mapShared(fd, size);
}

function checkName(name: string): string {
  if (typeof name !== "string") {
    throw new TypeError(`Cannot use a name of type ${typeof name} for shared memory: it must be a string`);
  }
  const bytes = new TextEncoder().encode(name).length;
  const wrong = name === ""
    ? "it is empty"
    : name.includes("/")
    ? "it has a slash in it, which is added where the system wants one"
    : name.includes("\0")
    ? "it has a NUL character in it"
    : bytes > LONGEST_MEMORY_NAME
    ? `it has ${bytes} bytes, and ${LONGEST_MEMORY_NAME} are the most`
    : null;
  if (wrong === null) return name;
  const shown = name.length > 60 ? `${name.slice(0, 60)}…` : name;
  throw new TypeError(
    `Cannot use ${JSON.stringify(shown)} as the name of shared memory: ${wrong}; choose another`,
  );
}

function checkSize(size: number | undefined): number {
  if (size === undefined || !Number.isInteger(size) || size < 1 || size > LARGEST) {
    throw new RangeError(
      `Cannot make shared memory of ${size} bytes: its size must be a whole number from 1 to ${LARGEST}`,
    );
  }
  return size;
}

onOpen((session) => {
  session.references.rule(K_SHARED_NAME, {
    scrubBlock: (block, dead, head) => scrubName(session.arena, block, dead, head),
  });
});
reviver(K_SHARED_MEMORY, (existing) => new SharedMemory(existing));
