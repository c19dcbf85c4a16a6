// Correlation in groups of few filters, as a depthwise one is, and its kernel's gradient: the filters of all groups are the
// lanes of vectors.
//
// A unit lays out what a chunk of filters, as many as fill a cache line, sees of some rows of an image: for each channel of
// a group a layer in which each filter's lane has the channel of its own group.

#include "ways.h"

#define BAND 98304   // bytes that a unit lays out
#define COLUMNS 96   // of windows at most in a unit, where rows are long
#define CHAIN 128    // rows whose sums are added as cells
#define SLOTS 16     // parts of a batch, whose sums are added at last

typedef struct {
  Index chunk, filters;             // the number of the chunk, how many of its filters there are
  Index image, top, rows, left, columns; // windows
  Index width, pitch;               // pixels and cells of a laid row
} Strip;

INLINE Index chunks_of(const Map *m) { return parts(m->filters, CHUNK); }
INLINE Index strips_of(const Map *m) { return m->images * parts(m->out_rows, m->band) * parts(m->out_columns, m->segment); }

// A strip of a chunk.
INLINE Strip strip_of(const Map *m, Index chunk, Index strip) {
  const Index segments = parts(m->out_columns, m->segment), bands = parts(m->out_rows, m->band);
  Strip s = {.chunk = chunk, .filters = smaller(CHUNK, m->filters - chunk * CHUNK)};
  s.left = strip % segments * m->segment, s.top = strip / segments % bands * m->band, s.image = strip / segments / bands;
  s.rows = smaller(m->band, m->out_rows - s.top), s.columns = smaller(m->segment, m->out_columns - s.left);
  s.width = (s.columns - 1) * m->across + span(m->kernel_columns, m->column_gap), s.pitch = s.width * CHUNK;
  return s;
}

INLINE Index laid_rows(const Map *m, const Strip *s) { return (s->rows - 1) * m->down + span(m->kernel_rows, m->row_gap); }

static void cut_strips(Map *m) {
  m->segment = parts(m->out_columns, parts(m->out_columns, COLUMNS));
  const Index reach = span(m->kernel_rows, m->row_gap);
  const Index row = ((m->segment - 1) * m->across + span(m->kernel_columns, m->column_gap)) * m->channels * CHUNK * (Index)sizeof(Cell);
  m->band = within((BAND / row - reach) / m->down + 1, parts(reach, m->down), m->out_rows);
  m->band = parts(m->out_rows, parts(m->out_rows, larger(1, m->band)));
}

// Lay out what a strip's windows see, zeros outside and for filters beyond the last.
static void lay_strip(const Map *m, const Strip *s, const Cell *x, Cell *to) {
  const Index first = s->chunk * CHUNK, column = s->left * m->across - m->left;
  const Index before = within(-column, 0, s->width), after = within(m->columns - column, before, s->width);
  const int whole = m->group == 1 && m->channels == 1 && m->x_channel == 1 && s->filters == CHUNK;
  for (Index layer = 0; layer < m->channels * laid_rows(m, s); layer++, to += s->pitch) {
    const Index i = layer % laid_rows(m, s), c = layer / laid_rows(m, s);
    const Index row = s->top * m->down + i - m->top;
    if (row < 0 || row >= m->rows) {
      clear(to, s->pitch);
      continue;
    }
    const Cell *from = x + m->x_at + s->image * m->x_image + row * m->x_row + column * m->x_column;
    clear(to, before * CHUNK);
    clear(to + after * CHUNK, (s->width - after) * CHUNK);
    if (whole) {
      for (Index q = before; q < after; q++) copy(to + q * CHUNK, from + first + q * m->x_column, CHUNK);
      continue;
    }
    if (s->filters < CHUNK) clear(to + before * CHUNK, (after - before) * CHUNK);
    if (m->x_column != 1 && s->filters == CHUNK) { // a pixel's channels are near each other
      Index places[CHUNK];
      for (Index o = 0; o < CHUNK; o++) places[o] = ((first + o) / m->group * m->channels + c) * m->x_channel;
      for (Index q = before; q < after; q++)
        UNROLL for (Index o = 0; o < CHUNK; o++) to[q * CHUNK + o] = from[q * m->x_column + places[o]];
      continue;
    }
    for (Index o = 0; o < s->filters; o++) {
      const Cell *cells = from + ((first + o) / m->group * m->channels + c) * m->x_channel;
      for (Index q = before; q < after; q++) to[q * CHUNK + o] = cells[q * m->x_column];
    }
  }
}

void NAME(depthwise_prepare)(Map *m, int threads) {
  cut_strips(m);
  m->units = strips_of(m) * chunks_of(m);
  m->packed = chunks_of(m) * m->channels * taps(m) * CHUNK;
}

// Where a cell of the kernel lies, `tap` counting channels too.
INLINE Index kernel_at(const Map *m, Index filter, Index tap) {
  const Index c = tap / taps(m), row = tap % taps(m) / m->kernel_columns, column = tap % m->kernel_columns;
  return m->k_at + filter / m->group * m->k_group + filter % m->group * m->k_filter + c * m->k_channel + row * m->k_row +
         column * m->k_column;
}

