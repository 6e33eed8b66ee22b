/*
 * The event: EventCore of multiprocessing/synchronize/event.ts, one setter and several waiters.
 *
 * An agent's rest of waiting is as in waits.pml; here it is reduced to what the event needs, as wakeAll wakes everybody
 * and nothing is taken: a node that is IDLE, WAITING or WOKEN, and a sleeper that comes when its node says WOKEN.
 *
 * Checked: set() ends the wait of each who waited at that moment, even if clear() follows at once. The broken variants:
 *   BROKEN_LOOK   a waiter sets the flag without looking again
 *   BROKEN_EPOCH  a waiter looks only whether the event is set
 *   BROKEN_STALE  a waiter looks again with the epoch of that moment instead of the one in which it came
 */
#ifndef AGENTS
#define AGENTS 3
#endif
#define IDLE 0
#define WAITING 1
#define WOKEN 2
byte state[AGENTS];

/* O_WORD: epoch, E_SET, E_WAITERS */
byte epoch;
bit isSet, waiters;

/* The epoch in which each waiter came, for the check. */
byte came[AGENTS];

/* EventCore.set and Waits.wakeAll, then EventCore.clear, again and again; the event is left cleared. */
active proctype setter() {
  byte sets = 2;
  byte k;
  bit wake;
  do
  :: sets == 0 -> break
  :: else ->
    d_step {
      wake = waiters;
      epoch++;
      isSet = 1;
      waiters = 0;
      sets--
    };
    if
    :: wake ->
      k = 0;
      do
      :: k < AGENTS ->
        d_step {
          if
          :: state[k] == WAITING -> state[k] = WOKEN
          :: else
          fi;
          k++
        }
      :: else -> break
      od
    :: else
    fi;
    isSet = 0
  od
}

/* Event.wait: WaitList.wait, #publish and, once woken, service. */
active [AGENTS] proctype waiter() {
  byte me = _pid - 1;
  byte mine;
  bit there;
  if
  :: isSet -> goto done
  :: else
  fi;
  d_step { mine = epoch; came[me] = epoch };
publish:
  state[me] = WAITING;
#ifdef BROKEN_STALE
  mine = epoch;
#endif
  d_step {
#ifdef BROKEN_LOOK
    there = 0;
#else
#ifdef BROKEN_EPOCH
    there = isSet;
#else
    there = (isSet || epoch != mine);
#endif
#endif
    if
    :: !there -> waiters = 1
    :: else
    fi
  };
  if
  :: there -> goto satisfied
  :: else
  fi;
  /* Asleep. After the last set nobody need go on who came after it: that is an end, and only that. */
  if
  :: state[me] == WOKEN
  :: came[me] == 2 && epoch == 2 && state[me] == WAITING -> goto done
  fi;
  d_step {
#ifdef BROKEN_EPOCH
    there = isSet
#else
    there = (isSet || epoch != mine)
#endif
  };
  if
  :: there
  :: else -> goto publish
  fi;
satisfied:
  state[me] = IDLE;
done:
  skip
}
