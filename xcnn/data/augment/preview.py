"""What augmentations make of images, as a picture."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.data.augment.batches import Augmentation, augmented, check_augment
from xcnn.errors import ShapeError, counted

if TYPE_CHECKING:
    from PIL import Image

GAP = 2
"""Cells between two images."""


def preview(
    augment: Augmentation | Iterable[Augmentation], x: Any, *, epochs: int = 7, seed: int = 0, scale: int = 1
) -> Image.Image:
    """A row for each image: itself, and what it becomes in so many epochs. A notebook shows it; `.save(path)` keeps it.

    Parameters
    ----------
    augment
        one augmentation, or several that images go through in turn, as `fit` takes them
    x
        (samples, channels, height, width), cells of 0..1, grey or red, green and blue
    epochs
        how many of each
    seed
        of the model that is going to be trained
    scale
        how many times as large images are shown

    Raises
    ------
    OptionError, ShapeError
        X104, X101, for what is no augmentation, and for what are no images.

    Returns
    -------
    PIL.Image.Image

    Examples
    --------
    >>> image = xcnn.augment.preview(xcnn.augment.Flip(), np.zeros((2, 1, 28, 28), "float32"), epochs=3)
    """
    from PIL import Image

    x, changes = np.asarray(x), check_augment(augment)
    epochs, scale = check_whole("epochs", epochs), check_whole("scale", scale)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape:
        told = f"got x {x.shape}, expected (samples, 1 or 3 channels, height, width)"
        raise ShapeError("X101", "a preview is of images, grey or of three colours.", told)
    samples, labels = np.arange(len(x)), np.eye(len(x), dtype=x.dtype)
    columns = [x] + [augmented(changes, x, labels, samples, (seed, n), labels.shape[1:])[0] for n in range(epochs)]
    (_, channels, height, width), side = x.shape, GAP
    sheet = np.ones((channels, len(x) * (height + side) - side, (epochs + 1) * (width + side) - side))
    for across, column in enumerate(columns):
        for down, image in enumerate(column):
            top, left = down * (height + side), across * (width + side)
            sheet[:, top : top + height, left : left + width] = image
    cells = np.rint(np.clip(sheet, 0, 1) * 255).astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    made = Image.fromarray(cells[0] if channels == 1 else cells.transpose(1, 2, 0))
    made.info["description"] = f"{counted(len(x), 'image')}, {counted(epochs, 'epoch')}"
    return made
