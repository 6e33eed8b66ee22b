import { assertEquals } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import { parseBunCommandLine } from "../../../platform/runtime/bun_flags.ts";
import { discoverDenoConfig, parseDenoCommandLine } from "../../../platform/runtime/deno_flags.ts";

const deno = (line: string) => parseDenoCommandLine(["deno", ...line.split(" ").filter(Boolean)], "/srv/dir");
const bun = (line: string, execArgv: string[] = []) =>
  parseBunCommandLine(["bun", ...line.split(" ").filter(Boolean)], execArgv, "/srv/dir");

describe("Deno's command line", () => {
  it("is split into subcommand, flags, script and arguments", () => {
    const line = deno(
      "run -A --seed 3 --v8-flags=--expose-gc,--stack-size=900 --unstable-kv main.ts -A --seed 4 -- x",
    );
    assertEquals(line.subcommand, "run");
    assertEquals(line.flags, ["--seed=3", "--v8-flags=--expose-gc,--stack-size=900", "--unstable-kv"]);
    assertEquals(line.grants.all, true);
    assertEquals(line.script, "main.ts");
    assertEquals(line.args, ["-A", "--seed", "4", "--", "x"]);
  });

  it("may lack the subcommand, or have flags before it", () => {
    assertEquals(deno("main.ts a").subcommand, "run");
    assertEquals(deno("-A main.ts a").script, "main.ts");
    assertEquals(deno("-q -L debug run main.ts").flags, ["--quiet", "--log-level=debug"]);
    assertEquals(deno("-q -L debug run main.ts").script, "main.ts");
    assertEquals(deno("").subcommand, "repl");
    assertEquals(deno("run - a b").script, "-");
    assertEquals(deno("run - a b").args, ["a", "b"]);
  });

  it("knows clusters of letters and attached values", () => {
    assertEquals(deno("run -RW main.ts").grants.allow, { read: true, write: true });
    assertEquals(deno("run -NE=HOME main.ts").grants.allow, { net: true, env: ["HOME"] });
    assertEquals(deno("run -R/tmp main.ts").grants.allow, { read: ["/tmp"] });
    assertEquals(deno("run -R=/a,/b -S=cpus -I=a.com main.ts").grants.allow, {
      read: ["/a", "/b"],
      sys: ["cpus"],
      import: ["a.com"],
    });
    assertEquals(deno("run -qAc x.json main.ts").flags, ["--quiet", "--config=/srv/dir/x.json"]);
    assertEquals(deno("run -Acx.json main.ts").flags, ["--config=/srv/dir/x.json"]);
  });

  it("lets a list win over a bare permission, as Deno does, in either order", () => {
    assertEquals(deno("run --allow-read --allow-read=/a m.ts").grants.allow, { read: ["/a"] });
    assertEquals(deno("run --allow-read=/a --allow-read m.ts").grants.allow, { read: ["/a"] });
    assertEquals(deno("run --allow-read=/a --allow-read=/b m.ts").grants.allow, { read: ["/a", "/b"] });
  });

  it("keeps denials, ignored names and permission sets", () => {
    const { grants } = deno("run -P=mine --deny-net --deny-read=x --ignore-env=A,B m.ts");
    assertEquals(grants.set, "mine");
    assertEquals(grants.deny, { net: true, read: ["x"] });
    assertEquals(grants.ignore, { env: ["A", "B"] });
    assertEquals(deno("run -P m.ts").grants.set, "");
  });

  it("makes relative paths absolute, and leaves specifiers alone", () => {
    assertEquals(
      deno(
        "run --preload a.ts --preload=npm:x --require ../b.cjs --import-map=https://h/m.json --cert ./c.pem m.ts",
      ).flags,
      [
        "--preload=/srv/dir/a.ts",
        "--preload=npm:x",
        "--require=/srv/b.cjs",
        "--import-map=https://h/m.json",
        "--cert=/srv/dir/c.pem",
      ],
    );
    assertEquals(deno("test --coverage --lock x_test.ts").flags, [
      "--coverage=/srv/dir/coverage",
      "--lock=/srv/dir/x_test.ts",
    ]);
    assertEquals(deno("run --lock --frozen m.ts").flags, ["--lock=/srv/dir/deno.lock", "--frozen"]);
  });

  it("drops what would make a child a second tool of the same kind", () => {
    const line = deno(
      "test -A --watch --inspect-brk=127.0.0.1:1 --parallel --filter a --reporter dot --reload --check --no-check " +
        "--env-file=.env --ext ts --shuffle=3 --junit-path o.xml --conditions dev --node-modules-dir=manual tests/",
    );
    assertEquals(line.flags, ["--conditions=dev", "--node-modules-dir=manual"]);
    assertEquals(line.subcommand, "test");
    assertEquals(line.script, null);
    assertEquals(deno("serve --port 80 --host 0.0.0.0 -A s.ts").script, "s.ts");
  });

  it("grants everything to eval, and tells nothing of a compiled executable", () => {
    assertEquals(deno("eval console.log(1)").grants.all, true);
    const compiled = parseDenoCommandLine(["./app", "-A", "--seed=1"], "/", true);
    assertEquals(compiled.subcommand, "compiled");
    assertEquals(compiled.flags, []);
    assertEquals(compiled.grants.all, false);
    assertEquals(compiled.args, ["-A", "--seed=1"]);
  });
});

