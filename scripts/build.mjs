/**
 * Writes `dist/`: the module in a few files, as mod.ts and patch/mod.ts load it. A program then opens 4 files instead of 60 when it starts, which
 * saves it two thirds of what importing costs on Deno, and comments and local names are not parsed by every process.
 *
 *   npm run build               writes it
 *   node scripts/build.mjs --check   says whether what is there is what the sources give
 *
 * Names that stand in stacks and errors (classes, methods, exports) stay as they are.
 */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root, setup } from "./setup.mjs";

/** What each file of dist/ that others load exports. Chunks that they share are in none of them. */
const ENTRIES = {
  mod: ["multiprocessing/mod.ts", "patch/api.ts"],
  bootstrap: ["multiprocessing/bootstrap.ts"],
};
/** By itself: who only patches must not load the core. State that two copies share lies under `Symbol.for` keys. */
const ALONE = { patch: ["patch/api.ts"] };
const HEADER = "// Generated from the sources by scripts/build.mjs. Do not edit.\n";
const dist = join(root, "dist");

const exportAll = (sources, from) => sources.map((source) => `export * from "${from}/${source}";\n`).join("");

/** One character beyond ASCII makes both engines read and keep the whole file in twice the memory. */
const inAscii = (text) =>
  text.replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** Modules that are not there as files: each exports all of its sources. */
function entryPlugin(entries) {
  return {
    name: "entries",
    setup({ onResolve, onLoad }) {
      onResolve(
        { filter: /^entry:/ },
        ({ path }) => ({ path: path.slice("entry:".length), namespace: "entry" }),
      );
      onLoad({ filter: /./, namespace: "entry" }, ({ path }) => ({
        contents: exportAll(entries[path], "."),
        resolveDir: root,
      }));
    },
  };
}

/** @returns {Promise<Map<string, string>>} what belongs into dist/ */
async function bundle() {
  const { bun } = setup();
  const { build } = await import("esbuild");
  const folder = mkdtempSync(join(tmpdir(), "geventmp-build-"));
  try {
    for (const entries of [ENTRIES, ALONE]) {
      await build({
        absWorkingDir: root,
        entryPoints: Object.keys(entries).map((name) => ({ in: `entry:${name}`, out: name })),
        plugins: [entryPlugin(entries)],
        outdir: folder,
        bundle: true,
        splitting: true,
        format: "esm",
        target: "esnext",
        platform: "neutral",
        // Bun would take a helper for it from a module of its own.
        supported: { using: false },
        minifySyntax: true,
        minifyWhitespace: true,
        legalComments: "none",
        logLevel: "warning",
      });
    }
    const files = new Map();
    for (const name of readdirSync(folder)) {
      // Bun shortens local names and can keep all others; esbuild cannot tell them apart.
      const { stdout, stderr, status } = spawnSync(
        bun,
        ["build", "--no-bundle", "--minify", "--keep-names", "--target=browser", join(folder, name)],
        { encoding: "utf8" },
      );
      if (status !== 0) throw new Error(`Cannot shorten ${name}: ${stderr}`);
      const foreign = /\bfrom\s*"((?:bun|node):[^"]+)"/.exec(stdout);
      if (foreign !== null) throw new Error(`Cannot build ${name}: it would import ${foreign[1]}`);
      files.set(name, HEADER + inAscii(stdout.trimEnd()) + "\n");
    }
    for (const [name, sources] of Object.entries({ ...ENTRIES, ...ALONE })) {
      files.set(`${name}.d.ts`, HEADER + exportAll(sources, ".."));
    }
    return files;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function present() {
  return new Map(
    existsSync(dist) ? readdirSync(dist).map((name) => [name, readFileSync(join(dist, name), "utf8")]) : [],
  );
}

const wanted = await bundle();
if (process.argv[2] === "--check") {
  const found = present();
  const stale = [...new Set([...wanted.keys(), ...found.keys()])].filter((name) =>
    wanted.get(name) !== found.get(name)
  );
  if (stale.length > 0) {
    console.error(
      `dist/ is not what the sources give (${stale.join(", ")}): run "npm run build" and commit it`,
    );
    process.exit(1);
  }
} else {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  for (const [name, text] of wanted) writeFileSync(join(dist, name), text);
  const bytes = [...wanted.values()].reduce((sum, text) => sum + text.length, 0);
  console.log(`dist/: ${wanted.size} files, ${Math.round(bytes / 1024)} KiB`);
}
