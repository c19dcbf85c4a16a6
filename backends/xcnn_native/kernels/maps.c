// What xcnn_numpy/native calls: whole tables of maps, their units shared out among threads.

#include "transpose.h"
#include "ways.h"

#define NARROW 256 // bytes of a pixel's results that are few

typedef struct {
  const Map *maps;
  const Cell *x, *k, *packed, *dy;
  Cell *y, *to, *db;
  char *room;
  Ending ending;
  Index turns; // of how many maps units take turns
  Index pieces; // of all rows, whose endings are units of their own
} Call;

// Plan the maps of a table: how many cells all their packed kernels take; 0 where the maps read the kernel as it is. One
// that is `kept` packed for later calls is packed, unless it lies as well as that.
EXPORT Index NAME(prepare)(Map *maps, Index count, int kept, int threads) {
  Index cells = 0;
  const int each = count >= 4 * threads ? 1 : threads; // that share a map: many maps are shared out whole
  int loose = 1;
  for (Map *m = maps; m < maps + count; m++) {
    m->loose = 0;
    if (m->kind == BLOCKS) NAME(blocks_prepare)(m, each);
    if (m->kind == FEW) NAME(few_prepare)(m, count > 1 ? each : 1); // a map alone is quicker whole
    if (m->kind == DEPTHWISE) NAME(depthwise_prepare)(m, each);
    if (m->kind == SPREAD) NAME(spread_prepare)(m, each);
    loose &= (int)m->loose && (!kept || (taps(m) == 1 && m->k_filter == 1));
  }
  for (Map *m = maps; m < maps + count; m++) { // all are loose, or none
    if (m->loose && !loose) m->loose = 0, m->packed = taps(m) * m->channels * parts(m->filters, LANES) * LANES;
    m->packed_at = cells;
    cells += parts(m->packed, LANES) * LANES;
  }
  return cells;
}

// How many units it takes to pack a map's kernel.
INLINE Index packs(const Map *m) {
  if (m->loose) return 0;
  return m->kind == BLOCKS ? NAME(blocks_packs)(m) : m->kind == DEPTHWISE ? parts(m->filters, CHUNK) : m->kind == SPREAD ? m->kernel_rows : 1;
}

static void pack_unit(void *argument, Index unit) {
  const Call *call = argument;
  const Map *m = call->maps;
  for (; unit >= packs(m); m++) unit -= packs(m);
  if (m->kind == BLOCKS) NAME(blocks_pack)(m, unit, call->k, call->to);
  if (m->kind == FEW) NAME(few_pack)(m, call->k, call->to);
  if (m->kind == DEPTHWISE) NAME(depthwise_pack)(m, unit, call->k, call->to);
  if (m->kind == SPREAD) NAME(spread_pack)(m, unit, call->k, call->to);
}

// Lay the kernels out as the maps read them.
EXPORT void NAME(pack)(const Map *maps, Index count, const Cell *k, Cell *packed, int threads) {
  Call call = {.maps = maps, .k = k, .to = packed};
  Index units = 0;
  for (Index n = 0; n < count; n++) units += packs(maps + n);
  team_run(pack_unit, &call, units, threads);
}

// Of how many maps units take turns, so that one thread writes what lies side by side: 1 where their results fill lines.
INLINE Index turns_of(const Map *maps, Index count) {
  int narrow = maps->y_channel == 1 && maps->filters * sizeof(Cell) < NARROW;
  for (Index n = 1; n < count && narrow; n++) narrow = maps[n].units == maps->units;
  return narrow ? count : 1;
}

// Whether units have so few of a pixel's filters that endings are made of all of them together, when all sums are there.
INLINE int ends_apart(const Map *maps, Index count, const Ending *ending) {
  Finish finish;
  const Map *m = maps;
  const Index shares = count * larger(1, m->shares), filters = count * m->filters;
  if (!ending->program || shares == 1 || m->y_channel != 1 || filters / shares * (Index)sizeof(Cell) >= NARROW) return 0;
  if (maps[count - 1].first_filter != m->first_filter + filters - m->filters) return 0; // there are phases
  return m->filters % LANES || m->kind == FEW || !finish_of(m, ending, 0, &finish);
}

static void end_unit(void *argument, Index unit) {
  const Call *call = argument;
  const Index rows = call->maps->images * call->maps->out_rows, first = unit * rows / call->pieces;
  NAME(end)(call->maps, &call->ending, first, (unit + 1) * rows / call->pieces - first, 0, call->maps->out_columns, 0, call->maps->filters);
}

