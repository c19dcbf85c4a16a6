// The kernel's gradient with many filters: dK[c, tap, o] = the sum over pixels of X[pixel + tap, c] dY[pixel, o].
//
// Bands of X and panels of dY are laid out in cache and met by blocks whose rows are the kernel's cells and whose sums go
// over pixels. A slot, some rows of windows, has sums of its own. Slots, bands and the order of their sums follow from the
// shape alone, so that the bits do not depend on threads.

#include "band.h"
#include "block.h"
#include "transpose.h"
#include "ways.h"

#define PIXELS 224       // of a band at most, but a row at least: so many products make a chain
#define BANDS 32         // whose sums are added as cells; more are added in double precision
#define SLOTS 16         // of a batch at most
#define SLOPES 16384     // bytes of all panels of dY that are few
#define CHANNELS 200     // that are laid out together at most where windows are single pixels
#define ROOM 2400000     // cells of all slots' sums, beyond which slots are fewer
#define TOGETHER 96      // channels that are laid out together at most, where shares are of the channels
#define LAID 131072      // bytes of rows of X that are laid out at a time, about

// A block whose rows lie beside each other.
static void block_beside(int rows, int vectors, const Cell *const *a, const Index *runs, Index step, Index count, Index length,
                         const Cell *w, Index w_step, Cell *out, const Index *outs, int adds) {
  const Finish *const finish = 0;
#define BESIDE 1
  switch (rows * 8 + vectors) { ALL }
#undef BESIDE
}

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
INLINE Index cells_of(const Map *m) { return taps(m) * m->channels * parts(m->filters, LANES) * LANES; }
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
  return m->slots == 1 && !pours(m) && m->k_filter == 1 && m->filters >= (panel + 1) * PANEL;
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

void NAME(blocks_prepare_gradient)(Map *m) {
  m->segment = parts(m->out_columns, parts(m->out_columns, PIXELS));
  m->band = within(PIXELS / m->segment, 1, rows_of(m));
  // units for sixteen threads, X laid out as rarely as can be; slots cost memory, and have equally many bands
  const Index most = smaller(parts(parts(rows_of(m), m->band), 2), ROOM / cells_of(m));
  for (m->slots = SLOTS; m->slots > 1 && m->slots > most;) m->slots /= 2;
  m->band = parts(rows_of(m), parts(parts(rows_of(m), m->band), m->slots) * m->slots);
  m->shares = in_place(m) ? parts(m->channels, CHANNELS) : smaller(larger(panels(m), lots(m)), parts(SLOTS, m->slots));
  m->units = m->slots * m->shares;
  m->packed = m->slots * slot_bytes(m);
  if (outer(m)) m->slots = 1, m->shares = m->units = within(m->channels / 64, 1, SLOTS), m->packed = 0;
}

// The products of a share of the channels.
static void outer_unit(const Map *m, Index share, const Cell *x, const Cell *dy, Cell *dk) {
  const Cell *slopes = dy + m->y_at;
  x += m->x_at - m->top * m->x_row - m->left * m->x_column;
  for (Index c = share * m->channels / m->shares; c < (share + 1) * m->channels / m->shares; c++) {
    const Cell s = x[c * m->x_channel];
    Cell *to = dk + m->k_at + c * m->k_channel;
    if (m->y_channel == 1) for (Index o = 0; o < m->filters; o++) to[o] = s * slopes[o];
    else for (Index o = 0; o < m->filters; o++) to[o] = s * slopes[o * m->y_channel];
  }
}

// A row of a band, of so many channels of which `slots` cells belong to a pixel.
INLINE void lay_some(const Map *m, Index part, Cell *to, const Cell *row, Index from, Index width) {
  lay_row(m, to, m->slots, m->channels, row, from, width);
}

