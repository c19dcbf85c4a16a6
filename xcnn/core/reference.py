"""Every primitive in the pure standard: the definition that all backends are held to.

Slices, concatenation and matmul only: nothing is written in place, nothing is scattered. Images are (N, C, H, W),
kernels (O, C / groups, h, w). The three maps of a convolutional layer are one bilinear map and its two adjoints:

    <correlate(x, k), dy>  =  <x, correlate_input_adjoint(dy, k)>  =  <k, correlate_kernel_adjoint(x, dy)>

Of half-precision numbers all sums are taken in float32, and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import prod

from array_api_compat import device

from xcnn.core.arrays import dilate, namespace, pad, rounded_once, zeros
from xcnn.core.types import Array, PaddingName, Pads, Pair, Shape
from xcnn.core.windows import extent, first_taps, output_size, pads, taps

NO_PADDING: Pads = ((0, 0), (0, 0))


@rounded_once
def correlate(
    x: Array,
    k: Array,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """Y = X * K: y[n, o, p, q] = sum over c, i, j of x[n, c, p s + i d, q s + j d] k[o, c, i, j].

    Parameters
    ----------
    x : (N, C, H, W)
    k : (O, C / groups, h, w)
    stride, dilation
        for height and width, in cells
    padding
        zeros added (top, bottom) and (left, right)
    groups
        output channels o of group g see the input channels of group g only

    Returns
    -------
    (N, O, H', W'), with H' = (H + top + bottom - ((h - 1) d + 1)) // s + 1.
    """
    xp = namespace(x, k)
    window = (k.shape[2], k.shape[3])
    rows, columns = output_size(x.shape[2:], window, stride, padding, dilation)
    n, o = x.shape[0], k.shape[0]
    grouped = xp.reshape(k, (groups, o // groups, k.shape[1], *window))
    padded = pad(x, padding)
    y = zeros(x, (n, groups, o // groups, rows * columns))
    for i, j, at in taps(window, stride, dilation, (rows, columns)):
        y = y + grouped[:, :, :, i, j] @ xp.reshape(padded[at], (n, groups, k.shape[1], rows * columns))
    return xp.reshape(y, (n, o, rows, columns))


@rounded_once
def correlate_input_adjoint(
    dy: Array,
    k: Array,
    x_shape: Shape,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """DX = full convolution of dY with K: dY, spread by the stride, correlated in full with K rotated by 180 degrees.

    `dy` is (N, O, H', W'), `k` (O, C / groups, h, w), `x_shape` and the result (N, C, H, W).
    """
    xp = namespace(dy, k)
    o, c, h, w = k.shape
    spread = dilate(dy, stride)
    around = []
    for n, m, size, d, (lo, _) in zip(x_shape[2:], spread.shape[2:], (h, w), dilation, padding, strict=True):
        before = extent(size, d) - 1 - lo
        around.append((before, n + extent(size, d) - 1 - m - before))
    rotated = xp.reshape(xp.flip(k, axis=(2, 3)), (groups, o // groups, c, h, w))
    turned = xp.reshape(xp.permute_dims(rotated, (0, 2, 1, 3, 4)), (groups * c, o // groups, h, w))
    return correlate(pad(spread, (around[0], around[1])), turned, dilation=dilation, groups=groups)


@rounded_once
def correlate_kernel_adjoint(
    x: Array,
    dy: Array,
    k_shape: Shape,
    *,
    stride: Pair = (1, 1),
    padding: Pads = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """DK = X correlated, valid, with dY: each kernel cell sums what it met times the gradient there.

    `x` is (N, C, H, W), `dy` (N, O, H', W'), `k_shape` and the result (O, C / groups, h, w).
    """
    xp = namespace(x, dy)
    o, c, h, w = k_shape
    n, _, rows, columns = dy.shape
    padded = pad(x, padding)
    grouped = xp.reshape(dy, (n, groups, o // groups, rows * columns))
    cells = []
    for _, _, at in taps((h, w), stride, dilation, (rows, columns)):
        met = xp.reshape(padded[at], (n, groups, c, rows * columns))
        cells.append(xp.sum(grouped @ xp.matrix_transpose(met), axis=0))
    return xp.reshape(xp.stack(cells, axis=-1), tuple(k_shape))


def workspace(x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair) -> int:
    """Cells that `correlate` holds beside y: padded images, what one tap meets of them, its product, the sum so far."""
    n, channels, *sizes = x_shape
    positions = prod(output_size(x_shape[2:], (k_shape[2], k_shape[3]), stride, padding, dilation))
    padded = prod(size + lo + hi for size, (lo, hi) in zip(sizes, padding, strict=True)) if padding != NO_PADDING else 0
    met = positions if (k_shape[2], k_shape[3]) != (1, 1) or stride != (1, 1) else 0
    return n * (channels * (padded + met) + 2 * k_shape[0] * positions)


def max_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> tuple[Array, Array]:
    """The largest cell of each window, and which it was: the number of its tap, counted row by row.

    `x` is (N, C, H, W); both results are (N, C, H', W'). Padded cells count for nothing: where all of the image's cells
    are minus infinity, it is the first of these. Of equal cells the first wins. NaN wins over all, the first of them.
    """
    xp = namespace(x)
    output = output_size(x.shape[2:], size, stride, padding)
    padded = pad(x, padding, -float("inf"))
    met = xp.stack([padded[at] for _, _, at in taps(size, stride, (1, 1), output)], axis=-1)
    y, which = xp.max(met, axis=-1), xp.argmax(met, axis=-1)
    if padding == NO_PADDING:
        return y, which
    rows, columns = (
        xp.asarray(first, dtype=which.dtype, device=device(x)) for first in first_taps(size, stride, padding, output)
    )
    inside = xp.expand_dims(rows * size[1], axis=1) + columns
    return y, xp.where(y == -float("inf"), inside, which)


@rounded_once
def max_pool_adjoint(
    dy: Array, which: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING
) -> Array:
    """Each dy goes to the cell that was largest. `dy` and `which` are (N, C, H', W'), the result has `x_shape`."""
    xp = namespace(dy)
    nothing = zeros(dy, dy.shape)
    parts = (xp.where(which == tap, dy, nothing) for tap in range(size[0] * size[1]))
    return _spread(parts, dy, x_shape, size, stride, padding)


@rounded_once
def sum_pool(x: Array, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
    """The sum of each window, (N, C, H, W) -> (N, C, H', W'); padded cells count as zero."""
    output = output_size(x.shape[2:], size, stride, padding)
    padded = pad(x, padding)
    y = zeros(x, (*x.shape[:2], *output))
    for _, _, at in taps(size, stride, (1, 1), output):
        y = y + padded[at]
    return y


@rounded_once
def sum_pool_adjoint(dy: Array, x_shape: Shape, size: Pair, *, stride: Pair, padding: Pads = NO_PADDING) -> Array:
    """Each dy goes to every cell of its window. `dy` is (N, C, H', W'), the result has `x_shape`."""
    return _spread((dy for _ in range(size[0] * size[1])), dy, x_shape, size, stride, padding)


def _spread(parts: Iterable[Array], dy: Array, x_shape: Shape, size: Pair, stride: Pair, padding: Pads) -> Array:
    """Add each tap's part, spread by the stride, where the tap met the image."""
    dx = zeros(dy, tuple(x_shape))
    for (i, j, _), part in zip(taps(size, stride, (1, 1), dy.shape[2:]), parts, strict=True):
        spread = dilate(part, stride)
        around = [
            (at - lo, n - m - (at - lo))
            for at, (lo, _), n, m in zip((i, j), padding, x_shape[2:], spread.shape[2:], strict=True)
        ]
        dx = dx + pad(spread, (around[0], around[1]))
    return dx


