// Norms: sums over cells, and what they make of a norm's numbers for each channel.
//
// A batch is images of pixels of channels; where channels are no neighbours, it is images of channels of pixels, and each
// of these planes counts as an image of one channel. Sums are taken over pieces in the arrays' type, and over these in
// doubles, in an order that follows from the shape alone.

#include "tiles.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  PIXELS = 128, // of a piece, with channels as neighbours
  COLUMNS = 16, // in which the cells of a plane are summed
  ROUGH = 8,    // pixels, or rows of all columns, whose mean stands for a piece's
  CELLS = 32768, // of the pieces that make a unit, about
};

typedef struct {
  const Cell *x, *dz, *m;
  const Program *program;
  void *const *arrays;
  Index pixels, channels, piece, pieces, planes, planes_of_all, together;
  int neighbours, own;
  double *sums;
} Batch;

// The pieces of an image of so many pixels.
static void cut(Batch *all, Index pixels, Index channels, int neighbours) {
  all->pixels = pixels, all->channels = channels, all->neighbours = neighbours;
  all->piece = neighbours ? PIXELS : PIXELS * COLUMNS;
  all->pieces = (pixels + all->piece - 1) / all->piece;
}

// Add d and d (x - m) over pixels, `step` apart, of `count` vectors of channels. d is dz; without it, x - m.
INLINE void add_vectors(const int count, const Cell *x, const Cell *dz, const Cell *m, Index pixels, Index step, Cell *first,
                        Cell *second) {
  Vector centre[4], one[4], two[4];
  UNROLL for (int v = 0; v < count; v++)
    centre[v] = load(m + v * LANES), one[v] = load(first + v * LANES), two[v] = load(second + v * LANES);
  for (Index at = 0; at < pixels * step; at += step)
    UNROLL for (int v = 0; v < count; v++) {
      const Vector far = load(x + at + v * LANES) - centre[v], d = dz ? load(dz + at + v * LANES) : far;
      one[v] += d;
      two[v] += d * far;
    }
  UNROLL for (int v = 0; v < count; v++) store(first + v * LANES, one[v]), store(second + v * LANES, two[v]);
}

// The same of so many channels.
INLINE void add_channels(const Cell *x, const Cell *dz, const Cell *m, Index pixels, Index step, Index channels, Cell *first,
                         Cell *second) {
  Index c = 0;
  for (; c + 4 * LANES <= channels; c += 4 * LANES) add_vectors(4, x + c, dz ? dz + c : 0, m + c, pixels, step, first + c, second + c);
  for (; c + LANES <= channels; c += LANES) add_vectors(1, x + c, dz ? dz + c : 0, m + c, pixels, step, first + c, second + c);
  for (Index at = 0; at < pixels * step && c < channels; at += step)
    for (Index k = c; k < channels; k++) {
      const Cell far = x[at + k] - m[k], d = dz ? dz[at + k] : far;
      first[k] += d;
      second[k] += d * far;
    }
}

// The same of so many cells of one channel, in columns.
INLINE void add_plane(const Cell *x, const Cell *dz, Cell m, Index cells, Cell *first, Cell *second) {
  Cell centre[COLUMNS];
  for (int k = 0; k < COLUMNS; k++) centre[k] = m;
  const Index whole = cells / COLUMNS;
  add_channels(x, dz, centre, whole, COLUMNS, COLUMNS, first, second);
  add_channels(x + whole * COLUMNS, dz ? dz + whole * COLUMNS : 0, centre, 1, COLUMNS, cells % COLUMNS, first, second);
}

