import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { childMain } from "../../../platform/runtime/command_line.ts";
import { parseDenoCommandLine } from "../../../platform/runtime/deno_flags.ts";
import {
  denoPermissionFlags,
  expandPermissionSet,
  permissionKinds,
  type PermissionRequest,
} from "../../../platform/runtime/permissions.ts";
import type { PermissionCase } from "./fixtures/permission_parent.ts";
import { denoPath, output } from "./runtimes.ts";

const parent = fileURLToPath(new URL("./fixtures/permission_parent.ts", import.meta.url));
const { main } = childMain(new URL("./fixtures/permission_report.ts", import.meta.url).href, null);
const kinds: PermissionRequest[] = permissionKinds.map((name) => ({ name }));

interface Outcome {
  flags: string[];
  parent: string[];
  child: string[];
}

/** Runs a real parent, then a real child with the flags that the parent computed. */
function outcome(
  flags: string[],
  requests: PermissionRequest[],
  more: Partial<PermissionCase> = {},
): Outcome {
  const test: PermissionCase = {
    flags,
    folder: process.cwd(),
    searchPath: process.env.PATH ?? "",
    config: null,
    revoke: [],
    requests,
    worker: null,
    ...more,
  };
  const workers = test.worker === null ? [] : ["--unstable-worker-options"];
  const start = ["run", "--no-prompt", "--no-lock", ...workers, ...flags, parent, JSON.stringify(test)];
  const told = JSON.parse(output(denoPath, start)) as { flags: string[]; answers: string[] };
  const child = output(denoPath, ["run", "--no-lock", ...told.flags, main, JSON.stringify(requests)]);
  return { flags: told.flags, parent: told.answers, child: JSON.parse(child) as string[] };
}

/** The child may do exactly what the parent may. */
function assertEqualChild(
  flags: string[],
  requests: PermissionRequest[],
  more: Partial<PermissionCase> = {},
): Outcome {
  const all = [...kinds, ...requests];
  const result = outcome(flags, all, more);
  assertEquals(
    all.map((request, index) => [request, result.child[index]]),
    all.map((request, index) => [request, result.parent[index]]),
    result.flags.join(" "),
  );
  return result;
}

/** Two items of each kind that take lists. */
const items: Record<string, { key: keyof PermissionRequest; a: string; b: string; c: string }> = {
  read: { key: "path", a: "/tmp/gmp-a", b: "/tmp/gmp-b", c: "/tmp/gmp-c" },
  write: { key: "path", a: "/tmp/gmp-a", b: "/tmp/gmp-b", c: "/tmp/gmp-c" },
  net: { key: "host", a: "a.example:80", b: "b.example", c: "c.example" },
  env: { key: "variable", a: "GMP_A", b: "GMP_B", c: "GMP_C" },
  run: { key: "command", a: "sh", b: "/bin/cat", c: "/bin/true" },
  sys: { key: "kind", a: "hostname", b: "cpus", c: "osRelease" },
  ffi: { key: "path", a: "/tmp/gmp-a.so", b: "/tmp/gmp-b.so", c: "/tmp/gmp-c.so" },
  import: { key: "host", a: "a.example:80", b: "b.example", c: "jsr.io:443" },
};

