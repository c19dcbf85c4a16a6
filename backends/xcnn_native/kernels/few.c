// Correlation with few filters, and its kernel's gradient: the lanes of vectors are pixels.
//
// A unit lays out planes, a plane for each channel and phase of the strides, all of one pitch: so a tap is one offset,
// whatever the window. What lies between the rows of windows is computed and thrown away.

#include "transpose.h"
#include "ways.h"

#if BYTES == 64
#define MOST 8     // filters: as many as fill half a vector, and leave the other half empty
#else
#define MOST 6     // filters
#endif
#define LAID 49152 // bytes of the planes of a unit
#define BEYOND 128 // cells at most that are read behind the last that counts, and between rows

// How planes of a unit lie: some rows of windows of one image.
typedef struct {
  Index image, top, rows, left, columns;
  Index down, across;       // phases that taps meet
  Index pitch, deep, plane; // cells of a row, rows and cells of a plane
  Index length;             // cells from the first window to the last, with those between rows
} Planes;

INLINE Planes planes_of(const Map *m, Index unit) {
  const Index segments = parts(m->out_columns, m->segment), bands = parts(m->out_rows, m->band);
  Planes p = {.left = unit % segments * m->segment, .top = unit / segments % bands * m->band, .image = unit / segments / bands};
  p.rows = smaller(m->band, m->out_rows - p.top);
  p.columns = smaller(m->segment, m->out_columns - p.left);
  p.pitch = p.columns + (m->kernel_columns - 1) * m->column_gap / m->across;
  p.deep = p.rows + (m->kernel_rows - 1) * m->row_gap / m->down;
  p.plane = p.pitch * p.deep;
  p.down = smaller(m->down, span(m->kernel_rows, m->row_gap));
  p.across = smaller(m->across, span(m->kernel_columns, m->column_gap));
  p.length = (p.rows - 1) * p.pitch + p.columns;
  return p;
}

// Where the taps lie from a window's beginning on: all of a channel, then those of the next.
INLINE void find_taps(const Map *m, const Planes *p, Index *at) {
  for (Index i = 0, t = 0; i < m->kernel_rows; i++)
    for (Index j = 0; j < m->kernel_columns; j++, t++) {
      const Index a = i * m->row_gap, b = j * m->column_gap;
      at[t] = (a % m->down * p->across + b % m->across) * p->plane + a / m->down * p->pitch + b / m->across;
    }
  for (Index t = taps(m); t < taps(m) * m->channels; t++) at[t] = at[t - taps(m)] + p->down * p->across * p->plane;
}

// Copy a row.
INLINE void copy_row(Cell *to, const Cell *from, Index count) {
  Index n = 0;
  for (; n + LANES <= count; n += LANES) store(to + n, load(from + n));
  if (n < count && n) store(to + count - LANES, load(from + count - LANES));
  else for (; n < count; n++) {
    to[n] = from[n];
    NO_CALL;
  }
}

// Whether rows of such strides can be read where they lie, and some cells beyond the last one.
INLINE int readable(Index image, Index images, Index image_step, Index row, Index column, Index columns) {
  return column == 1 && row >= columns && row <= columns + BEYOND && image_step >= BEYOND && image + 1 < images;
}

// Where the planes of a unit lie in X itself, if they can be read there, with their pitch; else null.
INLINE const Cell *planes_in_place(const Map *m, Planes *p, const Cell *x) {
  if (m->down != 1 || m->across != 1 || m->top || m->left || taps(m) * m->channels > TERMS) return 0;
  if (m->out_rows + span(m->kernel_rows, m->row_gap) - 1 > m->rows) return 0;
  if (m->out_columns + span(m->kernel_columns, m->column_gap) - 1 > m->columns) return 0;
  if (!readable(p->image, m->images, m->x_image, m->x_row, m->x_column, p->columns)) return 0;
  p->pitch = m->x_row, p->plane = m->x_channel;
  p->length = (p->rows - 1) * p->pitch + p->columns;
  return x + m->x_at + p->image * m->x_image + p->top * m->x_row + p->left;
}

