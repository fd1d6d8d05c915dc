/*
 * The lock of lib/shared_lock.ts with the intents of lib/core.ts and lib/repair.ts, for Spin.
 *
 * To run it (Debian: apt-get install spin gcc), from this folder; test/lock_model.test.ts does the first
 * two where Spin is installed:
 *
 *   spin -a lock.pml && gcc -O2 -DSAFETY -DNOCLAIM -DCOLLAPSE -o pan pan.c && ./pan -m300000
 *   spin -DTHREADS=4 -DSLOTS=3 -DDEATHS=1 -DNO_GENERATION -a lock.pml && (the same)
 *   spin -DTHREADS=2 -a lock.pml && gcc -O2 -DNFAIR=4 -DCOLLAPSE -o pan pan.c && ./pan -a -f -m3000000 -N taken
 *
 * Modelled: THREADS attachments share SLOTS slots. A thread attaches (in one step here), takes the lock (fast or
 * slow path, contended bit, futex with compare-and-wait, wake-ups of one or of all, time-outs), has priority
 * when its patience ends (at any time), makes a transition (intent, system call, publication), releases in
 * two steps, and detaches. At every step at most DEATHS threads die, heirs among them. An heir repairs, sweeps,
 * and goes on. A futex wait can time out at any moment, as slices do.
 *
 * Checked: mutual exclusion among the living; one heir at a time; an intent is repaired before the next
 * transition; chunk map and OS agree whenever the lock is free; no deadlock (invalid end states); under weak
 * fairness every thread comes to its end, so a free lock is taken and a dead owner inherited.
 *
 * Results (Spin 6.5.2): 3 threads, 2 deaths: 260,370 states, all seen, no error. Fairness with 2 threads and 2
 * deaths: 27,671 states, all seen, no error. Without generations the lock is stolen from a live owner
 * (assertion inside == 1, 72 steps); with them, 4 threads, 3 slots and 1 death: 70,163,792 states, all seen, no
 * error (207 s, 3.8 GiB). Fairness with 3 threads was not finished.
 *
 * Not modelled: slots that are taken over, views, heaps, system calls that fail, weak memory (all Atomics of
 * JavaScript are sequentially consistent).
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef SLOTS
#define SLOTS 2
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#define NONE 255

/* A ticket is (generation, slot); 0 is nobody. */
#ifdef NO_GENERATION
#define TICKET(slot) (1 + slot)
#else
#define TICKET(slot) (1 + slot + SLOTS * generation[slot])
#endif
#define SLOT_OF(ticket) ((ticket - 1) % SLOTS)

byte lock = 0;            /* ticket of the owner */
bool contended = false;
byte prio = 0;        /* ticket */
byte occupant[SLOTS];     /* thread + 1, or 0 */
byte generation[SLOTS];
bool dead[THREADS];
byte deaths = 0;

/* Futex queues: who sleeps on which word, and who has been woken. */
bool sleepsOnLock[THREADS];
bool sleepsOnPriority[THREADS];

/* What the lock protects. */
bool intent = false;
bool os = false;          /* the OS holds the memory */
bool map = false;         /* the chunk map says so */
byte inside = 0;          /* live threads that believe to own the lock */
byte heirs = 0;           /* live ones that have inherited and not repaired yet */

#define ALIVE(slot) (occupant[slot] != 0 && !dead[occupant[slot] - 1])
#define TICKET_ALIVE(ticket) (TICKET(SLOT_OF(ticket)) == ticket && ALIVE(SLOT_OF(ticket)))

/* Dies, or does not: at every place where a thread can be terminated. */
inline mayDie() {
  if
  :: deaths < DEATHS -> atomic { deaths++; dead[me] = true; sleepsOnLock[me] = false; sleepsOnPriority[me] = false;
       if :: isInside -> inside-- :: else fi;
       if :: isHeir -> heirs-- :: else fi;
       isInside = false; isHeir = false;
       goto died }
  :: true
  fi
}

inline forgetPriority(ticket) {
  atomic {
    if
    :: prio == ticket -> prio = 0;
       for (other : 0 .. THREADS - 1) { sleepsOnPriority[other] = false }
    :: else
    fi;
    other = 0
  }
}

inline wakeOneOnLock() {
  /* Any one: a futex does not say whom. */
  if
  :: sleepsOnLock[0] -> sleepsOnLock[0] = false
  :: sleepsOnLock[1] -> sleepsOnLock[1] = false
#if THREADS > 2
  :: sleepsOnLock[2] -> sleepsOnLock[2] = false
#endif
#if THREADS > 3
  :: sleepsOnLock[3] -> sleepsOnLock[3] = false
#endif
  :: else
  fi
}

