// Poolings: the largest cell or the sum of each window, and their adjoints.
//
// A batch is images of rows of pixels of channels. Where channels are no neighbours, each plane counts as an image of one
// channel. Large windows are taken in two steps, first down, then across: as many operations as a window has rows and
// columns, and sums of no more terms. Padding counts for nothing: taps outside of the image are left out.

#include "vectors.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  ALONE = 16,  // cells of a window up to which it is taken in one step, and windows of a cell up to which they are gathered
  UNIT = 8192, // cells that are read in a unit, about
  CHAIN = 128, // terms that are added one after another
  FEW = 4,     // windows of a row that are not worth a vector
};

typedef struct {
  Index images, height, width, channels;
  Index rows, columns;                              // of windows
  Index window_rows, window_columns, down, across;  // their size, and cells from one to the next
  Index top, left;                                  // padding before the image
  Index means;                                      // whether sums are divided by how many cells they are of
  Index bytes;                                      // of a cell of `which`, 1 or 4
} Window;

typedef struct {
  const Window *w;
  const Cell *from;
  Cell *to;
  void *which;
  Index each, cells; // rows of a unit, and cells of its memory
  int failed;
} Pooling;

typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

// The quotient, rounded up; 0 where that is negative.
static inline Index steps(Index cells, Index step) { return cells > 0 ? (cells + step - 1) / step : 0; }

typedef struct {
  Index first, end;
} Range;

// Which taps of the n-th window lie within so many cells.
static inline Range taps(Index n, Index window, Index step, Index before, Index cells) {
  const Index first = n * step - before;
  return (Range){larger(0, -first), smaller(window, cells - first)};
}

// Which of so many windows meet a cell.
static inline Range windows(Index at, Index window, Index step, Index before, Index count) {
  return (Range){steps(at + before - window + 1, step), smaller(count, (at + before) / step + 1)};
}

// Which of so many windows have a tap within so many cells.
static inline Range within(Index tap, Index step, Index before, Index cells, Index count) {
  return (Range){steps(before - tap, step), smaller(count, steps(cells + before - tap, step))};
}

static inline void put(void *which, Index bytes, Index at, Index tap) {
  if (bytes == 1) ((uint8_t *)which)[at] = (uint8_t)tap;
  else ((uint32_t *)which)[at] = (uint32_t)tap;
}

static inline Index get(const void *which, Index bytes, Index at) {
  return bytes == 1 ? ((const uint8_t *)which)[at] : ((const uint32_t *)which)[at];
}

// A vector of taps from there on, of which so many are wanted.
INLINE Mask some(const void *which, Index bytes, Index at, const int lanes) {
  Bytes of_bytes = {0};
  Words of_words = {0};
  if (bytes == 1) {
    memcpy(&of_bytes, (const uint8_t *)which + at, lanes);
    return __builtin_convertvector(of_bytes, Mask);
  }
  memcpy(&of_words, (const uint32_t *)which + at, 4 * lanes);
  return __builtin_convertvector(of_words, Mask);
}

// As many of a vector's first cells, a number that the compiler knows; the others are 0.
INLINE Vector load_some(const Cell *cells, const int lanes) {
  Vector v = {0};
  memcpy(&v, cells, lanes * sizeof(Cell));
  return v;
}
INLINE void store_some(Cell *cells, Vector v, const int lanes) { memcpy(cells, &v, lanes * sizeof(Cell)); }

// Where `v` takes the place of the largest so far: it is larger, or the first NaN.
INLINE Mask beats(Vector v, Vector best) { return (v > best) | ((v != v) & (best == best)); }

