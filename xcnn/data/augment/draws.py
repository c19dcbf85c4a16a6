"""What an augmentation draws: numbers that follow from the seed, the epoch and each sample's number in its data set.

So a sample is changed in the same way in whatever batch it comes, by whichever thread or backend, and after training is
resumed; and no two epochs change it alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xcnn.core.random import MASK, Key, encrypt, fold
from xcnn.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST = 2**12
"""Numbers of one sample, of one augmentation."""


folded: Callable[[Key], tuple[int, int]] = lru_cache(64)(fold)
"""Keys of augmentations are asked for again with each batch of an epoch, and folding one takes as long as drawing."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch's samples.

    Parameters
    ----------
    key
        a path of whole numbers, as all random keys: the seed, the epoch, the place of the augmentation
    samples
        (samples,) their numbers in the data set

    Raises
    ------
    OptionError
        X104, from its methods, for a count that can't be.

    Examples
    --------
    >>> draws = xcnn.augment.Draws((0, 3), np.arange(2))  # of the seed 0 and the epoch 3
    >>> draws.samples.tolist()
    [0, 1]
    """

    key: Key
    samples: NDArray[np.int64]

    def child(self, *place: int) -> Draws:
        """Those of an augmentation within this one."""
        return Draws((*self.key, *place), self.samples)

    def of(self, chosen: Any) -> Draws:
        """Those of some of the samples, by an index or a mask."""
        return Draws(self.key, self.samples[chosen])

    def uniform(self, count: int = 1) -> NDArray[np.float64]:
        """(samples, count) numbers of [0, 1), in steps of 2^-53; each call gives the same."""
        if not 0 < count <= MOST:
            raise OptionError("X104", f"count must be 1 to {MOST}; got {count}.")
        samples = np.broadcast_to(self.samples[:, None], (len(self.samples), count))
        high = (samples & MASK).astype(np.uint32)
        low = ((samples >> 32) * MOST + np.arange(count) & MASK).astype(np.uint32)
        encrypt(folded(self.key), high, low)
        numbers: NDArray[np.float64] = (high * 2.0**21 + (low >> 11)) * 2.0**-53
        return numbers

    def between(self, low: float, high: float, count: int = 1) -> NDArray[np.float64]:
        """The same of [low, high)."""
        return low + (high - low) * self.uniform(count)
