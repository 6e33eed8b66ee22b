/**
 * Names of shared memory that the session made, and removes at its end: the state table is in `layout.ts`.
 *
 * CPython has a process, the resource tracker, for the same. Here the last member that leaves looks into the arena. What has a name outlives a
 * session whose members are all killed at once: then nobody is left to remove it.
 *
 * @module
 */
import {
  closeFd,
  type FileIdentity,
  fileIdentity,
  isSystemError,
  openNamedMemory,
  unlinkNamedMemory,
} from "../../platform/mod.ts";
import type { Arena, Block } from "./arena.ts";
import {
  B_HEAD,
  B_OWNER,
  CLASS_512,
  CLASS_BYTES,
  H_NAMES,
  K_SHARED_NAME,
  LIVE,
  SM_DEVICE,
  SM_INODE,
  SM_NAME,
  SM_NAME_BYTES,
} from "./layout.ts";

/** Bytes of a block that speaks of an object. */
export const OBJECT_BYTES: number = CLASS_BYTES[CLASS_512];

/** An object of the system. A name alone does not tell it from another one that came to have the same name. */
export interface NamedObject {
  /** Without the slash. */
  readonly name: string;
  readonly device: bigint;
  readonly inode: bigint;
}

/** The object that a descriptor of it shows. */
export function objectOf(name: string, { device, inode }: FileIdentity): NamedObject {
  return { name, device, inode };
}

export function isSame(a: NamedObject, b: NamedObject): boolean {
  return a.inode === b.inode && a.device === b.device && a.name === b.name;
}

/** Writes an object into a block that is not live yet. */
export function writeObject(arena: Arena, block: Block, { name, device, inode }: NamedObject): void {
  const m = arena.i32;
  writeBig(m, block + SM_DEVICE, device);
  writeBig(m, block + SM_INODE, inode);
  const start = (block + SM_NAME) * 4;
  const { written } = new TextEncoder().encodeInto(name, arena.u8.subarray(start, start + 255));
  m[block + SM_NAME_BYTES] = written;
}

/** Reads what {@linkcode writeObject} wrote. */
export function readObject(arena: Arena, block: Block): NamedObject {
  const m = arena.i32;
  const start = (block + SM_NAME) * 4;
  return {
    name: new TextDecoder().decode(arena.u8.subarray(start, start + (m[block + SM_NAME_BYTES] & 0xff))),
    device: readBig(m, block + SM_DEVICE),
    inode: readBig(m, block + SM_INODE),
  };
}

function writeBig(m: Int32Array, at: number, value: bigint): void {
  m[at] = Number(BigInt.asIntN(32, value));
  m[at + 1] = Number(BigInt.asIntN(32, value >> 32n));
}

function readBig(m: Int32Array, at: number): bigint {
  return BigInt(m[at] >>> 0) | (BigInt(m[at + 1] >>> 0) << 32n);
}

/** Notes that the session made the object, and is to remove its name. @throws {RangeError} when the arena is at its cap */
export function note(arena: Arena, object: NamedObject): void {
  const block = arena.allocate(OBJECT_BYTES);
  writeObject(arena, block, object);
  // First, so that nobody who leaves overlooks it.
  Atomics.store(arena.i32, H_NAMES, 1);
  arena.publish(block, K_SHARED_NAME);
}

/** The object has no name any more. Nothing happens if the session did not make it. */
export function forget(arena: Arena, object: NamedObject): void {
  visit(arena, (block, head) => {
    if (isSame(readObject(arena, block), object) && arena.condemn(block, head)) arena.free(block);
  });
}

function visit(arena: Arena, each: (block: Block, head: number) => void): void {
  if (!hasNames(arena)) return;
  arena.visitBlocks(0, (block, head) => {
    // What is read afterwards counts only if the head is the same still.
    if ((head & 3) === LIVE && arena.kind(block) === K_SHARED_NAME) each(block, head);
  }, () => true);
}

/** What is left to do of a name whose maker is dead: nothing while it is there, for the session goes on. */
export function scrubName(arena: Arena, block: Block, dead: number, head: number): void {
  if ((head & 3) !== LIVE || arena.i32[block + B_OWNER] !== dead) return;
  try {
    if (!hasName(readObject(arena, block)) && arena.condemn(block, head)) arena.free(block);
  } catch {
    // No descriptor is left, say: the session's last member looks again.
  }
}

/** Whether the session made an object with a name, ever. */
export function hasNames(arena: Arena): boolean {
  return Atomics.load(arena.i32, H_NAMES) !== 0;
}

/** Removes all names that the session made and that still are its own. For the last member; what it fails at is not worth an error then. */
export function removeNames(arena: Arena): void {
  const objects: NamedObject[] = [];
  visit(arena, (block, head) => {
    const object = readObject(arena, block);
    if (Atomics.load(arena.i32, block + B_HEAD) === head) objects.push(object);
  });
  for (const object of objects) {
    try {
      unlinkObject(object);
    } catch {
      // Another user's by now, or no descriptor is left.
    }
  }
}

/**
 * Removes the object's name.
 *
 * @returns false when it has none any more, though another object may have come to it
 * @throws {SystemError} EACCES, EMFILE
 */
export function unlinkObject(object: NamedObject): boolean {
  return hasName(object) && unlinkNamedMemory(`/${object.name}`);
}

function hasName(object: NamedObject): boolean {
  let fd: number;
  try {
    fd = openNamedMemory(`/${object.name}`);
  } catch (error) {
    if (isSystemError(error, "ENOENT")) return false;
    throw error;
  }
  try {
    return isSame(objectOf(object.name, fileIdentity(fd)), object);
  } finally {
    closeFd(fd);
  }
}
