/** Whatever a program can see of a call is the same with and without the patch. */
import { assert, assertEquals, assertGreater, assertStringIncludes } from "@std/assert";
import { describe } from "@std/testing/bdd";
import { thisRuntime, timed } from "../multiprocessing/support.ts";
import { said } from "./support.ts";

interface Told {
  patched: boolean;
  session: string | null;
  results: Record<string, unknown>;
  functions: Record<string, unknown>;
  properties: unknown[];
}

/** Where Bun itself says that an error was made: see sync_call.ts. */
const PLACES = new Set(["line", "column", "originalLine", "originalColumn", "sourceURL"]);

function withoutPlaces(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).filter(([key]) => !PLACES.has(key));
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutPlaces(inner)]));
}

async function tell(how: string): Promise<Told> {
  const { lines, errors, ended } = await said(thisRuntime, "patch_calls.ts", { args: [how] });
  assertEquals(ended, 0, errors);
  const told = JSON.parse(lines[0]) as Told;
  return thisRuntime === "bun" ? withoutPlaces(told) as Told : told;
}

describe("with and without the patch", () => {
  timed(
    "results, errors, stacks, functions and properties are the same, and no session is made",
    60_000,
    async () => {
      const [patched, plain] = [await tell("patch"), await tell("plain")];
      assertEquals([patched.patched, plain.patched], [true, false]);
      assertEquals(patched.session, null);
      const names = Object.keys(plain.results);
      assertGreater(names.length, 20);
      for (const name of names) assertEquals(patched.results[name], plain.results[name], name);
      assertEquals(patched.functions, plain.functions);
      assertEquals(patched.properties, plain.properties);
      // That the calls did what they were meant to.
      const text = JSON.stringify(plain.results);
      for (const part of ["out\\\\n", "err\\\\n", "SIGKILL", "SIGTERM", "ENOENT", "patch_calls.ts:"]) {
        assertStringIncludes(text, part.replaceAll("\\\\n", "\\n"));
      }
      assert(!JSON.stringify(patched.results).includes("serveSessionDuringCall"));
    },
  );
});
