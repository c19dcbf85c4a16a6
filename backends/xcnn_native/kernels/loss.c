// Losses of classifiers with their gradients, and how many samples are right, as xcnn/training/losses.py defines them.
//
// Rows of samples go to units whose number and sums follow from the shape alone. Values are added in double precision.

#include "functions.h"

#define UNITS 64
#define CELLS 8192 // of a unit, about

typedef struct {
  Index samples, classes, units, places; // places: of an image, whose classes are planes
  const Cell *y;
  const void *t; // labels, or numbers as many as there are outputs
  Cell *dy;
  double threshold, values[UNITS];
  Index right[UNITS], strange[UNITS]; // of each unit: samples that are right, labels that are no class
} Loss;

// The first of the largest numbers, or the first NaN.
static Index largest(const Cell *cells, Index count) {
  Index best = 0;
  for (Index c = 1; c < count; c++)
    if (cells[c] > cells[best] || (cells[c] != cells[c] && cells[best] == cells[best])) best = c;
  return best;
}

// exp of so many cells, in place.
static void exponentials(Cell *cells, Index count) {
  Index n = 0;
  for (; n + LANES <= count; n += LANES) store(cells + n, exp_(load(cells + n)));
  if (n == count) return;
  Cell rest[LANES] = {0};
  for (Index k = n; k < count; k++) rest[k - n] = cells[k];
  store(rest, exp_(load(rest)));
  for (Index k = n; k < count; k++) cells[k] = rest[k - n];
}

// With z = y - max(y) and sums S of exp(z): E = mean(log S - z_c) for the label c, dE/dy = (exp(z) / S - 1 where it is c) / N.
static void cross_entropy_unit(void *argument, Index unit) {
  Loss *all = argument;
  const Index classes = all->classes, end = (unit + 1) * all->samples / all->units;
  const int64_t *labels = all->t;
  for (Index n = unit * all->samples / all->units; n < end; n++) {
    const Cell *y = all->y + n * classes;
    Cell *dy = all->dy + n * classes;
    const Index best = largest(y, classes), label = labels[n];
    if (label < 0 || label >= classes) {
      all->strange[unit]++;
      continue;
    }
    for (Index c = 0; c < classes; c++) dy[c] = y[c] - y[best];
    const double z = dy[label];
    exponentials(dy, classes);
    double sums[4] = {0};
    for (Index c = 0; c < classes; c++) sums[c % 4] += (double)dy[c];
    const double sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    for (Index c = 0; c < classes; c++) dy[c] /= (Cell)sum;
    dy[label] -= 1;
    for (Index c = 0; c < classes; c++) dy[c] /= (Cell)all->samples;
    all->values[unit] += log(sum) - z;
    all->right[unit] += best == label;
  }
}

// So many cells, zeros behind them, and the other way round.
INLINE Vector take(const Cell *cells, Index count) {
  if (count == LANES) return load(cells);
  Vector taken = {0};
  for (Index k = 0; k < count; k++) taken[k] = cells[k];
  return taken;
}
INLINE void give(Cell *cells, Vector value, Index count) {
  if (count == LANES) store(cells, value);
  else
    for (Index k = 0; k < count; k++) cells[k] = value[k];
}

enum { CHAIN = 16 }; // terms of a sum that is rounded at each

