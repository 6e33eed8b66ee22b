import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { check, cString, errno, errnoName, errnoText, open, SystemError } from "../../ffi/mod.ts";
import { errnos, libraries } from "../../platform/posix/system.ts";

const libc = open(libraries, {
  // int close(int fildes);
  close: { parameters: ["i32"], result: "i32" },
  // int close(int fildes);
  closeHot: { name: "close", parameters: ["i32"], result: "i32", hot: true },
  // int rmdir(const char *path);
  rmdir: { parameters: ["buffer"], result: "i32" },
  // ssize_t read(int fildes, void *buf, size_t nbyte);
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", hot: true },
});

describe("ffi: errno", () => {
  it("is right after the first call of a function, and after each later one", () => {
    const fresh = open(libraries, { unlink: { parameters: ["buffer"], result: "i32" } });
    assertEquals(fresh.unlink(cString("/geventmp/is/not/here")), -1);
    assertEquals(errno(), errnos.ENOENT);
    for (let i = 0; i < 20_000; i++) {
      assertEquals(libc.closeHot(-1), -1);
      assertEquals(errno(), errnos.EBADF);
      if (i % 100 === 0) {
        libc.rmdir(cString("/geventmp/is/not/here"));
        assertEquals(errno(), errnos.ENOENT);
      }
    }
    assertEquals(libc.read(-1, new Uint8Array(1), 1), -1);
    assertEquals(errno(), errnos.EBADF);
  });

  it("makes a SystemError that says everything", () => {
    const error = assertThrows(() => check("close", libc.close(-1), "descriptor -1"));
    assertInstanceOf(error, SystemError);
    assertInstanceOf(error, Error);
    assertEquals(error.name, "SystemError");
    assertEquals(error.code, "EBADF");
    assertEquals(error.errno, errnos.EBADF);
    assertEquals(error.syscall, "close");
    assertEquals(error.message, `Cannot close descriptor -1: EBADF (${errnoText(errnos.EBADF)})`);
  });

  it("passes a good result through", () => {
    assertEquals(check("read", 7), 7);
    assertEquals(check("read", 0), 0);
  });

  it("names numbers", () => {
    assertEquals(errnoName(errnos.EAGAIN), "EAGAIN");
    assertEquals(errnoName(99999), "E99999");
    assertStringIncludes(errnoText(errnos.ENOENT), "No such file");
    assert(new SystemError("read", 99999).message.includes("E99999"));
  });
});
