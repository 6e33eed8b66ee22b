import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { afterAll, describe, it } from "@std/testing/bdd";
import {
  type Connection,
  EOFError,
  Pipe,
  Process,
  Queue,
  session,
  wait,
  type Waitable,
} from "../../multiprocessing/mod.ts";
import { sendTen, sleepAfter } from "../fixtures/pipe_tasks.ts";
import { backTo, pause, STALL_MS, timed, use } from "./support.ts";

const w = { timeout: STALL_MS };

async function elapsed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now();
  const result = await work();
  return [result, performance.now() - start];
}

async function fortyMessages(slow: boolean): Promise<void> {
  const children: Process<[Connection<[number, number]>, boolean]>[] = [];
  let readers: Connection<[number, number]>[] = [];
  for (let i = 0; i < 4; i++) {
    const [reader, writer] = Pipe<[number, number]>({ duplex: false });
    children.push(await new Process({ target: sendTen, args: [writer, slow] }).start());
    writer.close();
    readers.push(reader);
  }
  const messages: string[] = [];
  while (readers.length > 0) {
    for (const reader of await wait(readers, w)) {
      try {
        messages.push(String(await reader.recv({ timeout: 0 })));
      } catch (error) {
        assert(error instanceof EOFError, String(error));
        reader.close();
        readers = readers.filter((other) => other !== reader);
      }
    }
  }
  const expected = children.flatMap(({ pid }) => Array.from({ length: 10 }, (_, i) => `${i},${pid}`));
  assertEquals(messages.sort(), expected.sort());
  for (const child of children) assertEquals(await child.join(w), 0);
}

describe("wait, as CPython's", () => {
  it("WAIT-01 test_wait_empty", async () => {
    const [ready, ms] = await elapsed(() => wait([], { timeout: 500 }));
    assertEquals(ready, []);
    assert(ms >= 400 && ms < 5000, `${ms} ms`);
  });

  timed("WAIT-02 test_wait", 40_000, () => fortyMessages(false));
  timed("WAIT-04 test_wait_slow", 40_000, () => fortyMessages(true));

  timed("WAIT-06 test_wait_timeout", 40_000, async () => {
    const [a, b] = Pipe<unknown>();
    const [none, ms] = await elapsed(() => wait([a, b], { timeout: 5000 }));
    assertEquals(none, []);
    assert(ms > 4900, `${ms} ms`);
    await b.send(null);
    assertEquals(await wait([a, b], { timeout: 20_000 }) as unknown[], [a]);
    a.close();
    b.close();
  });

  timed("WAIT-07 test_wait_integer", 40_000, async () => {
    const [a, b] = Pipe<number>();
    const [ready, tell] = Pipe<string>({ duplex: false });
    const child = await new Process({ target: sleepAfter, args: [tell, 3000] }).start();
    const { sentinel } = child;
    await ready.recv(w);
    const all: Waitable[] = [a, sentinel, b];
    const is = (got: Waitable[], ...expected: Waitable[]): void =>
      assert(
        got.length === expected.length && got.every((each, i) => each === expected[i]),
        got.map(String).join(),
      );
    let [got, ms] = await elapsed(() => wait(all, { timeout: 23_000 }));
    is(got, sentinel);
    assert(ms > 1000 && ms < 8000, `${ms} ms`);
    await a.send(1);
    [got, ms] = await elapsed(() => wait(all, w));
    is(got, sentinel, b);
    assert(ms < 400, `${ms} ms`);
    await b.send(2);
    [got, ms] = await elapsed(() => wait(all, w));
    is(got, a, sentinel, b);
    assert(ms < 400, `${ms} ms`);
    assertEquals([await a.recv(), await b.recv(), await child.join(w)], [2, 1, 0]);
    for (const connection of [a, b, ready, tell]) connection.close();
  });
});

describe("wait", () => {
  it("takes nothing, and leaves nothing behind", async () => {
    const before = use();
    const queue = new Queue<number>();
    const [a, b] = Pipe<number>();
    for (let i = 0; i < 50; i++) assertEquals(await wait([a, queue], { timeout: 1 }), []);
    const waiting = wait<Waitable>([a, queue, b], w);
    await queue.put(1);
    assert((await waiting)[0] === queue);
    assert((await wait<Waitable>([a, queue], w))[0] === queue);
    assertEquals(await queue.get(), 1);
    const receiving = a.recv(w);
    await b.send(2);
    assertEquals(await receiving, 2);
    for (const each of [queue, a, b]) each.close();
    await backTo(before);
  });

  it("rejects when it is aborted, with the signal's reason", async () => {
    const [a, b] = Pipe<number>();
    const aborter = new AbortController();
    const waiting = wait([a], { signal: aborter.signal });
    await pause(5);
    aborter.abort(new Error("enough"));
    await assertRejects(() => waiting, Error, "enough");
    await b.send(1);
    assertEquals(await a.recv(), 1);
    a.close();
    b.close();
  });

  it("tells of a queue that was shut down and of a pipe at its end", async () => {
    using queue = new Queue<number>();
    const [a, b] = Pipe<number>();
    const waiting = wait<Waitable>([queue], w);
    const other = wait<Waitable>([a], w);
    queue.shutdown();
    b.close();
    assertEquals([(await waiting).length, (await other).length], [1, 1]);
    a.close();
  });

  it("refuses what cannot be waited for", async () => {
    await assertRejects(() => wait([]), TypeError, "nothing");
    await assertRejects(() => wait([{} as Waitable]), TypeError, "object");
    await assertRejects(() => wait([null as unknown as Waitable]), TypeError, "null");
    assertThrows(() => new Process({ target: sendTen }).sentinel, TypeError, "not started");
  });

  timed("wakes at once when a process is killed", 20_000, async () => {
    const [ready, tell] = Pipe<string>({ duplex: false });
    await using child = await new Process({ target: sleepAfter, args: [tell, 60_000] }).start();
    tell.close();
    await ready.recv(w);
    const waiting = wait<Waitable>([child.sentinel, ready], w);
    child.kill();
    assert((await waiting).length > 0);
    await assertRejects(() => ready.recv(w), EOFError);
    ready.close();
  });
});

afterAll(async () => {
  await session()[Symbol.asyncDispose]();
});
