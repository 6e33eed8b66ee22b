/**
 * The arena's layout: every word that processes share, who may change it, and from what to what.
 *
 * All positions are indices of 32-bit words unless a name says bytes. A change here is a new {@linkcode LAYOUT}.
 *
 * Rules that make every structure below survive a SIGKILL or SIGSTOP between two instructions:
 * 1. Nothing is guarded by a lock that a process could die or stop with. Each change of shared state is one atomic
 *    store or compare-exchange; what precedes it is invisible, what follows it is repeated by whoever comes next.
 * 2. Lists only grow: their records are claimed (0 -> token) and given up (token -> 0), never unlinked while the
 *    block that owns the list lives. So a reader can be stopped anywhere in a list.
 * 3. A reference is a record (a node's HOLDER word), never a count: a death takes away exactly its own.
 * 4. A wake-up is a hint to look, never the news: doing it twice is harmless, and a waiter looks by itself every
 *    100 ms, which covers a waker that died between making something available and waking.
 *
 * @module
 */

/** Version of everything in this file. Processes of another version are refused. */
export const LAYOUT = 3;
export const MAGIC = 0x706d7667;

// ── header (first page) ────────────────────────────────────────────────────────────────────────────────────────────
export const H_MAGIC = 0;
export const H_LAYOUT = 1;
/** Four words of randomness: who knows them was told by a member. */
export const H_NONCE = 2;
/** Spans that the file holds. Only grows: compare-exchange to a larger value, after the file was extended. */
export const H_EXTENT = 6;
/** Most spans the file may hold; set by the creator. */
export const H_CAP = 7;
/** Source of generations for freshly claimed memory. Atomic add. */
export const H_GENERATION = 8;
/** About how many freed spans still hold pages. A hint for giving pages back, never relied on. */
export const H_DIRTY = 9;
/** Where the next slot search starts. A hint. */
export const H_NEXT_SLOT = 10;
/** 1 once a named object was made: then the last member to leave looks for names to remove. */
export const H_NAMES = 16;

// ── agent table ────────────────────────────────────────────────────────────────────────────────────────────────────
//
// A slot belongs to whoever holds the lock on byte <slot> of the file (an open-file-description lock, so the kernel
// gives it back at death). REAPING a slot needs the lock on byte REAP_BYTES + <slot>.
//
// | state                         | byte locked | PID  | next                                                           |
// |-------------------------------|-------------|------|----------------------------------------------------------------|
// | free                          | no          | 0    | taken: lock the byte, see PID still 0, write PID               |
// | taken (by an agent or for a   | yes         | pid  | dead: the kernel drops the lock                                |
// | child that is being started)  |             |      | left: the agent scrubs itself, GEN + 1, PID = 0, unlocks       |
// |                               |             |      | parent's pid -> child's: compare-exchange by the parent; the child stores the same |
// | dead                          | no          | pid  | reaped by anyone, once at a time: scrub, GEN + 1, then PID = 0 |
//
// Every step of a reap can be repeated; a reaper's death drops its lock on REAP_BYTES + slot and the next one repeats. A long scrub drops the
// lock itself while the loop turns, and goes on only if the slot still is that of the same dead agent: PID not 0, GEN not raised.
export const MAX_AGENTS = 1024;
export const AGENTS = 64 * 1024 / 4;
export const AGENT_WORDS = 16;
export const REAP_BYTES = 4096;

export const A_PID = 0;
/** Generation of the slot, 1 to 2^19 - 1. Raised only when the slot is scrubbed. */
export const A_GEN = 2;
/**
 * Doorbell word: epoch << 2 | state. Its owner stores it; a ringer only does RUNG by compare-exchange, after its byte is written, so
 * that a ringer killed in between costs one spare byte and never a lost wake-up.
 * AWAKE -> ARMED(epoch + 1) owner, when it starts to wait · ARMED -> RUNG ringer · any -> ARMED/AWAKE owner · any -> SYNC owner.
 */
