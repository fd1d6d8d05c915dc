/*
 * The lock of lib/shared_state/shared_lock.ts with the intents of lib/transition/frame.ts, for Spin.
 *
 * To run it (Debian: apt-get install spin gcc), from this folder; test/shared_state/lock_model.test.ts runs smaller
 * ones, and the variants, where Spin is installed:
 *
 *   spin -a lock.pml && gcc -O2 -DSAFETY -DNOCLAIM -DCOLLAPSE -o pan pan.c && ./pan -w26
 *   spin -DNO_WORD_LOOK -DDEATHS=0 -DBREAKS=0 -a lock.pml && (the same)
 *
 * Modelled: THREADS attachments, each in its first call, thread 0 with the lock just taken (whoever takes it first is
 * called so); then COMEBACKS further calls of any of them, by the same attachment or by a new one in the lowest free
 * slot. A call is presence, the regained lock, fast path or slow path with priority, the look at Claim, a transition
 * in two halves under an intent, release. Before each step of any thread, at most DEATHS times, it dies; before each
 * step of a call, at most BREAKS times, an exception ends the call: presence is 0, and the lock kept if it was held,
 * or released with the intent left. Such a thread comes back or never does. Waiting ends when what a slice looks for
 * is there, at any moment, so wake-ups are left out: one that is lost costs a slice.
 *
 * Checked: mutual exclusion, and that the word is the owner's, among threads in a call; an intent is repaired before
 * the next transition; the chunk map and the OS agree whenever the lock is free and no intent left; no deadlock: while
 * a thread wants the lock, something will give it to one of them, whoever stays away for ever.
 *
 * Results (Spin 6.5.2; all states seen, no error), threads, comebacks, deaths, breaks:
 *
 *   3  1  1  1   14,409,181 states   24 s, 1.2 GiB       3  0  2  1      227,934
 *   3  2  0  0    8,625,461          16 s                3  0  0  2       41,927
 *   3  1  0  1    2,928,349           5 s                2  2  1  2      481,030
 *   3  1  1  0    2,695,490           5 s
 *
 * Variants, each without one protection; the checker refutes all but the last:
 *
 *   NO_GENERATION           a ticket is a slot: the lock is stolen from the next thread in a dead one's slot
 *   NO_CLAIM_LOOK           who has taken the lock does not look at Claim: stolen by a claimant that looked before
 *   NO_WORD_LOOK            … looks at Claim but not at the word after it: the claim may be over, the lock stolen
 *   NO_HEIR_LOOK            … looks at neither if it inherited from the dead: stolen by a claimant of its last call
 *   NO_RENEW                who lost the lock goes on under its old ticket: stolen by a claimant that looked before
 *   ABSENT_KEEPS_PRIORITY   a call that was broken off keeps its priority: nobody takes the free lock (deadlock)
 *   NO_CLAIM_FINALLY        a claim that was broken off stays: nobody takes the next lost lock (deadlock)
 *   PLAIN_RELEASE           release stores 0: no error, since only an owner releases, and only by a call that has it
 *
 * A thread that renews its ticket looks dead to others until it has swapped the new one in. While a claimant does not
 * get on, two others that each stop there for a slice could take the lock from each other for ever. Nobody is inside
 * meanwhile; GENERATIONS bounds how far that is followed (7 instead of 4: no error either).
 *
 * Not modelled: slots that are taken over, two attachments of one thread, views, heaps, system calls that fail, weak
 * memory (all Atomics of JavaScript are sequentially consistent).
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef COMEBACKS
#define COMEBACKS 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef BREAKS
#define BREAKS 1
#endif
#ifndef GENERATIONS
#define GENERATIONS 4
#endif

/* A ticket is (generation, slot); 0 is nobody. */
#ifdef NO_GENERATION
#define TICKET(slot) (1 + slot)
#else
#define TICKET(slot) (1 + slot + THREADS * generation[slot])
#endif
#define SLOT_OF(ticket) ((ticket - 1) % THREADS)

/* The words of the lock. */
byte lock = 0;            /* ticket of the owner */
bool contended = false;
byte prio = 0;            /* ticket */
byte claim = 0;           /* ticket */

/* The thread table. */
bool presence[THREADS];
byte occupant[THREADS];   /* of a slot: thread + 1, or 0 */
byte generation[THREADS];
bool dead[THREADS];

/* What the lock protects. */
bool intent = false;
bool differ = false;      /* the chunk map and the OS */
byte inside = 0;          /* threads, alive and in a call, that believe to own the lock */