// A chunk of the kernel: [channel][tap][filter].
void NAME(depthwise_pack)(const Map *m, Index chunk, const Cell *k, Cell *packed) {
  Cell *to = packed + m->packed_at + chunk * m->channels * taps(m) * CHUNK;
  for (Index tap = 0; tap < m->channels * taps(m); tap++, to += CHUNK)
    for (Index o = 0; o < CHUNK; o++) to[o] = chunk * CHUNK + o < m->filters ? k[kernel_at(m, chunk * CHUNK + o, tap)] : 0;
}

// Sums of 8 neighbouring pixels for one vector of filters: each pixel that is seen meets all taps of a row.
INLINE void eight(const int wide, const Cell *x, Index row, Index layer, const Cell *k, Index rows, Index channels, Cell *out) {
  Vector sums[8];
  UNROLL for (int n = 0; n < 8; n++) sums[n] = (Vector){0};
  for (Index c = 0; c < channels; c++, x += layer - rows * row) for (Index i = 0; i < rows; i++, x += row, k += wide * CHUNK) {
    Vector w[7];
    UNROLL for (int j = 0; j < wide; j++) w[j] = load(k + j * CHUNK);
    UNROLL for (int q = 0; q < 7 + wide; q++) {
      const Vector s = load(x + q * CHUNK);
      UNROLL for (int j = 0; j < wide; j++) if (q >= j && q - j < 8) sums[q - j] += s * w[j];
    }
  }
  UNROLL for (int n = 0; n < 8; n++) store(out + n * CHUNK, sums[n]);
}

// Sums of `count` pixels, `step` cells apart, for one vector of filters, any kernel.
INLINE void some(const int count, const Map *m, const Cell *x, Index pitch, Index layer, const Cell *k, Cell *out) {
  const Index step = m->across * CHUNK, together = larger(1, TERMS / m->kernel_columns);
  for (Index c = 0; c < m->channels; c++, x += layer, k += taps(m) * CHUNK) for (Index first = 0; first < m->kernel_rows; first += together) {
    Vector sums[4];
    UNROLL for (int n = 0; n < count; n++) sums[n] = (Vector){0};
    for (Index i = first; i < smaller(m->kernel_rows, first + together); i++)
      for (Index j = 0; j < m->kernel_columns; j++) {
        const Vector w = load(k + (i * m->kernel_columns + j) * CHUNK);
        const Cell *from = x + i * m->row_gap * pitch + j * m->column_gap * CHUNK;
        UNROLL for (int n = 0; n < count; n++) sums[n] += w * load(from + n * step);
      }
    UNROLL for (int n = 0; n < count; n++) store(out + n * CHUNK, first || c ? load(out + n * CHUNK) + sums[n] : sums[n]);
  }
}

void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y) {
  const Strip s = strip_of(m, unit % chunks_of(m), unit / chunks_of(m));
  const Index layer = laid_rows(m, &s) * s.pitch, rows = m->kernel_rows, deep = m->row_gap * s.pitch;
  char *room = scratch((m->channels * layer + s.columns * CHUNK) * sizeof(Cell) + 128);
  Cell *laid = carve(&room, m->channels * layer * sizeof(Cell)), *sums = carve(&room, s.columns * CHUNK * sizeof(Cell));
  const Cell *k = packed + m->packed_at + s.chunk * m->channels * taps(m) * CHUNK;
  const int plain = m->across == 1 && m->column_gap == 1 && s.columns >= 8 && m->channels * taps(m) <= TERMS;
  lay_strip(m, &s, x, laid);
  for (Index i = 0; i < s.rows; i++) {
    const Cell *row = laid + i * m->down * s.pitch;
    for (Index v = 0; v < CHUNK; v += LANES) {
      if (plain && (m->kernel_columns == 3 || m->kernel_columns == 5 || m->kernel_columns == 7)) {
        for (Index n = 0; n < s.columns; n += 8) {
          const Index q = smaller(n, s.columns - 8); // the last pixels once more
          const Cell *from = row + q * CHUNK + v;
          Cell *to = sums + q * CHUNK + v;
          if (m->kernel_columns == 3) eight(3, from, deep, layer, k + v, rows, m->channels, to);
          else if (m->kernel_columns == 5) eight(5, from, deep, layer, k + v, rows, m->channels, to);
          else eight(7, from, deep, layer, k + v, rows, m->channels, to);
        }
      } else {
        Index q = 0;
        for (; q + 4 <= s.columns; q += 4) some(4, m, row + q * m->across * CHUNK + v, s.pitch, layer, k + v, sums + q * CHUNK + v);
        for (; q < s.columns; q++) some(1, m, row + q * m->across * CHUNK + v, s.pitch, layer, k + v, sums + q * CHUNK + v);
      }
    }
    Cell *to = y + m->y_at + s.image * m->y_image + (s.top + i) * m->y_row + s.left * m->y_column + s.chunk * CHUNK * m->y_channel;
    if (m->y_channel == 1 && s.filters == CHUNK) {
      for (Index q = 0; q < s.columns; q++) copy(to + q * m->y_column, sums + q * CHUNK, CHUNK);
    } else {
      for (Index o = 0; o < s.filters; o++)
        for (Index q = 0; q < s.columns; q++) to[o * m->y_channel + q * m->y_column] = sums[q * CHUNK + o];
    }
  }
}

