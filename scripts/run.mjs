/** Runs one of our programs on both runtimes: `node scripts/run.mjs demo [arguments]`, `node scripts/run.mjs bench`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root, setup } from "./setup.mjs";

const [name, ...args] = process.argv.slice(2);
const programs = setup();
const only = process.env.GEVENTMP_RUNTIME;
let failed = false;
for (const runtime of ["deno", "bun"]) {
  if (only && only !== runtime) continue;
  const flags = runtime === "deno" ? ["run", "-A", "--no-prompt"] : [];
  console.log(`\n── ${name} on ${runtime} ──`);
  const { status } = spawnSync(programs[runtime], [...flags, join(root, "scripts", `${name}.ts`), ...args], {
    stdio: "inherit",
  });
  if (status !== 0) failed = true;
}
process.exit(failed ? 1 : 0);