/* What has happened, to bound it. */
byte comebacks = 0, deaths = 0, breaks = 0;
bool cut = false;         /* a slot ran through GENERATIONS: the rest of this run is not looked at */

#define ALIVE(slot) (occupant[slot] != 0 && !dead[occupant[slot] - 1])
#define TICKET_ALIVE(ticket) (TICKET(SLOT_OF(ticket)) == ticket && ALIVE(SLOT_OF(ticket)))
#define ABSENT(ticket) (!presence[SLOT_OF(ticket)])

#ifdef ABSENT_KEEPS_PRIORITY
#define LEFT(waiter) (!TICKET_ALIVE(waiter))
#else
#define LEFT(waiter) (!TICKET_ALIVE(waiter) || ABSENT(waiter))
#endif

/* Alternatives of every step in a call: the thread dies before it, or an exception has ended the call. */
#define DIES deaths < DEATHS -> deaths++; dead[me] = true
#define BREAKS_OFF breaks < BREAKS -> breaks++; presence[slot] = false
#define OR_FAILS \
  :: atomic { DIES; goto ended } \
  :: atomic { BREAKS_OFF; goto idle }
/* A claimant's `finally` ends the claim. */
#ifdef NO_CLAIM_FINALLY
#define OR_CLAIMANT_FAILS OR_FAILS
#else
#define OR_CLAIMANT_FAILS \
  :: atomic { DIES; goto ended } \
  :: atomic { BREAKS_OFF; claim = 0; goto idle }
#endif
/* An owner's exception leaves the lock and what it was at, or only the latter: repair failed, release did not. */
#define OR_OWNER_FAILS \
  :: atomic { DIES; inside--; goto ended } \
  :: atomic { BREAKS_OFF; inside--; goto idle } \
  :: atomic { breaks < BREAKS -> breaks++; goto release }

#define FORGET(ticket) if :: prio == ticket -> prio = 0 :: else fi

inline enter() { inside++; seen = 0; assert(inside == 1); assert(lock == ticket) }

/* Two statements, so that the counter may have moved and the thread not know it. */
inline renew() {
  if
  :: cut -> goto ended
  :: atomic { !cut -> FORGET(ticket); generation[slot]++; cut = (generation[slot] >= GENERATIONS) }
  OR_FAILS
  fi;
  if :: ticket = TICKET(slot) OR_FAILS fi
}

