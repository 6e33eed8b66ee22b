/**
 * The demo's shared total: a file that every process reads, adds to and writes back. Nothing but the lock that each holds meanwhile keeps one
 * from overwriting what another added.
 */
import { closeSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";

/** What was counted so far. */
export interface Totals {
  readonly files: number;
  readonly bytes: number;
  readonly words: number;
}

/** The file that holds the totals. */
export class TotalFile {
  readonly #fd: number;
  readonly #fields = new BigInt64Array(3);

  /** Makes the file, with nothing in it yet. */
  static create(path: string): void {
    writeFileSync(path, new Uint8Array(new BigInt64Array(3).buffer));
  }

  /** Opens the file that {@linkcode TotalFile.create} made. */
  constructor(path: string) {
    this.#fd = openSync(path, "r+");
  }

  /** The totals. Read them with the lock held, or when nobody adds any more. */
  read(): Totals {
    readSync(this.#fd, this.#fields, 0, 24, 0);
    const [files, bytes, words] = [...this.#fields].map(Number);
    return { files, bytes, words };
  }

  /** Adds. Only with the lock held. */
  add({ bytes, words }: { readonly bytes: number; readonly words: number }): void {
    const total = this.read();
    this.#fields.set([BigInt(total.files + 1), BigInt(total.bytes + bytes), BigInt(total.words + words)]);
    writeSync(this.#fd, this.#fields, 0, 24, 0);
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}