// Panels of dY at a band's pixels, [panel][pixel][filter], zeros for filters beyond the last. What lies side by side is
// read in one go.
INLINE void lay_slopes(const Map *m, const Band *b, const Cell *dy, Cell *to, Index first, Index last) {
  const Index pixels = b->rows * b->columns, full = m->y_channel == 1 ? within(m->filters / PANEL, first, last) : first;
  for (Index r = b->first, p = 0; r < b->last; r++) {
    const Cell *row = dy + m->y_at + r / m->out_rows * m->y_image + r % m->out_rows * m->y_row + b->left * m->y_column;
    for (Index q = 0; q < b->columns; q++, p++)
      for (Index panel = first; panel < full; panel++)
        UNROLL for (int v = 0; v < WIDEST; v++)
          store(to + ((panel - first) * pixels + p) * PANEL + v * LANES, load(row + q * m->y_column + panel * PANEL + v * LANES));
    for (Index panel = full; panel < last; panel++) {
      const Index cells = width_of(vectors_of(m, panel)), filters = smaller(cells, m->filters - panel * PANEL);
      const Cell *from = row + panel * PANEL * m->y_channel;
      Cell *part = to + (panel - first) * pixels * PANEL + (r - b->first) * b->columns * cells;
      if (filters < cells) clear(part, b->columns * cells);
      const Index whole = m->y_channel == 1 ? filters / HALF * HALF : 0;
      for (Index q = 0; q < b->columns && whole; q++)
        for (Index o = 0; o < whole; o += HALF) *(Half *)(part + q * cells + o) = *(const Half *)(from + q * m->y_column + o);
      for (Index o = whole; o < filters; o++)
        for (Index q = 0; q < b->columns; q++) part[q * cells + o] = from[o * m->y_channel + q * m->y_column];
    }
  }
}

// dB's sums of a panel of laid slopes.
INLINE void add_bias(Slot slot, Index panel, Index width, const Cell *w, Index pixels) {
  for (Index o = 0; o < width; o += HALF) {
    Half sum = {0};
    for (Index p = 0; p < pixels; p++) sum += *(const Half *)(w + p * width + o);
    for (Index l = 0; l < HALF; l++) slot.bias[panel * PANEL + o + l] += (double)sum[l];
  }
}

// A slot's sums for one share of the channels, where windows are single pixels: a product of matrices.
static void matrix_unit(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room, Cell *dk) {
  const Index number = unit / m->shares, share = unit % m->shares, channels = m->channels;
  const Index low = share * channels / m->shares, some = (share + 1) * channels / m->shares - low;
  const Index first = number * bands_of(m) / m->slots, last = (number + 1) * bands_of(m) / m->slots;
  const Slot slot = slot_of(m, room, number);
  for (Index o = 0; o < panels(m) * PANEL && !share; o++) slot.bias[o] = 0;
  for (Index n = first; n < last; n++) {
    const Band b = band_of(m, n / segments_of(m), n % segments_of(m));
    const Index pixels = b.rows * b.columns, none = 0;
    char *own = scratch(pixels * (some + PANEL) * sizeof(Cell) + 128);
    Cell *laid = carve(&own, pixels * some * sizeof(Cell)), *slopes = carve(&own, pixels * PANEL * sizeof(Cell));
    for (Index r = 0; r < b.rows; r++) {
      const Index image = (b.first + r) / m->out_rows, row = (b.first + r) % m->out_rows * m->down;
      const Cell *from = x + m->x_at + image * m->x_image + row * m->x_row + b.left * m->across * m->x_column + low;
      for (Index q = 0; q < b.columns; q++) copy(laid + (r * b.columns + q) * some, from + q * m->across * m->x_column, some);
    }
    for (Index panel = 0; panel < panels(m); panel++) {
      const int vectors = vectors_of(m, panel), straight = direct(m, panel);
      const Index width = width_of(vectors), at = panel * PANEL * channels;
      lay_slopes(m, &b, dy, slopes, panel, panel + 1);
      if (!share) add_bias(slot, panel, width, slopes, pixels);
      Cell *out = straight ? dk + m->k_at + panel * PANEL : slot.sums + at;
      for (Index c = 0, together; c < some; c += together) {
        const Cell *a[1] = {laid + c};
        Index outs[12];
        together = tile(some - c, vectors);
        for (int i = 0; i < together; i++) outs[i] = (low + c + i) * (straight ? m->k_channel : width);
        block_beside((int)together, vectors, a, &none, some, 1, pixels, slopes, width, out, outs, (n - first) % BANDS != 0);
      }
      if (slot.wide && ((n - first) % BANDS == BANDS - 1 || n == last - 1))
        for (Index j = at + low * width; j < at + (low + some) * width; j++)
          slot.wide[j] = (n - first < BANDS ? 0 : slot.wide[j]) + (double)slot.sums[j];
    }
  }
}

// What one unit works on: panels, and channels that are laid out together, of a slot.
typedef struct {
  Slot slot;
  Index low, high, begin, end; // panels, lots of channels
  Index first, last;           // rows of bands
} Unit;

