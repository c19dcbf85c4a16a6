// Correlation in groups of few filters, as a depthwise one is, and its kernel's gradient: the filters of all groups are the
// lanes of vectors.
//
// A chunk of filters, as many as fill a cache line, is treated together. What it sees is laid out as a band, in which a
// pixel has a line of cells. Where a group has as many channels as filters, these are the chunk's own channels, and a lane
// meets those of its group, its mates; else there is a line for each channel of a group, in which each filter's lane has
// the channel of its own group. What one vector of a window is laid at is a tie: a tap's line.

#include "band.h"
#include "ways.h"

#define BAND 49152 // bytes that are laid out at a time
#define PIXELS 384 // of a band of the gradient: so many products make a chain
#define SLOTS 16   // parts of a batch, whose sums are added at last
#define SOME 8     // pixels that a vector of the kernel meets together

INLINE Index chunks_of(const Map *m) { return parts(m->filters, CHUNK); }
INLINE Index mates_of(const Map *m) { return m->channels == m->group && CHUNK % m->group == 0 ? m->group : 1; }
INLINE Index lines_of(const Map *m) { return m->channels / mates_of(m); }
INLINE Index ties_of(const Map *m) { return taps(m) * lines_of(m); }
INLINE Index bands_of(const Map *m) { return parts(m->images * m->out_rows, m->band) * parts(m->out_columns, m->segment); }

// How bands are cut: of at most so many pixels, whole images if they fit, and of a row at least.
static void cut_bands(Map *m, Index pixels) {
  const Index reach = span(m->kernel_rows, m->row_gap);
  m->segment = parts(m->out_columns, parts(m->out_columns, smaller(pixels, 96)));
  const Index width = (m->segment - 1) * m->across + span(m->kernel_columns, m->column_gap);
  const Index row = width * lines_of(m) * CHUNK * (Index)sizeof(Cell);
  m->band = BAND / row / ((m->out_rows - 1) * m->down + reach) * m->out_rows;
  if (!m->band) m->band = (BAND / row - reach) / m->down + 1;
  m->band = within(smaller(m->band, pixels / m->segment), 1, m->images * m->out_rows);
  if (m->band < m->out_rows) m->band = parts(m->out_rows, parts(m->out_rows, m->band));
}

// A band of a chunk's lines.
INLINE Band band_at(const Map *m, Index number) {
  const Index segments = parts(m->out_columns, m->segment);
  Band b = band_of(m, number / segments, number % segments);
  b.pitch = b.width * lines_of(m) * CHUNK;
  return b;
}

// One row of a chunk's lines.
INLINE void lay_lines(const Map *m, Index chunk, Cell *to, const Cell *row, Index from, Index width) {
  const Index first = chunk * CHUNK, filters = smaller(CHUNK, m->filters - first), pitch = lines_of(m) * CHUNK;
  if (m->channels == m->group && pitch == CHUNK) { // a filter's cell is that of the channel of its own number
    lay_row(m, to, CHUNK, filters, row ? row + first * m->x_channel : 0, from, width);
    return;
  }
  const Index before = row ? within(-from, 0, width) : width, after = row ? within(m->columns - from, before, width) : width;
  clear(to, before * pitch);
  clear(to + after * pitch, (width - after) * pitch);
  for (Index c = 0; c < lines_of(m); c++) {
    Index places[CHUNK];
    for (Index o = 0; o < CHUNK; o++) places[o] = ((first + smaller(o, filters - 1)) / m->group * m->channels + c) * m->x_channel;
    for (Index q = before; q < after; q++)
      UNROLL for (Index o = 0; o < CHUNK; o++) to[q * pitch + c * CHUNK + o] = row[(from + q) * m->x_column + places[o]];
  }
}

// Where ties lie from a window's beginning on.
INLINE void find_ties(const Map *m, const Band *b, Index *ties) {
  const Index lines = lines_of(m);
  for (Index tap = 0; tap < taps(m); tap++)
    for (Index c = 0; c < lines; c++)
      *ties++ = tap / m->kernel_columns * b->deep * b->pitch + (tap % m->kernel_columns * m->column_gap * lines + c) * CHUNK;
}

