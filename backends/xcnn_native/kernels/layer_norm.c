// Layer normalisation of rows: each row of cells has a mean and a variance of its own, each of its cells a scale and bias.
//
// A row is added up in columns, so many cells at a time, and these in doubles; over rows, gradients of scale and bias are
// added up in the arrays' type for the few rows of a unit, and these in doubles.

#include "common.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 16, PIECE = 128 * COLUMNS, CELLS = 16384, LONG = 4096, LEAST = 8, MOST = 128, SHORT = 32 };

typedef REAL Cell;

typedef struct {
  const Cell *x, *dy, *scale, *bias;
  Cell *out, *centres, *inverses, *sums, *dscale, *dbias;
  double *slopes; // of each part of each row: the sums of g and of g x_hat
  Index rows, cells, each, parts;
  double epsilon;
} Rows;

// The sums over a row of what `first` and `second` give for its n-th cell.
#define TOTALS(count, first, second, total_first, total_second) \
  for (Index from = 0; from < count; from += PIECE) { \
    const Index to = smaller(from + PIECE, count); \
    Cell one[COLUMNS] = {0}, two[COLUMNS] = {0}; \
    Index at = from; \
    for (; at + COLUMNS <= to; at += COLUMNS) \
      for (int k = 0; k < COLUMNS; k++) { \
        const Index n = at + k; \
        one[k] += first, two[k] += second; \
      } \
    for (int k = 0; at < to; at++, k++) { \
      const Index n = at; \
      one[k] += first, two[k] += second; \
    } \
    for (int k = 0; k < COLUMNS; k++) total_first += one[k], total_second += two[k]; \
  }

// Short rows are taken COLUMNS at a time, a row being a lane: cell c of row r is at[c * COLUMNS + r]; rows that lack are zeros.
static void turn_in(const Cell *restrict from, Index rows, Index cells, Cell *restrict at) {
  if (rows < COLUMNS) memset(at, 0, cells * COLUMNS * sizeof(Cell));
  for (Index r = 0; r < rows; r++)
    for (Index c = 0; c < cells; c++) at[c * COLUMNS + r] = from[r * cells + c];
}
static void turn_out(const Cell *restrict at, Index rows, Index cells, Cell *restrict to) {
  for (Index r = 0; r < rows; r++)
    for (Index c = 0; c < cells; c++) to[r * cells + c] = at[c * COLUMNS + r];
}

static void short_forward(const Rows *all, Index row, Index rows) {
  const Index cells = all->cells;
  Cell at[SHORT * COLUMNS], centre[COLUMNS], inverse[COLUMNS];
  double sum[COLUMNS] = {0}, far[COLUMNS] = {0}, square[COLUMNS] = {0};
  turn_in(all->x + row * cells, rows, cells, at);
  for (Index c = 0; c < cells; c++)
    for (int r = 0; r < COLUMNS; r++) sum[r] += at[c * COLUMNS + r];
  for (int r = 0; r < COLUMNS; r++) centre[r] = (Cell)(sum[r] / cells);
  for (Index c = 0; c < cells; c++)
    for (int r = 0; r < COLUMNS; r++) {
      const Cell d = at[c * COLUMNS + r] - centre[r];
      far[r] += d, square[r] += d * d;
    }
  for (int r = 0; r < COLUMNS; r++)
    inverse[r] = (Cell)(1 / sqrt((square[r] - far[r] * far[r] / cells) / cells + all->epsilon));
  for (Index c = 0; c < cells; c++)
    for (int r = 0; r < COLUMNS; r++)
      at[c * COLUMNS + r] = (at[c * COLUMNS + r] - centre[r]) * inverse[r] * all->scale[c] + all->bias[c];
  turn_out(at, rows, cells, all->out + row * cells);
  for (Index r = 0; r < rows; r++) all->centres[row + r] = centre[r], all->inverses[row + r] = inverse[r];
}

