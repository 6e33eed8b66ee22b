import { assertEquals, assertThrows } from "@std/assert";
import { describe, it } from "@std/testing/bdd";
import {
  Barrier,
  Condition,
  Event,
  Lock,
  Queue,
  RLock,
  Semaphore,
  session,
} from "../../multiprocessing/mod.ts";

describe("a handle", () => {
  for (const make of [Lock, RLock, Semaphore, Event, Condition, Queue, Barrier]) {
    it(`is refused by what copies objects: ${make.name}`, () => {
      using handle = make === Barrier ? new Barrier(2) : new (make as typeof Lock)();
      const why = `Cannot copy this ${make.name}`;
      assertThrows(() => structuredClone({ deep: [handle] }), Error, why);
      assertThrows(() => JSON.stringify({ handle }), TypeError, why);
      const { port1, port2 } = new MessageChannel();
      assertThrows(() => port1.postMessage(handle), Error, why);
      port1.close();
      port2.close();
      // What copies reads it before anything else.
      assertEquals(Object.keys(handle)[0], "handle");
    });
  }
});

describe("the end", () => {
  it("leaves the session", async () => {
    await session()[Symbol.asyncDispose]();
  });
});
