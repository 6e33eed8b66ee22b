/**
 * Queues between all processes and Workers of a session: CPython's `multiprocessing.Queue` and its kin, with a lane for each producer in shared
 * memory instead of a pipe and a feeder thread.
 *
 * @module
 */
import { type Existing, type Handle, reviver } from "./core/handle.ts";
import { finishLanes, installLanes, orphanLane } from "./core/lanes.ts";
import {
  K_QUEUE,
  N_ANNOUNCED,
  N_CHANNEL,
  N_CHANNEL2,
  N_CHANNEL3,
  Q_GETTERS,
  Q_PUTTERS,
  Q_TYPE,
  QT_JOINABLE,
  QT_SIMPLE,
  QUEUE_NODES,
} from "./core/layout.ts";
import { onOpen } from "./core/session.ts";
import { JoinableQueue } from "./queues/joinable_queue.ts";
import { Queue } from "./queues/queue.ts";
import { SimpleQueue } from "./queues/simple_queue.ts";

export type { QueueOptions } from "./queues/base_queue.ts";
export { BaseQueue } from "./queues/base_queue.ts";
export type { Lease } from "./queues/lease.ts";
export { JoinableQueue, Queue, SimpleQueue };

function existingQueue(existing: Existing): Handle {
  switch (existing.session.arena.i32[existing.block + Q_TYPE]) {
    case QT_JOINABLE:
      return new JoinableQueue(existing);
    case QT_SIMPLE:
      return new SimpleQueue(existing);
    default:
      return new Queue(existing);
  }
}
reviver(K_QUEUE, existingQueue);

onOpen((session) => {
  const m = session.arena.i32;
  installLanes(session);
  session.references.rule(K_QUEUE, {
    scrubNode: (block, node, dead) => {
      Atomics.store(m, node + N_CHANNEL3, 0);
      Atomics.store(m, node + N_ANNOUNCED, 0);
      orphanLane(session, block, node, dead);
      for (const [flag, channel] of [[Q_GETTERS, N_CHANNEL], [Q_PUTTERS, N_CHANNEL2]]) {
        if (Atomics.exchange(m, block + flag, 1) !== 0) session.waits.wakeNext(block, QUEUE_NODES, channel);
      }
      // It may have finished the last item, or have died in a put that was counted and is not any more.
      session.waits.wakeAll(block, QUEUE_NODES, N_CHANNEL3);
    },
    finish: (block) => finishLanes(session, block),
  });
});
