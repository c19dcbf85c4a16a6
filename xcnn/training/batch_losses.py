"""Losses of more than single numbers: of how far areas overlap, and of which samples of a batch lie together."""

from __future__ import annotations

from math import prod

from array_api_compat import device

from xcnn.core.arrays import full, namespace, rounded_once, zeros
from xcnn.core.checks import check_positive, check_rate
from xcnn.core.types import Array
from xcnn.errors import ShapeError
from xcnn.training.targets import check_floating, check_target_shape, mean_of, targets


@rounded_once
def dice(y: Array, t: Array, *, smooth: float = 1.0, weights: Array | None = None) -> tuple[Array, Array]:
    """E = mean over samples and classes of 1 - D,  D = (2 sum(y t) + s) / (sum(y) + sum(t) + s), sums over the places.

    dE/dy = (D - 2 t) / (sum(y) + sum(t) + s) / (N C). Milletari, Navab and Ahmadi 2016, with sums as Sørensen has them.

    Parameters
    ----------
    y : (N, C, ...)
        probabilities, as Sigmoid or Softmax give them
    t : shaped like y, or (N, ...)
        probabilities, or labels
    smooth
        s: what is nowhere, and is found nowhere, costs nothing
    weights : (N,)
        of the samples: the mean is then sum(w e) / sum(w), over the classes too; None is 1 for each

    Raises
    ------
    ShapeError
        X202, when t fits neither way.
    OptionError
        X104, for a number below 0.

    Examples
    --------
    >>> value, dy = xcnn.losses.dice(np.array([[0.9, 0.2]]), np.array([[1.0, 0.0]]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.1006, [[-0.1784, 0.3472]])
    """
    smooth = check_rate("smooth", smooth)
    xp, t = namespace(y, t), targets(y, t)
    shape = (*y.shape[:2], prod(y.shape[2:]))
    areas, of_targets = xp.reshape(y, shape), xp.reshape(t, shape)
    whole = xp.sum(areas, axis=2) + xp.sum(of_targets, axis=2) + smooth
    whole = xp.where(whole == 0, full(y, (), 1.0), whole)
    d = (2 * xp.sum(areas * of_targets, axis=2) + smooth) / whole
    value, by = mean_of(d, 1 - d, full(d, d.shape, 1.0), weights)
    slopes = (xp.expand_dims(d, axis=2) - 2 * of_targets) * xp.expand_dims(by / whole, axis=2)
    return value, xp.reshape(slopes, y.shape)


@rounded_once
def contrastive(y: Array, t: Array, *, temperature: float = 0.1) -> tuple[Array, Array]:
    """E = -mean over samples i of the mean over others p of its label of log(exp(s_ip) / sum over a != i of exp(s_ia)).

    s = z z^T / temperature,  z = y / |y|. Khosla et al. 2020. With g_ij = (softmax(s_i)_j - [same label] / |p|) / N:
    dz = (g + g^T) z / temperature,  dy = (dz - z (z . dz)) / |y|.

    Samples of one label are drawn together, all others apart. Those whose label no other of the batch has do not count:
    batches must be large enough, and a loss depends on which samples are in a batch together.

    Parameters
    ----------
    y : (N, features)
        what the net makes of each sample
    t : (N,)
        labels, any whole numbers; or shaped like y, rows whose largest cell names the label
    temperature
        the smaller, the more the nearest others count, above 0

    Raises
    ------
    ShapeError
        X202, for other shapes.
    OptionError
        X104, for a temperature that can't be.

    Examples
    --------
    >>> value, dy = xcnn.losses.contrastive(np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), np.array([0, 0, 1]))
    >>> round(float(value), 4), dy.round(4).tolist()
    (0.0636, [[0.0, -0.3569], [-0.5013, 0.6683], [0.4785, 0.0]])
    """
    temperature = check_positive("temperature", temperature)
    xp, t = namespace(y), labels_of(y, t)
    one = full(y, (), 1.0)
    length = xp.sqrt(xp.sum(y * y, axis=1, keepdims=True))
    length = xp.where(length > 0, length, one)
    z = y / length
    value, g = attraction(z, t, temperature)
    dz = (g + xp.matrix_transpose(g)) @ z / temperature
    return value, (dz - z * xp.sum(z * dz, axis=1, keepdims=True)) / length


def attraction(z: Array, t: Array, temperature: float) -> tuple[Array, Array]:
    """E of vectors of length 1, and its gradient g by each of their products s (N, N); see `contrastive`."""
    xp = namespace(z)
    zero, one, least = zeros(z, ()), full(z, (), 1.0), full(z, (), -2.0) / temperature
    number = xp.arange(z.shape[0], device=device(z))
    itself = xp.expand_dims(number, axis=1) == number
    alike = xp.where(itself, zero, xp.astype(xp.expand_dims(t, axis=1) == t, z.dtype))
    others = xp.sum(alike, axis=1, keepdims=True)
    counts = xp.where(others > 0, one, zero)
    share, ways = counts / xp.maximum(xp.sum(counts), one), alike / xp.maximum(others, one)
    s = xp.where(itself, least, z @ xp.matrix_transpose(z) / temperature)
    s = s - xp.max(s, axis=1, keepdims=True) if z.shape[0] else s
    powers = xp.where(itself, zero, xp.exp(s))
    total = xp.sum(powers, axis=1, keepdims=True)
    total = xp.where(total > 0, total, one)
    value = -xp.sum(share * ways * xp.where(itself, zero, s - xp.log(total)))
    return value, share * (powers / total - ways)


