/**
 * Has spin check the models in models/: each must hold in every state, and each broken variant must be caught, which
 * proves that the check can fail. Needs `spin` and a C compiler; without them it is an error where CI is set, else a skip.
 *
 *   node scripts/models.mjs          all, about a minute of one core
 *   node scripts/models.mjs lock     one model
 *   GEVENTMP_STRESS=1 …              also larger bounds, some minutes and up to 6 GiB
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const MODELS = fileURLToPath(new URL("../models/", import.meta.url));
const MEMORY_MIB = process.env.GEVENTMP_STRESS ? 6000 : 1500;
const longer = Boolean(process.env.GEVENTMP_STRESS);
const LIMIT_MS = process.env.GEVENTMP_STRESS ? 30 * 60_000 : 2 * 60_000;

/** Bounds that are searched through, and those in which a variant shows its fault. Names are the models' own switches. */
const ABORTED = "AGENTS=2 LOCAL=2 ROUNDS=2 ABORTS=1 RESERVING=1";
const CHECKS = {
  lock: {
    holds: ["MORE=1", ABORTED, `${ABORTED} SLOW=1`, "AGENTS=2 KILLS=1"],
    holdsLonger: ["MORE=1 ABORTS=1", "AGENTS=2 ROUNDS=2 KILLS=1 RESERVING=1"],
    broken: {
      TAKE: "AGENTS=2",
      LOOK: "AGENTS=2",
      RING: "MORE=1",
      FLAG: "MORE=1",
      OVERWRITE: ABORTED,
      RESERVE: ABORTED,
      DEAD: "AGENTS=2 KILLS=1",
    },
    brokenLonger: { PASS: "MORE=1 ABORTS=1" },
  },
  semaphore: {
    holds: ["PERMITS=2 MORE=1", ABORTED, `${ABORTED} PERMITS=2`, "AGENTS=2 KILLS=1"],
    holdsLonger: ["MORE=1 ABORTS=1", "AGENTS=2 ROUNDS=2 KILLS=1 RESERVING=1"],
    broken: { TAKE: "AGENTS=2", LOOK: "AGENTS=2", FLAG: "MORE=1", RESERVE: ABORTED },
    brokenLonger: { PASS: "MORE=1 ABORTS=1" },
  },
  condition: {
    holds: [
      "AGENTS=4 ITEMS=2",
      "AGENTS=4 ITEMS=2 NOTIFY=2",
      "AGENTS=4 ABORTS=1",
      "AGENTS=3 KILLS=1",
    ],
    holdsLonger: ["AGENTS=3 ITEMS=2 KILLS=2 ABORTS=1"],
    broken: {
      STAND: "AGENTS=3",
      LOOK: "AGENTS=3",
      WITHDRAW: "AGENTS=3 ABORTS=1",
      CLOSE: "AGENTS=3 KILLS=1",
      PASS: "AGENTS=3 KILLS=1",
      CHECK: "AGENTS=3 KILLS=1",
    },
  },
  event: {
    holds: ["AGENTS=3"],
    holdsLonger: ["AGENTS=4"],
    broken: { LOOK: "AGENTS=2", EPOCH: "AGENTS=2", STALE: "AGENTS=2" },
  },
};

function need(program, args) {
  if (spawnSync(program, args).error === undefined) return true;
  const ci = Boolean(process.env.CI);
  console.error(
    `${ci ? "Cannot check" : "SKIPPED:"} the models: there is no ${program}; install spin and gcc`,
  );
  if (ci) process.exitCode = 1;
  return false;
}

function mustRun(program, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(program, args, { cwd, encoding: "utf8" });
  if (error !== undefined || status !== 0) {
    throw new Error(`${program} ${args.join(" ")} failed:\n${error ?? stdout + stderr}`);
  }
}

/** Searches one model in given bounds. `fault` is spin's own word for the first one, null for none. */
function search(model, bounds) {
  const folder = mkdtempSync(join(tmpdir(), "gt-model-"));
  const defines = bounds.split(" ").map((bound) => `-D${bound}`);
  const started = performance.now();
  try {
    for (const file of readdirSync(MODELS)) copyFileSync(join(MODELS, file), join(folder, file));
    mustRun("spin", [...defines, "-a", `${model}.pml`], folder);
    mustRun("cc", [
      longer ? "-O2" : "-O0", // compiling takes longer than it saves, unless the search is long
      "-w",
      "-DSAFETY",
      "-DNOFAIR",
      "-DCOLLAPSE",
      `-DMEMLIM=${MEMORY_MIB}`,
      "-o",
      "pan",
      "pan.c",
    ], folder);
    const { stdout, stderr, error } = spawnSync("./pan", ["-m100000", "-n"], {
      cwd: folder,
      encoding: "utf8",
      timeout: LIMIT_MS,
    });
    if (error !== undefined) throw new Error(`the search ended early: ${error.message}`);
    const output = stdout + stderr;
    const errors = /errors: (\d+)/.exec(output);
    const fault = /^pan:\d+: (.*) \(at depth/m.exec(output)?.[1] ?? null;
    // Out of memory or depth is neither a fault nor a proof.
    if (errors === null || (errors[1] === "0") !== (fault === null)) throw new Error(output);
    if (fault === null && /Search not completed|max search depth too small/.test(output)) {
      throw new Error(`the search ended early:\n${output}`);
    }
    return {
      fault,
      states: Number(/([\d.e+]+) states, stored/.exec(output)[1]),
      seconds: ((performance.now() - started) / 1000).toFixed(1),
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function report(ok, what, { fault, states, seconds }) {
  console.log(
    `${ok ? "ok    " : "FAILED"} ${what}: ${fault ?? "no fault"}, ${
      states.toLocaleString("en")
    } states, ${seconds} s`,
  );
  if (!ok) process.exitCode = 1;
}

function checkModel(model, { holds, holdsLonger, broken, brokenLonger = {} }) {
  for (const bounds of longer ? [...holds, ...holdsLonger] : holds) {
    const found = search(model, bounds);
    report(found.fault === null, `${model} ${bounds}`, found);
  }
  for (const [variant, bounds] of Object.entries(longer ? { ...broken, ...brokenLonger } : broken)) {
    const found = search(model, `${bounds} BROKEN_${variant}`);
    report(found.fault !== null, `${model} ${bounds} BROKEN_${variant}, to be caught`, found);
  }
}

const only = process.argv[2];
if (only !== undefined && !(only in CHECKS)) {
  console.error(`Cannot check model "${only}": there are ${Object.keys(CHECKS).join(", ")}`);
  process.exitCode = 1;
} else if (need("spin", ["-V"]) && need("cc", ["--version"])) {
  for (const [model, checks] of Object.entries(CHECKS)) {
    if (only !== undefined && only !== model) continue;
    if (!existsSync(join(MODELS, `${model}.pml`))) throw new Error(`there is no models/${model}.pml`);
    checkModel(model, checks);
  }
}
