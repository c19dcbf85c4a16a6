"""Losses: each gives its value, a mean, and beside it the gradient of that value by the predictions.

Labels are whole numbers, one for each sample, or one-hot (or any distribution) shaped like the predictions. A label
outside the classes makes the loss NaN, never a number that looks right; `fit` and `evaluate` refuse it beforehand, and
rows that are no distribution. A logit of -inf leaves its class out: what has no share in the target costs nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from inspect import signature
from math import exp, prod
from typing import TYPE_CHECKING, Any, TypeAlias

from array_api_compat import is_array_api_obj

from xcnn.core.arrays import full, is_real, namespace, rounded_once, zeros
from xcnn.core.checks import check_between, check_call, check_positive, home, is_number, plain
from xcnn.core.likeness import is_like, likeness
from xcnn.core.names import absent, unknown
from xcnn.core.pure import pure
from xcnn.core.types import Array, Shape
from xcnn.errors import OptionError, short
from xcnn.layers import Conv2D, Dense, Flatten, ReLU, Reshape, Sequential, Sigmoid, Softmax, Tanh
from xcnn.layers.activations import sigmoid
from xcnn.layers.layer import Layer
from xcnn.training.batch_losses import contrastive, dice, triplet
from xcnn.training.class_losses import focal, hinge, kl_divergence, nll, squared_hinge
from xcnn.training.targets import at_least_one, check_floating, mean_of, same_shape, share
from xcnn.training.targets import check_target_shape as check_target_shape
from xcnn.training.targets import targets as targets
from xcnn.training.weighting import parts, portions, without

Loss: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]
"""loss(y, t) -> (value, dy): a scalar array, and the gradient shaped like y."""


@rounded_once
def cross_entropy(
    y: Array, t: Array, *, label_smoothing: float = 0.0, ignore_index: int | None = None, weights: Array | None = None
) -> tuple[Array, Array]:
    """E = -mean over samples of sum_c t_c log softmax(y)_c;  dE/dy = (softmax(y) - t) / N.

    Parameters
    ----------
    y : (N, C) or (N, C, ...)
        logits, classes on axis 1
    t : (N,) or (N, ...) whole numbers 0 .. C - 1, or distributions shaped like y: 0 and above, with the sum 1
    label_smoothing
        s in t (1 - s) + s / C: Szegedy et al. 2016, section 7
    ignore_index
        a label of places that do not count, such as -100: the mean is over all others; None counts all
    weights : (N,) or (N, ...)
        of the samples or of each place: the mean is then sum(w e) / sum(w); None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.

    Examples
    --------
    >>> value, dy = xcnn.losses.cross_entropy(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.2201, [[-0.0596, 0.0596], [0.1345, -0.1345]])
    """
    label_smoothing = check_between("label_smoothing", label_smoothing, 0, 1)
    xp = namespace(y, t)
    t, counts = without(y, t, ignore_index)
    t = targets(y, t) * (1 - label_smoothing) + label_smoothing / y.shape[1]
    shifted = y - xp.max(y, axis=1, keepdims=True)
    log_p = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
    samples, dy = at_least_one(prod(y.shape) // y.shape[1]), xp.exp(log_p) * xp.sum(t, axis=1, keepdims=True) - t
    portion = portions(y, weights, counts, outputs=False)
    if portion is not None:
        return -xp.sum(parts(portion, share(t, log_p))), portion * dy
    return -xp.sum(share(t, log_p)) / samples, dy / samples


def binary_cross_entropy(y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
    """E = -mean(t log y + (1 - t) log(1 - y));  dE/dy = ((1 - t) / (1 - y) - t / y) / size. The article's loss.

    `y` holds probabilities, (N, units); they are clipped to the smallest normal number of their type and to the largest
    below 1, so that both stay finite. Labels (N,) are one-hot for several units, 0 or 1 for one.

    Parameters
    ----------
    y : (N, units)
        probabilities
    t : (N, units) or (N,)
        probabilities, or labels
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.

    Examples
    --------
    >>> value, dy = xcnn.losses.binary_cross_entropy(np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.1643, [[-0.5556, 0.625]])
    """
    xp = check_floating(y, t)
    limits = xp.finfo(y.dtype)
    least, most = (full(y, (), value) for value in (float(limits.smallest_normal), 1 - float(limits.eps) / 2))
    p = xp.minimum(xp.maximum(y, least), most)
    return _binary_cross_entropy(p, targets(y, t), weights=weights)


@rounded_once
def _binary_cross_entropy(p: Array, t: Array, *, weights: Array | None) -> tuple[Array, Array]:
    """The formula, for probabilities that are clipped."""
    xp, size = namespace(p, t), at_least_one(prod(p.shape))
    portion = portions(p, weights)
    if portion is not None:
        terms = t * xp.log(p) + (1 - t) * xp.log(1 - p)
        return -xp.sum(parts(portion, terms)), portion * ((1 - t) / (1 - p) - t / p)
    return -xp.sum(t * xp.log(p) + (1 - t) * xp.log(1 - p)) / size, ((1 - t) / (1 - p) - t / p) / size


@rounded_once
def binary_cross_entropy_with_logits(y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean(max(y, 0) - y t + log(1 + exp(-|y|)));  dE/dy = (sigmoid(y) - t) / size.

    Binary cross-entropy of sigmoid(y), in the form that neither overflows nor cancels: max(y, 0) - y t is
    (1 - t) max(y, 0) + t max(-y, 0), and sigmoid(y) - t is (1 - t) sigmoid(y) - t sigmoid(-y).

    Parameters
    ----------
    y : (N, units)
        logits
    t : (N, units) or (N,)
        probabilities, or labels
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.

    Examples
    --------
    >>> value, dy = xcnn.losses.binary_cross_entropy_with_logits(np.array([[2.0, -1.0]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.2201, [[-0.0596, 0.1345]])
    """
    xp = namespace(y, t)
    t, zero = targets(y, t), zeros(y, ())
    value = share(1 - t, xp.maximum(y, zero)) + share(t, xp.maximum(-y, zero)) + xp.log1p(xp.exp(-xp.abs(y)))
    return mean_of(y, value, (1 - t) * sigmoid(xp, y) - t * sigmoid(xp, -y), weights)


