// Correlation with many filters: bands of images laid out in cache, whose pixels meet panels of packed kernels.

#include "band.h"
#include "block.h"
#include "transpose.h"
#include "ways.h"

#define BAND 98304    // bytes of a band that is laid out
#define WRITTEN 196608 // bytes that a unit writes at most, so that an ending finds them in cache
#define OFTEN 24      // pixels beyond which a panel that lies in pieces is met so often that laying it out pays
#define MANY 192      // such pixels, at least; or a whole image, unless it is larger than
#define IMAGE 2000000 // bytes
#define KERNEL 400000 // bytes of a kernel that stay in cache while bands pass; of a larger one, parts meet many pixels

// Whether so few pixels meet a kernel whose filters lie side by side that to read it once is most of the work.
INLINE int few_pixels(const Map *m) {
  return in_place(m) && m->images * m->out_rows * m->out_columns <= 2 && m->k_filter == 1;
}

// Whether its pixels are computed one by one, each sum as many products as chains of cells may have.
INLINE int one_by_one(const Map *m) {
  return few_pixels(m) && m->y_channel == 1 && m->filters >= HALF && m->channels <= PIECES * TERMS;
}

#define PIECE 16384  // cells that a thread packs at a time, about
#define READ 8192    // cells of a kernel that is read once, for which a thread is asked to help

#define CLASSES 5 // of columns, by which of their taps lie within the image
#define GROUPS 25 // of pixels, by rows and columns

// Pixels whose windows have the same taps within the image: runs [top, bottom) and cells [left, right) of each.
typedef struct {
  Index first, pixels, top, bottom, left, right;
} Group;

// The windows of an axis whose taps within an image are the same, [low, high), and how many they are.
typedef struct {
  Index low, high, count;
} Class;

INLINE Class taps_within(Index window, Index step, Index before, Index gap, Index kernel, Index cells) {
  const Index at = window * step - before; // of the first tap
  const Index low = at < 0 ? within(parts(-at, gap), 0, kernel) : 0;
  return (Class){low, at >= cells ? low : larger(low, smaller(kernel, (cells - 1 - at) / gap + 1)), 1};
}

// Number the classes of some windows of an axis; 0 classes where there are more than `most`, or one has no taps. `number`
// may be null.
INLINE Index classify(Index most, Index first, Index count, Index windows, Index step, Index before, Index gap, Index kernel,
                      Index cells, Class *classes, Index *number) {
  Index known = 0;
  for (Index n = 0; n < count; n++) {
    const Class t = taps_within((first + n) % windows, step, before, gap, kernel, cells);
    Index c = 0;
    while (c < known && (classes[c].low != t.low || classes[c].high != t.high)) c++;
    if (c == most || t.low == t.high) return 0;
    if (c == known) classes[known++] = t;
    else classes[c].count++;
    if (number) number[n] = c;
  }
  return known;
}

// Those of some rows, and of some columns.
INLINE Index classify_rows(const Map *m, Index most, Index first, Index count, Class *classes, Index *number) {
  return classify(most, first, count, m->out_rows, m->down, m->top, m->row_gap, m->kernel_rows, m->rows, classes, number);
}
INLINE Index classify_columns(const Map *m, Index first, Index count, Class *classes, Index *number) {
  return classify(CLASSES, first, count, m->out_columns, m->across, m->left, 1, m->kernel_columns, m->columns, classes, number);
}

// How pixels are parted.
enum {
  WHOLE,   // all meet all taps
  BY_ROWS, // by their rows' taps
  INSIDE,  // by their columns' too, where all of the rows' taps lie within the image
  BY_BOTH, // everywhere
};