// A row of small windows, in one step, so many channels at a time.
INLINE void largest_some(const Window *w, const Cell *image, Index row, Cell *y, uint8_t *which, const int lanes) {
  const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
  for (Index q = 0; q < w->columns; q++) {
    const Range across = taps(q, w->window_columns, w->across, w->left, w->width);
    const Cell *x = image + ((row * w->down - w->top) * w->width + q * w->across - w->left) * w->channels;
    for (Index k = 0; k < w->channels; k += lanes) {
      const Index c = smaller(k, w->channels - lanes);
      Vector best = splat(-INFINITY);
      Mask tap = {0}, none = ~(Mask){0}; // none: there was no cell yet
      for (Index a = down.first; a < down.end; a++)
        for (Index b = across.first; b < across.end; b++) {
          const Vector v = load_some(x + (a * w->width + b) * w->channels + c, lanes);
          const Mask take = beats(v, best) | none, here = (Mask){0} + (Whole)(a * w->window_columns + b);
          best = pick(take, v, best);
          tap = (take & here) | (~take & tap);
          none = (Mask){0};
        }
      const Bytes taps_ = __builtin_convertvector(tap, Bytes);
      store_some(y + q * w->channels + c, best, lanes);
      memcpy(which + q * w->channels + c, &taps_, lanes);
    }
  }
}

// The same, a vector of channels at a time, or half of one where there are fewer.
static void largest_alone(const Window *w, const Cell *image, Index row, Cell *y, uint8_t *which) {
  if (w->channels >= LANES) largest_some(w, image, row, y, which, LANES);
  else largest_some(w, image, row, y, which, HALF);
}

// Every second cell of two vectors, from the first or from the second on.
INLINE Vector alternate(Vector a, Vector b, const int from) {
  Vector v = {0};
  UNROLL for (int l = 0; l < LANES; l++) v[l] = 2 * l < LANES ? a[2 * l + from] : b[2 * l + from - LANES];
  return v;
}

// The cells that the b-th tap of neighbouring windows meets; none beyond the last window's.
INLINE Vector met(const Cell *cells, Index b, const Index across) {
  if (across == 1) return load(cells + b);
  if (across == 2) {
    const Cell *from = cells + (b ? b - 1 : 0);
    const Vector first = load(from), second = load(from + LANES);
    return b ? alternate(first, second, 1) : alternate(first, second, 0);
  }
  Vector v = {0};
  UNROLL for (int l = 0; l < LANES; l++) v[l] = cells[b + l * across];
  return v;
}

// Of a row of small windows of one plane those that lie within its columns: a vector of windows at a time, the last of
// which may compute some once more, or if they do not fill one, some that nobody asks for.
INLINE void largest_beside(const Window *w, const Cell *plane, Index row, Range whole, const Index across, Cell *y,
                           uint8_t *which) {
  const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
  for (Index n = whole.first; n < whole.end; n += LANES) {
    const Index q = larger(whole.first, smaller(n, whole.end - LANES)), count = smaller(LANES, whole.end - q);
    const Cell *x = plane + (row * w->down - w->top) * w->width + q * across - w->left;
    Vector best = splat(-INFINITY);
    Mask tap = {0}, none = ~(Mask){0}; // none: there was no cell yet
    for (Index a = down.first; a < down.end; a++)
      for (Index b = 0; b < w->window_columns; b++) {
        const Vector v = met(x + a * w->width, b, across);
        const Mask take = beats(v, best) | none, here = (Mask){0} + (Whole)(a * w->window_columns + b);
        best = pick(take, v, best);
        tap = (take & here) | (~take & tap);
        none = (Mask){0};
      }
    const Bytes taps_ = __builtin_convertvector(tap, Bytes);
    if (count == LANES) store(y + q, best), *(Bytes *)(which + q) = taps_;
    else memcpy(y + q, &best, count * sizeof(Cell)), memcpy(which + q, &taps_, count);
  }
}

// One small window of a plane.
static void largest_single(const Window *w, const Cell *plane, Index row, Index q, Cell *y, uint8_t *which) {
  const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
  const Range across = taps(q, w->window_columns, w->across, w->left, w->width);
  const Cell *x = plane + (row * w->down - w->top) * w->width + q * w->across - w->left;
  Cell best = -INFINITY;
  Index tap = 0;
  int none = 1;
  for (Index a = down.first; a < down.end; a++)
    for (Index b = across.first; b < across.end; b++) {
      const Cell v = x[a * w->width + b];
      const int take = (v > best) | ((v != v) & (best == best)) | none;
      best = take ? v : best;
      tap = take ? a * w->window_columns + b : tap;
      none = 0;
    }
  y[q] = best;
  which[q] = (uint8_t)tap;
}

