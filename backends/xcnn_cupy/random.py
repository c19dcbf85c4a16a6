"""Random bits and dropout on a device, under keys of which one number may be counted there."""

from __future__ import annotations

from typing import Any

import numpy as np

from xcnn.core.random import Key, check_key
from xcnn.core.types import Array, Shape
from xcnn.errors import OptionError
from xcnn_cupy.device import THREADS, Device, blocks_for, is_channels_last
from xcnn_cupy.kernels import Kernel

LONGEST = 32
"""Numbers of a key."""
PATH = np.dtype(
    [("numbers", np.int64, LONGEST), ("counted", np.uint64), ("length", np.int32), ("place", np.int32)], align=True
)
"""Path of random.cu."""


class Counted(int):
    """A number of a key that the device counts: `there` holds its present value, an int64 array of one cell.

    As an int it is what it was when it was made. A captured step draws by the present value.
    """

    there: Array

    def __new__(cls, value: int, there: Array) -> Counted:
        """The number, and where it is counted."""
        made = super().__new__(cls, value)
        made.there = there
        return made


def random_bits(device: Device, key: Key, shape: Shape) -> Array:
    """What xcnn.core.random.bits draws, bit for bit: numbers 0 .. 2^32 - 1, int64."""
    bits = device.empty(shape, "int64")
    if bits.size:
        counters = -(-bits.size // 2)
        kernel = Kernel("random", "random_bits")
        device.launch(kernel, blocks_for(device, counters), THREADS, path(device, key), bits.size, bits)
    return bits


def dropped(device: Device, x: Array, key: Key, least: int, by: float) -> Array:
    """Y = x by, where random_bits(key, x.shape) is at least `least`, else x 0: a linear map, and its own adjoint.

    The bits are drawn on the way and not kept. x is dense, in either order of memory, and y lies as x does.
    """
    last = is_channels_last(x)
    y = device.empty(x.shape, x.dtype, last)
    if x.size:
        channels, area = (x.shape[1], x.shape[2] * x.shape[3]) if last else (1, 1)
        arguments = x, path(device, key), least, by, x.size, channels, area, y
        kernel = Kernel("random", "dropped", x.dtype)
        device.launch(kernel, blocks_for(device, -(-x.size // 2)), THREADS, *arguments)
    return y


def path(device: Device, key: Key) -> np.ndarray[Any, Any]:
    """A key as the kernels take it; one of its numbers may be Counted.

    Raises
    ------
    OptionError
        X104, where it has more numbers than they take, or larger ones.
    """
    check_key(key)
    if len(key) > LONGEST:
        raise OptionError("X104", f"a key has at most {LONGEST} numbers on CUDA; got {len(key)}.")
    made = np.zeros((), PATH)
    made["numbers"][: len(key)] = [(int(n) + 2**63) % 2**64 - 2**63 for n in key]  # its lowest 64 bits, as `fold` takes
    made["length"] = len(key)
    for place, n in enumerate(key):
        if isinstance(n, Counted):
            made["counted"], made["place"] = device.address(n.there), place
    return made
