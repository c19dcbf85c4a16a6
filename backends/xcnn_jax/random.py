"""The framework's random bits, drawn by XLA in words of 32 bits."""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from xcnn.core.random import Key, fold, threefry2x32
from xcnn.core.types import Array, Shape


def bits(key: Key, shape: Shape) -> Array:
    """Random whole numbers 0 .. 2^32 - 1, int64; the key's numbers may be traced."""
    return _drawn(*(jnp.asarray(word).astype(jnp.uint32) for word in fold(key)), shape=tuple(shape))


@partial(jax.jit, static_argnames="shape")
def _drawn(key0: Any, key1: Any, *, shape: Shape) -> Array:
    size = prod(shape)
    counters = jnp.arange(-(-size // 2), dtype=jnp.uint32)
    words = threefry2x32((key0, key1), jnp.zeros_like(counters), counters)
    return jnp.concatenate(words)[:size].reshape(shape).astype(jnp.int64)