// Of a piece with channels as neighbours, for each: a rough mean, and the sums of what cells differ from it, and of the
// squares of that.
static void moments_of_channels(const Cell *x, Index pixels, Index channels, double *sums) {
  const Index few = smaller(ROUGH, pixels);
  Cell *centre = scratch(3 * channels * sizeof(Cell)), *first = centre + channels;
  memset(centre, 0, 3 * channels * sizeof(Cell));
  for (Index p = 0; p < few; p++)
    for (Index k = 0; k < channels; k++) centre[k] += x[p * channels + k];
  for (Index k = 0; k < channels; k++) centre[k] /= few;
  add_channels(x, 0, centre, pixels, channels, channels, first, first + channels);
  for (Index k = 0; k < 3 * channels; k++) sums[k] = centre[k];
}

// The same of so many cells of one channel.
static void moments_of_plane(const Cell *x, Index cells, double *sums) {
  const Index few = smaller(ROUGH * COLUMNS, cells);
  Cell centre = 0, first[COLUMNS] = {0}, second[COLUMNS] = {0};
  for (Index n = 0; n < few; n++) centre += x[n];
  centre /= few;
  add_plane(x, 0, centre, cells, first, second);
  sums[0] = centre, sums[1] = 0, sums[2] = 0;
  for (int k = 0; k < COLUMNS; k++) sums[1] += first[k], sums[2] += second[k];
}

static void moments_unit(void *argument, Index unit) {
  const Batch *all = argument;
  const Index first = unit % all->pieces * all->piece, count = smaller(all->piece, all->pixels - first);
  const Cell *x = all->x + (unit / all->pieces * all->pixels + first) * all->channels;
  double *sums = all->sums + unit * 3 * all->channels;
  if (all->neighbours) moments_of_channels(x, count, all->channels, sums);
  else moments_of_plane(x, count, sums);
}

// Of one image: the sums of its pieces become, in the first one's place, each channel's mean and the sum of squares of
// what cells differ from it.
static void whole_unit(void *argument, Index image) {
  const Batch *all = argument;
  const Index channels = all->channels;
  double *sums = all->sums + image * all->pieces * 3 * channels;
  for (Index c = 0; c < channels; c++) {
    double first = sums[channels + c], second = sums[2 * channels + c];
    for (Index n = 1; n < all->pieces; n++) {
      const double *more = sums + n * 3 * channels + c, far = more[0] - sums[c];
      const Index count = smaller(all->piece, all->pixels - n * all->piece);
      first += more[channels] + count * far;
      second += more[2 * channels] + 2 * far * more[channels] + count * far * far;
    }
    sums[c] += first / all->pixels;
    sums[channels + c] = second - first * first / all->pixels;
  }
}

// The mean of so many sets of as many cells, and the sum of squares of what all these cells differ from it, of the means
// of the sets and such sums of each, which lie `step` apart.
static void joined(const double *means, const double *squares, Index step, Index sets, Index cells, double *mean,
                   double *square) {
  double sum = 0, between = 0, inside = 0;
  for (Index n = 0; n < sets; n++) sum += means[n * step] - means[0];
  *mean = means[0] + sum / sets;
  for (Index n = 0; n < sets; n++) {
    const double far = means[n * step] - *mean;
    between += far * far, inside += squares[n * step];
  }
  *square = inside + cells * between;
}

// Mean and variance of each channel over a batch (groups is 0), or of each group of channels of each image. 0 if there
// is no memory for the sums.
EXPORT int NAME(moments)(const Cell *x, Index images, Index pixels, Index channels, Index groups, int neighbours,
                         double *means, double *variances, int threads) {
  Batch all = {.x = x};
  const Index planes = neighbours ? images : images * channels;
  cut(&all, pixels, neighbours ? channels : 1, neighbours);
  const Index row = all.pieces * 3 * all.channels; // an image's sums
  if (!(all.sums = malloc(planes * row * sizeof(double)))) return 0;
  team_run(moments_unit, &all, planes * all.pieces, threads);
  team_run(whole_unit, &all, planes, threads);
  // where a channel's mean lies, from an image to the next and from a channel to the next; the sum of squares is behind
  const Index image = neighbours ? row : row * channels, channel = neighbours ? 1 : row, behind = all.channels;
  if (!groups) {
    for (Index c = 0; c < channels; c++) {
      const double *sums = all.sums + c * channel;
      joined(sums, sums + behind, image, images, pixels, means + c, variances + c);
      variances[c] /= images * pixels;
    }
  }
  for (Index n = 0; n < images * groups; n++) {
    const Index each = channels / groups;
    const double *sums = all.sums + n / groups * image + n % groups * each * channel;
    joined(sums, sums + behind, channel, each, pixels, means + n, variances + n);
    variances[n] /= each * pixels;
  }
  free(all.sums);
  return 1;
}

