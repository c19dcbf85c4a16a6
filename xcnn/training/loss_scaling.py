"""Dynamic loss scaling, with which float16 trains: Micikevicius et al. 2018, section 3.2.

Gradients below 6e-8 are zero in float16. So the loss's gradient is multiplied by a scale on its way back through the
net, and those of the weights are divided by it. Where one is then not finite, the scale was too large: nothing is
updated and the scale is halved. After GOOD_STEPS updates in a row it is doubled.

The scale is part of the optimizer's state, an array that only arrays decide about: so a backend can capture the step.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from xcnn.core import tree
from xcnn.core.arrays import full, namespace
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.training.optimizers import Optimizer, global_norm, weight_norm

if TYPE_CHECKING:
    from xcnn.core.primitives import HostPort

FIRST, LEAST, LARGEST = 2.0**16, 1.0, 2.0**24
GOOD_STEPS = 2000
TYPES = {"loss_scale": "float32", "good_steps": "int64"}
"""What the state holds of it, arrays without axes: the scale, and the updates in a row since it changed."""


def entries(backend: HostPort, loss_scale: float = FIRST, good_steps: int = 0) -> Weights:
    """What the optimizer's state holds where the loss is scaled."""
    return {
        "loss_scale": backend.asarray(loss_scale, TYPES["loss_scale"]),
        "good_steps": backend.asarray(good_steps, TYPES["good_steps"]),
    }


def entries_of(state: Weights) -> Weights:
    """Those of a state; none where the loss is not scaled."""
    return {name: state[name] for name in TYPES if name in state}


def loss_scale(backend: HostPort, state: Weights) -> float:
    """The scale as a number, 1 where the loss is not scaled."""
    return float(backend.to_numpy(state["loss_scale"])) if "loss_scale" in state else LEAST


def update(
    optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
) -> tuple[Weights, Weights, Array, Array]:
    """What `Backend.update` gives, for scaled gradients; the norm is that of the gradients themselves.

    Where it is not finite, weights and moments are the old ones. state["step"] counts this update in any case, since
    the host does not know yet: who reads the norm corrects it.
    """
    scale = state["loss_scale"]
    xp = namespace(scale)
    grads = tree.map(lambda g: g if isinstance(g, Next) else g / scale, grads)
    norm = xp.zeros_like(scale) + global_norm(grads)  # an array also where there are no gradients
    finite = xp.isfinite(norm)
    new_weights, new_state = optimizer.update(grads, state, weights)
    chosen = partial(tree.map, lambda new, old: xp.where(finite, new, old))
    weights = chosen(new_weights, weights)
    moments = {name: chosen(new_state[name], state[name]) for name in optimizer.moments}
    moved = next_entries(scale, state["good_steps"], finite)
    size = weight_norm(weights, moments, optimizer.shown)
    return weights, {"step": new_state["step"], **moments, **moved}, norm, size


def next_entries(scale: Array, good_steps: Array, finite: Array) -> Weights:
    """The scale and its count after a step whose gradients were finite, or not."""
    xp = namespace(scale)
    good_steps = (good_steps + 1) * xp.astype(finite, good_steps.dtype)
    grows = good_steps == GOOD_STEPS
    larger = xp.where(grows, xp.minimum(2 * scale, full(scale, (), LARGEST)), scale)
    smaller = xp.maximum(scale / 2, full(scale, (), LEAST))
    counted = good_steps * xp.astype(~grows, good_steps.dtype)
    return {"loss_scale": xp.where(finite, larger, smaller), "good_steps": counted}
