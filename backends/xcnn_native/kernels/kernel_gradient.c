// The kernel's gradient with many filters: dK[c, tap, o] = the sum over pixels of X[pixel + tap, c] dY[pixel, o].
//
// Bands of X and panels of dY are laid out in cache and met by blocks whose rows are the kernel's cells and whose vectors
// are filters, or the other way round, and whose sums go over pixels. Slots, bands and the order of their sums follow from
// the shape alone, so that the bits do not depend on threads.

#include "block.h"
#include "slots.h"
#include "ways.h"

#define PIXELS 224       // of a band at most, but a row at least: so many products make a chain
#define SLOPES 16384     // bytes of all panels of dY that are few
#define CHANNELS 48      // of a share about, where windows are single pixels
#define MANY 48          // filters that take their time to meet
#define THIN 40          // channels at most that meet slopes as these lie, rather than laid out
#define ROOM 2400000     // cells of all slots' sums, beyond which slots are fewer
#define LAID 131072      // bytes of rows of X that are laid out at a time, about

// A block whose rows lie beside each other.
static void block_beside(int rows, int vectors, const Cell *const *a, const Index *runs, Index step, Index count, Index length,
                         const Cell *w, const Index *w_runs, Index w_step, Cell *out, const Index *outs, int adds) {
  const Finish *const finish = 0;
#define BESIDE 1
  switch (rows * 8 + vectors) { ALL }
#undef BESIDE
}

// Whether vectors of the kernel's cells take fewer products than vectors of filters: a single vector, which meets each
// cell that is loaded once, takes a tenth longer. Where filters are neighbours in dK, they stay neighbours.
INLINE int cheaper_turned(const Map *m) {
  const Index vectors = parts(m->filters, LANES), cells = taps(m) * m->channels;
  if (panels(m) > 1 || m->k_filter == 1 || (in_place(m) ? m->channels % LANES : lots(m) > 1)) return 0; // X is read as it lies, to its end
  return m->filters * groups_of(m) * parts(beside_of(m), LANES) * 20 < cells * vectors * (vectors == 1 ? 21 : 19);
}

void NAME(blocks_prepare_gradient)(Map *m, Index maps) {
  m->turned = !outer(m) && cheaper_turned(m);
  m->segment = parts(m->out_columns, parts(m->out_columns, PIXELS));
  m->band = within(PIXELS / m->segment, 1, rows_of(m));
  // units for sixteen threads, of all maps; X laid out as rarely as can be; slots cost memory, and have equally many bands
  const Index most = smaller(parts(parts(rows_of(m), m->band), 2), ROOM / cells_of(m));
  for (m->slots = parts(SLOTS, maps); m->slots > 1 && m->slots > most;) m->slots /= 2;
  m->band = parts(rows_of(m), parts(parts(rows_of(m), m->band), m->slots) * m->slots);
  m->shares = smaller(in_place(m) ? panels(m) : larger(panels(m), lots(m)), parts(SLOTS, m->slots * maps));
  if (in_place(m)) m->shares *= within(parts(SLOTS, m->slots * m->shares * maps), 1, parts(m->channels, m->turned ? PANEL : CHANNELS));
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
  const Index pixels = b->rows * b->columns, column = m->y_column;
  const Index full = m->y_channel == 1 ? within(m->filters / PANEL, first, last) : first;
  for (Index r = b->first, p = 0; r < b->last; r++) {
    const Cell *row = dy + m->y_at + r / m->out_rows * m->y_image + r % m->out_rows * m->y_row + b->left * m->y_column;
    for (Index q = 0; q < b->columns; q++, p++)
      for (Index panel = first; panel < full; panel++)
        UNROLL for (int v = 0; v < WIDEST; v++)
          store(to + ((panel - first) * pixels + p) * PANEL + v * LANES, load(row + q * column + panel * PANEL + v * LANES));
    for (Index panel = full; panel < last; panel++) {
      const Index cells = width_of(vectors_of(m, panel)), filters = smaller(cells, m->filters - panel * PANEL);
      const Cell *from = row + panel * PANEL * m->y_channel;
      Cell *part = to + (panel - first) * pixels * PANEL + (r - b->first) * b->columns * cells;
      if (filters < cells) clear(part, b->columns * cells);
      const Index whole = m->y_channel == 1 ? filters / HALF * HALF : 0;
      for (Index q = 0; q < b->columns && whole; q++)
        for (Index o = 0; o < whole; o += HALF) *(Half *)(part + q * cells + o) = *(const Half *)(from + q * column + o);
      for (Index o = whole; o < filters; o++)
        for (Index q = 0; q < b->columns; q++) part[q * cells + o] = from[o * m->y_channel + q * column];
    }
  }
}