describe("Deno's configuration", () => {
  const find = (line: string, files: Record<string, string>) =>
    discoverDenoConfig(deno(line), "/srv/dir", (path) => files[path] ?? null);

  it("is looked for from the script's folder upwards, deno.json first", () => {
    const files = { "/a/deno.json": "{}", "/a/deno.jsonc": "{}", "/srv/dir/deno.jsonc": "{}" };
    assertEquals(find("run /a/b/c/m.ts", files).flags, ["--config=/a/deno.json"]);
    assertEquals(find("run file:///a/b%20c/m.ts", files).flags, ["--config=/a/deno.json"]);
    assertEquals(find("run x/m.ts", files).flags, ["--config=/srv/dir/deno.jsonc"]);
  });

  it("is looked for from the working directory by other subcommands and npm:", () => {
    const files = { "/a/deno.json": "{}", "/srv/deno.json": "{}" };
    for (
      const line of ["test /a/x_test.ts", "serve /a/s.ts", "eval 1", "run -", "run npm:x", "", "run x.ts"]
    ) {
      assertEquals(find(line, files).config, "/srv/deno.json", line);
    }
    assertEquals(find("run https://a.com/m.ts", files), { config: null, flags: [] });
  });

  it("is the one that the command line names, or none", () => {
    const files = { "/srv/dir/deno.json": "{}" };
    assertEquals(find("run --config=c.json m.ts", files), { config: "/srv/dir/c.json", flags: [] });
    assertEquals(find("run --no-config m.ts", files), { config: null, flags: [] });
  });

  it("is replaced by the node_modules folder in a package.json project", () => {
    const files = { "/srv/dir/package.json": "{}", "/srv/deno.json": "{}" };
    assertEquals(find("run m.ts", files), { config: null, flags: ["--node-modules-dir=manual"] });
    assertEquals(find("run --node-modules-dir=none m.ts", files), { config: null, flags: [] });
    const workspace = { ...files, "/srv/deno.json": `{"workspace":["./dir"]}` };
    assertEquals(find("run m.ts", workspace).flags, ["--config=/srv/deno.json"]);
  });
});

describe("Bun's command line", () => {
  it("is split into subcommand, flags, script and arguments", () => {
    const line = bun("--smol --conditions dev run --expose-gc main.ts --smol -r x");
    assertEquals(line.subcommand, "run");
    assertEquals(line.flags, ["--smol", "--conditions=dev", "--expose-gc"]);
    assertEquals(line.script, "main.ts");
    assertEquals(line.args, ["--smol", "-r", "x"]);
  });

  it("is normalised", () => {
    assertEquals(
      bun(
        "-r ./a.ts --require pkg --import=./b.ts -d A:1 -l .x:text -i -c=bunfig.toml --tsconfig-override t.json m.ts",
      ).flags,
      [
        "--preload=/srv/dir/a.ts",
        "--preload=pkg",
        "--preload=/srv/dir/b.ts",
        "--define=A:1",
        "--loader=.x:text",
        "--install=fallback",
        "--config=/srv/dir/bunfig.toml",
        "--tsconfig-override=/srv/dir/t.json",
      ],
    );
    assertEquals(bun("--cwd=/other -r ./a.ts m.ts").flags, ["--preload=/other/a.ts"]);
    assertEquals(bun("--config main.ts").script, "main.ts");
  });

  it("drops what would make a child a second tool of the same kind", () => {
    assertEquals(
      bun(
        "--watch --hot --inspect=1 --no-clear-screen --title t --port 80 --env-file .e --cpu-prof --smol m.ts",
      ).flags,
      ["--smol"],
    );
    const test = bun("--smol test --timeout=100 --no-addons -t name --coverage ./x_test.ts");
    assertEquals([test.subcommand, test.flags], ["test", ["--smol", "--no-addons"]]);
  });

  it("may give the program itself", () => {
    const line = bun("--smol -e 1+1 a b");
    assertEquals([line.subcommand, line.flags, line.script, line.args], ["eval", ["--smol"], null, [
      "a",
      "b",
    ]]);
    assertEquals(bun("--smol - q").script, "-");
  });

  it("is read from execArgv where the system does not tell, and in a compiled executable", () => {
    assertEquals(parseBunCommandLine(null, ["--smol", "-r", "./a.ts"], "/w").flags, [
      "--smol",
      "--preload=/w/a.ts",
    ]);
    const compiled = parseBunCommandLine(["./app", "--smol", "x"], ["--preload=/p.ts"], "/w", true);
    assertEquals([compiled.subcommand, compiled.flags, compiled.args], ["compiled", ["--preload=/p.ts"], [
      "--smol",
      "x",
    ]]);
  });
});
