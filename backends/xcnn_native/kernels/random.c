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

typedef struct {
  uint32_t key[3], least, half, first;
  Index images, channels, pixels, chunk, chunks;
  uint8_t *kept;
} Mask;

// Of some pixels of an image, or cells of a plane where channels are no neighbours: whether each cell's word is at least
// `least`. The word is that of the cell's number in an array (images, channels, pixels).
static void keep_unit(void *argument, Index unit) {
  const Mask *all = argument;
  const uint32_t key[3] = {all->key[0], all->key[1], all->key[2]}, half = all->half, least = all->least;
  const Index image = unit / all->chunks, first = unit % all->chunks * all->chunk;
  const Index last = smaller(first + all->chunk, all->pixels), channels = all->channels;
  // where channels are neighbours, the next cell is another channel's: all pixels further
  const Index lines = channels > 1 ? last - first : 1, length = channels > 1 ? channels : last - first;
  const uint32_t step = channels > 1 ? (uint32_t)all->pixels : 1;
  for (Index line = 0; line < lines; line++) {
    const uint32_t number = all->first + (uint32_t)(image * channels * all->pixels + first + line);
    uint8_t *restrict kept = all->kept + (image * all->pixels + first + line) * channels;
    for (uint32_t n = 0; n < (uint32_t)length; n++) {
      const uint32_t cell = number + n * step, second = cell >= half ? 0xffffffffu : 0;
      uint32_t x0 = key[0], x1 = cell - (second & half) + key[1];
      BLOCK(13, 15, 26, 6, 1);
      BLOCK(17, 29, 16, 24, 2);
      BLOCK(13, 15, 26, 6, 3);
      BLOCK(17, 29, 16, 24, 4);
      BLOCK(13, 15, 26, 6, 5);
      kept[n] = ((second & x1) | (~second & x0)) >= least;
    }
  }
}

// 1 where a cell's random word is at least `least`, else 0: images of pixels of channels, in that order of memory; channels
// that are no neighbours are images of one channel. They are the cells from the `cell`-th on of a batch of `whole` cells, fewer than
// 2^32.
EXPORT void NAME(keep)(uint32_t key0, uint32_t key1, uint32_t least, Index images, Index channels, Index pixels, Index cell,
                       Index whole, uint8_t *kept, int threads) {
  Mask all = {{key0, key1, key0 ^ key1 ^ 0x1BD11BDAu}, least, (uint32_t)((whole + 1) / 2), (uint32_t)cell};
  all.images = images, all.channels = channels, all.pixels = pixels, all.kept = kept;
  all.chunk = UNIT / channels + 1, all.chunks = (pixels + all.chunk - 1) / all.chunk;
  team_run(keep_unit, &all, images * all.chunks, threads);
}
