// Correlation in groups of few filters, as a depthwise one is, and its kernel's gradient: the filters of all groups are the
// lanes of vectors.
//
// A chunk of filters, as many as fill a cache line, is treated at a time. What it sees of a band is laid out with a line of
// cells for a pixel. Where a group has as many channels as filters, these are the chunk's own channels, and a lane meets
// those of its group, its mates; else there is a line for each channel of a group, in which each filter's lane has the
// channel of its own group. What one vector of the kernel is laid out for, and all its mates, is a tie: a tap, or a tap
// and a channel.

#include "band.h"
#include "ways.h"

#define BAND 32768 // bytes that are laid out at a time
#define PIXELS 384 // whose products make a chain of the gradient, at least
#define SLOTS 16   // parts of a batch, whose sums are added at last
#define SOME 8     // pixels that a vector of the kernel meets together at most

INLINE Index chunks_of(const Map *m) { return parts(m->filters, CHUNK); }
INLINE Index mates_of(const Map *m) { return m->channels == m->group && CHUNK % m->group == 0 ? m->group : 1; }
INLINE Index lines_of(const Map *m) { return m->channels / mates_of(m); }
INLINE Index ties_of(const Map *m) { return taps(m) * lines_of(m); }
INLINE Index bands_of(const Map *m) { return parts(m->images * m->out_rows, m->band) * parts(m->out_columns, m->segment); }

// A share of the chunks.
typedef struct {
  Index low, high;
} Share;

INLINE Share share_of(const Map *m, Index number) {
  return (Share){number * chunks_of(m) / m->shares, (number + 1) * chunks_of(m) / m->shares};
}

// How bands are cut: whole images if they fit, else rows of one, and segments of rows that are too long for many of them.
static void cut(Map *m, Index shares) {
  m->shares = within(shares, 1, chunks_of(m));
  const Index reach = span(m->kernel_rows, m->row_gap), wide = span(m->kernel_columns, m->column_gap);
  const Index pixel = lines_of(m) * CHUNK * (Index)sizeof(Cell), most = larger(16, (BAND / pixel / (2 * reach) - wide) / m->across);
  m->segment = parts(m->out_columns, parts(m->out_columns, most));
  const Index row = ((m->segment - 1) * m->across + wide) * pixel;
  m->band = BAND / row / ((m->out_rows - 1) * m->down + reach) * m->out_rows;
  if (!m->band) m->band = larger(0, BAND / row - reach) / m->down + 1;
  m->band = within(m->band, 1, m->images * m->out_rows);
  if (m->band < m->out_rows) m->band = parts(m->out_rows, parts(m->out_rows, m->band));
}

// A band as it is laid out for a chunk: a row has a line of pixels for each of the lines.
INLINE Band band_at(const Map *m, Index number) {
  const Index segments = parts(m->out_columns, m->segment);
  Band b = band_of(m, number / segments, number % segments);
  b.pitch = b.width * lines_of(m) * CHUNK;
  return b;
}

// One row of a chunk's lines.
INLINE void lay_lines(const Map *m, Index chunk, Cell *to, const Cell *row, Index from, Index width) {
  const Index first = chunk * CHUNK, filters = smaller(CHUNK, m->filters - first);
  if (m->channels == m->group && lines_of(m) == 1) { // a filter's cell is that of the channel of its own number
    lay_row(m, to, CHUNK, filters, row ? row + first * m->x_channel : 0, from, width);
    return;
  }
  const Index before = row ? within(-from, 0, width) : width, after = row ? within(m->columns - from, before, width) : width;
  for (Index c = 0; c < lines_of(m); c++, to += width * CHUNK) {
    clear(to, before * CHUNK);
    clear(to + after * CHUNK, (width - after) * CHUNK);
    for (Index o = 0; o < filters && before < after; o++) {
      const Cell *cells = row + from * m->x_column + ((first + o) / m->group * m->channels + c) * m->x_channel;
      for (Index q = before; q < after; q++) to[q * CHUNK + o] = cells[q * m->x_column];
    }
  }
}

