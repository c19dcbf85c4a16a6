"""Where the ink is on a photo of paper: found locally, so that shadows, squared paper and faint pencils do not hide it.

What darkens the paper in narrow strokes is ink, what darkens it in areas is light: the ratio of a picture to its
morphological closing, the "black hat" of Meyer 1979 taken of logarithms, is 1 wherever no stroke is, on either side of
a shadow's edge and on the edge itself. The lines of ruled and squared paper go all across it: they are what is common
to whole rows and columns, once the paper is turned upright. Of what is left the parts above a threshold by hysteresis
(Canny 1986) are strokes, and those that are near each other are one digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xcnn.errors import DataError, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray

WORKED = 320
"""Cells of the longer side that ink is looked for at: beyond it pictures are averaged."""
WIDEST = 0.14
"""A stroke's width, by the shorter side, that is still taken for one."""
FAINTEST = 0.06
"""How much darker than its paper the faintest ink is."""
TURNED = 6.0
"""Degrees that a sheet may be turned by, where its lines are looked for."""
CHALK = 1.3
"""How much more what is light in narrow strokes must stand out than what is dark, to be the writing."""
CROSSED = 7
"""Cells across a line of the paper, with those beside it that it darkens."""
BOARD = 0.6
"""How light a board is at most, in the middle of its cells: on what is lighter nobody writes with chalk."""
NEAR = 0.12
"""How far parts of one digit lie from each other, by the larger side of the largest part."""
ABOVE = 0.3
"""The same of parts that lie above each other: digits stand side by side, so these are one broken stroke."""
THIN = 0.25
"""The same on evenly lit paper, where no shadow is taken for a digit: as little ink as a 1 beside a 0."""
LARGE = 0.5
"""Another digit is so large at least, by the larger side of the largest part."""
SECOND = 0.35
"""A part that is so large by the largest, and apart from it, is another digit."""


@dataclass(frozen=True)
class Ink:
    """The strokes of one digit on a photo.

    Parameters
    ----------
    strokes
        (height, width), how much darker than the paper each cell is, 0 beside the strokes
    box
        (top, bottom, left, right) of them, ends excluded
    factor
        how many of the photo's pixels a cell is wide
    lines
        whether lines of the paper were taken away
    """

    strokes: NDArray[np.float32]
    box: tuple[int, int, int, int]
    factor: int
    lines: bool


def find_ink(grey: NDArray[np.float32]) -> Ink:
    """The one digit on a photo of paper.

    Parameters
    ----------
    grey
        (height, width) in 0..1

    Raises
    ------
    DataError
        X208, where there is no ink, or that of several digits
    """
    from scipy import ndimage

    factor = max(1, round(max(grey.shape) / WORKED))
    dark = darkness(averaged(grey, factor))
    dark, lines = without_lines(dark)
    soft = ndimage.gaussian_filter(dark, 0.8)
    low, high = thresholds(soft)
    strokes = ndimage.binary_propagation(soft > high, mask=soft > low)
    parts, count = ndimage.label(strokes, np.ones((3, 3)))
    digit = chosen(parts, count, soft)
    rows, columns = (np.flatnonzero(digit.any(axis)) for axis in (1, 0))
    box = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    around = ndimage.binary_dilation(digit, iterations=1)
    return Ink(np.where(around, soft, 0).astype(np.float32), box, factor, lines)


