// Vectors of cells, as long as the instruction set's registers, and what C has no operator for.

#pragma once
#include "common.h"

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

typedef REAL Cell;
typedef __typeof__(__builtin_choose_expr(sizeof(Cell) == 4, (int32_t)0, (int64_t)0)) Whole;
enum { LANES = BYTES / sizeof(Cell), WIDE = sizeof(Cell) == 8 };
typedef Cell Vector __attribute__((vector_size(BYTES), aligned(sizeof(Cell)), may_alias));
#if BYTES > 16
enum { HALF = LANES / 2 };
#else
enum { HALF = LANES };
#endif
typedef Cell Half __attribute__((vector_size(HALF * sizeof(Cell)), aligned(sizeof(Cell)), may_alias));
typedef Whole Mask __attribute__((vector_size(BYTES), aligned(sizeof(Cell)), may_alias)); // a lane is all ones or 0

// Every lane this number.
INLINE Vector splat(Cell value) { return value - (Vector){}; }

// So many cells' first vector.
INLINE Vector load(const Cell *cells) { return *(const Vector *)cells; }
INLINE void store(Cell *cells, Vector value) { *(Vector *)cells = value; }

// a b + c, rounded once where the processor can.
INLINE Vector fma_(Vector a, Vector b, Vector c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// What becomes of sums before they are written: y = scale z + bias + r, or the larger of that and 0. Scale and bias have a
// number for each filter, or are null; a bias is there where a scale is. r lies as y does, so many cells beside it.
typedef struct {
  const Cell *scale, *bias;
  Index beside;
  int adds, rectified;
} Finish;

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FUSED(a, b, c) __builtin_elementwise_fma(a, b, c)
#else
#define FUSED(a, b, c) ((a) * (b) + (c))
#endif

// All of a block's sums are finished and written, vectors of either kind of so many cells: SUM(row, v) of the filters from `at` on, to
// what TO(row) tells and on. Each step is one of all sums, which are in registers.
#define FINISH(KIND, WIDTH, rows, vectors, finish, at) \
  do { \
    if (finish) { \
      if ((finish)->scale) \
        EACH_SUM(rows, vectors) SUM(i, v) = FUSED(SUM(i, v), OF_FILTERS(KIND, WIDTH, (finish)->scale, at), OF_FILTERS(KIND, WIDTH, (finish)->bias, at)); \
      else if ((finish)->bias) EACH_SUM(rows, vectors) SUM(i, v) += OF_FILTERS(KIND, WIDTH, (finish)->bias, at); \
      if ((finish)->adds) EACH_SUM(rows, vectors) SUM(i, v) += *(const KIND *)(TO(i) + v * (WIDTH) + (finish)->beside); \
      if ((finish)->rectified) \
        EACH_SUM(rows, vectors) { \
          const __typeof__(SUM(i, v) > SUM(i, v)) below = (KIND){0} > SUM(i, v); \
          SUM(i, v) = (KIND)(~below & (__typeof__(below))SUM(i, v)); \
        } \
    } \
    EACH_SUM(rows, vectors) *(KIND *)(TO(i) + v * (WIDTH)) = SUM(i, v); \
  } while (0)
#define EACH_SUM(rows, vectors) UNROLL for (int i = 0; i < (rows); i++) UNROLL for (int v = 0; v < (vectors); v++)
#define OF_FILTERS(KIND, WIDTH, numbers, at) *(const KIND *)((numbers) + (at) + v * (WIDTH))

// a where the mask is set, else b.
INLINE Vector pick(Mask mask, Vector a, Vector b) { return (Vector)((mask & (Mask)a) | (~mask & (Mask)b)); }

// The smaller and the larger cell; NaN where there is one.
INLINE Vector least(Vector a, Vector b) { return pick(b != b, b, pick(b < a, b, a)); }
INLINE Vector most(Vector a, Vector b) { return pick(b != b, b, pick(b > a, b, a)); }

// The cell within these bounds; the lower one for NaN.
INLINE Vector between(Vector a, Cell low, Cell high) {
  const Vector above = pick(a > splat(low), a, splat(low));
  return pick(above < splat(high), above, splat(high));
}

INLINE Vector magnitude(Vector a) { return __builtin_elementwise_abs(a); }
INLINE Vector nearest(Vector a) { return __builtin_elementwise_roundeven(a); }
