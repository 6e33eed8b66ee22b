/** Which files the demo counts. */
import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";

/** One file to count. */
export interface FileEntry {
  /** Its path below the folder. */
  readonly name: string;
  /** Its size in bytes when the folder was listed. */
  readonly size: number;
}

/**
 * All regular files under a folder, largest first, so that no process is left with a large one at the end. Symbolic links are not followed.
 *
 * @param folder where to look
 * @throws {Error} the folder, or one below it, cannot be listed
 */
export async function filesUnder(folder: string): Promise<FileEntry[]> {
  const found: FileEntry[] = [];
  const folders = [""];
  for (let below = folders.pop(); below !== undefined; below = folders.pop()) {
    for (const entry of await readdir(join(folder, below), { withFileTypes: true })) {
      const name = join(below, entry.name);
      if (entry.isDirectory()) folders.push(name);
      else if (entry.isFile()) found.push({ name, size: (await lstat(join(folder, name))).size });
    }
  }
  return found.sort((a, b) => b.size - a.size || (a.name < b.name ? -1 : 1));
}
