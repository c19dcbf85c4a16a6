// The ways to compute a map, as maps.c asks them: what each source has of each.

#pragma once
#include "map.h"
#include "tiles.h"

// What becomes of the sums, where they have been written: a formula of them. See tiles.h.
typedef struct {
  const Program *program; // null where there is none
  void *const *arrays;
  Index repeated; // which of the arrays is of a single image, whose cells all images have; -1 for none
} Ending;

// Whether an ending is short enough to be made of sums before they are written, and that, for the filters from `first` on.
INLINE int finish_of(const Map *m, const Ending *ending, Index first, Finish *finish) {
  const Program *program = ending->program;
  if (!program || !program->is_short || ending->repeated >= 0) return 0;
  finish->scale = program->scale < 0 ? 0 : (const Cell *)ending->arrays[program->scale] + m->first_filter + first;
  finish->bias = program->bias < 0 ? 0 : (const Cell *)ending->arrays[program->bias] + m->first_filter + first;
  finish->adds = program->beside >= 0, finish->rectified = (int)program->rectified;
  if (finish->adds) finish->beside = (const Cell *)ending->arrays[program->beside] - (const Cell *)ending->arrays[program->result];
  return 1;
}

// Run the ending on what a unit has written: the filters from `first` on of some rows and columns of windows.
void NAME(end)(const Map *m, const Ending *ending, Index row, Index rows, Index left, Index columns, Index first, Index filters);

void NAME(blocks_prepare)(Map *m, int threads);
Index NAME(blocks_packs)(const Map *m);
void NAME(blocks_pack)(const Map *m, Index unit, const Cell *k, Cell *packed);
void NAME(blocks_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending);
void NAME(few_prepare)(Map *m, int threads);
void NAME(few_pack)(const Map *m, const Cell *k, Cell *packed);
void NAME(few_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending);
void NAME(depthwise_prepare)(Map *m, int threads);
void NAME(depthwise_pack)(const Map *m, Index panel, const Cell *k, Cell *packed);
void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y, const Ending *ending);
void NAME(spread_prepare)(Map *m, int threads);
void NAME(spread_pack)(const Map *m, Index row, const Cell *k, Cell *packed);
void NAME(spread_unit)(const Map *m, Index unit, const Cell *dy, const Cell *packed, Cell *dx);

void NAME(blocks_prepare_gradient)(Map *m, Index maps);
void NAME(blocks_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room, Cell *dk, int biased);
Index NAME(blocks_merges)(const Map *m);
void NAME(blocks_merge)(const Map *m, Index unit, const Cell *dy, const char *room, Cell *dk, Cell *db);
void NAME(few_prepare_gradient)(Map *m);
void NAME(few_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room);
void NAME(few_merge)(const Map *m, const char *room, Cell *dk, Cell *db);
void NAME(depthwise_prepare_gradient)(Map *m);
void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room);
void NAME(depthwise_merge)(const Map *m, Index panel, const char *room, Cell *dk, Cell *db);
