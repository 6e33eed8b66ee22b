import { afterAll, afterEach, beforeAll, beforeEach, describe, it } from "@std/testing/bdd";
import { assert, assertEquals, assertThrows } from "@std/assert";

const log: string[] = [];

describe("@std/testing/bdd", () => {
  describe("hooks", () => {
    beforeAll(() => {
      log.push("outer beforeAll");
    });
    beforeEach(async () => {
      await Promise.resolve();
      log.push("outer beforeEach");
    });
    afterEach(() => {
      log.push("outer afterEach");
    });
    afterAll(() => {
      log.push("outer afterAll");
    });

    it("runs a first test", () => {
      log.push("first");
    });

    describe("inner", () => {
      beforeAll(() => {
        log.push("inner beforeAll");
      });
      beforeEach(() => {
        log.push("inner beforeEach");
      });
      afterEach(() => {
        log.push("inner afterEach");
      });
      afterAll(() => {
        log.push("inner afterAll");
      });
      it("runs a second test", () => {
        log.push("second");
      });
      it({
        name: "runs a third test",
        fn: () => {
          log.push("third");
        },
      });
    });
  });

  it("ran every hook in order, and each suite's once", () => {
    assertEquals(log, [
      "outer beforeAll",
      "outer beforeEach",
      "first",
      "outer afterEach",
      "inner beforeAll",
      "outer beforeEach",
      "inner beforeEach",
      "second",
      "inner afterEach",
      "outer afterEach",
      "outer beforeEach",
      "inner beforeEach",
      "third",
      "inner afterEach",
      "outer afterEach",
      "inner afterAll",
      "outer afterAll",
    ]);
  });

  describe("a suite whose first test is left out", () => {
    let opened = 0;
    beforeAll(() => {
      opened++;
    });
    it.skip("left out, to see that the hook runs all the same", () => {});
    describe("inner", () => {
      it("sees the outer suite's beforeAll, run once", () => assertEquals(opened, 1));
    });
  });

  it(
    "takes options before the function",
    { sanitizeOps: true, sanitizeResources: true, timeout: 5000 },
    async () => {
      await new Promise<void>((resolve) => setTimeout(resolve, 1));
    },
  );

  it({ name: "takes options as an object, then the function", timeout: 5000 }, () => {
    assert(true);
  });

  it("refuses an async suite and a suite without a function", () => {
    assertThrows(() => describe("x", (() => Promise.resolve()) as unknown as () => void), TypeError, "async");
    assertThrows(() => describe({ name: "x" }), TypeError, "no function");
  });
});
