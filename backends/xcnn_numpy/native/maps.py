"""Tables of maps for the compiled library: shapes, strides and what to do with them, built once for each.

A map is one correlation, as kernels/map.h says: that of a group of channels; or, of the gradient of the input of a
strided correlation, that of a phase, the cells s t + r of dX for one r, which meet every s-th tap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cached_property, lru_cache
from itertools import product
from math import gcd, prod
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
from xcnn_host.buffers import empty, is_sealed
from xcnn_native.library import KINDS, Held, address, library
from xcnn_native.recording import constant

from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import output_size, within
from xcnn.layers.layer import Run

FIELDS = (
    "kind",
    *("images", "channels", "rows", "columns", "filters", "out_rows", "out_columns", "kernel_rows", "kernel_columns"),
    *("down", "across", "top", "left", "row_gap", "column_gap"),
    *("x_at", "x_image", "x_channel", "x_row", "x_column"),
    *("k_at", "k_filter", "k_channel", "k_row", "k_column"),
    *("y_at", "y_image", "y_channel", "y_row", "y_column"),
    *("group", "k_group", "first_filter"),
    *("units", "band", "segment", "shares", "packed_at", "packed", "slots", "room_at", "loose", "turned", "parted"),
)
BLOCKS, FEW, DEPTHWISE, SPREAD = range(4)
"""Kinds of maps, as there."""
MOST_FEW, MOST_OF_HALF = 6, 8
"""Filters at most whose lanes are pixels; and where vectors have sixteen cells, of which so few fill a half at most."""
PIXELS, COLUMNS = 32, 16
"""Pixels of an image at least that are lanes; and those of a row, where more than MOST_FEW filters meet them."""
BESIDE, BESIDE_LAST = 24, 15
"""Cells of a kernel side by side that are worth being the lanes of its gradient: where filters are planes of dY, and
where they are its last axis."""
LAST = 8
"""Channels from which on they lie side by side in the results, unless they are made as planes."""
LONGEST = 2**14
"""Taps of a depthwise kernel at most: so many products are added as cells."""
SUMS = 128
"""Sums at most that the gradient of few channels adds up for a cell."""
TERMS = 512
"""Products of a chain of additions at most, as there."""
ADDING = 12
"""To add a vector to cells in memory takes about as long as so many products."""
LEAST = 300_000
"""Multiplications for which a second thread is worth waking: to fetch what another core wrote takes microseconds."""
APART = 3
"""A multiplication of a depthwise map takes as long as so many of another."""


class Map(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ssize_t) for name in FIELDS]


class Way:
    """How images meet kernels: what the tables of the three maps have in common.

    Parameters
    ----------
    x_shape, k_shape
        (N, C, H, W) and (O, C / groups, h, w)
    """

    def __init__(
        self, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> None:
        self.x_shape, self.k_shape, self.groups = x_shape, k_shape, groups
        self.stride, self.padding, self.dilation = within(stride, x_shape[2:], padding), padding, dilation
        self.output = output_size(x_shape[2:], (k_shape[2], k_shape[3]), self.stride, padding, dilation)
        self.y_shape = x_shape[0], k_shape[0], *self.output
        self.filters = k_shape[0] // groups
        self.nothing = 0 in x_shape or 0 in k_shape or 0 in self.output
        self.depthwise = self.in_lanes(self.filters, k_shape[1])
        self.work = prod(self.y_shape) * prod(k_shape[1:]) * (APART if self.depthwise else 1)
        self.turned = self.in_lanes(k_shape[1], self.filters)
        lanes = self.turned or self.depthwise
        self.spreads = k_shape[1] <= MOST_FEW and not (lanes or self.nothing) and self.cheaper_spread()

        self.y_last = k_shape[0] >= LAST and not self.in_planes(k_shape[0], self.output)
        self.x_last = x_shape[1] >= LAST and not self.in_planes(x_shape[1], x_shape[2:])
        """Whether channels lie side by side in Y, and in dX."""

    def kind(self, filters: int, sizes: Shape) -> int:
        """What the lanes are, for so many filters and results of these rows and columns."""
        if filters <= MOST_FEW:
            return FEW if prod(sizes) >= PIXELS else BLOCKS
        wide = sizes[1] >= COLUMNS and self.stride == (1, 1) and prod(self.k_shape[2:]) > 1
        return FEW if filters <= most_few() and wide else BLOCKS

    def in_planes(self, channels: int, sizes: Shape) -> bool:
        """Whether results of so many channels are made as planes."""
        return self.groups == 1 and not self.nothing and self.kind(channels, sizes) == FEW

    def in_lanes(self, filters: int, channels: int) -> bool:
        """Whether groups of so many filters and channels make one map, the filters of all groups being its lanes."""
        taps = self.k_shape[2] * self.k_shape[3]
        own = 1 in (channels, filters) or (channels == filters and LAST % filters == 0)
        return self.groups > 1 and filters <= LAST and own and taps * channels <= (LONGEST if channels == 1 else TERMS)

    def cheaper_spread(self) -> bool:
        """Whether dX takes less time as products of each pixel of dY, added up, than as a sum for each of its cells.

        In vectors of eight: by a row of taps and its additions; by a cell, the windows of a row being parted, and about
        as long to lay out planes of dY.
        """
        (o, c, h, w), (rows, columns) = self.k_shape, self.x_shape[2:]
        o //= self.groups
        if h * w * -(-o // TERMS) > SUMS:
            return False
        runs, cells = (h, w * c) if self.dilation[1] == 1 else (h * w, c)
        spread = prod(self.output) * runs * -(-cells // 8) * (o + ADDING)
        wide = (columns + w - 1) / columns
        return spread <= 2 * rows * columns * h * w * o * c / 8 / prod(self.stride) * wide

    def forward(self, x: Shape, k: Shape, y: Shape) -> Iterator[dict[str, int]]:
        """The maps that give Y; strides count cells."""
        (n, c, *sizes), (o, each, *kernel) = self.x_shape, self.k_shape
        common = {
            "images": n, "rows": sizes[0], "columns": sizes[1], "out_rows": self.output[0],
            "out_columns": self.output[1], "kernel_rows": kernel[0], "kernel_columns": kernel[1],
            "down": self.stride[0], "across": self.stride[1], "top": self.padding[0][0], "left": self.padding[1][0],
            "row_gap": self.dilation[0], "column_gap": self.dilation[1],
            **strides("x", x, each), **strides("k", k, each), **strides("y", y, self.filters),
        }  # fmt: skip
        if self.depthwise:
            own = {"channels": each, "filters": o, "group": self.filters, "k_group": self.filters * k[0]}
            yield {**common, "kind": DEPTHWISE, **own, **strides("x", x, c), **strides("y", y, o)}
            return
        kind = self.kind(self.filters, self.output)
        for g in range(self.groups):
            at = {"x_at": g * each * x[1], "k_at": g * self.filters * k[0], "y_at": g * self.filters * y[1],
                  "first_filter": g * self.filters}  # fmt: skip
            yield {**common, "kind": kind, "channels": each, "filters": self.filters, **at}

    def gradient(self, x: Shape, k: Shape, y: Shape) -> Iterator[dict[str, int]]:
        """Those of which dK is the gradient; strides count cells."""
        channels = self.k_shape[1]
        beside = channels * (self.k_shape[3] if self.dilation[1] == 1 else 1)
        lanes = channels >= (LAST if wide_vectors() else 2 * LAST) or beside >= (BESIDE_LAST if self.y_last else BESIDE)
        fewer = not lanes and (self.filters <= MOST_FEW or self.output[1] >= 2 * COLUMNS)
        for part in self.forward(x, k, y):
            yield part if fewer or part["kind"] != FEW else {**part, "kind": BLOCKS}

    def adjoint(self, x: Shape, k: Shape, y: Shape) -> Iterator[dict[str, int]]:
        """The maps that give dX, of strides x, from dY."""
        if self.spreads:
            for part in self.forward(x, k, y):
                yield {**part, "kind": SPREAD}
            return
        (n, c, *sizes), (o, each, *_) = self.x_shape, self.k_shape
        channels, filters = self.filters, each
        lanes = {"kind": DEPTHWISE, "filters": c, "group": each, "k_group": channels * k[0], "k_filter": k[1],
                 **strides("x", y, o), **strides("y", x, c)}  # fmt: skip
        kind = self.kind(filters, self.x_shape[2:])
        for (row, vertical), (column, horizontal) in product(self.phases(0), self.phases(1)):
            for g in range(1 if self.turned else self.groups):
                one = {
                    "kind": kind, "images": n, "channels": channels, "filters": filters,
                    "rows": self.output[0], "columns": self.output[1],
                    "out_rows": -(-(sizes[0] - row) // self.stride[0]),
                    "out_columns": -(-(sizes[1] - column) // self.stride[1]),
                    "kernel_rows": vertical["taps"], "kernel_columns": horizontal["taps"], "down": 1, "across": 1,
                    "top": vertical["before"], "left": horizontal["before"],
                    "row_gap": vertical["gap"], "column_gap": horizontal["gap"],
                    **strides("x", y, channels), "x_at": g * channels * y[1],
                    "k_filter": k[1] if each > 1 else 1, "k_channel": k[0],
                    "k_row": -vertical["step"] * k[2], "k_column": -horizontal["step"] * k[3],
                    "k_at": g * channels * k[0] + vertical["last"] * k[2] + horizontal["last"] * k[3],
                    "y_at": g * filters * x[1] + row * x[2] + column * x[3], "y_image": x[0],
                    "y_channel": x[1] if filters > 1 else 1, "y_row": self.stride[0] * x[2],
                    "y_column": self.stride[1] * x[3], "first_filter": g * filters,
                }  # fmt: skip
                turned = {"y_row": one["y_row"], "y_column": one["y_column"]}
                yield {**one, **lanes, **turned} if self.turned else one

    def phases(self, axis: int) -> Iterator[tuple[int, dict[str, int]]]:
        """Of one axis: cells r, r + s, ... of dX by their first r, and the taps that they meet.

        Cell r + s t meets tap i at the cell p of dY with p s + i d = r + s t + padding. So taps are those of one
        remainder, `step` apart, and lie `gap` cells of dY apart; they are turned round, the `last` being the first.
        """
        size, kernel, s, d = self.x_shape[2 + axis], self.k_shape[2 + axis], self.stride[axis], self.dilation[axis]
        step = s // gcd(s, d)
        for r in range(min(s, size)):
            at = r + self.padding[axis][0]
            first = next((i for i in range(min(step, kernel)) if (at - i * d) % s == 0), None)
            if first is None:
                continue
            taps = -(-(kernel - first) // step)
            gap = step * d // s
            before = (taps - 1) * gap - (at - first * d) // s
            last = first + (taps - 1) * step
            yield r, {"taps": taps, "step": step, "gap": gap, "before": before, "last": last}

    @cached_property
    def covers(self) -> bool:
        """Whether the phases of dX that meet a tap are all of them."""
        met = [sum(1 for _ in self.phases(axis)) for axis in (0, 1)]
        return self.spreads or all(
            n == min(s, size) for n, s, size in zip(met, self.stride, self.x_shape[2:], strict=True)
        )


def wide_vectors() -> bool:
    """Whether vectors of this processor have sixteen cells."""
    found = library()
    return found is not None and found.instructions == "v4"


def most_few() -> int:
    """Filters at most whose lanes are pixels, by the vectors of this processor."""
    return MOST_OF_HALF if wide_vectors() else MOST_FEW


def strides(name: str, cells: Shape, channels: int) -> dict[str, int]:
    """The strides of images, or of a kernel: that of channels is 1 where there is no second."""
    names = ("filter", "channel", "row", "column") if name == "k" else ("image", "channel", "row", "column")
    made = {f"{name}_{axis}": stride for axis, stride in zip(names, cells, strict=True)}
    return made | ({f"{name}_channel": 1} if channels == 1 else {})


class Table:
    """Maps as the library takes them, and its functions for their type."""

    def __init__(self, maps: Iterator[dict[str, int]], char: str, threads: int) -> None:
        made = [Map(**one) for one in maps]
        self.count, self.threads, self.dtype = len(made), threads, np.dtype(char)
        self.maps = (Map * len(made))(*made)
        self.at = Held(ctypes.addressof(self.maps), self.maps)
        self.library = {
            name: getattr(library(), f"{name}_{KINDS[char]}")
            for name in ("prepare", "pack", "correlate", "prepare_gradient", "kernel_gradient")
        }


class Correlation(Table):
    """Maps of kernels that are packed first. Packed, a kernel can be kept."""

    kept = False

    def __init__(self, maps: Iterator[dict[str, int]], char: str, threads: int) -> None:
        super().__init__(maps, char, threads)
        self.cells = self.library["prepare"](self.at, self.count, self.kept, threads)
        self.pack_, self.correlate_ = self.library["pack"], self.library["correlate"]

    def pack(self, k: Array) -> Array:
        """The kernel as these maps read it: itself, where each cell of it is met once."""
        if not self.cells:
            return k
        packed = empty((self.cells,), self.dtype)
        self.pack_(self.at, self.count, address(k), address(packed), self.threads)
        return packed

    def __call__(self, x: Array, packed: Array, y: Array, ending: tuple[Any, Any, int] = (None, None, -1)) -> None:
        """Write Y, and run an ending: the program's address, those of its arrays, and which of them is repeated."""
        self.correlate_(self.at, self.count, address(x), address(packed), address(y), *ending, self.threads)


