"""Random words and the masks that dropout makes of them: on the CPU by NumPy on PyTorch's number of threads."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from xcnn_host import random as host
from xcnn_host.threads import share

from xcnn.core.random import Key, fold
from xcnn.core.types import Array, Shape
from xcnn_torch.memory import empty
from xcnn_torch.recording import at_once, present

PER_THREAD = 2**14
"""Words that are worth a further thread."""


def is_counted(key: Key) -> bool:
    """Whether a number of the key is a tensor that has no value yet, as within a step that is captured as a graph."""
    return any(isinstance(n, torch.Tensor) for n in key) and present() is None


@at_once
def bits(key: Key, shape: Shape) -> Array:
    """Random whole numbers 0 .. 2^32 - 1, int64."""
    return torch.from_numpy(host.bits(tuple(map(int, key)), shape))


@at_once
def mask(key: Key, shape: Shape, rate: float, dtype: torch.dtype) -> Array:
    """0 where a word is below the rate's share of 2^32, else 1 / (1 - rate); float32 or float64."""
    half, least = -(-prod(shape) // 2), int(rate * 2**32)
    made = empty(torch.empty(0, dtype=dtype), (2 * half,))
    cells = made.numpy()
    by, words = cells.dtype.type(1) / cells.dtype.type(1 - rate), fold(tuple(map(int, key)))

    def part(first: int, last: int) -> None:
        for start, *pair in host.words(words, first, last):
            for at, drawn in zip((start, half + start), pair, strict=True):
                np.multiply(drawn >= least, by, out=cells[at : at + len(drawn)])

    share(part, half, min(torch.get_num_threads(), 1 + half // PER_THREAD))
    return made[: prod(shape)].view(shape)
