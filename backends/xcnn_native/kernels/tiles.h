// Formulas cell by cell: programs of vector operations on tiles, short lines of cells that stay in the first cache.
//
// trace.py makes a program of what an activation's own `f` does with symbols. Any kernel may run one on the rows that
// it has just written, as their ending:
//
//   Tiles tiles;                                            // on the stack of a unit of work
//   NAME(open_tiles)(&tiles, program, arrays, channels);    // once in a unit
//   for (each row) NAME(carry)(&tiles, first, channel, length);
//
// `arrays` holds where each array that the program names begins, or as of which the kernel numbers its cells. All but
// those of channels have their cells in the same order, so that a tile is `length` cells from cell `first` on in all.
// `channels` says how channels lie: where they are neighbours, of how many there are, and `channel` is the tile's
// first; 0 where a tile is of one channel alone, which is `channel`; it does not matter where the program has none.

#pragma once
#include "vectors.h"

enum {
  TILE = 4096 / sizeof(Cell), // cells at most, and channels whose numbers are repeated side by side
  LINES = 16,   // lines, and arrays of channels, at most
  PLACES = 96,  // places at most
};

// What a place of a program is: a line for what is computed in between; a number; an array with a cell for each
// channel; an array that is read; one that is written, and may be read after that.
enum { LINE, CONSTANT, CHANNEL, STREAM, RESULT };

typedef struct {
  int32_t operation, to, a, b, c; // the numbers of places; operands that an operation does not have are `to`
} Step;

typedef struct {
  int32_t kind, array, line, unused; // which of the arrays; which of the lines, for LINE and for CHANNEL
  double value;                      // of a CONSTANT
} Place;

typedef struct {
  Index steps, places;
  const Step *step;
  const Place *place;
  Index is_short, scale, bias, beside, result, rectified; // whether it is relu(scale z + bias + r); which arrays, or -1
} Program;

typedef struct {
  const Program *program;
  void *const *arrays;
  Index channels;
  Cell *at[PLACES];                 // where a place's cells of the tile begin
  int32_t fixed[PLACES];            // whether all its lanes are one number
  Cell vectors[PLACES][LANES];      // of such numbers; of the cells at a tile's end that are no whole vector
  Cell lines[LINES][TILE + LANES];
  Cell repeated[LINES][2 * TILE + LANES];  // the numbers of channels, as often as they go into two tiles
} Tiles;

// How channels lie in planes of cells: each plane is of the next channel; they are neighbours within each plane; they are,
// and each plane has numbers of its own for each of them.
enum { PLANES, NEIGHBOURS, OWN_NEIGHBOURS };

// The program's arrays, those of channels as of a later channel.
void NAME(from_channel)(const Program *program, void *const *arrays, Index channel, void **shifted);

// Lay out a program's numbers.
void NAME(open_tiles)(Tiles *tiles, const Program *program, void *const *arrays, Index channels);

// Run the program on a tile of at most TILE cells. With more than TILE channels it must not go beyond the last one.
void NAME(carry)(Tiles *tiles, Index first, Index channel, Index length);
