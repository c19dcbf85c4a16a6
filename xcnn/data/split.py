"""A data set parted in two: what is trained on, and what is held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core import random
from xcnn.core.arrays import check_texts, unmasked
from xcnn.core.checks import is_number
from xcnn.data.dataset import Samples
from xcnn.data.source import Numbered, Part, Source
from xcnn.errors import DataError, OptionError, counted, short

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPLIT = 0x5717
"""What tells the keys of splits from others."""


def split(x: Any, y: Any = None, share: float = 0.2, *, seed: int = 0) -> tuple[Any, Any]:
    """(x, y) to train on and (x, y) that is held back, each in the order that the samples had; no sample is in both.

    Of labels each class gives its share, as nearly as whole numbers go, and keeps one sample at least to train on.
    Which samples they are follows from the seed, their number and their labels.

    Parameters
    ----------
    x, y
        host arrays with a sample for each place of their first axis; y holds labels or targets. Or x is a source whose
        samples have numbers, such as `xcnn.data.folder` gives, and y None
    share
        of the samples that are held back, above 0 and below 1
    seed
        a whole number

    Returns
    -------
    ((x, y), (x, y))
        copies: those to train on first; of a source two sources, which read it

    Raises
    ------
    OptionError
        X104, for a share or a seed that it can't have, and a source whose samples come one after another.
    DataError
        X203, where x and y are of different lengths, or one part would be empty.

    Examples
    --------
    >>> import numpy as np
    >>> (x, y), (xv, yv) = xcnn.datasets.split(np.zeros((10, 3)), np.arange(10) % 2, 0.2)
    >>> len(x), len(xv), sorted(map(int, yv))
    (8, 2, [0, 1])
    """
    if isinstance(x, Source):
        return split_source(x, share, seed)
    given_y = y
    x, y = (np.asarray(unmasked(given, name)) for given, name in ((x, "x"), (y, "y")))
    check_texts(given_y, y, "y")
    if not (x.ndim and y.ndim) or len(x) != len(y):
        told = f"x has {counted(len(x), 'sample')}, y {len(y)}" if x.ndim and y.ndim else "x and y have no samples"
        raise DataError("X203", f"{told}.", hint="give as many labels as images.")
    held = held_back(y, share, seed)
    return Samples(x[~held], y[~held]), Samples(x[held], y[held])


def split_source(source: Source, share: float, seed: int) -> tuple[Part, Part]:
    """A source in two parts: what is trained on, and what is held back, of each class alike where labels are known."""
    if not isinstance(source, Numbered):
        hint = "give validation data of their own."
        raise OptionError("X104", "samples that come one after another can't be split.", hint=hint)
    labels = np.zeros(len(source), np.int64) if source.labels is None else np.asarray(source.labels)
    held = held_back(labels, share, seed)
    return Part(source, np.flatnonzero(~held)), Part(source, np.flatnonzero(held))


def held_back(y: NDArray[Any], share: float, seed: int) -> NDArray[np.bool_]:
    """(samples,), True where a sample is held back."""
    if not is_number(share) or not 0 < share < 1:
        raise OptionError("X104", f"the share that is held back must be above 0 and below 1; got {short(share)}.")
    samples, wanted = len(y), round(share * len(y))
    classes = classes_of(y)
    counts = np.bincount(classes, minlength=1)
    exact = wanted * counts / max(samples, 1)
    quota = np.minimum(np.floor(exact).astype(np.int64), np.maximum(counts - 1, 0))
    for one in np.argsort(-(exact - quota), kind="stable"):  # those that lack most give one more
        quota[one] += quota.sum() < wanted and quota[one] < counts[one] - 1
    if not quota.any():
        told = f"a share of {share:g} of {counted(samples, 'sample')} holds none back"
        raise DataError("X203", f"{told}.", hint="give a larger share, or more samples of a class.")
    order = random.generator(random.check_seed(seed), SPLIT).permutation(samples)
    by_class = order[np.argsort(classes[order], kind="stable")]
    place = np.arange(samples) - np.repeat(np.cumsum(counts) - counts, counts)  # within its class
    held = np.zeros(samples, np.bool_)
    held[by_class[place < np.repeat(quota, counts)]] = True
    return held


def classes_of(y: NDArray[Any]) -> NDArray[np.int64]:
    """(samples,) numbers of classes: of labels, or of rows of whole numbers, such as one-hot ones; else all 0.

    What has more values than half as many as samples is taken for a quantity.
    """
    one = np.zeros(len(y), np.int64)
    if y.ndim > 2 or not (y.dtype.kind in "iubUS" or (y.dtype.kind == "f" and np.array_equal(y, np.floor(y)))):
        return one
    values, classes = np.unique(y, axis=0, return_inverse=True)
    return classes.reshape(-1) if len(values) <= len(y) / 2 else one