// Part the pixels of classes of rows and columns; `numbers` becomes the group of each of their pairs, row by row.
static Index part(const Map *m, Index parted, const Class *rows, Index high, const Class *columns, Index wide, Group *groups,
                  Index *numbers) {
  Index count = 0;
  for (Index i = 0, first = 0; i < high; i++)
    for (Index j = 0; j < wide; j++) {
      const int whole = parted == BY_ROWS || (parted == INSIDE && rows[i].high - rows[i].low < m->kernel_rows);
      if (!whole || j == 0)
        groups[count++] = (Group){first, 0, rows[i].low, rows[i].high, whole ? 0 : columns[j].low * m->channels,
                                  (whole ? m->kernel_columns : columns[j].high) * m->channels};
      groups[count - 1].pixels += rows[i].count * columns[j].count, first += rows[i].count * columns[j].count;
      if (numbers) numbers[i * wide + j] = count - 1;
    }
  return count;
}

// Whether and how to part pixels, so that few products with the zeros around an image are made: that takes the least time,
// by a fiftieth, as products and what each group loses tell. It follows from a map's shape and no batch, since the order
// of sums does from the parts.
static Index parting(const Map *m) {
  Class rows[GROUPS], columns[CLASSES];
  Group groups[GROUPS];
  const Index vectors = larger(1, vectors_of(m, 0)), pixels = m->out_rows * m->out_columns;
  const Index image = ((m->out_rows - 1) * m->down + m->kernel_rows) * ((m->out_columns - 1) * m->across + m->kernel_columns) *
                      m->channels * (Index)sizeof(Cell);
  const Index images = larger(larger(1, BAND / image), parts(MANY, pixels)); // of a band, about
  const Index lost = vectors == 1 ? 20 : 6 / vectors;                        // pixels' time
  Index best = WHOLE, least = taps(m) * m->channels * (images * pixels + lost) / 50 * 49;
  if (taps(m) == 1 || m->column_gap != 1) return WHOLE;
  const Index wide = classify_columns(m, 0, m->out_columns, columns, 0);
  if (!wide) columns[0] = (Class){0, m->kernel_columns, m->out_columns};
  const Index high = classify_rows(m, GROUPS / larger(1, wide), 0, m->out_rows, rows, 0);
  for (Index parted = high ? BY_ROWS : BY_BOTH + 1; parted <= (wide ? BY_BOTH : BY_ROWS); parted++) {
    Index time = 0;
    for (Index g = part(m, parted, rows, high, columns, larger(1, wide), groups, 0); g-- > 0;)
      time += (groups[g].bottom - groups[g].top) * (groups[g].right - groups[g].left) * (images * groups[g].pixels + lost);
    if (time < least) best = parted, least = time;
  }
  return best;
}

// How the work is shared out: bands of rows, segments of rows that are too long, and shares of the panels of filters.
void NAME(blocks_prepare)(Map *m, int threads) {
  const Index size = sizeof(Cell), all = m->images * m->out_rows, reach = span(m->kernel_rows, m->row_gap);
  const Index kernel = taps(m) * m->channels * m->filters * size;
  const Index wide = ((m->out_columns - 1) * m->across + span(m->kernel_columns, m->column_gap)) * m->channels * size;
  m->segment = m->out_columns;
  if (!in_place(m) && wide > BAND / 2)
    m->segment = smaller(m->out_columns, larger(48, parts(m->out_columns, parts(2 * wide, BAND))));
  const int large = wide * (m->out_rows + reach) > IMAGE;
  const Index row = ((m->segment - 1) * m->across + span(m->kernel_columns, m->column_gap)) * m->channels * size;
  const Index pixels = larger(24, WRITTEN / (m->filters * size + 16));
  Index band = larger(1, (BAND / row - reach) / m->down + 1);
  band = within(band, parts(24, m->segment), larger(1, pixels / m->segment));
  if (threads > 1) // a unit's bits do not follow from its band
    band = smaller(band, larger(parts(24, m->segment), all * parts(m->out_columns, m->segment) * (in_place(m) ? 1 : panels(m)) / (4 * threads)));
  if (kernel > KERNEL) band = larger(band, large ? parts(MANY, m->segment) : larger(1, MANY / (m->segment * m->out_rows)) * m->out_rows);
  m->band = evenly_cut(all, band, kernel > KERNEL || m->out_rows == 1 ? 1 : threads);
  const Index bands = parts(all, m->band) * parts(m->out_columns, m->segment);
  m->shares = 1;
  if (threads > 1 && bands < 4 * threads) m->shares = smaller(panels(m), parts(4 * threads, bands));
  if (threads > 1 && kernel > KERNEL) m->shares = smaller(panels(m), larger(m->shares, 2 * threads));
  m->loose = bands == 1, m->parted = parting(m);
  if (m->loose && few_pixels(m)) m->shares = within(threads, 1, panels(m));
  if (m->loose && one_by_one(m)) m->shares = within(threads, 1, larger(1, smaller(m->filters / (2 * LANES), m->channels * m->filters / READ)));
  m->units = bands * m->shares;
  m->packed = m->loose ? 0 : taps(m) * m->channels * parts(m->filters, LANES) * LANES;
}

