"""The mean of each window."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

from xcnn.core.arrays import full, pad
from xcnn.core.checks import IMAGE, check_cells, check_input
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Weights
from xcnn.core.windows import pair
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.pooling import Pool2D


@checked
@dataclass(frozen=True)
class AveragePool2D(Pool2D):
    """Y = sum of each window / count of its cells;  dX = dY / count to each cell, summed over the windows.

    Padded cells are not counted, unless `count_include_pad` asks for it; those that only `ceil_mode` adds never are.

    Parameters
    ----------
    pool_size
        height and width of the window, one number for both
    stride
        cells from a window to the next, down and across; None is the window's size
    padding
        cells around X that count for nothing: "valid" none, "same" as many as give H' = ceil(H / stride), "full" as
        many as make every overlap count; or p, (p_height, p_width), ((top, bottom), (left, right)) of them
    ceil_mode
        whether cells that are left over at an end make one window more, as PyTorch's option
    count_include_pad
        whether padded cells count, as zeros; so it is by default in PyTorch, and is not in Keras

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.AveragePool2D(2).init(np.random.default_rng(0), (8, 28, 28))
    ({}, (8, 14, 14))
    """

    _: KW_ONLY
    count_include_pad: bool = False

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE, backend=run.backend)
        check_cells(self, x.shape[1:])
        size, how, backend, x_shape = pair("pool_size", self.pool_size), self.window(x.shape[2:]), run.backend, x.shape
        self.positions(x.shape[2:])
        count = self.count(x, run)
        y = backend.sum_pool(x, size, **how) / count
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return backend.sum_pool_adjoint(dy / count, x_shape, size, **how), {}

        return y, backward

    def count(self, x: Array, run: Run) -> Array:
        """The cells of each window, (1, 1, H', W')."""
        size, how = pair("pool_size", self.pool_size), self.window(x.shape[2:])
        ones = full(x, (1, 1, *x.shape[2:]), 1.0)
        if self.count_include_pad:
            asked = replace(self, ceil_mode=False).window(x.shape[2:])["padding"]
            ones = pad(ones, asked, 1.0)
            how["padding"] = tuple((0, more[1] - of[1]) for more, of in zip(how["padding"], asked, strict=True))
        return run.backend.sum_pool(ones, size, **how)
