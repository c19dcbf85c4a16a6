"""A layer of your own: Swish with a slope that is learned, one for each channel.

A layer is a frozen dataclass with `init` and a call that returns y and its backward pass; xcnn needs to know nothing
more of it. `@xcnn.pure` says that its results follow from its arguments alone, so that steps may be compiled. See that
`check_layer` passes it on every backend that can be used here, and refuses the same layer with a mistake in its
gradient; then that a net with it learns to tell zeros from ones, and what slopes it has learned.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

import xcnn
from xcnn.testing import CheckFailed, check_layer


@xcnn.pure
@dataclass(frozen=True)
class Swish:
    """Y = X S, S = sigmoid(b X), one b for each channel.   dX = dY (S + b X S'),  db = sum of dY X² S'.

    S' is the sigmoid's slope, S (1 - S).
    """

    def init(self, rng, input_shape):
        return {"slope": np.ones(input_shape[0])}, tuple(input_shape)

    def __call__(self, weights, x, run):
        xp = array_namespace(x)
        b = xp.reshape(weights["slope"], (-1, *(1 for _ in x.shape[2:])))
        s = 0.5 * (1 + xp.tanh(0.5 * b * x))

        def backward(dy):
            db = xp.sum(dy * x**2 * s * (1 - s), axis=(0, *range(2, x.ndim)))
            return dy * (s + b * x * s * (1 - s)), {"slope": db}

        return x * s, backward


@dataclass(frozen=True)
class Mistaken(Swish):
    """The same, but its backward has forgotten that x stands in S too: dX = dY S."""

    def __call__(self, weights, x, run):
        y, backward = super().__call__(weights, x, run)
        return y, lambda dy: (dy * y / x, backward(dy)[1])


for name, info in xcnn.available_backends().items():
    if info.available:
        print(f"{name}: {check_layer(Swish(), (3, 5, 5), backend=xcnn.backend(name))}")

try:
    check_layer(Mistaken(), (3, 5, 5))
except CheckFailed as error:
    print(f"\nrefused: {error}")

(x, y), (xt, yt) = xcnn.datasets.mnist01()
net = xcnn.Sequential(
    xcnn.Conv2D(4, 3, stride=2), Swish(), xcnn.Conv2D(8, 3, stride=2), Swish(), xcnn.Flatten(), xcnn.Dense(2)
)
model = xcnn.Model(net, input_shape=(1, 28, 28))
model.fit(x[:2000], y[:2000], epochs=2, progress="none")
print(f"\naccuracy on {len(xt)} images, on {model.backend.spec}: {model.evaluate(xt, yt)['accuracy']:.2%}")
print("slopes:", model.backend.to_numpy(model.weights["swish1"]["slope"]).round(2))
