// Correlation in groups of few filters, as a depthwise one is, and its kernel's gradient: the filters of all groups are the
// lanes of vectors.
//
// A chunk of filters, as many as fill a cache line, is treated together, and a unit has a share of the chunks. What they
// see is laid out as a band, in which a pixel has a line of cells for each chunk. Where a group has as many channels as
// filters, these are the chunk's own channels, and a lane meets those of its group, its mates; else there is a line for
// each channel of a group, in which each filter's lane has the channel of its own group. What one vector of the kernel is
// laid out for, and all its mates, is a tie: a tap, or a tap and a channel.

#include "band.h"
#include "ways.h"

#define BAND 65536 // bytes that are laid out at a time
#define PIXELS 384 // whose products make a chain of the gradient, at least
#define SLOTS 16   // parts of a batch, whose sums are added at last
#define SOME 8     // pixels that a vector of the kernel meets together

INLINE Index chunks_of(const Map *m) { return parts(m->filters, CHUNK); }
INLINE Index mates_of(const Map *m) { return m->channels == m->group && CHUNK % m->group == 0 ? m->group : 1; }
INLINE Index lines_of(const Map *m) { return m->channels / mates_of(m); }
INLINE Index ties_of(const Map *m) { return taps(m) * lines_of(m); }
INLINE Index bands_of(const Map *m) { return parts(m->images * m->out_rows, m->band) * parts(m->out_columns, m->segment); }

// A share of the chunks: [low, high), and the cells of a pixel for a channel of them all, and as it is laid out. That is an
// odd number of cache lines, which spreads pixels over a cache.
typedef struct {
  Index low, high, width, pitch;
} Share;

INLINE Share share_of(const Map *m, Index number) {
  Share s = {number * chunks_of(m) / m->shares, (number + 1) * chunks_of(m) / m->shares};
  s.width = (s.high - s.low) * CHUNK, s.pitch = ((s.high - s.low) * lines_of(m) | 1) * CHUNK;
  return s;
}

// How bands are cut for so many shares: whole images if they fit, else rows of one.
static void cut(Map *m, Index shares) {
  m->shares = within(shares, 1, chunks_of(m));
  const Index reach = span(m->kernel_rows, m->row_gap), pixel = (parts(chunks_of(m), m->shares) * lines_of(m) | 1) * CHUNK * (Index)sizeof(Cell);
  const Index most = larger(16, (BAND / pixel / reach - span(m->kernel_columns, m->column_gap)) / m->across);
  m->segment = parts(m->out_columns, parts(m->out_columns, most));
  const Index row = ((m->segment - 1) * m->across + span(m->kernel_columns, m->column_gap)) * pixel;
  m->band = BAND / row / ((m->out_rows - 1) * m->down + reach) * m->out_rows;
  if (!m->band) m->band = (BAND / row - reach) / m->down + 1;
  m->band = within(m->band, 1, m->images * m->out_rows);
  if (m->band < m->out_rows) m->band = parts(m->out_rows, parts(m->out_rows, m->band));
}

// A band as it is laid out for a share.
INLINE Band band_at(const Map *m, Index number, const Share *s) {
  const Index segments = parts(m->out_columns, m->segment);
  Band b = band_of(m, number / segments, number % segments);
  b.pitch = b.width * s->pitch;
  return b;
}

// One row of a share's lines.
INLINE void lay_lines(const Map *m, Index number, Cell *to, const Cell *row, Index from, Index width) {
  const Share s = share_of(m, number);
  const Index first = s.low * CHUNK, filters = smaller(s.width, m->filters - first);
  if (m->channels == m->group && lines_of(m) == 1) { // a filter's cell is that of the channel of its own number
    lay_row(m, to, s.pitch, filters, row ? row + first * m->x_channel : 0, from, width);
    return;
  }
  const Index before = row ? within(-from, 0, width) : width, after = row ? within(m->columns - from, before, width) : width;
  clear(to, before * s.pitch);
  clear(to + after * s.pitch, (width - after) * s.pitch);
  for (Index c = 0; c < lines_of(m); c++)
    for (Index o = 0; o < filters; o++) {
      const Cell *cells = row + from * m->x_column + ((first + o) / m->group * m->channels + c) * m->x_channel;
      for (Index q = before; q < after; q++) to[q * s.pitch + c * s.width + o] = cells[q * m->x_column];
    }
}

// Where ties lie from a window's beginning on.
INLINE void find_ties(const Map *m, const Band *b, const Share *s, Index *ties) {
  for (Index tap = 0; tap < taps(m); tap++)
    for (Index c = 0; c < lines_of(m); c++)
      *ties++ = tap / m->kernel_columns * b->deep * b->pitch + tap % m->kernel_columns * m->column_gap * s->pitch + c * s->width;
}

