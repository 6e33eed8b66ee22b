import { describe, it } from "@std/testing/bdd";
import { assertEquals } from "@std/assert";

// By URL, because tsc knows no types of a script.
const script = new URL("../../scripts/source_code.mjs", import.meta.url).href;
const { codeOf } = await import(script) as { codeOf(text: string): string };

/** Without white space, which says nothing here. */
function packed(text: string): string {
  return codeOf(text).replace(/\s+/g, "");
}

describe("a source reduced to what runs", () => {
  it("loses comments and the contents of texts", () => {
    assertEquals(packed("a; // b\nc; /* d */ e;"), "a;c;e;");
    assertEquals(packed(`f("a // \\" b", 'c /* ');`), `f("","");`);
  });

  it("keeps what stands in a template's places, nested ones included", () => {
    assertEquals(packed("`a ${b} c`"), '""+(b)');
    assertEquals(packed("`${ { k: `in ${x} \\` ` } }` + y"), '""+({k:""+(x)})+y');
  });

  it("tells a regular expression from a division", () => {
    assertEquals(packed('x = /["`]/g; y'), 'x="";y');
    assertEquals(packed("f(/[/]'/)"), 'f("")');
    assertEquals(packed('a / b; "c" / d'), 'a/b;""/d');
  });

  it("keeps the lines where they are", () => {
    const text = "/*\n\n*/ a `\n${b}\n` // c\nd\n";
    assertEquals(codeOf(text).split("\n").length, text.split("\n").length);
  });
});