export const A_BELL = 3;
/** How to ring: BELL_* kind | WORKER flag. */
export const A_KIND = 4;
/** A pipe's descriptor; of a socket, half of its name. */
export const A_BELL_INFO = 5;
/** Of a socket, the other half of its name, at random: any user can read the name, but not foresee it. Written before KIND says that there is a bell. */
export const A_BELL_NAME = 1;
/** Two words of randomness that a ringer must know; the bell's own, so that nothing is lost when a name is taken by a stranger after its agent's death. */
export const A_BELL_KEY = 14;
/** Kernel thread id and its start time of an agent that is a Worker, else 0. */
export const A_TID = 6;
export const A_TSTART = 7;
/** 1 while the agent is inside a synchronous call: it cannot run a continuation, so grants skip it. */
export const A_HELD = 8;
/** Descriptor, in its process, that holds the life lock. */
export const A_FD = 9;
/** Token of the agent that started it, 0 for the root. */
export const A_PARENT = 10;
/** When it was last woken, in 0.1 ms of wall time, for telling a slow waker from a fresh one. A hint. */
export const A_WOKEN_AT = 11;
/** Exit code of a child plus a flag, written by the child before it ends by itself: exit code | 0x10000. */
export const A_EXIT = 12;
/** 1 when the agent is about to end, or to leave: it will do nothing any more, and others need not count it as a member. */
export const A_LEAVING = 13;

export const BELL_AWAKE = 0;
export const BELL_ARMED = 1;
export const BELL_RUNG = 2;
export const BELL_SYNC = 3;

export const KIND_MASK = 0xff;
export const KIND_NONE = 0;
/** A unix stream listener of the runtime's own (Deno). */
export const KIND_STREAM = 1;
/** A bound unix datagram socket (Bun). */
export const KIND_DATAGRAM = 2;
/** A pipe, opened through /proc (Deno without net permission). */
export const KIND_PIPE = 3;
export const KIND_WORKER = 0x100;

export const TOKEN_SLOT_BITS = 10;
export const TOKEN_SLOT_MASK = MAX_AGENTS - 1;
export const GEN_MASK = (1 << 19) - 1;

// ── spans ──────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// | OWNER            | INFO            | meaning                                                      | next                       |
// |------------------|-----------------|--------------------------------------------------------------|----------------------------|
// | 0                | 0               | free                                                         | token (compare-exchange)   |
// | token            | 0               | being set up, or being given back                            | INFO; a dead owner's: 0    |
// | token            | SPAN_CLASS | c  | blocks of class c; only the owner hands them out             | emptied: INFO = 0, OWNER = 0; a dead owner's: adopted |
// | token            | SPAN_MULTI | n  | one block over n spans, this one and those behind it         | INFO = 0, OWNER = 0        |
// | CONTINUED | head | 0               | part of the block that starts at span `head`                 | 0                          |
export const SPAN_BYTES = 64 * 1024;
export const SPAN_WORDS = SPAN_BYTES / 4;
export const SPAN_SHIFT = 14;
export const SPANS = 128 * 1024 / 4;
export const MAX_SPANS = 65536;
export const FIRST_SPAN = 10;
export const SPAN_CLASS = 0x100;
export const SPAN_MULTI = 0x40000000;
export const CONTINUED = 0x80000000 | 0;

/** Bytes of a block of each class. */
export const CLASS_BYTES = [128, 512, 1024, 4096, 16384] as const;
export const CLASS_128 = 0;
export const CLASS_512 = 1;
export const CLASS_1K = 2;
export const CLASS_4K = 3;
export const CLASS_16K = 4;

// ── blocks ─────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// HEAD = generation << 12 | slot << 2 | state
// FREE -> LIVE (generation + 1): the span's owner, one store, when the rest is written
// LIVE -> DYING (with the slot of who frees it): compare-exchange, by who finds no holder left
// DYING -> FREE: that agent, when all that hangs on the block is free; or the reaper of its slot
export const B_HEAD = 0;
/** Kind of the block. */
export const B_INFO = 1;
/** Token of the agent that made it, for blocks that are reachable only after a further step (rings, nodes, blobs). */
export const B_OWNER = 2;
/** Raised after each added holder: "no holder" seen in a scan counts only if this did not change meanwhile. */
export const B_ADDS = 3;
/** First block of further nodes, 0 if none. Set once, by compare-exchange. */
export const B_MORE = 12;

