"""What is no longer finite: the error, and the search for the first such value."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from xcnn.core import tree
from xcnn.core.arrays import namespace
from xcnn.core.types import Array, Backward, Weights
from xcnn.errors import DivergedError
from xcnn.layers.layer import Hook, Layer, Run
from xcnn.training.losses import Loss, value_and_gradient
from xcnn.training.optimizers import Optimizer, moments_of
from xcnn.training.schedules import learning_rate
from xcnn.training.state import TrainingState


def diverged(
    state: TrainingState, optimizer: Optimizer, precision: str, loss: float, norm: float, first: str, lost: str
) -> DivergedError:
    """The error for a loss or a gradient that is not finite; where both are, for what else was `lost`."""
    rate = learning_rate(optimizer.learning_rate, state.optimizer_state["step"])
    what = f"loss became {loss}" if not isfinite(loss) else "a gradient became infinite or NaN"
    if isfinite(loss) and isfinite(norm):
        what = f"the {lost} became too large, infinite or NaN"
    wider = ', precision="bfloat16"' if precision == "float16" else ""
    # moments do not know the rate
    smaller = f"a learning rate of {rate / 10:g}{wider}, or " if lost == "weights" else ""
    so_far = f"mean loss before it {state.loss / state.seen:.4g}, " if state.seen else ""
    return DivergedError(
        "X501",
        f"{what} at epoch {state.epoch + 1}, batch {state.batch + 1}; first non-finite value: {first}.",
        f"{so_far}gradient norm {norm:.2g}, learning rate {rate:g}",
        hint=f"try {smaller}clip_norm; the weights from before this batch are kept.",
    )


ELSEWHERE = "the updated weights, or the norm of the gradients"
"""Where it stands if the step itself has no such value."""


class _FoundError(Exception):
    """Carries the place of the first value that is not finite."""


def first_non_finite(net: Layer, loss: Loss, weights: Weights, run: Run, x: Array, t: Array) -> str:
    """Run the step once more and say where the first non-finite value stands."""

    def demand(array: Array, place: str) -> None:
        xp = namespace(array)
        if not bool(xp.all(xp.isfinite(array))):
            raise _FoundError(place)

    def look(path: tuple[str, ...], layer: Layer, y: Array, backward: Backward) -> Backward:
        name = ".".join(path)
        demand(y, f"output of {name!r}")

        def looking(dy: Array) -> tuple[Array, Weights]:
            dx, grads = backward(dy)
            for weight, gradient in tree.items(grads):
                demand(getattr(gradient, "value", gradient), f"gradient of {name!r}, {weight}")
            demand(dx, f"gradient of the input of {name!r}")
            return dx, grads

        return looking

    try:
        for name, weight in tree.items(weights):
            demand(weight, f"weight {name!r}")
        demand(x, "the input x")
        y, backward = net(weights, x, replace(run, hook=Hook(look)))
        demand(y, "the net's output")
        value, dy = value_and_gradient(loss, y, t)
        demand(value, "the loss")
        demand(dy, "the loss's gradient")
        backward(dy)
    except _FoundError as found:
        return str(found)
    return ELSEWHERE


def lost_moment(state: Weights) -> str:
    """The first of the optimizer's moments that is not finite, in words; "" where all are."""
    for path, moment in tree.items(moments_of(state)):
        if hasattr(moment, "shape") and not bool(namespace(moment).all(namespace(moment).isfinite(moment))):
            name, _, weight = path.partition("/")
            return f"the moment {name!r} of {weight!r}"
    return ""
