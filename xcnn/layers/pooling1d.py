"""Poolings of signals: those of images, on images of height 1."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, ClassVar

from xcnn.core.checks import check_whole
from xcnn.core.options import checked
from xcnn.core.types import PaddingName, Pair
from xcnn.layers.average_pool2d import AveragePool2D
from xcnn.layers.global_average_pool2d import GlobalAveragePool2D
from xcnn.layers.global_max_pool2d import GlobalMaxPool2D
from xcnn.layers.half import computes_in_half, wide_call
from xcnn.layers.max_pool2d import MaxPool2D
from xcnn.layers.signals import OfSignals, along


@checked
@dataclass(frozen=True)
class Pool1D(OfSignals):
    """Windows of `pool_size` cells, `stride` cells apart (by default side by side), (N, C, L) -> (N, C, L')."""

    pool_size: int = 2
    stride: int | None = None
    _: KW_ONLY
    padding: PaddingName | int | Pair = "valid"
    ceil_mode: bool = False

    of_images: ClassVar[Any]
    """The two-dimensional layer's class."""

    def __post_init__(self) -> None:
        check_whole("pool_size", self.pool_size)
        if self.stride is not None:
            check_whole("stride", self.stride)
        self.twin()

    def twin(self) -> Any:
        return self.of_images(
            (1, self.pool_size),
            None if self.stride is None else (1, self.stride),
            padding=along(self.padding),
            ceil_mode=self.ceil_mode,
        )


@computes_in_half
@checked
@dataclass(frozen=True)
class MaxPool1D(Pool1D):
    """Y = max of each window, (N, C, L) -> (N, C, L');  dX = dY where the maximum stood, as in MaxPool2D.

    Parameters
    ----------
    pool_size
        cells of the window
    stride
        cells from a window to the next; None is the window's size
    padding
        cells at the ends of X that count for nothing: "valid" none, "same" as many as give L' = ceil(L / stride),
        "full" as many as make every overlap count; or p at both ends, or (before, after) of them
    ceil_mode
        whether cells that are left over at the end make one window more

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.MaxPool1D(3, stride=2).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 49))
    """

    of_images = MaxPool2D


@wide_call
@checked
@dataclass(frozen=True)
class AveragePool1D(Pool1D):
    """Y = mean of each window, (N, C, L) -> (N, C, L');  dX = dY / count to each of its cells, as in AveragePool2D.

    Parameters
    ----------
    pool_size
        cells of the window
    stride
        cells from a window to the next; None is the window's size
    padding
        cells at the ends of X that count for nothing: "valid" none, "same" as many as give L' = ceil(L / stride),
        "full" as many as make every overlap count; or p at both ends, or (before, after) of them
    ceil_mode
        whether cells that are left over at the end make one window more
    count_include_pad
        whether padded cells count, as zeros

    Raises
    ------
    OptionError
        X104, for an option that it can't have.
    ShapeError
        X101, for an input that does not fit; X102, where the window does not fit into it.

    Examples
    --------
    >>> xcnn.AveragePool1D(4).init(np.random.default_rng(0), (2, 100))
    ({}, (2, 25))
    """

    _: KW_ONLY
    count_include_pad: bool = False

    of_images = AveragePool2D

    def twin(self) -> Any:
        return replace(super().twin(), count_include_pad=self.count_include_pad)


@wide_call
@checked
@dataclass(frozen=True)
class GlobalAveragePool1D(OfSignals):
    """Y = mean of X over its length, (N, C, L) -> (N, C);  dX = dY / L in every cell.

    Raises
    ------
    ShapeError
        X101, for an input that is not (N, C, L).

    Examples
    --------
    >>> xcnn.GlobalAveragePool1D().init(np.random.default_rng(0), (2, 100))
    ({}, (2,))
    """

    def twin(self) -> GlobalAveragePool2D:
        return GlobalAveragePool2D()


@computes_in_half
@checked
@dataclass(frozen=True)
class GlobalMaxPool1D(OfSignals):
    """Y = max of X over its length, (N, C, L) -> (N, C);  dX = dY where the first maximum stood, else 0.

    Raises
    ------
    ShapeError
        X101, for an input that is not (N, C, L).

    Examples
    --------
    >>> xcnn.GlobalMaxPool1D().init(np.random.default_rng(0), (2, 100))
    ({}, (2,))
    """

    def twin(self) -> GlobalMaxPool2D:
        return GlobalMaxPool2D()
