// The ways to compute a map, as maps.c asks them: what each source has of each.

#pragma once
#include "map.h"

void NAME(blocks_prepare)(Map *m, int threads);
void NAME(blocks_pack)(const Map *m, Index panel, const Cell *k, Cell *packed);
void NAME(blocks_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y);
void NAME(few_prepare)(Map *m, int threads);
void NAME(few_pack)(const Map *m, const Cell *k, Cell *packed);
void NAME(few_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y);
void NAME(depthwise_prepare)(Map *m, int threads);
void NAME(depthwise_pack)(const Map *m, Index panel, const Cell *k, Cell *packed);
void NAME(depthwise_unit)(const Map *m, Index unit, const Cell *x, const Cell *packed, Cell *y);
void NAME(spread_prepare)(Map *m, int threads);
void NAME(spread_pack)(const Map *m, Index row, const Cell *k, Cell *packed);
void NAME(spread_unit)(const Map *m, Index unit, const Cell *dy, const Cell *packed, Cell *dx);

void NAME(blocks_prepare_gradient)(Map *m);
void NAME(blocks_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room);
void NAME(blocks_merge)(const Map *m, Index panel, const char *room, Cell *dk, Cell *db);
void NAME(few_prepare_gradient)(Map *m);
void NAME(few_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room);
void NAME(few_merge)(const Map *m, const char *room, Cell *dk, Cell *db);
void NAME(depthwise_prepare_gradient)(Map *m);
void NAME(depthwise_gradient_unit)(const Map *m, Index unit, const Cell *x, const Cell *dy, char *room);
void NAME(depthwise_merge)(const Map *m, Index panel, const char *room, Cell *dk, Cell *db);