// The same back; dscale and dbias of each lane are added up in `lanes`.
static void short_backward(const Rows *all, Index row, Index rows, Cell *lanes) {
  const Index cells = all->cells;
  Cell hat[SHORT * COLUMNS], g[SHORT * COLUMNS], centre[COLUMNS] = {0}, inverse[COLUMNS] = {0}, mean[COLUMNS], slope[COLUMNS];
  double plain[COLUMNS] = {0}, product[COLUMNS] = {0};
  for (Index r = 0; r < rows; r++) centre[r] = all->centres[row + r], inverse[r] = all->inverses[row + r];
  turn_in(all->x + row * cells, rows, cells, hat);
  turn_in(all->dy + row * cells, rows, cells, g);
  for (Index c = 0; c < cells; c++)
    for (int r = 0; r < COLUMNS; r++) {
      const Index n = c * COLUMNS + r;
      const Cell dy = g[n];
      hat[n] = (hat[n] - centre[r]) * inverse[r];
      lanes[n] += dy * hat[n], lanes[cells * COLUMNS + n] += dy;
      g[n] = dy * all->scale[c];
      plain[r] += g[n], product[r] += g[n] * hat[n];
    }
  for (int r = 0; r < COLUMNS; r++) mean[r] = (Cell)(plain[r] / cells), slope[r] = (Cell)(product[r] / cells);
  for (Index c = 0; c < cells; c++)
    for (int r = 0; r < COLUMNS; r++) {
      const Index n = c * COLUMNS + r;
      g[n] = (g[n] - mean[r] - hat[n] * slope[r]) * inverse[r];
    }
  turn_out(g, rows, cells, all->out + row * cells);
}

static void forward_unit(void *argument, Index unit) {
  const Rows *all = argument;
  const Index cells = all->cells, last = smaller((unit + 1) * all->each, all->rows);
  if (cells <= SHORT) {
    for (Index row = unit * all->each; row < last; row += COLUMNS) short_forward(all, row, smaller(COLUMNS, last - row));
    return;
  }
  const Cell *restrict scale = all->scale, *restrict bias = all->bias;
  for (Index row = unit * all->each; row < last; row++) {
    const Cell *restrict x = all->x + row * cells;
    Cell *restrict y = all->out + row * cells;
    double sum = 0, unused = 0, far = 0, square = 0;
    TOTALS(cells, x[n], 0, sum, unused)
    const Cell centre = (Cell)(sum / cells);
    TOTALS(cells, x[n] - centre, (x[n] - centre) * (x[n] - centre), far, square)
    const Cell inverse = (Cell)(1 / sqrt((square - far * far / cells) / cells + all->epsilon));
    for (Index n = 0; n < cells; n++) y[n] = (x[n] - centre) * inverse * scale[n] + bias[n];
    all->centres[row] = centre, all->inverses[row] = inverse;
  }
}

static void backward_unit(void *argument, Index unit) {
  const Rows *all = argument;
  const Index cells = all->cells, last = smaller((unit + 1) * all->each, all->rows);
  const Cell *restrict scale = all->scale;
  Cell *restrict dscale = all->sums + unit * 2 * cells, *restrict dbias = dscale + cells;
  memset(dscale, 0, 2 * cells * sizeof(Cell));
  if (cells <= SHORT) {
    Cell lanes[2 * SHORT * COLUMNS] = {0};
    for (Index row = unit * all->each; row < last; row += COLUMNS) short_backward(all, row, smaller(COLUMNS, last - row), lanes);
    for (Index n = 0; n < 2 * cells * COLUMNS; n++) dscale[n / COLUMNS] += lanes[n];
    return;
  }
  for (Index row = unit * all->each; row < last; row++) {
    const Cell *restrict x = all->x + row * cells, *restrict dy = all->dy + row * cells;
    Cell *restrict dx = all->out + row * cells;
    const Cell centre = all->centres[row], inverse = all->inverses[row];
    double plain = 0, product = 0;
    TOTALS(cells, dy[n] * scale[n], dy[n] * scale[n] * ((x[n] - centre) * inverse), plain, product)
    const Cell mean = (Cell)(plain / cells), slope = (Cell)(product / cells);
    for (Index n = 0; n < cells; n++) {
      const Cell hat = (x[n] - centre) * inverse;
      dx[n] = (dy[n] * scale[n] - mean - hat * slope) * inverse;
      dscale[n] += dy[n] * hat;
      dbias[n] += dy[n];
    }
  }
}

// Of a long row: the sums over some of its cells.
static void part_unit(void *argument, Index unit) {
  const Rows *all = argument;
  const Index row = unit / all->parts, first = unit % all->parts * CELLS, count = smaller(CELLS, all->cells - first);
  const Cell *restrict x = all->x + row * all->cells + first, *restrict dy = all->dy + row * all->cells + first;
  const Cell *restrict scale = all->scale + first, centre = all->centres[row], inverse = all->inverses[row];
  double plain = 0, product = 0;
  TOTALS(count, dy[n] * scale[n], dy[n] * scale[n] * ((x[n] - centre) * inverse), plain, product)
  all->slopes[2 * unit] = plain, all->slopes[2 * unit + 1] = product;
}

