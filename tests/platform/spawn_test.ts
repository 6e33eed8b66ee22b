import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  closeFd,
  duplicate,
  killProcess,
  pipe,
  processId,
  setCloexec,
  signals,
  spawn,
  type SpawnOptions,
  SystemError,
  waitProcess,
  writeFd,
} from "../../platform/mod.ts";
import { readText, reap, runScript } from "./child.ts";

const PATH = "/usr/bin:/bin";

/** Runs a shell with its stdout in a pipe. */
function shell(
  script: string,
  options: Partial<SpawnOptions> = {},
): { text: string; status: number | "gone" } {
  const [reading, writing] = pipe();
  const fds = [[1, writing], ...(options.fds ?? [])] as SpawnOptions["fds"];
  const pid = spawn({ file: "/bin/sh", argv: ["sh", "-c", script], env: { PATH }, ...options, fds });
  closeFd(writing);
  const text = readText(reading);
  closeFd(reading);
  return { text, status: reap(pid) };
}

describe("platform: spawn", () => {
  it("gives argv, environment and folder as they are", () => {
    const env = { PATH, GREETING: "grüß = gott", EMPTY: "" };
    const result = shell('printf "%s|" "$GREETING" "${EMPTY-unset}" "${HOME-unset}" "$(pwd)"', {
      env,
      cwd: "/usr",
    });
    assertEquals(result, { text: "grüß = gott||unset|/usr|", status: 0 });
    const [reading, writing] = pipe();
    const argv = ["sh", "-c", 'for a in "$@"; do printf "[%s]" "$a"; done', "zero", "größe ✓", "", "a b"];
    const pid = spawn({ file: "/bin/sh", argv, env: {}, fds: [[1, writing]] });
    closeFd(writing);
    assertEquals(readText(reading), "[größe ✓][][a b]");
    closeFd(reading);
    assertEquals(reap(pid), 0);
  });

  it("reports how a child ended", () => {
    assertEquals(shell("exit 7").status, 7);
    assertEquals(shell("exit 255").status, 255);
    assertEquals(shell("kill -TERM $$").status, -signals.SIGTERM);
    const pid = spawn({ file: "/bin/sleep", argv: ["sleep", "60"], env: {} });
    assertEquals(waitProcess(pid), null);
    assertEquals(killProcess(pid, signals.SIGKILL), true);
    assertEquals(reap(pid), -signals.SIGKILL);
    assertEquals(waitProcess(pid), "gone");
    assertEquals(waitProcess(processId()), "gone");
  });

  it("names a program that cannot be started", () => {
    const missing = assertThrows(() => spawn({ file: "/geventmp/größe", argv: ["x"], env: {} }), SystemError);
    assertEquals([missing.code, missing.syscall], ["ENOENT", "posix_spawn"]);
    assertStringIncludes(missing.message, "/geventmp/größe");
    assertEquals(
      assertThrows(() => spawn({ file: "/etc/passwd", argv: ["x"], env: {} }), SystemError).code,
      "EACCES",
    );
    const folder = assertThrows(
      () => spawn({ file: "/bin/sh", argv: ["sh"], env: {}, cwd: "/geventmp" }),
      SystemError,
    );
    assertEquals(folder.code, "ENOENT");
    assertStringIncludes(folder.message, "/geventmp");
    assertThrows(() => spawn({ file: "/bin/sh", argv: ["a\0b"], env: {} }), TypeError, "NUL");
    assertEquals(
      assertThrows(() => spawn({ file: "/bin/sh", argv: ["sh"], env: {}, fds: [[1, 9999]] }), SystemError)
        .code,
      "EBADF",
    );
  });

  it("puts descriptors where they belong, swapped and onto themselves too", () => {
    const [readA, writeA] = pipe();
    const [readB, writeB] = pipe();
    writeFd(writeA, new TextEncoder().encode("A\n"));
    writeFd(writeB, new TextEncoder().encode("B\n"));
    closeFd(writeA);
    closeFd(writeB);
    // Each is the other's number in the child; all are closed on exec here.
    const swapped = shell(`cat /dev/fd/${readA} /dev/fd/${readB}`, { fds: [[readA, readB], [readB, readA]] });
    assertEquals(swapped, { text: "B\nA\n", status: 0 });
    const [readC, writeC] = pipe();
    writeFd(writeC, new TextEncoder().encode("C\n"));
    closeFd(writeC);
    assertEquals(shell(`cat /dev/fd/${readC}`, { fds: [[readC, readC]] }), { text: "C\n", status: 0 });
    for (const fd of [readA, readB, readC]) closeFd(fd);
    assertEquals(shell("cat; echo end", { fds: [[0, "null"]] }), { text: "end\n", status: 0 });
  });

  it("leaves no descriptor of its own behind", () => {
    // The lowest free number is the same before and after.
    const probe = (): number => {
      const fd = duplicate(1);
      closeFd(fd);
      return fd;
    };
    const before = probe();
    for (let i = 0; i < 20; i++) assertEquals(shell("exit 0", { fds: [[5, 1]] }).status, 0);
    assertEquals(probe(), before);
  });

  it("inherits what is not closed on exec, unless others are to be closed", () => {
    const [reading, writing] = pipe();
    setCloexec(reading, false);
    const script = `if [ -e /dev/fd/${reading} ]; then echo open; else echo closed; fi`;
    assertEquals(shell(script).text, "open\n");
    assertEquals(shell(script, { closeOthers: true }).text, "closed\n");
    assertEquals(shell(script, { closeOthers: true, fds: [[reading, reading]] }).text, "open\n");
    closeFd(reading);
    closeFd(writing);
  });

  it("leads a process group on request", () => {
    const [reading, writing] = pipe();
    const argv = ["sh", "-c", "sleep 60 & echo ready; wait"];
    const pid = spawn({ file: "/bin/sh", argv, env: { PATH }, fds: [[1, writing]], processGroup: true });
    closeFd(writing);
    assertEquals(readText(reading, true), "ready\n");
    assertEquals(killProcess(-pid, signals.SIGKILL), true);
    assertEquals(reap(pid), -signals.SIGKILL);
    // The sleeper held the pipe's other end: the end of file says that it is gone too.
    assertEquals(readText(reading), "");
    closeFd(reading);
    // The group itself lasts until init has reaped the sleeper, which is no business of ours.
  });

  it("starts with signals as a program expects them", () => {
    // Runtimes ignore SIGPIPE; a shell that inherited that would say "alive".
    const script = "kill -PIPE $$; echo alive";
    assertEquals(shell(script), { text: "", status: -signals.SIGPIPE });
    assertEquals(shell(script, { resetSignals: false }).text, "alive\n");
  });

  it("ends at once by exitNow", () => {
    const { text, status } = runScript(new URL("./fixtures/exit_now.ts", import.meta.url));
    assertEquals({ text, status }, { text: "before\n", status: 23 });
  });
});