// Which windows of a row lie within its columns, if there are some.
static Range inside(const Window *w) {
  if (w->window_columns > w->width + w->left) return (Range){w->columns, w->columns};
  const Index first = smaller(steps(w->left, w->across), w->columns);
  const Index end = smaller(w->columns, (w->width + w->left - w->window_columns) / w->across + 1);
  return end - first < FEW ? (Range){w->columns, w->columns} : (Range){first, end};
}

// A row of small windows of one plane, in one step: those within its columns a vector at a time, unless it is a part of one
// and ends beyond the `end` of the images.
static void largest_plane(const Window *w, const Cell *plane, Index row, Range whole, const Cell *end, Cell *y, uint8_t *which) {
  const Cell *last = plane + (row * w->down - w->top + w->window_rows - 1) * w->width + (whole.first + LANES) * w->across - w->left;
  if (whole.end - whole.first < LANES && last + w->window_columns > end) whole = (Range){w->columns, w->columns};
  for (Index q = 0; q < whole.first; q++) largest_single(w, plane, row, q, y, which);
  if (whole.first < whole.end) {
    if (w->across == 1) largest_beside(w, plane, row, whole, 1, y, which);
    else if (w->across == 2 && w->window_columns > 1) largest_beside(w, plane, row, whole, 2, y, which);
    else largest_beside(w, plane, row, whole, w->across, y, which);
  }
  for (Index q = whole.end; q < w->columns; q++) largest_single(w, plane, row, q, y, which);
}

// The largest cell of each column of a row of windows, and in which of their rows it lies.
static void largest_down(const Window *w, const Cell *image, Index row, Cell *restrict line, Whole *restrict at) {
  const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
  const Index cells = w->width * w->channels;
  for (Index a = down.first; a < down.end; a++) {
    const Cell *x = image + (row * w->down - w->top + a) * cells;
    if (a == down.first) {
      memcpy(line, x, cells * sizeof(Cell));
      for (Index n = 0; n < cells; n++) at[n] = (Whole)a;
      continue;
    }
    for (Index n = 0; n < cells; n++) {
      const int take = (x[n] > line[n]) | ((x[n] != x[n]) & (line[n] == line[n]));
      line[n] = take ? x[n] : line[n];
      at[n] = take ? (Whole)a : at[n];
    }
  }
}

// Take cells into the largest so far: those that are larger, the first NaN, and of equal ones the first tap.
INLINE void largest_of(Index count, const Cell *line, const Whole *at, Index step, Whole width, Whole b, Cell *restrict y,
                       Whole *restrict tap) {
  for (Index n = 0; n < count; n++) {
    const Cell v = line[n * step], best = y[n];
    const Whole here = at[n * step] * width + b;
    const int nan = v != v, same = (v == best) | (nan & (best != best));
    const int take = (v > best) | (nan & (best == best)) | (same & (here < tap[n]));
    y[n] = take ? v : best;
    tap[n] = take ? here : tap[n];
  }
}

