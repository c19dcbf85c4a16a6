// The optimizers' rules on many arrays, with the sums of squares of each one's gradient and new weights.
//
// Each loop has the operations of its rule in xcnn/training/optimizers.py, in their order and in the arrays' type, and
// is compiled without contraction, so that it rounds as the rule does. Sums are taken over a unit's cells in some
// columns and then over units, both in an order that follows from the number of cells alone.

#include "common.h"

#define UNIT 2048   // cells at a time: all arrays of a unit fit into a core's own cache
#define UNITS 1024  // whose sums are kept at a time
#define COLUMNS 8
#define CHAINS 4    // of sums of squares side by side: each addition waits for the one before

typedef REAL Cell;

enum { SGD, ADAM, RMSPROP };

// An array of weights, its gradient and moments, null where a rule has none, and the arrays that replace them. Without
// a gradient nothing changes: the weight's squares are summed.
typedef struct {
  Index cells;
  const Cell *w, *g, *m, *v;
  Cell *new_w, *new_m, *new_v;
} Leaf;

typedef struct {
  int rule;
  const Leaf *leaves;
  const double *constants;
  Index leaf[UNITS], first[UNITS]; // of each unit of this round: its array, and its first cell there
  double sums[UNITS][2];
} Update;

typedef Cell Columns __attribute__((vector_size(COLUMNS * sizeof(Cell)), aligned(sizeof(Cell)), may_alias));
typedef double Sums __attribute__((vector_size(COLUMNS * sizeof(double))));

// The columns of sums, added in pairs.
static double added(Sums s) { return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7])); }