// dB's sums of a panel of so many vectors of slopes: `rows` runs, that begin at runs[r] or follow each other, of pixels a step
// apart.
#define BIAS double *bias, const Cell *w, const Index *runs, Index rows, Index columns, Index step
#define ADD_BIAS(KIND, WIDTH) \
  KIND sums[WIDEST]; \
  UNROLL for (int v = 0; v < vectors; v++) sums[v] = (KIND){0}; \
  for (Index r = 0; r < rows; r++) { \
    const Cell *from = w + (runs ? runs[r] : r * columns * step); \
    for (Index q = 0; q < columns; q++, from += step) \
      UNROLL for (int v = 0; v < vectors; v++) sums[v] += *(const KIND *)(from + v * (WIDTH)); \
  } \
  UNROLL for (int v = 0; v < vectors; v++) for (Index l = 0; l < (WIDTH); l++) bias[v * (WIDTH) + l] += (double)sums[v][l];

INLINE void add_bias_of_vectors(const int vectors, BIAS) { ADD_BIAS(Vector, LANES) }
INLINE void add_bias_of_half(BIAS) {
  enum { vectors = 1 };
  ADD_BIAS(Half, HALF)
}

static void add_bias(int vectors, BIAS) {
  switch (vectors) {
    case 0: add_bias_of_half(bias, w, runs, rows, columns, step); return;
    case 1: add_bias_of_vectors(1, bias, w, runs, rows, columns, step); return;
    case 2: add_bias_of_vectors(2, bias, w, runs, rows, columns, step); return;
#if WIDEST == 4
    case 3: add_bias_of_vectors(3, bias, w, runs, rows, columns, step); return;
    case 4: add_bias_of_vectors(4, bias, w, runs, rows, columns, step); return;
#endif
  }
}

// Add so many sums from one on to those in double precision, or begin these anew.
INLINE void pour(Slot slot, Index at, Index count, int first) {
  for (Index j = at; j < at + count; j++) slot.wide[j] = (first ? 0 : slot.wide[j]) + (double)slot.sums[j];
}

// The rows of a band whose windows have a row of taps within the image: what lies outside adds nothing. `x` and `dy` tell
// where they begin, of as many rows as `most` for each row of taps.
typedef struct {
  Index *x, *dy, *count, most;
} Seen;

INLINE void see(const Map *m, const Band *b, const Index *runs, const Seen *seen) {
  for (Index tap = 0; tap < m->kernel_rows; tap++) {
    Index count = 0;
    for (Index r = 0; r < b->rows; r++) {
      const Index row = (b->first + r) % m->out_rows * m->down + tap * m->row_gap - m->top;
      seen->x[tap * seen->most + count] = runs[r], seen->dy[tap * seen->most + count] = r * b->columns;
      count += row >= 0 && row < m->rows;
    }
    seen->count[tap] = count;
  }
}

// The rows that see a row of taps: where they begin, in X and in slopes of so many cells for a pixel; how many.
INLINE Index rows_seen(const Seen *seen, Index tap, Index cells, const Index **x, Index *dy) {
  *x = seen->x + tap * seen->most;
  for (Index r = 0; r < seen->count[tap]; r++) dy[r] = seen->dy[tap * seen->most + r] * cells;
  return seen->count[tap];
}

// Add what a laid band and its slopes give to sums whose lanes are the kernel's cells, some of each group. What lies behind
// the last of a group's fills up its vectors, whose other lanes nobody reads.
static void meet_turned(const Map *m, Cell *sums, const Cell *laid, Index pixel, const Seen *seen, Index step, Index columns, Index deep,
                        Index low, Index high, const Cell *slopes, int adds) {
  const Index width = width_of(vectors_of(m, 0)), groups = groups_of(m), line = line_of(m);
  const Index *runs;
  Index lines[PIXELS], outs[12];
  for (Index group = 0; group < groups; group++) {
    const Index row = joined(m) ? group : group / m->kernel_columns, column = joined(m) ? 0 : group % m->kernel_columns;
    const Cell *from = laid + row * deep + column * m->column_gap * pixel;
    const Index rows = rows_seen(seen, row, width, &runs, lines);
    for (Index s = low; s < high; s += PANEL) {
      const int vectors = (int)smaller(WIDEST, parts(high - s, LANES));
      for (Index o = 0, together; o < m->filters; o += together) {
        const Cell *a[1] = {slopes + o};
        together = tile(m->filters - o, vectors);
        for (int i = 0; i < together; i++) outs[i] = ((o + i) * groups + group) * line + s;
        block_beside((int)together, vectors, a, lines, width, rows, columns, from + s, runs, step, sums, outs, adds);
      }
    }
  }
}