// The same of images in planes, the lanes being places.
static void cross_entropy_planes_unit(void *argument, Index unit) {
  Loss *all = argument;
  const Index classes = all->classes, places = all->places, lines = (places + LANES - 1) / LANES;
  const Index from = unit * all->samples / all->units, end = (unit + 1) * all->samples / all->units;
  const Cell count = (Cell)(all->samples / lines * places);
  for (Index n = from; n < end; n++) {
    const Index first = n % lines * LANES, few = smaller(LANES, places - first), image = n / lines;
    const Cell *y = all->y + image * classes * places + first;
    Cell *dy = all->dy + image * classes * places + first;
    const int64_t *labels = (const int64_t *)all->t + image * places + first;
    Vector best = take(y, few), total = {0}, sum = {0};
    Mask which = {0}, label = {0};
    int strange = 0;
    for (Index k = 0; k < few; k++) {
      strange |= labels[k] < 0 || labels[k] >= classes;
      label[k] = (Whole)labels[k];
    }
    if (strange) {
      all->strange[unit]++;
      continue;
    }
    for (Index c = 1; c < classes; c++) {
      const Vector cell = take(y + c * places, few);
      const Mask beyond = (cell > best) | ((cell != cell) & (best == best));
      best = pick(beyond, cell, best), which = (beyond & (Whole)c) | (~beyond & which);
    }
    Vector right = {0};
    for (Index c = 0; c < classes; c++) {
      const Vector z = take(y + c * places, few) - best, e = exp_(z);
      right = pick(label == (Whole)c, z, right);
      sum += e;
      if (c % CHAIN == CHAIN - 1) total += sum, sum = (Vector){0};
      give(dy + c * places, e, few);
    }
    total += sum;
    for (Index c = 0; c < classes; c++)
      give(dy + c * places, (take(dy + c * places, few) / total - pick(label == (Whole)c, splat(1), splat(0))) / count, few);
    for (Index k = 0; k < few; k++) all->values[unit] += log((double)total[k]) - right[k], all->right[unit] += which[k] == label[k];
  }
}

// With p = y within its limits: E = -mean(t log p + (1 - t) log(1 - p)), dE/dy = ((1 - t) / (1 - p) - t / p) / size.
static void binary_unit(void *argument, Index unit) {
  Loss *all = argument;
  const Index units = all->classes, end = (unit + 1) * all->samples / all->units;
  const Cell low = WIDE ? 0x1p-1022 : 0x1p-126f, high = 1 - (WIDE ? 0x1p-53 : 0x1p-24f), size = (Cell)(all->samples * units);
  for (Index n = unit * all->samples / all->units; n < end; n++) {
    const Cell *y = all->y + n * units, *t = (const Cell *)all->t + n * units;
    for (Index k = 0; k < units; k++) {
      const Cell above = y[k] < low ? low : y[k], p = above > high ? high : above; // NaN stays
      all->values[unit] -= (double)t[k] * log(p) + (double)(1 - t[k]) * log(1 - p);
      all->dy[n * units + k] = ((1 - t[k]) / (1 - p) - t[k] / p) / size;
    }
    all->right[unit] += units == 1 ? (y[0] > all->threshold) == (t[0] > (Cell)0.5) : largest(y, units) == largest(t, units);
  }
}

// The mean loss; how many samples are right, or -1 where a label is no class, and all else is of any value.
static double judged(Loss *all, void (*work)(void *, Index), Index size, int64_t *right, int threads) {
  const Index lines = all->places ? LANES : 1; // cells of a sample for each class
  all->units = smaller(smaller(UNITS, all->samples), all->samples * lines * all->classes / CELLS + 1);
  team_run(work, all, all->units, threads);
  double value = 0;
  *right = 0;
  for (Index unit = 0; unit < all->units; unit++) value += all->values[unit], *right += all->right[unit];
  for (Index unit = 0; unit < all->units; unit++)
    if (all->strange[unit]) *right = -1;
  return value / (double)size;
}

// Labels (N,) against y (N, classes).
EXPORT double NAME(cross_entropy)(Index samples, Index classes, const Cell *y, const int64_t *t, Cell *dy, int64_t *right, int threads) {
  Loss all = {.samples = samples, .classes = classes, .y = y, .t = t, .dy = dy};
  return judged(&all, cross_entropy_unit, samples, right, threads);
}

// Labels (images, places) against y (images, classes, places).
EXPORT double NAME(cross_entropy_planes)(Index images, Index classes, Index places, const Cell *y, const int64_t *t, Cell *dy,
                                         int64_t *right, int threads) {
  const Index lines = (places + LANES - 1) / LANES;
  Loss all = {.samples = images * lines, .classes = classes, .y = y, .t = t, .dy = dy, .places = places};
  return judged(&all, cross_entropy_planes_unit, images * places, right, threads);
}

// Targets (N, units) against probabilities (N, units).
EXPORT double NAME(binary_cross_entropy)(Index samples, Index units, const Cell *y, const Cell *t, double threshold, Cell *dy,
                                         int64_t *right, int threads) {
  Loss all = {.samples = samples, .classes = units, .y = y, .t = t, .dy = dy, .threshold = threshold};
  return judged(&all, binary_unit, samples * units, right, threads);
}