class KeptCorrelation(Correlation):
    """The same of kernels that are packed once, for many calls."""

    kept = True


class KernelGradient(Table):
    """Maps whose kernel's gradient is wanted."""

    def __init__(self, maps: Iterator[dict[str, int]], char: str, threads: int) -> None:
        super().__init__(maps, char, threads)
        self.bytes = self.library["prepare_gradient"](self.at, self.count)
        self.gradient_ = self.library["kernel_gradient"]

    def __call__(self, x: Array, dy: Array, dk: Array, db: Array | None) -> None:
        """Write dK, and dB, the sums of dY for each filter."""
        room = empty((self.bytes + 64,), np.uint8)
        at = address(room)
        at += -at % 64
        of_bias = None if db is None else address(db)
        self.gradient_(self.at, self.count, address(x), address(dy), at, address(dk), of_bias, self.threads)


class KeptKernel:
    """The last kernel that met a table, and as it was packed: one value, which another thread replaces as a whole.

    Tables of several shapes that pack a kernel alike keep it once.
    """

    everywhere: ClassVar[WeakValueDictionary[tuple[int, int], Array]] = WeakValueDictionary()

    def __init__(self, table: KeptCorrelation) -> None:
        self.table = table
        self.last: tuple[Array, Array] | None = None

    def packed(self, kernel: Array, as_read: Array) -> Array:
        """A read-only kernel packed, now or before."""
        last = self.last
        if last is None or last[0] is not kernel:
            self.last = last = kernel, self.shared(kernel, self.table.pack(as_read))
        return last[1]

    def shared(self, kernel: Array, packed: Array) -> Array:
        """What another table has packed, if it is the same."""
        if packed is kernel:
            return packed
        key = id(kernel), packed.size
        other = self.everywhere.get(key)
        if other is not None and np.array_equal(other.view(np.uint8), packed.view(np.uint8)):
            return other
        self.everywhere[key] = packed
        return packed