@rounded_once
def triplet(y: Array, t: Array, *, margin: float = 1.0) -> tuple[Array, Array]:
    """E = mean over samples i of max(0, |y_i - y_p| - |y_i - y_n| + margin), p and n being the hardest for i.

    p is the farthest of its label, n the nearest of another: "batch hard", Hermans, Beyer and Leibe 2017. With
    u_ij = (y_i - y_j) / |y_i - y_j|, each i that costs something adds (u_ip - u_in) / N to dy_i, -u_ip / N to dy_p and
    u_in / N to dy_n.

    Samples whose label no other of the batch has, or all have, do not count: batches must be large enough, and a loss
    depends on which samples are in a batch together.

    Parameters
    ----------
    y : (N, features)
        what the net makes of each sample
    t : (N,)
        labels, any whole numbers; or shaped like y, rows whose largest cell names the label
    margin
        how much nearer those of its own label should be than all others, in units of y, above 0

    Raises
    ------
    ShapeError
        X202, for other shapes.
    OptionError
        X104, for a margin that can't be.

    Examples
    --------
    >>> y, labels = np.array([[0.0, 0.0], [0.0, 1.0], [3.0, 4.0], [3.0, 5.0]]), np.array([0, 0, 1, 1])
    >>> value, dy = xcnn.losses.triplet(y, labels)
    >>> float(value), dy.shape
    (0.0, (4, 2))
    """
    margin = check_positive("margin", margin)
    xp, t = namespace(y), labels_of(y, t)
    if not y.shape[0]:
        return zeros(y, ()), y
    number = xp.arange(y.shape[0], device=device(y))
    alike = xp.expand_dims(t, axis=1) == t
    others = alike & (xp.expand_dims(number, axis=1) != number)
    squares, infinite = squared_distances(y), full(y, (), float("inf"))
    far = xp.argmax(xp.where(others, squares, -infinite), axis=1)
    near = xp.argmin(xp.where(alike, infinite, squares), axis=1)
    counts = xp.any(others, axis=1) & ~xp.all(alike, axis=1)
    (to_far, pull), (to_near, push) = (distances(y, xp.take(y, chosen, axis=0)) for chosen in (far, near))
    short_of = xp.maximum(to_far - to_near + margin, zeros(y, ()))
    terms = xp.where(counts, short_of, zeros(y, ()))
    size = xp.maximum(xp.sum(xp.astype(counts, y.dtype)), full(y, (), 1.0))
    each = xp.expand_dims(xp.astype(terms > 0, y.dtype) / size, axis=1)
    pull, push = pull * each, push * each
    to_p, to_n = (xp.astype(xp.expand_dims(number, axis=1) == chosen, y.dtype) for chosen in (far, near))
    return xp.sum(terms) / size, pull - push - to_p @ pull + to_n @ push


def squared_distances(y: Array) -> Array:
    """Those of all rows from each other, (N, N), but for a factor and rounding: to tell which are near."""
    xp = namespace(y)
    y = y - xp.mean(y, axis=0)
    largest = xp.max(xp.abs(y)) if y.shape[1] else zeros(y, ())
    y = y / xp.where(largest > 0, largest, full(y, (), 1.0))
    squares = xp.sum(y * y, axis=1)
    return xp.expand_dims(squares, axis=1) + squares - 2 * (y @ xp.matrix_transpose(y))


def distances(y: Array, others: Array) -> tuple[Array, Array]:
    """|y_i - o_i| for each row, and (y_i - o_i) / |y_i - o_i|, 0 where they are the same."""
    xp, apart = namespace(y), y - others
    largest = xp.max(xp.abs(apart), axis=1, keepdims=True) if y.shape[1] else zeros(y, (y.shape[0], 1))
    scale = xp.where(largest > 0, largest, full(y, (), 1.0))
    apart = apart / scale
    length = xp.sqrt(xp.sum(apart * apart, axis=1, keepdims=True))
    return (length * scale)[:, 0], apart / xp.where(length > 0, length, full(y, (), 1.0))


def labels_of(y: Array, t: Array) -> Array:
    """A label of each sample, whose prediction is a vector; else raise X202, and X103 for what is no number."""
    xp = check_floating(y, t)
    check_target_shape(y.shape, t.shape, labels=True)
    if y.ndim != 2:
        told = f"got predictions {tuple(y.shape)}"
        raise ShapeError("X202", "this loss takes a vector of each sample.", told, hint="put Flatten() behind the net.")
    return xp.argmax(t, axis=1) if t.ndim == 2 else t