inline enterAs(heir) {
  inside++; isInside = true;
  assert(inside == 1);
  if :: heir -> heirs++; isHeir = true; assert(heirs == 1) :: else fi
}

/* A transition of two halves, in either direction, and the repair of whatever is left of one. */
inline repairAndSweep() {
  if
  :: intent ->
     mayDie();
     map = os;            /* the OS is asked what holds */
     mayDie();
     intent = false
  :: else
  fi;
  assert(map == os);
  for (other : 0 .. SLOTS - 1) {
    if
    :: atomic { occupant[other] != 0 && dead[occupant[other] - 1] -> victim = occupant[other] }
       mayDie();
       /* The swap: only if the slot has not been taken over meanwhile. */
       atomic { if :: occupant[other] == victim -> occupant[other] = 0 :: else fi; victim = 0 }
    :: else
    fi
  }
  other = 0;
  atomic { if :: isHeir -> heirs--; isHeir = false :: else fi }
}

proctype thread(byte me) {
  byte slot = NONE, ticket = 0, seen = 0, other = 0, victim = 0;
  bool isInside = false, isHeir = false, wasContended = false;

  /* Attach: a free slot. With none free the thread ends: the table is full. */
  atomic {
    if
    :: occupant[0] == 0 -> slot = 0
    :: occupant[0] != 0 && occupant[1] == 0 -> slot = 1
#if SLOTS > 2
    :: occupant[0] != 0 && occupant[1] != 0 && occupant[2] == 0 -> slot = 2
#endif
    :: else -> goto ended
    fi;
    occupant[slot] = me + 1;
    generation[slot]++;
    ticket = TICKET(slot)
  }
  mayDie();

  /* The fast path. */
  if
  :: atomic { prio == 0 && lock == 0 -> lock = ticket; contended = false; enterAs(false) } goto owner
  :: true
  fi;

slow:
  mayDie();
  if
  :: atomic { lock == 0 && (prio == 0 || prio == ticket) ->
       lock = ticket; contended = true; enterAs(false) }
     mayDie();
     forgetPriority(ticket);
     goto owner
  :: atomic { lock == 0 && prio != 0 && prio != ticket ->
       seen = prio; sleepsOnPriority[me] = true }
     if
     :: !sleepsOnPriority[me]
     :: atomic { sleepsOnPriority[me] = false }       /* time-out */
        if
        :: atomic { !TICKET_ALIVE(seen) -> skip } mayDie(); forgetPriority(seen)
        :: atomic { TICKET_ALIVE(seen) -> skip }
        fi
     fi;
     seen = 0
  :: atomic { lock != 0 && lock != ticket -> seen = lock; contended = true; sleepsOnLock[me] = true }
     if
     :: !sleepsOnLock[me]                              /* woken */
     :: atomic { sleepsOnLock[me] = false }            /* time-out */
        if
        :: atomic { !TICKET_ALIVE(seen) -> skip }
           /* Any time may pass here. Then the swap. */
           mayDie();
           if
           :: atomic { lock == seen && contended -> lock = ticket; enterAs(true) }
              mayDie();
              forgetPriority(ticket);
              goto owner
           :: else
           fi
        :: atomic { TICKET_ALIVE(seen) -> skip }
        fi
     fi;
     seen = 0
  fi;
  /* Patience may have ended. */
  if
  :: atomic { prio == 0 -> prio = ticket }
  :: true
  fi;
  goto slow;

owner:
  seen = 0;
  mayDie();
  assert(lock == ticket);
  if
  :: isHeir || intent -> repairAndSweep()
  :: else
  fi;
  assert(!intent && map == os);
  intent = true; mayDie();
  if
  :: map -> map = false; mayDie(); os = false      /* taking away: retract first */
  :: else -> os = true; mayDie(); map = true       /* giving: publish last */
  fi;
  mayDie();
  intent = false;
  mayDie();
  /* Release: the exchange, then the wake-up. */
  atomic {
    assert(lock == ticket);
    wasContended = contended; lock = 0; contended = false;
    inside--; isInside = false
  }
  mayDie();
  if
  :: wasContended -> atomic {
       if
       :: prio == 0 -> wakeOneOnLock()
       :: else -> for (other : 0 .. THREADS - 1) { sleepsOnLock[other] = false }
       fi;
       other = 0 }
  :: else
  fi;
  mayDie();
  /* Detach, by its own swap. */
  atomic { if :: occupant[slot] == me + 1 -> occupant[slot] = 0 :: else -> assert(false) fi }
  goto ended;

died: skip;
ended: skip
}

init {
  atomic {
    byte id;
    for (id : 0 .. THREADS - 1) { run thread(id) }
  }
}

/* A lock that is free, with live threads asleep or asking, does not stay so for ever; nor one of the dead. */
ltl taken { <> [] (_nr_pr == 1) }
