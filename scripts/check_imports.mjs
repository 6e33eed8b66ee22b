/** Checks what no compiler does: dependencies point one way, only some folders know the runtime, and nothing of a machine gets into the repository. */
import { readFileSync } from "node:fs";
import { posix } from "node:path";

const LAYERS = ["ffi", "platform", "multiprocessing", "patch"];
const layerOf = (file) => file === "mod.ts" ? 2.5 : LAYERS.indexOf(file.split("/")[0]);

/** Removes comments and the contents of strings and regular expressions, roughly; imports are found before. */
function code(text) {
  return text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/(^|[^:"'`\\])\/\/.*$/gm, "$1").replace(
    /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g,
    '""',
  );
}

/**
 * @param {string} file path relative to the root
 * @param {string} text its contents
 * @returns {string[]} what is wrong with it
 */
export function checkFile(file, text) {
  const wrong = [];
  const layer = layerOf(file);
  if (layer >= 0) {
    const bare = text.replace(/\/\*[\s\S]*?\*\//g, "");
    for (
      const [, specifier] of bare.matchAll(
        /^\s*(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|^\s*import\s+"([^"]+)"/gm,
      )
    ) {
      if (specifier === undefined) continue;
      if (/^(node|bun):/.test(specifier)) {
        wrong.push(
          `${file}: imports ${specifier} statically; take it with process.getBuiltinModule when it is needed`,
        );
      }
      if (!specifier.startsWith(".")) continue;
      const target = layerOf(posix.normalize(posix.join(posix.dirname(file), specifier)));
      if (target > layer) {
        wrong.push(`${file}: imports ${specifier}, against the arrow ${[...LAYERS].reverse().join(" -> ")}`);
      }
    }
    const stripped = code(text);
    if (layer >= 2 && layer < 3 && /\bDeno\.|\bBun\.|\bprocess\.platform\b/.test(stripped)) {
      wrong.push(`${file}: names the runtime or the platform, which only ffi/, platform/ and patch/ may`);
    }
    if (
      /^(?:const|let|var)?[^\n(]*\bawait\b/m.test(
        stripped.split("\n").filter((line) => /^\S/.test(line)).join("\n"),
      ) &&
      !/^(?:export )?(?:async|function|class)/m.test("")
    ) {
      for (const line of stripped.split("\n")) {
        if (/^(?:(?:export )?(?:const|let|var)[^=]*=\s*)?await\b/.test(line)) {
          wrong.push(`${file}: awaits at top level: ${line.trim()}`);
        }
      }
    }
  }
  if (/(?:^|[\s"'(=:])\/(?:root|home|work)\/[a-z]/.test(text) && file !== "scripts/check_imports.mjs") {
    wrong.push(`${file}: has an absolute path of a machine`);
  }
  if (/registry\.npmjs|deb\.debian|pypi\.org/.test(text) && file !== "scripts/check_imports.mjs") {
    wrong.push(`${file}: names a registry's host`);
  }
  if (/\b(?:TODO|FIXME|XXX)\b/.test(text) && file !== "scripts/check_imports.mjs") {
    wrong.push(`${file}: has an unfinished mark`);
  }
  return wrong;
}

if (import.meta.url === `file://${process.argv[1]}`) {
  const { execFileSync } = await import("node:child_process");
  const files = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { encoding: "utf8" }).split(
    "\n",
  ).filter((file) => /\.(ts|mjs|js|md|json)$/.test(file) && file !== "package-lock.json");
  const wrong = files.flatMap((file) => {
    try {
      return checkFile(file, readFileSync(file, "utf8"));
    } catch {
      return []; // deleted, not yet committed
    }
  });
  for (const line of wrong) console.error(line);
  console.log(`${files.length} files checked, ${wrong.length} wrong`);
  process.exit(wrong.length > 0 ? 1 : 0);
}