@rounded_once
def mse(y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean((y - t)^2);  dE/dy = 2 (y - t) / size.

    Parameters
    ----------
    y
        the net's outputs, of any shape
    t
        targets, shaped like y
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, where t is not.

    Examples
    --------
    >>> value, dy = xcnn.losses.mse(np.asarray([1.0, 2.0]), np.asarray([0.0, 2.0]))
    >>> float(value), dy.tolist()
    (0.5, [1.0, 0.0])
    """
    error = y - same_shape(y, t)
    return mean_of(y, error * error, 2 * error, weights)


@rounded_once
def mae(y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean(|y - t|);  dE/dy = sign(y - t) / size.

    Parameters
    ----------
    y
        the net's outputs, of any shape
    t
        targets, shaped like y
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, where t is not.

    Examples
    --------
    >>> value, dy = xcnn.losses.mae(np.array([[3.0, 0.5]]), np.array([[0.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (1.75, [[0.5, 0.5]])
    """
    xp = namespace(y, t)
    error = y - same_shape(y, t)
    one = full(error, (), 1.0)
    slope = xp.where(error > 0, one, xp.where(error < 0, -one, error))  # PyTorch's and CuPy's sign wait for the device
    return mean_of(y, xp.abs(error), slope, weights)


@rounded_once
def huber(y: Array, t: Array, *, delta: float = 1.0, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean of e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), e = y - t;  dE/dy = e, clipped, / size.

    Huber 1964.

    Parameters
    ----------
    y
        the net's outputs, of any shape
    t
        targets, shaped like y
    delta
        from there on an error counts in proportion, in units of y; above 0
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, where t is not shaped so.
    OptionError
        X104, for a delta that can't be.

    Examples
    --------
    >>> value, dy = xcnn.losses.huber(np.array([[3.0, 0.5]]), np.array([[0.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (1.3125, [[0.5, 0.25]])
    """
    delta = check_positive("delta", delta)
    xp = namespace(y, t)
    error = y - same_shape(y, t)
    most = full(error, (), delta)
    near = xp.maximum(xp.minimum(error, most), -most)  # CuPy's clip waits for the device
    return mean_of(y, near * (error - 0.5 * near), near, weights)


LOSSES: dict[str, Callable[..., tuple[Array, Array]]] = {
    f.__name__: pure(f)
    for f in (
        binary_cross_entropy, binary_cross_entropy_with_logits, contrastive, cross_entropy, dice, focal, hinge, huber,
        kl_divergence, mae, mse, nll, squared_hinge, triplet,
    )
}  # fmt: skip
NAMES = {id(function): name for name, function in LOSSES.items()}
"""Of the losses, whose functions stay: a user's own may have no hash."""
THRESHOLDS = {
    "binary_cross_entropy": 0.5, "binary_cross_entropy_with_logits": 0.0, "cross_entropy": 0.0, "dice": 0.5,
    "focal": 0.0, "hinge": 0.0, "nll": 0.0, "squared_hinge": 0.0,
}  # fmt: skip
"""The losses of classifiers, and where a single unit's class changes from 0 to 1."""
OF_ONE_CLASS = ("cross_entropy", "nll")
"""Those in which a sample is of one class among several, so that targets are distributions."""
OF_LABELS = ("contrastive", "triplet")
"""Losses that take a label for each sample, whatever the outputs are."""


def loss_function(loss: str | Loss) -> Loss:
    """A loss by name; a function (y, t) -> (value, dy) stands for itself, NumPy's numbers in its options as Python's.

    Parameters
    ----------
    loss
        a name in LOSSES, or a function

    Raises
    ------
    OptionError
        X104

    Examples
    --------
    >>> xcnn.losses.loss_function("mse") is xcnn.losses.mse
    True
    """
    if isinstance(loss, partial) and loss_name(loss):
        check_call(loss, 2, "losses", "(y, t) -> (value, dy)")
        options = {name: plain(value) for name, value in loss.keywords.items()}
        same = all(options[name] is value for name, value in loss.keywords.items())
        return loss if same else partial(loss.func, *loss.args, **options)
    if callable(loss):
        check_call(loss, 2, "losses", "(y, t) -> (value, dy)")
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise unknown("loss", loss, LOSSES)
    return LOSSES[loss]


def weighted(loss: Loss, weights: Array | None) -> Loss:
    """A loss with these weights of the samples, or as it is where they have none.

    Parameters
    ----------
    loss
        a function (y, t) -> (value, dy) that takes `weights`
    weights
        (N,), or None
    """
    return loss if weights is None else partial(loss, weights=weights)  # type: ignore[call-arg]


def takes_weights(loss: Loss) -> bool:
    """Whether a loss has an option `weights`, of the samples.

    Parameters
    ----------
    loss
        a function (y, t) -> (value, dy), as one of LOSSES or a user's own
    """
    all_take = getattr(loss, "takes_weights", None)  # of several
    return "weights" in signature(loss).parameters if all_take is None else bool(all_take)


def value_and_gradient(loss: Loss, y: Array, t: Array) -> tuple[Array, Array]:
    """What a loss gives, if it is a number and a gradient like y, as of a user's own it may not be.

    Parameters
    ----------
    loss
        a function (y, t) -> (value, dy)
    y, t
        the net's outputs, and targets

    Raises
    ------
    OptionError
        X104
    """
    given = loss(y, t)
    if isinstance(given, tuple) and len(given) == 2:
        value, dy = given
        scalar = is_number(value) or (getattr(value, "shape", None) == () and is_real(value))
        if scalar and is_like(likeness(y), dy):
            return value, dy
    parts = given if isinstance(given, tuple) else (given,)
    raise OptionError(
        "X104",
        "the loss must give a pair: its value, a scalar, and the gradient by the predictions, which is like them in "
        "shape, type, library and device.",
        f"got {' and '.join(map(_kind, parts)) or 'nothing'}, predictions {_kind(y)}",
        hint="return value, dy; of the mean (y - t)^2 they are xp.mean((y - t) ** 2) and 2 * (y - t) / size.",
    )


def _kind(thing: Any) -> str:
    """An array as its class, type, place and shape, all else as it is."""
    if not is_array_api_obj(thing) or isinstance(thing, type):
        return short(thing)
    return f"{type(thing).__name__} {tuple(thing.shape)} of {thing.dtype} on {home(thing)}"


def loss_name(loss: Loss) -> str:
    """The name of a loss in LOSSES, also behind functools.partial; "" for a user's own."""
    function = loss.func if isinstance(loss, partial) else loss
    return NAMES.get(id(function), "")


BOUNDED: dict[type, tuple[int, int]] = {Softmax: (0, 1), Sigmoid: (0, 1), Tanh: (-1, 1)}
"""Layers that give numbers of this range: probabilities, not logits."""
UNBOUNDED: dict[str, str] = {
    "binary_cross_entropy": 'let it end in xcnn.Sigmoid(), or give loss="binary_cross_entropy_with_logits".',
    "nll": 'let it end in xcnn.LogSoftmax(), or give loss="cross_entropy".',
}
"""Losses of probabilities or their logarithms, and what to do about a net that gives any numbers."""
LINEAR = (Conv2D, Dense)


def tell_bounded_logits(name: str, net: Layer, output_shape: Shape, stacklevel: int = 4) -> None:
    """Warn where a loss that takes logits gets what a last Softmax, Sigmoid or Tanh gives: it trains, and badly.

    In the loss's softmax or sigmoid no class then gets a probability above what the range allows. Warn as well where a
    loss of probabilities gets what a last linear layer gives: it means nothing there, and soon diverges.
    """
    while type(net) is Sequential and net.named:
        net = next((layer for _, layer in reversed(net.named) if type(layer) not in (Flatten, Reshape)), ReLU())
    if name in UNBOUNDED and type(net) in LINEAR:
        takes = "probabilities" if name == "binary_cross_entropy" else "logarithms of probabilities"
        warnings.warn(
            f"{name} takes {takes}, but the net ends in {type(net).__name__}, which gives any numbers: "
            f"{UNBOUNDED[name]}",
            stacklevel=stacklevel,
        )
    if name not in ("cross_entropy", "binary_cross_entropy_with_logits") or type(net) not in BOUNDED:
        return
    low, high = BOUNDED[type(net)]
    others = (output_shape[0] - 1) * exp(low) if name == "cross_entropy" else 1
    warnings.warn(
        f"{name} takes logits, which may be any numbers, but the net ends in {type(net).__name__}, which gives "
        f"{low} to {high}: no class can get a probability above {exp(high) / (exp(high) + others):.4f}. Leave that "
        "layer out; model.probabilities gives them.",
        stacklevel=stacklevel,
    )


def ignored(loss: Loss) -> int | None:
    """The label of what a loss leaves out; None where all count."""
    index: int | None = getattr(loss, "keywords", {}).get("ignore_index")
    return index


def count_correct(y: Array, t: Array, threshold: float, ignore_index: int | None = None) -> Array:
    """How many samples are classified right: the largest output, or the side of the threshold of a single one.

    Those whose label is `ignore_index` are not among them, whatever is said of them.
    """
    xp = namespace(y, t)
    counts = None if ignore_index is None or tuple(t.shape) == tuple(y.shape) else t != ignore_index
    if y.shape[1] == 1:
        right = (y > threshold) == (targets(y, t) > 0.5)
        counts = None if counts is None else xp.expand_dims(counts, axis=1)
    else:
        labels = xp.argmax(t, axis=1) if tuple(t.shape) == tuple(y.shape) else t
        right = xp.argmax(y, axis=1) == xp.astype(labels, xp.int64)
    return xp.sum(xp.astype(right if counts is None else right & counts, xp.int64))


__all__ = [
    "LOSSES",
    "THRESHOLDS",
    "Loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "contrastive",
    "cross_entropy",
    "dice",
    "focal",
    "hinge",
    "huber",
    "kl_divergence",
    "loss_function",
    "mae",
    "mse",
    "nll",
    "squared_hinge",
    "triplet",
]

if not TYPE_CHECKING:
    __getattr__ = absent("xcnn.losses", "loss", __all__)