INLINE Unit unit_of(const Map *m, Index unit, char *room) {
  const Index number = unit / m->shares, share = unit % m->shares, rows = parts(rows_of(m), m->band);
  Unit u = {slot_of(m, room, number), 0, panels(m), 0, lots(m), number * rows / m->slots, (number + 1) * rows / m->slots};
  Index *from = lots(m) > 1 ? &u.begin : &u.low, *to = lots(m) > 1 ? &u.end : &u.high;
  const Index all = *to;
  *from = share * all / m->shares, *to = (share + 1) * all / m->shares;
  return u;
}

// The first of a lot's channels: lots are of whole tiles.
INLINE Index first_of(const Map *m, Index lot) {
  return smaller(m->channels, lot * 12 * parts(m->channels, 12 * lots(m)));
}

// Cells of a pixel where so many of its channels are laid out: an odd number of cache lines where there are several, so
// that a channel's cells do not all meet in a few places of the cache.
INLINE Index pixel_of(const Map *m, Index channels) {
  const Index line = 64 / sizeof(Cell);
  return lots(m) == 1 ? channels : (parts(channels, line) | 1) * line;
}

// Double the sums of some channels, and begin anew.
static void pour(const Map *m, const Unit *u, Index low, Index some, int first) {
  for (Index panel = u->low; panel < u->high; panel++) {
    const Index width = width_of(vectors_of(m, panel));
    for (Index tap = 0; tap < taps(m); tap++) {
      const Index at = panel * PANEL * taps(m) * m->channels + (tap * m->channels + low) * width;
      for (Index j = at; j < at + some * width; j++)
        u->slot.wide[j] = (first ? 0 : u->slot.wide[j]) + (double)u->slot.sums[j];
    }
  }
}

// Add what some channels of a laid band and its slopes give to the sums of one panel.
static void meet(const Map *m, const Unit *u, const Cell *laid, Index pixel, const Index *runs, Index rows, Index columns,
                 Index deep, Index low, Index from, Index to, Index panel, const Cell *slopes, Cell *dk, int adds) {
  const int vectors = vectors_of(m, panel), straight = direct(m, panel);
  const Index width = width_of(vectors), joined = m->column_gap == 1 && lots(m) == 1;
  const Index beside = (joined ? m->kernel_columns : 1) * m->channels; // cells of the kernel that lie side by side in dK
  Cell *out = straight ? dk + m->k_at + panel * PANEL : u->slot.sums + panel * PANEL * taps(m) * m->channels;
  for (Index s = from; s < to;) {
    const int together = tile(to - s, vectors);
    for (Index tap = 0; tap < taps(m) * m->channels / beside; tap++) {
      const Index row = joined ? tap : tap / m->kernel_columns, column = joined ? 0 : tap % m->kernel_columns;
      const Cell *a[1] = {laid + row * deep + column * m->column_gap * pixel + s};
      Index outs[12];
      for (int i = 0; i < together; i++) {
        const Index cell = low + s + i;
        outs[i] = straight ? row * m->k_row + (column + cell / m->channels) * m->k_column + cell % m->channels * m->k_channel
                           : (tap * beside + cell) * width;
      }
      block_beside(together, vectors, a, runs, m->across * pixel, rows, columns, slopes, width, out, outs, adds);
    }
    s += together;
  }
}

