/*
 * What all models of waiting share: the waiters of an agent, its node, its doorbell, and how it is woken.
 *
 * Stands for multiprocessing/core/waits.ts: each inline names the method that it is. One process is one agent, that
 * is one JavaScript thread: what its loop calls runs to its end, interleaved with the other agents' steps.
 *
 * A d_step is one access of shared memory with the local work around it. A compare-exchange loop that repeats until
 * its word is the one that it decided upon (`mark`, `release`) takes effect at its last access, as a whole: one d_step.
 * Numbers that never repeat need no counter here: "the doorbell's epoch is still the one that I saw" is one bit of
 * `sawBell`, which arming clears.
 *
 * Nothing happens by itself that could hide a lost wake-up: without kills there is no tick at all, so a waiter whose
 * wake-up is lost sleeps for ever, which spin reports as an invalid end state. Kills and time-outs are bounded, and
 * may be given up at any moment, as one that is still possible would keep a stuck state from being an end.
 * After a kill each agent has TICKS ticks after the last change that others made.
 */
/* 2 to 4 */
#ifndef AGENTS
#define AGENTS 3
#endif
/* Waits that each agent begins. */
#ifndef ROUNDS
#define ROUNDS 1
#endif
/* And the first agent this many more. */
#ifndef MORE
#define MORE 0
#endif
/* How many of them at once. */
#ifndef LOCAL
#define LOCAL 1
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef ABORTS
#define ABORTS 0
#endif
/* One to find the dead; a reservation is given up at the second. */
#ifndef TICKS
#define TICKS 2
#endif

/* A woken agent that has not come for 2 ms is taken for busy. */
#ifndef SLOW
#define SLOW 0
#endif
/* Whether a waiter may have been passed over for 1 ms. */
#ifndef RESERVING
#define RESERVING 0
#endif

#ifndef KILLABLE
#define KILLABLE(who) 1
#endif

/* Whether an agent waits on the channel that is looked at, where an object has two. */
#ifndef SAME
#define SAME(who) 1
#endif

#define NOBODY AGENTS

/* N_CHANNEL of each agent's node: state and ticket. */
#define IDLE 0
#define WAITING 1
#define WOKEN 2
/* What an event of an agent leads to. */
#define NOTHING 0
#define SERVICE 1
#define PUBLISH 2
#define EMPTY 3
byte state[AGENTS];
byte ticket[AGENTS];
byte tickets = 1;

/* A_BELL, which ringers saw its present epoch, and whether something lies in the doorbell's socket. */
#define AWAKE 0
#define ARMED 1
#define RUNG 2
byte bell[AGENTS];
byte sawBell[AGENTS];
bit wire[AGENTS];

/* What the agent has taken and not given back. */
byte inside[AGENTS];
bit dead[AGENTS];
bit finished[AGENTS];
/* Scrubbed: the node's HOLDER is gone. */
bit reaped[AGENTS];
byte reaper[AGENTS];

byte kills = KILLS;
byte aborts = ABORTS;
byte ticksLeft[AGENTS];

/* After a kill, each change gives all the others their ticks again. */
#define PROGRESS \
  if \
  :: KILLS > kills -> \
    ticksLeft[0] = TICKS; \
    ticksLeft[1] = TICKS; \
    ticksLeft[AGENTS - 2] = TICKS; \
    ticksLeft[AGENTS - 1] = TICKS \
  :: else \
  fi

/* Waits.#arm */
inline arm() {
  d_step {
    bell[me] = (waiting > 0 -> ARMED : AWAKE);
    sawBell[me] = 0
  }
}

/* Waits.ring: the byte before the word, so that a ringer killed in between costs a byte and not a wake-up. */
inline ring(who) {
  if
  :: who == me -> selfWake = 1
  :: else ->
    d_step {
      rang = (bell[who] == ARMED);
      if
      :: rang -> sawBell[who] = sawBell[who] | (1 << me)
      :: else
      fi
    };
    if
    :: rang ->
#ifdef BROKEN_RING
      /* Marked as rung first, whatever the epoch: if the owner arms in between, the mark of the old ring stands. */
      d_step { wire[who] = 1 };
      d_step { bell[who] = RUNG; rang = 0 }
#else
      d_step { wire[who] = 1 };
      d_step {
        if
        :: bell[who] == ARMED && (sawBell[who] & (1 << me)) -> bell[who] = RUNG
        :: else
        fi;
        sawBell[who] = sawBell[who] & ~(1 << me);
        rang = 0
      }
#endif
    :: else
    fi
  fi
}

