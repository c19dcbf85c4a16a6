// What the slots of a kernel's gradient have summed, added up and laid out as dK and dB.

#include "slots.h"
#include "transpose.h"
#include "ways.h"

// Channels whose sums are turned together.
INLINE Index chunk_of(const Map *m) { return larger(1, smaller(16, 512 / taps(m))); }

// How many pieces of its channels a panel's sums are turned in.
INLINE Index pieces_of(const Map *m) { return smaller(parts(m->channels, chunk_of(m)), parts(SLOTS, panels(m))); }

Index NAME(blocks_merges)(const Map *m) { return m->turned ? smaller(SLOTS, m->filters) : panels(m) * pieces_of(m); }

// The sum of all slots' sums from one on.
static void add_slots(const Map *m, const char *room, Index at, Index count, double *totals) {
  for (Index j = 0; j < count; j++) totals[j] = 0;
  for (Index number = 0; number < m->slots; number++) {
    const Slot slot = slot_of(m, (char *)room, number);
    if (slot.wide) for (Index j = 0; j < count; j++) totals[j] += slot.wide[at + j];
    else for (Index j = 0; j < count; j++) totals[j] += (double)slot.sums[at + j];
  }
}

// dB of some filters.
static void add_biases(const Map *m, const char *room, Index first, Index last, Cell *db) {
  for (Index o = first; o < last && db; o++) {
    double sum = 0;
    for (Index number = 0; number < m->slots; number++) sum += slot_of(m, (char *)room, number).bias[o];
    db[o] = (Cell)sum;
  }
}

// dK and dB of some filters, whose sums' lanes are the kernel's cells.
static void merge_turned(const Map *m, Index first, Index last, const char *room, Cell *dk, Cell *db) {
  const Index groups = groups_of(m), line = line_of(m), taps_beside = beside_of(m) / m->channels, columns = m->kernel_columns;
  double *totals = scratch(groups * line * sizeof(double));
  for (Index o = first; o < last; o++) {
    add_slots(m, room, o * groups * line, groups * line, totals);
    for (Index tap = 0; tap < taps(m); tap++) {
      const double *from = totals + tap / taps_beside * line + tap % taps_beside * m->channels;
      Cell *to = dk + m->k_at + o * m->k_filter + tap / columns * m->k_row + tap % columns * m->k_column;
      for (Index c = 0; c < m->channels; c++) to[c * m->k_channel] = (Cell)from[c];
    }
  }
  add_biases(m, room, first, last, db);
}

// The sums of a piece of one panel of all slots, turned into dK; and dB, by the first piece.
void NAME(blocks_merge)(const Map *m, Index unit, const Cell *dy, const char *room, Cell *dk, Cell *db) {
  if (m->turned) {
    const Index all = NAME(blocks_merges)(m);
    merge_turned(m, unit * m->filters / all, (unit + 1) * m->filters / all, room, dk, db);
    return;
  }
  const Index panel = unit / pieces_of(m), piece = unit % pieces_of(m);
  if (piece) db = 0;
  const Index cells = width_of(vectors_of(m, panel)), filters = smaller(cells, m->filters - panel * PANEL);
  if (outer(m)) {
    for (Index o = panel * PANEL; o < panel * PANEL + filters && db; o++) db[o] = dy[m->y_at + o * m->y_channel];
    return;
  }
  const Index channels = m->channels, chunk = chunk_of(m), chunks = parts(channels, chunk);
  const Index begin = piece * chunks / pieces_of(m) * chunk, end = smaller(channels, (piece + 1) * chunks / pieces_of(m) * chunk);
  const Index at = panel * PANEL * taps(m) * channels;
  char *own = scratch(taps(m) * chunk * cells * (sizeof(Cell) + sizeof(double)) + 128);
  Cell *sums = carve(&own, taps(m) * chunk * cells * sizeof(Cell));
  double *totals = carve(&own, chunk * cells * sizeof(double));
  dk += m->k_at + panel * PANEL * m->k_filter;
  const Runs runs = runs_of(m);
  for (Index first = begin; first < end && !direct(m, panel); first += chunk) {
    const Index some = smaller(chunk, end - first);
    for (Index tap = 0; tap < taps(m); tap++) {
      Cell *to = sums + tap * some * cells;
      const Index here = at + (tap * channels + first) * cells;
      const Slot one = slot_of(m, (char *)room, 0);
      if (m->slots == 1 && !one.wide) {
        copy(to, one.sums + here, some * cells);
        continue;
      }
      add_slots(m, room, here, some * cells, totals);
      for (Index j = 0; j < some * cells; j++) to[j] = (Cell)totals[j];
    }
    if (runs.step == 1 && runs.channels == 1 && filters == cells && cells >= LANES && some * taps(m) >= LANES) {
      for (Index n = 0; n < some * taps(m); n += LANES) {
        const Index low = smaller(n, some * taps(m) - LANES); // the last ones once more
        const Cell *from[LANES];
        for (Index i = 0, tap = low % taps(m), c = low / taps(m); i < LANES; i++) {
          from[i] = sums + (tap * some + c) * cells;
          if (++tap == taps(m)) tap = 0, c++;
        }
        for (Index o = 0; o < cells; o += LANES) {
          Vector square[LANES];
          UNROLL for (int i = 0; i < LANES; i++) square[i] = load(from[i] + o);
          turn(square);
          UNROLL for (int i = 0; i < LANES; i++) store(dk + (o + i) * m->k_filter + first * taps(m) + low, square[i]);
        }
      }
      continue;
    }
    for (Index o = 0; o < filters; o++)
      for (Index i = 0; i < m->kernel_rows; i++)
        for (Index j = 0; j < m->kernel_columns; j++) {
          Cell *to = dk + o * m->k_filter + first * m->k_channel + i * m->k_row + j * m->k_column;
          const Cell *from = sums + (i * m->kernel_columns + j) * some * cells + o;
          for (Index c = 0; c < some; c++) to[c * m->k_channel] = from[c * cells];
        }
  }
  add_biases(m, room, panel * PANEL, panel * PANEL + filters, db);
}