proctype thread(byte me) {
  byte slot = me, ticket = TICKET(me), seen = 0;
  bool mayHold = false, tookContended = false;

  /* Whoever takes the lock first is called thread 0. */
  if
  :: me == 0 -> mayHold = true; seen = ticket; goto look
  :: else -> goto call
  fi;

idle:
  atomic { seen = 0; tookContended = false }
end_idle:
  /* Between calls: for good, or until another one, by this attachment or, if it holds nothing, by a new one. */
  if
  :: atomic { comebacks < COMEBACKS -> comebacks++ }
  :: atomic { comebacks < COMEBACKS && !mayHold -> comebacks++;
       occupant[slot] = 0;
       if
       :: occupant[0] == 0 -> slot = 0
       :: occupant[0] != 0 && occupant[1] == 0 -> slot = 1
#if THREADS > 2
       :: occupant[0] != 0 && occupant[1] != 0 && occupant[2] == 0 -> slot = 2
#endif
       fi;
       occupant[slot] = me + 1; presence[slot] = false; generation[slot]++; ticket = TICKET(slot) }
  :: atomic { DIES; goto ended }
  fi;

call:
  atomic { presence[slot] = true;
    if
    :: mayHold -> seen = ticket
    :: else -> goto fast
    fi
  }
#ifndef NO_RENEW
  renew();
#endif
  if
  :: atomic { lock == seen -> lock = ticket; contended = true; enter(); goto owner }
  :: atomic { lock != seen -> goto fast }
  OR_FAILS
  fi;

fast:
  if
  :: atomic { prio == 0 && lock == 0 -> lock = ticket; contended = false; mayHold = true; seen = ticket; goto look }
  :: atomic { prio != 0 || lock != 0 -> mayHold = true; seen = 0; goto slow }
  OR_FAILS
  fi;

look:
  /* The word says that the lock is ours. Is a claim under way, or has it been successful already? */
#ifdef NO_CLAIM_LOOK
  atomic { enter(); goto owner }
#else
  if
#ifdef NO_WORD_LOOK
  :: atomic { claim == 0 -> enter(); goto owner }
#else
  :: claim == 0 ->
     if
     :: atomic { lock == ticket -> enter(); goto owner }
     :: atomic { lock != ticket -> seen = 0; tookContended = false; goto slow }
     OR_FAILS
     fi
#endif
  :: claim != 0
  OR_FAILS
  fi;
  renew();
  if
  :: atomic { lock == seen && contended == tookContended -> lock = ticket; contended = true; enter(); goto owner }
  :: atomic { !(lock == seen && contended == tookContended) -> seen = 0; tookContended = false; goto slow }
  OR_FAILS
  fi;
#endif

slow:
  if
  :: atomic { lock == 0 && (prio == 0 || prio == ticket) ->
       lock = ticket; contended = true; tookContended = true; seen = ticket; goto look }
  :: atomic { lock == 0 && prio != 0 && prio != ticket && LEFT(prio) -> prio = 0; goto slow }
#ifndef NO_PRIORITY
  :: atomic { lock != 0 && prio == 0 -> prio = ticket; goto slow }
#endif
  :: atomic { lock != 0 && (lock != seen || !contended) -> seen = lock; contended = true; goto slow }
  :: seen != 0 && !TICKET_ALIVE(seen)
  :: atomic { seen != 0 && ABSENT(seen) && claim == 0 -> goto claims }
  :: atomic { seen != 0 && ABSENT(seen) && claim != 0 && !TICKET_ALIVE(claim) -> claim = 0; goto slow }
  :: cut -> goto ended
  OR_FAILS
  fi;

  /* The owner is dead: any time may pass, then the swap. */
  if
#ifdef NO_HEIR_LOOK
  :: atomic { lock == seen && contended -> lock = ticket; enter(); goto owner }
#else
  :: atomic { lock == seen && contended -> lock = ticket; tookContended = true; seen = ticket; goto look }
#endif
  :: atomic { !(lock == seen && contended) -> seen = 0; goto slow }
  OR_FAILS
  fi;

claims:
  if
  :: atomic { claim == 0 -> claim = ticket }
  :: atomic { claim != 0 -> goto slow }
  OR_FAILS
  fi;
  if
  :: atomic { !ABSENT(seen) -> seen = 0 }
  :: ABSENT(seen)
  OR_CLAIMANT_FAILS
  fi;
  if
  :: atomic { seen != 0 && lock == seen && contended -> lock = ticket; seen = ticket }
  :: atomic { !(seen != 0 && lock == seen && contended) -> seen = 0 }
  OR_CLAIMANT_FAILS
  fi;
  if
  :: atomic { claim = 0; if :: seen != 0 -> enter(); goto owner :: else -> goto slow fi }
  OR_CLAIMANT_FAILS
  fi;

owner:
  atomic { tookContended = false; FORGET(ticket) }
  if
  :: atomic { intent -> differ = false }
     if :: intent = false OR_OWNER_FAILS fi
  :: atomic { !intent -> skip }
  OR_OWNER_FAILS
  fi;
  if
  :: atomic {
       assert(!intent && !differ);
       for (seen : 0 .. THREADS - 1) {
         if :: occupant[seen] != 0 && dead[occupant[seen] - 1] -> occupant[seen] = 0 :: else fi
       }
       seen = 0;
       intent = true }
  OR_OWNER_FAILS
  fi;
  if :: differ = true OR_OWNER_FAILS fi;
  if :: atomic { differ = false; intent = false } OR_OWNER_FAILS fi;

release:
  if
  :: atomic {
       assert(intent || !differ);
#ifdef PLAIN_RELEASE
       lock = 0; contended = false;
#else
       if :: lock == ticket -> lock = 0; contended = false :: else fi;
#endif
       inside-- }
  :: atomic { DIES; inside--; goto ended }
  :: atomic { BREAKS_OFF; inside--; goto idle }
  fi;
  if
  :: atomic { mayHold = false; presence[slot] = false; goto idle }
  OR_FAILS
  fi;

ended:
  skip;
  d_step { slot = 0; ticket = 0; seen = 0; mayHold = false; tookContended = false }
}

init {
  atomic {
    byte id;
    for (id : 0 .. THREADS - 1) { occupant[id] = id + 1 }
    presence[0] = true; lock = TICKET(0);
    for (id : 0 .. THREADS - 1) { run thread(id) }
    id = 0
  }
}