/* Waits.wakeNext; `none` says that nobody was woken and nobody is on the way. */
inline wakeNext() {
  none = 0;
  do
  :: best = NOBODY;
    lowest = 0;
    k = 0;
    do
    :: k < AGENTS ->
      atomic {
        if
        :: reaped[k] || state[k] == IDLE || !SAME(k)
        /* Fresh: it is on its way. Or taken for slow, and then another is woken. */
        :: !reaped[k] && SAME(k) && state[k] == WOKEN -> best = NOBODY; lowest = 0; k = AGENTS + 1
        :: !reaped[k] && SAME(k) && state[k] == WOKEN && (SLOW || dead[k])
        :: else ->
          if
          :: state[k] == WAITING && (best == NOBODY || ticket[k] < lowest) -> best = k; lowest = ticket[k]
          :: else
          fi
        fi;
        k++
      }
    :: else -> break
    od;
    if
    :: best == NOBODY -> none = (k == AGENTS); break
    :: else ->
      d_step {
        if
        :: state[best] == WAITING && ticket[best] == lowest -> state[best] = WOKEN; k = 0
        :: else -> k = 1
        fi
      };
      if
      :: k == 0 -> ring(best); break
      :: else
      fi
    fi
  od;
  atomic { k = 0; best = 0; lowest = 0 }
}

/* WaitList.#unlink of the first or second of this agent's waiters. */
inline unlink(second) {
  d_step {
    if
    :: !second -> list[0] = list[1]
    :: else
    fi;
    list[1] = 0;
    waiting--
  }
}

/* WaitList.#end: a time-out or an abort. */
inline end(second) {
  unlink(second);
  if
  :: second
  :: !second && waiting == 0 -> next = EMPTY
  :: else ->
    d_step {
      woken = (state[me] == WOKEN);
      next = (woken -> SERVICE : PUBLISH)
    }
  fi
}

/* WaitList.wait, after an attempt that failed. */
inline wait() {
  d_step {
    list[waiting] = tickets;
    tickets++;
    waiting++
  };
  if
  :: waiting == 1 ->
    next = PUBLISH;
    /* Waits.add */
    if
    :: bell[me] != ARMED -> arm()
    :: else
    fi
  :: else
  fi
}

/* Waits.#look */
inline look() {
  selfWake = 0;
  arm();
  d_step {
    woken = (waiting > 0 && state[me] == WOKEN);
    next = (woken -> SERVICE : NOTHING)
  }
}

/* WaitList.service: what each event may end in. */
inline service() {
  do
  :: waiting == 0 -> break
  :: else ->
    attempt(woken);
    if
    :: took -> unlink(0)
    :: else ->
      if
      :: woken && RESERVING -> reserve()
      :: true
      fi;
      break
    fi
  od;
  pass();
  next = PUBLISH
}

/* WaitList.#publish: says WAITING for the first waiter, sets the flag, and looks once more. */
inline publish() {
  do
  :: waiting == 0 -> next = EMPTY; break
  :: else ->
    d_step {
#ifndef BROKEN_OVERWRITE
      /* A wake-up that came since this agent looked must not be overwritten as if it had not come. */
      if
      :: state[me] == WOKEN -> woken = 1
      :: else
      fi;
#endif
      state[me] = WAITING;
      ticket[me] = list[0]
    };
    mark(woken);
    if
    :: !there -> next = NOTHING; break
    :: else ->
      attempt(woken);
      if
      :: took -> unlink(0)
      :: else
      fi
    fi
  od
}

/* WaitList.#empty: woken, and nobody here wants it any more. */
inline retire() {
  d_step {
    there = (state[me] == WOKEN);
    state[me] = IDLE;
    ticket[me] = 0;
    next = NOTHING
  };
  if
  :: there -> pass()
  :: else
  fi
}

/* What an event leads to; and then nothing that this agent remembers tells one way here from another. */
inline finish() {
  if
  :: next == SERVICE -> service()
  :: else
  fi;
  if
  :: next == PUBLISH -> publish()
  :: else
  fi;
  if
  :: next == EMPTY -> retire()
  :: else
  fi;
  atomic { woken = 0; took = 0; there = 0; none = 0 }
}

#define LOCALS \
  byte me = _pid - 1; \
  byte list[2]; \
  byte waiting, next, best, lowest, k; \
  byte todo = (_pid == 1 -> ROUNDS + MORE : ROUNDS); \
  bit woken, took, there, none, rang, selfWake

/* Kills, and the giving up of what may still happen. A killed agent takes no further step. */
active proctype world() {
  byte who;
  do
  :: kills == 0 && aborts == 0 -> break
  :: kills > 0 ->
    if
    :: who = 0
    :: who = 1
    :: who = AGENTS - 2
    :: who = AGENTS - 1
    fi;
    d_step {
      if
      :: !dead[who] && !finished[who] && KILLABLE(who) -> dead[who] = 1; kills--; inside[who] = 0
      :: else
      fi;
      PROGRESS;
      who = 0
    }
  :: kills > 0 -> kills--
  :: atomic { aborts > 0 -> aborts-- }
  od
}
