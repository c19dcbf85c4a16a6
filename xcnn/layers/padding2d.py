"""Cells of the image itself around each image: reflected, those of its edge, or those of its other side."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.arrays import namespace, pad, total
from xcnn.core.checks import IMAGE, check_input, check_rank
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.options import checked
from xcnn.core.types import Array, Backward, EdgeMode, Pads, Pair, Rng, Shape, Weights
from xcnn.core.windows import pads
from xcnn.errors import OptionError, ShapeError, short
from xcnn.layers.half import wide
from xcnn.layers.layer import Run


@checked
@dataclass(frozen=True)
class Padding2D:
    """Y = X with copies of its own cells around it;  dX = dY, each copy's added to its cell.

    (N, C, H, W) -> (N, C, top + H + bottom, left + W + right). A row a b c d with two cells more at both ends is
    c b a b c d c b ("reflect"), a a a b c d d d ("edge"), or c d a b c d a b ("wrap"): the modes of NumPy's `pad`.

    Parameters
    ----------
    padding
        cells more: p, (p_height, p_width) or ((top, bottom), (left, right))
    mode
        "reflect", "edge" or "wrap"; in PyTorch's words reflection, replication and circular padding

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where it has too few cells to be reflected or wrapped.

    Examples
    --------
    >>> xcnn.Padding2D((0, 2)).init(np.random.default_rng(0), (3, 28, 28))
    ({}, (3, 28, 32))
    """

    padding: int | Pair | Pads = 1
    mode: EdgeMode = "reflect"

    def __post_init__(self) -> None:
        if isinstance(self.padding, str):
            raise OptionError("X104", f"padding must be a number, two, or two pairs; got {short(self.padding)}.")
        self.around()

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        c, h, w = check_rank(self, input_shape, IMAGE)
        self.check_cells((h, w))
        rows, columns = self.around()
        return {}, (c, h + sum(rows), w + sum(columns))

    @wide
    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        check_input(self, weights, x, IMAGE)
        self.check_cells(x.shape[2:])
        edges = [*zip((2, 3), x.shape[2:], self.around(), strict=True)]
        y = x
        for axis, n, counts in edges:
            before, after = (self.copied(y, axis, *end) for end in zip(self.sources(n, counts), counts, strict=True))
            y = namespace(x).concat([before, y, after], axis=axis)
        made = likeness(y)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            for axis, n, (before, after) in reversed(edges):
                ends = part(dy, axis, 0, before), part(dy, axis, before + n, before + n + after)
                dy = part(dy, axis, before, before + n)
                for end, source in zip(ends, self.sources(n, (before, after)), strict=True):
                    if end.shape[axis]:
                        dy = dy + self.returned(end, axis, source, n)
            return dy, {}

        return y, backward

    def sources(self, n: int, counts: Pair) -> tuple[Pair, Pair]:
        """First and last but one of the cells, of n, that are copied before them and behind them."""
        before, after = counts
        match self.mode:
            case "reflect":
                return (1, 1 + before), (n - 1 - after, n - 1)
            case "edge":
                return (0, 1), (n - 1, n)
        return (n - before, n), (0, after)

    def copied(self, x: Array, axis: int, source: Pair, count: int) -> Array:
        """So many cells more: the others turned round, one of them repeated, or as they are."""
        cells = part(x, axis, *source)
        match self.mode:
            case "reflect":
                return namespace(x).flip(cells, axis=axis)
            case "edge":
                return namespace(x).broadcast_to(cells, (*x.shape[:axis], count, *x.shape[axis + 1 :]))
        return cells

    def returned(self, dy: Array, axis: int, source: Pair, n: int) -> Array:
        """The gradient of copies where the n cells are that they are of."""
        match self.mode:
            case "reflect":
                dy = namespace(dy).flip(dy, axis=axis)
            case "edge":
                dy = namespace(dy).expand_dims(total(dy, axis=axis), axis=axis)
        edges = (source[0], n - source[1])
        return pad(dy, (edges, (0, 0)) if axis == 2 else ((0, 0), edges))

    def around(self) -> Pads:
        """Cells (top, bottom) and (left, right)."""
        return pads(self.padding, (1, 1), (1, 1), (1, 1))

    def check_cells(self, sizes: Shape) -> None:
        """Raise X102 where there are too few cells to copy."""
        for n, counts in zip(sizes, self.around(), strict=True):
            most = {"reflect": n - 1, "wrap": n}.get(self.mode, n and max(counts))
            if max(counts) > most:
                raise ShapeError(
                    "X102",
                    f'can\'t copy {max(counts)} cells of an input of {"x".join(map(str, sizes))} by "{self.mode}".',
                    f"there are {max(most, 0)}",
                    hint='pad less, or by mode="edge".' if n else "",
                    layer=self,
                )


def part(x: Array, axis: int, start: int, stop: int) -> Array:
    """Cells of one axis."""
    return x[(*(slice(None) for _ in range(axis)), slice(start, stop), ...)]