// So many cells of a run and what follows, which is no part of the kernel beyond `left` cells.
INLINE Vector load_run(const Cell *row, Index left) {
  if (left >= LANES) return load(row);
  Vector edge = {0};
  memcpy(&edge, row, (size_t)left * sizeof(Cell));
  return edge;
}

// Some channels of a full panel whose filters are neighbours, each a run of some fewer taps than a vector has lanes.
static void pack_short(const Map *m, Index panel, Index begin, Index end, const Cell *k, Index step, Cell *packed) {
  const Index all = taps(m), channels = m->channels;
  for (Index c = begin; c < end; c++)
    for (Index o = 0; o < PANEL; o += LANES) {
      const Index left = (m->filters - panel * PANEL - o) * all; // cells to the end of this channel's
      const Cell *row = k + c * m->k_channel + o * all + (step < 0 ? 1 - all : 0);
      Vector square[LANES];
      UNROLL for (int i = 0; i < LANES; i++) {
        square[i] = load_run(row + i * all, left - i * all);
        __builtin_prefetch(row + i * all + 2 * m->k_channel); // of the next but one, which lies too far for a processor to foresee
      }
      turn(square);
      for (Index tap = 0; tap < all; tap++) store(packed + ((step < 0 ? all - 1 - tap : tap) * channels + c) * PANEL + o, square[tap]);
    }
}

// Some channels of one panel of a kernel as blocks take it: [tap][channel][filter], zeros for filters beyond the last.
static void pack(const Map *m, Index panel, Index begin, Index end, const Cell *k, Cell *packed) {
  const Index cells = width_of(vectors_of(m, panel)), filters = smaller(cells, m->filters - panel * PANEL);
  const Index channels = m->channels, all = taps(m);
  const Runs runs = runs_of(m);
  const Index count = runs.channels > 1 ? runs.count : (end - begin) * all; // of a run that is packed
  k += m->k_at + panel * PANEL * m->k_filter;
  if (m->k_filter != 1 && filters == cells && cells >= LANES && runs.count && count >= LANES) {
    for (Index run = runs.channels > 1 ? begin : 0; run < (runs.channels > 1 ? end : 1); run++) {
      const Cell *from = k + run * m->k_channel + (runs.step < 0 ? 1 - count : 0) + (runs.channels > 1 ? 0 : begin * all);
      for (Index first = 0; first < count; first += LANES) {
        const Index low = smaller(first, count - LANES); // the last ones once more
        Cell *to[LANES];
        for (Index i = 0, tap = low % all, c = runs.channels > 1 ? run : begin + low / all; i < LANES; i++) {
          to[i] = packed + ((runs.step < 0 ? all - 1 - tap : tap) * channels + c) * cells;
          if (++tap == all) tap = 0, c++;
        }
        for (Index o = 0; o < cells; o += LANES) {
          Vector square[LANES];
          const Cell *row = from + o * m->k_filter + low;
          UNROLL for (int i = 0; i < LANES; i++, row += m->k_filter) square[i] = load(row);
          turn(square);
          UNROLL for (int i = 0; i < LANES; i++) store(to[i] + o, square[i]);
        }
      }
    }
    return;
  }
  if (filters == PANEL && runs.channels == channels && runs.count == all && 2 * all > LANES && all < LANES && m->k_filter == all) {
    pack_short(m, panel, begin, end, k, runs.step, packed);
    return;
  }
  const Index chunk = larger(8, 384 / all);
  for (Index first = begin; first < end; first += chunk)
    for (Index tap = 0; tap < all; tap++) {
      const Cell *from = k + tap / m->kernel_columns * m->k_row + tap % m->kernel_columns * m->k_column;
      for (Index c = first; c < smaller(end, first + chunk); c++) {
        Cell *to = packed + (tap * channels + c) * cells;
        const Cell *of = from + c * m->k_channel;
        if (m->k_filter == 1) copy(to, of, filters);
        else for (Index o = 0; o < filters; o++) to[o] = of[o * m->k_filter];
        for (Index o = filters; o < cells; o++) to[o] = 0;
      }
    }
}