// y = x a + b with scale and bias: a, b for each channel, of a batch (groups is 0) or of each image, from mean and variance;
// m, the mean rounded, and the inverses 1 / sqrt(variance + epsilon) are kept as well.
EXPORT void NAME(normal)(Index images, Index channels, Index groups, double epsilon, const double *means,
                         const double *variances, const Cell *scale, const Cell *bias, double *inverses, Cell *m, Cell *a,
                         Cell *b) {
  const Index sets = groups ? images : 1, each = groups ? channels / groups : 1;
  for (Index n = 0; n < sets * channels / each; n++) inverses[n] = 1 / sqrt(variances[n] + epsilon);
  for (Index n = 0; n < sets * channels; n++) {
    const double factor = scale[n % channels] * inverses[n / each];
    m[n] = means[n / each];
    a[n] = factor;
    b[n] = bias[n % channels] - means[n / each] * factor;
  }
}

// The sums over a piece, for each channel. dz is computed a tile before it is added up.
static void sums_of_piece(const Batch *all, Index number, Tiles *tiles, Cell *first) {
  const Index image = number / all->pieces, channels = all->channels, from = number % all->pieces * all->piece;
  const Index to = smaller(from + all->piece, all->pixels), size = all->neighbours ? channels : COLUMNS;
  double *sums = all->sums + number * 2 * channels;
  const Cell *m = all->m + (all->neighbours ? all->own * image * channels : image % all->planes);
  Cell *second = first + size;
  memset(first, 0, 2 * size * sizeof(Cell));
  const Index width = all->program ? smaller(TILE, channels) : channels, most = all->program ? larger(1, TILE / channels) : all->piece;
  for (Index p = from, pixels; p < to; p += pixels) {
    pixels = smaller(most, to - p);
    for (Index c = 0, few; c < channels; c += few) {
      few = smaller(width, channels - c);
      const Index at = (image * all->pixels + p) * channels + c;
      if (all->program) NAME(carry)(tiles, at, all->neighbours ? c : image % all->planes, pixels * few);
      if (all->neighbours) add_channels(all->x + at, all->dz + at, m + c, pixels, channels, few, first + c, second + c);
      else add_plane(all->x + at, all->dz + at, *m, pixels, first, second);
    }
  }
  if (all->neighbours) for (Index k = 0; k < 2 * channels; k++) sums[k] = first[k];
  else for (Index k = 0; k < 2 * COLUMNS; k++) sums[k / COLUMNS] = (k % COLUMNS ? sums[k / COLUMNS] : 0) + first[k];
}

// Those of several pieces, so that a program's numbers are laid out for enough cells.
static void sums_unit(void *argument, Index unit) {
  const Batch *all = argument;
  const Index from = unit * all->together, to = smaller(from + all->together, all->planes_of_all * all->pieces);
  Cell *own = scratch(2 * (all->neighbours ? all->channels : COLUMNS) * sizeof(Cell));
  void *arrays[PLACES];
  Tiles tiles;
  for (Index number = from; number < to; number++) {
    const Index image = number / all->pieces;
    if (all->program && (number == from || (all->own && number % all->pieces == 0))) {
      NAME(from_channel)(all->program, all->arrays, all->own && all->neighbours ? image * all->channels : 0, arrays);
      NAME(open_tiles)(&tiles, all->program, arrays, all->neighbours ? all->channels : 0);
    }
    sums_of_piece(all, number, &tiles, own);
  }
}

