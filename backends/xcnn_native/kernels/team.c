// A team of threads that take units of work one by one; who finds none spins briefly, then sleeps.
//
// Each thread has a part of the units, which it takes in order, and then takes what others have left: so it mostly meets
// the images that it met in the kernel before, which are in its cache. Which thread does which unit is left open all the
// same, so what a unit computes must follow from its number alone. One caller at a time has the team: another that comes
// meanwhile does its own units by itself, to the same bits.

#include "common.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LOOKS 4000         // how often who waits looks before it sleeps: some 50 microseconds
#define MOST 1024          // threads at most
#define PARTS 64           // parts of the units at most, beyond which threads share them
#define COUNT 0xffffffffL  // the lower half of `open`

#if defined(__x86_64__)
#include <cpuid.h>
#define RELAX() __builtin_ia32_pause()
#else
#define RELAX() __asm__ volatile("yield")
#endif

static struct {
  // What a worker needs to know of the latest work lies in one cache line: it may come from a core that is far away.
  _Alignas(64) atomic_long posted; // its number, 31 bits
  void (*work)(void *, Index);
  void *argument;
  Index units;
  atomic_int threads; // how many take part, the caller among them
  atomic_int shared;  // how many parts of the units there are
  struct {
    _Alignas(64) atomic_long open;  // that number in the upper half, how many units of a part nobody has taken in the lower
  } parts[PARTS];
  _Alignas(64) atomic_long undone;  // units that are not done
  _Alignas(64) atomic_int sleepers; // workers that sleep
  atomic_int waits;                 // whether the caller sleeps
  int workers; // that have been started
  pthread_mutex_t lock, caller;
  pthread_cond_t wake, done;
} team = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .caller = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

// Where a part of so many begins.
static inline Index part_of(Index part, Index parts, Index units) { return part * units / parts; }

// A store before which all earlier ones are seen, but which does not wait for any of them.
#define SET(place, value) atomic_store_explicit(&place, value, memory_order_release)

// Do units of one part of the work of this number until none is left. Work, argument and units stay while one is undone,
// and who has taken one reads them after that: a late worker finds another number, or nothing open. What is done is told
// once a part: a line that two cores write goes back and forth between them.
static void serve_part(long number, Index part) {
  long done = 0;
  for (;;) {
    long open = atomic_load(&team.parts[part].open);
    if (open >> 32 != number || (open & COUNT) == 0) break;
    if (!atomic_compare_exchange_weak(&team.parts[part].open, &open, open - 1)) continue;
    team.work(team.argument, part_of(part + 1, atomic_load(&team.shared), team.units) - (open & COUNT));
    done++;
  }
  if (done && atomic_fetch_sub(&team.undone, done) == done && atomic_load(&team.waits)) {
    pthread_mutex_lock(&team.lock);
    pthread_cond_signal(&team.done);
    pthread_mutex_unlock(&team.lock);
  }
}

// Do units of a thread's own part, and then of the others.
static void serve(long number, Index which) {
  const Index parts = atomic_load(&team.shared);
  for (Index n = 0; n < parts && n < PARTS; n++) serve_part(number, (which + n) % parts);
}

// A worker's life: look for new work, take part if it is asked for so many, sleep after a while without.
static void *worker(void *place) {
  const int which = (int)(intptr_t)place;
  long seen = 0;
  for (int looks = 0;;) {
    long posted = atomic_load(&team.posted);
    if (posted != seen) {
      seen = posted;
      if (which < atomic_load(&team.threads)) serve(posted, which);
      looks = 0;
    } else if (++looks < LOOKS) {
      RELAX();
    } else {
      pthread_mutex_lock(&team.lock);
      atomic_fetch_add(&team.sleepers, 1);
      while (atomic_load(&team.posted) == seen) pthread_cond_wait(&team.wake, &team.lock);
      atomic_fetch_sub(&team.sleepers, 1);
      pthread_mutex_unlock(&team.lock);
      looks = 0;
    }
  }
  return 0;
}

// Start workers until there are so many or the system gives no more. Signals are left to Python's own threads.
static void start(int workers) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (team.workers < workers) {
    pthread_t thread;
    if (pthread_create(&thread, 0, worker, (void *)(intptr_t)(team.workers + 1))) break;
    pthread_detach(thread);
    team.workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, 0);
}

