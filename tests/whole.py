"""Layers on JAX as they train there, compiled as a whole: one by one operations take several times as long."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from xcnn.core import tree
from xcnn.layers import Next


def whole(layer, backend):
    """The layer, its passes compiled if the backend is JAX's."""
    return kept(layer) if backend.name == "jax" else layer


@lru_cache(maxsize=8)
def kept(layer):
    """One for all equal layers: a test that calls one again and again has it compiled once."""
    return Whole(layer)


def compiled(function, backend):
    """A function of arrays alone, compiled if the backend is JAX's."""
    if backend.name != "jax":
        return function
    import jax

    return jax.jit(function)


@dataclass(frozen=True, repr=False)
class Whole:
    """A layer that runs on JAX as one compiled function; elsewhere it is itself.

    Forward and backward are compiled together: y is what comes beside the gradients of a dy that is zero.
    """

    layer: object
    passes: dict = field(default_factory=dict)
    """By runs."""
    outputs: dict = field(default_factory=dict)
    """y's shape and type by those of x, and the run."""
    following: set = field(default_factory=set)
    """The weights whose gradients are values that replace them."""

    def __repr__(self):
        return repr(self.layer)

    def init(self, rng, input_shape):
        return self.layer.init(rng, input_shape)

    def __call__(self, weights, x, run):
        if run.backend.name != "jax":
            return self.layer(weights, x, run)
        if run not in self.passes:
            self.passes[run] = self.compile(run)
        forward, passes = self.passes[run]
        given = run, x.shape, str(x.dtype)
        if given not in self.outputs:
            self.outputs[given] = forward(weights, x)
        like = self.outputs[given]
        y, _, _ = passes(weights, x, run.backend.asarray(np.zeros(like.shape, like.dtype)))

        def backward(dy):
            _, dx, grads = passes(weights, x, dy)
            found = {name: Next(g) if name in self.following else g for name, g in tree.items(grads)}
            return dx, tree.from_items({name: found[name] for name, _ in tree.items(weights)})  # JAX sorts names

        return y, backward

    def compile(self, run):
        import jax

        def passes(weights, x, dy):
            y, backward = self.layer(weights, x, run)
            dx, grads = backward(dy)
            self.following.update(name for name, g in tree.items(grads) if isinstance(g, Next))
            assert dict(tree.items(grads)).keys() == dict(tree.items(weights)).keys()
            return y, dx, tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)

        def forward(weights, x):  # nothing is computed or compiled by it
            return jax.eval_shape(lambda weights, x: self.layer(weights, x, run)[0], weights, x)

        return forward, jax.jit(passes)