// Where ties lie from a window's beginning on.
INLINE void find_ties(const Map *m, const Band *b, Index *ties) {
  for (Index tap = 0; tap < taps(m); tap++)
    for (Index c = 0; c < lines_of(m); c++)
      *ties++ = tap / m->kernel_columns * b->deep * b->pitch + (c * b->width + tap % m->kernel_columns * m->column_gap) * CHUNK;
}

void NAME(depthwise_prepare)(Map *m, int threads) {
  cut(m, 1);
  if (m->images < threads) m->band = evenly_cut(m->out_rows, smaller(m->band, m->out_rows), threads);
  if (threads > 1) m->shares = within(parts(4 * threads, bands_of(m)), 1, chunks_of(m));
  m->units = bands_of(m) * m->shares;
  m->packed = chunks_of(m) * m->channels * taps(m) * CHUNK;
}

// Where a filter's kernel lies, and in it the cell of a tie's n-th mate.
INLINE Index filter_at(const Map *m, Index filter) {
  return m->k_at + filter / m->group * m->k_group + filter % m->group * m->k_filter;
}
INLINE Index cell_at(const Map *m, Index tie, Index n) {
  const Index tap = tie / lines_of(m), c = tie % lines_of(m) + n;
  return c * m->k_channel + tap / m->kernel_columns * m->k_row + tap % m->kernel_columns * m->k_column;
}

// A chunk of the kernel: [tie][mate][filter].
void NAME(depthwise_pack)(const Map *m, Index chunk, const Cell *k, Cell *packed) {
  const Index all = m->channels * taps(m), filters = smaller(CHUNK, m->filters - chunk * CHUNK);
  Cell *to = packed + m->packed_at + chunk * all * CHUNK;
  if (filters < CHUNK) clear(to, all * CHUNK);
  for (Index o = 0; o < filters; o++) {
    const Cell *from = k + filter_at(m, chunk * CHUNK + o);
    for (Index row = 0, n = 0; row < m->kernel_rows; row++)
      for (Index column = 0; column < m->kernel_columns; column++)
        for (Index c = 0; c < m->channels; c++, n++) to[n * CHUNK + o] = from[row * m->k_row + column * m->k_column + c * m->k_channel];
  }
}

// In each lane, the n-th mate of the groups that a vector's lanes belong to; `v` is the vector's number in its line.
INLINE Vector mate(const int mates, const int n, const Cell *line, Index v) {
  if (mates >= LANES) return splat(line[v * LANES / mates * mates + n]);
  const Vector all = load(line + v * LANES);
  Vector made = all;
  UNROLL for (int l = 0; l < LANES; l++) made[l] = all[l / mates * mates + n];
  return made;
}

// Write sums of some pixels, those of the filters from `at` on, or add them to what lies there.
INLINE void write_row(const int some, Vector *sums, Cell *out, Index step, Index at, int adds, const Finish *finish) {
#define SUM(i, v) sums[i]
#define TO(i) (out + i * step)
  if (adds) UNROLL for (int p = 0; p < some; p++) sums[p] += load(TO(p));
  FINISH(Vector, LANES, some, 1, finish, at);
#undef SUM
#undef TO
}

// Sums of `some` pixels, `step` apart, for one vector of filters: out[p] (+)= the sum over ties t and mates of
// x[p][ties[t]] k[t].
INLINE void meet(const int some, const int mates, const Cell *x, Index step, const Index *ties, Index count, const Cell *k, Index v,
                 Cell *out, Index out_step, int adds, const Finish *finish) {
  Vector sums[SOME];
  UNROLL for (int p = 0; p < some; p++) sums[p] = (Vector){0};
  k += v * LANES;
  for (Index t = 0; t < count; t++, k += mates * CHUNK) {
    const Cell *line = x + ties[t];
    UNROLL for (int n = 0; n < mates; n++) {
      const Vector w = load(k + n * CHUNK);
      UNROLL for (int p = 0; p < some; p++) sums[p] += w * mate(mates, n, line + p * step, v);
    }
  }
  write_row(some, sums, out + v * LANES, out_step, v * LANES, adds, finish);
}

