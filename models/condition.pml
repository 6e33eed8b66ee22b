/*
 * The condition: ConditionCore and Condition.wait of multiprocessing/synchronize/condition.ts, and Call of
 * multiprocessing/core/calls.ts. Consumers wait for items as `waitFor` does; the last agent is the producer, which puts
 * each of them and notifies, with the lock held.
 *
 * The lock is one step here, as lock.pml is its proof; a killed owner's is free at once. An agent has one call at a time,
 * so its node stands for the call's: IDLE, WAITING (CALL_WAITING) or WOKEN (CALL_WOKEN).
 *
 * Checked: notify(n) wakes n living calls, or all if there are fewer, and each time the one that has waited longest; a
 * consumer never sleeps on while there is an item: so no notification is lost to a time-out, an abort or a kill before
 * `wait` has the lock back. The broken variants, each of which must be caught:
 *   BROKEN_STAND     the lock is released before the call says that it waits
 *   BROKEN_LOOK      a call does not look once more before it sleeps
 *   BROKEN_WITHDRAW  a time-out does not see that the call was woken
 *   BROKEN_CLOSE     the node is given back before the lock is taken back
 *   BROKEN_PASS      the reaper passes nothing on
 *   BROKEN_CHECK     nobody who waits looks whether those who were woken live
 */
#ifndef ITEMS
#define ITEMS 1
#endif
/* How many of them each notify is for. */
#ifndef NOTIFY
#define NOTIFY 1
#endif
#define PRODUCER (AGENTS - 1)
/* An item that is put and not notified, by a producer killed in between, is for who finds the lock abandoned. */
#define KILLABLE(who) (who != PRODUCER)
#include "waits.pml"

byte lock;
byte items;

inline acquire() {
  atomic { lock == 0 || dead[lock - 1] -> lock = me + 1 }
}

inline release() {
  d_step { lock = 0; PROGRESS }
}

/* Call.stand */
inline stand() {
  d_step { mine = tickets; tickets++ };
  d_step { ticket[me] = mine; state[me] = WAITING; mine = 0 }
}

/*
 * ConditionCore.notify and #waiting: what a scan finds, and of that the call with the lowest ticket first. `but` is the
 * call that was woken and died, or NOBODY.
 */
inline notify(n, but) {
  woken = 0;
  do
  :: woken == n -> break
  :: else ->
    k = 0;
    there = 0;
    do
    :: k < AGENTS ->
      d_step {
        if
        :: state[k] == WAITING && !reaped[k] && k != but && !(known & (1 << k)) -> found[k] = ticket[k]; there = 1
        :: else -> found[k] = 0
        fi;
        k++
      }
    :: else -> break
    od;
    if
    :: !there -> break
    :: else
    fi;
    do
    :: best = NOBODY;
      d_step {
        k = 0;
        do
        :: k < AGENTS ->
          if
          :: found[k] != 0 && (best == NOBODY || found[k] < found[best]) -> best = k
          :: else
          fi;
          k++
        :: else -> break
        od;
        k = 0
      };
      if
      :: best == NOBODY || woken == n -> break
      :: else
      fi;
      /* Agents.isDead */
      took = dead[best];
      if
      :: took -> known = known | (1 << best)
      :: else ->
        d_step {
          took = (state[best] == WAITING && ticket[best] == found[best]);
          if
          :: took ->
            state[best] = WOKEN;
            woken++;
            /* With the lock held nobody new stands: who waited longer would have been found. */
            k = 0;
            do
            :: k < AGENTS ->
              assert(but != NOBODY || state[k] != WAITING || dead[k] || ticket[k] > ticket[best]);
              k++
            :: else -> break
            od;
            k = 0;
            PROGRESS
          :: else
          fi
        };
        if
        :: took -> ring(best)
        :: else
        fi
      fi;
      d_step {
        found[best] = 0;
        took = 0;
        /* With one to wake the scan keeps only the first. */
        there = (n - woken > 1)
      };
      if
      :: !there -> break
      :: else
      fi
    od
  od;
  k = 0;
  d_step {
    do
    :: k < AGENTS ->
      assert(but != NOBODY || woken == n || state[k] != WAITING || dead[k]);
      found[k] = 0;
      k++
    :: else -> break
    od;
    k = 0; best = 0; took = 0; there = 0
  }
}