// A band's pixels as they lie in an array: where each row begins, and how far they are apart. Whether all of them lie
// equally far from each other, and are one run.
static int find_pixels(const Map *m, const Band *b, Index at, Index image, Index row, Index column, Index *runs, Index *step) {
  int even = 1;
  for (Index r = 0; r < b->rows; r++)
    runs[r] = at + (b->first + r) / m->out_rows * image + (b->first + r) % m->out_rows * row + b->left * column;
  *step = b->columns == 1 && b->rows > 1 ? runs[1] - runs[0] : column;
  for (Index r = 1; r < b->rows; r++) even &= runs[r] - runs[r - 1] == b->columns * *step;
  return even;
}

// A band whose windows are single pixels, as it lies: where its rows begin in X and in dY, how far pixels are apart, and whether
// all are one run.
typedef struct {
  Band band;
  Index x[PIXELS], y[PIXELS], x_step, y_step;
  int x_even, y_even;
} Found;

static void find_band(const Map *m, Index number, Found *to) {
  to->band = band_of(m, number / segments_of(m), number % segments_of(m));
  to->x_even = find_pixels(m, &to->band, m->x_at, m->x_image, m->down * m->x_row, m->across * m->x_column, to->x, &to->x_step);
  to->y_even = find_pixels(m, &to->band, m->y_at, m->y_image, m->y_row, m->y_column, to->y, &to->y_step);
}

// Fetch what later products meet into the second cache, while others are made: so many cells of each of a band's pixels, of
// these those from a share `begin` of `all` to a share `end`.
INLINE void fetch(const Band *b, const Cell *from, const Index *runs, Index step, Index cells, Index begin, Index end, Index all) {
  const Index columns = b->columns, pixels = b->rows * columns, last = end * pixels / all;
  for (Index p = begin * pixels / all; p < last; p++) {
    const Cell *at = from + runs[p / columns] + p % columns * step;
    for (Index c = 0; c < cells; c += LANES) __builtin_prefetch(at + c, 0, 2);
  }
}

