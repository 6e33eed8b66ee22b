/** Runs one of our programs on both runtimes: `node scripts/run.mjs demo [arguments]`, `node scripts/run.mjs bench`. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { root, setup } from "./setup.mjs";

const [name, ...args] = process.argv.slice(2);
const program = join(root, "scripts", `${name}.ts`);
const only = process.env.GEVENTMP_RUNTIME;

function refuse(why) {
  console.error(`Cannot run ${name}: ${why}`);
  process.exit(1);
}

if (!existsSync(program)) refuse(`there is no scripts/${name}.ts`);
if (only && only !== "deno" && only !== "bun") refuse(`GEVENTMP_RUNTIME is "${only}", not deno or bun`);

const programs = setup();
let failed = false;
for (const runtime of ["deno", "bun"]) {
  if (only && only !== runtime) continue;
  const flags = runtime === "deno" ? ["run", "-A", "--no-prompt"] : [];
  console.log(`\n── ${name} on ${runtime} ──`);
  const { status } = spawnSync(programs[runtime], [...flags, program, ...args], { stdio: "inherit" });
  if (status !== 0) failed = true;
}
process.exit(failed ? 1 : 0);
