// See tiles.h: the operations, and the pass that runs a program alone.

#include "tiles.h"
#include "formulas.h"
#include <string.h>

#define UNIT 16384 // cells at least, where there are so many

// All operations: those of one, of two and of three operands. A comparison gives a mask, which WHERE, AND, OR, NOT take.
#define PRIMITIVES(ONE, TWO, THREE) \
  ONE(COPY, a) ONE(NEGATE, -a) ONE(ABS, magnitude(a)) ONE(SQRT, __builtin_elementwise_sqrt(a)) \
  ONE(ROUND, nearest(a)) ONE(FLOOR, __builtin_elementwise_floor(a)) ONE(CEIL, __builtin_elementwise_ceil(a)) \
  ONE(TRUNC, __builtin_elementwise_trunc(a)) ONE(EXP, exp_(a)) ONE(EXPM1, expm1_(a)) ONE(LOG, log_(a)) \
  ONE(LOG1P, log1p_(a)) ONE(TANH, tanh_(a)) ONE(SIN, sin_(a)) ONE(COS, cos_(a)) ONE(NOT, (Vector)~(Mask)a) \
  TWO(ADD, a + b) TWO(SUBTRACT, a - b) TWO(MULTIPLY, a * b) TWO(DIVIDE, a / b) TWO(MINIMUM, least(a, b)) \
  TWO(MAXIMUM, most(a, b)) TWO(LESS, (Vector)(a < b)) TWO(LESS_EQUAL, (Vector)(a <= b)) TWO(EQUAL, (Vector)(a == b)) \
  TWO(AND, (Vector)((Mask)a & (Mask)b)) TWO(OR, (Vector)((Mask)a | (Mask)b)) \
  THREE(MULTIPLY_ADD, fma_(a, b, c)) THREE(MULTIPLY_SUBTRACT, fma_(a, b, -c)) \
  THREE(SUBTRACT_PRODUCT, fma_(-a, b, c)) THREE(WHERE, pick((Mask)a, b, c))

// And whole activations, and their gradients, which are written in C from what `trace.py` finds them to be.
#define NUMBER(name, formula) name,
enum { PRIMITIVES(NUMBER, NUMBER, NUMBER) FORMULAS(NUMBER, NUMBER) };
#undef NUMBER

// Their names in order, for trace.py.
EXPORT const char *NAME(operations)(void) {
#define TELL(name, formula) #name " "
  return PRIMITIVES(TELL, TELL, TELL) FORMULAS(TELL, TELL);
#undef TELL
}

// The names of those that are whole activations, each with the digest of its trace.
EXPORT const char *NAME(formulas)(void) { return WIDE ? FULL_FORMULAS : SINGLE_FORMULAS; }

// One operation on whole vectors; operands that are one number stay in a register.
#define LOOP(fixed_a, fixed_b, fixed_c, formula) \
  { \
    const Vector one_a = load(pa), one_b = load(pb), one_c = load(pc); \
    _Pragma("clang loop unroll_count(2)") for (Index n = 0; n < length; n += LANES) { \
      const Vector a = fixed_a ? one_a : load(pa + n), b = fixed_b ? one_b : load(pb + n); \
      const Vector c = fixed_c ? one_c : load(pc + n); \
      (void)a, (void)b, (void)c; \
      store(to + n, formula); \
    } \
    break; \
  }
#define ONE(name, formula) \
  case name * 8: LOOP(0, 0, 0, formula)
#define TWO(name, formula) \
  ONE(name, formula) \
  case name * 8 + 1: LOOP(1, 0, 0, formula) \
  case name * 8 + 2: LOOP(0, 1, 0, formula)
#define THREE(name, formula) \
  TWO(name, formula) \
  case name * 8 + 4: LOOP(0, 0, 1, formula) \
  case name * 8 + 3: LOOP(1, 1, 0, formula) \
  case name * 8 + 5: LOOP(1, 0, 1, formula) \
  case name * 8 + 6: LOOP(0, 1, 1, formula)
#define WHOLE(name, formula) ONE(name, formula)

// The program's steps on so many whole vectors.
static void run(const Program *program, Cell *const *at, const int32_t *fixed, Index length) {
  for (const Step *step = program->step, *end = step + program->steps; step < end; step++) {
    const Cell *pa = at[step->a], *pb = at[step->b], *pc = at[step->c];
    Cell *to = at[step->to], lines[3][TILE + LANES];
    int32_t one_number = fixed[step->a] + 2 * fixed[step->b] + 4 * fixed[step->c];
  again:
    switch (step->operation * 8 + one_number) {
      PRIMITIVES(ONE, TWO, THREE)
      FORMULAS(WHOLE, WHOLE)
      default: // of numbers that have no loop of their own: as lines
        for (Index n = 0; n < length; n += LANES) {
          store(lines[0] + n, load(fixed[step->a] ? pa : pa + n));
          store(lines[1] + n, load(fixed[step->b] ? pb : pb + n));
          store(lines[2] + n, load(fixed[step->c] ? pc : pc + n));
        }
        pa = lines[0], pb = lines[1], pc = lines[2], one_number = 0;
        goto again;
    }
  }
}