// The same for taps that are neighbours, three at a time: each pixel is read once for all that it meets. Taps of a row lie
// side by side, rows `deep` apart; pixels are `across` columns apart.
INLINE void slide(const int some, const int mates, const int across, const Cell *x, Index deep, Index rows, Index columns, const Cell *k,
                  Index v, Cell *out, Index out_step, const Finish *finish) {
  Vector sums[SOME];
  UNROLL for (int p = 0; p < some; p++) sums[p] = (Vector){0};
  k += v * LANES;
  for (Index i = 0; i < rows; i++, x += deep) {
    const Cell *line = x;
    for (Index j = columns; j >= 3; j -= 3, line += 3 * CHUNK, k += 3 * mates * CHUNK)
      UNROLL for (int n = 0; n < mates; n++) {
        Vector w[3];
        UNROLL for (int t = 0; t < 3; t++) w[t] = load(k + (t * mates + n) * CHUNK);
        UNROLL for (int q = 0; q < (some - 1) * across + 3; q++) {
          const Vector cells = mate(mates, n, line + q * CHUNK, v);
          UNROLL for (int t = 0; t < 3; t++)
            if (q >= t && (q - t) % across == 0 && (q - t) / across < some) sums[(q - t) / across] += w[t] * cells;
        }
      }
    for (Index j = columns % 3; j > 0; j--, line += CHUNK, k += mates * CHUNK)
      UNROLL for (int n = 0; n < mates; n++) {
        const Vector w = load(k + n * CHUNK);
        UNROLL for (int p = 0; p < some; p++) sums[p] += w * mate(mates, n, line + p * across * CHUNK, v);
      }
  }
  write_row(some, sums, out + v * LANES, out_step, v * LANES, 0, finish);
}

// How windows meet a chunk of the kernel.
typedef struct {
  Index mates, count, together; // ties, and how many of them make one piece of a sum
  Index rows, columns, deep;    // taps, and from a laid row's to the next
  Index across;                 // columns from a pixel to the next
  int slides;                   // whether the taps of a row are neighbours, so that a pixel can be read once for three of them
  const Index *ties;
} Meeting;

INLINE Meeting meeting_of(const Map *m, const Band *b, const Index *ties) {
  return (Meeting){
      .mates = mates_of(m), .count = ties_of(m), .together = larger(1, TERMS / mates_of(m)), .rows = m->kernel_rows,
      .columns = m->kernel_columns, .deep = b->deep * b->pitch, .across = m->across, .ties = ties,
      .slides = m->kernel_columns >= 3 && m->column_gap == 1 && m->across <= 2 && lines_of(m) == 1 && taps(m) * m->channels <= TERMS};
}

// A row of pixels, `some` at a time: the last ones once more, so that all meet in equal numbers.
INLINE void row_of(const int some, const int mates, const Meeting *how, const Cell *x, const Cell *k, Index pixels, Cell *out,
                   Index out_step, const Finish *finish) {
  const Index step = how->across * CHUNK;
  for (Index p = 0; p < pixels; p += some) {
    const Index from = smaller(p, pixels - some);
    const Cell *at = x + from * step;
    Cell *to = out + from * out_step;
    for (Index v = 0; v < CHUNK / LANES; v++)
      if (some > 1 && how->slides && how->across == 1)
        slide(some, mates, 1, at, how->deep, how->rows, how->columns, k, v, to, out_step, finish);
      else if (some > 1 && how->slides)
        slide(some, mates, 2, at, how->deep, how->rows, how->columns, k, v, to, out_step, finish);
      else for (Index t = 0; t < how->count; t += how->together)
        meet(some, mates, at, step, how->ties + t, smaller(how->together, how->count - t), k + t * mates * CHUNK, v, to, out_step, t > 0,
             t + how->together >= how->count ? finish : 0);
  }
}

