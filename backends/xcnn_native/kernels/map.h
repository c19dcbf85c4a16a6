// A map: one correlation of images with kernels, as a piece of a table that xcnn_numpy/native builds once for a shape.
//
// Y[n, o, p, q] = the sum over c, i, j of X[n, c, p down + i row_gap - top, q across + j column_gap - left] K[o, c, i, j],
// X being zero outside. A group of channels is a map of its own, and so is a phase of the gradient of a strided
// correlation's input. All strides and beginnings count cells. The fields and their order are those of `FIELDS` in
// xcnn_numpy/native/maps.py.

#pragma once
#include "vectors.h"
#include <string.h>

enum {
  BLOCKS,    // filters are the lanes of vectors: correlate.c, kernel_gradient.c
  FEW,       // few filters: pixels are the lanes: few.c
  DEPTHWISE, // groups of few filters, all of them in one map, whose `channels` are those of a group: depthwise.c
  SPREAD,    // X is a gradient, and the sums over few filters of Y are added where they came from: spread.c
};

typedef struct {
  Index kind;
  Index images, channels, rows, columns, filters, out_rows, out_columns, kernel_rows, kernel_columns;
  Index down, across, top, left, row_gap, column_gap;
  Index x_at, x_image, x_channel, x_row, x_column;
  Index k_at, k_filter, k_channel, k_row, k_column;
  Index y_at, y_image, y_channel, y_row, y_column;
  Index group, k_group; // of a DEPTHWISE map: filters of a group, and from a group's first in the kernel to the next's
  Index first_filter;   // its number among those of all groups
  // how it is computed, as `prepare` or `prepare_gradient` says
  Index units, band, segment, shares, packed_at, packed, slots, room_at;
  Index loose;  // whether units read the kernel as it is, each panel being met by one unit alone
  Index turned; // whether the sums of the kernel's gradient have its cells as lanes, and not filters
  Index parted; // whether and how pixels are parted by which of their taps lie within the image
} Map;

#if defined(__AVX512F__) || defined(__aarch64__) // 32 registers
#define WIDEST 4                                 // vectors of a block's row at most
#define TALLEST(vectors) ((vectors) <= 2 ? 12 : 6)
#define EVENLY(vectors) ((vectors) <= 1 ? 16 : 12) // rows of a block at most, where they lie equally far from each other
#else // 16 registers
#define WIDEST 2
#define TALLEST(vectors) ((vectors) <= 1 ? 12 : 6)
#define EVENLY(vectors) 12
#endif
#define HIGHEST 16 // rows of any block
#define PANEL (WIDEST * LANES)             // filters that a block treats together
#define CHUNK ((Index)(64 / sizeof(Cell))) // channels that a depthwise map treats together: a cache line

#define FAR 16777216 // bytes beyond which what a map reads comes from memory, and is asked for ahead
#define TERMS 512 // products of a chain of additions at most
#define PIECES 32 // such chains are added as cells at most; more are added in double precision

INLINE Index parts(Index a, Index b) { return (a + b - 1) / b; } // how many parts of b there are in a

// How many of all rows a band has, of at most so many: each of so many threads gets the same share of them in map after
// map, whose cells then lie in its own cache.
INLINE Index evenly_cut(Index all, Index band, int threads) {
  const Index bands = parts(all, band);
  return parts(all, threads > 1 && all >= threads ? parts(bands, threads) * threads : bands);
}

INLINE Index within(Index a, Index low, Index high) { return smaller(larger(a, low), high); }
#define NO_CALL __asm__ volatile("") // in a loop of few turns, of which the compiler would make a call of memset or memcpy
INLINE void clear(Cell *cells, Index count) {
  Index n = 0;
  if (count > 4 * LANES) {
    memset(cells, 0, (size_t)count * sizeof(Cell));
    return;
  }
  for (; n + LANES <= count; n += LANES) {
    store(cells + n, (Vector){0});
    NO_CALL;
  }
  for (; n < count; n++) {
    cells[n] = 0;
    NO_CALL;
  }
}
INLINE void copy(Cell *to, const Cell *from, Index count) { memcpy(to, from, (size_t)count * sizeof(Cell)); }

INLINE Index span(Index kernel, Index gap) { return (kernel - 1) * gap + 1; } // from the first tap to the last
INLINE Index taps(const Map *m) { return m->kernel_rows * m->kernel_columns; }
INLINE Index panels(const Map *m) { return parts(m->filters, PANEL); }

INLINE Index x_cells(const Map *m) { return m->images * m->rows * m->columns * m->channels; }
INLINE Index y_cells(const Map *m) { return m->images * m->out_rows * m->out_columns * m->filters; }
INLINE int is_far(Index cells) { return cells * (Index)sizeof(Cell) > FAR; }

// How many vectors of filters a panel has; 0 stands for half of one.
INLINE int vectors_of(const Map *m, Index panel) {
  const Index left = m->filters - panel * PANEL;
  return HALF < LANES && left <= HALF ? 0 : (int)smaller(WIDEST, parts(left, LANES));
}
INLINE Index width_of(int vectors) { return vectors ? vectors * LANES : HALF; } // cells of so many

// The next `bytes` of a piece of memory, beginning with a cache line: take 64 more for each such part.
INLINE void *carve(char **room, Index bytes) {
  char *part = (char *)(((uintptr_t)*room + 63) & ~(uintptr_t)63);
  *room = part + bytes;
  return part;
}