def packed_for(plan: Any, kernel: Array, as_read: Array, run: Run) -> tuple[Correlation, Array]:
    """The table and the packed kernel of a forward pass: one that is read-only, for predictions, is packed but once.

    `kernel` is the weight itself, `as_read` the same as the table reads it.
    """
    if run.wants_backward or not is_sealed(kernel):
        return plan.forward, plan.forward.pack(as_read)
    return plan.kept.table, constant(lambda: plan.kept.packed(kernel, as_read))


@lru_cache(maxsize=512)
def way(x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Way:
    """The way for these shapes."""
    return Way(x_shape, k_shape, stride, padding, dilation, groups)


KIND: dict[str, tuple[type[Any], str]] = {
    "forward": (Correlation, "forward"), "adjoint": (Correlation, "adjoint"), "gradient": (KernelGradient, "gradient"),
    "kept forward": (KeptCorrelation, "forward"), "kept adjoint": (KeptCorrelation, "adjoint"),
}  # fmt: skip


@lru_cache(maxsize=1024)
def table(which: str, way: Way, x: Shape, k: Shape, y: Shape, char: str, threads: int) -> Any:
    """The table of a map's arrays of these strides in bytes."""
    kind, maps = KIND[which]
    size = np.dtype(char).itemsize
    cells = (tuple(stride // size for stride in array) for array in (x, k, y))
    return kind(getattr(way, maps)(*cells), char, threads if way.work >= LEAST else 1)


def images(shape: Shape, dtype: Any, last: bool | None = None) -> Array:
    """Images (N, C, H, W) of any content: channels side by side, by default from eight on, else in C's order."""
    n, c, rows, columns = shape
    last = c >= LAST if last is None else last
    return empty((n, rows, columns, c), dtype).transpose(0, 3, 1, 2) if last else empty(shape, dtype)


def array_strides(shape: Shape, size: int) -> Shape:
    """Those of an array in C's order, whose cells have so many bytes."""
    return tuple(size * prod(shape[n + 1 :]) for n in range(len(shape)))


def image_strides(shape: Shape, size: int, last: bool) -> Shape:
    """Those of `images`, which need not be there."""
    n, c, rows, columns = shape
    if not last:
        return array_strides(shape, size)
    of_image, of_row, of_column, of_channel = array_strides((n, rows, columns, c), size)
    return of_image, of_channel, of_row, of_column


def plain(x: Array) -> Array:
    """The array, or a copy where the library can't read it in place: between two cells, or bytes in foreign order."""
    flags, size = x.flags, x.itemsize
    fits = flags.aligned and x.dtype.isnative
    if fits and (flags.c_contiguous or not any(stride % size for stride in x.strides)):
        return x
    return np.array(x, dtype=x.dtype.newbyteorder("="), order="C")