/* Agents.reap of `dies`: the condition's rule passOn, then the scrubbing of the node. */
inline reap() {
  d_step {
    took = (!reaped[dies] && (reaper[dies] == 0 || dead[reaper[dies] - 1]));
    if
    :: took -> reaper[dies] = me + 1
    :: else
    fi
  };
  if
  :: took ->
    took = (state[dies] == WOKEN);
#ifndef BROKEN_PASS
    if
    :: took -> known = known | (1 << dies); notify(1, dies)
    :: else
    fi;
#endif
    d_step { state[dies] = IDLE; reaped[dies] = 1; known = known & ~(1 << dies) }
  :: else
  fi;
  took = 0
}

/* ConditionCore.check, for each agent */
inline check() {
  dies = 0;
  do
  :: dies < AGENTS ->
    if
    :: state[dies] == WOKEN && dead[dies] && !reaped[dies] -> reap()
    :: else
    fi;
    dies++
  :: else -> break
  od;
  atomic { dies = 0; known = 0; woken = 0 }
}

#define CALL_LOCALS \
  byte me = _pid - 1; \
  byte mine, k, best, known, dies, woken; \
  byte found[AGENTS]; \
  byte waiting, next; \
  bit there, took, rang, selfWake

/* Condition.waitFor */
active [AGENTS - 1] proctype consumer() {
  CALL_LOCALS;
  bit left;
  {
    next = 0;
again:
    waiting = 0;
    acquire();
    d_step {
      state[me] = IDLE;
      took = (left || items > 0);
      if
      :: !left && items > 0 -> items--
      :: else
      fi
    };
    if
    :: took -> goto done
    :: else
    fi;
    /* Condition.wait */
#ifdef BROKEN_STAND
    release();
    stand();
#else
    stand();
    release();
#endif
    waiting = 1;
    arm();
#ifndef BROKEN_LOOK
    if
    :: state[me] != WAITING -> goto settled
    :: else
    fi;
#endif
    do
    /* Call.look */
    :: wire[me] ->
      wire[me] = 0;
      arm();
      if
      :: state[me] != WAITING -> break
      :: else
      fi
    /* Call.#end */
    :: atomic { aborts > 0 -> aborts-- };
      d_step {
#ifdef BROKEN_WITHDRAW
        left = 1;
        state[me] = IDLE
#else
        if
        :: state[me] == WAITING -> left = 1; state[me] = IDLE
        :: else
        fi
#endif
      };
      break
    /* Call.tick */
    :: ticksLeft[me] > 0 ->
      ticksLeft[me]--;
      arm();
#ifndef BROKEN_CHECK
      check();
#endif
      if
      :: state[me] != WAITING -> break
      :: else
      fi
    /* The end, and right, if nothing more comes. */
    :: finished[PRODUCER] && items == 0 && state[me] == WAITING -> goto gone
    od;
settled:
#ifdef BROKEN_CLOSE
    state[me] = IDLE;
#endif
    goto again;
done:
    waiting = 0;
    release();
gone:
    state[me] = IDLE;
    finished[me] = 1
  }
#if KILLS > 0
  unless { dead[me] }
#endif
}

active proctype producer() {
  CALL_LOCALS;
  byte put;
  do
  :: put == ITEMS -> break
  :: else ->
    acquire();
    d_step { items = items + NOTIFY; put = put + NOTIFY };
    notify(NOTIFY, NOBODY);
    d_step { woken = 0; mine = known; known = 0 };
    /* Those who were found dead are reaped. */
    dies = 0;
    do
    :: dies < AGENTS ->
      if
      :: (mine & (1 << dies)) -> reap(); woken = 0
      :: else
      fi;
      dies++
    :: else -> break
    od;
    atomic { dies = 0; mine = 0; known = 0 };
    release()
  od;
  finished[me] = 1
}
