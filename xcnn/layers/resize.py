"""Images of another size: cells taken, or lines drawn between them."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import floor, isfinite
from typing import Any, Literal, TypeAlias, get_args

from xcnn.core.arrays import full, namespace
from xcnn.core.checks import IMAGE, check_cells, check_choice, check_input, check_rank, is_number
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, Pair, Rng, Shape, Weights
from xcnn.core.windows import pair
from xcnn.errors import OptionError, ShapeError, short
from xcnn.layers.half import wide
from xcnn.layers.layer import Run
from xcnn.layers.separable import chosen, lines, mapped, numbers, wholes

Interpolation: TypeAlias = Literal["nearest", "nearest-exact", "bilinear"]
INTERPOLATIONS: tuple[Interpolation, ...] = get_args(Interpolation)


@checked
@dataclass(frozen=True)
class Resize:
    """Y = A X B^T, (N, C, H, W) -> (N, C, H', W');  dX = A^T dY B. A and B interpolate between rows and columns.

    The i-th new row lies at p of the old ones, n becoming m, and 1 / factor standing for n / m where it is given:
    p = (i + 1/2) n / m - 1/2, as cells are points at their centres; p = i (n - 1) / (m - 1) with `align_corners`, by
    which the outermost cells stay. "bilinear" draws lines between the two old rows around p, held to the outermost.
    "nearest-exact" takes the old row nearest to p, "nearest" that of number floor(i n / m). All is as PyTorch's
    `interpolate` has it, which for smaller images leaves rows out, and takes no mean; rows as many as before stay what
    they are by "bilinear" and "nearest", and twice as many are each old one twice by "nearest", whatever the factor.

    Parameters
    ----------
    size
        H' and W', one number for both; None where `factor` tells it
    factor
        instead of it: rows and columns for each one of X, rounded down; any positive numbers. None where `size` tells
        it
    interpolation
        "nearest", "nearest-exact" or "bilinear"
    align_corners
        whether the outermost cells of "bilinear" stay where they are

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where nothing would be left of it.

    Examples
    --------
    >>> xcnn.Resize(factor=0.5, interpolation="bilinear").init(np.random.default_rng(0), (3, 9, 8))
    ({}, (3, 4, 4))
    """

    size: int | Pair | None = None
    _: KW_ONLY
    factor: float | tuple[float, float] | None = None
    interpolation: Interpolation = "nearest"
    align_corners: bool = False

    def __post_init__(self) -> None:
        if (self.size is None) == (self.factor is None):
            hint = "Resize(factor=2), or Resize(32)."
            raise OptionError("X104", "Resize takes a size or a factor, one of the two.", hint=hint)
        if self.size is not None:
            pair("size", self.size)
        check_choice("interpolation", self.interpolation, INTERPOLATIONS)
        if self.align_corners and self.interpolation != "bilinear":
            raise OptionError("X104", 'align_corners goes with interpolation="bilinear" alone.')
        if self.factor is not None and not all(is_number(f) and f > 0 and isfinite(f) for f in self.factors()):
            raise OptionError("X104", f"factor must be a positive number, or two of them; got {short(self.factor)}.")

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, h, w = check_rank(self, input_shape, IMAGE)
        check_cells(self, input_shape)
        return {}, (c, *self.output_size(h, w))

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE, backend=run.backend)
        check_cells(self, x.shape[1:])
        return mapped(self, x, *self.matrices(x, *x.shape[2:]))

    def matrices(self, like: Array, h: int, w: int) -> tuple[Array, Array]:
        """A and B for images of h x w cells."""
        sizes = zip((h, w), self.output_size(h, w), self.ratios(h, w), strict=True)
        a, b = (self.matrix(like, n, m, factor) for n, m, factor in sizes)
        return a, b

    def ratios(self, h: int, w: int) -> tuple[float | None, float | None]:
        """The factors by which rows and columns are placed; None where it is m / n."""
        rows, columns = (
            None if factor is None or self.align_corners or m == n * factor or self.stays(n, m) else factor
            for n, m, factor in zip((h, w), self.output_size(h, w), self.factors(), strict=True)
        )
        return rows, columns

    def stays(self, n: int, m: int) -> bool:
        """Whether m rows of n do not ask for the factor, as in PyTorch."""
        return self.interpolation != "nearest-exact" and m in ((n, 2 * n) if self.interpolation == "nearest" else (n,))

    def matrix(self, like: Array, n: int, m: int, factor: float | None) -> Array:
        """What makes m rows of n."""
        if self.interpolation == "bilinear":
            return lines(like, *self.places(numbers(like, m), n, m, factor), n)
        return chosen(like, self.nearest(like, n, m, factor), n)

    def places(self, i: Array, n: int, m: int, factor: float | None) -> tuple[Array, float]:
        """Where the new rows lie among the old ones, times a number, and that number."""
        if self.align_corners:
            return i * (n - 1 if m > 1 else 0), max(m - 1, 1)
        if factor is not None:
            return (i + 0.5) / factor - 0.5, 1
        return (2 * i + 1) * n - m, 2 * m

    def nearest(self, like: Array, n: int, m: int, factor: float | None) -> Array:
        """Which old row each new one is."""
        xp, exact = namespace(like), self.interpolation == "nearest-exact"
        i = wholes(like, m)
        if factor is None:
            return ((2 * i + 1) * n) // (2 * m) if exact else (i * n) // m
        exactly = xp.astype(i, xp.float64)
        step = xp.astype(full(exactly, (), 1 / factor), xp.float32)  # PyTorch computes rows in float32
        if exact:
            places = xp.astype((exactly + 0.5) * xp.astype(step, xp.float64), xp.float32)
        else:
            places = xp.astype(i, xp.float32) * step
        return xp.minimum(xp.astype(xp.floor(places), i.dtype), full(i, (), n - 1))

    def output_size(self, h: int, w: int) -> Pair:
        """H' and W'; raises X102 where there are none."""
        if self.size is not None:
            return pair("size", self.size)
        rows, columns = (floor(n * f) for n, f in zip((h, w), self.factors(), strict=True))
        if min(rows, columns) < 1:
            raise ShapeError(
                "X102",
                f"leaves nothing of an input of {h}x{w}.",
                f"output = floor(factor input) = {rows}x{columns}",
                hint="give a size, or a larger factor.",
                layer=self,
            )
        return rows, columns

    def factors(self) -> tuple[Any, Any]:
        """The factor of rows and that of columns; None where there are none."""
        both: Any = self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)
        if len(both) != 2:
            raise OptionError("X104", f"factor must be a positive number, or two of them; got {short(both)}.")
        return both[0], both[1]