export const FREE = 0;
export const LIVE = 1;
export const DYING = 2;
export const GENERATION_SHIFT = 12;

export const K_LOCK = 1;
export const K_SEMAPHORE = 2;
export const K_QUEUE = 3;
export const K_NODES = 4;
export const K_LANE = 5;
export const K_RING = 6;
export const K_BLOB = 7;
export const K_LAUNCH = 8;
export const K_RLOCK = 9;
export const K_BOUNDED = 10;
export const K_EVENT = 11;
export const K_CONDITION = 12;
export const K_BARRIER = 13;
export const K_SHARED_MEMORY = 20;
export const K_SHARED_NAME = 21;
export const K_VALUE = 22;
export const K_ARRAY = 23;
export const K_DIRECTION = 48;
export const K_END = 49;
export const K_TRANSFER = 50;

// ── nodes ──────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// One node for each agent that holds a handle to the block: its reference, and where it waits.
//
// HOLDER: 0 -> token (compare-exchange by the agent itself, or by the parent on behalf of a child being started) -> 0
//         0 or IN_FLIGHT | lane -> IN_FLIGHT | RAISING | lane -> IN_FLIGHT | lane
//                (by the lane's producer, for a handle inside a queue item: AUX is written while RAISING stands)
//         IN_FLIGHT | lane -> token -> 0, or back (by anyone who finds that the item was taken: AUX is looked at again while its token stands)
//         0 -> IN_FLIGHT | condition: a live condition keeps its lock -> 0 (by who frees the condition, or finds that it is gone)
//         0 -> IN_FLIGHT | end: a live pipe end keeps its directions -> 0 (by who frees the end)
// CHANNEL: 0 idle; else ticket << 2 | state of the agent's first waiter
//         0 -> WAITING(ticket) owner · WAITING -> WOKEN waker, by compare-exchange · any -> WAITING or 0 owner
//         WAITING_SYNC: as WAITING, of an agent that blocks in a synchronous call
export const N_HOLDER = 0;
export const N_CHANNEL = 1;
export const N_CHANNEL2 = 2;
/** Of a queue's node: the agent's lane; of an IN_FLIGHT node: the highest record number that carries the handle. */
export const N_AUX = 3;
/** Queue nodes only: lane being read (set before HAZARD), position | 1 that must not be overwritten or 0, and announced puts. */
export const N_HAZARD_LANE = 4;
export const N_HAZARD = 5;
export const N_ANNOUNCED = 6;
/** Queue nodes only: where the agent waits for all items to be finished. As CHANNEL. */
export const N_CHANNEL3 = 7;

export const IN_FLIGHT = 0x80000000 | 0;
export const RAISING = 0x40000000;
/** A lane in an IN_FLIGHT word: blocks lie at multiples of 32 words. */
export const LANE_SHIFT = 5;
export const LANE_MASK = (1 << 25) - 1;
export const WAITING = 1;
export const WOKEN = 2;
export const WAITING_SYNC = 3;

/** Where a kind's nodes are: first word, words each, how many inside the block. */
export interface Nodes {
  readonly base: number;
  readonly stride: number;
  readonly count: number;
}
export const SYNC_NODES: Nodes = { base: 16, stride: 4, count: 4 };
/** Of a block of 512 bytes. See "calls". */
export const CALL_NODES: Nodes = { base: 16, stride: 4, count: 28 };
export const QUEUE_NODES: Nodes = { base: 24, stride: 8, count: 13 };
/** In a block of kind K_NODES (512 bytes): link to the next one, the block they belong to, and the first node. */
export const M_NEXT = 4;
export const M_PARENT = 5;
export const M_BASE = 8;
export const M_WORDS = 120;

