"""The article's correlations with cupyx.scipy.signal, a whole batch in one call: slow and certain.

`signal.correlate` sums over the axes along which both arrays are equally long: here the channels of a group, or its
filters, or the images. It takes float32 and float64. `signal` is cupyx.scipy.signal, or scipy.signal for NumPy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xcnn_strided.lowering import padded, spread

from xcnn.core.arrays import namespace
from xcnn.core.types import Array, Pads, Pair, Shape
from xcnn.core.windows import extent, output_size
from xcnn.errors import DTypeError


@dataclass(frozen=True)
class Literal:
    """The three maps."""

    signal: Any

    def correlate(self, x: Array, k: Array, *, stride: Pair, padding: Pads, dilation: Pair, groups: int) -> Array:
        """Y[:, o] = X * K[o], valid, the channels summed, every stride-th row and column kept."""
        xp = namespace(x, k)
        (o, c), output = k.shape[:2], output_size(x.shape[2:], k.shape[2:], stride, padding, dilation)
        around, kernel = padded(xp, x, padding), spread(xp, k, dilation)
        y = xp.zeros((x.shape[0], o, *output), dtype=xp.result_type(x, k))
        for n in range(o):
            first = n // (o // groups) * c
            met = self.valid(xp, around[:, first : first + c], kernel[n : n + 1])
            y[:, n] = met[:, 0, :: stride[0], :: stride[1]]
        return y

    def correlate_input_adjoint(
        self, dy: Array, k: Array, x_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """DX[:, c] = dY, spread by the stride, convolved in full with K[:, c], the filters summed."""
        xp = namespace(dy, k)
        (o, c), ((top, _), (left, _)) = k.shape[:2], padding
        grown, turned = spread(xp, dy, stride), spread(xp, k, dilation)[:, :, ::-1, ::-1]
        (rows, columns), (height, width) = turned.shape[2:], grown.shape[2:]
        full = padded(
            xp,
            grown,
            ((rows - 1 - top, x_shape[2] + top - height), (columns - 1 - left, x_shape[3] + left - width)),
        )
        dx = xp.zeros(x_shape, dtype=xp.result_type(dy, k))
        for n in range(x_shape[1]):
            first = n // c * (o // groups)
            filters = slice(first, first + o // groups)
            dx[:, n] = self.valid(xp, full[:, filters], turned[filters, n % c][None])[:, 0]
        return dx

    def correlate_kernel_adjoint(
        self, x: Array, dy: Array, k_shape: Shape, *, stride: Pair, padding: Pads, dilation: Pair, groups: int
    ) -> Array:
        """DK[o] = X correlated, valid, with dY[:, o], spread by the stride, the images summed."""
        xp = namespace(x, dy)
        o, c, h, w = k_shape
        around, grown = padded(xp, x, padding), spread(xp, dy, stride)
        rows = grown.shape[2] + extent(h, dilation[0]) - 1  # a stride may leave cells that no window meets
        columns = grown.shape[3] + extent(w, dilation[1]) - 1
        dk = xp.zeros(k_shape, dtype=xp.result_type(x, dy))
        for n in range(o):
            first = n // (o // groups) * c
            met = self.valid(xp, around[:, first : first + c, :rows, :columns], grown[:, n : n + 1])
            dk[n] = met[0, :, :: dilation[0], :: dilation[1]]
        return dk

    def valid(self, xp: Any, x: Array, k: Array) -> Array:
        """Their valid correlation along all four axes."""
        if x.dtype not in (xp.float32, xp.float64):
            raise DTypeError("X103", f'algorithm "literal" computes in float32 and float64; got {x.dtype}.')
        if x.shape[0] == 0:  # no images: no outputs, or a sum of nothing
            sizes = [n - m + 1 for n, m in zip(x.shape, k.shape, strict=True)]
            return xp.zeros((max(sizes[0], 0), *sizes[1:]), dtype=x.dtype)
        return self.signal.correlate(xp.ascontiguousarray(x), xp.ascontiguousarray(k), mode="valid", method="direct")
