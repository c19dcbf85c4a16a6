"""What augmentations have in common: options that are shares or ranges, images in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn.core.checks import is_number
from xcnn.core.types import Array
from xcnn.errors import OptionError, ShapeError, short

if TYPE_CHECKING:
    from xcnn.data.augment.draws import Draws


def check_share(name: str, value: object) -> None:
    """Raise X104 unless it is a number of 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:  # type: ignore[operator]
        raise OptionError("X104", f"{name} must be a number of 0 to 1; got {short(value)}.")


def check_range(name: str, value: tuple[float, float], most: float = float("inf")) -> None:
    """Raise X104 unless it is a pair of positive numbers, the smaller first, none beyond `most`."""
    numbers = len(value) == 2 and all(map(is_number, value))
    if not numbers or not 0 < value[0] <= value[1] <= most or value[1] == float("inf"):
        beyond = "" if most == float("inf") else f", at most {most:g}"
        raise OptionError(
            "X104", f"{name} must be two positive numbers, the smaller first{beyond}; got {short(value)}."
        )


def check_images(augmentation: object, x: Array, draws: Draws) -> None:
    """Raise X101 unless x is a batch of images, (N, C, H, W), for whose samples there are draws."""
    if x.ndim != 4 or 0 in x.shape[1:]:
        expected = "expected (batch, channels, height, width)"
        raise ShapeError("X101", "changes images.", f"got x {tuple(x.shape)}, {expected}", layer=augmentation)
    check_drawn(augmentation, x, draws)


def check_drawn(augmentation: object, x: Array, draws: Draws) -> None:
    """Raise X101 unless there are draws for each sample of the batch."""
    if not x.ndim or x.shape[0] != len(draws.samples):
        told = f"got x {tuple(x.shape)}, and draws of {len(draws.samples)} samples"
        raise ShapeError("X101", "wants draws for each sample.", told, layer=augmentation)