/** Nodes of a block of this kind, or null when it has none. */
export function nodesOf(kind: number): Nodes | null {
  switch (kind) {
    case K_LOCK:
    case K_RLOCK:
    case K_SEMAPHORE:
    case K_BOUNDED:
    case K_EVENT:
    case K_LAUNCH:
    case K_SHARED_MEMORY:
    case K_VALUE:
    case K_ARRAY:
    case K_END:
    case K_TRANSFER:
      return SYNC_NODES;
    case K_CONDITION:
    case K_BARRIER:
      return CALL_NODES;
    case K_QUEUE:
    case K_DIRECTION:
      return QUEUE_NODES;
    default:
      return null;
  }
}

// ── calls ──────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// Where a wake-up is the news itself and not a hint, each waiting call has a node of its own, in the same list as the agent's reference. Its
// HOLDER is the agent's token, so the node goes when the agent does; the agent's reference outlives its calls.
//
// CHANNEL: 0 -> CALL_WAITING(ticket)             the call's agent
//          CALL_WAITING -> CALL_WOKEN            condition: who notifies · barrier: who finds that its round was passed
//          CALL_WAITING -> CALL_REFUSED          barrier: who finds that its round is broken or reset
//          CALL_WAITING -> 0                     the call's agent, at a time-out or abort; if that fails, the call was woken before
//          CALL_WOKEN, CALL_REFUSED -> 0         the call's agent, once it knows; a condition's call once it has the lock back
//          CALL_WOKEN -> CALL_WAITING            condition: the call's agent, before it blocks its thread, after it has notified another
//          a dead agent's CALL_WOKEN -> 0        condition: the reaper, after it has notified another
//
// SYNC: whether the call blocks its thread: that is then marked held, and can go on all the same, by this call alone. Written before CHANNEL is.
export const N_SYNC = N_CHANNEL2;
export const CALL_WAITING = 1;
export const CALL_WOKEN = 2;
export const CALL_REFUSED = 3;

// ── lock: one word ─────────────────────────────────────────────────────────────────────────────────────────────────
//
// WORD = owner token << 3 | flags
// | change                                        | by whom                                                        |
// |-----------------------------------------------|----------------------------------------------------------------|
// | 0 -> me                                       | anyone: the fast path, one compare-exchange                    |
// | me -> 0                                       | the owner (or anyone, as in Python): the release, one compare-exchange |
// | L_WAITERS set                                 | a waiter, after its node says WAITING, while the lock is taken; who was woken, when it takes the lock or passes it on |
// | L_WAITERS cleared, then one waiter woken      | who releases                                                   |
// | L_RESERVED set                                | a waiter that was passed over for more than 1 ms               |
// | L_RESERVED cleared                            | a taker; who finds the reservation stale; a waker that found nobody to wake |
// | dead owner -> ownerless, L_ABANDONED          | anyone who finds the owner dead                                |
// | L_ABANDONED cleared                           | who takes the lock next, whose guard says so                   |
export const O_WORD = 4;
/** Source of tickets, so that waiters are served in order. Atomic add. */
export const O_TICKET = 5;
export const L_WAITERS = 1;
export const L_ABANDONED = 2;
export const L_RESERVED = 4;
export const L_OWNER_SHIFT = 3;

// ── semaphore: one word ────────────────────────────────────────────────────────────────────────────────────────────
// WORD = value << 2 | S_RESERVED | S_WAITERS, with the lock's rules for the flags.
export const S_WAITERS = 1;
export const S_RESERVED = 2;
export const S_VALUE_SHIFT = 2;
export const S_MAX = (1 << 29) - 1;

