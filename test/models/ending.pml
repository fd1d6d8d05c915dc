/*
 * The board of lib/shared_state/ending.ts, for Spin.
 *
 * To run it (Debian: apt-get install spin gcc), from this folder; test/shared_state/ending_model.test.ts does where Spin
 * is installed:
 *
 *   spin -a ending.pml && gcc -O2 -DSAFETY -DNOCLAIM -o pan pan.c && ./pan
 *
 * Modelled: WORKERS threads, each in up to PARTS critical parts, some of which take a mapper's lock; for each a thread
 * that ends it, and with EXIT the main thread, which ends them all (ONLY_EXIT: nobody else does). A worker that is ended
 * stops before its next step, wherever it is, and others inherit its lock.
 *
 * Checked: nobody is ended in a critical part; whoever ends workers gets on (no deadlock), whoever is parked meanwhile.
 *
 * Results (Spin 6.5.2; all states seen, no error): see test/shared_state/ending_model.test.ts, some seconds in all.
 *
 * Variants, each without one protection; the checker refutes all:
 *
 *   LOOK_FIRST       the thread looks whether it is to stop before it says that it is busy
 *   ASK_FIRST        who ends it looks whether it is busy before it says that it is to stop
 *   PARK_BUSY        a thread parks without saying that it is no longer busy (deadlock)
 *   PARK_INSIDE      a part inside of another one parks as well: the thread is not busy then, and ended there
 *   PARK_LOCKED      a part begins with the lock held: others wait in theirs for a parked thread (deadlock)
 *   NO_FORGET        a thread that was ended between saying busy and looking stays busy for ever (deadlock)
 */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef PARTS
#define PARTS 2
#endif

bit busy[WORKERS], stopping[WORKERS], all, ended[WORKERS]
/* What the board stands for: whether a worker is in code of the engine that cannot be broken off. */
bit inside[WORKERS]
/* 0, or 1 + the worker that holds it. */
byte lock

#define IS_TO_STOP (stopping[me] || all)

inline park() {
#ifndef PARK_BUSY
  busy[me] = 0;
#endif
  /* Until it is ended. */
  false
}

inline enter() {
#ifdef LOOK_FIRST
  if :: IS_TO_STOP -> park() :: else fi;
  busy[me] = 1
#else
  busy[me] = 1;
  if :: IS_TO_STOP -> park() :: else fi
#endif
}

inline take() {
  atomic { lock == 0 -> lock = me + 1 }
}

proctype Worker(byte me) {
  byte parts = 0
  {
    do
    :: parts < PARTS ->
      parts++;
#ifdef PARK_LOCKED
      if
      :: true -> take(); enter()
      :: true -> enter(); if :: lock != me + 1 -> take() :: else fi
      fi;
#else
      enter();
      if :: true -> take() :: true fi;
#endif
      inside[me] = 1;
      /* Perhaps another part inside of it. */
      if
      :: true
#ifdef PARK_INSIDE
      :: true -> enter()
#endif
      fi;
      inside[me] = 0;
      if :: lock == me + 1 -> lock = 0 :: else fi;
      busy[me] = 0
    :: else -> break
    od
  } unless { ended[me] }
}

inline end(worker) {
  atomic {
    assert(!inside[worker])
    ended[worker] = 1;
#ifndef NO_FORGET
    busy[worker] = 0;
#endif
    if :: lock == worker + 1 -> lock = 0 :: else fi
  }
}

proctype Ender(byte worker) {
#ifdef ASK_FIRST
  !busy[worker] || ended[worker];
  stopping[worker] = 1;
#else
  stopping[worker] = 1;
  !busy[worker] || ended[worker];
#endif
  atomic { if :: !ended[worker] -> end(worker) :: else fi }
}

proctype Exit() {
  byte worker = 0
  all = 1
  do
  :: worker < WORKERS -> !busy[worker]; worker++
  :: worker == WORKERS -> break
  od
  for (worker : 0 .. WORKERS - 1) {
    atomic { if :: !ended[worker] -> end(worker) :: else fi }
  }
}

init {
  byte worker
  atomic {
    for (worker : 0 .. WORKERS - 1) {
      run Worker(worker)
#ifndef ONLY_EXIT
      run Ender(worker)
#endif
    }
#if defined(EXIT) || defined(ONLY_EXIT)
    run Exit()
#endif
  }
}
