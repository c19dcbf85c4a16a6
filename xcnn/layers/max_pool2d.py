"""The largest cell of each window."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.checks import IMAGE, check_cells, check_input
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Weights
from xcnn.core.windows import pair
from xcnn.layers.half import computes_in_half
from xcnn.layers.layer import Run
from xcnn.layers.pooling import Pool2D


@computes_in_half
@checked
@dataclass(frozen=True)
class MaxPool2D(Pool2D):
    """Y = max of each window;  dX = dY where the maximum stood (the first of equal ones), summed over the windows.

    Padding never is the maximum: in a window of -inf alone it is the first cell of the image, as in PyTorch. NaN is
    larger than all numbers: Y is NaN there, and dY goes to the first of them (PyTorch takes the last of several).

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

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.MaxPool2D(2).init(np.random.default_rng(0), (8, 28, 28))
    ({}, (8, 14, 14))
    """

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE, backend=run.backend)
        check_cells(self, x.shape[1:])
        size, how, backend, x_shape = pair("pool_size", self.pool_size), self.window(x.shape[2:]), run.backend, x.shape
        self.positions(x.shape[2:])
        y, which = backend.max_pool(x, size, **how)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            return backend.max_pool_adjoint(dy, which, x_shape, size, **how), {}

        return y, backward