void NAME(depthwise_prepare)(Map *m, int threads) {
  cut_bands(m, m->images * m->out_rows * m->out_columns);
  m->shares = threads > 1 ? within(parts(4 * threads, bands_of(m)), 1, chunks_of(m)) : 1;
  m->units = bands_of(m) * m->shares;
  m->packed = chunks_of(m) * m->channels * taps(m) * CHUNK;
}

// Where a cell of the kernel lies: that of the n-th mate of a tie.
INLINE Index kernel_at(const Map *m, Index filter, Index tie, Index n) {
  const Index tap = tie / lines_of(m), c = tie % lines_of(m) + n;
  return m->k_at + filter / m->group * m->k_group + filter % m->group * m->k_filter + c * m->k_channel +
         tap / m->kernel_columns * m->k_row + tap % m->kernel_columns * m->k_column;
}

// A chunk of the kernel: [tie][mate][filter].
void NAME(depthwise_pack)(const Map *m, Index chunk, const Cell *k, Cell *packed) {
  Cell *to = packed + m->packed_at + chunk * m->channels * taps(m) * CHUNK;
  for (Index tie = 0; tie < ties_of(m); tie++)
    for (Index n = 0; n < mates_of(m); n++, to += CHUNK)
      for (Index o = 0; o < CHUNK; o++) to[o] = chunk * CHUNK + o < m->filters ? k[kernel_at(m, chunk * CHUNK + o, tie, n)] : 0;
}

// In each lane, the n-th mate of the groups that a vector's lanes belong to; `v` is the vector's number in its line.
INLINE Vector mate(const int mates, const int n, const Cell *line, Index v) {
  if (mates >= LANES) return splat(line[v * LANES / mates * mates + n]);
  const Vector all = load(line + v * LANES);
  Vector made = all;
  UNROLL for (int l = 0; l < LANES; l++) made[l] = all[l / mates * mates + n];
  return made;
}

// Sums of SOME pixels for one vector of filters: outs[p] (+)= the sum over ties t and mates of at[p][ties[t]] k[t].
INLINE void meet(const int mates, const Cell *const *at, const Index *ties, Index count, const Cell *k, Index v, Cell *out,
                 const Index *outs, int adds) {
  Vector sums[SOME];
  UNROLL for (int p = 0; p < SOME; p++) sums[p] = (Vector){0};
  k += v * LANES;
  for (Index t = 0; t < count; t++, k += mates * CHUNK)
    UNROLL for (int n = 0; n < mates; n++) {
      const Vector w = load(k + n * CHUNK);
      UNROLL for (int p = 0; p < SOME; p++) sums[p] += w * mate(mates, n, at[p] + ties[t], v);
    }
  out += v * LANES;
  UNROLL for (int p = 0; p < SOME; p++) store(out + outs[p], adds ? load(out + outs[p]) + sums[p] : sums[p]);
}

// The same, compiled for all numbers of mates.
#define ALL(DO) DO(1) DO(2) DO(4) DO(8)
static void meet_some(Index mates, const Cell *const *at, const Index *ties, Index count, const Cell *k, Index v, Cell *out,
                      const Index *outs, int adds) {
#define MEET(mates) \
  case mates: \
    meet(mates, at, ties, count, k, v, out, outs, adds); \
    return;
  switch (mates) { ALL(MEET) }
}

