// Cells copied from one order of memory into another: layouts of images, joined channels, edges, repeated cells.

#include "transpose.h"
#include <string.h>

enum { AXES = 6, SQUARE = 16, STRIP = 8 * SQUARE, UNIT = 16384 }; // axes; cells of a square's side; cells of a unit, about

// Sizes from the outermost axis on, and how far each axis goes in X and in Y, in cells. As copy.py orders them.
typedef struct {
  Index size[AXES], x[AXES], y[AXES];
} Axes;

typedef struct {
  const Axes *axes;
  const Cell *x;
  Cell *y;
  Index planes, each; // a unit has so many planes,
  Index bands, deep;  // or a band of so many rows of one
} Copy;

// A square whose rows in X are columns in Y, turned in registers.
static void turn_square(const Cell *x, Index x_column, Cell *y, Index y_row) {
  for (int i = 0; i < SQUARE; i += LANES)
    for (int j = 0; j < SQUARE; j += LANES) {
      Vector square[LANES];
      UNROLL for (int l = 0; l < LANES; l++) square[l] = load(x + i + (j + l) * x_column);
      turn(square);
      UNROLL for (int l = 0; l < LANES; l++) store(y + (i + l) * y_row + j, square[l]);
    }
}

// So many columns of SQUARE rows, side by side in `strip` first: rows of Y that lie a power of two apart fall upon the same
// places of a cache, which has not enough of them for all.
static void turn_strip(const Cell *x, Index x_column, Cell *y, Index y_row) {
  Cell strip[SQUARE][STRIP + SQUARE];
  for (Index left = 0; left < STRIP; left += SQUARE) turn_square(x + left * x_column, x_column, strip[0] + left, STRIP + SQUARE);
  for (int i = 0; i < SQUARE; i++) copy(y + i * y_row, strip[i], STRIP);
}

// Some rows of the last two axes, in squares, so that both sides stay in cache whichever lies side by side.
static void plane(const Axes *a, Index first, Index end, const Cell *x, Cell *y) {
  const Index columns = a->size[AXES - 1];
  const Index x_row = a->x[AXES - 2], x_column = a->x[AXES - 1], y_row = a->y[AXES - 2], y_column = a->y[AXES - 1];
  if (x_column == 1 && y_column == 1) {
    for (Index i = first; i < end; i++) memcpy(y + i * y_row, x + i * x_row, columns * sizeof(Cell));
    return;
  }
  if (x_row == 1 && y_column == 1 && end - first >= SQUARE && columns >= SQUARE) {
    const Index apart = y_row * (Index)sizeof(Cell), step = columns >= STRIP && apart % 1024 == 0 ? STRIP : SQUARE;
    for (Index top = first; top < end; top += SQUARE)
      for (Index left = 0; left < columns; left += step) { // the last ones meet what others have copied
        const Index i = smaller(top, end - SQUARE), j = smaller(left, columns - step);
        if (step == STRIP) turn_strip(x + i + j * x_column, x_column, y + i * y_row + j, y_row);
        else turn_square(x + i + j * x_column, x_column, y + i * y_row + j, y_row);
      }
    return;
  }
  for (Index top = first; top < end; top += SQUARE)
    for (Index left = 0; left < columns; left += SQUARE)
      for (Index i = top; i < smaller(top + SQUARE, end); i++)
        for (Index j = left; j < smaller(left + SQUARE, columns); j++)
          y[i * y_row + j * y_column] = x[i * x_row + j * x_column];
}

static void copy_unit(void *argument, Index unit) {
  const Copy *all = argument;
  const Index from = unit / all->bands * all->each, last = smaller(from + all->each, all->planes);
  const Index first = unit % all->bands * all->deep, end = smaller(first + all->deep, all->axes->size[AXES - 2]);
  for (Index number = from; number < last; number++) {
    const Cell *x = all->x;
    Cell *y = all->y;
    for (Index axis = AXES - 3, left = number; axis >= 0; left /= all->axes->size[axis--]) {
      const Index at = left % all->axes->size[axis];
      x += at * all->axes->x[axis], y += at * all->axes->y[axis];
    }
    plane(all->axes, first, end, x, y);
  }
}

// Y = X, cell by cell along these axes.
EXPORT void NAME(copy)(const Axes *axes, const Cell *x, Cell *y, int threads) {
  Copy all = {.axes = axes, .x = x, .y = y, .planes = 1};
  for (int axis = 0; axis < AXES - 2; axis++) all.planes *= axes->size[axis];
  const Index rows = larger(1, axes->size[AXES - 2]), columns = larger(1, axes->size[AXES - 1]);
  all.each = larger(1, UNIT / (rows * columns));
  all.deep = all.each > 1 ? rows : parts(larger(1, UNIT / columns), SQUARE) * SQUARE;
  all.bands = parts(rows, all.deep);
  team_run(copy_unit, &all, parts(all.planes, all.each) * all.bands, threads);
}
