"""The gradients' norm in compiled code on a CPU: XLA runs a product of an array with itself on all lanes, a sum on one.

Where the squares are too large or too small for their type, which the product tells, the norm is taken as
`xcnn.optimizers.global_norm` takes it.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.training.optimizers import global_norm

SMALLEST = 2.0**24
"""Times the type's smallest normal number: a sum of squares above that has lost nothing that can be seen."""


def norm_of(grads: Weights) -> Array:
    """What `global_norm` gives, of gradients of one type."""
    arrays = [g for g in tree.leaves(grads) if not isinstance(g, Next) and g.size]
    if not any(isinstance(g, jax.core.Tracer) for g in arrays) or len({g.dtype for g in arrays}) > 1:
        return global_norm(grads)
    squares = cast("Array", sum(jnp.vdot(g, g) for g in arrays))
    kept = jnp.isfinite(squares) & (squares > SMALLEST * float(np.finfo(squares.dtype).tiny))
    of_all = cast("Array", jnp.sqrt(squares))
    return cast("Array", lax.cond(kept, lambda: of_all, lambda: global_norm(grads)))
