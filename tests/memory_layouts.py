"""Arrays in every memory layout, and drawn nets that hand such arrays to their layers."""

import numpy as np
from cases import CASES

import xcnn
from xcnn.layers import (
    AveragePool2D,
    BatchNorm,
    Concatenate,
    Conv1D,
    Conv2D,
    Dense,
    Flatten,
    GroupNorm,
    LayerNorm,
    MaxPool2D,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    Tanh,
    ZeroPadding2D,
)

KEY = (4, 2)


def as_indexed(a, rng):
    return a


def turned(a, rng):
    """The axes lie in another order."""
    order = rng.permutation(a.ndim)
    return np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))


def fortran(a, rng):
    return np.asfortranarray(a)


def channels_last(a, rng):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 1, -1)), -1, 1)


def reverse(a, rng):
    at = tuple(slice(None, None, -1 if rng.random() < 0.6 else 1) for _ in a.shape)
    return np.ascontiguousarray(a[at])[at]


def sliced(a, rng):
    """Some cells of a larger array."""
    steps = rng.integers(1, 4, a.ndim)
    wide = np.full([n * step + 2 for n, step in zip(a.shape, steps, strict=True)], 1e3, a.dtype)
    part = wide[tuple(slice(1, 1 + n * step, step) for n, step in zip(a.shape, steps, strict=True))]
    part[...] = a
    return part


def offset(a, rng):
    """It begins some cells after its memory does."""
    begin = int(rng.integers(1, 4))
    whole = np.empty(begin + a.size, a.dtype)
    whole[begin:] = a.ravel()
    return whole[begin:].reshape(a.shape)


def unaligned(a, rng):
    """It begins between two cells."""
    return np.frombuffer(bytearray(b"\0" + a.tobytes()), "uint8")[1:].view(a.dtype).reshape(a.shape)


def one_sample(a, rng):
    """Every sample is the first."""
    return np.broadcast_to(a[:1], a.shape)


def read_only(a, rng):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = (as_indexed, turned, fortran, channels_last, reverse, sliced, offset, unaligned, one_sample, read_only)


def lying(a, rng):
    """The array in one layout, or in two: the second of the first."""
    chosen = [LAYOUTS[n] for n in rng.integers(0, len(LAYOUTS), rng.integers(1, 3))]
    for layout in chosen if a.ndim > 1 else ():
        a = layout(a, rng)
    return a


def before(shape, rng):
    """An input shape, and layers from it to this shape: some that leave their output in another order of memory."""
    kinds = ["nothing", "reshape", "activation"]
    if len(shape) == 3:
        kinds += ["conv", "conv, relu", "conv, pool", "norm", "padding", "residual"]
    if len(shape) == 2:
        kinds += ["conv, reshape", "conv, reshape", "conv1d"]
    if len(shape) == 1:
        kinds += ["flat", "dense"]
    kind = kinds[rng.integers(len(kinds))]
    c, *sizes = shape
    match kind:
        case "reshape":
            return tuple(shape[::-1]), [Reshape(tuple(shape))]
        case "activation":
            return shape, [(ReLU(), Tanh())[rng.integers(2)]]
        case "conv":
            return (2, *sizes), [Conv2D(c, 1, bias=bool(rng.integers(2)))]
        case "conv, relu":
            return (2, *sizes), [Conv2D(c, 3, padding="same"), ReLU()]
        case "conv, pool":
            return (2, sizes[0] * 2, sizes[1] * 2), [Conv2D(c, 3, padding="same"), ReLU(), MaxPool2D(2)]
        case "norm":
            return shape, [BatchNorm(), ReLU()]
        case "padding":
            if min(sizes) > 2:
                return (c, sizes[0] - 1, sizes[1] - 2), [ZeroPadding2D(((0, 1), (1, 1)))]
        case "residual":
            return shape, [Residual(Conv2D(c, 3, padding="same"), BatchNorm()), ReLU()]
        case "conv, reshape":
            return (2, sizes[0], 3), [Conv2D(c, (1, 3), bias=False), Reshape((c, sizes[0]))]
        case "conv1d":
            return (2, sizes[0]), [Conv1D(c, 3, padding="same")]
        case "flat":
            return (c, 1, 1) if rng.random() < 0.5 else (1, c, 1), [Flatten()]
        case "dense":
            return (3,), [Dense(c), Sigmoid()]
    return shape, []


def after(shape, rng):
    """Layers that take this shape: some that give a gradient in another order of memory."""
    kinds = ["nothing", "activation", "dense", "norm", "reshape"]
    if len(shape) == 3:
        kinds += ["conv", "pool", "mean", "group norm"]
    if len(shape) > 1:
        kinds += ["layer norm", "turned norm"]
    c = shape[0]
    match kinds[rng.integers(len(kinds))]:
        case "activation":
            return [(ReLU(), Sigmoid())[rng.integers(2)]]
        case "dense":
            return [*([Flatten()] if len(shape) > 1 else []), Dense(3)]
        case "norm":
            return [BatchNorm(), ReLU()]
        case "reshape":
            return [Reshape(tuple(shape[::-1]))]
        case "conv":
            return [Conv2D(3, 3, padding="same"), ReLU()]
        case "pool":
            return [MaxPool2D(2, padding=1)]
        case "mean":
            return [AveragePool2D(2, padding=1)]
        case "group norm":
            return [GroupNorm(c)]
        case "layer norm":
            return [LayerNorm(axis=1), Tanh()]
        case "turned norm":
            return [Reshape((shape[-1], -1)), BatchNorm(), Flatten()]
    return []


def around(layer, shape, output, rng):
    """The layer, or a container with it."""
    kind = rng.integers(6)
    if kind == 0 and tuple(output) == tuple(shape):
        return Residual(layer)
    if kind == 1 and len(output) != 2:
        return Concatenate(layer, layer)
    return Sequential(layer) if kind == 2 else layer


def drawn_net(number, rng):
    """A net with the layer of the table that has this number, and the shape of its input."""
    layer, shape = CASES[number % len(CASES)]
    output = layer.init(xcnn.core.random.generator(0), shape)[1]
    if number // len(CASES) == 0:
        return Sequential(layer), shape
    middle = around(layer, shape, output, rng)
    output = middle.init(xcnn.core.random.generator(0), shape)[1]
    input_shape, first = before(shape, rng)
    return Sequential(*first, middle, *after(output, rng)), input_shape
