"""Layers without weights that are linear: what they do is asked of them by a few inputs, not written once more."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from xcnn.backends.selector import backend
from xcnn.core.types import Shape
from xcnn.layers.layer import Layer, Run

HostArray = np.ndarray[Any, Any]


def asked(layer: Layer, x: HostArray) -> HostArray:
    """What a layer makes of a batch in a prediction, in float64."""
    here = backend("numpy")
    with here.active():
        y, _ = layer({}, x, Run(here))
        made: HostArray = np.asarray(here.to_numpy(y))
    return made


def moved_from(layer: Layer, given: Shape) -> dict[str, Any] | None:
    """For each cell of Y the cell of X that it is, -1 where it is 0; None where all are in X's order.

    Parameters
    ----------
    layer
        one that moves cells, or leaves them out, or puts zeros between them
    given
        the shape of a sample
    """
    size = int(np.prod(given))
    cells = asked(layer, np.arange(1.0, size + 1).reshape(1, *given)).reshape(-1).astype("<i4") - 1
    if np.array_equal(cells, np.arange(size)):
        return None
    return {"type": "int32", "shape": [cells.size], "data": base64.b64encode(cells.tobytes()).decode()}


def both_sides(layer: Layer, sizes: Shape) -> tuple[HostArray, HostArray]:
    """A and B of a layer that makes A X Bᵀ of each channel.

    With ones 1 and unit vectors e: the layer gives A e_m (B 1)ᵀ for e_m 1ᵀ, and A 1 (B e_n)ᵀ for 1 e_nᵀ. Where B 1 is
    largest its factor is taken off.

    Parameters
    ----------
    layer
        one that treats channels alike
    sizes
        (height, width) of X
    """
    height, width = sizes
    rows = asked(layer, np.broadcast_to(np.eye(height)[:, None, :, None], (height, 1, height, width)).copy())
    columns = asked(layer, np.broadcast_to(np.eye(width)[:, None, None, :], (width, 1, height, width)).copy())
    rows, columns = (each.reshape(len(each), *(each.shape[2:] or (1, 1))) for each in (rows, columns))
    whole = rows.sum(axis=0)
    p, q = np.unravel_index(int(np.abs(whole).argmax()), whole.shape)
    return rows[:, :, q].T, columns[:, p, :].T / whole[p, q]