// How many pieces of its channels a panel is packed in, each by one thread.
INLINE Index pieces_of(const Map *m) {
  return within(taps(m) * m->channels * smaller(m->filters, PANEL) / PIECE, 1, larger(1, smaller(m->channels, 8 / panels(m))));
}

Index NAME(blocks_packs)(const Map *m) { return panels(m) * pieces_of(m); }

void NAME(blocks_pack)(const Map *m, Index unit, const Cell *k, Cell *packed) {
  const Index pieces = pieces_of(m), panel = unit / pieces, piece = unit % pieces;
  pack(m, panel, piece * m->channels / pieces, (piece + 1) * m->channels / pieces, k,
       packed + m->packed_at + panel * PANEL * taps(m) * m->channels);
}

#if WIDEST == 4
#define ABREAST 16 // vectors of sums that registers hold beside what they are made of
#else
#define ABREAST 14
#endif
#define AHEAD 8 // rows that are fetched before they are needed, which lie too far apart for processors to foresee them

// Sums of one pixel for so many vectors of filters, where w has a row for each channel. The last vectors may be one
// vector, which ends with the last filter.
INLINE void row(const int vectors, Index filters, const Cell *a, Index length, const Cell *w, Index w_step, Cell *out, int adds) {
  Vector sums[ABREAST];
  UNROLL for (int v = 0; v < vectors; v++) sums[v] = (Vector){0};
  const Index end = filters - LANES;
#define FILTER(v) (v < vectors / 2 ? v * LANES : smaller(v * LANES, end))
  for (Index k = 0; k < length; k++, w += w_step)
    UNROLL for (int v = 0; v < vectors; v++) {
      __builtin_prefetch(w + AHEAD * w_step + v * LANES);
      sums[v] += load(w + FILTER(v)) * a[k];
    }
  if (adds) UNROLL for (int v = 0; v < vectors; v++) sums[v] += load(out + FILTER(v));
  UNROLL for (int v = 0; v < vectors; v++) store(out + FILTER(v), sums[v]);
#undef FILTER
}

// The same of fewer filters than a vector has lanes, and at least half as many.
static void short_row(Index filters, const Cell *a, Index length, const Cell *w, Index w_step, Cell *out, int adds) {
  const Index end = filters - HALF;
  Half first = {0}, last = {0};
  for (Index k = 0; k < length; k++, w += w_step) first += *(const Half *)w * a[k], last += *(const Half *)(w + end) * a[k];
  if (adds) first += *(const Half *)out, last += *(const Half *)(out + end);
  *(Half *)out = first, *(Half *)(out + end) = last;
}

