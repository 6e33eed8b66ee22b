// deno-lint-ignore-file explicit-module-boundary-types -- plain JavaScript: node runs it before anything is installed
/**
 * Checks what no compiler does: dependencies point one way, only some folders know the runtime, and nothing of a machine
 * gets into the repository. (An await at top level is for `deno lint` to find, see test.mjs.)
 */
import { builtinModules } from "node:module";
import { readFileSync, realpathSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { codeOf } from "./source_code.mjs";

const LAYERS = ["ffi", "platform", "multiprocessing", "patch"];
const ARROW = ["mod.ts", ...LAYERS.toReversed()].join(" -> ");
/**
 * mod.ts stands above all, as it exports what they offer; dist/ is the same in other files, for mod.ts and patch/mod.ts only. Not published: -1.
 */
const layerOf = (file) =>
  file === "mod.ts"
    ? LAYERS.length
    : file.startsWith("dist/")
    ? LAYERS.indexOf("patch")
    : LAYERS.indexOf(file.split("/")[0]);
const knowsRuntime = (file) => ["ffi", "platform", "patch"].includes(file.split("/")[0]);
const isBuiltin = (specifier) => /^(?:node|bun):/.test(specifier) || builtinModules.includes(specifier);

const STATIC_IMPORT =
  /^[ \t]*(?:import|export)\b[^;"']*?\bfrom\s*["']([^"']+)["']|^[ \t]*import\s*["']([^"']+)["']/gm;
const DYNAMIC_IMPORT = /\bimport\(\s*["']([^"']+)["']/g;

/** Imports in comments do not count. Texts stay, as they hold the specifiers. */
function importsOf(text) {
  const bare = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^[ \t]*\/\/.*$/gm, "");
  return [
    ...[...bare.matchAll(STATIC_IMPORT)].map((m) => ({ specifier: m[1] ?? m[2], isStatic: true })),
    ...[...bare.matchAll(DYNAMIC_IMPORT)].map((m) => ({ specifier: m[1], isStatic: false })),
  ];
}

function wrongImports(file, text) {
  const wrong = [];
  for (const { specifier, isStatic } of importsOf(text)) {
    if (isBuiltin(specifier)) {
      if (isStatic) {
        wrong.push(
          `${file}: imports ${specifier} statically; take it with process.getBuiltinModule when it is needed`,
        );
      }
    } else if (!specifier.startsWith(".")) {
      wrong.push(`${file}: imports ${specifier}, but what is published depends on nothing`);
    } else {
      const target = layerOf(posix.normalize(posix.join(posix.dirname(file), specifier)));
      if (target === -1) wrong.push(`${file}: imports ${specifier}, which is not published`);
      if (target > layerOf(file)) wrong.push(`${file}: imports ${specifier}, against the arrow ${ARROW}`);
    }
  }
  return wrong;
}

/** The checks' own patterns would find themselves. */
const CHECKS = "scripts/check_imports.mjs";

/**
 * @param {string} file path relative to the root
 * @param {string} text its contents
 * @returns {string[]} what is wrong with it
 */
export function checkFile(file, text) {
  const wrong = [];
  if (layerOf(file) >= 0 && file.endsWith(".ts")) {
    wrong.push(...wrongImports(file, text));
    // The name of a property, or a key of a type, is not the global itself.
    if (
      !knowsRuntime(file) &&
      /(?<![.\w$])(?:globalThis\??\.)?(?:Deno|Bun)\b(?!\??:)|\bprocess\??\.platform\b/.test(codeOf(text))
    ) {
      wrong.push(`${file}: names the runtime or the platform, which only ffi/, platform/ and patch/ may`);
    }
  }
  if (file === CHECKS) return wrong;
  if (/(?:^|[\s"'`(=:])\/(?:root|home|work)\/[a-z]/im.test(text)) {
    wrong.push(`${file}: has an absolute path of a machine`);
  }
  if (/registry\.npmjs|deb\.debian|pypi\.org/.test(text)) wrong.push(`${file}: names a registry's host`);
  if (/\b(?:TODO|FIXME|XXX)\b/.test(text)) wrong.push(`${file}: has an unfinished mark`);
  return wrong;
}

/** Every text file that is, or would be, in the repository. */
async function repositoryFiles() {
  const { execFileSync } = await import("node:child_process");
  const names = execFileSync("git", ["ls-files", "-co", "--exclude-standard"], { encoding: "utf8" });
  return names.split("\n").filter((file) =>
    /\.(?:ts|mjs|js|md|json|py|sh)$|^\.ci\/|^\.gitignore$/.test(file)
  );
}

// Through realpath, as a link on the way to the folder changes only one of the two.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const files = await repositoryFiles();
  const wrong = files.flatMap((file) => {
    let text;
    try {
      text = readFileSync(file, "utf8");
    } catch {
      return []; // deleted, not yet committed
    }
    return checkFile(file, text);
  });
  for (const line of wrong) console.error(line);
  console.log(`${files.length} files checked, ${wrong.length} wrong`);
  // A listing that came out empty must not pass for a clean tree.
  process.exit(wrong.length > 0 || files.length === 0 ? 1 : 0);
}