static void correlate_unit(void *argument, Index unit) {
  const Call *call = argument;
  const Map *m = call->maps + unit % call->turns;
  for (unit /= call->turns; unit >= m->units; m++) unit -= m->units;
  if (m->kind == BLOCKS) NAME(blocks_unit)(m, unit, call->x, call->packed, call->y, &call->ending);
  if (m->kind == FEW) NAME(few_unit)(m, unit, call->x, call->packed, call->y, &call->ending);
  if (m->kind == DEPTHWISE) NAME(depthwise_unit)(m, unit, call->x, call->packed, call->y, &call->ending);
  if (m->kind == SPREAD) NAME(spread_unit)(m, unit, call->x, call->packed, call->y);
}

// Y of all the maps. Where a program is given, each unit runs it on what it has written: see tiles.h, and for
// `repeated` Ending. Y's channels or columns are neighbours then, and no map is spread.
EXPORT void NAME(correlate)(const Map *maps, Index count, const Cell *x, const Cell *packed, Cell *y, const Program *program,
                            void *const *arrays, Index repeated, int threads) {
  Call call = {.maps = maps, .x = x, .packed = packed, .y = y, .ending = {program, arrays, repeated}, .turns = turns_of(maps, count)};
  Index units = 0;
  for (Index n = 0; n < count; n++) units += maps[n].units;
  if (!ends_apart(maps, count, &call.ending)) {
    team_run(correlate_unit, &call, units, threads);
    return;
  }
  call.ending.program = 0;
  team_run(correlate_unit, &call, units, threads);
  Map all = *maps; // groups as one
  all.filters *= count;
  call.maps = &all, call.ending.program = program, call.pieces = within(4 * threads, 1, all.images * all.out_rows);
  team_run(end_unit, &call, call.pieces, threads);
}

// Plan the kernel's gradient of a table's maps: how many bytes its sums take before they are added up.
EXPORT Index NAME(prepare_gradient)(Map *maps, Index count) {
  Index bytes = 0;
  for (Map *m = maps; m < maps + count; m++) {
    if (m->kind == BLOCKS) NAME(blocks_prepare_gradient)(m, count);
    if (m->kind == FEW) NAME(few_prepare_gradient)(m);
    if (m->kind == DEPTHWISE) NAME(depthwise_prepare_gradient)(m);
    m->room_at = bytes;
    bytes += (m->packed + 63) & ~(Index)63; // here `packed` counts bytes
  }
  return bytes;
}

static void gradient_unit(void *argument, Index unit) {
  const Call *call = argument;
  const Map *m = call->maps;
  for (; unit >= m->units; m++) unit -= m->units;
  if (m->kind == BLOCKS) NAME(blocks_gradient_unit)(m, unit, call->x, call->dy, call->room + m->room_at, call->to, call->db != 0);
  if (m->kind == FEW) NAME(few_gradient_unit)(m, unit, call->x, call->dy, call->room + m->room_at);
  if (m->kind == DEPTHWISE) NAME(depthwise_gradient_unit)(m, unit, call->x, call->dy, call->room + m->room_at);
}

// How many units it takes to add up a map's sums.
INLINE Index merges(const Map *m) { return m->kind == BLOCKS ? NAME(blocks_merges)(m) : m->kind == DEPTHWISE ? parts(m->filters, CHUNK) : 1; }

static void merge_unit(void *argument, Index unit) {
  const Call *call = argument;
  const Map *m = call->maps;
  Index filter = 0; // of dB
  for (; unit >= merges(m); filter += m->filters, m++) unit -= merges(m);
  Cell *db = call->db ? call->db + filter : 0;
  if (m->kind == BLOCKS) NAME(blocks_merge)(m, unit, call->dy, call->room + m->room_at, call->to, db);
  if (m->kind == FEW) NAME(few_merge)(m, call->room + m->room_at, call->to, db);
  if (m->kind == DEPTHWISE) NAME(depthwise_merge)(m, unit, call->room + m->room_at, call->to, db);
}

// DK of all the maps, and dB, the sums of dY for each filter, where it is not null; `room` begins with a cache line.
EXPORT void NAME(kernel_gradient)(const Map *maps, Index count, const Cell *x, const Cell *dy, char *room, Cell *dk,
                                  Cell *db, int threads) {
  Call call = {.maps = maps, .x = x, .dy = dy, .room = room, .to = dk, .db = db};
  Index units = 0, merged = 0;
  for (Index n = 0; n < count; n++) units += maps[n].units, merged += merges(maps + n);
  team_run(gradient_unit, &call, units, threads);
  team_run(merge_unit, &call, merged, threads);
}

