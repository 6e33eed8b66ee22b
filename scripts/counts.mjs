// deno-lint-ignore-file explicit-module-boundary-types -- plain JavaScript: node runs it before anything is installed
/** Reads what the runners say at the end, and says it as the one line that everything ends with. */

/** Counts of the runners' closing lines. A suite that crashed, or ran nothing, has failed. */
export function countsOf(runtime, code, output) {
  const deno = [...output.matchAll(/\| (\d+) passed (?:\([^)]*\) )?\| (\d+) failed/g)].at(-1);
  const bunPassed = [...output.matchAll(/^\s*(\d+) pass$/gm)].at(-1);
  const bunFailed = [...output.matchAll(/^\s*(\d+) fail$/gm)].at(-1);
  const counts = runtime === "deno"
    ? { passed: Number(deno?.[1] ?? 0), failed: Number(deno?.[2] ?? 0) }
    : { passed: Number(bunPassed?.[1] ?? 0), failed: Number(bunFailed?.[1] ?? 0) };
  // More than the runner's own count: a crash after the last test, or before the first, is in no closing line.
  if (counts.passed + counts.failed === 0 || (code !== 0 && counts.failed === 0)) counts.failed++;
  return counts;
}

/** The last line of a run. */
export function closingLine(passed, failed) {
  return `${passed} passed, ${failed} failed`;
}
