"""What is asked of cuDNN: one of a convolution's three maps, for arrays that lie so and so in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Pads, Pair, Shape
from xcnn.core.windows import output_size
from xcnn.errors import OptionError, ShapeError

CHOICES: dict[str, tuple[str | None, ...]] = {
    "map": ("forward", "input", "kernel"),
    "dtype": ("float32", "float16", "bfloat16", "float64"),
    "math": ("float32", "tf32"),
    "activation": (None, "relu"),
}
WINDOW: dict[str, Any] = {"stride": (1, 1), "padding": NO_PADDING, "dilation": (1, 1)}


@dataclass(frozen=True)
class Layout:
    """Sizes of an array's four axes, and how many cells one step along each of them is in memory."""

    shape: Shape
    strides: Shape

    @staticmethod
    def dense(shape: Shape, channels_last: bool = False) -> Layout:
        """Without gaps, as the axes are written, or with the second one innermost."""
        a, b, c, d = shape
        return Layout((a, b, c, d), (b * c * d, 1, b * d, b) if channels_last else (b * c * d, c * d, d, 1))


@dataclass(frozen=True)
class Question:
    """Y = X ⋆ K, or one of its two adjoints.

    Parameters
    ----------
    map
        "forward" computes y of x and kernel, "input" x of kernel and y, "kernel" kernel of x and y
    x, y
        images (N, C, H, W)
    kernel
        (filters, channels of a group, height, width)
    dtype
        of all arrays: "float32", "float16", "bfloat16" or "float64"; both halves are summed in float32
    math
        "float32", or "tf32" where products of float32 may be rounded to 10 bits
    deterministic
        whether equal inputs must give equal bits in every run
    padding, stride, dilation
        as in `correlate`; both sides of an axis may be padded differently
    bias
        whether the forward map adds a number for each filter, in the arrays' type
    activation
        what the forward map applies last: None or "relu"
    workspace
        bytes that the plan may ask for beside the arrays
    alignment
        bytes that each array's address is a multiple of

    Raises
    ------
    OptionError
        X104
    ShapeError
        X101, unless the three shapes belong to one correlation.
    """

    map: str
    x: Layout
    kernel: Layout
    y: Layout
    dtype: str = "float32"
    math: str = "float32"
    deterministic: bool = False
    padding: Pads = NO_PADDING
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    bias: bool = False
    activation: str | None = None
    workspace: int = 2**28
    alignment: int = 16
    key: str = field(init=False, repr=False, compare=False)
    """The question in one line, the same in every process: what files call it by."""

    @staticmethod
    @lru_cache(maxsize=4096)
    def dense(map: str, x_shape: Shape, kernel_shape: Shape, channels_last: bool = False, **options: Any) -> Question:
        """The question for arrays without gaps, as their axes are written or with the channels last."""
        how = [options.get(name, default) for name, default in WINDOW.items()]
        rows, columns = output_size(x_shape[2:], (kernel_shape[2], kernel_shape[3]), *how)
        shapes = x_shape, kernel_shape, (x_shape[0], kernel_shape[0], rows, columns)
        x, kernel, y = (Layout.dense(shape, channels_last) for shape in shapes)
        return Question(map, x, kernel, y, **options)

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise OptionError("X104", f"{name} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")
        if self.map != "forward" and (self.bias or self.activation):
            raise OptionError("X104", f"bias and activation belong to the forward map; got the map {self.map!r}.")
        self._check_shapes()
        object.__setattr__(self, "key", self._written())

    def __hash__(self) -> int:
        return hash(self.key)  # a string's hash is computed once, and every step looks its questions up

    @property
    def groups(self) -> int:
        """Into how many groups the channels and filters are divided, as the shapes imply."""
        return self.x.shape[1] // self.kernel.shape[1]

    @property
    def roles(self) -> tuple[str, ...]:
        """The arrays that a plan is given."""
        return ("x", "kernel", "y", "bias") if self.bias else ("x", "kernel", "y")

    def _check_shapes(self) -> None:
        (n, channels, *sizes), (filters, depth, height, width) = self.x.shape, self.kernel.shape
        rows, columns = output_size(tuple(sizes), (height, width), self.stride, self.padding, self.dilation)
        divided = depth > 0 and channels % depth == 0 and filters % max(channels // depth, 1) == 0
        if not divided or self.y.shape != (n, filters, rows, columns) or min(self.y.shape + self.x.shape) < 1:
            raise ShapeError(
                "X101",
                "these are not the shapes of a correlation.",
                f"got x {self.x.shape}, kernel {self.kernel.shape}, y {self.y.shape}",
                f"padding {self.padding}, stride {self.stride}, dilation {self.dilation}",
            )

    def _written(self) -> str:
        layouts = (
            f"{name} {comma(layout.shape)} in steps {comma(layout.strides)}"
            for name, layout in (("x", self.x), ("kernel", self.kernel), ("y", self.y))
        )
        return "; ".join(
            (
                f"{self.map} map of {self.dtype} in {self.math}{', deterministic' if self.deterministic else ''}",
                *layouts,
                f"padding {comma(self.padding[0] + self.padding[1])}",
                f"stride {comma(self.stride)}",
                f"dilation {comma(self.dilation)}",
                f"bias {'yes' if self.bias else 'no'}",
                f"activation {self.activation or 'none'}",
                f"workspace {self.workspace}",
                f"alignment {self.alignment}",
            )
        )


def cells_that_meet(question: Question) -> int:
    """How many cells of y have a window that is not all padding."""
    met = question.y.shape[0] * question.y.shape[1]
    for axis in range(2):
        size, positions, taps = (getattr(question, role).shape[2 + axis] for role in ("x", "y", "kernel"))
        first = (n * question.stride[axis] - question.padding[axis][0] for n in range(positions))
        met *= sum(any(0 <= at + n * question.dilation[axis] < size for n in range(taps)) for at in first)
    return met


def comma(numbers: Shape) -> str:
    """(1, 2) -> "1,2"."""
    return ",".join(map(str, numbers))
