"""Layers on JAX as they train there, each pass compiled as a whole: one by one operations take three times as long."""

from dataclasses import dataclass, field

from xcnn.core import tree
from xcnn.layers import Next


def whole(layer, backend):
    """The layer, its passes compiled if the backend is JAX's."""
    return Whole(layer) if backend.name == "jax" else layer


@dataclass(frozen=True, repr=False)
class Whole:
    """A layer that runs on JAX in two compiled functions; elsewhere it is itself. All its runs have to be alike."""

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
        forward, back = self.passes

        def backward(dy):
            dx, grads = back(weights, x, dy)
            found = {name: Next(g) if name in self.following else g for name, g in tree.items(grads)}
            return dx, tree.from_items({name: found[name] for name, _ in tree.items(weights)})  # JAX sorts names

        return forward(weights, x), backward

    def compile(self, run):
        import jax

        def back(weights, x, dy):
            dx, grads = self.layer(weights, x, run)[1](dy)
            self.following.update(name for name, g in tree.items(grads) if isinstance(g, Next))
            assert dict(tree.items(grads)).keys() == dict(tree.items(weights)).keys()
            return dx, tree.map(lambda g: g.value if isinstance(g, Next) else g, grads)

        self.passes.extend([jax.jit(lambda weights, x: self.layer(weights, x, run)[0]), jax.jit(back)])
