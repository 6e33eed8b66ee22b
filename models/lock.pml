/*
 * The lock: LockCore of multiprocessing/synchronize/lock_core.ts over the waiting of waits.pml.
 *
 * Checked: two living agents never hold it; a waiter never sleeps on for want of a wake-up; the lock of a killed owner
 * goes to the next. The broken variants, each of which must be caught:
 *   BROKEN_TAKE       takes by a load and a store
 *   BROKEN_LOOK       a waiter sets the flag without looking again
 *   BROKEN_RING       the doorbell's word is changed whatever its epoch
 *   BROKEN_OVERWRITE  a wake-up between a look and the next WAITING is overwritten
 *   BROKEN_FLAG       a woken waiter takes the free lock without the flag
 *   BROKEN_PASS       what an aborted waiter passes on leaves no flag behind
 *   BROKEN_RESERVE    a release leaves the lock reserved for nobody
 *   BROKEN_DEAD       nobody looks whether the owner lives
 */
#define W 1
#define A 2
#define R 4
#define OWNER(word) ((word) >> 3)
#define MINE ((me + 1) << 3)

#ifdef BROKEN_FLAG
#define FLAG 0
#else
#define FLAG 1
#endif

/* O_WORD */
byte word;

#include "waits.pml"

inline enter() {
  assert(!inside[0] && !inside[1] && !inside[AGENTS - 1]);
  inside[me] = 1;
  took = 1;
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

/* LockCore.attempt */
inline attempt(mayTakeReserved) {
  took = 0;
#ifdef BROKEN_TAKE
  there = (word == 0);
  if
  :: there -> d_step { word = MINE; enter() }
  :: else
  fi;
#else
  d_step {
    if
    :: word == 0 -> word = (mayTakeReserved && FLAG -> MINE | W : MINE); enter()
    :: OWNER(word) == 0 && word != 0 && (mayTakeReserved || !(word & R)) -> word = MINE | W; enter()
    :: else -> seen = word
    fi
  };
#endif
  do
  :: took || OWNER(seen) != 0 -> break
  :: else ->
    isStale();
    if
    :: !there -> break
    :: else ->
      d_step {
        if
        :: word == seen && word == 0 -> word = MINE; enter()
        :: word == seen && word != 0 -> word = MINE | W; enter()
        :: else -> seen = word
        fi
      }
    fi
  od;
  seen = 0
}

/* LockCore.mark */
inline mark(mayTakeReserved) {
#ifdef BROKEN_LOOK
  d_step { word = word | W; there = 0 }
#else
  d_step {
    there = (OWNER(word) == 0 && (mayTakeReserved || !(word & R)));
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

/* LockCore.#wake */
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
        there = (OWNER(word) == 0 && (word & W) && (word & R));
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

/* LockCore.pass */
inline pass() {
#ifdef BROKEN_PASS
  mark(0);
  there = (OWNER(word) == 0);
#else
  d_step {
    there = (OWNER(word) == 0);
    word = word | W
  };
#endif
  if
  :: there -> wake()
  :: else
  fi
}

/* LockCore.release */
inline release() {
  d_step {
    assert(OWNER(word) == me + 1);
    inside[me] = 0;
    there = (word & W);
    word = word & R;
    PROGRESS
  };
  if
  :: there -> wake()
  :: else
  fi
}

/* LockCore.check, Agents.reap and the scrubbing of the node */
inline check() {
  d_step { seen = word };
#ifndef BROKEN_DEAD
  if
  :: OWNER(seen) != 0 && dead[OWNER(seen) - 1] ->
    dies = OWNER(seen) - 1;
    abandon();
    d_step {
      there = !reaped[dies] && (reaper[dies] == 0 || dead[reaper[dies] - 1]);
      if
      :: there -> reaper[dies] = me + 1
      :: else
      fi
    };
    if
    :: there ->
      state[dies] = IDLE;
      abandon();
      word = word & ~R;
      pass();
      reaped[dies] = 1
    :: else
    fi
  :: OWNER(seen) == 0 && (seen & R) ->
    reservedTicks++;
    if
    :: reservedTicks > 1 -> word = word & ~R
    :: else
    fi
  :: else
  fi;
#endif
  atomic { seen = 0; dies = 0; there = 0 }
}

inline abandon() {
  d_step {
    if
    :: OWNER(word) == dies + 1 -> word = (word & W) | A; PROGRESS
    :: else
    fi
  }
}

active [AGENTS] proctype agent() {
  LOCALS;
  byte seen, dies, reservedTicks;
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
    :: todo == 0 && !inside[me] && waiting == 0 -> finished[me] = 1; break
    od
  }
#if KILLS > 0
  unless { dead[me] }
#endif
}