// robust semaphore: WORD's value is how many permits there are in all, and does not change. What an agent has is in its own node, so that it is
// free the moment the node is scrubbed, and no step of two words can be cut in half:
// HELD = permits << 1 | S_CLAIMING
// | change                            | by whom                                                                          |
// |-----------------------------------|----------------------------------------------------------------------------------|
// | S_CLAIMING set                    | the agent, before it counts what all have; a claim counts as a permit            |
// | claim -> permit, S_CLAIMING clear | the agent, when the count is within the value                                    |
// | S_CLAIMING cleared                | the agent, when it is not. Of several claims that are too many, that of the lowest slot stands |
// | permits lowered                   | the agent: the release                                                           |
// | -> 0                              | the reaper                                                                       |
/** Of a robust semaphore's node. */
export const N_HELD = N_CHANNEL2;
export const S_CLAIMING = 1;
/** A semaphore's further words: whether it is robust, and for a bounded one the most that its value may be. */
export const O_ROBUST = 6;
export const O_BOUND = 7;

// re-entrant lock: the lock's word; how often its owner holds it is known to the owner alone. O_FLOW: whether the owner is a flow, not the agent.
export const O_FLOW = 6;

// ── event: one word ────────────────────────────────────────────────────────────────────────────────────────────────
//
// WORD = epoch << 2 | E_SET | E_WAITERS
// | change                                | by whom                                                                     |
// |---------------------------------------|-----------------------------------------------------------------------------|
// | E_SET set, epoch + 1, E_WAITERS cleared | who sets it, and then wakes everybody                                      |
// | E_SET cleared                         | who clears it                                                               |
// | E_WAITERS set                         | a waiter, after its node says WAITING, while the event is not set           |
// A waiter is done when the event is set, or has been since: when the epoch is another than when it came.
export const E_WAITERS = 1;
export const E_SET = 2;
export const E_EPOCH_SHIFT = 2;

// ── condition ──────────────────────────────────────────────────────────────────────────────────────────────────────
//
// All its state is in its calls. The lock is a block of its own, which a node with IN_FLIGHT | condition keeps as long as the condition lives.
export const C_LOCK = 4;
export const C_LOCK_KIND = 6;
export const C_LOCK_GENERATION = 7;

// ── barrier: one word ──────────────────────────────────────────────────────────────────────────────────────────────
//
// WORD = round << 19 | last << 3 | state. `last` is one more than the index of the node of the last call to arrive, 0 when none has.
// A call says in its node's ARRIVAL: round << 16 | index | AR_UNSURE, then arrives by one compare-exchange of WORD, which names its node. Who
// changes WORD next first takes AR_UNSURE from the node that is named there: so a call has arrived exactly if it is sure, or named in WORD.
// | state                   | next                          | by whom                                                                        |
// |-------------------------|-------------------------------|--------------------------------------------------------------------------------|
// | FILLING, last           | FILLING, last = me            | a call that arrives                                                            |
// | FILLING                 | ACTING or PASSING, last = me  | the call that makes it complete: ACTING when there is an action                |
// | FILLING with last       | RESETTING                     | reset                                                                          |
// | FILLING, ACTING         | BROKEN_*                      | abort; a party's time-out, abort or death; an action that fails                |
// | ACTING                  | PASSING                       | the call that ran the action                                                   |
// | ACTING                  | RESETTING                     | reset                                                                          |
// | PASSING, RESETTING      | FILLING, round + 1, last = 0  | anyone, after each arrived call of the round was told (WOKEN or REFUSED)       |
// | BROKEN_*                | RESETTING                     | reset. Until then everybody who comes is refused                               |
export const BR_PARTIES = 6;
/** Bytes of the text behind the nodes that names the action's task; 0: there is no action. */
export const BR_ACTION = 7;
/** Process that broke it, for the message. A hint. */
export const BR_WHO = 8;
/** Time-out of a wait that has none of its own, in ms, as the two halves of a float; Infinity: none. Never changes. */
export const BR_TIMEOUT = 10;
export const BR_TEXT = 128;
export const BR_FILLING = 0;
export const BR_ACTING = 1;
export const BR_PASSING = 2;
export const BR_RESETTING = 3;
export const BR_BROKEN_ABORT = 4;
export const BR_BROKEN_DEATH = 5;
export const BR_BROKEN_TIMEOUT = 6;
export const BR_BROKEN_ACTION = 7;
export const BR_STATE_MASK = 7;
export const BR_LAST_SHIFT = 3;
export const BR_LAST_MASK = 0xffff;
export const BR_ROUND_SHIFT = 19;
export const BR_ROUND_MASK = (1 << 13) - 1;
/** Of a barrier's call. */
export const N_ARRIVAL = N_AUX;
export const AR_UNSURE = 0x80000000 | 0;
/** The call has not arrived: it came while an action ran, and is woken, as a hint, when the round is over. */
export const AR_QUEUED = 0x40000000;
export const AR_ROUND_SHIFT = 16;
export const AR_INDEX_MASK = 0xffff;