// Planes of an image whose channels lie side by side: squares of pixels and channels are turned.
static void turn_planes(const Map *m, const Planes *p, const Cell *x, Cell *to) {
  const Index plane = p->plane, column = p->left - m->left, channels = m->channels;
  const Index before = within(-column, 0, p->pitch), after = within(m->columns - column, before, p->pitch);
  for (Index i = 0; i < p->deep; i++, to += p->pitch) {
    const Index row = p->top + i - m->top;
    const int inside = row >= 0 && row < m->rows && after - before >= LANES;
    const Cell *from = x + m->x_at + p->image * m->x_image + row * m->x_row + column * m->x_column;
    for (Index c = 0; c < channels; c++) {
      clear(to + c * plane, inside ? before : p->pitch);
      if (inside) clear(to + c * plane + after, p->pitch - after);
    }
    if (!inside) {
      if (row >= 0 && row < m->rows)
        for (Index q = before; q < after; q++)
          for (Index c = 0; c < channels; c++) to[c * plane + q] = from[q * m->x_column + c];
      continue;
    }
    for (Index n = before; n < after; n += LANES)
      for (Index c = 0; c < channels; c += LANES) {
        const Index q = smaller(n, after - LANES), k = smaller(c, channels - LANES); // the last ones once more
        Vector square[LANES];
        UNROLL for (int l = 0; l < LANES; l++) square[l] = load(from + (q + l) * m->x_column + k);
        turn(square);
        UNROLL for (int l = 0; l < LANES; l++) store(to + (k + l) * plane + q, square[l]);
      }
  }
}

// Lay out planes of an image, zeros outside.
static void lay_planes(const Map *m, const Planes *p, const Cell *x, Cell *to) {
  const Cell *image = x + m->x_at + p->image * m->x_image;
  const Index step = m->across * m->x_column;
  if (m->down == 1 && m->across == 1 && m->x_channel == 1 && m->channels >= LANES) {
    turn_planes(m, p, x, to);
    return;
  }
  for (Index c = 0; c < m->channels; c++)
    for (Index a = 0; a < p->down; a++)
      for (Index b = 0; b < p->across; b++)
        for (Index i = 0; i < p->deep; i++, to += p->pitch) {
          const Index row = (p->top + i) * m->down + a - m->top, column = p->left * m->across + b - m->left;
          const int inside = row >= 0 && row < m->rows;
          const Index before = inside ? within(parts(larger(-column, 0), m->across), 0, p->pitch) : p->pitch;
          const Index after = inside ? within(parts(larger(m->columns - column, 0), m->across), before, p->pitch) : p->pitch;
          const Cell *from = image + c * m->x_channel + row * m->x_row + column * m->x_column;
          clear(to, before);
          if (step == 1) copy_row(to + before, from + before, after - before);
          else for (Index q = before; q < after; q++) to[q] = from[q * step];
          clear(to + after, p->pitch - after);
        }
}

// Rows and segments of a unit.
static void cut_planes(Map *m) {
  const Index phases = smaller(m->down, span(m->kernel_rows, m->row_gap)) * smaller(m->across, span(m->kernel_columns, m->column_gap));
  m->segment = m->out_columns;
  for (;; m->segment = parts(m->segment, 2)) { // until a row of windows sees little enough
    const Index pitch = m->segment + (m->kernel_columns - 1) * m->column_gap / m->across;
    const Index row = pitch * phases * m->channels * (Index)sizeof(Cell), more = (m->kernel_rows - 1) * m->row_gap / m->down;
    m->band = within(LAID / row - more, parts(64, m->segment), m->out_rows);
    if ((m->band + more) * row <= 4 * LAID || m->segment <= 64) break;
  }
  m->band = m->band < 1 ? 1 : parts(m->out_rows, parts(m->out_rows, m->band));
}

void NAME(few_prepare)(Map *m, int threads) {
  cut_planes(m);
  if (m->images < threads) m->band = evenly_cut(m->out_rows, m->band, threads);
  m->units = m->images * parts(m->out_rows, m->band) * parts(m->out_columns, m->segment);
  m->packed = taps(m) * m->channels * m->filters;
}

// The kernel as they take it: [channel][tap][filter].
void NAME(few_pack)(const Map *m, const Cell *k, Cell *packed) {
  Cell *to = packed + m->packed_at;
  for (Index c = 0; c < m->channels; c++)
    for (Index i = 0; i < m->kernel_rows; i++)
      for (Index j = 0; j < m->kernel_columns; j++)
        for (Index o = 0; o < m->filters; o++)
          *to++ = k[m->k_at + c * m->k_channel + i * m->k_row + j * m->k_column + o * m->k_filter];
}