def correlate2d(x: Array, k: Array, mode: PaddingName = "valid", by: Callable[..., Array] = correlate) -> Array:
    """One kernel (h, w) slid over one plane (H, W): the article's X * K. Modes "valid", "full" and "same".

    `by` is the `correlate` that does it for a batch of one and one channel.
    """
    return _plane(x, k, pads(mode, x.shape, k.shape, (1, 1)), by)


def convolve2d(x: Array, k: Array, mode: PaddingName = "valid", by: Callable[..., Array] = correlate) -> Array:
    """Correlation with the kernel rotated by 180 degrees; the odd cell of "same" is rotated too."""
    (top, bottom), (left, right) = pads(mode, x.shape, k.shape, (1, 1))
    return _plane(x, rot180(k), ((bottom, top), (right, left)), by)


def _plane(x: Array, k: Array, padding: Pads, by: Callable[..., Array]) -> Array:
    xp = namespace(x, k)
    y = by(xp.reshape(x, (1, 1, *x.shape)), xp.reshape(k, (1, 1, *k.shape)), padding=padding)
    return xp.reshape(y, y.shape[2:])


def rot180(k: Array) -> Array:
    """The kernel rotated by 180 degrees: both of its last axes reversed.

    Parameters
    ----------
    k
        (..., h, w)

    Examples
    --------
    >>> xcnn.rot180(np.asarray([[1, 2], [3, 4]])).tolist()
    [[4, 3], [2, 1]]
    """
    return namespace(k).flip(k, axis=(-2, -1))


__all__ = [
    "convolve2d",
    "correlate",
    "correlate2d",
    "correlate_input_adjoint",
    "correlate_kernel_adjoint",
    "max_pool",
    "max_pool_adjoint",
    "rot180",
    "sum_pool",
    "sum_pool_adjoint",
]
