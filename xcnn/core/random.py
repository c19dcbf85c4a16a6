"""Randomness as an argument: keys that are counted, not states that move, so that every backend draws the same.

A key is a path of whole numbers, such as (seed, step, layer). The generator is Threefry-2x32 with 20 rounds, of
Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011): additions, rotations and exclusive ors of 32-bit
words, written here for Python's integers and for arrays of any library with 64-bit ones.
"""

from __future__ import annotations

from functools import reduce
from math import inf
from typing import Any, TypeAlias

import numpy as np

from xcnn.core.checks import check_whole
from xcnn.core.types import Array, Shape
from xcnn.errors import OptionError, short

Key: TypeAlias = tuple[int, ...]
Words: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]

MASK = 0xFFFFFFFF
ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
COUNTS = tuple(np.array(n, np.uint32) for n in range(32))
"""How far words are shifted, as arrays, which NumPy takes in half the time of its numbers."""


def threefry2x32(key: tuple[int, int], x0: Any, x1: Any) -> tuple[Any, Any]:
    """Encrypt the 64-bit counter (x0, x1); each word is 0 .. 2^32 - 1, an int or an array of int64."""
    words = (*key, key[0] ^ key[1] ^ PARITY)
    x0, x1 = (x0 + words[0]) & MASK, (x1 + words[1]) & MASK
    for block in range(5):
        for turn in ROTATIONS[block % 2]:
            x0 = (x0 + x1) & MASK
            x1 = x0 ^ ((x1 << turn | x1 >> (32 - turn)) & MASK)
        x0 = (x0 + words[(block + 1) % 3]) & MASK
        x1 = (x1 + words[(block + 2) % 3] + block + 1) & MASK
    return x0, x1


def encrypt(key: tuple[int, int], x0: Words, x1: Words) -> None:
    """The same of host arrays of 32-bit words, which wrap around, in place."""
    schedule = (*key, key[0] ^ key[1] ^ PARITY)
    turned = np.empty_like(x1)
    x0 += np.uint32(schedule[0])
    x1 += np.uint32(schedule[1])
    for block in range(5):
        for turn in ROTATIONS[block % 2]:
            x0 += x1
            np.right_shift(x1, COUNTS[32 - turn], out=turned)
            x1 <<= COUNTS[turn]
            x1 |= turned
            x1 ^= x0
        x0 += np.uint32(schedule[(block + 1) % 3])
        x1 += np.uint32((schedule[(block + 2) % 3] + block + 1) & MASK)


def check_seed(seed: object) -> int:
    """The seed as an int; raise X104 unless it is a whole number of 64 bits, which is what keys keep of it."""
    number = check_whole("seed", seed, least=0, most=inf)
    if number >> 64:
        raise OptionError("X104", f"seed must be below 2^64; got {short(seed)}.", hint=f"seed={number & 2**64 - 1}")
    return number


def check_key(key: Key) -> None:
    """Raise X104 where a number of a key has more than 64 bits, of which the others would not count."""
    for n in key:
        if isinstance(n, int) and not -(2**63) <= n < 2**64:
            raise OptionError("X104", f"the numbers of a random key have 64 bits; got {n}.")


def fold(key: Key) -> tuple[int, int]:
    """One 64-bit key from a path, each number of it encrypting the next."""
    check_key(key)
    return reduce(lambda words, n: threefry2x32(words, n >> 32 & MASK, n & MASK), key, (0, 0))


def bits(xp: Any, device: Any, key: Key, shape: Shape) -> Array:
    """Random whole numbers 0 .. 2^32 - 1, int64: the first words of counters 0, 1, ..., then their second words."""
    size = int(np.prod(shape, dtype=np.int64))
    half = -(-size // 2)
    counters = xp.arange(half, dtype=xp.int64, device=device)
    words = threefry2x32(fold(key), counters >> 32, counters & MASK)
    return xp.reshape(xp.concat(words)[:size], shape)


def generator(*key: int) -> np.random.Generator:
    """A host generator for what is drawn before training: initial weights and the order of samples."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key[0], spawn_key=key[1:])))


class Typed(np.random.Generator):
    """A host generator whose draws initializers give in this type: doubles are rounded as soon as an array is drawn."""

    def __init__(self, seed: int, dtype: str) -> None:
        super().__init__(generator(seed).bit_generator)
        self.dtype = dtype


class Planner(np.random.Generator):
    """Stands in for the generator where only shapes matter: draws zeros that take no memory."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox(0))

    def standard_normal(self, size: Shape | None = None, dtype: Any = float, out: Any = None) -> np.ndarray[Any, Any]:  # type: ignore[override]
        """Zeros"""
        return np.broadcast_to(np.zeros((), dtype), () if size is None else size)

    random = standard_normal  # type: ignore[assignment]

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Shape | None = None) -> np.ndarray[Any, Any]:  # type: ignore[override]
        """Zeros"""
        return np.broadcast_to(0.0, np.broadcast_shapes(np.shape(loc), np.shape(scale)) if size is None else size)

    uniform = normal  # type: ignore[assignment]

    def note(self, layer: Any, input_shape: Shape, output_shape: Shape) -> None:
        """Is told of each layer within a container: nothing is made of it here."""
