// Calls of kernels that were recorded, made again one after another, with other arrays in the place of some.
//
// recording.py notes what a net calls. An argument that is an address within what the net is given, what it gives or its
// memory for what lies between is kept as a distance from where that begins, its base, and told anew for each replay. So is
// a word of a key, which is a base itself.

#include "common.h"

enum { MOST = 14, PLACES = 96 }; // arguments of a kernel at most; arrays of a program, as in tiles.h

// What an argument is: a number, or an address that stays; a double; a table of addresses, `count` arguments from the one
// at `table` on; beyond that the number of a base that `whole` is added to, less FIRST.
enum { PLAIN, DOUBLE, TABLE, FIRST };

typedef struct Argument {
  Index kind, count;
  union {
    Index whole;
    double number;
    const struct Argument *table;
  };
} Argument;

typedef struct {
  Index kernel;
  Argument arguments[MOST];
} Call;

typedef union {
  Index whole;
  double number;
  void *address;
} Value;

typedef const void *In; // descriptions and arrays as the kernels' own files define them
typedef void *Out;

void NAME(pack)(In maps, Index count, In k, Out packed, int threads);
void NAME(correlate)(In maps, Index count, In x, In packed, Out y, In program, In arrays, Index repeated, int threads);
void NAME(kernel_gradient)(In maps, Index count, In x, In dy, Out room, Out dk, Out db, int threads);
void NAME(add_rows)(Index rows, Index cells, In x, Out sums, int threads);
void NAME(add_planes)(Index images, Index channels, Index cells, In x, Out sums, int threads);
void NAME(times_rows)(Index rows, Index columns, Index samples, In k, In x, Out y, int threads);
void NAME(pass)(In program, In arrays, Index planes, Index cells, Index channels, int how, int threads);
int NAME(moments)(In x, Index images, Index pixels, Index channels, Index groups, int neighbours, Out means, Out variances,
                  int threads);
void NAME(normal)(Index images, Index channels, Index groups, double epsilon, In means, In variances, In scale, In bias,
                  Out inverses, Out m, Out a, Out b);
void NAME(moved)(Index channels, double unbiased, double share, double early, double settled, In means, In variances,
                 In old_mean, In old_variance, In steps, Out mean, Out variance, Out next);
int NAME(sums)(In program, In arrays, In x, In dz, In m, Index images, Index pixels, Index channels, int neighbours, int own,
               Out sums, int threads);
void NAME(normal_slopes)(Index images, Index pixels, Index channels, Index groups, In sums, In means, In inverses, In m,
                         In scale, Out u, Out v, Out w, Out dscale, Out dbias);
void NAME(layer_norm)(In x, Index rows, Index cells, double epsilon, In scale, In bias, Out y, Out centres, Out inverses,
                      int threads);
int NAME(layer_norm_back)(In x, In dy, Index rows, Index cells, In scale, In centres, In inverses, Out dx, Out dscale,
                          Out dbias, int threads);
int NAME(max_pool)(In window, In x, Out y, Out which, int threads);
int NAME(max_pool_adjoint)(In window, In dy, Out dx, In which, int threads);
int NAME(sum_pool)(In window, In x, Out y, Out unused, int threads);
int NAME(sum_pool_adjoint)(In window, In dy, Out dx, In unused, int threads);
void NAME(copy)(In axes, In x, Out y, int threads);
void NAME(resample)(In maps, In x, Out y, int threads);
void NAME(masked)(Index cells, double by, In kept, In x, Out y, int threads);
void JOIN(keep, u32, SET)(uint32_t key0, uint32_t key1, uint32_t least, Index images, Index channels, Index pixels, Index cell,
                          Index whole, Out kept, int threads);

static void NAME(keep)(uint32_t key0, uint32_t key1, uint32_t least, Index images, Index channels, Index pixels, Index cell,
                       Index whole, Out kept, int threads) {
  JOIN(keep, u32, SET)(key0, key1, least, images, channels, pixels, cell, whole, kept, threads);
}

#define AT(n) v[n].address
#define WHOLE(n) v[n].whole
#define INT(n) (int)v[n].whole
#define REAL_(n) v[n].number