// See common.h. Units number less than 2^31.
void team_run(void (*work)(void *, Index), void *argument, Index units, int threads) {
  if (threads <= 1 || units <= 1 || pthread_mutex_trylock(&team.caller)) {
    for (Index unit = 0; unit < units; unit++) work(argument, unit);
    return;
  }
  threads = (int)smaller(smaller(threads, units), MOST);
  if (team.workers < threads - 1) start(threads - 1);
  const long number = (atomic_load(&team.posted) + 1) & 0x7fffffff;
  team.work = work;
  team.argument = argument;
  team.units = units;
  const Index parts = smaller(threads, PARTS);
  SET(team.shared, (int)parts);
  SET(team.threads, threads);
  SET(team.undone, units);
  for (Index part = 0; part < parts; part++)
    SET(team.parts[part].open, number << 32 | (part_of(part + 1, parts, units) - part_of(part, parts, units)));
  atomic_store(&team.posted, number); // and only then ask who sleeps
  if (atomic_load(&team.sleepers)) {
    pthread_mutex_lock(&team.lock);
    pthread_cond_broadcast(&team.wake);
    pthread_mutex_unlock(&team.lock);
  }
  serve(number, 0);
  for (int looks = 0; atomic_load(&team.undone); looks++) {
    if (looks < LOOKS) {
      RELAX();
      continue;
    }
    pthread_mutex_lock(&team.lock);
    atomic_store(&team.waits, 1);
    while (atomic_load(&team.undone)) pthread_cond_wait(&team.done, &team.lock);
    atomic_store(&team.waits, 0);
    pthread_mutex_unlock(&team.lock);
  }
  pthread_mutex_unlock(&team.caller);
}

#define KEPT 4194304 // bytes that a thread keeps for the next unit even if that needs far less

// See common.h.
void *scratch(size_t bytes) {
  static _Thread_local struct {
    void *memory;
    size_t bytes;
  } own;
  if (own.bytes < bytes || (own.bytes > KEPT && own.bytes / 4 > bytes)) {
    free(own.memory);
    own.bytes = (bytes + 65535) & ~(size_t)65535;
    if (posix_memalign(&own.memory, 64, own.bytes)) abort(); // as Python does where there is no memory at all
  }
  return own.memory;
}

// In a forked child no worker runs, and nobody will open locks that others held: begin anew.
EXPORT void team_forget(void) {
  pthread_mutex_init(&team.lock, 0);
  pthread_mutex_init(&team.caller, 0);
  pthread_cond_init(&team.wake, 0);
  pthread_cond_init(&team.done, 0);
  team.workers = 0;
  for (Index part = 0; part < PARTS; part++) atomic_store(&team.parts[part].open, 0);
  atomic_store(&team.undone, 0);
  atomic_store(&team.sleepers, 0);
  atomic_store(&team.waits, 0);
}

// The digest of the sources that all kernels were compiled from.
EXPORT const char *sources(void) { return SOURCES; }

// The best instruction set of those compiled that this processor and its system have: 2, 3 or 4 for x86-64-v2 to v4,
// 0 for less; 8 for an arm64.
EXPORT int instruction_set(void) {
#if defined(__x86_64__)
  unsigned a, b, c, d, low, high;
  const unsigned basic = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23; // SSE3 to 4.2, CX16, POPCNT
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & basic) != basic) return 0;
  const unsigned wide = 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29; // FMA, MOVBE, OSXSAVE, AVX, F16C
  if ((c & wide) != wide) return 2;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x6) != 0x6) return 2; // the system keeps ymm registers
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & 1u << 5)) return 2; // LZCNT
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 2;
  const unsigned v3 = 1u << 3 | 1u << 5 | 1u << 8;                            // BMI1, AVX2, BMI2
  const unsigned v4 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;   // AVX-512 F, DQ, CD, BW, VL
  if ((b & v3) != v3) return 2;
  return (b & v4) == v4 && (low & 0xe6) == 0xe6 ? 4 : 3;
#else
  return 8;
#endif
}
