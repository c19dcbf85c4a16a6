"""A loss outside compiled steps, as an evaluation asks for it: one program, not one for each of its operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax

from xcnn.core.pure import Impure, made_of
from xcnn.core.types import Array
from xcnn.training.losses import Loss
from xcnn_jax.compiled import NotCompiled, Static, compiling

Judged: TypeAlias = "tuple[Array, Array, Array | None]"
"""What `Backend.loss_and_gradient` gives."""
Judge: TypeAlias = Callable[..., Judged]
"""`Backend.loss_and_gradient`, as the array API has it: (loss, threshold, y, t, loss_scale)."""


def loss_and_gradient(
    judge: Judge, loss: Loss, threshold: float | None, y: Array, t: Array, loss_scale: Array | None
) -> Judged | None:
    """What `judge` gives, compiled; None where the loss is not pure, or can't be traced, or is part of a trace."""
    if isinstance(y, jax.core.Tracer):
        return None
    loss, weights = apart(loss)
    try:
        static = Static((judge, loss, threshold), made_of((loss, threshold)))
        with compiling():
            judged: Judged = compiled(static, weights, y, t, loss_scale)
    except (Impure, NotCompiled):
        return None
    return judged


def apart(loss: Loss) -> tuple[Loss, dict[str, Array]]:
    """A loss without the arrays that are bound to it, as the weights of samples are, and these."""
    if not isinstance(loss, partial):
        return loss, {}
    arrays = {name: one for name, one in loss.keywords.items() if isinstance(one, jax.Array)}
    others = {name: one for name, one in loss.keywords.items() if name not in arrays}
    return (partial(loss.func, *loss.args, **others) if others or loss.args else loss.func), arrays


@partial(jax.jit, static_argnums=0)
def compiled(static: Static, weights: dict[str, Array], y: Array, t: Array, loss_scale: Array | None) -> Any:
    """The value of a loss, its gradient, and how many samples are right."""
    judge, loss, threshold = static.value
    return judge(partial(loss, **weights) if weights else loss, threshold, y, t, loss_scale)
