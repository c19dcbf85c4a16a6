// Images whose rows and columns are mapped each by itself, Y = A X Bᵀ, A and B having few numbers in each row: resizing by
// linear interpolation, means of unequal windows; and the way back, with the matrices transposed.

#include "vectors.h"
#include <string.h>

// A matrix: of each row which column is the first that counts, how many do, and `most` numbers for these.
typedef struct {
  Index rows, columns, most;
  const Index *first, *count;
  const Cell *numbers;
} Lines;

typedef struct {
  Index images, channels;
  Lines down, across;
} Maps;

typedef struct {
  const Maps *maps;
  const Cell *x;
  Cell *y;
} Resample;

// to (+)= factor from, so many cells.
INLINE void scale(Cell *to, const Cell *from, Cell factor, Index count, int adds) {
  Index n = 0;
  for (; n + LANES <= count; n += LANES) store(to + n, adds ? load(to + n) + load(from + n) * factor : load(from + n) * factor);
  for (; n < count; n++) to[n] = adds ? to[n] + from[n] * factor : from[n] * factor;
}

// One row of Y: the rows of X that it is of, summed up, then the columns of that sum.
static void row_unit(void *argument, Index unit) {
  const Resample *all = argument;
  const Maps *m = all->maps;
  const Index image = unit / m->down.rows, i = unit % m->down.rows, channels = m->channels, wide = m->across.columns * channels;
  const Cell *x = all->x + (image * m->down.columns + m->down.first[i]) * wide;
  Cell *y = all->y + unit * m->across.rows * channels, *sums = scratch((wide + LANES) * sizeof(Cell));
  if (!m->down.count[i]) memset(sums, 0, wide * sizeof(Cell));
  for (Index a = 0; a < m->down.count[i]; a++) scale(sums, x + a * wide, m->down.numbers[i * m->down.most + a], wide, a > 0);
  for (Index j = 0; j < m->across.rows; j++) {
    const Cell *from = sums + m->across.first[j] * channels, *numbers = m->across.numbers + j * m->across.most;
    const Index count = m->across.count[j];
    if (channels == 1) {
      Cell sum = 0;
      for (Index b = 0; b < count; b++) sum += numbers[b] * from[b];
      y[j] = sum;
      continue;
    }
    if (!count) memset(y + j * channels, 0, channels * sizeof(Cell));
    for (Index b = 0; b < count; b++) scale(y + j * channels, from + b * channels, numbers[b], channels, b > 0);
  }
}

// Y of images whose channels are neighbours, or of so many planes of one channel.
EXPORT void NAME(resample)(const Maps *maps, const Cell *x, Cell *y, int threads) {
  Resample all = {maps, x, y};
  team_run(row_unit, &all, maps->images * maps->down.rows, threads);
}