// The sums over all pieces of an image, or plane, in the place of the first one's.
static void total_unit(void *argument, Index image) {
  const Batch *all = argument;
  const Index row = 2 * all->channels;
  double *sums = all->sums + image * all->pieces * row;
  for (Index piece = 1; piece < all->pieces; piece++)
    for (Index k = 0; k < row; k++) sums[k] += sums[piece * row + k];
}

// The sums of dz and of dz (x - m) over the pixels of each channel of each image. A program, if there is one, writes dz.
// m and the program's arrays of channels have numbers of their own for each image, or not.
EXPORT int NAME(sums)(const Program *program, void *const *arrays, const Cell *x, const Cell *dz, const Cell *m, Index images,
                      Index pixels, Index channels, int neighbours, int own, double *sums, int threads) {
  Batch all = {.program = program, .arrays = arrays, .x = x, .dz = dz, .m = m, .own = own};
  const Index planes = neighbours ? images : images * channels;
  cut(&all, pixels, neighbours ? channels : 1, neighbours);
  all.planes = own ? planes : channels, all.planes_of_all = planes;
  all.together = larger(1, CELLS / (all.piece * all.channels));
  const Index row = 2 * all.channels;
  if (!(all.sums = malloc(planes * all.pieces * row * sizeof(double)))) return 0;
  team_run(sums_unit, &all, (planes * all.pieces + all.together - 1) / all.together, threads);
  if (all.pieces > 1) team_run(total_unit, &all, planes, threads);
  for (Index n = 0; n < planes; n++)
    for (Index k = 0; k < row; k++) {
      const Index image = neighbours ? n : n / channels, channel = neighbours ? k % channels : n % channels;
      sums[(image * channels + channel) * 2 + (neighbours ? k / channels : k)] = all.sums[n * all.pieces * row + k];
    }
  free(all.sums);
  return 1;
}

// dx = u dz + x v + w, dscale and dbias, from the sums of dz and of dz (x - m) over each channel of each image.
EXPORT void NAME(normal_slopes)(Index images, Index pixels, Index channels, Index groups, const double *sums,
                                const double *means, const double *inverses, const Cell *m, const Cell *scale, Cell *u,
                                Cell *v, Cell *w, Cell *dscale, Cell *dbias) {
  const Index sets = groups ? images : 1, each = groups ? channels / groups : 1, inside = groups ? 1 : images;
  for (Index c = 0; c < channels; c++) {
    double of_scale = 0, of_bias = 0;
    for (Index n = 0; n < images; n++) {
      const double *sum = sums + (n * channels + c) * 2;
      const Index set = groups ? n : 0, group = (set * channels + c) / each;
      of_bias += sum[0];
      of_scale += (sum[1] + (m[set * channels + c] - means[group]) * sum[0]) * inverses[group];
    }
    dscale[c] = of_scale, dbias[c] = of_bias;
  }
  for (Index group = 0; group < sets * channels / each; group++) {
    const Index first = group * each, cells = each * pixels * inside; // the first of its channels, among those of all sets
    double plain = 0, product = 0;                                    // the sums of dz scale and of dz scale x_hat
    for (Index k = first; k < first + each; k++)
      for (Index n = 0; n < inside; n++) {
        const double *sum = sums + (n * channels + k) * 2, factor = scale[k % channels];
        plain += factor * sum[0];
        product += factor * (sum[1] + (m[k] - means[group]) * sum[0]) * inverses[group];
      }
    for (Index k = first; k < first + each; k++) {
      const double slope = -product / cells * inverses[group] * inverses[group];
      u[k] = scale[k % channels] * inverses[group];
      v[k] = slope;
      w[k] = -slope * means[group] - plain / cells * inverses[group];
    }
  }
}