void NAME(depthwise_prepare)(Map *m, int threads) {
  cut(m, 1);
  if (threads > 1 && bands_of(m) < 4 * threads) cut(m, parts(4 * threads, bands_of(m)));
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

// Sums of SOME pixels for one vector of filters: outs[p] (+)= the sum over ties t and mates of at[p][line + ties[t]] k[t].
INLINE void meet(const int mates, const Cell *const *at, const Index *ties, Index count, Index line, const Cell *k, Index v,
                 Cell *out, const Index *outs, int adds) {
  Vector sums[SOME];
  UNROLL for (int p = 0; p < SOME; p++) sums[p] = (Vector){0};
  k += v * LANES;
  for (Index t = 0; t < count; t++, k += mates * CHUNK)
    UNROLL for (int n = 0; n < mates; n++) {
      const Vector w = load(k + n * CHUNK);
      UNROLL for (int p = 0; p < SOME; p++) sums[p] += w * mate(mates, n, at[p] + line + ties[t], v);
    }
  out += v * LANES;
  UNROLL for (int p = 0; p < SOME; p++) store(out + outs[p], adds ? load(out + outs[p]) + sums[p] : sums[p]);
}

// The same, compiled for all numbers of mates.
#define ALL(DO) DO(1) DO(2) DO(4) DO(8)
static void meet_some(Index mates, const Cell *const *at, const Index *ties, Index count, Index line, const Cell *k, Index v,
                      Cell *out, const Index *outs, int adds) {
#define MEET(mates) \
  case mates: \
    meet(mates, at, ties, count, line, k, v, out, outs, adds); \
    return;
  switch (mates) { ALL(MEET) }
}

// A band's pixels and a share of the chunks.
void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending) {
  const Share s = share_of(m, unit % m->shares);
  const Band b = band_at(m, unit / m->shares, &s);
  const Index pixels = b.rows * b.columns, all = larger(pixels, SOME), count = ties_of(m), mates = mates_of(m);
  const Index together = larger(1, TERMS / mates);
  char *room = scratch((b.most * b.pitch + all * CHUNK) * sizeof(Cell) + (b.rows + all) * sizeof(Cell *) +
                       (2 * all + count) * sizeof(Index) + 448);
  Cell *laid = carve(&room, b.most * b.pitch * sizeof(Cell)), *sums = carve(&room, all * CHUNK * sizeof(Cell));
  const Cell **rows = carve(&room, b.rows * sizeof(Cell *)), **at = carve(&room, all * sizeof(Cell *));
  Index *outs = carve(&room, all * sizeof(Index)), *steady = carve(&room, all * sizeof(Index)), *ties = carve(&room, count * sizeof(Index));
  find_ties(m, &b, &s, ties);
  lay_rows(m, &b, x, laid, rows, lay_lines, unit % m->shares);
  Index p = 0;
  for (Index r = 0; r < b.rows; r++) {
    const Index image = (b.first + r) / m->out_rows, row = (b.first + r) % m->out_rows;
    const Index out = m->y_at + image * m->y_image + row * m->y_row + b.left * m->y_column;
    for (Index q = 0; q < b.columns; q++, p++)
      at[p] = rows[r] + q * m->across * s.pitch, outs[p] = out + q * m->y_column, steady[p] = p * CHUNK;
  }
  for (; p < all; p++) at[p] = at[p - 1], outs[p] = outs[p - 1], steady[p] = steady[p - 1]; // the last one once more
  for (Index chunk = s.low; chunk < s.high; chunk++) {
    const Index filters = smaller(CHUNK, m->filters - chunk * CHUNK), aside = m->y_channel != 1 || filters < CHUNK;
    Cell *out = y + chunk * CHUNK * m->y_channel;
    for (p = 0; p < all; p += SOME) {
      const Index from = smaller(p, all - SOME);
      for (Index v = 0; v < CHUNK / LANES; v++)
        for (Index t = 0; t < count; t += together)
          meet_some(mates, at + from, ties + t, smaller(together, count - t), (chunk - s.low) * CHUNK,
                    packed + m->packed_at + (chunk * count + t) * mates * CHUNK, v, aside ? sums : out, (aside ? steady : outs) + from, t > 0);
    }
    for (Index o = 0; o < filters && aside; o++)
      for (p = 0; p < pixels; p++) out[o * m->y_channel + outs[p]] = sums[p * CHUNK + o];
  }
  const Index first = s.low * CHUNK, last = smaller(m->filters, s.high * CHUNK);
  if (ending->program) NAME(end)(m, ending, b.first, b.rows, b.left, b.columns, first, last - first);
}

INLINE Index sums_of(const Map *m) { return (m->channels * taps(m) + 1) * CHUNK; } // of a chunk in a slot, and dB's

void NAME(depthwise_prepare_gradient)(Map *m) {
  cut(m, 1);
  m->slots = smaller(SLOTS, bands_of(m));
  if (m->slots < SLOTS) cut(m, parts(SLOTS, m->slots)), m->slots = smaller(SLOTS, bands_of(m));
  m->units = m->slots * m->shares;
  m->packed = m->slots * chunks_of(m) * sums_of(m) * (Index)sizeof(double);
}

// The rows of a band, of what is seen and of dY: so many pixels, which lie apart by `step` and `dy_step`.
typedef struct {
  const Cell **x, **dy;
  Index count, columns, step, dy_step;
} Rows;