INLINE Index sums_of(const Map *m) { return (m->channels * taps(m) + 1) * CHUNK; } // of a chunk in a slot, and dB's

void NAME(depthwise_prepare_gradient)(Map *m) {
  cut_strips(m);
  m->slots = smaller(SLOTS, strips_of(m));
  m->units = m->slots * chunks_of(m);
  m->packed = m->units * sums_of(m) * (Index)sizeof(double);
}

// One vector of the products of a row of dY and `count` taps, added to sums.
INLINE void row_dots(const int count, const Cell *x, Index step, Index gap, const Cell *dy, Index columns, Cell *to) {
  Vector sums[7];
  UNROLL for (int j = 0; j < count; j++) sums[j] = (Vector){0};
  for (Index q = 0; q < columns; q++, x += step, dy += CHUNK) {
    const Vector d = load(dy);
    UNROLL for (int j = 0; j < count; j++) sums[j] += d * load(x + j * gap);
  }
  UNROLL for (int j = 0; j < count; j++) store(to + j * CHUNK, load(to + j * CHUNK) + sums[j]);
}

void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room) {
  const Index chunk = unit % chunks_of(m), slot = unit / chunks_of(m), across = m->kernel_columns;
  const Index step = m->across * CHUNK, gap = m->column_gap * CHUNK;
  double *sums = (double *)room + unit * sums_of(m);
  for (Index j = 0; j < sums_of(m); j++) sums[j] = 0;
  for (Index n = slot * strips_of(m) / m->slots; n < (slot + 1) * strips_of(m) / m->slots; n++) {
    const Strip s = strip_of(m, chunk, n);
    const Index layer = laid_rows(m, &s) * s.pitch, all = m->channels * taps(m);
    char *own = scratch((m->channels * layer + s.columns * CHUNK + sums_of(m)) * sizeof(Cell) + 192);
    Cell *laid = carve(&own, m->channels * layer * sizeof(Cell)), *slopes = carve(&own, s.columns * CHUNK * sizeof(Cell));
    Cell *cells = carve(&own, sums_of(m) * sizeof(Cell));
    lay_strip(m, &s, x, laid);
    if (s.filters < CHUNK) clear(slopes, s.columns * CHUNK);
    for (Index i = 0; i < s.rows; i++) {
      if (i % CHAIN == 0) clear(cells, sums_of(m));
      const Cell *from = dy + m->y_at + s.image * m->y_image + (s.top + i) * m->y_row + s.left * m->y_column + chunk * CHUNK * m->y_channel;
      if (m->y_channel == 1 && s.filters == CHUNK) {
        for (Index q = 0; q < s.columns; q++) copy(slopes + q * CHUNK, from + q * m->y_column, CHUNK);
      } else {
        for (Index o = 0; o < s.filters; o++)
          for (Index q = 0; q < s.columns; q++) slopes[q * CHUNK + o] = from[o * m->y_channel + q * m->y_column];
      }
      for (Index v = 0; v < CHUNK; v += LANES) {
        for (Index a = 0; a < m->channels * m->kernel_rows; a++) {
          const Cell *row = laid + a / m->kernel_rows * layer + (i * m->down + a % m->kernel_rows * m->row_gap) * s.pitch + v;
          Cell *to = cells + a * across * CHUNK + v;
          if (across == 3) row_dots(3, row, step, gap, slopes + v, s.columns, to);
          else if (across == 5) row_dots(5, row, step, gap, slopes + v, s.columns, to);
          else if (across == 7) row_dots(7, row, step, gap, slopes + v, s.columns, to);
          else for (Index j = 0; j < across; j++) row_dots(1, row + j * gap, step, gap, slopes + v, s.columns, to + j * CHUNK);
        }
        Vector bias = load(cells + all * CHUNK + v), sum = {0};
        for (Index q = 0; q < s.columns; q++) sum += load(slopes + q * CHUNK + v);
        store(cells + all * CHUNK + v, bias + sum);
      }
      if (i % CHAIN == CHAIN - 1 || i == s.rows - 1)
        for (Index j = 0; j < sums_of(m); j++) sums[j] += (double)cells[j];
    }
  }
}

void NAME(depthwise_merge)(const Map *m, Index chunk, const char *room, Cell *dk, Cell *db) {
  for (Index o = 0; o < smaller(CHUNK, m->filters - chunk * CHUNK); o++)
    for (Index tap = 0; tap <= m->channels * taps(m); tap++) {
      double sum = 0;
      for (Index slot = 0; slot < m->slots; slot++)
        sum += ((const double *)room)[(slot * chunks_of(m) + chunk) * sums_of(m) + tap * CHUNK + o];
      if (tap < m->channels * taps(m)) dk[kernel_at(m, chunk * CHUNK + o, tap)] = (Cell)sum;
      else if (db) db[chunk * CHUNK + o] = (Cell)sum;
    }
}
