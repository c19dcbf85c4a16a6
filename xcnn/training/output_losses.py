"""The loss of a net of several outputs: one for each, and the sum of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from typing import Any

from xcnn.core.arrays import full, namespace
from xcnn.core.checks import check_rate
from xcnn.core.types import Array, Shape
from xcnn.errors import OptionError
from xcnn.layers.packed import apart, together
from xcnn.training.losses import LOSSES, OF_LABELS, THRESHOLDS, Loss, ignored, loss_name, takes_weights

LEFT_OUT = -1.0
"""Each share of the classes at a place whose label does not count."""


@dataclass(frozen=True)
class OutputLoss:
    """The loss of one output.

    Parameters
    ----------
    output
        its name
    shape
        of it, for one sample
    loss
        a name in LOSSES, or a function (y, t) -> (value, dy)
    options
        of a loss by name, as pairs
    weight
        of its value in the sum
    """

    output: str
    shape: Shape
    loss: str | Loss
    options: tuple[tuple[str, float], ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_rate("weight", self.weight)
        if isinstance(self.loss, str) and (self.loss not in LOSSES or self.loss in OF_LABELS):
            what = "is the loss of a net of one output" if self.loss in OF_LABELS else "is no loss"
            raise OptionError("X104", f"{self.output!r}: {self.loss!r} {what}.")

    @property
    def function(self) -> Loss:
        """The loss itself."""
        if not isinstance(self.loss, str):
            return self.loss
        return partial(LOSSES[self.loss], **dict(self.options)) if self.options else LOSSES[self.loss]

    @property
    def threshold(self) -> float | None:
        """Where a single unit's class changes; None where it is no classifier's."""
        return THRESHOLDS.get(self.loss) if isinstance(self.loss, str) else None

    @property
    def ignore_index(self) -> int | None:
        """The label of what the loss leaves out; None where all count."""
        return ignored(self.function)

    def __call__(self, y: Array, t: Array, weights: Array | None = None) -> tuple[Array, Array]:
        """The loss and its gradient, without the weight, over the places that count."""
        if self.ignore_index is not None:
            t, counts = counted_out(t)
            weights = counts if weights is None else counts * beside(weights, counts)
        return self.function(y, t, **({} if weights is None else {"weights": weights}))


@dataclass(frozen=True)
class OutputLosses:
    """E = sum of w_n E_n(y_n, t_n);  dE/dy_n = w_n dE_n/dy_n. Outputs and targets lie side by side (layers/packed.py).

    Parameters
    ----------
    parts
        the loss of each output, in their order
    """

    parts: tuple[OutputLoss, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not all(isinstance(part, OutputLoss) for part in self.parts):
            raise OptionError("X104", "the losses of several outputs are a tuple of OutputLoss.")

    def __call__(self, y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
        shapes = [part.shape for part in self.parts]
        values, slopes = [], []
        for part, mine, target in zip(self.parts, apart(y, shapes), apart(t, shapes), strict=True):
            value, dy = part(mine, target, weights)
            values.append(part.weight * value)
            slopes.append(part.weight * dy)
        return sum(values[1:], values[0]), together(slopes)

    @property
    def is_known(self) -> bool:
        """Whether all are losses by name, which a checkpoint can keep."""
        return all(isinstance(part.loss, str) for part in self.parts)

    @property
    def takes_weights(self) -> bool:
        """Whether each takes weights of samples."""
        return all(takes_weights(part.function) for part in self.parts)

    @property
    def leaves_out(self) -> bool:
        """Whether labels of an output may not count, so that the outputs' means are over different numbers of them."""
        return any(part.ignore_index is not None for part in self.parts)

    def edges(self) -> list[tuple[int, int]]:
        """Where each output begins and ends among the cells."""
        return [*pairwise([0, *accumulate(prod(part.shape) for part in self.parts)])]


def counted_out(t: Array) -> tuple[Array, Array]:
    """Shares of the classes, 0 where labels are left out; and (N, ...) 1 for the places that count, else 0."""
    xp = namespace(t)
    counts = t[:, 0, ...] >= 0
    return xp.where(xp.expand_dims(counts, axis=1), t, full(t, (), 0)), xp.astype(counts, t.dtype)


def beside(weights: Array, counts: Array) -> Array:
    """Weights of samples in a shape that goes with places."""
    return namespace(weights).reshape(weights, (weights.shape[0], *(1 for _ in counts.shape[1:])))


def check_one_mean(loss: Any, sharing: str) -> None:
    """Raise X104 for a loss that is no single mean, of which parts of a batch would have portions."""
    if isinstance(loss, OutputLosses) and loss.leaves_out:
        told = f"several outputs, one of whose losses leaves labels out, have no common mean that {sharing} could share"
        raise OptionError("X104", f"{told}.", hint="weigh samples instead: sample_weight=...")


def options_of(loss: Any) -> tuple[Any, tuple[tuple[str, float], ...]]:
    """A loss as its name and options, if it is one of xcnn's, else itself."""
    name = loss_name(loss)
    if not name:
        return loss, ()
    return name, tuple(sorted(loss.keywords.items())) if isinstance(loss, partial) else ()