// A slot's sums for one share of the filters or of the channels. Rows of X are laid out for several bands at a time.
void NAME(blocks_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room, Cell *dk) {
  if (outer(m)) {
    outer_unit(m, unit, x, dy, dk);
    return;
  }
  if (in_place(m)) {
    matrix_unit(m, unit, x, dy, room, dk);
    return;
  }
  const Unit u = unit_of(m, unit, room);
  const Index most_channels = first_of(m, 1), segments = segments_of(m), all = rows_of(m);
  for (Index o = u.low * PANEL; o < u.high * PANEL && !u.begin; o++) u.slot.bias[o] = 0;
  const Index row = ((m->out_columns - 1) * m->across + span(m->kernel_columns, m->column_gap)) * pixel_of(m, most_channels);
  const Index bands = lots(m) > 1 ? 1 : larger(1, LAID / (Index)sizeof(Cell) / row / (m->band * m->down)); // that are laid out at a time
  for (Index begin = u.first; begin < u.last; begin += bands) {
    const Index end = smaller(u.last, begin + bands);
    const Band whole = band_between(m, begin * m->band, smaller(all, end * m->band), 0, m->out_columns, pixel_of(m, most_channels));
    const Index pixels = m->band * m->segment, many = (end - begin) * segments, panel_cells = pixels * PANEL;
    char *own = scratch((whole.most * whole.pitch + many * (u.high - u.low) * panel_cells) * sizeof(Cell) +
                        whole.rows * (sizeof(Cell *) + sizeof(Index)) + 320);
    Cell *laid = carve(&own, whole.most * whole.pitch * sizeof(Cell));
    Cell *slopes = carve(&own, many * (u.high - u.low) * panel_cells * sizeof(Cell));
    const Cell **rows = carve(&own, whole.rows * sizeof(Cell *));
    Index *runs = carve(&own, whole.rows * sizeof(Index));
    for (Index n = 0; n < many; n++) {
      const Band b = band_of(m, begin + n / segments, n % segments);
      Cell *to = slopes + n * (u.high - u.low) * panel_cells;
      lay_slopes(m, &b, dy, to, u.low, u.high);
      for (Index panel = u.low; panel < u.high && !u.begin; panel++)
        add_bias(u.slot, panel, width_of(vectors_of(m, panel)), to + (panel - u.low) * b.rows * b.columns * PANEL, b.rows * b.columns);
    }
    for (Index lot = u.begin; lot < u.end; lot++) {
      const Index low = first_of(m, lot), some = first_of(m, lot + 1) - low, pixel = pixel_of(m, most_channels);
      Map part = *m;
      part.channels = some, part.x_at = m->x_at + low * m->x_channel, part.slots = pixel;
      if (some <= 0) continue;
      lay_rows(&part, &whole, x, laid, rows, lay_some, 0);
      const Index beside = (m->column_gap == 1 && lots(m) == 1 ? m->kernel_columns : 1) * some;
      for (Index n = 0; n < many; n++) {
        const Band b = band_of(m, begin + n / segments, n % segments);
        const Index chain = (begin - u.first) * segments + n;
        const Cell *mine = slopes + n * (u.high - u.low) * panel_cells;
        for (Index r = 0; r < b.rows; r++) runs[r] = rows[b.first - whole.first + r] - laid + b.left * m->across * pixel;
        // all panels of few slopes stay in the first cache, and dK is written row by row; else each panel meets all of X
        const Index chunk = b.rows * b.columns * (u.high - u.low) * PANEL * (Index)sizeof(Cell) <= SLOPES ? 12 : beside;
        for (Index from = 0; from < beside; from += chunk)
          for (Index panel = u.low; panel < u.high; panel++)
            meet(m, &u, laid, pixel, runs, b.rows, b.columns, whole.deep * whole.pitch, low, from, smaller(beside, from + chunk), panel,
                 mine + (panel - u.low) * b.rows * b.columns * PANEL, dk, chain % BANDS != 0);
        if (u.slot.wide && (chain % BANDS == BANDS - 1 || (end == u.last && n == many - 1)))
          pour(m, &u, low, some, chain < BANDS);
      }
    }
  }
}

// Channels whose sums are turned together.
INLINE Index chunk_of(const Map *m) { return larger(1, smaller(16, 512 / taps(m))); }

// How many pieces of its channels a panel's sums are turned in.
INLINE Index pieces_of(const Map *m) { return smaller(parts(m->channels, chunk_of(m)), parts(SLOTS, panels(m))); }

Index NAME(blocks_merges)(const Map *m) { return panels(m) * pieces_of(m); }

// The sums of a piece of one panel of all slots, turned into dK; and dB, by the first piece.
void NAME(blocks_merge)(const Map *m, Index unit, const Cell *dy, const char *room, Cell *dk, Cell *db) {
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
      for (Index j = 0; j < some * cells; j++) totals[j] = 0;
      for (Index number = 0; number < m->slots; number++) {
        const Slot slot = slot_of(m, (char *)room, number);
        if (slot.wide) for (Index j = 0; j < some * cells; j++) totals[j] += slot.wide[here + j];
        else for (Index j = 0; j < some * cells; j++) totals[j] += (double)slot.sums[here + j];
      }
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
  for (Index o = 0; o < filters && db; o++) {
    double sum = 0;
    for (Index number = 0; number < m->slots; number++) sum += slot_of(m, (char *)room, number).bias[panel * PANEL + o];
    db[panel * PANEL + o] = (Cell)sum;
  }
}
