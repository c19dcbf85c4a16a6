// What all kernels share: names by type and instruction set, and the team of threads.
//
// Each kernel's file is compiled once for every type and instruction set: with -DREAL=float -DTYPE=f32 -DSET=v3,
// NAME(update) is update_f32_v3.

#pragma once
#include <stddef.h>
#include <stdint.h>

typedef ptrdiff_t Index;

#define JOIN_(name, type, set) name##_##type##_##set
#define JOIN(name, type, set) JOIN_(name, type, set)
#define NAME(name) JOIN(name, TYPE, SET)
#define EXPORT __attribute__((visibility("default")))

// Call work(argument, unit) for each unit, shared out among at most so many threads; return when all are done.
void team_run(void (*work)(void *argument, Index unit), void *argument, Index units, int threads);

// The thread's own memory, of any content, for what a unit of work needs; good until the thread asks again.
void *scratch(size_t bytes);

static inline Index smaller(Index a, Index b) { return a < b ? a : b; }
static inline Index larger(Index a, Index b) { return a > b ? a : b; }
