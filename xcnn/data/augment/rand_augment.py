"""RandAugment: some operations of a list, drawn for each image, all of one magnitude."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_between, check_whole
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.data.augment.checks import check_images, check_share
from xcnn.data.augment.colour import AT_ONCE, brightened, check_colours, contrasted, saturated
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.geometry import transformed
from xcnn.data.augment.resampling import batch_of, each, in_places, like, shifted
from xcnn.data.augment.tones import equalized, posterized, sharpened, solarized, stretched
from xcnn.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Amounts: TypeAlias = "NDArray[np.float64]"
Operation: TypeAlias = Callable[[Array, Amounts, float], Array]
"""Of images, their amounts of -1 to 1, and what lies beyond their edges."""

MOST = 30
"""The largest magnitude, as the paper counts them."""


def moved(down: float = 0, right: float = 0) -> Operation:
    """Moves by shares of an image's sides."""

    def operation(x: Array, amounts: Amounts, fill: float) -> Array:
        sides = np.array([x.shape[3], x.shape[2]])
        moves = np.rint(amounts[:, None] * (right, down) * sides).astype(np.int64).tolist()
        pairs = zip(each(x), moves, strict=True)
        return batch_of(x, (shifted(image, by_x, by_y, fill) for image, (by_x, by_y) in pairs))

    return operation


def mapped(matrix: Callable[[float], list[list[float]]]) -> Operation:
    """Maps about the middle, by the matrix of an amount."""

    def operation(x: Array, amounts: Amounts, fill: float) -> Array:
        maps = np.array([matrix(amount) for amount in amounts.tolist()])
        return transformed(x, maps, np.zeros((len(maps), 2)), fill)

    return operation


def rotation(amount: float) -> list[list[float]]:
    """By up to 30 degrees."""
    cos, sin = np.cos(np.pi / 6 * amount), np.sin(np.pi / 6 * amount)
    return [[cos, -sin], [sin, cos]]


OPERATIONS: dict[str, Operation] = {
    "identity": lambda x, amounts, fill: x,
    "shear x": mapped(lambda amount: [[1, 0.3 * amount], [0, 1]]),
    "shear y": mapped(lambda amount: [[1, 0], [0.3 * amount, 1]]),
    "translate x": moved(right=150 / 331),
    "translate y": moved(down=150 / 331),
    "rotate": mapped(rotation),
    "brightness": lambda x, amounts, fill: brightened(x, 1 + 0.9 * amounts),
    "saturation": lambda x, amounts, fill: saturated(x, 1 + 0.9 * amounts),
    "contrast": lambda x, amounts, fill: contrasted(x, 1 + 0.9 * amounts),
    "sharpness": lambda x, amounts, fill: sharpened(x, 1 + 0.9 * amounts),
    "posterize": lambda x, amounts, fill: posterized(x, 8 - np.rint(4 * np.abs(amounts))),
    "solarize": lambda x, amounts, fill: solarized(x, 1 - np.abs(amounts)),
    "autocontrast": lambda x, amounts, fill: stretched(x),
    "equalize": lambda x, amounts, fill: equalized(x),
}
"""The paper's, with the ranges that torchvision gives them; an amount is the magnitude / 30, of either sign."""


@checked
@dataclass(frozen=True)
class RandAugment:
    """Some operations on each image, drawn from fourteen, all of one magnitude: Cubuk et al. 2020.

    The operations are: none, shear, moves, rotation, brightness, saturation, contrast, sharpness, posterize, solarize,
    autocontrast and equalize. Cells are 0..1. What has a direction goes either way.

    Parameters
    ----------
    operations
        how many, one after another
    magnitude
        0 to 30, how strong each is: 30 shears by 0.3, moves by 45 % of a side, turns by 30 degrees, changes brightness
        and its like by 0.9, leaves 4 bits, and turns all tones over
    rate
        the share of images that are changed, 0 to 1
    fill
        what lies beyond an image's edges

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for images that are neither grey nor red, green and blue.

    Examples
    --------
    >>> images = np.arange(9.0).reshape(1, 1, 3, 3) / 9
    >>> xcnn.augment.RandAugment(2, 9)(images, xcnn.augment.Draws((0, 0), np.arange(1))).shape
    (1, 1, 3, 3)
    """

    operations: int = 2
    magnitude: float = 9.0
    rate: float = 1.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_whole("operations", self.operations)
        if not 0 <= self.magnitude <= MOST:
            raise OptionError("X104", f"magnitude must be a number of 0 to {MOST}; got {self.magnitude}.")
        check_share("rate", self.rate)
        check_between("fill", self.fill, -1e30, 1e30)

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        check_colours(self, x)
        u = draws.uniform(2 * self.operations + 1)
        changed = u[:, -1] < self.rate
        for n in range(self.operations):
            chosen = np.where(changed, np.floor(u[:, 2 * n] * len(OPERATIONS)), 0).astype(np.int64)
            x = self.by_kind(x, chosen, np.where(u[:, 2 * n + 1] < 0.5, 1, -1) * (self.magnitude / MOST))
        return x

    def by_kind(self, x: Array, chosen: NDArray[np.int64], amounts: Amounts) -> Array:
        """Each image changed by its operation: small ones of one operation together."""
        if not len(chosen):
            return x
        at_once = max(1, AT_ONCE // max(1, prod(x.shape[1:])))
        made: list[tuple[NDArray[np.int64], Array]] = []
        for kind, operation in enumerate(OPERATIONS.values()):
            those = np.flatnonzero(chosen == kind)
            parts = (those[n : n + at_once] for n in range(0, len(those), at_once))
            made.extend((places, operation(taken(x, places), amounts[places], self.fill)) for places in parts)
        return in_places(x, made)


def taken(x: Array, places: NDArray[np.int64]) -> Array:
    """Images of a batch; a single one is not copied."""
    first = int(places[0])
    return x[first : first + 1, ...] if len(places) == 1 else namespace(x).take(x, like(x, places), axis=0)
