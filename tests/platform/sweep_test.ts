/** Folders of shared memory with a path that nobody has open any more. */
import { assert, assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { closeFd, duplicate, fileIdentity, lockByte, openFile } from "../../platform/mod.ts";
import { shareByte } from "../../platform/posix/life.ts";
import { removeUnused, sweepUnused } from "../../platform/posix/sweep.ts";

/** A folder as a killed or living process may have left it. */
function make(parent: string, name: string, files: readonly string[], mode = 0o700): string {
  const folder = join(parent, name);
  mkdirSync(folder, { mode });
  for (const file of files) writeFileSync(join(folder, file), "");
  return folder;
}

function withParent(test: (parent: string) => void): void {
  const parent = mkdtempSync(join(tmpdir(), "sweep-"));
  try {
    test(parent);
  } finally {
    rmSync(parent, { recursive: true });
  }
}

const sweep = (parent: string): void => sweepUnused(join(parent, "geventmp-000000", "arena"), fileIdentity);

describe("platform: a sweep", () => {
  it("removes what a process killed after any step of making or removing left", () => {
    withParent((parent) => {
      make(parent, "geventmp-made00", []);
      make(parent, "geventmp-file00", ["arena"]);
      make(parent, "geventmp-bells0", ["arena", "0-1", "1023-2097151"]);
      sweep(parent);
      assertEquals(readdirSync(parent), []);
      // Of a folder that is gone as well.
      sweep(join(parent, "gone"));
    });
  });

  it("leaves what anybody has open, however the lock was taken, until its last descriptor closes", () => {
    withParent((parent) => {
      const locks = {
        "geventmp-share0": (fd: number) => shareByte(fd, 0x7fffffff),
        "geventmp-life00": (fd: number) => lockByte(fd, 0),
        "geventmp-life99": (fd: number) => lockByte(fd, 1023),
      };
      for (const [name, lock] of Object.entries(locks)) {
        const folder = make(parent, name, ["arena", "3-1"]);
        const path = join(folder, "arena");
        const fd = openFile(path, { write: true });
        assert(lock(fd));
        const copy = duplicate(fd);
        for (let i = 0; i < 2; i++) {
          sweep(parent);
          assertEquals(removeUnused(path, fileIdentity), false);
          assertEquals(readdirSync(folder).sort(), ["3-1", "arena"]);
          closeFd([fd, copy][i]);
        }
        assertEquals(removeUnused(path, fileIdentity), true);
        assertEquals(existsSync(folder), false);
      }
    });
  });

  it("leaves what is not of its making", () => {
    withParent((parent) => {
      const elsewhere = make(parent, "elsewhere", ["arena", "0-1"]);
      symlinkSync(elsewhere, join(parent, "geventmp-link00"));
      make(parent, "geventmp-open00", ["arena"], 0o755);
      make(parent, "geventmp-toolong", ["arena"]);
      make(parent, "geventmp-a.b.c.", []);
      make(parent, "someone-abcdef", ["arena"]);
      writeFileSync(join(parent, "geventmp-plain0"), "");
      make(parent, "geventmp-other0", ["notes"]);
      const linked = make(parent, "geventmp-inside", []);
      symlinkSync(join(elsewhere, "arena"), join(linked, "arena"));
      const deep = make(parent, "geventmp-deep00", []);
      mkdirSync(join(deep, "0-1"));
      const before = readdirSync(parent, { recursive: true }).sort();
      sweep(parent);
      assertEquals(readdirSync(parent, { recursive: true }).sort(), before);
      // What it takes for its own goes; what lies beside that does not.
      const mixed = make(parent, "geventmp-mixed0", ["arena", "0-1", "notes"]);
      sweep(parent);
      assertEquals(readdirSync(mixed), ["notes"]);
    });
  });
});
