/**
 * Handles: what user code holds of a block. A handle may be disposed, dropped, or sent; the block lives while any agent has one.
 *
 * @module
 */
import { type HandleId, kHandle } from "../codec/mod.ts";
import type { Block } from "./arena.ts";
import type { Held } from "./references.ts";
import { current, type Session } from "./session.ts";

/** What outlives a dropped handle: enough to let go of its reference, once. */
interface Reference {
  readonly session: Session;
  readonly block: Block;
  released: boolean;
}

function letGo(reference: Reference): void {
  if (reference.released) return;
  reference.released = true;
  if (!reference.session.closed) reference.session.references.release(reference.block);
}

/**
 * Best effort, as collections come when they come; dispose what must be gone at once. A lock that is held stays held though nothing refers to it
 * any more: only its owner's end, or a dispose, gives it up.
 */
const dropped = new FinalizationRegistry<Reference>((reference) => {
  const { session, block } = reference;
  if (!session.closed && !reference.released && session.references.isLastOfOwned(block)) return;
  letGo(reference);
});

const NEW: unique symbol = Symbol("new block");

/** A block to be adopted by a handle's constructor instead of making a new one. */
export interface Existing {
  readonly [NEW]: true;
  readonly session: Session;
  readonly block: Block;
  readonly held: Held;
  readonly generation: number;
}

/** A block that this agent holds, for a handle's constructor to adopt. The handle then has that hold. */
export function existing(session: Session, held: { block: Block; held: Held; generation: number }): Existing {
  return { [NEW]: true, session, ...held };
}

/** Whether a constructor was called to make a handle to a block that exists. */
export function isExisting(value: unknown): value is Existing {
  return typeof value === "object" && value !== null && NEW in value;
}

/** Where Deno's and Bun's consoles look for what to show. */
export const denoInspect: unique symbol = Symbol.for("Deno.customInspect");
/** @ignore */
export const nodeInspect: unique symbol = Symbol.for("nodejs.util.inspect.custom");

/**
 * What copies an object, `structuredClone` and `postMessage` above all, reads its enumerable properties. A handle has this one, so that it is refused
 * instead of arriving as an empty object.
 */
const UNCOPYABLE: PropertyDescriptor = {
  enumerable: true,
  get(this: Handle): never {
    throw new TypeError(
      `Cannot copy this ${this.constructor.name}: a handle does not travel by structuredClone or postMessage yet; pass it as an argument of a Process or put it in a Queue`,
    );
  },
};

/** Base of all handles. Disposing lets go of this agent's reference, never of the others'. */
export abstract class Handle implements Disposable {
  readonly #session: Session;
  readonly #block: Block;
  readonly #held: Held;
  readonly #kind: number;
  readonly #generation: number;
  readonly #reference: Reference;

  /** @ignore */
  protected constructor(
    kind: number,
    existing: Existing | null,
    bytes: number,
    fill: (m: Int32Array, block: Block) => void,
  ) {
    Object.defineProperty(this, "handle", UNCOPYABLE);
    this.#kind = kind;
    if (existing === null) {
      this.#session = current();
      const m = this.#session.arena.i32;
      const made = this.#session.references.create(kind, bytes, (block) => fill(m, block));
      this.#block = made.block;
      this.#held = made.held;
      this.#generation = made.generation;
    } else {
      this.#session = existing.session;
      this.#block = existing.block;
      this.#held = existing.held;
      this.#generation = existing.generation;
    }
    this.#reference = { session: this.#session, block: this.#block, released: false };
    dropped.register(this, this.#reference, this.#reference);
  }

  /** @ignore */
  protected get session(): Session {
    return this.#session;
  }

  /** @ignore */
  protected get block(): Block {
    return this.#block;
  }

  /** @ignore */
  protected get held(): Held {
    return this.#held;
  }

  /** How the handle travels inside a message. @ignore */
  [kHandle](): HandleId {
    this.checkLive("send");
    return { kind: this.#kind, block: this.#block, generation: this.#generation };
  }

  /** @ignore */
  get disposed(): boolean {
    return this.#reference.released || this.#session.closed;
  }

  /** Whether the agent still has the object, through this handle or another: what the agent took through it, it still has then. @ignore */
  get isReferenced(): boolean {
    return this.held.count > 0 && !this.session.closed;
  }

  /** Keeps the agent's reference though the handle may be disposed, until {@linkcode letGo}. @ignore */
  protected keep(): void {
    this.held.count++;
  }

  /** @ignore */
  protected letGo(): void {
    if (!this.session.closed) this.session.references.release(this.block);
  }

  /** @ignore */
  protected checkLive(what: string): void {
    if (this.#reference.released) {
      throw new TypeError(
        `Cannot ${what} this ${this.constructor.name}: it was disposed in this agent; use the handle before its "using" scope ends`,
      );
    }
    if (this.#session.closed) {
      throw new TypeError(
        `Cannot ${what} this ${this.constructor.name}: its session was disposed in this agent`,
      );
    }
  }

  /** For people. */
  toString(): string {
    return this.disposed ? `${this.constructor.name}(disposed)` : `${this.constructor.name}()`;
  }

  /** What a console shows: the same as `toString`. @ignore */
  [denoInspect](): string {
    return this.toString();
  }

  /** @ignore */
  [nodeInspect](): string {
    return this.toString();
  }

  /** Lets go of this agent's reference. Disposing twice is disposing once. */
  [Symbol.dispose](): void {
    dropped.unregister(this.#reference);
    letGo(this.#reference);
  }
}

/** Kinds whose blocks contain an object of another kind, by that kind. */
const containers = new Map<number, Set<number>>();

/** Has blocks of kind `outer` contain an object of kind `inner`, as a value contains its lock: then a handle of that kind may be to such a block. */
export function contains(outer: number, inner: number): void {
  const outers = containers.get(inner) ?? new Set();
  containers.set(inner, outers.add(outer));
}

function mayBeTo(kind: number, block: number): boolean {
  return kind === block || containers.get(kind)?.has(block) === true;
}

type Reviver = (existing: Existing) => Handle;
const revivers = new Map<number, Reviver>();

/** Registers how a kind of block becomes a handle. */
export function reviver(kind: number, revive: Reviver): void {
  revivers.set(kind, revive);
}

const openers = new Map<number, (name: string) => object>();

/** Registers how a kind of what belongs to the machine is opened by its name. */
export function opener(kind: number, open: (name: string) => object): void {
  openers.set(kind, open);
}

/** Makes the handle that a message carried. @throws {TypeError} when its object is gone, or is of another session. */
export function revive(kind: number, block: Block, generation: number, name?: string): object {
  if (name !== undefined) return openers.get(kind)!(name);
  const session = current();
  const make = revivers.get(kind);
  const { arena } = session;
  if (
    make === undefined || block >= arena.i32.length || !arena.isLive(block, generation) ||
    !mayBeTo(kind, arena.kind(block))
  ) {
    throw new TypeError(
      `Cannot receive a handle: its object (kind ${kind}, block ${block}) does not exist any more, or belongs to another session; the sender must keep its handle until the message was received, or send it within one session`,
    );
  }
  return make(existing(session, { block, held: session.references.hold(block), generation }));
}