// A band's pixels and a share of the chunks.
void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending) {
  const Band b = band_at(m, unit / m->shares);
  const Index pixels = b.rows * b.columns, all = larger(pixels, SOME), count = ties_of(m), mates = mates_of(m);
  const Index step = m->across * lines_of(m) * CHUNK, together = larger(1, TERMS / mates);
  const Index low = unit % m->shares * chunks_of(m) / m->shares, high = (unit % m->shares + 1) * chunks_of(m) / m->shares;
  char *room = scratch((b.most * b.pitch + all * CHUNK) * sizeof(Cell) + (b.rows + all) * sizeof(Cell *) +
                       (2 * all + count) * sizeof(Index) + 448);
  Cell *laid = carve(&room, b.most * b.pitch * sizeof(Cell)), *sums = carve(&room, all * CHUNK * sizeof(Cell));
  const Cell **rows = carve(&room, b.rows * sizeof(Cell *)), **at = carve(&room, all * sizeof(Cell *));
  Index *outs = carve(&room, all * sizeof(Index)), *steady = carve(&room, all * sizeof(Index)), *ties = carve(&room, count * sizeof(Index));
  find_ties(m, &b, ties);
  for (Index chunk = low; chunk < high; chunk++) {
    const Index filters = smaller(CHUNK, m->filters - chunk * CHUNK), aside = m->y_channel != 1 || filters < CHUNK;
    lay_rows(m, &b, x, laid, rows, lay_lines, chunk);
    for (Index p = 0, r = 0, q = 0; p < all && chunk == low; p++) { // the last pixel as often as it takes
      const Index row = b.first + r;
      at[p] = rows[r] + q * step, steady[p] = smaller(p, pixels - 1) * CHUNK;
      outs[p] = m->y_at + row / m->out_rows * m->y_image + row % m->out_rows * m->y_row + (b.left + q) * m->y_column;
      if (p < pixels - 1 && ++q == b.columns) q = 0, r++;
    }
    Cell *out = y + chunk * CHUNK * m->y_channel;
    for (Index p = 0; p < all; p += SOME) {
      const Index from = smaller(p, all - SOME); // the last ones once more
      for (Index v = 0; v < CHUNK / LANES; v++)
        for (Index t = 0; t < count; t += together)
          meet_some(mates, at + from, ties + t, smaller(together, count - t),
                    packed + m->packed_at + (chunk * count + t) * mates * CHUNK, v, aside ? sums : out, (aside ? steady : outs) + from, t > 0);
    }
    for (Index o = 0; o < filters && aside; o++)
      for (Index p = 0; p < pixels; p++) out[o * m->y_channel + outs[p]] = sums[p * CHUNK + o];
  }
  const Index first = low * CHUNK, last = smaller(m->filters, high * CHUNK);
  if (ending->program) NAME(end)(m, ending, b.first, b.rows, b.left, b.columns, first, last - first);
}

INLINE Index sums_of(const Map *m) { return (m->channels * taps(m) + 1) * CHUNK; } // of a chunk in a slot, and dB's

void NAME(depthwise_prepare_gradient)(Map *m) {
  cut_bands(m, PIXELS);
  m->slots = smaller(SLOTS, bands_of(m));
  m->units = m->slots * chunks_of(m);
  m->packed = m->units * sums_of(m) * (Index)sizeof(double);
}

// The rows of a band, of what is seen and of dY: so many pixels, which lie apart by `step` and `dy_step`.
typedef struct {
  const Cell **x, **dy;
  Index count, columns, step, dy_step;
} Rows;

// Products of dY with the mates of `count` ties, for one vector of filters, added to double sums over all pixels.
INLINE void dots(const int mates, const int count, const Rows *r, const Index *ties, Index v, double *to) {
  Vector sums[12];
  UNROLL for (int n = 0; n < count * mates; n++) sums[n] = (Vector){0};
  for (Index i = 0; i < r->count; i++) {
    const Cell *x = r->x[i], *dy = r->dy[i] + v * LANES;
    for (Index q = 0; q < r->columns; q++, x += r->step, dy += r->dy_step) {
      const Vector d = load(dy);
      UNROLL for (int t = 0; t < count; t++)
        UNROLL for (int n = 0; n < mates; n++) sums[t * mates + n] += d * mate(mates, n, x + ties[t], v);
    }
  }
  UNROLL for (int n = 0; n < count * mates; n++)
    for (Index l = 0; l < LANES; l++) to[n * CHUNK + v * LANES + l] += (double)sums[n][l];
}

