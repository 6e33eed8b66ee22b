/** What the demo does with one file, in whichever process. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { setImmediate } from "node:timers";

/** What a file comes to. */
export interface FileCount {
  readonly bytes: number;
  /** Runs of bytes without white space, as `wc -w` counts them in the C locale. */
  readonly words: number;
  /** SHA-256, in hexadecimal. */
  readonly digest: string;
}

const PIECE_BYTES = 256 * 1024;
/** The loop gets its turn at least this often. */
const TURN_MS = 4;

const isSpace = new Uint8Array(256);
for (const byte of [0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20]) isSpace[byte] = 1;

/** Counts files one after the other, in pieces, giving the loop its turns between them. */
export class FileCounter {
  readonly #piece = new Uint8Array(PIECE_BYTES);
  #lastTurn = performance.now();

  /** Reads a file without counting, so that whoever counts it later finds it in memory. */
  async read(path: string): Promise<void> {
    await this.#pieces(path, () => {});
  }

  /** Counts a file. @throws {Error} the file cannot be read */
  async count(path: string): Promise<FileCount> {
    const hash = createHash("sha256");
    let words = 0;
    let before = 1;
    const bytes = await this.#pieces(path, (piece) => {
      hash.update(piece);
      for (let i = 0; i < piece.length; i++) {
        const space = isSpace[piece[i]];
        words += before & (space ^ 1);
        before = space;
      }
    });
    return { bytes, words, digest: hash.digest("hex") };
  }

  async #pieces(path: string, use: (piece: Uint8Array) => void): Promise<number> {
    const fd = openSync(path, "r");
    try {
      for (let bytes = 0;;) {
        const length = readSync(fd, this.#piece, 0, PIECE_BYTES, null);
        if (length === 0) return bytes;
        use(this.#piece.subarray(0, length));
        bytes += length;
        if (performance.now() - this.#lastTurn < TURN_MS) continue;
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.#lastTurn = performance.now();
      }
    } finally {
      closeSync(fd);
    }
  }
}