def averaged(grey: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """The means of blocks of so many cells squared."""
    height, width = (n // factor * factor for n in grey.shape)
    blocks = grey[:height, :width].reshape(height // factor, factor, width // factor, factor)
    return np.asarray(blocks.mean((1, 3)), np.float32)


def darkness(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How much darker than the paper around it each cell is, 0..1; of chalk on a board, how much lighter."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(grey, 0.7, mode="nearest")
    side = max(5, round(WIDEST * min(grey.shape))) | 1
    paper, board = closed(smooth, side), 1 - closed(1 - smooth, side)
    is_dark = float(np.median(smooth)) < BOARD
    if is_dark and standing_out(smooth - board) > CHALK * standing_out(paper - smooth):
        smooth, paper = 1 - smooth, 1 - board
    return np.asarray(1 - (smooth + 0.02) / (paper + 0.02), np.float32)


def standing_out(strokes: NDArray[np.float32]) -> float:
    """How far the strongest hundredth of cells is above the usual one."""
    return float(np.quantile(strokes, 0.99) - np.median(strokes))


def closed(light: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The paper without what is darker and narrower than a square of this side.

    What is dark at the picture's border goes on beyond it: the end of a shadow, cut off by the border, is no stroke.
    """
    from scipy import ndimage

    beyond = np.pad(light, side, mode="edge")
    paper: NDArray[np.float32] = ndimage.grey_closing(beyond, (side, side))[side:-side, side:-side]
    return paper


def without_lines(dark: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """The darkness less the lines that the paper has, and whether it has any."""
    from scipy import ndimage

    turns = np.linspace(-TURNED, TURNED, 25)
    scores = [sharpness(turned(dark, turn)) for turn in turns]
    best = float(turns[int(np.argmax(scores))])
    upright, lines = turned(dark, best), np.zeros_like(dark)
    found = False
    for axis in (0, 1):
        profile = common(upright, axis)
        is_line = profile > max(0.02, 3 * float(np.median(profile)))
        if np.count_nonzero(is_line) < 3:
            continue
        found = True
        drawn = np.where(is_line, profile, 0)
        drawn = ndimage.maximum_filter1d(drawn, 3)
        drawn = np.broadcast_to(drawn[:, None] if axis == 0 else drawn[None], dark.shape)
        lines = np.maximum(lines, drawn)
    if not found:
        return dark, False
    back = ndimage.rotate(lines, -best, reshape=False, order=1, mode="nearest")
    left = np.clip(dark - 1.5 * back, 0, None)
    whole = ndimage.grey_closing(left, (CROSSED, CROSSED))  # a stroke on both sides of a line goes on below it
    return np.asarray(np.where(back > 0.01, whole, left), np.float32), True


def turned(dark: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """The picture turned about its middle; what comes in from beyond repeats its border."""
    from scipy import ndimage

    made: NDArray[np.float32] = ndimage.rotate(dark, degrees, reshape=False, order=1, mode="nearest")
    return made


def common(dark: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """What is dark all along each row (axis 0) or column, beyond what its neighbours are: (rows,)."""
    from scipy import ndimage

    along = np.quantile(dark, 0.4, axis=1 - axis)
    rest: NDArray[np.float32] = along - ndimage.median_filter(along, 15, mode="nearest")
    return np.clip(rest, 0, None)


def sharpness(dark: NDArray[np.float32]) -> float:
    """How sharp the lines of rows and columns are, once the paper is upright."""
    return float(sum((common(dark, axis) ** 2).sum() for axis in (0, 1)))


def thresholds(dark: NDArray[np.float32]) -> tuple[float, float]:
    """What a cell must be above to go on a stroke, and to begin one.

    Raises
    ------
    DataError
        X208, where nothing is darker than the paper's own grain.
    """
    noise = float(np.quantile(dark, 0.75))
    top = float(np.quantile(dark, 0.995))
    if top < max(FAINTEST, 2.5 * noise):
        told = f"no ink stands out from the paper: the darkest is {top:.0%} darker, its grain {noise:.0%}"
        raise DataError("X208", f"{told}.", hint="write with a darker pen, in more light.")
    return max(0.3 * top, 1.5 * noise), max(0.55 * top, 2 * noise)


def chosen(parts: NDArray[np.int32], count: int, dark: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The cells of the parts that are one digit.

    Raises
    ------
    DataError
        X208, where there are several digits, or none.
    """
    from scipy import ndimage

    boxes = ndimage.find_objects(parts, count)
    mass = ndimage.sum_labels(dark, parts, np.arange(1, count + 1))
    larger = np.array([max(extent(box)) for box in boxes], float)
    inside = np.array([not touches(box, dark.shape) for box in boxes], bool)
    weight = mass * np.where(inside, 1.0, 0.2) * (larger > 0.06 * max(dark.shape))
    if not count or not weight.max() > 0:
        raise DataError("X208", "no digit is found: what is dark is specks.", hint="write it larger, or come nearer.")
    main = int(np.argmax(weight))
    near = grown(boxes, main, larger, mass)
    as_large = np.flatnonzero((weight > SECOND * weight[main]) & (larger > LARGE * larger[main]))
    refuse_several([int(n) for n in as_large if n not in near])
    return np.isin(parts, [n + 1 for n in near])


def check_one(ink: NDArray[np.float32]) -> None:
    """Raise X208 where an evenly lit picture, 0 wherever there is no ink, has several digits on it."""
    from scipy import ndimage

    parts, count = ndimage.label(ink > 0, np.ones((3, 3)))
    boxes = ndimage.find_objects(parts, count)
    larger = np.array([max(extent(box)) for box in boxes], float)
    mass = ndimage.sum_labels(ink, parts, np.arange(1, count + 1))
    main = int(np.argmax(mass))
    near = grown(boxes, main, larger, mass)
    as_large = np.flatnonzero((mass > THIN * mass[main]) & (larger > LARGE * larger[main]))
    refuse_several([int(n) for n in as_large if n not in near])


def refuse_several(others: list[int]) -> None:
    """Raise X208 where there are others beside the digit."""
    if others:
        told = f"there are {counted(1 + len(others), 'digit')} on it, or something as large beside one."
        raise DataError("X208", told, hint="a net of digits knows one at a time: cut them out.")


def widened(strokes: NDArray[np.float32], wanted: float) -> NDArray[np.float32]:
    """Strokes of this width at least, in cells: their own is four times the mean distance to the edge."""
    from scipy import ndimage

    own = 4 * float(ndimage.distance_transform_edt(np.pad(strokes > 0.5, 1))[1:-1, 1:-1][strokes > 0.5].mean()) - 2
    radius = round((wanted - own) / 2)
    if radius < 1:
        return strokes
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    made: NDArray[np.float32] = ndimage.grey_dilation(
        np.pad(strokes, radius), footprint=x * x + y * y <= radius * radius, mode="constant"
    )
    return made


def grown(
    boxes: list[tuple[slice, ...]], main: int, larger: NDArray[np.float64], mass: NDArray[np.float64]
) -> set[int]:
    """The parts that belong to a digit: those near one that does, and not specks."""
    near = {main}
    able = [n for n in range(len(boxes)) if larger[n] > 0.08 * larger[main] and mass[n] > 0.01 * mass[main]]
    while True:
        more = {n for n in able if n not in near and any(is_near(boxes[n], boxes[m], larger[main]) for m in near)}
        if not more:
            return near
        near |= more


def is_near(one: tuple[slice, ...], other: tuple[slice, ...], size: float) -> bool:
    """Whether two boxes may be parts of a digit whose largest part is so large."""
    above = min(one[1].stop, other[1].stop) - max(one[1].start, other[1].start) > 0
    return gap(one, other) <= (ABOVE if above else NEAR) * size


def extent(box: tuple[slice, ...]) -> tuple[int, int]:
    """Height and width of a box."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def touches(box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    """Whether a box is at the border of the picture."""
    return any(side.start <= 0 or side.stop >= n for side, n in zip(box, shape, strict=True))


def gap(one: tuple[slice, ...], other: tuple[slice, ...]) -> float:
    """How far two boxes are from each other, 0 where they overlap."""
    apart = (max(a.start - b.stop, b.start - a.stop, 0) for a, b in zip(one, other, strict=True))
    return float(max(apart))
