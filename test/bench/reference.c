// The same work in C: a lock-free two-level lookup, and ensureMapped under a mutex as MMTk's. Prints the nanoseconds an operation of the work named by the argument takes, the median of 15.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHUNK (1ULL << 22)
#define CHUNKS 16384
#define BASE (1ULL << 45)
#define ROUNDS 15

static volatile uint8_t *slabs[8192];
static uint8_t states[8][8192];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t order[CHUNKS];
static volatile uint64_t sink;

static double now(void) {
  struct timespec t;
  const char *clock = getenv("BENCH_CLOCK");
  clock_gettime(clock && *clock == 'c' ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

__attribute__((noinline)) static int is_mapped(uint64_t address) {
  if (address >> 48) return 0;
  volatile uint8_t *slab = __atomic_load_n(&slabs[address >> 35], __ATOMIC_ACQUIRE);
  return slab && slab[(address >> 22) & 8191] == 2;
}

__attribute__((noinline)) static int ensure_mapped(uint64_t start, uint64_t bytes) {
  int all = 1;
  pthread_mutex_lock(&mutex);
  for (uint64_t chunk = start >> 22; chunk < (start + bytes + CHUNK - 1) >> 22; chunk++) {
    volatile uint8_t *slab = slabs[chunk >> 13];
    if (!slab || slab[chunk & 8191] != 2) {
      all = 0;
      break;
    }
  }
  pthread_mutex_unlock(&mutex);
  return all;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

#define MEASURE(name, operations, body)                                \
  if (strcmp(argv[1], name) == 0) {                                    \
    double samples[ROUNDS];                                            \
    for (int round = 0; round < ROUNDS; round++) {                     \
      double begun = now();                                            \
      body;                                                            \
      samples[round] = (now() - begun) / (operations);                 \
    }                                                                  \
    qsort(samples, ROUNDS, sizeof(double), by_value);                  \
    printf("%.2f\n", samples[ROUNDS / 2]);                             \
  }

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  for (int i = 0; i < 8; i++) {
    slabs[(BASE >> 35) + i] = states[i];
    for (int j = 0; j < 8192; j++) states[i][j] = 2;
  }
  for (int i = 0; i < CHUNKS; i++) order[i] = BASE + (uint64_t)(rand() % CHUNKS) * CHUNK;
  uint64_t hits = 0;
  MEASURE("sequential", 100 * CHUNKS, for (int k = 0; k < 100; k++) for (uint64_t i = 0; i < CHUNKS; i++) hits += is_mapped(BASE + i * CHUNK));
  MEASURE("random", 100 * CHUNKS, for (int k = 0; k < 100; k++) for (int i = 0; i < CHUNKS; i++) hits += is_mapped(order[i]));
  MEASURE("outside", 100 * CHUNKS, for (int k = 0; k < 100; k++) for (int i = 0; i < CHUNKS; i++) hits += is_mapped((1ULL << 48) + order[i]));
  MEASURE("ensurePage", 1e6, for (int i = 0; i < 1000000; i++) hits += ensure_mapped(BASE, 4096));
  MEASURE("ensureGiB", 1e4, for (int i = 0; i < 10000; i++) hits += ensure_mapped(BASE, 1ULL << 30));
  MEASURE("ensure64GiB", 200, for (int i = 0; i < 200; i++) hits += ensure_mapped(BASE, 1ULL << 36));
  sink = hits;
  return 0;
}
