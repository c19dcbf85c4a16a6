// The gradient of the input of a correlation, where that has few channels: each pixel of dY times the kernel, added to
// the cells of dX that it came from. In these maps X is dX and Y is dY.
//
// The cells that a row of taps meets lie side by side, and are the lanes. A cell adds up taps row by row and, within one,
// from the first window that meets it on, wherever units begin.

#include "block.h"
#include "ways.h"

#define BAND 65536 // bytes of dX that a unit sums up

INLINE int joined(const Map *m) { return m->column_gap == 1; }
INLINE Index runs_of(const Map *m) { return joined(m) ? m->kernel_rows : taps(m); }
INLINE Index length_of(const Map *m) { return (joined(m) ? m->kernel_columns : 1) * m->channels; }
INLINE Index padded(const Map *m) { return parts(length_of(m), LANES) * LANES; }
INLINE Index pitch_of(const Map *m) { return ((m->out_columns - 1) * m->across + span(m->kernel_columns, m->column_gap)) * m->channels; }

void NAME(spread_prepare)(Map *m, int threads) {
  m->band = within(BAND / (pitch_of(m) * (Index)sizeof(Cell)), 1, m->rows);
  m->band = parts(m->rows, parts(m->rows, m->band));
  m->units = m->images * parts(m->rows, m->band);
  m->packed = runs_of(m) * padded(m) * m->filters;
}

// How many vectors the panel of a run's cells has that begins at `first`.
INLINE int panel_at(const Map *m, Index first) { return (int)smaller(WIDEST, (padded(m) - first) / LANES); }

// The taps of one kernel row, [run][panel][filter][cell], zeros for cells beyond the run.
void NAME(spread_pack)(const Map *m, Index row, const Cell *k, Cell *packed) {
  const Index some = runs_of(m) / m->kernel_rows, length = length_of(m);
  Cell *to = packed + m->packed_at + row * some * padded(m) * m->filters;
  for (Index run = 0; run < some; run++)
    for (Index first = 0; first < padded(m); first += panel_at(m, first) * LANES)
      for (Index o = 0; o < m->filters; o++)
        for (Index cell = first; cell < first + panel_at(m, first) * LANES; cell++)
          *to++ = cell < length ? k[m->k_at + o * m->k_filter + row * m->k_row +
                                    (run + cell / m->channels) * m->k_column + cell % m->channels * m->k_channel] : 0;
}

// a / b, rounded down, and up.
INLINE Index below(Index a, Index b) { return a >= 0 ? a / b : -parts(-a, b); }
INLINE Index above(Index a, Index b) { return -below(-a, b); }

void NAME(spread_unit)(const Map *m, Index unit, const Cell *dy, const Cell *packed, Cell *dx) {
  const Index bands = parts(m->rows, m->band), image = unit / bands, top = unit % bands * m->band;
  const Index bottom = smaller(m->rows, top + m->band), pitch = pitch_of(m), length = length_of(m), filters = m->filters;
  // the rows of dY that reach these
  const Index low = within(above(top + m->top - (m->kernel_rows - 1) * m->row_gap, m->down), 0, m->out_rows);
  const Index high = within(below(bottom - 1 + m->top, m->down) + 1, low, m->out_rows), in_place = m->y_channel == 1;
  char *room = scratch(((bottom - top) * pitch + PANEL + 12 * PANEL + (in_place ? 0 : (high - low) * m->out_columns * filters)) * sizeof(Cell) + 192);
  Cell *cells = carve(&room, ((bottom - top) * pitch + PANEL) * sizeof(Cell)), *sums = carve(&room, 12 * PANEL * sizeof(Cell));
  const Cell *from = dy + m->y_at + image * m->y_image;
  Index row = m->y_row, column = m->y_column;
  clear(cells, (bottom - top) * pitch + PANEL);
  if (in_place) {
    from += low * row;
  } else {
    Cell *laid = carve(&room, (high - low) * m->out_columns * filters * sizeof(Cell));
    for (Index p = low; p < high; p++)
      for (Index o = 0; o < filters; o++)
        for (Index q = 0; q < m->out_columns; q++)
          laid[((p - low) * m->out_columns + q) * filters + o] = from[p * m->y_row + q * m->y_column + o * m->y_channel];
    from = laid, column = filters, row = m->out_columns * filters;
  }
  const Cell *w = packed + m->packed_at;
  for (Index run = 0; run < runs_of(m); run++) {
    const Index tap = joined(m) ? run : run / m->kernel_columns, behind = joined(m) ? 0 : run % m->kernel_columns * m->column_gap;
    const Index lift = tap * m->row_gap - m->top; // from the row p of dY on to p down + lift
    const Index p0 = within(above(top - lift, m->down), low, high), p1 = within(below(bottom - 1 - lift, m->down) + 1, p0, high);
    for (Index first = 0; first < length; first += PANEL) {
      const int vectors = panel_at(m, first);
      const Index none = 0, last = smaller(vectors * LANES, length - first);
      Index steady[12];
      Mask counts;
      for (int i = 0; i < 12; i++) steady[i] = i * vectors * LANES;
      for (int l = 0; l < LANES; l++) counts[l] = (vectors - 1) * LANES + l < last ? -1 : 0;
      for (Index s = 0; s < filters; s += TERMS) {
        const Index some = smaller(TERMS, filters - s);
        for (Index q = 0; q < m->out_columns; q++)
          for (Index p = p0; p < p1;) {
            const int rows = tile(p1 - p, vectors);
            const Cell *a[12];
            for (int i = 0; i < rows; i++) a[i] = from + (p + i - low) * row + q * column + s;
            block_apart(rows, vectors, a, &none, 1, 1, some, w, vectors * LANES, sums, steady, 0, 0);
            Cell *to = cells + (p * m->down + lift - top) * pitch + (q * m->across + behind) * m->channels + first;
            for (int i = 0; i < rows; i++, to += m->down * pitch)
              for (int v = 0; v < vectors; v++) {
                Vector more = load(sums + steady[i] + v * LANES);
                if (v == vectors - 1) more = (Vector)((Mask)more & counts); // what is beyond the run may be no number
                store(to + v * LANES, load(to + v * LANES) + more);
              }
            p += rows;
          }
        w += some * vectors * LANES;
      }
    }
  }
  const Index before = within(-m->left, 0, m->columns), width = pitch / m->channels; // columns that no window meets
  const Index after = within(width - m->left, before, m->columns);
  for (Index r = top; r < bottom; r++)
    for (Index c = 0; c < m->channels; c++) {
      Cell *to = dx + m->x_at + image * m->x_image + r * m->x_row + c * m->x_channel;
      const Cell *sum = cells + (r - top) * pitch + m->left * m->channels + c;
      for (Index q = 0; q < before; q++) to[q * m->x_column] = 0;
      for (Index q = before; q < after; q++) to[q * m->x_column] = sum[q * m->channels];
      for (Index q = after; q < m->columns; q++) to[q * m->x_column] = 0;
    }
}
