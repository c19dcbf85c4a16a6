"""Layers on JAX as they train there, both passes compiled as a whole: one by one operations take far longer."""

from dataclasses import dataclass, field

from xcnn import tree
from xcnn.layers import Next


def whole(layer, backend):
    """The layer, its passes compiled if the backend is JAX's."""
    return Whole(layer) if backend.name == "jax" else layer


@dataclass(frozen=True, repr=False)
class Whole:
    """A layer that runs on JAX in one compiled function; elsewhere it is itself. All its runs have to be alike."""

    layer: object
    passes: list = field(default_factory=list)
    following: set = field(default_factory=set)
    """The weights whose gradients are values that replace them."""

    def __repr__(self):
        return repr(self.layer)

    def init(self, rng, input_shape):
        return self.layer.init(rng, input_shape)

    def __call__(self, weights, x, run):
        if run.backend.name != "jax":
            return self.layer(weights, x, run)
        if not self.passes:
            self.compile(run)
        (both,) = self.passes

        def backward(dy):
            _, dx, grads = both(weights, x, dy)
            found = {name: Next(g) if name in self.following else g for name, g in tree.items(grads)}
            return dx, tree.from_items({name: found[name] for name, _ in tree.items(weights)})  # JAX sorts names

        import jax

        y = jax.eval_shape(lambda weights, x: self.layer(weights, x, run)[0], weights, x)
        return both(weights, x, jax.numpy.zeros(y.shape, y.dtype))[0], backward

    def compile(self, run):
        import jax

        def both(weights, x, dy):
            y, backward = self.layer(weights, x, run)
            dx, grads = backward(dy)
            self.following.update(name for name, g in tree.items(grads) if isinstance(g, Next))
            assert dict(tree.items(grads)).keys() == dict(tree.items(weights)).keys()
            return y, dx, tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)

        self.passes.append(jax.jit(both))
