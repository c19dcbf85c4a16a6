"""Augmentations that mix each image with another of its batch, and their targets alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_positive
from xcnn.core.options import checked
from xcnn.core.types import Array
from xcnn.data.augment.checks import check_drawn, check_images, check_share
from xcnn.data.augment.draws import Draws
from xcnn.data.augment.resampling import like

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Mixing:
    """What mixes samples by shares that are drawn from Beta(alpha, alpha)."""

    alpha: float
    rate: float

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)
        check_share("rate", self.rate)

    def kept(self, u: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) the shares that samples keep of themselves, from two numbers of [0, 1) for each; 1 is not mixed."""
        return np.where(u[:, 0] < self.rate, beta(u[:, 1], self.alpha), 1.0)


@checked
@dataclass(frozen=True)
class Mixup(Mixing):
    """Share X + (1 - share) other, the other being the next sample of the batch: Zhang et al. 2018. Targets alike.

    Shares are drawn from Beta(alpha, alpha) for each sample.

    Parameters
    ----------
    alpha
        1 draws all shares alike, smaller ones those near 0 and 1
    rate
        the share of samples that are mixed, 0 to 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> x, t = np.ones((2, 1, 2, 2)), np.eye(2)
    >>> x, t = xcnn.augment.Mixup(0.2).mix(x, t, xcnn.augment.Draws((0, 0), np.arange(2)))
    >>> t.sum(axis=1).tolist()
    [1.0, 1.0]
    """

    alpha: float = 0.2
    rate: float = 1.0

    def mix(self, x: Array, t: Array, draws: Draws) -> tuple[Array, Array]:
        """X and its targets, (N, ...) of shares, mixed."""
        check_drawn(self, x, draws)
        kept = self.kept(draws.uniform(2))
        return blend(x, kept), blend(t, kept)


@checked
@dataclass(frozen=True)
class CutMix(Mixing):
    """A rectangle of each image is another's, that of the next sample of the batch: Yun et al. 2019.

    Its share of the area is one less a draw from Beta(alpha, alpha), its middle anywhere; targets are mixed by the
    areas that are seen.

    Parameters
    ----------
    alpha
        1 draws all shares alike
    rate
        the share of images that are mixed, 0 to 1

    Raises
    ------
    OptionError
        X104, for an option that it can't have.

    Examples
    --------
    >>> x, t = np.ones((2, 1, 2, 2)), np.eye(2)
    >>> x, t = xcnn.augment.CutMix().mix(x, t, xcnn.augment.Draws((0, 0), np.arange(2)))
    >>> t.sum(axis=1).tolist()
    [1.0, 1.0]
    """

    alpha: float = 1.0
    rate: float = 1.0

    def mix(self, x: Array, t: Array, draws: Draws) -> tuple[Array, Array]:
        """X, (N, C, H, W), and its targets, (N, ...) of shares, mixed."""
        check_images(self, x, draws)
        u, xp = draws.uniform(4), namespace(x)
        side = np.sqrt(1 - self.kept(u))
        within = []
        for place, cells in ((u[:, 2], x.shape[2]), (u[:, 3], x.shape[3])):
            middle, half = np.floor(place * cells), np.floor(side * cells / 2)
            at = np.arange(cells)
            within.append((at >= (middle - half)[:, None]) & (at < (middle + half)[:, None]))
        others = within[0][:, :, None] & within[1][:, None, :]
        y = xp.where(like(x, others[:, None]), xp.roll(x, -1, axis=0), x)
        return y, blend(t, 1 - others.mean(axis=(1, 2)))


def blend(x: Array, kept: NDArray[np.float64]) -> Array:
    """Kept X + (1 - kept) of the next sample's."""
    share = like(x, kept.reshape(-1, *[1] * (x.ndim - 1)))
    return share * x + (1 - share) * namespace(x).roll(x, -1, axis=0)


def beta(u: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Numbers of Beta(alpha, alpha), from those of [0, 1): where the distribution has reached u."""
    from scipy.special import betaincinv

    numbers: NDArray[np.float64] = betaincinv(alpha, alpha, u)
    return numbers