// Sums for `filters` filters at `vectors` vectors of pixels: out[o] (+)= the sum over taps t of x[at[t]] k[t, o].
INLINE void line(const int filters, const int vectors, const Cell *x, const Index *at, const Cell *k, Index count, Cell *out,
                 Index pitch, int adds) {
  Vector sums[MOST][8];
  UNROLL for (int o = 0; o < filters; o++) UNROLL for (int v = 0; v < vectors; v++) sums[o][v] = (Vector){0};
  for (Index t = 0; t < count; t++) {
    const Cell *cells = x + at[t];
    Vector b[8];
    UNROLL for (int v = 0; v < vectors; v++) b[v] = *(const Vector *)(cells + v * LANES);
    UNROLL for (int o = 0; o < filters; o++) {
      const Cell s = k[t * filters + o];
      UNROLL for (int v = 0; v < vectors; v++) sums[o][v] += b[v] * s;
    }
  }
  UNROLL for (int o = 0; o < filters; o++) UNROLL for (int v = 0; v < vectors; v++) {
    Vector *to = (Vector *)(out + o * pitch + v * LANES);
    *to = adds ? *to + sums[o][v] : sums[o][v];
  }
}

// Vectors of pixels by the number of filters, and taps of a group: as many as registers hold with what they are made of.
#if WIDEST == 4
#define VECTORS(filters) ((filters) <= 2 ? 8 : (filters) == 3 ? 6 : (filters) == 4 ? 5 : (filters) <= 6 ? 4 : 3)
#define TOGETHER(filters) ((filters) == 1 ? 8 : (filters) <= 3 ? 6 : (filters) == 4 ? 4 : 3)
#else
#define VECTORS(filters) ((filters) == 1 ? 8 : (filters) == 2 ? 4 : (filters) == 3 ? 3 : 2)
#define TOGETHER(filters) ((filters) == 1 ? 8 : (filters) == 2 ? 6 : (filters) == 3 ? 4 : (filters) == 4 ? 3 : 2)
#endif
#if MOST == 8
#define EACH(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#else
#define EACH(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#endif
#define FILTERS(filters) \
  case filters: \
    line(filters, VECTORS(filters), ARGUMENTS); \
    break;
#define ARGUMENTS planes + first, at + t, k + t * m->filters, few, out + first, pitch, t % (PIECES * TERMS) != 0

void NAME(few_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending) {
  Planes p = planes_of(m, unit);
  const Cell *planes = planes_in_place(m, &p, x);
  const Index count = taps(m) * m->channels, some = VECTORS(m->filters) * LANES, pitch = parts(p.length, some) * some;
  const Index cells = planes ? 0 : p.plane * p.down * p.across * m->channels, wide = count > PIECES * TERMS;
  char *room = scratch((cells + some + LANES + m->filters * pitch) * sizeof(Cell) + count * sizeof(Index) +
                       (wide ? m->filters * pitch * sizeof(double) : 0) + 256);
  Cell *laid = carve(&room, (cells + some + LANES) * sizeof(Cell)), *out = carve(&room, m->filters * pitch * sizeof(Cell));
  Index *at = carve(&room, count * sizeof(Index));
  double *doubles = carve(&room, (wide ? m->filters * pitch : 0) * sizeof(double));
  if (!planes) {
    lay_planes(m, &p, x, laid);
    clear(laid + cells, some + LANES);
    planes = laid;
  }
  find_taps(m, &p, at);
  const Cell *k = packed + m->packed_at;
  for (Index t = 0; t < count; t += TERMS) {
    const Index few = smaller(TERMS, count - t);
    for (Index first = 0; first < p.length; first += some) switch (m->filters) {
      EACH(FILTERS)
    }
    if (wide && (t / TERMS % PIECES == PIECES - 1 || t + TERMS >= count))
      for (Index j = 0; j < m->filters * pitch; j++) doubles[j] = (t < PIECES * TERMS ? 0 : doubles[j]) + (double)out[j];
  }
  if (wide)
    for (Index j = 0; j < m->filters * pitch; j++) out[j] = (Cell)doubles[j];
  for (Index i = 0; i < p.rows; i++) {
    Cell *to = y + m->y_at + p.image * m->y_image + (p.top + i) * m->y_row + p.left * m->y_column;
    for (Index o = 0; o < m->filters; o++) {
      const Cell *from = out + o * pitch + i * p.pitch;
      if (m->y_column == 1) copy_row(to + o * m->y_channel, from, p.columns);
      else for (Index q = 0; q < p.columns; q++) to[o * m->y_channel + q * m->y_column] = from[q];
    }
  }
  if (ending->program) NAME(end)(m, ending, p.image * m->out_rows + p.top, p.rows, p.left, p.columns, 0, m->filters);
}