// Mean and variance of each channel over a batch of several shares, (shares, 3, channels): of each share the means, the
// variances, and how many cells a channel has.
EXPORT void NAME(whole_moments)(Index shares, Index channels, const double *table, double *means, double *variances) {
  for (Index c = 0; c < channels; c++) {
    double cells = 0, sum = 0, squares = 0;
    for (Index n = 0; n < shares; n++) {
      const double *mean = table + n * 3 * channels + c, count = mean[2 * channels];
      cells += count;
      sum += count * (mean[0] - table[c]);
    }
    means[c] = table[c] + sum / cells;
    for (Index n = 0; n < shares; n++) {
      const double *mean = table + n * 3 * channels + c, far = mean[0] - means[c];
      squares += mean[2 * channels] * (mean[channels] + far * far);
    }
    variances[c] = squares / cells;
  }
}

// v and w of dx = u dz + x v + w over a batch of so many cells a channel, from its sums of dscale and of dbias.
EXPORT void NAME(whole_slopes)(Index channels, double cells, const double *sums, const double *means, const double *inverses,
                               const Cell *u, Cell *v, Cell *w) {
  for (Index c = 0; c < channels; c++) {
    const double factor = -u[c] / cells, slope = sums[c] * factor * inverses[c];
    v[c] = slope;
    w[c] = sums[channels + c] * factor - slope * means[c];
  }
}

// The running statistics after a batch: old + share (new - old) as BatchNorm.moved computes it, cell by cell and rounded
// alike. `steps`, if there are any, are the batches that they have seen, from which the share follows, at least `share`;
// statistics that somebody set by hand have seen `settled`. Variances are multiplied by `unbiased` before.
EXPORT void NAME(moved)(Index channels, double unbiased, double share, double early, double settled, const double *means,
                        const double *variances, const Cell *old_mean, const Cell *old_variance, const Cell *steps,
                        Cell *mean, Cell *variance, Cell *next) {
  Cell of_new = (Cell)share, of_old = (Cell)(1 - share);
  if (steps) {
    Cell seen = *steps;
    int set = 0;
    for (Index c = 0; c < channels && seen == 0; c++) set |= old_mean[c] != 0 || old_variance[c] != 1;
    if (set) seen = (Cell)settled;
    const Cell at_first = (Cell)early / (seen + (Cell)early);
    of_new = at_first > of_new || at_first != at_first ? at_first : of_new;
    of_old = 1 - of_new;
    *next = seen + 1;
  }
  for (Index c = 0; c < channels; c++) {
    const Cell new_mean = (Cell)means[c], new_variance = (Cell)(variances[c] * unbiased);
    mean[c] = of_old * old_mean[c] + of_new * new_mean;
    variance[c] = of_old * old_variance[c] + of_new * new_variance;
  }
}

typedef struct {
  Index images, channels, cells;
  const Cell *x;
  Cell *sums;
} Planes;

static void planes_unit(void *argument, Index channel) {
  const Planes *all = argument;
  double sums[COLUMNS] = {0}, sum = 0;
  for (Index n = 0; n < all->images; n++) {
    const Cell *x = all->x + (n * all->channels + channel) * all->cells;
    Index at = 0;
    for (; at + COLUMNS <= all->cells; at += COLUMNS)
      for (int k = 0; k < COLUMNS; k++) sums[k] += x[at + k];
    for (int k = 0; at < all->cells; at++, k++) sums[k] += x[at];
  }
  for (int k = 0; k < COLUMNS; k++) sum += sums[k];
  all->sums[channel] = (Cell)sum;
}

// The sum of each channel of images in planes.
EXPORT void NAME(add_planes)(Index images, Index channels, Index cells, const Cell *x, Cell *sums, int threads) {
  Planes all = {images, channels, cells, x, sums};
  team_run(planes_unit, &all, channels, threads);
}