// The kernels that can be recorded, and how each takes its arguments: those that always succeed, and those that give 0
// where there was no memory.
#define KERNELS(DOES, TRIES) \
  DOES(pack, (AT(0), WHOLE(1), AT(2), AT(3), INT(4))) \
  DOES(correlate, (AT(0), WHOLE(1), AT(2), AT(3), AT(4), AT(5), AT(6), WHOLE(7), INT(8))) \
  DOES(kernel_gradient, (AT(0), WHOLE(1), AT(2), AT(3), AT(4), AT(5), AT(6), INT(7))) \
  DOES(add_rows, (WHOLE(0), WHOLE(1), AT(2), AT(3), INT(4))) \
  DOES(add_planes, (WHOLE(0), WHOLE(1), WHOLE(2), AT(3), AT(4), INT(5))) \
  DOES(times_rows, (WHOLE(0), WHOLE(1), WHOLE(2), AT(3), AT(4), AT(5), INT(6))) \
  DOES(pass, (AT(0), AT(1), WHOLE(2), WHOLE(3), WHOLE(4), INT(5), INT(6))) \
  TRIES(moments, (AT(0), WHOLE(1), WHOLE(2), WHOLE(3), WHOLE(4), INT(5), AT(6), AT(7), INT(8))) \
  DOES(normal, (WHOLE(0), WHOLE(1), WHOLE(2), REAL_(3), AT(4), AT(5), AT(6), AT(7), AT(8), AT(9), AT(10), AT(11))) \
  DOES(moved, (WHOLE(0), REAL_(1), REAL_(2), REAL_(3), REAL_(4), AT(5), AT(6), AT(7), AT(8), AT(9), AT(10), AT(11), AT(12))) \
  TRIES(sums, (AT(0), AT(1), AT(2), AT(3), AT(4), WHOLE(5), WHOLE(6), WHOLE(7), INT(8), INT(9), AT(10), INT(11))) \
  DOES(normal_slopes, (WHOLE(0), WHOLE(1), WHOLE(2), WHOLE(3), AT(4), AT(5), AT(6), AT(7), AT(8), AT(9), AT(10), AT(11), \
                       AT(12), AT(13))) \
  DOES(layer_norm, (AT(0), WHOLE(1), WHOLE(2), REAL_(3), AT(4), AT(5), AT(6), AT(7), AT(8), INT(9))) \
  TRIES(layer_norm_back, (AT(0), AT(1), WHOLE(2), WHOLE(3), AT(4), AT(5), AT(6), AT(7), AT(8), AT(9), INT(10))) \
  TRIES(max_pool, (AT(0), AT(1), AT(2), AT(3), INT(4))) \
  TRIES(max_pool_adjoint, (AT(0), AT(1), AT(2), AT(3), INT(4))) \
  TRIES(sum_pool, (AT(0), AT(1), AT(2), AT(3), INT(4))) \
  TRIES(sum_pool_adjoint, (AT(0), AT(1), AT(2), AT(3), INT(4))) \
  DOES(copy, (AT(0), AT(1), AT(2), INT(3))) \
  DOES(resample, (AT(0), AT(1), AT(2), INT(3))) \
  DOES(masked, (WHOLE(0), REAL_(1), AT(2), AT(3), AT(4), INT(5))) \
  DOES(keep, (WHOLE(0), WHOLE(1), WHOLE(2), WHOLE(3), WHOLE(4), WHOLE(5), WHOLE(6), WHOLE(7), AT(8), INT(9)))

#define NUMBER(name, arguments) RECORDED_##name,
enum { KERNELS(NUMBER, NUMBER) };

// Their names in order, for recording.py.
EXPORT const char *NAME(recordable)(void) {
#define TELL(name, arguments) #name " "
  return KERNELS(TELL, TELL);
}

static Value value(const Argument *a, char *const *bases) {
  switch (a->kind) {
    case DOUBLE: return (Value){.number = a->number};
    case PLAIN: return (Value){.whole = a->whole};
    default: return (Value){.address = bases[a->kind - FIRST] + a->whole};
  }
}

// Make the calls in order; how many were made: less than `count` where one found no memory.
EXPORT Index NAME(replay)(const Call *calls, Index count, char *const *bases) {
  for (const Call *call = calls; call < calls + count; call++) {
    Value v[MOST];
    void *table[PLACES]; // a kernel takes one at most
    for (int n = 0; n < MOST; n++) {
      const Argument *a = call->arguments + n;
      if (a->kind == TABLE) {
        for (Index k = 0; k < a->count; k++) table[k] = value(a->table + k, bases).address;
        v[n] = (Value){.address = table};
      } else {
        v[n] = value(a, bases);
      }
    }
    switch (call->kernel) {
#define DOES(name, arguments) case RECORDED_##name: NAME(name) arguments; break;
#define TRIES(name, arguments) case RECORDED_##name: if (!NAME(name) arguments) return call - calls; break;
      KERNELS(DOES, TRIES)
    }
  }
  return count;
}
