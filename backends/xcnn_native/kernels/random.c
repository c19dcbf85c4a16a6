// Threefry-2x32-20, counter by counter: the bits of xcnn/core/random.py.

#include "common.h"

#define UNIT 16384 // counters at a time

typedef struct {
  uint32_t key[3];
  Index counters;
  int64_t *drawn;
} Draw;

// Four rounds with these rotations, then the key's next words and the number of the block.
#define ROUND(turn) x0 += x1, x1 = (x1 << turn | x1 >> (32 - turn)) ^ x0
#define BLOCK(a, b, c, d, number) \
  ROUND(a), ROUND(b), ROUND(c), ROUND(d), x0 += key[number % 3], x1 += key[(number + 1) % 3] + number

// Both words of one unit's counters, the first ones into the first half of what is drawn.
static void draw_unit(void *argument, Index unit) {
  const Draw *all = argument;
  const uint32_t key[3] = {all->key[0], all->key[1], all->key[2]};
  const Index first = unit * UNIT, count = smaller(UNIT, all->counters - first);
  int64_t *restrict low = all->drawn + first, *restrict high = all->drawn + all->counters + first;
  const uint32_t top = (uint32_t)((uint64_t)first >> 32), bottom = (uint32_t)first; // a unit is within one of `top`
  for (uint32_t n = 0; n < (uint32_t)count; n++) {
    uint32_t x0 = top + key[0], x1 = bottom + n + key[1];
    BLOCK(13, 15, 26, 6, 1);
    BLOCK(17, 29, 16, 24, 2);
    BLOCK(13, 15, 26, 6, 3);
    BLOCK(17, 29, 16, 24, 4);
    BLOCK(13, 15, 26, 6, 5);
    low[n] = x0;
    high[n] = x1;
  }
}

// Encrypt counters 0 to `counters` - 1: first words to `drawn`, second ones behind them.
EXPORT void NAME(random_bits)(uint32_t key0, uint32_t key1, Index counters, int64_t *drawn, int threads) {
  Draw all = {{key0, key1, key0 ^ key1 ^ 0x1BD11BDAu}, counters, drawn};
  team_run(draw_unit, &all, (counters + UNIT - 1) / UNIT, threads);
}
