"""Signals made longer or shorter: the layers of images, on images of height 1."""

from __future__ import annotations

from dataclasses import dataclass

from xcnn.core.checks import check_whole
from xcnn.core.options import checked
from xcnn.core.types import EdgeMode, Interpolation, Pair
from xcnn.layers.cropping2d import Cropping2D
from xcnn.layers.half import computes_in_half, wide_call
from xcnn.layers.padding2d import Padding2D
from xcnn.layers.signals import OfSignals, along
from xcnn.layers.upsampling2d import UpSampling2D
from xcnn.layers.zero_padding2d import ZeroPadding2D


@wide_call
@checked
@dataclass(frozen=True)
class UpSampling1D(OfSignals):
    """(N, C, L) -> (N, C, L size): each cell repeated, or lines drawn between the cells, as in UpSampling2D.

    Parameters
    ----------
    size
        cells for each one of X
    interpolation
        "nearest" or "bilinear", which here is linear

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.UpSampling1D(3).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 300))
    """

    size: int = 2
    interpolation: Interpolation = "nearest"

    def __post_init__(self) -> None:
        check_whole("size", self.size)
        self.twin()

    def twin(self) -> UpSampling2D:
        return UpSampling2D((1, self.size), self.interpolation)


@computes_in_half
@checked
@dataclass(frozen=True)
class ZeroPadding1D(OfSignals):
    """Y = X with zeros before and after it, (N, C, L) -> (N, C, before + L + after);  dX = dY without its ends.

    Parameters
    ----------
    padding
        cells of zeros: p for both ends or (before, after)

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit.

    Examples
    --------
    >>> xcnn.ZeroPadding1D((1, 2)).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 103))
    """

    padding: int | Pair = 1

    def __post_init__(self) -> None:
        self.twin()

    def twin(self) -> ZeroPadding2D:
        return ZeroPadding2D(along(self.padding))  # type: ignore[arg-type]


@wide_call
@checked
@dataclass(frozen=True)
class Padding1D(OfSignals):
    """Y = X with copies of its own cells at its ends, (N, C, L) -> (N, C, before + L + after), as in Padding2D.

    Parameters
    ----------
    padding
        cells more: p at both ends or (before, after)
    mode
        "reflect", "edge" or "wrap"

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where it has too few cells to be reflected or wrapped.

    Examples
    --------
    >>> xcnn.Padding1D((1, 2)).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 103))
    """

    padding: int | Pair = 1
    mode: EdgeMode = "reflect"

    def __post_init__(self) -> None:
        self.twin()

    def twin(self) -> Padding2D:
        return Padding2D(along(self.padding), self.mode)  # type: ignore[arg-type]


@computes_in_half
@checked
@dataclass(frozen=True)
class Cropping1D(OfSignals):
    """Y = X without its ends, (N, C, L) -> (N, C, L - before - after);  dX = dY with zeros before and after it.

    Parameters
    ----------
    cropping
        cells to leave out: p at both ends or (before, after)

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where nothing would be left.

    Examples
    --------
    >>> xcnn.Cropping1D((1, 2)).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 97))
    """

    cropping: int | Pair = 1

    def __post_init__(self) -> None:
        self.twin()

    def twin(self) -> Cropping2D:
        return Cropping2D(along(self.cropping))  # type: ignore[arg-type]
