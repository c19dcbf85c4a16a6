// exp, log and others of each lane of a vector, to one or two units in the last place, whatever the number.

#pragma once
#include "vectors.h"
#include <math.h>

enum { FRACTION = WIDE ? 52 : 23, BIAS = WIDE ? 1023 : 127 };
static const Cell LOG2E = 1.4426950408889634074, LOG2_HIGH = WIDE ? 6.93147180369123816490e-01 : 6.9313812256e-01,
                  LOG2_LOW = WIDE ? 1.90821492927058770002e-10 : 9.0580006145e-06; // their sum is log(2)

// c[0] + x (c[1] + x (c[2] + ...)), so many coefficients.
INLINE Vector series(Vector x, const double *c, int count) {
  Vector y = splat(c[count - 1]);
  UNROLL for (int n = count - 2; n >= 0; n--) y = fma_(y, x, splat(c[n]));
  return y;
}

// 2^k for whole k within the exponents of normal numbers.
INLINE Vector power_of_2(Mask k) { return (Vector)((k + BIAS) << FRACTION); }

INLINE Mask whole(Vector a) { return __builtin_convertvector(a, Mask); }

// exp(r) - 1 for r within half of log(2), from above or below: r + r² P(r).
INLINE Vector small_expm1(Vector r) {
  static const double single[] = {0.5, 0.16666576989698775683, 0.041666554617204574203, 0.0083631790527225773704,
                                  0.0013926183587713494542};
  static const double full[] = {0.50000000000000010221,   0.16666666666666667453,   0.041666666666624127873,
                                0.0083333333333300618325, 0.0013888888917213716901, 0.00019841269863053616878,
                                0.000024801521295954375131, 2.7557268459997064772e-6, 2.7620088445409748161e-7,
                                2.5100385495510319078e-8};
  return fma_(WIDE ? series(r, full, 10) : series(r, single, 5), r * r, r);
}

// x = k log(2) + r.
INLINE Vector reduced(Vector x, Vector *k) {
  *k = nearest(x * LOG2E);
  return fma_(*k, splat(-LOG2_LOW), fma_(*k, splat(-LOG2_HIGH), x));
}

// exp(x): 2^k exp(r), by two factors, so that neither overflows before the product does, and subnormals come out.
INLINE Vector exp_(Vector x) {
  const Cell high = WIDE ? 710 : 89, low = WIDE ? -746 : -104;
  Vector k, r = reduced(between(x, low, high), &k);
  const Mask n = whole(k), half = n >> 1;
  return pick(x == x, (small_expm1(r) + 1) * power_of_2(half) * power_of_2(n - half), x);
}

// exp(x) - 1 = 2^k (exp(r) - 1) + 2^k - 1, halved until the last product.
INLINE Vector expm1_(Vector x) {
  const Cell high = WIDE ? 710 : 89, low = WIDE ? -60 : -40;
  Vector k, r = reduced(between(x, low, high), &k), small = small_expm1(r);
  const Vector scale = power_of_2(whole(k) - 1);
  return pick(x == x, pick(k == 0, small, 2 * fma_(scale, small, scale - (Cell)0.5)), x);
}

// log(x) = k log(2) + log(1 + f), 1 + f between sqrt(1/2) and sqrt(2), as FreeBSD's msun computes it:
// with s = f / (2 + f) it is f - (f²/2 - s (f²/2 + R(s²))).
INLINE Vector log_(Vector x) {
  static const double single[] = {0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841};
  static const double full[] = {6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01,
                                2.222219843214978396e-01, 1.818357216161805012e-01, 1.531383769920937332e-01,
                                1.479819860511658591e-01};
  const Cell smallest = WIDE ? 2.2250738585072014e-308 : 1.17549435e-38f, up = WIDE ? 0x1p54 : 0x1p25;
  const Mask root = (Mask)splat(0.70710678118654752440), tiny = x < smallest;
  const Mask bits = (Mask)pick(tiny, x * up, x) - root;
  const Vector f = (Vector)((bits & (((Whole)1 << FRACTION) - 1)) + root) - 1;
  const Vector k = __builtin_convertvector((bits >> FRACTION) - (tiny & (WIDE ? 54 : 25)), Vector);
  const Vector s = f / (f + 2), z = s * s, half = f * f * (Cell)0.5;
  const Vector rest = half + z * (WIDE ? series(z, full, 7) : series(z, single, 4));
  const Vector y = fma_(k, splat(LOG2_HIGH), fma_(s, rest, k * LOG2_LOW) - half + f);
  return pick((x > 0) & (x < (Cell)INFINITY), y, pick(x == 0, splat(-INFINITY), pick(x < 0, splat(NAN), x)));
}

// log(1 + x): u = 1 + x misses some of x, which adds that over u.
INLINE Vector log1p_(Vector x) {
  const Vector u = x + 1, missed = x - (u - 1), y = log_(u) + missed / u;
  return pick((u > 0) & (u < (Cell)INFINITY), pick(x == 0, x, y), log_(u));
}

// tanh(|x|) = -t / (t + 2), t = exp(-2 |x|) - 1, with the sign of x.
INLINE Vector tanh_(Vector x) {
  const Vector t = expm1_(magnitude(x) * -2), y = -t / (t + 2);
  return (Vector)((Mask)magnitude(y) | ((Mask)x ^ (Mask)magnitude(x)));
}

// sin(x), or cos(x): that of r = x - k pi/2, |r| <= pi/4, turned by k. Beyond `FAR`, and without fused products, libm's.
INLINE Vector wave(Vector x, int turned) {
  static const double sines[] = {-1.66666666666666324348e-01, 8.33333333332248946124e-03, -1.98412698298579493134e-04,
                                 2.75573137070700676789e-06, -2.50507602534068634195e-08, 1.58969099521155010221e-10};
  static const double cosines[] = {4.16666666666666019037e-02, -1.38888888888741095749e-03, 2.48015872894767294178e-05,
                                   -2.75573143513906633035e-07, 2.08757232129817482790e-09, -1.13596475577881948265e-11};
  const Cell far = WIDE ? 1e6 : 4e3;
  int by_libm = 1;
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  by_libm = 0;
  for (int n = 0; n < LANES; n++) by_libm |= !(x[n] < far && x[n] > -far);
#endif
  if (by_libm) {
    for (int n = 0; n < LANES; n++) x[n] = WIDE ? (turned ? cos(x[n]) : sin(x[n])) : (turned ? cosf(x[n]) : sinf(x[n]));
    return x;
  }
  const Vector k = nearest(x * (Cell)0.63661977236758134308);
  Vector r = fma_(k, splat(WIDE ? -1.570796326794896557998982 : -1.57079637050628662109375), x);
  r = fma_(k, splat(WIDE ? -6.12323399573676603586882e-17 : 4.371138828673792886547744e-8), r);
  r = fma_(k, splat(WIDE ? 1.497384904859169832943508e-33 : 1.715124510005881872803934e-15), r);
  const Vector z = r * r, sine = fma_(z * r, series(z, sines, WIDE ? 6 : 4), r);
  const Vector cosine = fma_(z * z, series(z, cosines, WIDE ? 6 : 3), 1 - z * (Cell)0.5);
  const Mask n = whole(k) + turned;
  return (Vector)((Mask)pick((n & 1) != 0, cosine, sine) ^ ((n & 2) << (8 * sizeof(Cell) - 2)));
}
INLINE Vector sin_(Vector x) { return wave(x, 0); }
INLINE Vector cos_(Vector x) { return wave(x, 1); }