// A row of windows in two steps, through memory for two rows of the image and one of taps.
static void largest(const Window *w, const Cell *image, Index row, Cell *y, void *which, Index place, Cell *memory) {
  const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
  const Index c = w->channels, cells = w->columns * c, width = w->window_columns;
  Cell *line = memory;
  Whole *at = (Whole *)(memory + w->width * c), *tap = at + w->width * c;
  const Whole none = sizeof(Whole) == 4 ? INT32_MAX : INT64_MAX;
  for (Index n = 0; n < cells; n++) y[n] = -INFINITY, tap[n] = none;
  if (down.first < down.end) {
    largest_down(w, image, row, line, at);
    for (Index b = 0; b < width; b++) {
      const Range q = within(b, w->across, w->left, w->width, w->columns);
      const Index first = (q.first * w->across + b - w->left) * c, count = q.end - q.first;
      if (count <= 0) continue;
      if (c == 1 && w->across == 1) largest_of(count, line + first, at + first, 1, width, b, y + q.first, tap + q.first);
      else if (c == 1 && w->across == 2)
        largest_of(count, line + first, at + first, 2, width, b, y + q.first, tap + q.first);
      else if (c == 1) largest_of(count, line + first, at + first, w->across, width, b, y + q.first, tap + q.first);
      else
        for (Index n = 0; n < count; n++) {
          const Index from = first + n * w->across * c, to = (q.first + n) * c;
          largest_of(c, line + from, at + from, 1, width, b, y + to, tap + to);
        }
    }
  }
  for (Index n = 0; n < cells; n++) put(which, w->bytes, place + n, tap[n] == none ? 0 : tap[n]);
}

// The unit's memory; null, and noted, if there is none.
static Cell *memory_of(Pooling *all) {
  Cell *memory = malloc((size_t)(all->cells + 1) * sizeof(Cell));
  if (!memory) __atomic_store_n(&all->failed, 1, __ATOMIC_RELAXED);
  return memory;
}

static void max_unit(void *argument, Index unit) {
  Pooling *all = argument;
  const Window *w = all->w;
  const int small = w->window_rows * w->window_columns <= ALONE, alone = small && w->channels >= HALF && w->channels > 1;
  const int plane = small && w->channels == 1;
  const Range whole = plane ? inside(w) : (Range){0, 0};
  Cell *memory = alone || plane ? 0 : memory_of(all);
  const Cell *end = all->from + w->images * w->height * w->width * w->channels;
  const Index last = smaller((unit + 1) * all->each, w->images * w->rows);
  for (Index n = unit * all->each; n < last && (alone || plane || memory); n++) {
    const Index place = n * w->columns * w->channels;
    const Cell *image = all->from + n / w->rows * w->height * w->width * w->channels;
    if (plane) largest_plane(w, image, n % w->rows, whole, end, all->to + place, (uint8_t *)all->which + place);
    else if (alone) largest_alone(w, image, n % w->rows, all->to + place, (uint8_t *)all->which + place);
    else largest(w, image, n % w->rows, all->to + place, all->which, place, memory);
  }
  free(memory);
}

// Of one row of an image, its gradient gathered from the windows that meet it, so many channels at a time.
INLINE void gather(const Pooling *all, Index n, const int lanes) {
  const Window *w = all->w;
  const Index image = n / w->height, row = n % w->height, c = w->channels;
  const Range u = windows(row, w->window_rows, w->down, w->top, w->rows);
  for (Index j = 0; j < w->width; j++) {
    const Range v = windows(j, w->window_columns, w->across, w->left, w->columns);
    for (Index k = 0; k < c; k += lanes) {
      const Index from = smaller(k, c - lanes);
      Vector dx = {0};
      for (Index p = u.first; p < u.end; p++)
        for (Index q = v.first; q < v.end; q++) {
          const Index tap = (row + w->top - p * w->down) * w->window_columns + j + w->left - q * w->across;
          const Index at = ((image * w->rows + p) * w->columns + q) * c + from;
          dx += (Vector)((Mask)load_some(all->from + at, lanes) & (some(all->which, w->bytes, at, lanes) == (Whole)tap));
        }
      store_some(all->to + (n * w->width + j) * c + from, dx, lanes);
    }
  }
}

static void gather_unit(void *argument, Index unit) {
  const Pooling *all = argument;
  const Index last = smaller((unit + 1) * all->each, all->w->images * all->w->height);
  for (Index n = unit * all->each; n < last; n++) {
    if (all->w->channels >= LANES) gather(all, n, LANES);
    else gather(all, n, HALF);
  }
}

