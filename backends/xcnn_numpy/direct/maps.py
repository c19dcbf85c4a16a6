"""The three maps for a range of images, compiled: lay out, multiply in registers, gather."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xcnn_numpy.direct.blocks import (
    DOT_COLUMNS,
    DOT_ROWS,
    LONGEST,
    MOST_IN_HALVES,
    MULTIPLY_ROWS,
    MULTIPLY_VECTORS,
    REGISTERS,
    SUMS,
    TERMS,
    compiled,
    dot,
    inlined,
    lanes,
    multiply,
    multiply_halves,
)
from xcnn_numpy.direct.layout import SLACK
from xcnn_numpy.direct.lines import add, gather, pool, prefetch, scatter, shift, slope, total, unpool, weave
from xcnn_numpy.direct.thread_pool import Shared


@compiled
def block_rows(rows: int) -> int:
    """Rows of a block: as many as go, in blocks as equal as can be."""
    blocks = max(-(-rows // MULTIPLY_ROWS), 1)
    return max(-(-rows // blocks), 1)


@compiled
def product(
    y: Any, y_at: int, y_pitch: int, rows: int, w: Any, w_at: int, w_step: int, x: Any, x_at: int, offsets: Any,
    o_at: int, count: int, length: int, adds: bool,
) -> None:  # fmt: skip
    """y[r, p] = sum over k of w[k, r] x[offsets[k] + p] for all rows and p < length, or with `adds` more by that.

    W's rows lie side by side, w_step cells from one k to the next; with a w_step of zero in blocks of rows, as `pack`
    makes them. A last block that would reach beyond the length begins earlier instead, so that adding takes a length
    of whole vectors. Only where the length is below one vector a whole one is read and written all the same.
    """
    most, n = block_rows(rows), lanes(y)
    widest = min(MULTIPLY_VECTORS, REGISTERS // most)
    p = 0
    while p < length:
        vectors = min(widest, -(-(length - p) // n))
        if vectors * n > length:
            vectors = max(1, length // n)
        at = min(p, max(0, length - vectors * n))
        for r in range(0, rows, most):
            few = min(most, rows - r)
            block, step = (w_at + r, w_step) if w_step else (w_at + r * count, few)
            out, done = y_at + r * y_pitch + at, 0
            if not adds:
                done = min(TERMS, count)
                multiply(few, vectors, y, out, y_pitch, w, block, step, x, x_at + at, offsets, o_at, done, False)
            for k in range(done, count, TERMS):
                some = min(TERMS, count - k)
                multiply(
                    few,
                    vectors,
                    y,
                    out,
                    y_pitch,
                    w,
                    block + k * step,
                    step,
                    x,
                    x_at + at,
                    offsets,
                    o_at + k,
                    some,
                    True,
                )
        p = at + vectors * n


@compiled
def product_by_table(
    y: Any, y_at: int, y_pitch: int, rows: int, w: Any, w_at: int, x: Any, x_at: int, offsets: Any, o_at: int,
    count: int, table: Any, t_at: int, vectors: int,
) -> None:  # fmt: skip
    """As `product`, on so many vectors of a table from its cell t_at on; W lies as `pack` makes it."""
    most = block_rows(rows)
    blocks = -(-vectors // min(MOST_IN_HALVES, REGISTERS // most))
    p = 0
    for block in range(blocks):
        some = (vectors - p) // (blocks - block)
        for r in range(0, rows, most):
            few = min(most, rows - r)
            out, block, line = y_at + r * y_pitch, w_at + r * count, t_at + 3 * p
            done = min(TERMS, count)
            multiply_halves(few, some, y, out, y_pitch, w, block, x, x_at, offsets, o_at, done, table, line, False)
            for k in range(done, count, TERMS):
                rest = min(TERMS, count - k)
                multiply_halves(
                    few, some, y, out, y_pitch, w, block + k * few, x, x_at, offsets, o_at + k, rest, table, line, True
                )
        p += some


class Ending(NamedTuple):
    """What follows a correlation in the same pass."""

    bias: int
    """0 none, 1 one number for each filter, 2 one for each output element."""
    activation: int
    """One of lines.NONE, RELU, SIGMOID."""
    pool: bool
    """Max-pooling by windows of 2 x 2; only after relu."""


@compiled
def stacked(images: int, most: int) -> int:
    """How many images to lay out one under the other: at most so many, in stacks as equal as can be."""
    stacks = max(-(-images // most), 1)
    return max(-(-images // stacks), 1)


@compiled
def lay_out(x: Any, first: int, last: int, group: int, line: Any, layout: Any) -> None:
    """A group's channels of some images into their phases, one image under the other.

    The padding in `line` is zero already.
    """
    down, across, width, pitch = layout.stride_rows, layout.stride_columns, layout.width, layout.pitch
    channels = layout.channels // layout.groups
    for c in range(channels):
        for f in range(len(layout.phases)):
            a, b = layout.phases[f, 0], layout.phases[f, 1]
            u, v = max(-((a - layout.top) // down), 0), max(-((b - layout.left) // across), 0)
            row, column = u * down + a - layout.top, v * across + b - layout.left
            for n in range(first, last):
                source = ((n * layout.channels + group * channels + c) * layout.height + row) * width + column
                target = (c * len(layout.phases) + f) * layout.line + (n - first) * layout.plane + u * pitch + v
                rows, columns = -(-(layout.height - row) // down), -(-(width - column) // across)
                gather(line, target, pitch, x, source, width * down, across, rows, columns)


@compiled
def end(sums: Any, bias: Any, y: Any, which: Any, layout: Any, ending: Any, first: int, last: int) -> None:
    """Y of some images from their sums: bias, activation and pooling in one pass."""
    rows, columns, pitch, activation = layout.rows, layout.columns, layout.pitch, ending.activation
    line, plane = layout.line + SLACK, layout.plane
    if layout.table.size:
        line, plane, pitch = rows * columns, layout.filters * rows * columns, columns
    for o in range(layout.filters):
        shared = bias[o] if ending.bias == 1 else sums.dtype.type(0)
        for n in range(first, last):
            source = o * line + (n - first) * plane
            image = n * layout.filters + o
            if ending.pool:
                high, wide = rows // 2, columns // 2
                pool(y, which, image * high * wide, sums, source, pitch, shared, high, wide)
            elif ending.bias == 2:
                target, own = image * rows * columns, o * rows * columns
                add(y, target, columns, sums, source, pitch, bias, own, columns, activation, rows, columns)
            else:
                shift(y, image * rows * columns, columns, sums, source, pitch, shared, activation, rows, columns)


@compiled
def spread(dy: Any, y: Any, which: Any, line: Any, layout: Any, ending: Any, first: int, last: int) -> None:
    """The gradient at the sums of some images, one under the other; the cells between are zero already."""
    rows, columns, pitch = layout.rows, layout.columns, layout.pitch
    for o in range(layout.filters):
        for n in range(first, last):
            target = o * layout.gradient_plane + layout.lead + (n - first) * layout.plane
            image = n * layout.filters + o
            if ending.pool:
                high, wide = rows // 2, columns // 2
                unpool(line, target, pitch, dy, which, image * high * wide, high, wide)
            else:
                at = image * rows * columns
                slope(line, target, pitch, dy, at, columns, y, at, columns, ending.activation, rows, columns)


@compiled
def bias_gradient(line: Any, db: Any, layout: Any, ending: Any, images: int) -> None:
    """Add the gradient at the sums of some images to that of the bias."""
    rows, columns, pitch = layout.rows, layout.columns, layout.pitch
    for o in range(layout.filters):
        start = o * layout.gradient_plane + layout.lead
        if ending.bias == 1:
            db[o] += total(line, start, 0, 1, (images - 1) * layout.plane + layout.length)
            continue
        for n in range(images):
            at = o * rows * columns
            add(db, at, columns, db, at, columns, line, start + n * layout.plane, pitch, 0, rows, columns)


@compiled
def pack(k: Any, layout: Any) -> Any:
    """The kernels (O, K) as `product` reads them: blocks of filters, in each (K, filters)."""
    panels = np.empty(k.size, k.dtype)
    rows = layout.filters // layout.groups
    taps = k.size // layout.filters
    most = block_rows(rows)
    for first in range(0, layout.filters, rows):
        for r in range(0, rows, most):
            few = np.uintp(min(most, rows - r))
            source = target = np.uintp((first + r) * taps)
            for t in range(np.uintp(taps)):
                for q in range(few):
                    panels[target] = k[source + q * np.uintp(taps) + t]
                    target += np.uintp(1)
    return panels


@compiled
def pack_adjoint(k: Any, layout: Any) -> Any:
    """The kernels as DX reads them: for each phase, blocks of channels, in each (filters, its taps, channels)."""
    panels = np.empty(k.size, k.dtype)
    rows, filters, cells = layout.channels // layout.groups, layout.filters // layout.groups, layout.kernel
    most = block_rows(rows)
    target = np.uintp(0)
    for part in range(len(layout.parts)):
        first, taps = layout.parts[part, 0], layout.parts[part, 1]
        for g in range(layout.groups):
            for r in range(0, rows, most):
                few = np.uintp(min(most, rows - r))
                for o in range(filters):
                    start = np.uintp(((g * filters + o) * rows + r) * cells)
                    for t in range(taps):
                        source = start + np.uintp(layout.part_taps[first + t])
                        for q in range(few):
                            panels[target] = k[source + q * np.uintp(cells)]
                            target += np.uintp(1)
    return panels


@Shared
def forward(
    x: Any, panels: Any, bias: Any, y: Any, which: Any, layout: Any, ending: Any, part: int, first: int, last: int
) -> None:
    """Y of images first to last - 1, a stack at a time, and where pooled windows had their largest cell.

    All arrays are flat.
    """
    groups, rows, stack = layout.groups, layout.filters // layout.groups, stacked(last - first, layout.stack)
    image, taps = layout.channels * layout.height * layout.width, len(layout.offsets)
    phases = layout.channels // groups * len(layout.phases) * layout.line
    cells, by_table = layout.rows * layout.columns, layout.table.size > 0
    alone = by_table or (stack == 1 and layout.length == cells and cells >= lanes(y))
    plain = alone and ending.bias == 0 and ending.activation == 0
    packed = not layout.in_place or layout.length < lanes(y)
    line = np.zeros(phases + SLACK if packed else 0, x.dtype)
    pitch = cells if plain or by_table else layout.line + SLACK
    sums = y if plain else np.empty(layout.filters * pitch * (stack if by_table else 1), x.dtype)
    for n in range(first, last, stack):
        images = min(stack, last - n)
        length = (images - 1) * layout.plane + layout.length
        if n + stack < last:
            prefetch(x, (n + stack) * image, min(stack, last - n - stack) * image)
        for g in range(groups):
            if packed:
                lay_out(x, n, n + images, g, line, layout)
            seen, at = (line, 0) if packed else (x, n * image + g * phases)
            out = (n * cells * layout.filters if plain else 0) + g * rows * pitch
            if by_table:
                product_by_table(
                    sums, out, pitch, rows, panels, g * rows * taps, seen, at, layout.offsets, 0, taps,
                    layout.table, 0, images * cells // lanes(y),
                )  # fmt: skip
            else:
                product(
                    sums, out, pitch, rows, panels, g * rows * taps, 0, seen, at, layout.offsets, 0, taps,
                    length, False,
                )  # fmt: skip
        if not plain:
            end(sums, bias, y, which, layout, ending, n, n + images)


@Shared
def backward(
    x: Any, dy: Any, y: Any, which: Any, panels: Any, dx: Any, dks: Any, dbs: Any, layout: Any, ending: Any,
    images: int, by_rows: bool, part: int, first: int, last: int,
) -> None:  # fmt: skip
    """DK and dB of images first to last - 1, a row of doubles for each part, and dX, unless empty.

    Other arrays are flat. `by_rows` says how dK is summed: see `kernel_adjoint`.
    """
    wants_dx, wants_dk = dx.size > 0, dks.size > 0
    image, stack = layout.channels * layout.height * layout.width, stacked(last - first, layout.stack)
    into = dy.size // max(images, 1)
    dks[part] = 0
    dbs[part] = 0
    dk, db = np.zeros(dks.shape[1], dy.dtype), np.zeros(dbs.shape[1], dy.dtype)
    packed = wants_dk and not layout.in_place
    phases = layout.channels // layout.groups * len(layout.phases) * layout.line
    line = np.zeros(phases + SLACK if packed else 0, dy.dtype)
    gradient = np.zeros(layout.filters * layout.gradient_plane + SLACK, dy.dtype)
    sums = np.empty(layout.stride_columns * layout.channels * (layout.line + SLACK) if wants_dx else 0, dy.dtype)
    for n in range(first, last, stack):
        few = min(stack, last - n)
        spread(dy, y, which, gradient, layout, ending, n, n + few)
        if n + stack < last:
            later = min(stack, last - n - stack)
            prefetch(dy, (n + stack) * into, later * into)
            if wants_dk:
                prefetch(x, (n + stack) * image, later * image)
        due = n + few == last or (n - first) // stack % SUMS == SUMS - 1
        if ending.bias:
            bias_gradient(gradient, db, layout, ending, few)
            if due:
                pour(db, dbs, part)
        if wants_dk:
            for g in range(layout.groups):
                if packed:
                    lay_out(x, n, n + few, g, line, layout)
                seen, at = (line, 0) if packed else (x, n * image + g * phases)
                kernel_adjoint(seen, at, gradient, dk, dks, part, g, layout, few, by_rows)
            if due:
                pour(dk, dks, part)
        if wants_dx:
            input_adjoint(gradient, panels, dx, sums, layout, n, few)


@inlined
def kernel_adjoint(
    x: Any, x_at: int, gradient: Any, dk: Any, dks: Any, part: int, group: int, layout: Any, images: int,
    by_rows: bool,
) -> None:  # fmt: skip
    """Add the part of a group of some laid out images to dK, LONGEST cells of a line at a time.

    What SUMS pieces give is added to that part's row of `dks`.

    X's cells between two windows' rows meet zeros: one that is not finite makes NaN also of taps that it never meets,
    unless dK is summed row by row.
    """
    taps, filters = len(layout.offsets), layout.filters // layout.groups
    length = (images - 1) * layout.plane + layout.length
    pieces = images * layout.rows if by_rows else -(-length // LONGEST)
    for piece in range(pieces):
        if by_rows:
            at, cells = piece // layout.rows * layout.plane + piece % layout.rows * layout.pitch, layout.columns
        else:
            at, cells = piece * LONGEST, min(LONGEST, length - piece * LONGEST)
        dots(
            filters, taps, True, dk, group * filters * taps, taps, gradient,
            group * filters * layout.gradient_plane + layout.lead + at, layout.gradient_plane, x, x_at + at,
            layout.offsets, 0, cells,
        )  # fmt: skip
        if piece % SUMS == SUMS - 1 or piece == pieces - 1 > 0:
            pour(dk, dks, part)


@compiled
def dots(
    rows: int, columns: int, rows_first: bool, s: Any, s_at: int, s_pitch: int, y: Any, y_at: int, y_pitch: int, x: Any,
    x_at: int, offsets: Any, o_at: int, length: int,
) -> None:  # fmt: skip
    """s[r, k] += sum over p < length of y[r, p] x[offsets[k] + p] for all rows and columns.

    Blocks of rows are gone through first, with all columns each, or else blocks of columns.
    """
    r = k = 0
    while r < rows and k < columns:
        dot(
            min(DOT_ROWS, rows - r), min(DOT_COLUMNS, columns - k), s, s_at + r * s_pitch + k, s_pitch, y,
            y_at + r * y_pitch, y_pitch, x, x_at, offsets, o_at + k, length,
        )  # fmt: skip
        if rows_first:
            k += DOT_COLUMNS
            if k >= columns:
                r, k = r + DOT_ROWS, 0
        else:
            r += DOT_ROWS
            if r >= rows:
                r, k = 0, k + DOT_COLUMNS


@inlined
def pour(sums: Any, totals: Any, part: int) -> None:
    """Add sums to a row of totals, and begin new ones."""
    for n in range(sums.size):
        totals[part, n] += sums[n]
        sums[n] = 0


@compiled
def whole(dks: Any, dbs: Any, parts: int, dk: Any, db: Any) -> bool:
    """DK and dB = the sum of so many rows of each, in their order, so that a number of threads gives one result.

    Returns whether all of dK is finite.
    """
    finite = True
    for sums, out in ((dks, dk), (dbs, db)):
        for n in range(out.size):
            total = sums[0, n]
            for part in range(1, parts):
                total += sums[part, n]
            out[n] = total
    for n in range(dk.size):
        finite &= dk[n] - dk[n] == 0
    return finite


@compiled
def input_adjoint(gradient: Any, panels: Any, dx: Any, sums: Any, layout: Any, first: int, images: int) -> None:
    """DX of some images from their laid out dY, one phase after another."""
    rows, filters = layout.channels // layout.groups, layout.filters // layout.groups
    down, across, width = layout.stride_rows, layout.stride_columns, layout.width
    weights = offsets = 0
    weaves = across == 2 and width % 2 == 0  # both phases of a row at once
    for part in range(len(layout.parts)):
        taps, row, column, high, wide, table, by_table = layout.parts[part, 1:]
        span = (high - 1) * layout.pitch + wide
        count = filters * taps
        alone = layout.stack == 1 and layout.pitch == width and span >= lanes(dx)
        plain = down * across == 1 and (by_table or alone)
        pitch = high * wide if by_table or plain else layout.line + SLACK
        base = column * layout.channels * (layout.line + SLACK) if weaves else 0
        if high > 0 and wide > 0:
            for g in range(layout.groups):
                out = (first * layout.channels * high * wide if plain else base) + g * rows * pitch
                start, panel = g * filters * layout.gradient_plane, weights + g * rows * count
                if by_table:
                    product_by_table(
                        dx if plain else sums, out, pitch, rows, panels, panel, gradient, start, layout.part_offsets,
                        offsets, count, layout.part_tables, table, images * high * wide // lanes(dx),
                    )  # fmt: skip
                else:
                    product(
                        dx if plain else sums, out, pitch, rows, panels, panel, 0, gradient, start,
                        layout.part_offsets, offsets, count, (images - 1) * layout.plane + span, False,
                    )  # fmt: skip
        weights += layout.channels * count
        offsets += count
        if plain or (weaves and part % 2 == 0):
            continue
        for c in range(layout.channels):
            for n in range(images):
                target = (((first + n) * layout.channels + c) * layout.height + row) * width
                source = c * pitch + n * (layout.channels * pitch if by_table else layout.plane)
                source_pitch = wide if by_table else layout.pitch
                if weaves:
                    odd = source + layout.channels * (layout.line + SLACK)
                    weave(dx, target, width * down, sums, source, odd, source_pitch, high, wide)
                else:
                    scatter(dx, target + column, width * down, sums, source, source_pitch, across, high, wide)
