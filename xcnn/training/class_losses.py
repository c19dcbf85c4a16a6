"""Losses of classes beside cross-entropy: of logarithms of probabilities, of margins, and of those that are hard."""

from __future__ import annotations

from xcnn.core.arrays import full, namespace, rounded_once, zeros
from xcnn.core.checks import check_positive, check_rate
from xcnn.core.types import Array
from xcnn.layers.activations import sigmoid
from xcnn.training.targets import mean_of, same_shape, share, targets
from xcnn.training.weighting import without


@rounded_once
def nll(y: Array, t: Array, *, ignore_index: int | None = None, weights: Array | None = None) -> tuple[Array, Array]:
    """E = -mean over samples of sum_c t_c y_c;  dE/dy = -t / N. The negative logarithm of the likelihood.

    Parameters
    ----------
    y : (N, C) or (N, C, ...)
        logarithms of probabilities, as LogSoftmax gives them, classes on axis 1
    t : (N,) or (N, ...) whole numbers 0 .. C - 1, or distributions shaped like y: 0 and above, with the sum 1
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
    >>> value, dy = xcnn.losses.nll(np.log(np.array([[0.7, 0.3]])), np.array([0]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.3567, [[-1.0, -0.0]])
    """
    t, counts = without(y, t, ignore_index)
    t = targets(y, t)
    return mean_of(y, -share(t, y), -t, weights, counts, outputs=False)


@rounded_once
def kl_divergence(y: Array, t: Array, *, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean over samples of sum_c t_c (log t_c - y_c);  dE/dy = -t / N. Kullback and Leibler 1951.

    Parameters
    ----------
    y : (N, C) or (N, C, ...)
        logarithms of probabilities, as LogSoftmax gives them, classes on axis 1
    t : shaped like y
        probabilities, such as another net's
    weights : (N,) or (N, ...)
        of the samples or of each place: the mean is then sum(w e) / sum(w); None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t is not shaped like y.

    Examples
    --------
    >>> value, dy = xcnn.losses.kl_divergence(np.log(np.array([[0.7, 0.3]])), np.array([[0.5, 0.5]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.0872, [[-0.5, -0.5]])
    """
    xp, t = namespace(y, t), same_shape(y, t)
    logarithm = xp.log(xp.where(t > 0, t, full(y, (), 1.0)))
    return mean_of(y, t * logarithm - share(t, y), -t, weights, None, outputs=False)


@rounded_once
def focal(
    y: Array,
    t: Array,
    *,
    gamma: float = 2.0,
    alpha: float = 0.25,
    ignore_index: int | None = None,
    weights: Array | None = None,
) -> tuple[Array, Array]:
    """E = mean of a q^gamma e, e being the binary cross-entropy of sigmoid(y), q = |t - sigmoid(y)| for labels.

    q = t (1 - p) + (1 - t) p,  a = t alpha + (1 - t) (1 - alpha),  p = sigmoid(y);
    dE/dy = a (q^gamma (p - t) + gamma q^(gamma - 1) (1 - 2 t) p (1 - p) e) / size. Lin et al. 2017.

    What is right already counts little. Each output is a class that is there or not, as in torchvision's
    sigmoid_focal_loss; labels are one-hot.

    Parameters
    ----------
    y : (N, units) or (N, units, ...)
        logits
    t : shaped like y, or (N,) or (N, ...)
        probabilities, or labels
    gamma
        how much less what is right counts; 0 is weighted cross-entropy
    alpha
        the weight of what is there, that of what is not being 1 - alpha
    ignore_index
        a label of places that do not count, such as -100; None counts all
    weights : (N,) or (N, ...)
        of the samples or of each place: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.
    OptionError
        X104, for a gamma below 0 or an alpha beyond 0 .. 1.

    Examples
    --------
    >>> value, dy = xcnn.losses.focal(np.array([[2.0, -1.0]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.0087, [[-0.0006, 0.0197]])
    """
    gamma, alpha = check_rate("gamma", gamma), check_rate("alpha", alpha)
    t, counts = without(y, t, ignore_index)
    terms, slopes = focal_terms(y, targets(y, t), gamma, alpha)
    return mean_of(y, terms, slopes, weights, counts)


def focal_terms(y: Array, t: Array, gamma: float, alpha: float) -> tuple[Array, Array]:
    """A q^gamma e of each cell, and its slope; see `focal`."""
    xp, zero = namespace(y), zeros(y, ())
    p, rest = sigmoid(xp, y), sigmoid(xp, -y)
    e = share(1 - t, xp.maximum(y, zero)) + share(t, xp.maximum(-y, zero)) + xp.log1p(xp.exp(-xp.abs(y)))
    q = t * rest + (1 - t) * p
    fraction = xp.where(q > 0, p * rest / xp.where(q > 0, q, full(y, (), 1.0)), zero)  # p (1 - p) / q
    by = (t * alpha + (1 - t) * (1 - alpha)) * q**gamma
    return by * e, by * ((1 - t) * p - t * rest + gamma * (1 - 2 * t) * fraction * e)


@rounded_once
def hinge(y: Array, t: Array, *, margin: float = 1.0, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean(max(0, margin - s y)), s = 2 t - 1;  dE/dy = -s / size where margin > s y, else 0.

    Parameters
    ----------
    y : (N, units) or (N, units, ...)
        scores, above 0 for what is there
    t : shaped like y, or (N,) or (N, ...)
        1 for what is there, 0 for what is not, or labels, each output being one class against all others
    margin
        how far on its side of 0 a score costs nothing any more
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.
    OptionError
        X104, for a margin that is not above 0.

    Examples
    --------
    >>> value, dy = xcnn.losses.hinge(np.array([[2.0, -0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.25, [[0.0, 0.5]])
    """
    s, short_of = shortfall(y, t, margin)
    xp = namespace(y)
    return mean_of(y, short_of, xp.where(short_of > 0, -s, zeros(y, ())), weights)


@rounded_once
def squared_hinge(y: Array, t: Array, *, margin: float = 1.0, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean(max(0, margin - s y)^2), s = 2 t - 1;  dE/dy = -2 s max(0, margin - s y) / size.

    Parameters
    ----------
    y : (N, units) or (N, units, ...)
        scores, above 0 for what is there
    t : shaped like y, or (N,) or (N, ...)
        1 for what is there, 0 for what is not, or labels, each output being one class against all others
    margin
        how far on its side of 0 a score costs nothing any more
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the outputs too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.
    OptionError
        X104, for a margin that is not above 0.

    Examples
    --------
    >>> value, dy = xcnn.losses.squared_hinge(np.array([[2.0, -0.5]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.125, [[-0.0, 0.5]])
    """
    s, short_of = shortfall(y, t, margin)
    return mean_of(y, short_of * short_of, -2 * s * short_of, weights)


def shortfall(y: Array, t: Array, margin: float) -> tuple[Array, Array]:
    """The side s = 2 t - 1 on which each score should be, and max(0, margin - s y), what it lacks."""
    margin = check_positive("margin", margin)
    s = 2 * targets(y, t) - 1
    return s, namespace(y, t).maximum(margin - s * y, zeros(y, ()))