// Of one plane, the gradient added where the largest cells stood, one window after the other.
static void scatter_plane(const Pooling *all, Index image, Cell *dx) {
  const Window *w = all->w;
  const uint8_t *which = w->bytes == 1 ? (const uint8_t *)all->which + image * w->rows * w->columns : 0;
  const Cell *dy = all->from + image * w->rows * w->columns;
  const Index known = which ? w->window_rows * w->window_columns : 0;
  Index rows[256], columns[256]; // of taps whose number is a byte
  for (Index tap = 0; tap < known; tap++) rows[tap] = tap / w->window_columns, columns[tap] = tap % w->window_columns;
  memset(dx, 0, w->height * w->width * sizeof(Cell));
  for (Index p = 0; p < w->rows; p++)
    for (Index q = 0; q < w->columns; q++) {
      const Index at = p * w->columns + q, tap = which ? which[at] : get(all->which, w->bytes, image * w->rows * w->columns + at);
      const Index i = p * w->down - w->top + (tap < known ? rows[tap] : tap / w->window_columns);
      const Index j = q * w->across - w->left + (tap < known ? columns[tap] : tap % w->window_columns);
      if (i >= 0 && i < w->height && j >= 0 && j < w->width) dx[i * w->width + j] += dy[at];
    }
}

// Whether windows stand side by side, two columns wide.
static inline int pairs(const Window *w) {
  return w->window_columns == 2 && w->across == 2 && w->down >= w->window_rows && w->bytes == 1;
}

// The cells of two vectors in turns.
INLINE void interleave(Vector a, Vector b, Cell *to) {
  Vector first = {0}, last = {0};
  UNROLL for (int l = 0; l < LANES; l++) {
    first[l] = l % 2 ? b[l / 2] : a[l / 2];
    last[l] = l % 2 ? b[LANES / 2 + l / 2] : a[LANES / 2 + l / 2];
  }
  store(to, first);
  store(to + LANES, last);
}

// Some cells of a row that such windows meet, in their row `a`, one by one.
INLINE void spread_some(const Window *w, const Cell *dy, const uint8_t *which, Index a, Index first, Index last, Cell *to) {
  for (Index j = first; j < last; j++) {
    const Index q = (j + w->left) / 2;
    to[j] = which[q] == 2 * a + (j + w->left) % 2 ? dy[q] : 0;
  }
}

// `scatter_plane` for such windows: each cell meets one window at most and is written once, a vector of windows at a time.
static void spread_pairs(const Pooling *all, Index image, Range whole, Cell *dx) {
  const Window *w = all->w;
  const uint8_t *which = (const uint8_t *)all->which + image * w->rows * w->columns;
  const Cell *dy = all->from + image * w->rows * w->columns, *end = all->from + w->images * w->rows * w->columns;
  const int brief = whole.end - whole.first < LANES; // than a vector
  Index written = 0;                                 // rows
  for (Index p = 0; p < w->rows; p++, dy += w->columns, which += w->columns) {
    if (brief && dy + whole.first + LANES > end) whole = (Range){w->columns, w->columns};
    const Range down = taps(p, w->window_rows, w->down, w->top, w->height);
    for (Index a = down.first; a < down.end; a++) {
      const Index row = p * w->down - w->top + a, last = larger(0, smaller(w->width, 2 * w->columns - w->left));
      Cell *to = dx + row * w->width;
      memset(dx + written * w->width, 0, (row - written) * w->width * sizeof(Cell));
      written = row + 1;
      spread_some(w, dy, which, a, 0, smaller(last, 2 * whole.first - w->left), to);
      for (Index n = whole.first; n < whole.end; n += LANES) {
        const Index q = brief ? n : smaller(n, whole.end - LANES);
        const Mask tap = some(which, 1, q, LANES);
        const Vector d = load(dy + q), even = (Vector)((Mask)d & (tap == (Whole)(2 * a)));
        const Vector odd = (Vector)((Mask)d & (tap == (Whole)(2 * a + 1)));
        Cell cells[2 * LANES];
        interleave(even, odd, brief ? cells : to + 2 * q - w->left);
        if (brief) memcpy(to + 2 * q - w->left, cells, 2 * (whole.end - q) * sizeof(Cell));
      }
      spread_some(w, dy, which, a, 2 * whole.end - w->left, last, to);
      for (Index j = last; j < w->width; j++) to[j] = 0;
    }
  }
  memset(dx + written * w->width, 0, (w->height - written) * w->width * sizeof(Cell));
}

