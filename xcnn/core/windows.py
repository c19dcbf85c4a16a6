"""The shape arithmetic that correlations and poolings share: padding, dilation, output sizes and taps.

All sizes are in cells. A window of `kernel` cells with dilation d spans (kernel - 1) d + 1 cells, its extent; slid with
stride s over n + lo + hi cells it has (n + lo + hi - extent) // s + 1 positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xcnn.core.types import Pads, Pair, Shape
from xcnn.errors import OptionError, ShapeError, short

Slices = tuple[slice, ...]

COUNTABLE = 2**60
"""No array has so many cells, whatever its library and its memory."""


def pair(name: str, value: object, least: int = 1) -> Pair:
    """One whole number for both axes, or one for each: 3 -> (3, 3).

    Raises
    ------
    OptionError
        X104, when a number is missing, not whole, or below `least`.
    """
    both = (value, value) if isinstance(value, int) else value
    if isinstance(both, Sequence) and not isinstance(both, str) and len(both) == 2:
        a, b = both
        if is_whole(a) and is_whole(b) and min(a, b) >= least and max(a, b) < COUNTABLE:
            return a, b
    raise OptionError("X104", f"{name} must be a whole number of at least {least}, or two of them; got {short(value)}.")


def is_whole(value: object) -> bool:
    """True for an int that is not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def extent(kernel: int, dilation: int) -> int:
    """Cells from a window's first tap to its last."""
    return (kernel - 1) * dilation + 1


def pads(padding: object, sizes: Shape, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Pads:
    """Cells to add before and after each axis.

    "valid" adds none, so the window stays inside; "full" adds extent - 1 on both sides, so that every overlap counts;
    "same" makes ceil(n / stride) positions and puts an odd cell at the end, as Keras and ONNX's SAME_UPPER do.
    A number pads both sides of both axes, (p, q) each axis on both sides, ((top, bottom), (left, right)) each side.
    """
    extents = (extent(kernel[0], dilation[0]), extent(kernel[1], dilation[1]))
    match padding:
        case "valid":
            return (0, 0), (0, 0)
        case "full":
            return (extents[0] - 1,) * 2, (extents[1] - 1,) * 2
        case "same":
            first, second = map(_same, sizes, extents, stride)
            return first, second
        case (list() | tuple(), list() | tuple()):
            return pair("padding", padding[0], least=0), pair("padding", padding[1], least=0)
        case int() | (int(), int()):
            rows, columns = pair("padding", padding, least=0)
            return (rows, rows), (columns, columns)
    raise OptionError(
        "X104", f'padding must be "valid", "same", "full", a number, two, or two pairs; got {short(padding)}.'
    )


def _same(size: int, extent: int, stride: int) -> Pair:
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def within(stride: Pair, sizes: Shape, padding: Pads) -> Pair:
    """The stride, cut to the padded image: beyond it there is one position only, however long the stride is.

    Engines may then part an image by its stride, and count in 32 bits.
    """
    rows, columns = (min(s, max(1, n + lo + hi)) for s, n, (lo, hi) in zip(stride, sizes, padding, strict=True))
    return rows, columns


def output_size(sizes: Shape, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair = (1, 1)) -> Pair:
    """Positions of a window along each axis; zero or less where the window does not fit."""
    rows, columns = (
        (n + lo + hi - extent(k, d)) // s + 1
        for n, k, s, (lo, hi), d in zip(sizes, kernel, stride, padding, dilation, strict=True)
    )
    return rows, columns


def positions(layer: object, sizes: Shape, kernel: Pair, stride: Pair, padding: Pads, dilation: Pair = (1, 1)) -> Pair:
    """`output_size`, for a layer.

    Raises
    ------
    ShapeError
        X102, when the window does not fit into the image.
    """
    output = output_size(sizes, kernel, stride, padding, dilation)
    if min(output) < 1:
        rows, columns = (n + lo + hi for n, (lo, hi) in zip(sizes, padding, strict=True))
        spans = tuple(map(extent, kernel, dilation))
        padded = f", {rows}x{columns} with its padding" if (rows, columns) != tuple(sizes) else ""
        raise ShapeError(
            "X102",
            f"has a {spans[0]}x{spans[1]} kernel but its input is only {sizes[0]}x{sizes[1]}{padded}.",
            f"output = (input - kernel) // stride + 1 = {output[0]}x{output[1]}",
            hint='use padding="same" or "full", a smaller kernel, or fewer layers before it.',
            layer=layer,
        )
    return output


def first_taps(size: Pair, stride: Pair, padding: Pads, output: Pair) -> tuple[list[int], list[int]]:
    """For each position, by rows and by columns, the first of a window's cells that lies within the image.

    A window's first tap there is that of its row times the window's width, plus that of its column. Where a window lies
    in the padding alone, it is 0.
    """
    rows, columns = (
        [first if 0 < (first := lo - s * n) < k else 0 for n in range(count)]
        for k, s, (lo, _), count in zip(size, stride, padding, output, strict=True)
    )
    return rows, columns


def taps(kernel: Pair, stride: Pair, dilation: Pair, output: Pair) -> Iterator[tuple[int, int, Slices]]:
    """For each kernel cell (i, j) the slices of the padded image that it meets, shaped like the output."""
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            rows, columns = (
                slice(at * d, at * d + s * (n - 1) + 1, s)
                for at, d, s, n in zip((i, j), dilation, stride, output, strict=True)
            )
            yield i, j, (slice(None), slice(None), rows, columns)
