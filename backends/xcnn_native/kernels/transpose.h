// Squares of cells turned in registers: rows become columns.

#pragma once
#include "map.h"

// The first, and the last, half of two vectors' cells in turns.
#if BYTES == 64
#define FIRST_F32 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LAST_F32 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define FIRST_F64 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_F64 4, 12, 5, 13, 6, 14, 7, 15
#elif BYTES == 32
#define FIRST_F32 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_F32 4, 12, 5, 13, 6, 14, 7, 15
#define FIRST_F64 0, 4, 1, 5
#define LAST_F64 2, 6, 3, 7
#else
#define FIRST_F32 0, 4, 1, 5
#define LAST_F32 2, 6, 3, 7
#define FIRST_F64 0, 2
#define LAST_F64 1, 3
#endif
#define INDICES_(half, type) half##_##type
#define INDICES(half, type) INDICES_(half, type)
#define f32_ F32
#define f64_ F64
#define UPPER_(type) type##_
#define UPPER(type) UPPER_(type)
#define TURNS(half, a, b) __builtin_shufflevector(a, b, INDICES(half, UPPER(TYPE)))

// Turn a square of as many vectors as one has lanes.
INLINE void turn(Vector *rows) {
  UNROLL for (int width = 1; width < LANES; width *= 2) {
    Vector turned[LANES];
    UNROLL for (int i = 0; i < LANES / 2; i++) {
      turned[2 * i] = TURNS(FIRST, rows[i], rows[i + LANES / 2]);
      turned[2 * i + 1] = TURNS(LAST, rows[i], rows[i + LANES / 2]);
    }
    UNROLL for (int i = 0; i < LANES; i++) rows[i] = turned[i];
  }
}

// Cells of the kernel that lie side by side, for each filter and channel, or for each filter, from the lowest address on:
// how many, and where the m-th goes in a panel: [tap][channel].
typedef struct {
  Index count, channels; // a run, runs
  Index step;            // 1, or -1 where they lie in turned order
} Runs;

INLINE Runs runs_of(const Map *m) {
  const Index all = taps(m), step = all == 1 ? 1 : m->kernel_columns > 1 ? m->k_column : m->k_row;
  const int rows = all == 1 || ((m->kernel_rows == 1 || m->k_row == m->kernel_columns * step) && (step == 1 || step == -1));
  if (rows && step == 1 && (m->channels == 1 || m->k_channel == all)) return (Runs){all * m->channels, 1, 1};
  return rows ? (Runs){all, m->channels, step} : (Runs){0, 0, 0};
}