// Of some channels of an image, the gradient added where the largest cells stood, one window after the other.
static void scatter_unit(void *argument, Index unit) {
  const Pooling *all = argument;
  const Window *w = all->w;
  const Index c = w->channels, parts = steps(c, all->each), image = unit / parts, first = unit % parts * all->each;
  const Index last = smaller(first + all->each, c), cells = w->height * w->width;
  Cell *dx = all->to + image * cells * c;
  if (c == 1) {
    if (pairs(w)) spread_pairs(all, image, inside(w), dx);
    else scatter_plane(all, image, dx);
    return;
  }
  for (Index n = 0; n < cells; n++) memset(dx + n * c + first, 0, (last - first) * sizeof(Cell));
  for (Index p = 0; p < w->rows; p++)
    for (Index q = 0; q < w->columns; q++)
      for (Index k = first; k < last; k++) {
        const Index at = ((image * w->rows + p) * w->columns + q) * c + k, tap = get(all->which, w->bytes, at);
        const Index i = p * w->down - w->top + tap / w->window_columns;
        const Index j = q * w->across - w->left + tap % w->window_columns;
        if (i >= 0 && i < w->height && j >= 0 && j < w->width) dx[(i * w->width + j) * c + k] += all->from[at];
      }
}

// y += x, cell by cell.
INLINE void add(Index count, const Cell *restrict x, Index step, Cell *restrict y) {
  for (Index n = 0; n < count; n++) y[n] += x[n * step];
}

// Where the n-th of so many terms is added: to the sum, or where these are many, to a part that is poured into the sum
// after every so many, so that no chain is long.
static Cell *poured(Index n, Index count, Index cells, Cell *part, Cell *sum) {
  if (count <= CHAIN) return sum;
  if (n % CHAIN == 0) {
    if (n) add(cells, part, 1, sum);
    memset(part, 0, cells * sizeof(Cell));
  }
  return part;
}

// Sums or means of rows of windows.
static void sum_unit(void *argument, Index unit) {
  Pooling *all = argument;
  const Window *w = all->w;
  const Index c = w->channels, cells = w->width * c, last = smaller((unit + 1) * all->each, w->images * w->rows);
  Cell *line = memory_of(all);
  for (Index n = unit * all->each; n < last && line; n++) {
    const Index row = n % w->rows;
    const Range down = taps(row, w->window_rows, w->down, w->top, w->height);
    const Cell *x = all->from + (n / w->rows * w->height + row * w->down - w->top) * cells;
    Cell *y = all->to + n * w->columns * c;
    memset(line, 0, cells * sizeof(Cell));
    memset(y, 0, w->columns * c * sizeof(Cell));
    Cell *part = line + cells, *to = y;
    for (Index a = down.first; a < down.end; a++)
      add(cells, x + a * cells, 1, poured(a - down.first, down.end - down.first, cells, part, line));
    if (down.end - down.first > CHAIN) add(cells, part, 1, line);
    for (Index b = 0; b < w->window_columns; b++) {
      const Range q = within(b, w->across, w->left, w->width, w->columns);
      const Cell *from = line + (q.first * w->across + b - w->left) * c;
      to = poured(b, w->window_columns, w->columns * c, part, y);
      if (q.first >= q.end) continue;
      if (c == 1 && w->across == 2) add(q.end - q.first, from, 2, to + q.first);
      else if (c == 1) add(q.end - q.first, from, w->across, to + q.first);
      else
        for (Index m = q.first; m < q.end; m++) add(c, from + (m - q.first) * w->across * c, 1, to + m * c);
    }
    if (to != y) add(w->columns * c, part, 1, y);
    for (Index q = 0; q < w->columns && w->means; q++) {
      const Range across = taps(q, w->window_columns, w->across, w->left, w->width);
      const Cell count = (Cell)(larger(0, down.end - down.first) * larger(0, across.end - across.first));
      for (Index k = 0; k < c; k++) y[q * c + k] /= count;
    }
  }
  free(line);
}

