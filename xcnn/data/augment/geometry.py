"""Augmentations that move what an image shows."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from array_api_compat import is_writeable_array

from xcnn.core.arrays import full, namespace, zeros
from xcnn.core.checks import check_between, check_positive, check_whole
from xcnn.core.names import unknown
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.data.augment.checks import check_images, check_range, check_share
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.resampling import each, enlarged, in_groups, like, sampled, side_by_side
from xcnn.errors import OptionError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@checked
@dataclass(frozen=True)
class Translate:
    """Move images by whole cells, each by other ones, as a crop from an image with cells added around does.

    Parameters
    ----------
    cells
        how far at most, in each direction, up and down as well as sideways
    mode
        what comes in at the edge: "zero", "reflect" (the image mirrored at its outermost cells) or "edge" (these cells)

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for images too small to be mirrored so far.

    Examples
    --------
    >>> images = np.ones((1, 1, 3, 3))
    >>> xcnn.augment.Translate(1)(images, xcnn.augment.Draws((0, 0), np.arange(1))).tolist()
    [[[[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]]
    """

    cells: int
    mode: Literal["zero", "reflect", "edge"] = "zero"

    def __post_init__(self) -> None:
        check_whole("cells", self.cells)
        if self.mode not in ("zero", "reflect", "edge"):
            raise unknown("mode", self.mode, ("zero", "reflect", "edge"))

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        if self.mode == "reflect" and self.cells >= min(x.shape[2:]):
            told = f"can't mirror images of {x.shape[2]} x {x.shape[3]} cells {self.cells} cells far."
            raise ShapeError("X101", told, layer=self, hint='give fewer cells, or mode="edge".')
        moves = self.cells - np.floor(draws.between(0, 2 * self.cells + 1, 2)).astype(np.int64)
        return side_by_side(x, (self.moved(image, *by) for image, by in zip(each(x), moves.tolist(), strict=True)))

    def moved(self, image: Array, down: int, right: int) -> list[Array]:
        """The parts, from left to right, of an image (C, H, W) that is moved."""
        rows = self.parts(image, down, 1)
        return self.parts(namespace(image).concat(rows, axis=1) if len(rows) > 1 else image, right, 2)

    def parts(self, image: Array, by: int, axis: int) -> list[Array]:
        """An image moved along an axis, in parts: what stays in sight of it, and what comes in before or behind."""
        size, count = image.shape[axis], min(abs(by), image.shape[axis])
        if by > 0:
            return [self.beyond(image, count, axis, before=True), cells(image, axis, 0, size - count)]
        if by < 0:
            return [cells(image, axis, count, size), self.beyond(image, count, axis, before=False)]
        return [image]

    def beyond(self, image: Array, count: int, axis: int, before: bool) -> Array:
        """So many cells as come in at an edge."""
        xp, last = namespace(image), image.shape[axis] - 1
        if self.mode == "reflect":
            first = 1 if before else last - count
            return xp.flip(cells(image, axis, first, first + count), axis=axis)
        shape = (*image.shape[:axis], count, *image.shape[axis + 1 :])
        if self.mode == "zero":
            return zeros(image, shape)
        outermost = 0 if before else last
        return xp.broadcast_to(cells(image, axis, outermost, outermost + 1), shape)


def cells(x: Array, axis: int, first: int, end: int) -> Array:
    """A view of X from one cell of an axis to before another."""
    return x[(slice(None),) * axis + (slice(first, end), ...)]


@checked
@dataclass(frozen=True)
class RandomResizedCrop:
    """A part of each image, made as large as the image: Szegedy et al. 2015, "Going deeper with convolutions".

    Bilinear. The part's share of the area is uniform within `scale`, the logarithm of its width by its height within
    that of `ratio`; where ten draws do not fit into the image, it is the largest one in the middle of an allowed ratio.

    Parameters
    ----------
    scale
        of the area, the least and the largest share
    ratio
        of width by height, the least and the largest

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> images = np.arange(9.0).reshape(1, 1, 3, 3) / 9
    >>> xcnn.augment.RandomResizedCrop()(images, xcnn.augment.Draws((0, 0), np.arange(1))).shape
    (1, 1, 3, 3)
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    TRIES = 10

    def __post_init__(self) -> None:
        check_range("scale", self.scale, most=1)
        check_range("ratio", self.ratio)

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        height, width = x.shape[2:]
        parts = np.asarray(self.parts(height, width, draws), np.int64).reshape(-1, 4)
        return in_groups(x, lambda images, those: enlarged(images, parts[those]))

    def parts(self, height: int, width: int, draws: Draws) -> NDArray[np.int64]:
        """Of each image the part's first row and column, its height and its width: (N, 4)."""
        u = draws.uniform(2 * self.TRIES + 2)
        area = height * width * (self.scale[0] + (self.scale[1] - self.scale[0]) * u[:, : self.TRIES])
        low, high = (log(ratio) for ratio in self.ratio)
        ratio = np.exp(low + (high - low) * u[:, self.TRIES : 2 * self.TRIES])
        wide, tall = (np.rint(np.sqrt(each)).astype(np.int64) for each in (area * ratio, area / ratio))
        fits = (wide > 0) & (tall > 0) & (wide <= width) & (tall <= height)
        least, most = self.ratio
        central = np.array([round(min(height, width / least)), round(min(width, height * most))])
        first, some = np.argmax(fits, axis=1), fits.any(axis=1, keepdims=True)
        sides = np.stack([tall, wide], axis=-1)[np.arange(len(fits)), first]
        sides = np.where(some, sides, central)
        corners = np.where(some, u[:, -2:], 0.5) * (np.array([height, width]) - sides + 1)
        return np.concatenate([corners.astype(np.int64), sides], axis=1)


@checked
@dataclass(frozen=True)
class Affine:
    """Turn, move, scale and shear images about their middle, each in its own way; bilinear.

    A place p of the result, from the middle on, shows the place A⁻¹ (p - t) of the image, A being rotation, shear and
    scale, and t the move.

    Parameters
    ----------
    degrees
        by which they are turned at most, clockwise or the other way
    translate
        how far they are moved at most, sideways and up or down, in shares of the width and the height
    scale
        the least and the largest factor of their size
    shear
        degrees by which their columns lean at most
    fill
        what lies beyond an image's edges

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> images = np.arange(9.0).reshape(1, 1, 3, 3) / 9
    >>> xcnn.augment.Affine(degrees=10, scale=(0.9, 1.1))(images, xcnn.augment.Draws((0, 0), np.arange(1))).shape
    (1, 1, 3, 3)
    """

    degrees: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_between("degrees", self.degrees, 0, 360)
        check_share("translate", self.translate)
        check_range("scale", self.scale)
        check_between("shear", self.shear, 0, 90)
        check_between("fill", self.fill, -1e30, 1e30)

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        height, width = x.shape[2:]
        u = draws.uniform(5)
        angle, lean = (np.deg2rad(most) * (2 * u[:, n] - 1) for n, most in ((0, self.degrees), (1, self.shear)))
        size = self.scale[0] + (self.scale[1] - self.scale[0]) * u[:, 2]
        move = self.translate * (2 * u[:, 3:] - 1) * (width, height)
        return transformed(x, matrix(angle, lean, size), move, self.fill)


def Rotate(degrees: float, fill: float = 0.0) -> Affine:
    """Turn images about their middle, by as many degrees at most: an `Affine`.

    Parameters
    ----------
    degrees
        clockwise or the other way
    fill
        what lies beyond an image's edges

    Returns
    -------
    Affine
        that does no more

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> images = np.arange(9.0).reshape(1, 1, 3, 3) / 9
    >>> xcnn.augment.Rotate(10)(images, xcnn.augment.Draws((0, 0), np.arange(1))).shape
    (1, 1, 3, 3)
    """
    return Affine(degrees=check_positive("degrees", degrees), fill=fill)


def matrix(angle: Any, lean: Any, size: Any) -> NDArray[np.float64]:
    """A of (x, y): turned clockwise as it is seen, y counting down, leaning by `lean`, both in radians, and scaled.

    (2, 2) of three numbers, (N, 2, 2) of N of each.
    """
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    lean = np.tan(lean)
    rows = [np.stack([cos, cos * lean - sin], axis=-1), np.stack([sin, sin * lean + cos], axis=-1)]
    made: NDArray[np.float64] = np.stack(rows, axis=-2)
    return made


def transformed(x: Array, a: NDArray[np.float64], moves: NDArray[np.float64], fill: float) -> Array:
    """Images (N, C, H, W), each by its matrix (N, 2, 2) of (x, y) about its middle, and its move (N, 2)."""
    height, width = x.shape[2:]
    if np.any(np.abs(np.linalg.det(a)) < 1e-12):
        raise OptionError("X104", "an image can't be made a line: its scale is 0.")
    back, middle = np.linalg.inv(a), (np.array([width, height]) - 1) / 2
    if not np.isfinite(back).all():
        raise OptionError("X104", "an image can't be scaled so far: 1 / scale is no number.")

    def change(images: Array, those: slice) -> Array:
        by, (right, down) = back[those, :, :, None, None], (moves[those, n, None, None] for n in (0, 1))
        x_at = np.arange(width)[None, None, :] - middle[0] - right
        y_at = np.arange(height)[None, :, None] - middle[1] - down
        columns, rows = (by[:, n, 0] * x_at + (by[:, n, 1] * y_at + middle[n]) for n in (0, 1))
        return sampled(images, rows, columns, fill)

    return in_groups(x, change)


@checked
@dataclass(frozen=True)
class Cutout:
    """A square of each image covered, which may reach over its edge: DeVries and Taylor 2017; also random erasing.

    Parameters
    ----------
    size
        of the square, in cells
    rate
        the share of images that have one, 0 to 1
    fill
        what covers it

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> images = np.ones((1, 1, 3, 3))
    >>> xcnn.augment.Cutout(1)(images, xcnn.augment.Draws((0, 0), np.arange(1))).tolist()
    [[[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]]]]
    """

    size: int
    rate: float = 1.0
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_whole("size", self.size)
        check_share("rate", self.rate)
        check_between("fill", self.fill, -1e30, 1e30)

    def __call__(self, x: Array, draws: Draws) -> Array:
        check_images(self, x, draws)
        u, sides = draws.uniform(3), np.array(x.shape[2:])
        first = np.floor(u[:, 1:] * sides).astype(np.int64) - self.size // 2
        first, end = (np.clip(at, 0, sides) for at in (first, first + self.size))
        end = np.where(u[:, :1] < self.rate, end, first)
        made = namespace(x).asarray(x, copy=True)
        if not is_writeable_array(made):
            return self.chosen(x, first, end)
        for n, ((top, left), (bottom, right)) in enumerate(zip(first.tolist(), end.tolist(), strict=True)):
            made[n, :, top:bottom, left:right] = self.fill
        return made

    def chosen(self, x: Array, first: NDArray[np.int64], end: NDArray[np.int64]) -> Array:
        """The same of images that can't be written to; squares go from (row, column) `first` (N, 2) to before `end`."""
        rows, columns = (
            (np.arange(size) >= first[:, n, None]) & (np.arange(size) < end[:, n, None])
            for n, size in enumerate(x.shape[2:])
        )
        covered = rows[:, None, :, None] & columns[:, None, None, :]
        return namespace(x).where(like(x, covered), full(x, (), self.fill), x)