// Of all long rows: some of their cells, whose scale and bias gather gradients from row to row. A row's first part has its
// sums by now.
static void columns_unit(void *argument, Index unit) {
  const Rows *all = argument;
  const Index cells = all->cells, first = unit * PIECE, count = smaller(PIECE, cells - first);
  const Cell *restrict scale = all->scale + first;
  double sums[2][PIECE];
  Cell some[2][PIECE];
  for (Index top = 0; top < all->rows; top += MOST) {
    memset(some, 0, sizeof(some));
    for (Index row = top; row < smaller(top + MOST, all->rows); row++) {
      const Cell *restrict x = all->x + row * cells + first, *restrict dy = all->dy + row * cells + first;
      const double *slopes = all->slopes + 2 * row * all->parts;
      const Cell centre = all->centres[row], inverse = all->inverses[row];
      const Cell mean = (Cell)(slopes[0] / cells), slope = (Cell)(slopes[1] / cells);
      Cell *restrict dx = all->out + row * cells + first;
      for (Index n = 0; n < count; n++) {
        const Cell hat = (x[n] - centre) * inverse;
        dx[n] = (dy[n] * scale[n] - mean - hat * slope) * inverse;
        some[0][n] += dy[n] * hat, some[1][n] += dy[n];
      }
    }
    for (int k = 0; k < 2; k++)
      for (Index n = 0; n < count; n++) sums[k][n] = (top ? sums[k][n] : 0) + (double)some[k][n];
  }
  for (Index n = 0; n < count; n++) all->dscale[first + n] = (Cell)sums[0][n], all->dbias[first + n] = (Cell)sums[1][n];
}

static int long_backward(Rows *all, int threads) {
  all->parts = (all->cells + CELLS - 1) / CELLS;
  if (!(all->slopes = malloc(all->rows * all->parts * 2 * sizeof(double) + 1))) return 0;
  team_run(part_unit, all, all->rows * all->parts, threads);
  for (Index row = 0; row < all->rows; row++) {
    double *slopes = all->slopes + 2 * row * all->parts;
    for (Index n = 2; n < 2 * all->parts; n++) slopes[n % 2] += slopes[n];
  }
  team_run(columns_unit, all, (all->cells + PIECE - 1) / PIECE, threads);
  free(all->slopes);
  return 1;
}

// Units of some rows, each with sums of its own; of one, where rows are long.
static Rows cut(Rows all) {
  all.each = all.cells >= LONG ? 1 : smaller(MOST, larger(CELLS / all.cells, LEAST));
  return all;
}

// y = (x - mean) / sqrt(variance + epsilon) scale + bias for each of so many rows. Mean and inverse of each are kept.
EXPORT void NAME(layer_norm)(const Cell *x, Index rows, Index cells, double epsilon, const Cell *scale, const Cell *bias,
                             Cell *y, Cell *centres, Cell *inverses, int threads) {
  Rows all = cut((Rows){.x = x, .scale = scale, .bias = bias, .out = y, .centres = centres, .inverses = inverses,
                        .rows = rows, .cells = cells, .epsilon = epsilon});
  team_run(forward_unit, &all, (rows + all.each - 1) / all.each, threads);
}

// dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(variance + epsilon), g = dy scale, for each row; dscale and dbias. 0 if
// there was no memory for sums.
EXPORT int NAME(layer_norm_back)(const Cell *x, const Cell *dy, Index rows, Index cells, const Cell *scale, Cell *centres,
                                 Cell *inverses, Cell *dx, Cell *dscale, Cell *dbias, int threads) {
  Rows all = cut((Rows){.x = x, .dy = dy, .scale = scale, .out = dx, .centres = centres, .inverses = inverses,
                        .dscale = dscale, .dbias = dbias, .rows = rows, .cells = cells});
  if (cells >= LONG) return long_backward(&all, threads);
  const Index units = (rows + all.each - 1) / all.each;
  if (!(all.sums = malloc(units * 2 * cells * sizeof(Cell) + 1))) return 0;
  team_run(backward_unit, &all, units, threads);
  for (Index n = 0; n < 2 * cells; n++) {
    double sum = 0;
    for (Index unit = 0; unit < units; unit++) sum += all.sums[unit * 2 * cells + n];
    (n < cells ? dscale : dbias)[n % cells] = (Cell)sum;
  }
  free(all.sums);
  return 1;
}