// The same of any number of filters, at least half a vector: the kernel is read as it lies, each row as far as registers hold.
static void rows_of_one(Index filters, const Cell *a, Index length, Index cut, const Cell *w, Index w_step, Cell *out) {
  if (filters < LANES) {
    for (Index s = 0; s < length; s += cut) short_row(filters, a + s, smaller(cut, length - s), w + s * w_step, w_step, out, s > 0);
    return;
  }
  const Index vectors = parts(filters, LANES), each = parts(vectors, parts(vectors, ABREAST)) * LANES;
  for (Index first = 0; first < filters; first += each) {
    const Index from = smaller(first, larger(0, filters - LANES)), some = smaller(filters - from, each);
    for (Index s = 0; s < length; s += cut) {
#define ROW(vectors) row(vectors, some, a + s, smaller(cut, length - s), w + from + s * w_step, w_step, out + from, s > 0)
      if (some <= LANES) ROW(1);
      else if (some <= 2 * LANES) ROW(2);
      else if (some <= 4 * LANES) ROW(4);
      else if (some <= 8 * LANES) ROW(8);
      else ROW(ABREAST);
    }
  }
}

// to[n] (+)= from[n], a few cells.
INLINE void put(Cell *to, const Cell *from, Index count, int adds) {
  Index n = 0;
  for (; n + HALF <= count; n += HALF) *(Half *)(to + n) = adds ? *(Half *)(to + n) + *(const Half *)(from + n) : *(const Half *)(from + n);
  for (; n < count; n++) {
    to[n] = adds ? to[n] + from[n] : from[n];
    NO_CALL;
  }
}

// Some pixels: where each reads and writes. Or `at` is null, and the n-th reads from first + n apart, and writes to out + n away.
typedef struct {
  const Cell *const *at;
  const Index *outs;
  Index count;
  const Cell *first;
  Index apart, out, away;
} Pixels;

INLINE const Cell *read_from(const Pixels *pixels, Index n) { return pixels->at ? pixels->at[n] : pixels->first + n * pixels->apart; }
INLINE Index write_to(const Pixels *pixels, Index n) { return pixels->at ? pixels->outs[n] : pixels->out + n * pixels->away; }

// A piece of the sums of one panel at some pixels: those of all taps in runs go where y lies, or are kept `aside`, pixel by
// pixel. `sums` is room for these, or for a tile of a panel that is not full. Of a full one sums that are the last are finished.
// Rows that are far are fetched a tile ahead.
static void meet(const Pixels *pixels, const Index *runs, Index count, Index length, const Cell *w, Index w_step, int vectors,
                 Index filters, Cell *out, Cell *sums, int aside, int adds, const Finish *finish, int far) {
  const Index width = width_of(vectors);
  const int there = filters == width && !aside, whole = there || aside; // whether blocks write where y lies
  const Cell *tile_at[HIGHEST];
  Index steady[HIGHEST];
  for (int i = 0; i < HIGHEST; i++) steady[i] = i * (there && !pixels->at ? pixels->away : width);
  for (Index p = 0, high, even = 0; p < pixels->count; p += high) {
    if (even <= 0 && TALLEST(vectors) == 12) even = pixels->at ? evenly(pixels->at + p, pixels->count - p) : pixels->count;
    high = even > 6 ? parts(even, parts(even, EVENLY(vectors))) : tile(pixels->count - p, vectors);
    Cell *to = there ? out + (pixels->at ? 0 : write_to(pixels, p)) : aside ? sums + p * width : sums;
    const Index *places = there && pixels->at ? pixels->outs + p : steady;
    if (even > 6) {
      const Cell *first = read_from(pixels, p);
      block_even((int)high, vectors, first, read_from(pixels, p + 1) - first, runs, count, length, w, w_step, to, places,
                 whole && adds, finish);
    } else {
      for (Index i = p + high; far && i < smaller(pixels->count, p + 2 * high); i++)
        for (Index k = 0; k < length; k += LANES) __builtin_prefetch(read_from(pixels, i) + runs[0] + k, 0, 2);
      for (Index i = 0; i < high && !pixels->at; i++) tile_at[i] = read_from(pixels, p + i);
      block_apart((int)high, vectors, pixels->at ? pixels->at + p : tile_at, runs, 1, count, length, w, w_step, to, places,
                  whole && adds, finish);
    }
    for (Index i = 0; i < high && !whole; i++) put(out + write_to(pixels, p + i), sums + steady[i], filters, adds);
    even -= high;
  }
}

