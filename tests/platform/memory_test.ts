import { assert, assertEquals, assertInstanceOf, assertNotEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  closeFd,
  createShared,
  extend,
  fallbacksForced,
  fileIdentity,
  isCloexec,
  mapShared,
  openFile,
  openNamedMemory,
  openOf,
  osName,
  pageSize,
  processId,
  punchHole,
  removeShared,
  reopen,
  sealShrink,
  sharedPath,
  showMemory,
  sizeNamedMemory,
  SystemError,
  truncateFd,
  unlinkNamedMemory,
  unmap,
  unmapShared,
} from "../../platform/mod.ts";

/** Runs a test with shared memory of one page and takes everything away again. */
function withShared(test: (fd: number, path: string | undefined) => void): void {
  const fd = createShared("test");
  const path = sharedPath(fd) ?? undefined;
  try {
    extend(fd, 0, pageSize());
    test(fd, path);
  } finally {
    closeFd(fd);
    if (path !== undefined) removeShared(path);
  }
}

function codeOf(call: () => unknown): string {
  const error = assertThrows(call);
  assertInstanceOf(error, SystemError);
  return error.code;
}

const named = osName === "darwin" || fallbacksForced();

describe("platform: shared memory", () => {
  it("is one file for every description of it", () => {
    withShared((fd, path) => {
      assertEquals(isCloexec(fd), true);
      assertEquals(path !== undefined, named);
      const again = reopen(fd, path);
      const other = openOf(processId(), fd, path);
      assertEquals(fileIdentity(again), fileIdentity(fd));
      assertEquals(fileIdentity(other), fileIdentity(fd));
      assertEquals(fileIdentity(fd).size, pageSize());
      assert(fileIdentity(fd).inode > 0n);
      assertEquals(isCloexec(again), true);
      const one = mapShared(fd, pageSize());
      const two = mapShared(again, pageSize());
      assertNotEquals(one.address, two.address);
      new Int32Array(one.buffer)[3] = 77;
      assertEquals(new Int32Array(two.buffer)[3], 77);
      unmapShared(one);
      unmapShared(two);
      closeFd(again);
      closeFd(other);
    });
  });

  it("maps 4 GiB at once and grows under the mapping", () => {
    withShared((fd) => {
      const mapping = mapShared(fd, 2 ** 32);
      assertEquals(mapping.buffer.byteLength, 2 ** 32);
      const end = 2 ** 31 + pageSize();
      extend(fd, 2 ** 31, pageSize());
      assertEquals(fileIdentity(fd).size, end);
      const far = new Int32Array(mapping.buffer, 2 ** 31, 4);
      Atomics.add(far, 0, 5);
      assertEquals(Atomics.load(far, 0), 5);
      unmapShared(mapping);
      assertEquals(far.length, 0);
      assertEquals(mapping.buffer.byteLength, 0);
      // Twice is no error.
      unmapShared(mapping);
    });
  });

  it("gives pages back, and keeps what is in them when it only grows", () => {
    withShared((fd) => {
      const page = pageSize();
      extend(fd, 0, 2 * page);
      const mapping = mapShared(fd, 2 * page);
      const bytes = new Uint8Array(mapping.buffer);
      bytes.fill(9);
      extend(fd, 0, 2 * page);
      assertEquals([bytes[0], bytes[page]], [9, 9]);
      punchHole(fd, 0, page);
      assertEquals([bytes[0], bytes[page - 1], bytes[page]], [0, 0, 9]);
      assertEquals(fileIdentity(fd).size, 2 * page);
      unmapShared(mapping);
    });
  });

  it("cannot shrink once sealed, where there are seals", () => {
    withShared((fd) => {
      sealShrink(fd);
      if (named) truncateFd(fd, pageSize());
      else assertEquals(codeOf(() => truncateFd(fd, 0)), "EPERM");
      extend(fd, pageSize(), pageSize());
      assertEquals(fileIdentity(fd).size, 2 * pageSize());
    });
  });

  it("reports what the system refuses", () => {
    assertEquals(codeOf(() => mapShared(-1, 4096)), "EBADF");
    assertEquals(codeOf(() => extend(-1, 0, 4096)), "EBADF");
    assertEquals(codeOf(() => punchHole(-1, 0, 4096)), "EBADF");
    assertEquals(codeOf(() => fileIdentity(-1)), "EBADF");
    assertEquals(codeOf(() => sealShrinkOrBadf(-1)), "EBADF");
    withShared((fd) => {
      assertEquals(codeOf(() => mapShared(fd, 0)), "EINVAL");
      // Refused before a page is taken: the end is beyond what an offset can say. Anything below that a memfd would
      // really try to hold, until the machine has no memory left.
      assertEquals(codeOf(() => extend(fd, 2 ** 62, 2 ** 62)), "EFBIG");
      assertEquals(codeOf(() => extend(fd, 0, 0)), "EINVAL");
    });
    if (named) {
      assertThrows(() => reopen(9999), TypeError, "path");
      assertThrows(() => openOf(processId(), 9999), TypeError, "path");
    } else {
      assertEquals(codeOf(() => reopen(9999)), "ENOENT");
      assertEquals(codeOf(() => openOf(processId(), 9999)), "ENOENT");
    }
  });

  it("is gone with its path", () => {
    const fd = createShared("größe / with spaces");
    const path = sharedPath(fd);
    if (path === null) {
      assertEquals(named, false);
      closeFd(fd);
      return;
    }
    const other = openOf(processId(), fd, path);
    assertEquals(sharedPath(other), path);
    assertEquals(fileIdentity(other), fileIdentity(fd));
    closeFd(other);
    assertEquals(sharedPath(other), null);
    assertEquals(removeShared(path), false, "removed while it was open");
    const again = reopen(fd);
    closeFd(fd);
    assertEquals(removeShared(path), false, "removed while it was open");
    closeFd(again);
    assertEquals(removeShared(path), true);
    assertEquals(removeShared(path), true);
    assertEquals(codeOf(() => openOf(processId(), fd, path)), "ENOENT");
    assertEquals(codeOf(() => openFile(path.slice(0, path.lastIndexOf("/")))), "ENOENT");
  });

  it("with a name has its size at once and its pages piece by piece", () => {
    const name = `/geventmp-sized-${processId()}`;
    const fd = openNamedMemory(name, { create: true });
    try {
      const size = 3 * pageSize() + 100;
      sizeNamedMemory(fd, 0, pageSize(), size);
      assertEquals(fileIdentity(fd).size, size);
      sizeNamedMemory(fd, pageSize(), size, size);
      assertEquals(fileIdentity(fd).size, size);
      const mapping = mapShared(fd, size);
      const bytes = new Uint8Array(mapping.buffer);
      assertEquals(bytes.every((byte) => byte === 0), true);
      assertEquals(codeOf(() => sizeNamedMemory(-1, 0, 1, 1)), "EBADF");
      unmapShared(mapping);
    } finally {
      closeFd(fd);
      unlinkNamedMemory(name);
    }
  });

  it("is shown in part by a buffer that goes alone", () => {
    withShared((fd) => {
      extend(fd, 0, pageSize());
      const mapping = mapShared(fd, pageSize());
      const whole = new Uint8Array(mapping.buffer);
      const part = showMemory(mapping.address + 64, 16);
      const view = new Uint8Array(part);
      view[15] = 9;
      assertEquals([part.byteLength, whole[79]], [16, 9]);
      part.transfer();
      assertEquals([view.length, view[15], whole[79]], [0, undefined, 9]);
      mapping.buffer.transfer();
      unmap(mapping.address, pageSize());
    });
  });

  it("may have a POSIX name", () => {
    const name = `/geventmp-test-${processId()}`;
    const fd = openNamedMemory(name, { create: true });
    try {
      assertEquals(isCloexec(fd), true);
      assertEquals(codeOf(() => openNamedMemory(name, { create: true })), "EEXIST");
      truncateFd(fd, 4096);
      const other = openNamedMemory(name);
      assertEquals(fileIdentity(other), fileIdentity(fd));
      closeFd(other);
    } finally {
      closeFd(fd);
      assertEquals(unlinkNamedMemory(name), true);
    }
    assertEquals(unlinkNamedMemory(name), false);
    assertEquals(codeOf(() => openNamedMemory(name)), "ENOENT");
  });
});

/** Sealing is nothing at all where there are no seals. */
function sealShrinkOrBadf(fd: number): void {
  sealShrink(fd);
  truncateFd(fd, 0);
}
