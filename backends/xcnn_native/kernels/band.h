// A band: the rows of X that some rows of windows see, laid out in cache with zeros around and a pixel's channels side
// by side, so that a tap lies equally far from every window's beginning.

#pragma once
#include "map.h"

// Some rows of windows, counted over all images, and some columns of them.
typedef struct {
  Index first, last, left, right;
  Index rows, columns; // how many
  Index width, pitch;  // pixels, cells of a laid row
  Index down, deep;    // laid rows from a window to the next below, from a tap to the next below
  Index most;          // laid rows at most
} Band;

// The band of some rows and columns of windows, a pixel's cells being `pixel` of a laid row. Where windows share few rows,
// because of strides or gaps, each tap has rows of its own.
INLINE Band band_between(const Map *m, Index first, Index last, Index left, Index right, Index pixel) {
  Band b = {.first = first, .last = last, .left = left, .right = right};
  b.rows = b.last - b.first, b.columns = b.right - b.left;
  b.width = (b.columns - 1) * m->across + span(m->kernel_columns, m->column_gap), b.pitch = b.width * pixel;
  const Index high = smaller(b.rows, m->out_rows), images = 2 + (b.rows - 1) / m->out_rows;
  const Index reach = span(m->kernel_rows, m->row_gap);
  b.down = m->down, b.deep = m->row_gap;
  b.most = b.rows * smaller(m->down, reach) + images * reach;
  if (m->kernel_rows * high < (high - 1) * m->down + reach) {
    b.down = 1, b.deep = high;
    b.most = images * m->kernel_rows * high;
  }
  return b;
}

// The band of a unit of a map.
INLINE Band band_of(const Map *m, Index band, Index segment) {
  const Index first = band * m->band, left = segment * m->segment;
  return band_between(m, first, smaller(m->images * m->out_rows, first + m->band), left,
                      smaller(m->out_columns, left + m->segment), m->channels);
}

// Pixels of so few planes, side by side; written so that a compiler makes vectors of it.
INLINE void interleave(const int channels, Cell *restrict to, const Cell *restrict cells, Index apart, Index pixels) {
  for (Index q = 0; q < pixels; q++)
    UNROLL for (int c = 0; c < channels; c++) to[q * channels + c] = cells[c * apart + q];
}

// One row of a band: `width` pixels from column `from` of the image on, zeros outside. `row` is the image's row from its
// first channel on, null for one outside; `channels` of them are laid out, and `pitch` cells belong to a pixel.
INLINE void lay_row(const Map *m, Cell *to, Index pitch, Index channels, const Cell *row, Index from, Index width) {
  const Index before = row ? within(-from, 0, width) : width, after = row ? within(m->columns - from, before, width) : width;
  clear(to, before * pitch);
  clear(to + after * pitch, (width - after) * pitch);
  if (before == after) return;
  const Cell *cells = row + (from + before) * m->x_column;
  const Index pixels = after - before, column = m->x_column, apart = m->x_channel;
  to += before * pitch;
  if (apart == 1 && column == channels && pitch == channels) {
    copy(to, cells, pixels * channels);
  } else if (apart == 1 && channels >= LANES) {
    const Index rest = channels % LANES;
    for (Index q = 0; q < pixels; q++, to += pitch, cells += column) {
      for (Index c = 0; c + LANES <= channels; c += LANES) *(Vector *)(to + c) = *(const Vector *)(cells + c);
      if (rest) *(Vector *)(to + channels - LANES) = *(const Vector *)(cells + channels - LANES);
    }
  } else if (column == 1 && pitch == channels && channels <= 4) {
    if (channels == 2) interleave(2, to, cells, apart, pixels);
    if (channels == 3) interleave(3, to, cells, apart, pixels);
    if (channels == 4) interleave(4, to, cells, apart, pixels);
  } else if (column == 1) {
    for (Index c = 0; c < channels; c++)
      for (Index q = 0; q < pixels; q++) to[q * pitch + c] = cells[c * apart + q];
  } else {
    for (Index q = 0; q < pixels; q++)
      for (Index c = 0; c < channels; c++) to[q * pitch + c] = cells[c * apart + q * column];
  }
}

// What lays out one row: of which part of the channels, where to, the image's row, from which column on, and how many.
typedef void LayRow(const Map *m, Index part, Cell *to, const Cell *row, Index from, Index width);

// Lay a band out, row by row. at[r] is where the window of the r-th row's first column begins.
INLINE void lay_rows(const Map *m, const Band *b, const Cell *x, Cell *to, const Cell **at, LayRow *lay, Index part) {
  const Index reach = span(m->kernel_rows, m->row_gap), from = b->left * m->across - m->left;
  const int shared = b->down == m->down && b->deep == m->row_gap;
  for (Index r = b->first; r < b->last;) {
    const Index image = r / m->out_rows, low = r % m->out_rows, high = smaller(m->out_rows, low + b->last - r);
    const Cell *here = x + m->x_at + image * m->x_image;
    for (Index p = low; p < high; p++) {
      at[r - b->first + p - low] = to + (p - low) * b->down * b->pitch;
      for (Index a = shared && p > low ? larger(reach - m->down, 0) : 0; a < (shared ? reach : m->kernel_rows); a++) {
        const Index row = p * m->down + (shared ? a : a * m->row_gap) - m->top;
        Cell *laid = to + ((p - low) * b->down + (shared ? a : a * b->deep)) * b->pitch;
        lay(m, part, laid, row >= 0 && row < m->rows ? here + row * m->x_row : 0, from, b->width);
      }
    }
    to += (shared ? (high - low - 1) * m->down + reach : m->kernel_rows * b->deep) * b->pitch;
    r += high - low;
  }
}

INLINE void lay_pixels(const Map *m, Index part, Cell *to, const Cell *row, Index from, Index width) {
  lay_row(m, to, m->channels, m->channels, row, from, width);
}

// The same of all channels, a pixel's side by side.
INLINE void lay_band(const Map *m, const Band *b, const Cell *x, Cell *to, const Cell **at) {
  lay_rows(m, b, x, to, at, lay_pixels, 0);
}

// Whether windows are single pixels whose channels lie side by side, and nothing is laid out.
INLINE int in_place(const Map *m) {
  return taps(m) == 1 && m->top == 0 && m->left == 0 && m->x_channel == 1 && (m->out_rows - 1) * m->down < m->rows &&
         (m->out_columns - 1) * m->across < m->columns;
}