// Panels whose vectors have all their filters.
INLINE Index full(const Map *m) {
  const Index last = panels(m) - 1;
  return last + (m->filters - last * PANEL == width_of(vectors_of(m, last)));
}

// The sums of pixels that meet a matrix: pieces of its channels in turn, which stay in cache while panels pass, as those
// of a panel do while pixels pass. `own` is room for a piece of a panel, `sums` for a tile.
static void matrix(const Map *m, const Pixels *pixels, Index cut, Index begin, Index end, const Cell *packed, Cell *own, Cell *sums,
                   Cell *y, const Ending *ending) {
  for (Index s = 0; s < m->channels; s += cut) {
    Map piece = *m; // of the channels from s on
    piece.channels = smaller(cut, m->channels - s), piece.k_at += s * m->k_channel;
    for (Index panel = begin; panel < end; panel++) {
      const int vectors = vectors_of(m, panel);
      const Index width = width_of(vectors), filters = smaller(width, m->filters - panel * PANEL);
      const Cell *w = packed + m->packed_at + panel * PANEL * m->channels + s * width;
      Index step = width;
      if (m->loose && m->k_filter == 1 && filters == width && pixels->count <= OFTEN) { // as good as packed
        w = packed + piece.k_at + panel * PANEL, step = m->k_channel;
      } else if (m->loose) {
        pack(&piece, panel, 0, piece.channels, packed, own);
        w = own;
      }
      Finish finish;
      const int ends = s + cut >= m->channels && filters == width && finish_of(m, ending, panel * PANEL, &finish);
      meet(pixels, &s, 1, piece.channels, w, step, vectors, filters, y + panel * PANEL, sums, 0, s > 0, ends ? &finish : 0,
           panel == begin && is_far(x_cells(m)));
    }
  }
}

// Part the pixels of a band. `row` and `column` tell what a row and a column add to a place in `numbers`, which has groups.
static Index group(const Map *m, const Band *b, Group *groups, Index *row, Index *column, Index *numbers) {
  Class rows[GROUPS], columns[CLASSES] = {{0, m->kernel_columns, b->columns}};
  Index wide = 1;
  if (m->parted > BY_ROWS) wide = classify_columns(m, b->left, b->columns, columns, column);
  else memset(column, 0, b->columns * sizeof(Index));
  const Index high = classify_rows(m, GROUPS, b->first, b->rows, rows, row);
  for (Index r = 0; r < b->rows; r++) row[r] *= wide;
  return part(m, m->parted, rows, high, columns, wide, groups, numbers);
}

// Where the windows of a row begin in X, if they are single pixels, and their sums in Y.
INLINE Index read_at(const Map *m, Index row) { return m->x_at + row / m->out_rows * m->x_image + row % m->out_rows * m->down * m->x_row; }
INLINE Index write_at(const Map *m, Index row) { return m->y_at + row / m->out_rows * m->y_image + row % m->out_rows * m->y_row; }