// Products of dY with the mates of `count` ties, for one vector of filters, over all pixels, added to what is there.
INLINE void dots(const int mates, const int count, const Rows *r, const Index *ties, Index line, Index v, Cell *to) {
  Vector sums[12];
  UNROLL for (int n = 0; n < count * mates; n++) sums[n] = (Vector){0};
  for (Index i = 0; i < r->count; i++) {
    const Cell *x = r->x[i] + line, *dy = r->dy[i] + line + v * LANES;
    for (Index q = 0; q < r->columns; q++, x += r->step, dy += r->dy_step) {
      const Vector d = load(dy);
      UNROLL for (int t = 0; t < count; t++)
        UNROLL for (int n = 0; n < mates; n++) sums[t * mates + n] += d * mate(mates, n, x + ties[t], v);
    }
  }
  to += v * LANES;
  UNROLL for (int n = 0; n < count * mates; n++) store(to + n * CHUNK, load(to + n * CHUNK) + sums[n]);
}

// The products of a whole chunk; of as many ties at once as registers hold sums.
static void dots_of(Index mates, const Rows *r, const Index *ties, Index line, Index count, Cell *to) {
#define DOTS(mates) \
  case mates: \
    for (Index v = 0; v < CHUNK / LANES; v++) \
      for (Index t = 0, some; t < count; t += some) { \
        some = count - t >= MOST(mates) ? MOST(mates) : count - t >= LESS(mates) ? LESS(mates) : 1; \
        Cell *sums = to + t * mates * CHUNK; \
        if (some == MOST(mates)) dots(mates, MOST(mates), r, ties + t, line, v, sums); \
        else if (some == LESS(mates)) dots(mates, LESS(mates), r, ties + t, line, v, sums); \
        else dots(mates, 1, r, ties + t, line, v, sums); \
      } \
    return;
#define MOST(mates) ((mates) == 1 ? 9 : (mates) == 2 ? 6 : (mates) == 4 ? 3 : 1)
#define LESS(mates) ((mates) == 1 ? 3 : 1)
  switch (mates) { ALL(DOTS) }
}

void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room) {
  const Share s = share_of(m, unit % m->shares);
  const Index slot = unit / m->shares, count = ties_of(m), mates = mates_of(m), cells = (s.high - s.low) * sums_of(m);
  const Index end = (slot + 1) * bands_of(m) / m->slots, first = s.low * CHUNK, filters = smaller(s.width, m->filters - first);
  double *sums = (double *)room + (slot * chunks_of(m) + s.low) * sums_of(m);
  for (Index j = 0; j < cells; j++) sums[j] = 0;
  const Band most = band_at(m, 0, &s); // none is larger
  const Index in_place = m->y_channel == 1 && filters == s.width, slopes = in_place ? 0 : most.rows * most.columns * s.width;
  char *own = scratch((most.most * most.pitch + slopes + cells) * sizeof(Cell) + 2 * most.rows * sizeof(Cell *) + count * sizeof(Index) + 384);
  Cell *laid = carve(&own, most.most * most.pitch * sizeof(Cell)), *copied = carve(&own, slopes * sizeof(Cell));
  Cell *chains = carve(&own, cells * sizeof(Cell));
  Rows r = {.step = m->across * s.pitch, .dy_step = in_place ? m->y_column : s.width};
  r.x = carve(&own, most.rows * sizeof(Cell *)), r.dy = carve(&own, most.rows * sizeof(Cell *));
  Index *ties = carve(&own, count * sizeof(Index));
  for (Index n = slot * bands_of(m) / m->slots, pixels = 0; n < end; n++) {
    const Band b = band_at(m, n, &s);
    r.count = b.rows, r.columns = b.columns;
    if (!pixels) clear(chains, cells);
    find_ties(m, &b, &s, ties);
    lay_rows(m, &b, x, laid, r.x, lay_lines, unit % m->shares);
    clear(copied, slopes);
    for (Index i = 0; i < b.rows; i++) {
      const Cell *from = dy + m->y_at + (b.first + i) / m->out_rows * m->y_image + (b.first + i) % m->out_rows * m->y_row +
                         b.left * m->y_column + first * m->y_channel;
      Cell *to = copied + i * b.columns * s.width;
      r.dy[i] = in_place ? from : to;
      for (Index o = 0; o < filters && !in_place; o++)
        for (Index q = 0; q < b.columns; q++) to[q * s.width + o] = from[o * m->y_channel + q * m->y_column];
    }
    for (Index c = 0; c < s.high - s.low; c++) {
      Cell *to = chains + c * sums_of(m), *bias = to + count * mates * CHUNK;
      dots_of(mates, &r, ties, c * CHUNK, count, to);
      for (Index v = 0; v < CHUNK; v += LANES) {
        Vector sum = {0};
        for (Index i = 0; i < b.rows; i++)
          for (Index q = 0; q < b.columns; q++) sum += load(r.dy[i] + q * r.dy_step + c * CHUNK + v);
        store(bias + v, load(bias + v) + sum);
      }
    }
    pixels += b.rows * b.columns;
    if (pixels < PIXELS && n < end - 1) continue;
    for (Index j = 0; j < cells; j++) sums[j] += (double)chains[j];
    pixels = 0;
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
