// The slots of a kernel's gradient with many filters: each, some rows of windows, has sums of its own, which
// kernel_gradient.c makes and merge.c adds up.
//
// The sums' lanes are filters: [panel][tap][channel][filter]. Or they are the kernel's cells, where few filters would fill
// less of their vectors: [filter][group][cell], a group being the cells that lie side by side in a laid row.

#pragma once
#include "band.h"

#define BANDS 32         // whose sums are added as cells; more are added in double precision
#define SLOTS 16         // of a batch at most
#define TOGETHER 96      // channels that are laid out together at most, where shares are of the channels

// A slot's sums: cells, doubles of them where there are many bands, and doubles of dB.
typedef struct {
  Cell *sums;
  double *wide, *bias;
} Slot;

// Lots of channels that are laid out together: shares are of these where they are more than the panels of filters.
INLINE Index lots(const Map *m) {
  const Index some = parts(m->channels, TOGETHER);
  return some > panels(m) ? some : 1;
}

// Cells of the kernel that lie side by side in a laid row, where all channels are laid out together; groups of such cells.
INLINE int joined(const Map *m) { return m->column_gap == 1 && lots(m) == 1; }
INLINE Index beside_of(const Map *m) { return (joined(m) ? m->kernel_columns : 1) * m->channels; }
INLINE Index groups_of(const Map *m) { return taps(m) * m->channels / beside_of(m); }
INLINE Index line_of(const Map *m) { return parts(beside_of(m), LANES) * LANES; } // a group's sums, whose lanes are cells

INLINE Index cells_of(const Map *m) {
  if (m->turned) return m->filters * groups_of(m) * line_of(m);
  return taps(m) * m->channels * parts(m->filters, LANES) * LANES;
}
INLINE Index rows_of(const Map *m) { return m->images * m->out_rows; } // of windows
INLINE Index segments_of(const Map *m) { return parts(m->out_columns, m->segment); }
INLINE Index bands_of(const Map *m) { return parts(rows_of(m), m->band) * segments_of(m); }
INLINE int pours(const Map *m) { return parts(bands_of(m), m->slots) > BANDS; }
INLINE Index slot_bytes(const Map *m) {
  const Index bytes = cells_of(m) * (Index)(sizeof(Cell) + (pours(m) ? sizeof(double) : 0));
  return (bytes + 63 + panels(m) * PANEL * (Index)sizeof(double)) & ~(Index)63;
}
// Whether the sums of a panel are dK itself, where filters are neighbours.
INLINE int direct(const Map *m, Index panel) {
  return m->slots == 1 && !pours(m) && !m->turned && m->k_filter == 1 && m->filters >= (panel + 1) * PANEL;
}
INLINE Slot slot_of(const Map *m, char *room, Index slot) {
  char *at = room + slot * slot_bytes(m);
  Slot s = {.bias = (double *)at};
  at += panels(m) * PANEL * sizeof(double);
  s.wide = pours(m) ? (double *)at : 0;
  s.sums = (Cell *)(at + (pours(m) ? cells_of(m) * sizeof(double) : 0));
  return s;
}

// Whether dK is but the products of the channels of one pixel and its slopes.
INLINE int outer(const Map *m) {
  return taps(m) == 1 && m->images * m->out_rows * m->out_columns == 1 && m->k_filter == 1 && m->top <= 0 && m->left <= 0 &&
         -m->top < m->rows && -m->left < m->columns;
}