// The same, compiled for all numbers of mates.
#define ALL(DO) DO(1) DO(2) DO(4) DO(8)
static void meet_row(const Meeting *how, const Cell *x, const Cell *k, Index pixels, Cell *out, Index out_step, const Finish *finish) {
#define ROW(mates) \
  case mates: \
    if (pixels >= SOME) row_of(SOME, mates, how, x, k, pixels, out, out_step, finish); \
    else if (pixels == 7) row_of(7, mates, how, x, k, pixels, out, out_step, finish); \
    else if (pixels >= 4) row_of(4, mates, how, x, k, pixels, out, out_step, finish); \
    else row_of(1, mates, how, x, k, pixels, out, out_step, finish); \
    return;
  switch (how->mates) { ALL(ROW) }
}

// A band's pixels and a share of the chunks.
void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending) {
  const Share s = share_of(m, unit % m->shares);
  const Band b = band_at(m, unit / m->shares);
  const Index count = ties_of(m);
  char *room = scratch((b.most * b.pitch + b.columns * CHUNK) * sizeof(Cell) + b.rows * sizeof(Cell *) + count * sizeof(Index) + 320);
  Cell *laid = carve(&room, b.most * b.pitch * sizeof(Cell)), *sums = carve(&room, b.columns * CHUNK * sizeof(Cell));
  const Cell **rows = carve(&room, b.rows * sizeof(Cell *));
  Index *ties = carve(&room, count * sizeof(Index));
  find_ties(m, &b, ties);
  const Meeting how = meeting_of(m, &b, ties);
  Index rest = s.low * CHUNK; // the first of the filters whose sums are not finished
  for (Index chunk = s.low; chunk < s.high; chunk++) {
    const Index filters = smaller(CHUNK, m->filters - chunk * CHUNK), aside = m->y_channel != 1 || filters < CHUNK;
    const Cell *k = packed + m->packed_at + chunk * count * how.mates * CHUNK;
    Finish finish;
    const int ends = !aside && finish_of(m, ending, chunk * CHUNK, &finish);
    lay_rows(m, &b, x, laid, rows, lay_lines, chunk);
    for (Index r = 0; r < b.rows; r++) {
      Cell *out = y + chunk * CHUNK * m->y_channel + m->y_at + (b.first + r) / m->out_rows * m->y_image +
                  (b.first + r) % m->out_rows * m->y_row + b.left * m->y_column;
      meet_row(&how, rows[r], k, b.columns, aside ? sums : out, aside ? CHUNK : m->y_column, ends ? &finish : 0);
      if (ends) rest = larger(rest, (chunk + 1) * CHUNK);
      for (Index o = 0; o < filters && aside; o++)
        for (Index q = 0; q < b.columns; q++) out[o * m->y_channel + q * m->y_column] = sums[q * CHUNK + o];
    }
  }
  const Index last = smaller(m->filters, s.high * CHUNK);
  if (ending->program && rest < last) NAME(end)(m, ending, b.first, b.rows, b.left, b.columns, rest, last - rest);
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

// Products of dY with the mates of some ties, for one vector of filters, over all pixels, added to what is there.
INLINE void dots(const int mates, const int count, const Rows *r, const Index *ties, const Index *which, Index v, Cell *to) {
  Vector sums[12];
  UNROLL for (int n = 0; n < count * mates; n++) sums[n] = (Vector){0};
  for (Index i = 0; i < r->count; i++) {
    const Cell *x = r->x[i], *dy = r->dy[i] + v * LANES;
    for (Index q = 0; q < r->columns; q++, x += r->step, dy += r->dy_step) {
      const Vector d = load(dy);
      UNROLL for (int t = 0; t < count; t++)
        UNROLL for (int n = 0; n < mates; n++) sums[t * mates + n] += d * mate(mates, n, x + ties[which[t]], v);
    }
  }
  UNROLL for (int t = 0; t < count; t++) UNROLL for (int n = 0; n < mates; n++) {
    Cell *sum = to + (which[t] * mates + n) * CHUNK + v * LANES;
    store(sum, load(sum) + sums[t * mates + n]);
  }
}

#define FOUR 4 // pixels that three neighbours of a row meet together

// The next `some` pixels of a row: each cell of X is read once for three neighbouring taps.
INLINE void dots_beside(const int some, const int across, const Cell *const *x, const Cell *dy, Index dy_step, Vector sums[3][3]) {
  Vector d[FOUR];
  UNROLL for (int p = 0; p < some; p++) d[p] = load(dy + p * dy_step);
  UNROLL for (int i = 0; i < 3; i++) UNROLL for (int q = 0; q < (some - 1) * across + 3; q++) {
    const Vector cells = load(x[i] + q * CHUNK);
    UNROLL for (int t = 0; t < 3; t++)
      if (q >= t && (q - t) % across == 0 && (q - t) / across < some) sums[i][t] += d[(q - t) / across] * cells;
  }
}

// The same of three rows of three neighbouring taps, the first of which is `tie`; of single mates.
INLINE void dots_of_nine(const int across, const Rows *r, const Index *ties, Index tie, Index columns, Index v, Cell *to) {
  Vector sums[3][3] = {};
  for (Index i = 0; i < r->count; i++) {
    const Cell *x[3], *dy = r->dy[i] + v * LANES;
    UNROLL for (int row = 0; row < 3; row++) x[row] = r->x[i] + ties[tie + row * columns] + v * LANES;
    Index q = 0;
    for (; q + FOUR <= r->columns; q += FOUR, dy += FOUR * r->dy_step) {
      dots_beside(FOUR, across, x, dy, r->dy_step, sums);
      UNROLL for (int row = 0; row < 3; row++) x[row] += FOUR * across * CHUNK;
    }
    for (; q < r->columns; q++, dy += r->dy_step) {
      dots_beside(1, across, x, dy, r->dy_step, sums);
      UNROLL for (int row = 0; row < 3; row++) x[row] += across * CHUNK;
    }
  }
  UNROLL for (int row = 0; row < 3; row++) UNROLL for (int t = 0; t < 3; t++) {
    Cell *sum = to + (tie + row * columns + t) * CHUNK + v * LANES;
    store(sum, load(sum) + sums[row][t]);
  }
}

// The products of a whole chunk: of nine neighbours at a time where there are such, then of as many ties as registers
// hold sums; `which` is room for their numbers.
static void dots_of(const Meeting *how, const Rows *r, Index *which, Cell *to) {
  const Index blocks = how->slides && how->mates == 1 && how->rows >= 3, columns = how->columns;
  const Index high = blocks ? how->rows / 3 * 3 : 0, wide = blocks ? columns / 3 * 3 : 0;
  for (Index tie = 0; tie < high * columns; tie += tie % columns + 3 < wide ? 3 : 3 * columns - tie % columns)
    for (Index v = 0; v < CHUNK / LANES; v++)
      if (how->across == 1) dots_of_nine(1, r, how->ties, tie, columns, v, to);
      else dots_of_nine(2, r, how->ties, tie, columns, v, to);
  Index count = 0;
  for (Index tie = 0; tie < how->count; tie++)
    if (tie >= high * columns || tie % columns >= wide) which[count++] = tie;
#define DOTS(mates) \
  case mates: \
    for (Index v = 0; v < CHUNK / LANES; v++) \
      for (Index t = 0, some; t < count; t += some) { \
        some = count - t >= MOST(mates) ? MOST(mates) : count - t >= LESS(mates) ? LESS(mates) : 1; \
        if (some == MOST(mates)) dots(mates, MOST(mates), r, how->ties, which + t, v, to); \
        else if (some == LESS(mates)) dots(mates, LESS(mates), r, how->ties, which + t, v, to); \
        else dots(mates, 1, r, how->ties, which + t, v, to); \
      } \
    return;
#define MOST(mates) ((mates) == 1 ? 9 : (mates) == 2 ? 6 : (mates) == 4 ? 3 : 1)
#define LESS(mates) ((mates) == 1 ? 3 : 1)
  switch (how->mates) { ALL(DOTS) }
}

// Products of dY with what a chunk sees of a band, and the sums of dY, added to what is there.
static void add_products(const Meeting *how, const Rows *r, Index *which, Cell *to) {
  Cell *bias = to + how->count * how->mates * CHUNK;
  dots_of(how, r, which, to);
  for (Index v = 0; v < CHUNK; v += LANES) {
    Vector sum = load(bias + v);
    for (Index i = 0; i < r->count; i++)
      for (Index q = 0; q < r->columns; q++) sum += load(r->dy[i] + q * r->dy_step + v);
    store(bias + v, sum);
  }
}

void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room) {
  const Share s = share_of(m, unit % m->shares);
  const Index slot = unit / m->shares, count = ties_of(m), cells = sums_of(m);
  const Index begin = slot * bands_of(m) / m->slots, end = (slot + 1) * bands_of(m) / m->slots;
  double *sums = (double *)room + (slot * chunks_of(m) + s.low) * cells;
  const Band most = band_at(m, 0); // none is larger
  const Index pixels = most.rows * most.columns;
  char *own = scratch((most.most * most.pitch + pixels * CHUNK + cells) * sizeof(Cell) + 2 * most.rows * sizeof(Cell *) +
                      2 * count * sizeof(Index) + 448);
  Cell *laid = carve(&own, most.most * most.pitch * sizeof(Cell)), *copied = carve(&own, pixels * CHUNK * sizeof(Cell));
  Cell *chains = carve(&own, cells * sizeof(Cell));
  Rows r = {.step = m->across * CHUNK};
  r.x = carve(&own, most.rows * sizeof(Cell *)), r.dy = carve(&own, most.rows * sizeof(Cell *));
  Index *ties = carve(&own, count * sizeof(Index)), *which = carve(&own, count * sizeof(Index));
  for (Index chunk = s.low; chunk < s.high; chunk++, sums += cells) {
    const Index filters = smaller(CHUNK, m->filters - chunk * CHUNK), in_place = m->y_channel == 1 && filters == CHUNK;
    r.dy_step = in_place ? m->y_column : CHUNK;
    clear(chains, cells);
    clear(copied, in_place ? 0 : pixels * CHUNK);
    for (Index j = 0; j < cells; j++) sums[j] = 0;
    for (Index n = begin, met = 0; n < end; n++) {
      const Band b = band_at(m, n);
      r.count = b.rows, r.columns = b.columns;
      find_ties(m, &b, ties);
      lay_rows(m, &b, x, laid, r.x, lay_lines, chunk);
      for (Index i = 0; i < b.rows; i++) {
        const Cell *from = dy + m->y_at + (b.first + i) / m->out_rows * m->y_image + (b.first + i) % m->out_rows * m->y_row +
                           b.left * m->y_column + chunk * CHUNK * m->y_channel;
        Cell *to = copied + i * b.columns * CHUNK;
        r.dy[i] = in_place ? from : to;
        for (Index o = 0; o < filters && !in_place; o++)
          for (Index q = 0; q < b.columns; q++) to[q * CHUNK + o] = from[o * m->y_channel + q * m->y_column];
      }
      const Meeting how = meeting_of(m, &b, ties);
      add_products(&how, &r, which, chains);
      met += b.rows * b.columns;
      if (met < PIXELS && n < end - 1) continue;
      for (Index j = 0; j < cells; j++) sums[j] += (double)chains[j];
      clear(chains, cells);
      met = 0;
    }
  }
}

void NAME(depthwise_merge)(const Map *m, Index chunk, const char *room, Cell *dk, Cell *db) {
  const Index mates = mates_of(m), all = ties_of(m) * mates, first = chunk * CHUNK, filters = smaller(CHUNK, m->filters - first);
  Index places[CHUNK];
  for (Index o = 0; o < filters; o++) places[o] = filter_at(m, first + o);
  for (Index at = 0; at <= all; at++) {
    double sums[CHUNK] = {0};
    for (Index slot = 0; slot < m->slots; slot++) {
      const double *of = (const double *)room + (slot * chunks_of(m) + chunk) * sums_of(m) + at * CHUNK;
      for (Index o = 0; o < CHUNK; o++) sums[o] += of[o];
    }
    if (at < all) {
      Cell *to = dk + cell_at(m, at / mates, at % mates);
      for (Index o = 0; o < filters; o++) to[places[o]] = (Cell)sums[o];
    } else {
      for (Index o = 0; o < filters && db; o++) db[first + o] = (Cell)sums[o];
    }
  }
}