// ── queue ──────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// Each producer writes its own lane, so that producers share nothing but the stamp and never wait for each other;
// consumers take the record with the lowest stamp among the lanes' heads.
export const Q_FLAGS = 4;
/** 1 while a getter (putter) may be waiting: set by the waiter after its node says so, cleared by who then wakes one. */
export const Q_GETTERS = 6;
export const Q_PUTTERS = 7;
/** Order of puts over all lanes. Atomic add. */
export const Q_STAMP = 8;
export const Q_MAX_ITEMS = 9;
export const Q_MAX_BYTES = 10;
/** Newest lane; lanes are only added. */
export const Q_LANES = 11;
/** 1 once an item carried a handle: then the queue's end may leave blocks that nothing else would look at. */
export const Q_CARRIED = 13;
/** Class of its handles: QT_*. Never changes. */
export const Q_TYPE = 14;
/** 1 while a joiner may be waiting, as Q_GETTERS. */
export const Q_JOINERS = 15;
/** Items that taskDone was called for. Compare-exchange upwards by one. What leases acknowledged is counted in their entries. */
export const Q_FINISHED = 16;
/** How often all items were finished while somebody waited for it: who began to join before the last of these times is done. Atomic add. */
export const Q_DRAINED = 17;
/** Newest table of leases; tables are only added. */
export const Q_LEASES = 18;
/** Raised after items came back from leases: who sees no change since it last found none need not look. Atomic add, also by the reaper. */
export const Q_RETURNS = 19;
export const QF_SHUTDOWN = 1;
export const QF_IMMEDIATE = 2;
export const QT_QUEUE = 0;
export const QT_JOINABLE = 1;
export const QT_SIMPLE = 2;

// lane
export const LN_QUEUE = 4;
export const LN_NEXT = 5;
/** Token of the producer; 0 once it is gone: the lane is then read on, and taken over by the next new producer. */
export const LN_PRODUCER = 6;
/** Where the next record will be, in 16-byte units. Storing it publishes what is before: the producer's one commit. */
export const LN_WRITE = 7;
/** All records before it are done, and perhaps some behind it. Compare-exchange forwards by consumers. */
export const LN_READ = 8;
/** Oldest ring that may still be read. Compare-exchange by consumers when READ has passed its end. */
export const LN_READ_RING = 9;
/** Records ever written, and their bytes: the producer's, published by LN_WRITE. */
export const LN_COUNT = 10;
export const LN_BYTES = 11;
/** Oldest ring not given back: the producer's. */
export const LN_OLDEST = 13;
/**
 * Of a lane of a joinable queue, where COUNT must be exact: AHEAD = new count, END = new WRITE, COUNT = new count, then WRITE. A producer killed in
 * between published COUNT records if END is WRITE, else AHEAD - 1.
 */
export const LN_AHEAD = 14;
export const LN_END = 15;

// ring: the first 64 bytes of a power of two; records never lie there
export const R_LANE = 4;
/** Position that falls on the ring's first byte. */
export const R_BASE = 5;
/** Position where the producer went on to NEXT; R_OPEN while it has not. */
export const R_END = 6;
export const R_NEXT = 7;
/** log2 of the ring's bytes. */
export const R_LOG2 = 8;
export const R_OPEN = 1;
export const RING_HEADER_UNITS = 4;