// The sum of squares of so many cells in double precision: chains of eight columns side by side, then added in pairs.
static double squares(const Cell *cells, Index count) {
  Sums sums[CHAINS] = {0};
  Index n = 0;
  for (; n + CHAINS * COLUMNS <= count; n += CHAINS * COLUMNS)
    for (int i = 0; i < CHAINS; i++) {
      const Sums wide = __builtin_convertvector(*(const Columns *)(cells + n + i * COLUMNS), Sums);
      sums[i] += wide * wide;
    }
  for (int k = 0; n < count; n++, k = (k + 1) % COLUMNS) sums[0][k] += (double)cells[n] * (double)cells[n];
  return added((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// 0 where so many cells are finite, else NaN.
static double nothing(const Cell *cells, Index count) {
  Cell sums[COLUMNS] = {0}, sum = 0;
  Index n = 0;
  for (; n + COLUMNS <= count; n += COLUMNS)
    for (int k = 0; k < COLUMNS; k++) sums[k] += 0 * cells[n + k];
  for (; n < count; n++) sum += 0 * cells[n];
  for (int k = 0; k < COLUMNS; k++) sum += sums[k];
  return sum;
}

// v = momentum v + g;  w -= rate v, or rate (g + momentum v). m is v, or null where there is no momentum.
static void sgd(Index count, const Cell *restrict w, const Cell *restrict g, const Cell *restrict v,
                Cell *restrict new_w, Cell *restrict new_v, const double *constants) {
  const Cell scale = constants[0], rate = constants[1], momentum = constants[2], decay = constants[4];
  if (!v) {
    for (Index n = 0; n < count; n++) new_w[n] = w[n] - rate * (scale * g[n] + decay * w[n]);
  } else if (constants[3] != 0) {
    for (Index n = 0; n < count; n++) {
      const Cell slope = scale * g[n] + decay * w[n], speed = momentum * v[n] + slope;
      new_v[n] = speed;
      new_w[n] = w[n] - rate * (slope + momentum * speed);
    }
  } else {
    for (Index n = 0; n < count; n++) {
      const Cell speed = momentum * v[n] + (scale * g[n] + decay * w[n]);
      new_v[n] = speed;
      new_w[n] = w[n] - rate * speed;
    }
  }
}

// m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g²;  w = kept w - rate m / (sqrt(v) spread + epsilon).
static void adam(Index count, const Cell *restrict w, const Cell *restrict g, const Cell *restrict m,
                 const Cell *restrict v, Cell *restrict new_w, Cell *restrict new_m, Cell *restrict new_v,
                 const double *constants) {
  const Cell scale = constants[0], rate = constants[1], beta1 = constants[2], beta2 = constants[3];
  const Cell spread = constants[4], epsilon = constants[5], kept = constants[6];
  const Cell rest1 = 1 - constants[2], rest2 = 1 - constants[3];
  for (Index n = 0; n < count; n++) {
    const Cell slope = scale * g[n];
    const Cell first = beta1 * m[n] + rest1 * slope, second = beta2 * v[n] + rest2 * slope * slope;
    new_m[n] = first;
    new_v[n] = second;
    new_w[n] = kept * w[n] - rate * (first / (__builtin_elementwise_sqrt(second) * spread + epsilon));
  }
}

// s = rho s + (1 - rho) g²;  v = momentum v + g / (sqrt(s) + epsilon);  w -= rate v. v is null without momentum.
static void rmsprop(Index count, const Cell *restrict w, const Cell *restrict g, const Cell *restrict s,
                    const Cell *restrict v, Cell *restrict new_w, Cell *restrict new_s, Cell *restrict new_v,
                    const double *constants) {
  const Cell scale = constants[0], rate = constants[1], rho = constants[2], momentum = constants[3];
  const Cell epsilon = constants[4], decay = constants[5], rest = 1 - constants[2];
  for (Index n = 0; n < count; n++) {
    const Cell slope = scale * g[n] + decay * w[n], square = rho * s[n] + rest * slope * slope;
    new_s[n] = square;
    new_w[n] = slope / (__builtin_elementwise_sqrt(square) + epsilon);
  }
  if (v) {
    for (Index n = 0; n < count; n++) {
      const Cell speed = momentum * v[n] + new_w[n];
      new_v[n] = speed;
      new_w[n] = w[n] - rate * speed;
    }
  } else {
    for (Index n = 0; n < count; n++) new_w[n] = w[n] - rate * new_w[n];
  }
}

// An array from one of its cells on; null stays null.
#define FROM(array, first) ((array) ? (array) + (first) : 0)

// The rule on one unit's cells, and their sums. That of the weights is NaN where a second moment is not finite.
static void update_unit(void *argument, Index unit) {
  Update *all = argument;
  const Leaf *leaf = all->leaves + all->leaf[unit];
  const Index first = all->first[unit], count = smaller(UNIT, leaf->cells - first);
  const Cell *w = leaf->w + first, *g = FROM(leaf->g, first), *m = FROM(leaf->m, first), *v = FROM(leaf->v, first);
  Cell *new_w = FROM(leaf->new_w, first), *new_m = FROM(leaf->new_m, first), *new_v = FROM(leaf->new_v, first);
  double of_moments = 0;
  if (!g) {
    new_w = (Cell *)w;
  } else if (all->rule == SGD) {
    sgd(count, w, g, m, new_w, new_m, all->constants);
  } else if (all->rule == ADAM) {
    adam(count, w, g, m, v, new_w, new_m, new_v, all->constants);
    of_moments = nothing(new_v, count);
  } else {
    rmsprop(count, w, g, m, v, new_w, new_m, new_v, all->constants);
    of_moments = nothing(new_m, count);
  }
  all->sums[unit][0] = g ? squares(g, count) : 0;
  all->sums[unit][1] = squares(new_w, count) + of_moments;
}

// Change arrays by a rule. For each of them both sums of squares are written: of its gradient, and of its new weights.
EXPORT void NAME(update)(int rule, const Leaf *leaves, Index count, const double *constants, double (*sums)[2], int threads) {
  Update all = {.rule = rule, .leaves = leaves, .constants = constants};
  for (Index n = 0; n < count; n++) sums[n][0] = sums[n][1] = 0;
  for (Index n = 0, at = 0; n < count;) {
    Index units = 0;
    for (; n < count && units < UNITS; at += UNIT)
      if (at < leaves[n].cells) all.leaf[units] = n, all.first[units++] = at;
      else n++, at = -UNIT;
    team_run(update_unit, &all, units, threads);
    for (Index unit = 0; unit < units; unit++)
      for (int k = 0; k < 2; k++) sums[all.leaf[unit]][k] += all.sums[unit][k];
  }
}

// The sum of squares of an array's cells, added as those of an update are.
EXPORT double NAME(sum_of_squares)(Index cells, const Cell *array) {
  double sum = 0;
  for (Index first = 0; first < cells; first += UNIT) sum += squares(array + first, smaller(UNIT, cells - first));
  return sum;
}
