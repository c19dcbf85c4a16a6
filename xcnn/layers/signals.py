"""Layers of signals (N, C, L), each its two-dimensional twin on images of height 1."""

from __future__ import annotations

from typing import Any

from xcnn.core.arrays import namespace
from xcnn.core.checks import SIGNAL, check_input, check_rank, on_behalf_of
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.types import Array, Backward, Padding, Rng, Shape, Weights
from xcnn.layers.layer import Run


class OfSignals:
    """A layer that is `twin()` on images of height 1. Weights of several axes have one more there, before the last."""

    def twin(self) -> Any:
        """The two-dimensional layer."""
        raise NotImplementedError

    def channels(self, weights: Weights) -> int | None:
        """The channels that the weights are for; None where there are none."""
        return None

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        channels, length = check_rank(self, input_shape, SIGNAL)
        with on_behalf_of(self):
            weights, output = self.twin().init(rng, (channels, 1, length))
        return without_height(weights), (output[0], *output[2:])

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        xp = check_input(self, weights, x, SIGNAL, self.channels(weights))
        flat = {name: xp.expand_dims(w, axis=-2) if w.ndim > 1 else w for name, w in weights.items()}
        with on_behalf_of(self):
            image, twin_backward = self.twin()(flat, xp.expand_dims(x, axis=2), run)
        y = image[:, :, 0, :] if image.ndim == 4 else image
        made, image_shape = likeness(y), image.shape

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self, made, dy)
            dx, grads = twin_backward(xp.reshape(dy, image_shape))
            return None if dx is None else dx[:, :, 0, :], without_height(grads)

        return y, backward


def without_height(weights: Weights) -> Weights:
    """The weights of a twin without their axis of height."""
    return {name: namespace(w).squeeze(w, axis=-2) if w.ndim > 1 else w for name, w in weights.items()}


def along(padding: Any) -> Padding:
    """A signal's padding as that of an image of height 1: p and (before, after) are along it alone."""
    match padding:
        case int():
            return 0, padding
        case (int() as before, int() as after):
            return (0, 0), (before, after)
    return padding  # type: ignore[no-any-return]
