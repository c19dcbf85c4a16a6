"""Where the cells of an image lie so that every tap of a kernel is one offset.

A padded image of pitch Q (cells from one row to the next) is a long line: the window at row u, column v begins at cell
u Q + v, and tap (i, j) lies i Q + j further on, whatever the window. So Y, at the same pitch, is a sum of shifted
lines, and the Q - W' cells after each of its rows are of no meaning. With a stride s the image is first parted into its
s x s phases, rows a, a + s, ... and columns b, b + s, ...; each tap then meets one phase, and again one offset.

DY is laid out at the same pitch, zeros in the cells of no meaning. They serve as the padding of the full convolution
that gives DX, on the right of one row and on the left of the next.

Where a row has a whole number of half vectors, a table can list the halves, and the cells of no meaning are left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from xcnn.core.types import Pads, Pair, Shape
from xcnn.core.windows import extent, output_size

SLACK = 16
"""Cells after the last, so that a whole vector can be read or written there."""
LONG, LARGEST = 1200, 2**17
"""Cells that make a line long enough, and of all channels' lines together: smaller images are stacked up to there."""


class Layout(NamedTuple):
    """Sizes in cells. K counts the taps of one filter: channels of a group times kernel cells."""

    channels: int
    height: int
    width: int
    filters: int
    groups: int
    kernel: int
    """Cells of the kernel's window."""
    rows: int
    columns: int
    """Of the output."""
    stride_rows: int
    stride_columns: int
    top: int
    left: int
    """Padding before the image."""
    pitch: int
    line: int
    """Cells of one phase of a channel, of all images that share it."""
    plane: int
    """From one image to the next in a line."""
    stack: int
    """How many images lie one under the other in a line."""
    in_place: bool
    """Whether the image as it lies serves: one phase, no padding, not stacked."""
    phases: Any
    """(phases that taps meet, 2): the first row and column of each."""
    offsets: Any
    """(K,): where a tap finds its cell, from the window's beginning."""
    length: int
    """Cells of one channel of Y at this pitch, up to its last."""
    lead: int
    """DY's zeros before its first cell."""
    gradient_plane: int
    """From one channel of dY to the next."""
    parts: Any
    """(phases of DX that taps meet, 8): first tap, taps, first row of the image and column, rows, columns, first cell
    in part_tables and cells there."""
    part_taps: Any
    """(kernel cells,): the taps, phase by phase."""
    part_offsets: Any
    """For each phase of DX, (filters of a group, its taps): where a filter's tap finds its cell in DY."""
    table: Any
    """(vectors of a stack of Y, 3): where both halves of a vector's windows begin, and where the vector lies in Y."""
    part_tables: Any
    """For each phase of DX the same, in its own place (images, channels, rows, columns)."""


@lru_cache(maxsize=512)
def layout(
    image: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int, lanes: int
) -> Layout:
    """The layout for images (C, H, W) and kernels (O, C / groups, h, w), computed in vectors of so many cells."""
    (channels, height, width), (filters, of_group, h, w) = image, k_shape
    (top, bottom), (left, right) = padding
    (down, across), spans = stride, (extent(h, dilation[0]), extent(w, dilation[1]))
    rows, columns = output_size((height, width), (h, w), stride, padding, dilation)
    padded_rows, padded_columns = height + top + bottom, width + left + right
    phase_rows, phase_columns = -(-padded_rows // down), -(-padded_columns // across)
    pitch, plane_rows = phase_columns, phase_rows
    if stride == (1, 1):  # neighbouring rows, and images, can share their padding
        pitch = max(width + max(left, right), columns + max(spans[1] - 1 - min(left, right), 0))
        plane_rows = max(height + max(top, bottom), rows + max(spans[0] - 1 - min(top, bottom), 0))
    plane = plane_rows * pitch
    stack = max(1, min(LONG // plane, LARGEST // (plane * max(channels, filters))))
    line = (stack - 1) * plane + phase_rows * pitch + max(phase_columns - pitch, 0)

    taps = [(i * dilation[0], j * dilation[1]) for i in range(h) for j in range(w)]
    met = sorted({(i % down, j % across) for i, j in taps})
    in_place = stride == (1, 1) and pitch == width and padding == ((0, 0), (0, 0)) and stack == 1
    offsets = [
        (c * len(met) + met.index((i % down, j % across))) * line + i // down * pitch + j // across
        for c in range(of_group)
        for i, j in taps
    ]

    lead = (spans[0] - 1) // down * pitch + (spans[1] - 1) // across
    gradient_plane = lead + line + SLACK
    length = (rows - 1) * pitch + columns
    table = in_halves(rows, columns, filters, pitch, plane, stack, lanes)
    parts: list[tuple[int, ...]] = []
    part_tables: list[int] = []
    part_taps: list[int] = []
    part_offsets: list[int] = []
    across_met = [0, 1] if across == 2 else sorted({b for _, b in met})  # both phases of a row are woven at once
    for a in sorted({a for a, _ in met}):
        for b in across_met:
            mine = [n for n, (i, j) in enumerate(taps) if i % down == a and j % across == b]
            u, v = -(-max(top - a, 0) // down), -(-max(left - b, 0) // across)
            row, column = u * down + a - top, v * across + b - left
            counts = (max(-(-(height - row) // down), 0), max(-(-(width - column) // across), 0))
            halves = in_halves(*counts, channels, pitch, plane, stack, lanes)
            parts.append((len(part_taps), len(mine), row, column, *counts, len(part_tables), len(halves)))
            part_tables += halves
            part_taps += mine
            part_offsets += [
                o * gradient_plane + lead + (u - taps[n][0] // down) * pitch + v - taps[n][1] // across
                for o in range(filters // groups)
                for n in mine
            ]
    return Layout(
        channels, height, width, filters, groups, h * w, rows, columns, down, across, top, left, pitch, line, plane,
        stack, in_place, np.array(met), np.array(offsets), length, lead, gradient_plane, np.array(parts),
        np.array(part_taps), np.array(part_offsets), np.array(table, dtype=np.int64),
        np.array(part_tables, dtype=np.int64),
    )  # fmt: skip


def in_halves(rows: int, columns: int, maps: int, pitch: int, plane: int, stack: int, lanes: int) -> list[int]:
    """The table of a stack of images (maps, rows, columns), in a line; empty where whole vectors along it do as well.

    That is where the line has no cells of no meaning, or the rows no whole number of half vectors.
    """
    cells, half = rows * columns, lanes // 2
    if (
        cells == 0
        or columns % half
        or cells % lanes
        or (stack - 1) * plane + (rows - 1) * pitch + columns == stack * cells
    ):
        return []
    return [
        place
        for n in range(stack)
        for cell in range(0, cells, lanes)
        for place in (
            *(n * plane + here // columns * pitch + here % columns for here in (cell, cell + half)),
            n * maps * cells + cell,
        )
    ]