// A slot's sums for one share of the panels and of the channels, where windows are single pixels: a product of matrices, X
// being read as it lies, and panels of dY too where few channels meet them.
static void matrix_unit(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room, Cell *dk, int biased) {
  const Index by_panels = smaller(panels(m), m->shares), by_channels = m->shares / by_panels, channels = m->channels;
  const Index number = unit / m->shares, share = unit % m->shares / by_channels, part = unit % by_channels;
  const Index begin = share * panels(m) / by_panels, end = (share + 1) * panels(m) / by_panels;
  const Index lot = m->turned ? PANEL : 1, all = parts(channels, lot); // a lot of channels is no two units'
  const Index low = part * all / by_channels * lot, some = smaller(channels, (part + 1) * all / by_channels * lot) - low;
  const Index first = number * bands_of(m) / m->slots, last = (number + 1) * bands_of(m) / m->slots;
  const Slot slot = slot_of(m, room, number);
  const int far = is_far(x_cells(m)) && m->filters >= MANY; // fewer leave no time to ask for X
  const int slopes_far = is_far(y_cells(m)) && m->y_channel == 1;
  Found both[2];
  for (Index o = begin * PANEL; o < end * PANEL && !part; o++) slot.bias[o] = 0;
  for (Index n = first; n < last; n++) {
    const Found *f = both + (n - first) % 2, *next = both + (n - first + 1) % 2;
    const int more = n + 1 < last;
    if (n == first) find_band(m, n, both);
    if (more) find_band(m, n + 1, both + (n - first + 1) % 2);
    const Band b = f->band;
    const Index pixels = b.rows * b.columns, step = f->x_step;
    const int adds = (n - first) % BANDS != 0, pours = slot.wide && ((n - first) % BANDS == BANDS - 1 || n == last - 1);
    Cell *laid = scratch(pixels * PANEL * sizeof(Cell));
    for (Index panel = begin; panel < end; panel++) {
      const int vectors = vectors_of(m, panel), straight = direct(m, panel);
      const Index width = width_of(vectors), at = panel * PANEL * channels;
      const int lies = some <= THIN && !m->turned && m->y_channel == 1 && m->filters - panel * PANEL >= width;
      const int even = f->x_even && (!lies || f->y_even);
      const Index rows = even ? 1 : b.rows, columns = even ? pixels : b.columns, w_step = lies ? f->y_step : width;
      const Index *w_runs = lies ? f->y : 0;
      const Cell *w = lies ? dy + panel * PANEL : laid;
      if (!lies) lay_slopes(m, &b, dy, laid, panel, panel + 1);
      if (biased && !part) add_bias(vectors, slot.bias + panel * PANEL, w, w_runs, rows, columns, w_step);
      if (m->turned) {
        Index lines[PIXELS], count = rows;
        for (Index r = 0; r < rows; r++) lines[r] = r * columns;
        const Seen seen = {.x = f->x, .dy = lines, .count = &count};
        meet_turned(m, slot.sums, x, 0, &seen, step, columns, 0, low, low + some, laid, adds);
        continue;
      }
      const int another = panel + 1 < end; // panel of this band; else the next band's slopes are next
      const Found *then = another ? f : next;
      const Index other = another ? panel + 1 : begin;
      Cell *out = straight ? dk + m->k_at + panel * PANEL : slot.sums + at;
      for (Index c = low, together; c < low + some; c += together) {
        const Cell *a[1] = {x + c};
        Index outs[12];
        together = tile(low + some - c, vectors);
        for (int i = 0; i < together; i++) outs[i] = (c + i) * (straight ? m->k_channel : width);
        const Index done = c - low, now = done + together;
        if (far && more)
          fetch(&next->band, x + low, next->x, next->x_step, some, (panel - begin) * some + done, (panel - begin) * some + now, (end - begin) * some);
        if (slopes_far && !lies && (another || more))
          fetch(&then->band, dy + other * PANEL, then->y, then->y_step, width_of(vectors_of(m, other)), done, now, some);
        block_beside((int)together, vectors, a, f->x, step, rows, columns, w, w_runs, w_step, out, outs, adds);
      }
      if (pours) pour(slot, at + low * width, some * width, n - first < BANDS);
    }
    for (Index o = 0; o < m->filters && m->turned && pours; o++) pour(slot, o * line_of(m) + low, some, n - first < BANDS);
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

// The same of some channels that a unit has laid out together.
static void pour_lot(const Map *m, const Unit *u, Index low, Index some, int first) {
  if (m->turned) {
    pour(u->slot, 0, cells_of(m), first);
    return;
  }
  for (Index panel = u->low; panel < u->high; panel++) {
    const Index width = width_of(vectors_of(m, panel));
    for (Index tap = 0; tap < taps(m); tap++)
      pour(u->slot, panel * PANEL * taps(m) * m->channels + (tap * m->channels + low) * width, some * width, first);
  }
}

// Add what some channels of a laid band and its slopes give to the sums of one panel.
static void meet(const Map *m, const Unit *u, const Cell *laid, Index pixel, const Seen *seen, Index columns, Index deep, Index low,
                 Index from, Index to, Index panel, const Cell *slopes, Cell *dk, int adds) {
  const int vectors = vectors_of(m, panel), straight = direct(m, panel);
  const Index width = width_of(vectors), beside = beside_of(m), *runs;
  Cell *out = straight ? dk + m->k_at + panel * PANEL : u->slot.sums + panel * PANEL * taps(m) * m->channels;
  Index lines[PIXELS];
  for (Index tap = 0; tap < groups_of(m); tap++) {
    const Index row = joined(m) ? tap : tap / m->kernel_columns, column = joined(m) ? 0 : tap % m->kernel_columns;
    const Index rows = rows_seen(seen, row, width, &runs, lines);
    for (Index s = from, together; s < to; s += together) {
      const Cell *a[1] = {laid + row * deep + column * m->column_gap * pixel + s};
      Index outs[12];
      together = tile(to - s, vectors);
      for (int i = 0; i < together; i++) {
        const Index cell = low + s + i;
        outs[i] = straight ? row * m->k_row + (column + cell / m->channels) * m->k_column + cell % m->channels * m->k_channel
                           : (tap * beside + cell) * width;
      }
      block_beside((int)together, vectors, a, runs, m->across * pixel, rows, columns, slopes, lines, width, out, outs, adds);
    }
  }
}

// Whether the slopes of a band lie as they would be laid out: those of all filters, pixel by pixel and row by row.
INLINE int slopes_lie(const Map *m) {
  return panels(m) == 1 && m->filters == width_of(vectors_of(m, 0)) && m->y_channel == 1 && m->y_column == m->filters &&
         m->y_row == m->out_columns * m->y_column && m->y_image == m->out_rows * m->y_row && segments_of(m) == 1;
}

INLINE const Cell *slopes_where_they_lie(const Map *m, const Band *b, const Cell *dy) { return dy + m->y_at + b->first * m->y_row; }

// A slot's sums for one share of the filters or of the channels, and dB's, if it is `biased`. Rows of X are laid out for
// several bands at a time.
void NAME(blocks_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room, Cell *dk, int biased) {
  if (outer(m)) {
    outer_unit(m, unit, x, dy, dk);
    return;
  }
  if (in_place(m)) {
    matrix_unit(m, unit, x, dy, room, dk, biased);
    return;
  }
  const Unit u = unit_of(m, unit, room);
  const Index most_channels = first_of(m, 1), segments = segments_of(m), all = rows_of(m);
  const int lie = slopes_lie(m);
  for (Index o = u.low * PANEL; o < u.high * PANEL && !u.begin; o++) u.slot.bias[o] = 0;
  const Index row = ((m->out_columns - 1) * m->across + span(m->kernel_columns, m->column_gap)) * pixel_of(m, most_channels);
  const Index bands = lots(m) > 1 ? 1 : larger(1, LAID / (Index)sizeof(Cell) / row / (m->band * m->down)); // that are laid out at a time
  for (Index begin = u.first; begin < u.last; begin += bands) {
    const Index end = smaller(u.last, begin + bands);
    const Band whole = band_between(m, begin * m->band, smaller(all, end * m->band), 0, m->out_columns, pixel_of(m, most_channels));
    const Index pixels = m->band * m->segment, many = (end - begin) * segments;
    const Index each = lie ? 0 : (u.high - u.low) * pixels * PANEL; // cells of a band's slopes that are laid out
    char *own = scratch((whole.most * whole.pitch + many * each) * sizeof(Cell) +
                        whole.rows * (sizeof(Cell *) + sizeof(Index)) + m->kernel_rows * (2 * m->band + 1) * sizeof(Index) + 512);
    Cell *laid = carve(&own, whole.most * whole.pitch * sizeof(Cell));
    Cell *slopes = carve(&own, many * each * sizeof(Cell));
    const Cell **rows = carve(&own, whole.rows * sizeof(Cell *));
    Index *runs = carve(&own, whole.rows * sizeof(Index));
    const Seen seen = {carve(&own, m->kernel_rows * m->band * sizeof(Index)), carve(&own, m->kernel_rows * m->band * sizeof(Index)),
                       carve(&own, m->kernel_rows * sizeof(Index)), m->band};
    for (Index n = 0; n < many; n++) {
      const Band b = band_of(m, begin + n / segments, n % segments);
      Cell *to = slopes + n * each;
      const Cell *mine = lie ? slopes_where_they_lie(m, &b, dy) : to;
      if (!lie) lay_slopes(m, &b, dy, to, u.low, u.high);
      for (Index panel = u.low; panel < u.high && !u.begin && biased; panel++)
        add_bias(vectors_of(m, panel), u.slot.bias + panel * PANEL, mine + (panel - u.low) * b.rows * b.columns * PANEL, 0, 1,
                 b.rows * b.columns, width_of(vectors_of(m, panel)));
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
        const Cell *mine = lie ? slopes_where_they_lie(m, &b, dy) : slopes + n * each;
        for (Index r = 0; r < b.rows; r++) runs[r] = rows[b.first - whole.first + r] - laid + b.left * m->across * pixel;
        see(m, &b, runs, &seen);
        if (m->turned) meet_turned(m, u.slot.sums, laid, pixel, &seen, m->across * pixel, b.columns, whole.deep * whole.pitch, 0, beside, mine,
                                   chain % BANDS != 0);
        // all panels of few slopes stay in the first cache, and dK is written row by row; else each panel meets all of X
        const Index chunk = b.rows * b.columns * (u.high - u.low) * PANEL * (Index)sizeof(Cell) <= SLOPES ? 12 : beside;
        for (Index from = 0; from < beside && !m->turned; from += chunk)
          for (Index panel = u.low; panel < u.high; panel++)
            meet(m, &u, laid, pixel, &seen, b.columns, whole.deep * whole.pitch, low, from, smaller(beside, from + chunk), panel,
                 mine + (panel - u.low) * b.rows * b.columns * PANEL, dk, chain % BANDS != 0 ? FETCHED : 0);
        if (u.slot.wide && (chain % BANDS == BANDS - 1 || (end == u.last && n == many - 1)))
          pour_lot(m, &u, low, some, chain < BANDS);
      }
    }
  }
}