// The gradient of rows of images: of each row of windows that meets one, and of each of their columns.
static void spread_unit(void *argument, Index unit) {
  Pooling *all = argument;
  const Window *w = all->w;
  const Index c = w->channels, cells = w->columns * c, last = smaller((unit + 1) * all->each, w->images * w->height);
  Cell *line = memory_of(all);
  for (Index n = unit * all->each; n < last && line; n++) {
    const Index row = n % w->height;
    const Range u = windows(row, w->window_rows, w->down, w->top, w->rows);
    Cell *dx = all->to + n * w->width * c;
    memset(line, 0, cells * sizeof(Cell));
    memset(dx, 0, w->width * c * sizeof(Cell));
    for (Index p = u.first; p < u.end; p++) {
      const Cell *dy = all->from + (n / w->height * w->rows + p) * cells;
      const Range down = taps(p, w->window_rows, w->down, w->top, w->height);
      if (!w->means) {
        add(cells, dy, 1, line);
        continue;
      }
      for (Index q = 0; q < w->columns; q++) {
        const Range across = taps(q, w->window_columns, w->across, w->left, w->width);
        const Cell count = (Cell)((down.end - down.first) * larger(0, across.end - across.first));
        for (Index k = 0; k < c; k++) line[q * c + k] += dy[q * c + k] / count;
      }
    }
    for (Index q = 0; q < w->columns; q++) {
      const Range across = taps(q, w->window_columns, w->across, w->left, w->width);
      const Index first = q * w->across - w->left;
      for (Index j = first + across.first; j < first + across.end; j++) add(c, line + q * c, 1, dx + j * c);
    }
  }
  free(line);
}

static int shared(Pooling *all, void (*work)(void *, Index), Index rows, Index cells, int threads) {
  all->each = larger(1, UNIT / larger(1, cells));
  team_run(work, all, steps(all->w->images * rows, all->each), threads);
  return !all->failed;
}

// The largest cell of each window, and its tap: the first of equal ones, or the first NaN. Each gives 0 if there was not
// enough memory.
EXPORT int NAME(max_pool)(const Window *w, const Cell *x, Cell *y, void *which, int threads) {
  Pooling all = {.w = w, .from = x, .to = y, .which = which};
  all.cells = (2 * w->width + w->columns) * w->channels;
  return shared(&all, max_unit, w->rows, w->width * w->channels * w->window_rows, threads);
}

// dx = the sum of dy over windows, where each one's largest cell stood.
EXPORT int NAME(max_pool_adjoint)(const Window *w, const Cell *dy, Cell *dx, void *which, int threads) {
  Pooling all = {.w = w, .from = dy, .to = dx, .which = which};
  const Index meeting = steps(w->window_rows, w->down) * steps(w->window_columns, w->across);
  if (w->channels >= HALF && w->channels > 1 && meeting <= ALONE) return shared(&all, gather_unit, w->height, w->width * w->channels, threads);
  all.each = 16;
  team_run(scatter_unit, &all, w->images * steps(w->channels, all.each), threads);
  return 1;
}

// The sum of each window, or its mean.
EXPORT int NAME(sum_pool)(const Window *w, const Cell *x, Cell *y, void *unused, int threads) {
  Pooling all = {.w = w, .from = x, .to = y};
  all.cells = (w->width + (w->width > w->columns ? w->width : w->columns)) * w->channels;
  return shared(&all, sum_unit, w->rows, w->width * w->channels * w->window_rows, threads);
}

// dx = the sum of dy over the windows that meet a cell, each divided by its cells where that is asked for.
EXPORT int NAME(sum_pool_adjoint)(const Window *w, const Cell *dy, Cell *dx, void *unused, int threads) {
  Pooling all = {.w = w, .from = dy, .to = dx, .cells = w->columns * w->channels};
  return shared(&all, spread_unit, w->height, w->width * w->channels, threads);
}