// Whether the single pixels of some rows lie equally far from each other, in X and in Y.
INLINE int lie_evenly(const Map *m, const Band *b) {
  const Index x = b->columns * m->across * m->x_column, y = b->columns * m->y_column;
  const int rows = m->out_rows == 1 || (m->down * m->x_row == x && m->y_row == y);
  const int images = m->x_image == m->out_rows * x && m->y_image == m->out_rows * y;
  return b->columns == m->out_columns && (b->rows == 1 || (rows && (images || b->first / m->out_rows == (b->last - 1) / m->out_rows)));
}

// The sums of one band's pixels and one share of the filters.
void NAME(blocks_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending) {
  const Index segments = parts(m->out_columns, m->segment), share = unit % m->shares;
  const Band b = band_of(m, unit / m->shares / segments, unit / m->shares % segments);
  const Index pixels = b.rows * b.columns, most = m->kernel_rows * m->kernel_columns, direct = in_place(m);
  const Index cells = direct ? 0 : b.most * b.pitch;
  // the taps as runs of cells that lie side by side, and how much of them makes one piece of a sum
  const Index joined = direct || m->column_gap == 1, length = (joined ? m->kernel_columns : 1) * m->channels;
  const Index count = joined ? m->kernel_rows : most;
  const Index cut = parts(length, parts(length, TERMS)), some = parts(count, parts(count, larger(1, TERMS / length)));
  const Index pieces = parts(count, some) * parts(length, cut), wide = pieces > PIECES;
  const Index aside = m->y_channel != 1 || wide; // sums are kept apart before they go where y lies
  char *room = scratch(cells * sizeof(Cell) + b.rows * sizeof(Cell *) + pixels * (sizeof(Cell *) + sizeof(Index)) +
                       (2 * count + b.rows + b.columns + 12) * sizeof(Index) + (aside ? pixels : HIGHEST) * PANEL * sizeof(Cell) +
                       (wide ? pixels * PANEL * sizeof(double) : 0) + (m->loose ? most * m->channels * PANEL * sizeof(Cell) : 0) + 768);
  double *doubles = carve(&room, (wide ? pixels : 0) * PANEL * sizeof(double));
  Cell *laid = carve(&room, cells * sizeof(Cell)), *sums = carve(&room, (aside ? pixels : HIGHEST) * PANEL * sizeof(Cell));
  const Cell **rows = carve(&room, b.rows * sizeof(Cell *)), **at = carve(&room, pixels * sizeof(Cell *));
  Index *outs = carve(&room, pixels * sizeof(Index)), *runs = carve(&room, count * sizeof(Index));
  Index *here = carve(&room, count * sizeof(Index)), *row_group = carve(&room, b.rows * sizeof(Index));
  Index *column_group = carve(&room, b.columns * sizeof(Index)), places[GROUPS], numbers[GROUPS] = {0};
  Group groups[GROUPS];
  Index all = m->parted && !wide ? group(m, &b, groups, row_group, column_group, numbers) : 0;
  if (!all) {
    groups[all++] = (Group){0, pixels, 0, count, 0, length};
    memset(row_group, 0, b.rows * sizeof(Index)), memset(column_group, 0, b.columns * sizeof(Index));
  }
  Cell *own = m->loose ? carve(&room, most * m->channels * PANEL * sizeof(Cell)) : 0;
  if (!direct) lay_band(m, &b, x, laid, rows);
  for (Index g = 0; g < all; g++) places[g] = groups[g].first;
  const int singly = m->loose && one_by_one(m), flat = direct && !aside && !singly;
  const Index pitch = m->across * (direct ? m->x_column : m->channels), away = m->y_column;
  Pixels every = {at, outs, pixels};
  if (flat && lie_evenly(m, &b)) {
    every = (Pixels){.count = pixels, .first = x + read_at(m, b.first), .apart = pitch, .out = write_at(m, b.first), .away = away};
  } else {
    for (Index r = 0; r < b.rows; r++) {
      const Cell *from = direct ? x + read_at(m, b.first + r) + b.left * pitch : rows[r];
      Index to = write_at(m, b.first + r) + b.left * away;
      for (Index q = 0; q < b.columns;) {
        const Index class = column_group[q], number = numbers[row_group[r] + class];
        Index p = places[number];
        for (; q < b.columns && column_group[q] == class; q++, p++, from += pitch, to += away) at[p] = from, outs[p] = to;
        places[number] = p;
      }
    }
  }
  for (Index r = 0; r < count; r++)
    runs[r] = joined ? r * b.deep * b.pitch
                     : r / m->kernel_columns * b.deep * b.pitch + r % m->kernel_columns * m->column_gap * m->channels;
  const Index lots = singly ? parts(m->filters, LANES) : panels(m), lot = singly ? LANES : PANEL; // that are shared out
  const Index begin = share * lots / m->shares, end = (share + 1) * lots / m->shares;
  const Index from = begin * lot, to = smaller(m->filters, end * lot);
  for (Index p = 0; p < pixels && singly; p++)
    rows_of_one(to - from, at[p], length, cut, packed + m->k_at + from, m->k_channel, y + outs[p] + from);
  if (flat) matrix(m, &every, cut, begin, end, packed, own, sums, y, ending);
  const int ends_full = flat || (pieces == 1 && !aside && !singly); // whether full panels are finished as they are written
  for (Index panel = begin; panel < end && !singly && !flat; panel++) {
    const int vectors = vectors_of(m, panel);
    const Index width = width_of(vectors), filters = smaller(width, m->filters - panel * PANEL);
    const Cell *w = packed + m->packed_at + panel * PANEL * most * m->channels;
    Cell *out = y + panel * PANEL * m->y_channel;
    Index piece = 0, met[GROUPS] = {0};
    Finish finish;
    const int ends = ends_full && filters == width && finish_of(m, ending, panel * PANEL, &finish);
    if (m->loose) {
      pack(m, panel, 0, m->channels, packed, own);
      w = own;
    }
    for (Index r = 0; r < count; r += some)
      for (Index s = 0; s < length; s += cut, piece++) {
        const Index few = smaller(some, count - r), l = smaller(cut, length - s);
        for (Index g = 0; g < all; g++) {
          const Group *part = groups + g;
          const Index top = larger(r, part->top), bottom = smaller(r + few, part->bottom);
          const Index left = larger(s, part->left), cells_met = smaller(s + l, part->right) - left;
          const Index each = cells_met == l ? bottom - top : 1; // runs whose filters follow each other
          for (Index i = top; i < bottom && cells_met > 0; i += each) {
            for (Index j = 0; j < each; j++) here[j] = runs[i + j] + left;
            const Pixels some_pixels = {at + part->first, outs + part->first, part->pixels};
            meet(&some_pixels, here, each, cells_met, w + ((i - r) * l + left - s) * width, width, vectors, filters, out,
                 aside ? sums + part->first * width : sums, aside, wide ? piece % PIECES != 0 : met[g]++ > 0,
                 ends && i + each >= bottom ? &finish : 0, 0);
          }
        }
        w += few * l * width;
        if (wide && (piece % PIECES == PIECES - 1 || piece == pieces - 1)) {
          for (Index j = 0; j < pixels * width; j++)
            doubles[j] = (piece < PIECES ? 0 : doubles[j]) + (double)sums[j];
        }
      }
    if (wide)
      for (Index j = 0; j < pixels * width; j++) sums[j] = (Cell)doubles[j];
    if (aside)
      for (Index o = 0; o < filters; o++) {
        Cell *to = out + o * m->y_channel;
        for (Index p = 0; p < pixels; p++) to[outs[p]] = sums[p * width + o];
      }
  }
  Finish unused;
  const Index rest = ends_full && finish_of(m, ending, 0, &unused) ? larger(from, full(m) * PANEL) : from;
  if (ending->program && rest < to) NAME(end)(m, ending, b.first, b.rows, b.left, b.columns, rest, to - rest);
}
