// The block of sums in registers that all products with many filters are made of.

#pragma once
#include "map.h"

// Sums of `rows` rows of `vectors` vectors: out + outs[i] (+)= the sum over runs r and k < length of
// a[i][runs[r] + k step] w[(r length + k) w_step]. With `beside`, row i's cells lie i cells behind those of row 0.
INLINE void block(const int rows, const int vectors, const int beside, const Cell *const *a, const Index *runs,
                  Index count, Index length, Index step, const Cell *w, Index w_step, Cell *out, const Index *outs, int adds) {
  Vector sums[12][WIDEST];
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) sums[i][v] = (Vector){0};
  for (Index r = 0; r < count; r++) {
    const Cell *at[12];
    UNROLL for (int i = 0; i < rows; i++) at[i] = (beside ? a[0] + i : a[i]) + runs[r];
#pragma clang loop unroll_count(2)
    for (Index k = 0; k < length; k++) {
      Vector b[WIDEST];
      UNROLL for (int v = 0; v < vectors; v++) b[v] = *(const Vector *)(w + v * LANES);
      UNROLL for (int i = 0; i < rows; i++) {
        const Cell s = at[i][k * step];
        UNROLL for (int v = 0; v < vectors; v++) sums[i][v] += b[v] * s;
      }
      w += w_step;
    }
  }
  UNROLL for (int i = 0; i < rows; i++) UNROLL for (int v = 0; v < vectors; v++) {
    Vector *to = (Vector *)(out + outs[i] + v * LANES);
    *to = adds ? *to + sums[i][v] : sums[i][v];
  }
}

// The same of half a vector.
INLINE void block_of_half(const int rows, const int beside, const Cell *const *a, const Index *runs, Index count, Index length,
                          Index step, const Cell *w, Index w_step, Cell *out, const Index *outs, int adds) {
  Half sums[12];
  UNROLL for (int i = 0; i < rows; i++) sums[i] = (Half){0};
  for (Index r = 0; r < count; r++) {
    const Cell *at[12];
    UNROLL for (int i = 0; i < rows; i++) at[i] = (beside ? a[0] + i : a[i]) + runs[r];
    for (Index k = 0; k < length; k++, w += w_step) {
      const Half b = *(const Half *)w;
      UNROLL for (int i = 0; i < rows; i++) sums[i] += b * at[i][k * step];
    }
  }
  UNROLL for (int i = 0; i < rows; i++) {
    Half *to = (Half *)(out + outs[i]);
    *to = adds ? *to + sums[i] : sums[i];
  }
}

#define CASE(rows, vectors) \
  case rows * 8 + vectors: \
    if (vectors) block(rows, vectors, BESIDE, a, runs, count, length, step, w, w_step, out, outs, adds); \
    else block_of_half(rows, BESIDE, a, runs, count, length, step, w, w_step, out, outs, adds); \
    return;
#define SIX(vectors) CASE(1, vectors) CASE(2, vectors) CASE(3, vectors) CASE(4, vectors) CASE(5, vectors) CASE(6, vectors)
#if WIDEST == 4
#define ALL SIX(0) CASE(12, 0) SIX(1) CASE(12, 1) SIX(2) CASE(12, 2) SIX(3) SIX(4)
#else
#define ALL SIX(0) CASE(12, 0) SIX(1) CASE(12, 1) SIX(2)
#endif

// A block of so many rows and vectors, which was compiled for them.
static void block_apart(int rows, int vectors, const Cell *const *a, const Index *runs, Index count, Index length,
                        Index step, const Cell *w, Index w_step, Cell *out, const Index *outs, int adds) {
#define BESIDE 0
  switch (rows * 8 + vectors) { ALL }
#undef BESIDE
}

// The next tile's rows, of so many that are left: what is more than one tile and less than two is parted in halves.
INLINE int tile(Index left, int vectors) {
  const int most = TALLEST(vectors);
  if (left >= most && most == 12) return 12;
  return (int)(left <= 6 || left >= 12 ? smaller(left, 6) : (left + 1) / 2);
}