// What a group of taps meets in a unit's planes: X at `pitch`, dY at `dy_pitch`, a filter's plane behind the other.
typedef struct {
  const Cell *x, *dy;
  Index rows, vectors, pitch, dy_pitch, dy_plane;
  Mask counts; // the lanes of a row's last vector that are pixels
} Rows;

// Products of one vector of pixels of `count` taps and so many filters, each lane its own sum.
INLINE void products(const int filters, const int count, Vector sums[][MOST], const Rows *r, const Cell *x, const Index *at,
                     const Cell *dy, const int last) {
  // of both those that are fewer stay in registers; what lies beyond may be anything, and 0 times infinity is no 0
#define CELLS(address) (last ? (Vector)((Mask)load(address) & r->counts) : load(address))
  Vector few[MOST];
  if (filters <= count) {
    UNROLL for (int o = 0; o < filters; o++) few[o] = CELLS(dy + o * r->dy_plane);
    UNROLL for (int t = 0; t < count; t++) {
      const Vector s = CELLS(x + at[t]);
      UNROLL for (int o = 0; o < filters; o++) sums[t][o] += few[o] * s;
    }
  } else {
    UNROLL for (int t = 0; t < count; t++) few[t] = CELLS(x + at[t]);
    UNROLL for (int o = 0; o < filters; o++) {
      const Vector s = CELLS(dy + o * r->dy_plane);
      UNROLL for (int t = 0; t < count; t++) sums[t][o] += few[t] * s;
    }
  }
}

// The products of `count` taps and so many filters, added over all pixels: to[tap][filter] += .
INLINE void dots(const int filters, const int count, const Rows *r, const Index *at, double *to) {
  Vector sums[8][MOST];
  UNROLL for (int t = 0; t < count; t++) UNROLL for (int o = 0; o < filters; o++) sums[t][o] = (Vector){0};
  for (Index i = 0; i < r->rows; i++) {
    const Cell *x = r->x + i * r->pitch, *dy = r->dy + i * r->dy_pitch;
    for (Index v = 0; v < r->vectors - 1; v++, x += LANES, dy += LANES) products(filters, count, sums, r, x, at, dy, 0);
    products(filters, count, sums, r, x, at, dy, 1);
  }
  // by way of memory: where lanes are added as they are, vectors of several sums are made, in half of the registers
  Cell lanes[8 * MOST * LANES];
  UNROLL for (int t = 0; t < count; t++) UNROLL for (int o = 0; o < filters; o++) store(lanes + (t * filters + o) * LANES, sums[t][o]);
  __asm__ volatile("" ::: "memory");
  for (Index n = 0; n < count * filters; n++) {
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += (double)lanes[n * LANES + l];
    to[n] += sum;
  }
}

#define DOTS(filters) \
  case filters: \
    if (count == TOGETHER(filters)) dots(filters, TOGETHER(filters), r, at, to); \
    else \
      for (Index t = 0; t < count; t++) dots(filters, 1, r, at + t, to + t * filters); \
    break;

// `dots` of any number of filters and taps of a group.
static void dots_of(Index filters, Index count, const Rows *r, const Index *at, double *to) {
  switch (filters) { EACH(DOTS) }
}

#define CHAIN 256 // products of a lane at most
#define SLOTS 16  // parts of a batch, whose sums are added at last

INLINE Index all_planes(const Map *m) { return m->images * parts(m->out_rows, m->band) * parts(m->out_columns, m->segment); }
INLINE Index sums_of(const Map *m) { return (taps(m) * m->channels + 1) * m->filters; } // and dB's

void NAME(few_prepare_gradient)(Map *m) {
  cut_planes(m);
  m->segment = smaller(m->segment, CHAIN * LANES);
  m->units = m->slots = smaller(SLOTS, all_planes(m));
  m->packed = m->slots * sums_of(m) * (Index)sizeof(double);
}

