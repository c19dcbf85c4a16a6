// Cells copied from one order of memory into another: layouts of images, joined channels, edges, repeated cells.

#include "common.h"
#include <string.h>

enum { AXES = 6, SQUARE = 16, UNIT = 16384 }; // axes; cells of a square's side; cells of a unit at least

typedef REAL Cell;

// Sizes from the outermost axis on, and how far each axis goes in X and in Y, in cells. As copy.py orders them.
typedef struct {
  Index size[AXES], x[AXES], y[AXES];
} Axes;

typedef struct {
  const Axes *axes;
  const Cell *x;
  Cell *y;
  Index planes, each;
} Copy;

// The last two axes, in squares, so that both sides stay in cache whichever lies side by side.
static void plane(const Axes *a, const Cell *x, Cell *y) {
  const Index rows = a->size[AXES - 2], columns = a->size[AXES - 1];
  const Index x_row = a->x[AXES - 2], x_column = a->x[AXES - 1], y_row = a->y[AXES - 2], y_column = a->y[AXES - 1];
  if (x_column == 1 && y_column == 1) {
    for (Index i = 0; i < rows; i++) memcpy(y + i * y_row, x + i * x_row, columns * sizeof(Cell));
    return;
  }
  for (Index top = 0; top < rows; top += SQUARE)
    for (Index left = 0; left < columns; left += SQUARE)
      for (Index i = top; i < smaller(top + SQUARE, rows); i++)
        for (Index j = left; j < smaller(left + SQUARE, columns); j++)
          y[i * y_row + j * y_column] = x[i * x_row + j * x_column];
}

static void copy_unit(void *argument, Index unit) {
  const Copy *all = argument;
  const Index last = smaller((unit + 1) * all->each, all->planes);
  for (Index number = unit * all->each; number < last; number++) {
    const Cell *x = all->x;
    Cell *y = all->y;
    for (Index axis = AXES - 3, left = number; axis >= 0; left /= all->axes->size[axis--]) {
      const Index at = left % all->axes->size[axis];
      x += at * all->axes->x[axis], y += at * all->axes->y[axis];
    }
    plane(all->axes, x, y);
  }
}

// Y = X, cell by cell along these axes.
EXPORT void NAME(copy)(const Axes *axes, const Cell *x, Cell *y, int threads) {
  Copy all = {.axes = axes, .x = x, .y = y, .planes = 1};
  for (int axis = 0; axis < AXES - 2; axis++) all.planes *= axes->size[axis];
  const Index cells = larger(1, axes->size[AXES - 2] * axes->size[AXES - 1]);
  all.each = larger(1, UNIT / cells);
  team_run(copy_unit, &all, (all.planes + all.each - 1) / all.each, threads);
}
