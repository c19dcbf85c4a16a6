"""Views of samples that are asked about: each seen in several ways, whose answers are averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from xcnn.data.augment.batches import Augmentation, check_augment, kept_alike
from xcnn.data.augment.draws import Draws
from xcnn.data.source import Around, Batch, Job, Pass
from xcnn.errors import OptionError, short

VIEWS = 0x71E3
"""What tells the keys of views from those of augmentations and layers."""


def check_views(given: Any) -> tuple[Augmentation | None, ...]:
    """Views as a tuple: augmentations, and None for the samples themselves.

    Raises
    ------
    OptionError
        X104, for anything else, and for an augmentation that mixes samples.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        hint = "views=[None, xcnn.augment.Flip(1)] sees each image as it is, and mirrored."
        raise OptionError("X104", f"views are a list of augmentations; got {short(given)}.", hint=hint)
    views = tuple(given)
    for view in views:
        if view is not None:
            check_augment([view])
        if hasattr(view, "mix"):
            raise OptionError("X104", f"{short(view)} mixes samples, whose outputs would be of none of them.")
    return views


@dataclass(frozen=True, eq=False)
class Seen(Around):
    """A source in one view of it.

    Parameters
    ----------
    source
        what is seen
    view
        the augmentation
    key
        what its draws follow from, beside each sample's number
    """

    view: Augmentation
    key: tuple[int, ...]

    def jobs(self, way: Pass) -> Iterator[Job]:
        return (partial(self.seen, job) for job in self.source.jobs(way))

    def seen(self, job: Job) -> Batch:
        """A batch, in the view."""
        x, t, numbers = job()
        if not len(numbers):
            return Batch(x, t, numbers)
        return Batch(kept_alike(self.view, x, self.view(x, Draws((*self.key, VIEWS), numbers))), t, numbers)