void NAME(few_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room) {
  const Index count = taps(m) * m->channels, filters = m->filters;
  double *sums = (double *)room + unit * sums_of(m);
  for (Index j = 0; j < sums_of(m); j++) sums[j] = 0;
  for (Index n = unit * all_planes(m) / m->slots; n < (unit + 1) * all_planes(m) / m->slots; n++) {
    Planes p = planes_of(m, n);
    const Cell *planes = planes_in_place(m, &p, x);
    const Index vectors = parts(p.columns, LANES), cells = planes ? 0 : p.plane * p.down * p.across * m->channels + 2 * LANES;
    const Cell *slopes = dy + m->y_at + p.image * m->y_image + p.top * m->y_row + p.left * m->y_column;
    const int in_place = readable(p.image, m->images, m->y_image, m->y_row, m->y_column, p.columns);
    const Index dy_pitch = in_place ? m->y_row : vectors * LANES, dy_plane = in_place ? m->y_channel : p.rows * dy_pitch;
    char *own = scratch((cells + (in_place ? 0 : filters * dy_plane)) * sizeof(Cell) + count * sizeof(Index) + 192);
    Cell *laid = carve(&own, cells * sizeof(Cell)), *copied = carve(&own, (in_place ? 0 : filters * dy_plane) * sizeof(Cell));
    Index *at = carve(&own, count * sizeof(Index));
    if (!planes) {
      lay_planes(m, &p, x, laid);
      clear(laid + cells - 2 * LANES, 2 * LANES);
      planes = laid;
    }
    for (Index o = 0; o < filters && !in_place; o++)
      for (Index i = 0; i < p.rows; i++) {
        const Cell *from = slopes + o * m->y_channel + i * m->y_row;
        Cell *to = copied + o * dy_plane + i * dy_pitch;
        if (m->y_column == 1) copy_row(to, from, p.columns);
        else for (Index q = 0; q < p.columns; q++) to[q] = from[q * m->y_column];
        clear(to + p.columns, dy_pitch - p.columns);
      }
    if (!in_place) slopes = copied;
    find_taps(m, &p, at);
    Rows r = {.vectors = vectors, .pitch = p.pitch, .dy_pitch = dy_pitch, .dy_plane = dy_plane};
    for (Index l = 0; l < LANES; l++) r.counts[l] = (vectors - 1) * LANES + l < p.columns ? -1 : 0;
    const Index few = larger(1, CHAIN / vectors);
    for (Index i = 0; i < p.rows; i += few) {
      r.rows = smaller(few, p.rows - i), r.x = planes + i * p.pitch, r.dy = slopes + i * dy_pitch;
      for (Index t = 0; t < count; t += TOGETHER(filters))
        dots_of(filters, smaller(TOGETHER(filters), count - t), &r, at + t, sums + t * filters);
      for (Index o = 0; o < filters; o++) {
        Vector sum = {0};
        for (Index q = 0; q < r.rows; q++) {
          const Cell *row = r.dy + o * dy_plane + q * dy_pitch;
          for (Index v = 0; v < vectors - 1; v++) sum += load(row + v * LANES);
          sum += (Vector)((Mask)load(row + (vectors - 1) * LANES) & r.counts);
        }
        for (Index l = 0; l < LANES; l++) sums[count * filters + o] += (double)sum[l];
      }
    }
  }
}

// The sum of all slots' sums that lie at j.
INLINE Cell merged(const Map *m, const char *room, Index j) {
  double sum = 0;
  for (Index slot = 0; slot < m->slots; slot++) sum += ((const double *)room)[slot * sums_of(m) + j];
  return (Cell)sum;
}

void NAME(few_merge)(const Map *m, const char *room, Cell *dk, Cell *db) {
  Index at = 0;
  for (Index c = 0; c < m->channels; c++)
    for (Index i = 0; i < m->kernel_rows; i++)
      for (Index j = 0; j < m->kernel_columns; j++)
        for (Index o = 0; o < m->filters; o++)
          dk[m->k_at + c * m->k_channel + i * m->k_row + j * m->k_column + o * m->k_filter] = merged(m, room, at++);
  if (db) for (Index o = 0; o < m->filters; o++) db[o] = merged(m, room, at++);
}
