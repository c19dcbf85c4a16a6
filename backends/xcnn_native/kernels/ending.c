// Endings: see ways.h.

#include "ways.h"

// `length` cells from cell `at` on, of which each pixel has `filters` neighbours and the first is that of filter 0.
static void neighbours(Tiles *tiles, Index at, Index length, Index filters) {
  for (Index n = 0, few; n < length; n += few) {
    few = smaller(TILE, length - n);
    if (filters > TILE) few = smaller(few, filters - n % filters);
    NAME(carry)(tiles, at + n, n % filters, few);
  }
}

void NAME(end)(const Map *m, const Ending *ending, Index row, Index rows, Index left, Index columns, Index first, Index filters) {
  Tiles tiles;
  void *arrays[PLACES];
  const Program *program = ending->program;
  const int last = m->y_channel == 1;
  const Index channel = m->first_filter + first;
  for (Index n = 0; n < program->places; n++) { // where channels are neighbours, theirs are those of these filters
    const Place *place = program->place + n;
    if (place->kind >= CHANNEL)
      arrays[place->array] = (Cell *)ending->arrays[place->array] + (last && place->kind == CHANNEL ? channel : 0);
  }
  NAME(open_tiles)(&tiles, program, arrays, last ? filters : 0);
  for (Index r = row; r < row + rows;) {
    const Index image = r / m->out_rows, low = r % m->out_rows, high = smaller(m->out_rows, low + row + rows - r);
    const Index at = m->y_at + image * m->y_image + low * m->y_row + left * m->y_column + first * m->y_channel;
    if (ending->repeated >= 0) arrays[ending->repeated] = (Cell *)ending->arrays[ending->repeated] - image * m->y_image;
    const int joined = columns * m->y_column == m->y_row; // rows follow each other
    if (last && m->y_column == filters) {
      for (Index p = 0; p < (joined ? 1 : high - low); p++)
        neighbours(&tiles, at + p * m->y_row, (joined ? high - low : 1) * columns * filters, filters);
    } else if (last) {
      for (Index p = 0; p < high - low; p++)
        for (Index q = 0; q < columns; q++) neighbours(&tiles, at + p * m->y_row + q * m->y_column, filters, filters);
    } else { // columns are neighbours
      for (Index o = 0; o < filters; o++)
        for (Index p = 0; p < (joined ? 1 : high - low); p++)
          for (Index n = 0, length = (joined ? high - low : 1) * columns; n < length; n += TILE)
            NAME(carry)(&tiles, at + o * m->y_channel + p * m->y_row + n, channel + o, smaller(TILE, length - n));
    }
    r += high - low;
  }
}
