/** Who blocked the event loop is told, with the place in the caller's source. */
import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertMatch,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { type LoopBlocked, onLoopBlocked, patchAll } from "../../mod.ts";
import { thisRuntime, timed } from "../multiprocessing/support.ts";
import { ownCalls } from "../fixtures/patch_blocking.ts";
import { said } from "./support.ts";

patchAll();
const [name, run] = Object.entries(ownCalls)[0];

describe("onLoopBlocked", () => {
  it("tells which call it was, for how long, and where it was made", () => {
    const told: LoopBlocked[] = [];
    {
      using _watch = onLoopBlocked((blocked) => told.push(blocked), { threshold: 20 });
      run("true", []);
      run("sleep", ["0.1"]);
    }
    run("sleep", ["0.03"]);
    const long = told.filter(({ duration }) => duration >= 95);
    assertEquals(long.length, 1);
    const [{ what, stack, duration }] = long;
    assertStringIncludes(what, name);
    assertGreaterOrEqual(duration, 95);
    assertMatch(stack, /^ +at .*\bpatch_blocking\.ts:\d+/);
    assertMatch(stack, /\bloop_blocked_test\.ts:\d+/);
    assert(!stack.includes("sync_call.ts"), stack);
  });

  it("ends when it is disposed", () => {
    const told: LoopBlocked[] = [];
    onLoopBlocked((blocked) => told.push(blocked), { threshold: 0 })[Symbol.dispose]();
    run("true", []);
    assertEquals(told, []);
  });

  it("tells nothing below 100 ms by default", () => {
    const told: LoopBlocked[] = [];
    using _watch = onLoopBlocked((blocked) => told.push(blocked));
    run("sleep", ["0.15"]);
    assertEquals(told.length, 1);
    assertGreaterOrEqual(told[0].duration, 100);
  });

  it("refuses what is no callback and no threshold", () => {
    assertThrows(() => onLoopBlocked(null as never), TypeError, "pass a function");
    assertThrows(() => onLoopBlocked(() => {}, { threshold: NaN }), RangeError, "threshold");
    assertThrows(() => onLoopBlocked(() => {}, { threshold: -1 }), RangeError, "-1");
  });
});

describe("GEVENTMP_WARN_BLOCKING", () => {
  timed(
    "warns on stderr; what a watcher throws does not reach the caller, but the program",
    20_000,
    async () => {
      const { lines, errors, ended } = await said(thisRuntime, "patch_watched.ts", {
        env: { GEVENTMP_WARN_BLOCKING: "50" },
      });
      assertMatch(errors, /^geventmp: [\w.:]+ blocked the event loop for \d+ ms\n +at .*/);
      assertMatch(errors, /\bpatch_watched\.ts:\d+/);
      assertEquals(lines, ["returned"]);
      assertStringIncludes(errors, "thrown by a watcher");
      assertEquals(ended, 1);
    },
  );

  timed("says what is wrong with it", 20_000, async () => {
    const { errors } = await said(thisRuntime, "patch_by_hand.ts", {
      args: ["twice"],
      env: { GEVENTMP_WARN_BLOCKING: "soon" },
    });
    assertEquals(
      errors,
      'geventmp: GEVENTMP_WARN_BLOCKING must be a number of milliseconds, and it is "soon"\n',
    );
  });
});