#define COLUMNS 2048 // of a matrix at a time

typedef struct {
  Index rows, columns;
  const Cell *x;
  Cell *sums;
} Matrix;

static void add_unit(void *argument, Index unit) {
  const Matrix *all = argument;
  const Index first = unit * COLUMNS, count = smaller(COLUMNS, all->columns - first);
  double *sums = scratch(count * sizeof(double));
  for (Index j = 0; j < count; j++) sums[j] = 0;
  for (Index row = 0; row < all->rows; row++)
    for (Index j = 0; j < count; j++) sums[j] += (double)all->x[row * all->columns + first + j];
  for (Index j = 0; j < count; j++) all->sums[first + j] = (Cell)sums[j];
}

// The sum of the rows of a matrix.
EXPORT void NAME(add_rows)(Index rows, Index columns, const Cell *x, Cell *sums, int threads) {
  Matrix all = {rows, columns, x, sums};
  team_run(add_unit, &all, parts(columns, COLUMNS), threads);
}

#define SOME 64 // rows of a unit

typedef struct {
  Index rows, columns, samples;
  const Cell *w, *y;
  Cell *x;
} Rows;

// The sum of the products of two lines of cells: of vectors in chains of TERMS, poured together in double precision.
static Cell product(Index count, const Cell *a, const Cell *b) {
  double sum = 0;
  for (Index first = 0; first < count; first += TERMS * LANES) {
    const Index end = smaller(count, first + TERMS * LANES);
    Vector even = {0}, odd = {0};
    Index n = first;
    for (; n + 2 * LANES <= end; n += 2 * LANES) {
      even += load(a + n) * load(b + n);
      odd += load(a + n + LANES) * load(b + n + LANES);
    }
    even += odd;
    for (int l = 0; l < LANES; l++) sum += (double)even[l];
    for (; n < end; n++) sum += (double)a[n] * (double)b[n];
  }
  return (Cell)sum;
}

// The same of LANES lines of W, which lie `apart`, with one line of at least LANES cells: a sum for each.
static Vector products(Index count, Index apart, const Cell *w, const Cell *y) {
  const Index whole = count / LANES * LANES;
  Mask rest; // the lanes of the last vector that no other has
  for (Index l = 0; l < LANES; l++) rest[l] = l >= LANES - (count - whole) ? -1 : 0;
  Vector sums[LANES];
  UNROLL for (int l = 0; l < LANES; l++) sums[l] = (Vector){0};
  for (Index n = 0; n < whole; n += LANES) {
    const Vector b = load(y + n);
    UNROLL for (int l = 0; l < LANES; l++) sums[l] += load(w + l * apart + n) * b;
  }
  if (whole < count) {
    const Vector b = (Vector)((Mask)load(y + count - LANES) & rest);
    UNROLL for (int l = 0; l < LANES; l++) sums[l] += (Vector)((Mask)load(w + l * apart + count - LANES) & rest) * b;
  }
  turn(sums);
  for (int half = LANES / 2; half; half /= 2) UNROLL for (int l = 0; l < LANES / 2; l++) if (l < half) sums[l] += sums[l + half];
  return sums[0];
}

static void rows_unit(void *argument, Index unit) {
  const Rows *all = argument;
  const Index first = unit * SOME, last = smaller(first + SOME, all->rows), columns = all->columns;
  const int side_by_side = columns >= LANES && columns <= TERMS * LANES;
  for (Index n = 0; n < all->samples; n++) {
    const Cell *y = all->y + n * columns;
    Cell *x = all->x + n * all->rows;
    Index row = first;
    for (; side_by_side && row + LANES <= last; row += LANES) store(x + row, products(columns, columns, all->w + row * columns, y));
    for (; row < last; row++) x[row] = product(columns, all->w + row * columns, y);
  }
}

// X = Y Wᵀ for few samples: the rows of W are read once, as they lie.
EXPORT void NAME(times_rows)(Index rows, Index columns, Index samples, const Cell *w, const Cell *y, Cell *x, int threads) {
  Rows all = {rows, columns, samples, w, y, x};
  team_run(rows_unit, &all, parts(rows, SOME), threads);
}