// record: in units of 16 bytes; header of 6 words, then the message
// COMMITTED -> DONE: one consumer, compare-exchange, once it has read the message
// COMMITTED -> CLAIMED(token) -> DONE: the same for messages that are long to read or carry handles, and for what is leased
// CLAIMED(dead) -> COMMITTED: its reaper; DONE if the dead consumer holds a lease of it. The dead's HAZARD says where to look
// CLAIMED(me) -> COMMITTED: a consumer that finds no memory for a lease
export const RC_STATE = 0;
export const RC_LENGTH = 1;
export const RC_STAMP = 2;
/** Number of the record in its lane, and bytes written to the lane before it. */
export const RC_NUMBER = 3;
export const RC_BYTES = 4;
export const RC_FLAGS = 5;
export const RC_HEADER_BYTES = 24;
export const COMMITTED = 1;
export const CLAIMED = 2;
export const DONE = 3;
/** Filler up to the ring's end: LENGTH is in units. */
export const SKIP = 4;
export const STATE_MASK = 7;
export const STATE_TOKEN_SHIFT = 3;
/** The message lies in a block of its own: word 0 of the payload is the block. */
export const RF_BLOB = 1;
export const RF_HANDLES = 2;

// blob: a message in a block of its own, valid while its record is not done
export const BL_LANE = 4;
export const BL_NUMBER = 5;
export const BL_BYTES = 6;
/** The lease's entry that the message was moved to, 0 while it was not; LANE is 0 in a copy that was made for a lease. */
export const BL_LEASE = 7;
export const BL_DATA = 16;

// ── shared memory with a name ──────────────────────────────────────────────────────────────────────────────────────
//
// The object is the system's, not the arena's. Two kinds of block speak of it, with the same words: K_SHARED_MEMORY, what a handle refers to; and
// K_SHARED_NAME, which has no nodes: that the session made the name, and is to remove it at its end.
//
// | of the object made by shm_open                        | killed after it                                                       |
// |--------------------------------------------------------|-----------------------------------------------------------------------|
// | it has a name and no size                              | an empty object stays: nobody can tell that it is not somebody else's |
// | K_SHARED_NAME is live, with what identifies the object | the session's last member removes the name                            |
// | it has its size, then its pages                        | the same                                                              |
// | unlinked                                               | its maker's reaper, or else the last member, finds that it has no name |
// | K_SHARED_NAME: LIVE -> DYING -> FREE                   | freed by the reaper                                                   |
/** Device and number of the object, two words each. */
export const SM_DEVICE = 32;
export const SM_INODE = 34;
/** Bytes of the name, which follows, in UTF-8 and without the slash. */
export const SM_NAME_BYTES = 36;
export const SM_NAME = 37;

// ── value and array ────────────────────────────────────────────────────────────────────────────────────────────────
//
// Both begin as a re-entrant lock does (O_WORD, O_TICKET and O_FLOW): a handle to that lock is a handle to the same block.
/** A value's one word, or two, changed by atomic instructions of that width: integers of up to 32 bits in one, all else in two. */
export const V_CELL = 8;
/** Which type it has: its index in the list of all. */
export const V_TYPE = 10;
/** An array's type and its length in bytes; its elements follow. */
export const AR_TYPE = 8;
export const AR_BYTES = 9;
export const AR_DATA = 32;

// launch: what a child is to run; held by parent and child
export const LA_BYTES = 4;
export const LA_DATA = 32;

// ── leases ─────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// A leased item has left its lane, which others read on, for an entry in a table of its queue. Its message lies in a blob: the one it was put in,
// or a copy.
//
// STATE = token << 3 | state
// | change                  | by whom                                                                                                   |
// |-------------------------|-----------------------------------------------------------------------------------------------------------|
// | FREE -> TAKEN(me)       | who is about to lease a record that it has CLAIMED; it then writes DATA to FLAGS, and HELD_ACKS = ACKS      |
// | TAKEN(me) -> HELD(me)   | the same: the item is the lease's from here on, and its record only waits to be DONE                      |
// | HELD(me) -> FREE        | the same, after ACKS = HELD_ACKS + 1: acknowledged, and finished in the same step; or, after ACKS = HELD_ACKS, got |
// | HELD(me) -> RETURNED    | the same: given back                                                                                      |
// | HELD(dead) -> RETURNED  | the reaper, after it made the record DONE if the dead had not                                             |
// | TAKEN(dead) -> FREE     | the reaper                                                                                                |
// | RETURNED -> HELD(me)    | the next consumer, whoever it is                                                                          |
// Of ACKS and HELD_ACKS the one counts that nobody writes in that state: ACKS in FREE and TAKEN, HELD_ACKS in HELD and RETURNED.
export const K_LEASES = 32;
/** In a table (512 bytes): link to the next one, the queue, the first entry, and how many. */
export const LT_NEXT = 4;
export const LT_QUEUE = 5;
export const LT_BASE = 8;
export const LT_STRIDE = 8;
export const LT_COUNT = 15;
export const LT_WORDS = 128;