describe("permissions of a child on Deno", () => {
  for (const name of permissionKinds) {
    const { key, a, b, c } = items[name];
    const requests = [a, b, c].map((item): PermissionRequest => ({ name, [key]: item }));

    it(`${name}: granted as a whole`, () => {
      assertEqualChild([`--allow-${name}`], requests);
    });
    it(`${name}: granted by item`, () => {
      const { child } = assertEqualChild([`--allow-${name}=${a},${b}`], requests);
      assertEquals(child.slice(-3), ["yes", "yes", "no"]);
    });
    it(`${name}: granted but for an item`, () => {
      const { child } = assertEqualChild([`--allow-${name}`, `--deny-${name}=${b}`], requests);
      assertEquals(child[permissionKinds.indexOf(name)], "part");
      assertEquals(child.slice(-3), ["yes", "no", "yes"]);
    });
    it(`${name}: denied`, () => {
      assertEqualChild([`--deny-${name}`], requests);
    });
    it(`${name}: nothing said`, () => {
      assertEqualChild([], requests);
    });
    it(`${name}: given up as a whole`, () => {
      assertEqualChild([`--allow-${name}`], requests, { revoke: [{ name }] });
    });
    it(`${name}: an item given up`, () => {
      const { child } = assertEqualChild([`--allow-${name}=${a},${b}`], requests, { revoke: [requests[1]] });
      assertEquals(child.slice(-3), ["yes", "no", "no"]);
    });
    it(`${name}: every item given up`, () => {
      const { child } = assertEqualChild([`--allow-${name}=${a},${b}`], requests, { revoke: [{ name }] });
      assertEquals(child.slice(-3), ["no", "no", "no"]);
    });
  }

  it("all, all but one kind, all but an item", () => {
    assertEquals(assertEqualChild(["-A"], []).flags, ["--allow-all", "--no-prompt"]);
    assertEqualChild(["-A"], [], { revoke: [{ name: "net" }] });
    assertEqualChild(["-A", "--deny-env=GMP_A", "--deny-run"], [{ name: "env", variable: "GMP_A" }]);
  });

  it("relative paths mean the parent's folder", () => {
    const folder = mkdtempSync(join(tmpdir(), "geventmp-test-"));
    try {
      const requests: PermissionRequest[] = [{ name: "read", path: `${folder}/a` }, {
        name: "read",
        path: `${folder}/b`,
      }];
      const test: PermissionCase = {
        flags: ["--allow-read=a,./c/../b"],
        folder,
        searchPath: "",
        config: null,
        revoke: [],
        requests,
        worker: null,
      };
      const start = ["run", "--no-prompt", "--no-lock", ...test.flags, parent, JSON.stringify(test)];
      const told = JSON.parse(output(denoPath, start, { cwd: folder })) as {
        flags: string[];
        answers: string[];
      };
      assertEquals(told.answers, ["yes", "yes"]);
      const child = output(denoPath, ["run", ...told.flags, main, JSON.stringify(requests)], { cwd: "/" });
      assertEquals(JSON.parse(child), ["yes", "yes"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("a program's bare name means the program that the parent's PATH found", () => {
    const folder = mkdtempSync(join(tmpdir(), "geventmp-test-"));
    try {
      symlinkSync("/bin/true", join(folder, "sh"));
      const { flags } = outcome(["--allow-run=sh"], []);
      const requests: PermissionRequest[] = [{ name: "run", command: join(folder, "sh") }];
      const env = { PATH: `${folder}:${process.env.PATH}` };
      const child = output(denoPath, ["run", ...flags, main, JSON.stringify(requests)], { env });
      assertEquals(JSON.parse(child), ["no"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("environment patterns, ignored variables and files", () => {
    assertEqualChild(["--allow-env=GMP_*,HOME", "--ignore-env=GMP_B"], [
      { name: "env", variable: "GMP_A" },
      { name: "env", variable: "GMP_B" },
      { name: "env", variable: "PATH" },
    ]);
    assertEqualChild(["--allow-env=GMP_*,HOME"], [{ name: "env", variable: "GMP_A" }, {
      name: "env",
      variable: "HOME",
    }], {
      revoke: [{ name: "env", variable: "GMP_A" }],
    });
    assertEqualChild(["--allow-read", "--ignore-read=/etc"], [{ name: "read", path: "/etc/passwd" }]);
    assertEqualChild(["--ignore-read"], [{ name: "read", path: "/etc/passwd" }]);
  });

  it("hosts by range, by wildcard, by port and by socket", () => {
    const flags = [
      "--allow-net=10.0.0.0/8,*.wild.example,:8080,[::1]:80,unix:/tmp/gmp-s",
      "--deny-net=10.0.0.9",
    ];
    const requests: PermissionRequest[] = [
      "10.1.2.3",
      "10.0.0.9",
      "11.0.0.1",
      "x.wild.example",
      "wild.other",
      "localhost:8080",
      "localhost:81",
      "[::1]:80",
      "unix:/tmp/gmp-s",
    ].map((host) => ({ name: "net", host }));
    assertEqualChild(flags, requests);
    assertEqualChild(flags, requests, {
      revoke: [{ name: "net", host: "10.4.4.4" }, { name: "net", host: "y.wild.example" }],
    });
    assertEqualChild(flags, requests, { revoke: [{ name: "net" }] });
  });

  it("hosts of imports that were given up are not given back by default", () => {
    const requests: PermissionRequest[] = [{ name: "import", host: "jsr.io:443" }, {
      name: "import",
      host: "esm.sh:443",
    }];
    const { child } = assertEqualChild([], requests, { revoke: [{ name: "import", host: "jsr.io:443" }] });
    assertEquals(child.slice(-2), ["no", "yes"]);
    assertEqualChild(["--deny-import=jsr.io:443"], requests);
    assertEqualChild(["-A"], requests, { revoke: [{ name: "import" }] });
  });

  it("a permission set of the configuration file", () => {
    const folder = mkdtempSync(join(tmpdir(), "geventmp-test-"));
    try {
      const path = join(folder, "deno.json");
      const text = `{ // sets
        "permissions": {
          "default": { "read": ["./in", "/tmp/gmp-//x"], "ffi": true, },
          "mixed": { "read": { "allow": true, "deny": ["./in"] }, "env": ["HOME"], "net": false },
          "wide": { "all": true } /* the end */
        }
      }`;
      output("/bin/sh", ["-c", `cat > "$1"`, "sh", path], { input: text });
      const config = { path, text };
      const requests: PermissionRequest[] = [
        { name: "read", path: `${folder}/in` },
        { name: "read", path: "/tmp/gmp-/x" },
        { name: "read", path: "/etc" },
        { name: "env", variable: "HOME" },
      ];
      assertEqualChild([`--config=${path}`, "-P"], requests, { config });
      assertEqualChild([`--config=${path}`, "-P=mixed"], requests, { config });
      assertEqualChild([`--config=${path}`, "-P=mixed", "--deny-env"], requests, { config });
      assertEquals(
        assertEqualChild([`--config=${path}`, "-P=wide"], requests, { config }).flags[0],
        "--allow-all",
      );
      // Not readable: what is granted without exception, and nothing else.
      const blind = outcome([`--config=${path}`, "-P"], [...requests, { name: "ffi" }]);
      assertEquals(blind.child, ["no", "no", "no", "no", "yes"]);
      assertEquals(outcome([`--config=${path}`, "-P=mixed"], requests).child, ["no", "no", "no", "no"]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("a Worker's narrower set", () => {
    const file: PermissionRequest = { name: "read", path: "/tmp/gmp-a" };
    assertEqualChild(["-A"], [file], { worker: { read: true, ffi: true } });
    assertEqualChild(["-A"], [file], {
      worker: Object.fromEntries(permissionKinds.map((kind) => [kind, true])),
    });
    const lists = ["--allow-read", "--allow-env=GMP_A,GMP_B", "--allow-net=10.0.0.0/8,a.example,b.example"];
    const requests: PermissionRequest[] = [
      { name: "env", variable: "GMP_A" },
      { name: "env", variable: "GMP_B" },
      { name: "net", host: "a.example" },
      { name: "net", host: "b.example" },
    ];
    assertEqualChild(lists, requests, { worker: { read: true, env: ["GMP_B"], net: ["a.example"] } });
  });

  it("a Worker's items that the command line does not name are not handed on", () => {
    const requests: PermissionRequest[] = [{ name: "read", path: "/tmp/gmp-a" }, {
      name: "net",
      host: "10.0.0.1",
    }];
    const { parent, child } = outcome(["--allow-read", "--allow-net=10.0.0.0/8"], requests, {
      worker: {
        read: [fileURLToPath(new URL("../../../", import.meta.url)), "/tmp/gmp-a"],
        net: ["10.0.0.1"],
      },
    });
    assertEquals(parent, ["yes", "yes"]);
    assertEquals(child, ["no", "no"]);
  });

  it("never prompts, and nothing granted at a prompt is on the command line", () => {
    const { grants } = parseDenoCommandLine(["deno", "run", "--allow-read=/a", "m.ts"], "/");
    const context = { folder: "/", worker: false, searchPath: "" };
    assertEquals(denoPermissionFlags(() => ({ state: "granted" }), grants, context), [
      "--allow-read=/a",
      "--no-prompt",
    ]);
    assertEquals(
      denoPermissionFlags(
        ({ name }) => ({ state: name === "import" ? "granted" : "prompt" }),
        grants,
        context,
      ),
      [
        "--no-prompt",
      ],
    );
  });

  it("a refusal that a flag cannot express refuses the kind", () => {
    const { grants } = parseDenoCommandLine(["deno", "run", "-P", "m.ts"], "/");
    const text = `{"permissions":{"default":{"read":{"allow":true,"deny":["/a,b"]}}}}`;
    const expanded = expandPermissionSet(grants, "run", { path: "/deno.json", text });
    const flags = denoPermissionFlags(() => ({ state: "granted" }), expanded, {
      folder: "/",
      worker: false,
      searchPath: "",
    });
    assertEquals(flags, ["--deny-read", "--no-prompt"]);
  });
});
