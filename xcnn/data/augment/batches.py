"""A list of augmentations put to a batch of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np

from xcnn.core.arrays import namespace
from xcnn.core.checks import check_call
from xcnn.core.types import Array, Shape
from xcnn.data.augment.draws import Draws
from xcnn.errors import DTypeError, LabelError, OptionError, ShapeError, short

Augmentation: TypeAlias = Callable[[Array, Draws], Array]
"""A function of a batch and its draws; one that mixes samples has a method `mix(x, t, draws)` instead."""

AUGMENT = 0xA06
"""What tells the keys of augmentations from those of layers."""


def check_augment(given: Any) -> tuple[Any, ...]:
    """One augmentation, or a list of them, as a tuple.

    Parameters
    ----------
    given
        what is callable with (x, draws) or has `mix`, or a list or tuple of such

    Raises
    ------
    OptionError
        X104, for anything else.

    Examples
    --------
    >>> xcnn.augment.check_augment(xcnn.augment.Flip())
    (Flip(horizontal=0.5, vertical=0.0),)
    """
    listed = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    for each in listed:
        if isinstance(each, type):
            raise OptionError("X104", f"augment takes {each.__name__}(...), not the class.")
        if not hasattr(each, "mix"):
            check_call(each, 2, "augmentations", "(x, draws)")
    return listed


def augmented(
    augment: tuple[Any, ...], x: Array, t: Array, samples: Any, key: tuple[int, int], output_shape: Shape
) -> tuple[Array, Array]:
    """A batch and its targets, changed by each augmentation in turn.

    Parameters
    ----------
    augment
        augmentations, as `check_augment` gives them
    x, t
        (N, *input_shape), and labels or targets
    samples
        (N,) their numbers in the data set
    key
        the seed and the epoch
    output_shape
        of the model, which targets are shaped like once they are mixed

    Raises
    ------
    ShapeError, DTypeError
        X101, X103, for an augmentation that gives other shapes or types than it was given.
    LabelError
        X201, for labels that can't be mixed.

    Examples
    --------
    >>> x, t = np.zeros((2, 1, 4, 4), "float32"), np.array([0, 1])
    >>> chosen = xcnn.augment.check_augment(xcnn.augment.Flip())
    >>> xcnn.augment.augmented(chosen, x, t, np.arange(2), (0, 0), (2,))[0].shape
    (2, 1, 4, 4)
    """
    for place, each in enumerate(augment):
        draws = Draws((*key, AUGMENT, place), samples)
        if hasattr(each, "mix"):
            mixed, t = each.mix(x, shares(each, t, x, output_shape), draws)
            x = kept_alike(each, x, mixed)
        else:
            x = kept_alike(each, x, each(x, draws))
    return x, t


def kept_alike(augmentation: Any, x: Array, made: Array) -> Array:
    """What an augmentation made of x; raises X101 or X103 where that is of another shape or type."""
    if tuple(made.shape) != tuple(x.shape):
        told = f"got {tuple(made.shape)}, the batch was {tuple(x.shape)}"
        raise ShapeError("X101", "changed the shape of its batch.", told, layer=augmentation)
    if made.dtype != x.dtype:
        hint = "give an array like the one it is given."
        raise DTypeError("X103", f"{short(augmentation)} made {x.dtype} {made.dtype}.", hint=hint)
    return made


def shares(augmentation: Any, t: Array, x: Array, output_shape: Shape) -> Array:
    """Targets that can be mixed, (N, *output_shape) of x's type: labels become rows with a single 1."""
    if tuple(t.shape[1:]) == tuple(output_shape):
        return namespace(t).astype(t, x.dtype)
    if t.ndim != 1 or len(output_shape) != 1:
        told = f"{type(augmentation).__name__} mixes labels of whole images; these are {tuple(t.shape)}."
        raise LabelError("X201", told, hint="leave it out.")
    if output_shape[0] == 1:
        return namespace(t).astype(t[:, None], x.dtype)
    classes = np.arange(output_shape[0])
    xp = namespace(t)
    return xp.astype(t[:, None] == xp.asarray(classes, device=t.device)[None, :], x.dtype)