void NAME(open_tiles)(Tiles *tiles, const Program *program, void *const *arrays, Index channels) {
  tiles->program = program;
  tiles->arrays = arrays;
  tiles->channels = channels;
  for (Index n = 0; n < program->places; n++) {
    const Place *place = program->place + n;
    tiles->fixed[n] = place->kind == CONSTANT || (place->kind == CHANNEL && !channels);
    tiles->at[n] = tiles->fixed[n] ? tiles->vectors[n] : tiles->lines[place->line];
    if (place->kind == CONSTANT) store(tiles->vectors[n], splat(place->value));
    if (place->kind == CHANNEL && channels && channels <= TILE) {
      Cell *cells = tiles->repeated[place->line];
      const Index all = channels + TILE; // a tile may begin with any channel
      memcpy(cells, arrays[place->array], channels * sizeof(Cell));
      for (Index k = channels, more; k < all; k += more) {
        more = smaller(k, all - k);
        memcpy(cells + k, cells, more * sizeof(Cell));
      }
    }
  }
}

void NAME(carry)(Tiles *tiles, Index first, Index channel, Index length) {
  const Program *program = tiles->program;
  for (Index n = 0; n < program->places; n++) {
    const Place *place = program->place + n;
    Cell *array = tiles->arrays[place->array];
    if (place->kind >= STREAM) tiles->at[n] = array + first;
    if (place->kind != CHANNEL) continue;
    if (!tiles->channels) store(tiles->vectors[n], splat(array[channel]));
    else tiles->at[n] = (tiles->channels <= TILE ? tiles->repeated[place->line] : array) + channel;
  }
  const Index rest = length % LANES, whole = length - rest;
  run(program, tiles->at, tiles->fixed, whole);
  if (!rest) return;
  Cell *at[PLACES];
  for (Index n = 0; n < program->places; n++) {
    at[n] = tiles->at[n];
    const int kind = tiles->fixed[n] ? CONSTANT : program->place[n].kind;
    if (kind >= CHANNEL) at[n] = tiles->vectors[n];
    if (kind == CHANNEL || kind == STREAM) memcpy(at[n], tiles->at[n] + whole, rest * sizeof(Cell));
  }
  run(program, at, tiles->fixed, LANES);
  for (Index n = 0; n < program->places; n++)
    if (program->place[n].kind == RESULT) memcpy(tiles->at[n] + whole, at[n], rest * sizeof(Cell));
}

void NAME(from_channel)(const Program *program, void *const *arrays, Index channel, void **shifted) {
  for (Index n = 0; n < program->places; n++) {
    const Place *place = program->place + n;
    if (place->kind >= CHANNEL) shifted[place->array] = (Cell *)arrays[place->array] + (place->kind == CHANNEL ? channel : 0);
  }
}

typedef struct {
  const Program *program;
  void *const *arrays;
  Index planes, cells, channels, chunk, chunks, together;
  int how;
} Pass;

// One chunk of a plane, or a few planes as a whole.
static void pass_unit(void *argument, Index unit) {
  const Pass *all = argument;
  const Index first = unit / all->chunks * all->together, last = smaller(first + all->together, all->planes);
  const Index from = unit % all->chunks * all->chunk, to = smaller(from + all->chunk, all->cells);
  const int neighbours = all->how != PLANES;
  Tiles tiles;
  void *arrays[PLACES];
  for (Index plane = first; plane < last; plane++) {
    if (plane == first || all->how == OWN_NEIGHBOURS) {
      NAME(from_channel)(all->program, all->arrays, all->how == OWN_NEIGHBOURS ? plane * all->channels : 0, arrays);
      NAME(open_tiles)(&tiles, all->program, arrays, neighbours ? all->channels : 0);
    }
    for (Index n = from, length; n < to; n += length) {
      const Index channel = all->channels ? (neighbours ? n : plane) % all->channels : 0;
      length = smaller(TILE, to - n);
      if (neighbours && all->channels > TILE) length = smaller(length, all->channels - channel);
      NAME(carry)(&tiles, plane * all->cells + n, channel, length);
    }
  }
}

// Run a program on whole arrays: so many planes of so many cells, with so many channels (0 where it does not matter)
// that lie as `how` says.
EXPORT void NAME(pass)(const Program *program, void *const *arrays, Index planes, Index cells, Index channels, int how,
                       int threads) {
  Pass all = {.program = program, .arrays = arrays, .planes = planes, .cells = cells, .channels = channels};
  if (!planes || !cells) return;
  all.how = how;
  all.chunk = UNIT, all.chunks = (cells + UNIT - 1) / UNIT;
  all.together = all.chunks > 1 ? 1 : (UNIT + cells - 1) / cells;
  team_run(pass_unit, &all, (planes + all.together - 1) / all.together * all.chunks, threads);
}

typedef struct {
  Index cells;
  Cell by;
  const uint8_t *kept;
  const Cell *x;
  Cell *y;
} Masked;

static void masked_unit(void *argument, Index unit) {
  const Masked *all = argument;
  const Index last = smaller((unit + 1) * UNIT, all->cells);
  const uint8_t *restrict kept = all->kept;
  const Cell *restrict x = all->x, by = all->by;
  Cell *restrict y = all->y;
  for (Index n = unit * UNIT; n < last; n++) y[n] = x[n] * (kept[n] * by);
}

// y = x by where a cell is kept, else x 0.
EXPORT void NAME(masked)(Index cells, double by, const uint8_t *kept, const Cell *x, Cell *y, int threads) {
  Masked all = {cells, (Cell)by, kept, x, y};
  team_run(masked_unit, &all, (cells + UNIT - 1) / UNIT, threads);
}
