// The block of sums in registers that all products with many filters are made of.

#pragma once
#include "map.h"

// Write a block's sums, of vectors of a kind, or add them to what lies there; finished, where they are the last.
#define SUM(i, v) sums[i][v]
#define TO(i) (out + outs[i])
#define WRITE(KIND, WIDTH) \
  if (adds) EACH_SUM(rows, vectors) sums[i][v] += *(const KIND *)(TO(i) + v * (WIDTH)); \
  FINISH(KIND, WIDTH, rows, vectors, finish, 0);

#define FETCHED 2 // of `adds`: what lies there is not in the first cache, and is fetched meanwhile

// What all blocks are told: see `block`.
#define PARAMETERS Index count, Index length, const Cell *w, Index w_step, Cell *out, const Index *outs, int adds, const Finish *finish
#define GIVEN count, length, w, w_step, out, outs, adds, finish

// Sums of `rows` rows of `vectors` vectors: out + outs[i] (+)= the sum over runs r and k < length of
// a[i][runs[r] + k step] w[(r length + k) w_step], or w[w_runs[r] + k w_step]. With `beside`, row i's cells lie i cells
// behind those of row 0.
INLINE void block(const int rows, const int vectors, const int beside, const Cell *const *a, const Index *runs, Index step,
                  const Index *w_runs, PARAMETERS) {
  const Cell *const all = w;
  Vector sums[12][WIDEST];
  EACH_SUM(rows, vectors) sums[i][v] = (Vector){0};
  if (beside && adds == FETCHED)
    EACH_SUM(rows, vectors) __builtin_prefetch(out + outs[i] + v * LANES, 1);
  for (Index r = 0; r < count; r++) {
    const Cell *at[12];
    UNROLL for (int i = 0; i < rows; i++) at[i] = (beside ? a[0] + i : a[i]) + runs[r];
    if (w_runs) w = all + w_runs[r];
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
  WRITE(Vector, LANES)
}

// The same of half a vector.
INLINE void block_of_half(const int rows, const int beside, const Cell *const *a, const Index *runs, Index step,
                          const Index *w_runs, PARAMETERS) {
  enum { vectors = 1 };
  const Cell *const all = w;
  Half sums[12][1];
  UNROLL for (int i = 0; i < rows; i++) sums[i][0] = (Half){0};
  for (Index r = 0; r < count; r++) {
    const Cell *at[12];
    UNROLL for (int i = 0; i < rows; i++) at[i] = (beside ? a[0] + i : a[i]) + runs[r];
    if (w_runs) w = all + w_runs[r];
    for (Index k = 0; k < length; k++, w += w_step) {
      const Half b = *(const Half *)w;
      UNROLL for (int i = 0; i < rows; i++) sums[i][0] += b * at[i][k * step];
    }
  }
  WRITE(Half, HALF)
}

#define CASE(rows, vectors) \
  case rows * 8 + vectors: \
    if (vectors) block(rows, vectors, BESIDE, a, runs, step, w_runs, GIVEN); \
    else block_of_half(rows, BESIDE, a, runs, step, w_runs, GIVEN); \
    return;
#define SIX(vectors) CASE(1, vectors) CASE(2, vectors) CASE(3, vectors) CASE(4, vectors) CASE(5, vectors) CASE(6, vectors)
#if WIDEST == 4
#define ALL SIX(0) CASE(12, 0) SIX(1) CASE(12, 1) SIX(2) CASE(12, 2) SIX(3) SIX(4)
#else
#define ALL SIX(0) CASE(12, 0) SIX(1) CASE(12, 1) SIX(2)
#endif

// A block of so many rows and vectors, which was compiled for them.
static void block_apart(int rows, int vectors, const Cell *const *a, const Index *runs, Index step, PARAMETERS) {
  const Index *const w_runs = 0;
#define BESIDE 0
  switch (rows * 8 + vectors) { ALL }
#undef BESIDE
}

// A pointer of which the compiler knows no more.
INLINE const Cell *opaque(const Cell *at) {
  __asm__("" : "+r"(at));
  return at;
}

// Sums of rows that lie equally far from each other, as `block` has them, `step` being 1: every third row has a register
// for where it is, so that none of them is kept in memory, as the compiler would have it.
#define SUMS_OF_EVEN(KIND, WIDTH) \
  KIND sums[HIGHEST][WIDEST]; \
  EACH_SUM(rows, vectors) sums[i][v] = (KIND){0}; \
  for (Index r = 0; r < count; r++) { \
    const Cell *at[HIGHEST]; \
    UNROLL for (int i = 0; 3 * i < rows; i++) at[i] = opaque(a + runs[r] + 3 * i * apart); \
    _Pragma("clang loop unroll_count(2)") for (Index k = 0; k < length; k++) { \
      KIND b[WIDEST]; \
      UNROLL for (int v = 0; v < vectors; v++) b[v] = *(const KIND *)(w + v * (WIDTH)); \
      UNROLL for (int i = 0; i < rows; i++) { \
        const Cell s = at[i / 3][i % 3 * apart]; \
        UNROLL for (int v = 0; v < vectors; v++) sums[i][v] += b[v] * s; \
      } \
      UNROLL for (int i = 0; 3 * i < rows; i++) at[i] = opaque(at[i] + 1); \
      w += w_step; \
    } \
  }

INLINE void even_vectors(const int rows, const int vectors, const Cell *a, Index apart, const Index *runs, PARAMETERS) {
  SUMS_OF_EVEN(Vector, LANES)
  WRITE(Vector, LANES)
}

INLINE void even_halves(const int rows, const Cell *a, Index apart, const Index *runs, PARAMETERS) {
  enum { vectors = 1 };
  SUMS_OF_EVEN(Half, HALF)
  WRITE(Half, HALF)
}

#define EVEN(rows, vectors) \
  case rows * 8 + vectors: \
    if (vectors) even_vectors(rows, vectors, a, apart, runs, GIVEN); \
    else even_halves(rows, a, apart, runs, GIVEN); \
    return;
#define TALL(vectors) EVEN(7, vectors) EVEN(8, vectors) EVEN(9, vectors) EVEN(10, vectors) EVEN(11, vectors) EVEN(12, vectors)
#define TALLER(vectors) TALL(vectors) EVEN(13, vectors) EVEN(14, vectors) EVEN(15, vectors) EVEN(16, vectors)

// The same of seven rows and more.
static void block_even(int rows, int vectors, const Cell *a, Index apart, const Index *runs, PARAMETERS) {
  switch (rows * 8 + vectors) {
#if WIDEST == 4
    TALLER(0) TALLER(1) TALL(2)
#else
    TALL(0) TALL(1)
#endif
  }
}

// How many rows, of so many, lie equally far from each other from the first on.
INLINE Index evenly(const Cell *const *a, Index count) {
  Index n = smaller(count, 2);
  while (n < count && a[n] - a[n - 1] == a[1] - a[0]) n++;
  return n;
}

// The next tile's rows, of so many that are left: what is more than one tile and less than two is parted in halves.
INLINE int tile(Index left, int vectors) {
  const int most = TALLEST(vectors);
  if (left >= most && most == 12) return 12;
  return (int)(left <= 6 || left >= 12 ? smaller(left, 6) : (left + 1) / 2);
}
