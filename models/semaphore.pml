/*
 * The semaphore: PlainCore of multiprocessing/synchronize/semaphore_core.ts over the waiting of waits.pml.
 *
 * Checked: there are never more permits out than there were; a waiter never sleeps on while there is one, for want of a
 * wake-up; a killed agent costs the permit that it held, as in POSIX, and nothing else. The broken variants:
 *   BROKEN_TAKE       takes by a load and a store
 *   BROKEN_LOOK       a waiter sets the flag without looking again
 *   BROKEN_FLAG       a woken waiter takes a permit without the flag
 *   BROKEN_PASS       what an aborted waiter passes on leaves no flag behind
 *   BROKEN_RESERVE    a release leaves a permit reserved for nobody
 */
#ifndef PERMITS
#define PERMITS 1
#endif
#define W 1
#define R 2
#define ONE 4
#define VALUE(word) ((word) >> 2)

#ifdef BROKEN_FLAG
#define FLAG 0
#else
#define FLAG W
#endif

/* O_WORD */
byte word = PERMITS * ONE;

/* The permit of a killed holder is gone, and then it is right to wait for ever: only the others are killed here. */
#define KILLABLE(who) (inside[who] == 0)
#include "waits.pml"

inline enter() {
  inside[me]++;
  took = 1;
  assert(inside[0] + inside[1] + (AGENTS > 2 -> inside[AGENTS - 1] : 0) <= PERMITS);
  PROGRESS
}

/* reservationIsStale: nobody whom the reservation could be for can come. */
inline isStale() {
  k = 0;
  do
  :: k < AGENTS && (state[k] == IDLE || reaped[k] || dead[k]) -> k++
  :: else -> break
  od;
  there = (k == AGENTS);
  k = 0
}

/* SemaphoreCore.attempt */
inline attempt(mayTakeReserved) {
  took = 0;
#ifdef BROKEN_TAKE
  seen = word;
  if
  :: VALUE(seen) > 0 && (mayTakeReserved || !(seen & R)) ->
    d_step { word = ((seen - ONE) & ~R) | (mayTakeReserved -> FLAG : 0); enter() }
  :: else
  fi;
#else
  d_step {
    seen = word;
    if
    :: VALUE(seen) > 0 && (mayTakeReserved || !(seen & R)) ->
      word = ((seen - ONE) & ~R) | (mayTakeReserved -> FLAG : 0);
      enter()
    :: else
    fi
  };
#endif
  do
  :: took || VALUE(seen) == 0 -> break
  :: else ->
    isStale();
    if
    :: !there -> break
    :: else ->
      d_step {
        if
        :: word == seen -> word = (seen - ONE) & ~R; enter()
        :: else -> seen = word
        fi
      }
    fi
  od;
  seen = 0
}

/* SemaphoreCore.mark */
inline mark(mayTakeReserved) {
#ifdef BROKEN_LOOK
  d_step { word = word | W; there = 0 }
#else
  d_step {
    there = (VALUE(word) > 0 && (mayTakeReserved || !(word & R)));
    if
    :: !there -> word = word | W
    :: else
    fi
  }
#endif
}

inline reserve() {
  word = word | R
}

/* SemaphoreCore.#wake */
inline wake() {
  do
  :: wakeNext();
#ifdef BROKEN_RESERVE
    break
#else
    if
    :: !none -> break
    :: else ->
      d_step {
        there = (VALUE(word) > 0 && (word & W) && (word & R));
        word = word & ~R
      };
      if
      :: !there -> break
      :: else
      fi
    fi
#endif
  od
}

/* SemaphoreCore.pass */
inline pass() {
#ifdef BROKEN_PASS
  mark(0);
  there = (VALUE(word) > 0);
#else
  d_step {
    there = (VALUE(word) > 0);
    word = word | W
  };
#endif
  if
  :: there -> wake()
  :: else
  fi
}

/* SemaphoreCore.release */
inline release() {
  d_step {
    inside[me]--;
    there = (word & W);
    word = (word + ONE) & ~W;
    PROGRESS
  };
  if
  :: there -> wake()
  :: else
  fi
}

/* SemaphoreCore.check */
inline check() {
  if
  :: VALUE(word) == 0 || !(word & R) -> reservedTicks = 0
  :: else ->
    reservedTicks++;
    if
    :: reservedTicks > 1 -> word = word & ~R
    :: else
    fi
  fi
}

active [AGENTS] proctype agent() {
  LOCALS;
  byte seen, reservedTicks;
  {
    do
    :: atomic { todo > 0 && waiting < LOCAL -> todo-- };
      attempt(0);
      if
      :: !took -> wait()
      :: else
      fi;
      finish()
    :: inside[me] -> release(); finish()
    :: wire[me] || selfWake -> wire[me] = 0; look(); finish()
    :: atomic { aborts > 0 && waiting > 0 -> aborts-- }; end(0); finish()
    :: atomic { aborts > 0 && waiting > 1 -> aborts-- }; end(1); finish()
    :: waiting > 0 && ticksLeft[me] > 0 ->
      ticksLeft[me]--;
      arm();
      check();
      d_step { woken = (state[me] == WOKEN); next = SERVICE };
      finish()
    :: todo == 0 && inside[me] == 0 && waiting == 0 -> finished[me] = 1; break
    od
  }
#if KILLS > 0
  unless { dead[me] }
#endif
}