export const LS_STATE = 0;
/** The blob. */
export const LS_DATA = 1;
/** The record: lane, number, stamp, flags. */
export const LS_LANE = 2;
export const LS_NUMBER = 3;
export const LS_STAMP = 4;
export const LS_FLAGS = 5;
export const LS_ACKS = 6;
export const LS_HELD_ACKS = 7;

export const LS_FREE = 0;
export const LS_TAKEN = 1;
export const LS_HELD = 2;
export const LS_RETURNED = 3;

// ── pipe ───────────────────────────────────────────────────────────────────────────────────────────────────────────
//
// A pipe is one or two directions, each a queue (the words and nodes above, of kind K_DIRECTION), and two ends. An end is a block of its own, so
// that its nodes say who has that end: when nobody has, it is freed, and that is what the other side finds. An end keeps its directions.
/** In a direction: its receiving and its sending end, each a block and its generation. Set before anybody else sees the pipe. */
export const D_RECEIVER = 20;
export const D_SENDER = 22;
/** In an end: the direction that it receives from and the one that it sends to, 0 if none, each with its generation; 0 once let go. */
export const EN_IN = 4;
export const EN_OUT = 6;

// transfer: a message too large to lie in a direction. Its sender fills slots that its receiver empties; a record in the direction says that it
// waits to be received, and may say so more than once: who changes RECEIVER from 0 is the receiver, whatever became of the record.
//
// | word        | change                     | by whom                                                                          |
// |-------------|----------------------------|----------------------------------------------------------------------------------|
// | TR_STATE    | OPEN -> DONE               | the receiver, when it hands the whole message to its program                     |
// |             | OPEN -> CANCELLED          | the sender, at a time-out or abort; who scrubs the dead sender                   |
// | TR_RECEIVER | 0 -> token                 | who receives; it has a node in the block by then                                 |
// |             | token -> TR_ABANDONED      | the receiver, when it lets go of its end; who scrubs the dead receiver           |
// |             | TR_ABANDONED -> 0          | the sender, once FILLED and TAKEN are 0: it sends again from the first byte      |
// | TR_FILLED   | + 1                        | the sender, when a slot is written                                               |
// | TR_TAKEN    | + 1                        | the receiver, when a slot is read                                                |
// | TR_*_WAITS  | set / cleared              | as a queue's waiters flag: who waits / who then wakes                            |
export const TR_STATE = 4;
export const TR_RECEIVER = 6;
export const TR_SENDER = 7;
export const TR_FILLED = 8;
export const TR_TAKEN = 9;
/** How the message is cut into parts. */
export const TR_KIND = 10;
/** Bytes of the first part, and of the message, each as the two halves of a float. Never change. */
export const TR_FIRST = 32;
export const TR_LENGTH = 34;
export const TR_SENDER_WAITS = 36;
export const TR_RECEIVER_WAITS = 37;
export const TR_DATA = 64;
export const TR_OPEN = 0;
export const TR_DONE = 1;
export const TR_CANCELLED = 2;
export const TR_ABANDONED = -1;
/** Bytes of a slot, and how many there are. A piece never crosses from one part of a message into the next. */
export const TR_SLOT_BYTES = 512 * 1024;
export const TR_SLOTS = 4;