// The products of a whole chunk; of as many ties at once as registers hold sums.
static void dots_of(Index mates, const Rows *r, const Index *ties, Index count, double *to) {
#define DOTS(mates) \
  case mates: \
    for (Index v = 0; v < CHUNK / LANES; v++) \
      for (Index t = 0, some; t < count; t += some) { \
        some = count - t >= MOST(mates) ? MOST(mates) : count - t >= LESS(mates) ? LESS(mates) : 1; \
        double *sums = to + t * mates * CHUNK; \
        if (some == MOST(mates)) dots(mates, MOST(mates), r, ties + t, v, sums); \
        else if (some == LESS(mates)) dots(mates, LESS(mates), r, ties + t, v, sums); \
        else dots(mates, 1, r, ties + t, v, sums); \
      } \
    return;
#define MOST(mates) ((mates) == 1 ? 9 : (mates) == 2 ? 6 : (mates) == 4 ? 3 : 1)
#define LESS(mates) ((mates) == 1 ? 3 : 1)
  switch (mates) { ALL(DOTS) }
}

void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room) {
  const Index chunk = unit % chunks_of(m), slot = unit / chunks_of(m), count = ties_of(m), mates = mates_of(m);
  const Index filters = smaller(CHUNK, m->filters - chunk * CHUNK), in_place = m->y_channel == 1 && filters == CHUNK;
  double *sums = (double *)room + unit * sums_of(m);
  for (Index j = 0; j < sums_of(m); j++) sums[j] = 0;
  for (Index n = slot * bands_of(m) / m->slots; n < (slot + 1) * bands_of(m) / m->slots; n++) {
    const Band b = band_at(m, n);
    const Index pixels = b.rows * b.columns;
    char *own = scratch((b.most * b.pitch + pixels * CHUNK) * sizeof(Cell) + 2 * b.rows * sizeof(Cell *) + count * sizeof(Index) + 320);
    Cell *laid = carve(&own, b.most * b.pitch * sizeof(Cell)), *slopes = carve(&own, pixels * CHUNK * sizeof(Cell));
    Rows r = {.count = b.rows, .columns = b.columns, .step = m->across * lines_of(m) * CHUNK, .dy_step = in_place ? m->y_column : CHUNK};
    r.x = carve(&own, b.rows * sizeof(Cell *)), r.dy = carve(&own, b.rows * sizeof(Cell *));
    Index *ties = carve(&own, count * sizeof(Index));
    find_ties(m, &b, ties);
    lay_rows(m, &b, x, laid, r.x, lay_lines, chunk);
    if (!in_place) clear(slopes, pixels * CHUNK);
    for (Index i = 0; i < b.rows; i++) {
      const Cell *from = dy + m->y_at + (b.first + i) / m->out_rows * m->y_image + (b.first + i) % m->out_rows * m->y_row +
                         b.left * m->y_column + chunk * CHUNK * m->y_channel;
      Cell *to = slopes + i * b.columns * CHUNK;
      r.dy[i] = in_place ? from : to;
      for (Index o = 0; o < filters && !in_place; o++)
        for (Index q = 0; q < b.columns; q++) to[q * CHUNK + o] = from[o * m->y_channel + q * m->y_column];
    }
    dots_of(mates, &r, ties, count, sums);
    for (Index v = 0; v < CHUNK; v += LANES) {
      Vector sum = {0};
      for (Index i = 0; i < b.rows; i++)
        for (Index q = 0; q < b.columns; q++) sum += load(r.dy[i] + q * r.dy_step + v);
      for (Index l = 0; l < LANES; l++) sums[count * mates * CHUNK + v + l] += (double)sum[l];
    }
  }
}

void NAME(depthwise_merge)(const Map *m, Index chunk, const char *room, Cell *dk, Cell *db) {
  const Index mates = mates_of(m), all = ties_of(m) * mates;
  for (Index o = 0; o < smaller(CHUNK, m->filters - chunk * CHUNK); o++)
    for (Index at = 0; at <= all; at++) {
      double sum = 0;
      for (Index slot = 0; slot < m->slots; slot++)
        sum += ((const double *)room)[(slot * chunks_of(m) + chunk) * sums_of(m) + at * CHUNK + o];
      if (at < all) dk[kernel_at(m, chunk * CHUNK + o, at / mates, at % mates)] = (Cell)sum;
      else if (db) db[chunk * CHUNK + o] = (Cell)sum;
    }
}
