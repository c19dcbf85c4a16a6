"""What poolings share: their options and the windows that these give."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

from xcnn.core.checks import IMAGE, check_cells, check_rank
from xcnn.core.options import checked
from xcnn.core.types import Padding, Pair, Rng, Shape, Weights
from xcnn.core.windows import pads, pair, positions, within
from xcnn.errors import OptionError, short


@checked
@dataclass(frozen=True)
class Pool2D:
    """Windows of `pool_size`, `stride` cells apart (by default side by side), (N, C, H, W) -> (N, C, H', W').

    Padded cells count for nothing, so there must be fewer of them on each side than a window has. With `ceil_mode`
    there is one window more where cells are left over at an end, as long as it begins before the padding there.
    """

    pool_size: int | Pair = 2
    stride: int | Pair | None = None
    _: KW_ONLY
    padding: Padding = "valid"
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        size, around = pair("pool_size", self.pool_size), self.window((1, 1))["padding"]
        if any(max(both) >= n for n, both in zip(size, around, strict=True)):
            raise OptionError(
                "X104", f"padding must be smaller than the window, {size[0]}x{size[1]}; got {short(self.padding)}."
            )

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels, *sizes = check_rank(self, input_shape, IMAGE)
        check_cells(self, input_shape)
        return {}, (channels, *self.positions(tuple(sizes)))

    def positions(self, sizes: Shape) -> Pair:
        """H' and W'; raises X102 where the window does not fit."""
        return positions(self, sizes, pair("pool_size", self.pool_size), **self.window(sizes))

    def window(self, sizes: Shape) -> dict[str, Any]:
        """Stride and padding for an image of these sizes, as the primitives take them."""
        size = pair("pool_size", self.pool_size)
        stride = size if self.stride is None else pair("stride", self.stride)
        around = pads(self.padding, sizes, size, stride)
        if self.ceil_mode:
            rows, columns = map(ends_added, sizes, size, stride, around)
            around = rows, columns
        return {"stride": within(stride, sizes, around), "padding": around}


def ends_added(size: int, window: int, stride: int, padding: Pair) -> Pair:
    """The padding, with as much more at the end as one window more needs, if that begins within the image or before."""
    before, behind = padding
    beyond = size + before + behind - window
    if beyond < 0 or beyond % stride == 0:
        return padding
    start = (beyond // stride + 1) * stride
    return (before, start + window - size - before) if start < size + before else padding
