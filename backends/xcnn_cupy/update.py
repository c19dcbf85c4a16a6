"""An optimizer's update of all weights in two or three launches: the norms, the rules, and what the step came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import sqrt
from typing import Any, TypeAlias

import numpy as np

from xcnn.core import tree
from xcnn.core.types import Array, Weights
from xcnn.layers.layer import Next
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn.training.schedules import learning_rate
from xcnn_cupy.device import MOST_AXES, MOST_CELLS, THREADS, Device, is_channels_last, is_dense
from xcnn_cupy.kernels import Kernel
from xcnn_cupy.layout import converted
from xcnn_cupy.progress import Account

HostArray: TypeAlias = np.ndarray[Any, Any]
Leaf: TypeAlias = tuple[Any, ...]
"""A weight, its gradient or Next, its moments."""

RULES: dict[type[Optimizer], str] = {SGD: "SGD", Adam: "Adam", AdamW: "Adam", RMSprop: "RMSprop"}
"""Optimizers and their rules in update.cu. That of a subclass may be another."""
GRADIENTS = {"float32": ("float32", "float16", "bfloat16"), "float64": ("float64",)}
"""Types of weights, and those that their gradients may have."""
SCALING = ("loss_scale", "good_steps")
"""What the state holds where the loss is scaled: arrays without axes, float32 and int64."""
BLOCKS = 8
"""For each of the device's processors, at most: each block reads what all of them have summed."""

# Structures and constants of update.cu and progress.cu, where they are explained.
CHUNK, LEAVES = 4 * THREADS, 52
PLACES = ("weight", "gradient", "first", "second", "new_weight", "new_first", "new_second")
COUNTS = ("cells", "first_chunk", "is_next", "unused")
LEAF = np.dtype([(name, np.uint64) for name in PLACES] + [(name, np.int32) for name in COUNTS])
TABLE = np.dtype([("leaf", LEAF, LEAVES), ("count", np.int32), ("chunks", np.int32)])
NUMBERS = ("beta1", "beta2", "rho", "momentum", "epsilon", "weight_decay")
OPTIONS = np.dtype([(name, np.float64) for name in NUMBERS] + [("nesterov", np.int32), ("unused", np.int32)])
RATES = np.dtype([(name, np.float64) for name in ("rate", "spread", "kept")])
CAPTURED = np.dtype([(name, np.uint64) for name in ("table", "updates", "stopped", "loss")])
SCALE = np.dtype([(name, np.uint64) for name in ("scale", "good", "next_scale", "next_good")])


@dataclass(frozen=True)
class Step:
    """What a captured step has beside the weights: the account that it enters itself in, and what it has come to.

    `loss` has no axes and the weights' type, `right` is likewise, int64, or None; both are of `samples` samples.
    """

    account: Account
    loss: Array
    right: Array | None
    samples: int


def update(
    device: Device, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
) -> tuple[Weights, Weights, Array, Array] | None:
    """What `Backend.update` gives, or None where the optimizer or an array is not of the kind that this is for.

    All weights and moments are float32, or all float64, and gradients as GRADIENTS has it; a weight and its moments
    lie in the same order. The norms are float64. Where the gradients' norm is known beforehand, for clip_norm or a
    loss's scale, and is not finite, the new weights and moments are the old ones.
    """
    leaves = leaves_of(optimizer, grads, state, weights)
    if not fits(optimizer, leaves):
        return None
    leaves = lying_alike(device, leaves)
    new = [tuple(like(device, old) for old in replaced(leaf)) for leaf in leaves]
    scaled = {name: like(device, state[name]) for name in SCALING if name in state}
    norm, weight_norm = launch(device, optimizer, leaves, new, state, scaled)
    changed = [there + kept_moments(leaf) for leaf, there in zip(leaves, new, strict=True)]
    weights, *moments = (filled(weights, column) for column in zip(*changed, strict=True))
    named = dict(zip(optimizer.moments, moments, strict=True))
    return weights, {"step": state["step"] + 1, **named, **scaled}, norm, weight_norm


def update_in_place(
    device: Device, optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights, step: Step
) -> bool:
    """Update these arrays of weights and state themselves, at the account's rates, and enter the step there.

    Weights and moments stay as they are where the loss or the gradients' norm is not finite or the span has stopped.
    state["step"] is left to the host, which finds in the account how many updates there were. False where this is not
    for such an optimizer or array; then nothing was launched.
    """
    leaves = leaves_of(optimizer, grads, state, weights)
    if not fits(optimizer, leaves) or step.loss.dtype != leaves[0][0].dtype:
        return False
    leaves = lying_alike(device, leaves)
    launch(device, optimizer, leaves, [replaced(leaf) for leaf in leaves], state, state, step)
    return True


def rates(optimizer: Optimizer, step: int) -> tuple[float, float, float]:
    """What the rule multiplies by in this step, counted from 0: Rates of update.cu."""
    rate = learning_rate(optimizer.learning_rate, step)
    if not isinstance(optimizer, Adam):
        return rate, 1.0, 1.0
    taken = step + 1
    kept = 1 - rate * optimizer.weight_decay if isinstance(optimizer, AdamW) else 1.0
    return rate / (1 - optimizer.beta1**taken), 1 / sqrt(1 - optimizer.beta2**taken), kept


def rates_of_span(optimizer: Optimizer, step: int, count: int) -> HostArray:
    """Those of so many steps, (count, 3), for `Account.begin`."""
    return np.array([rates(optimizer, step + n) for n in range(count)]).reshape(count, 3)


def leaves_of(optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights) -> list[Leaf]:
    """All leaves in order; none where there is no kernel of the optimizer's: its moments may be other trees."""
    if type(optimizer) not in RULES:
        return []
    moments = (state[name] for name in optimizer.moments)
    return tree.leaves(tree.map(lambda *leaf: leaf, weights, grads, *moments))


def arrays(leaf: Leaf) -> tuple[Array, ...]:
    """What a kernel reads of a leaf: the weight, its gradient and moments; or the weight and what replaces it."""
    w, g, *moments = leaf
    return (w, g.value) if isinstance(g, Next) else (w, g, *moments)


def replaced(leaf: Leaf) -> tuple[Array, ...]:
    """What it writes anew: the weight and its moments."""
    w, _, *moments = arrays(leaf)
    return (w, *moments)


def kept_moments(leaf: Leaf) -> tuple[Array, ...]:
    """The moments of a weight that is not trained: they stay."""
    _, g, *moments = leaf
    return tuple(moments) if isinstance(g, Next) else ()


def fits(optimizer: Optimizer, leaves: list[Leaf]) -> bool:
    """Whether there is a kernel for these."""
    if type(optimizer) not in RULES or not leaves:
        return False
    kind = str(leaves[0][0].dtype)
    return kind in GRADIENTS and all(leaf_fits(leaf, kind) for leaf in leaves)


def leaf_fits(leaf: Leaf, kind: str) -> bool:
    """Whether its arrays are of this type and shape, and all but the gradient dense and in one order of memory."""
    w, g, *moments = arrays(leaf)
    kinds = (kind,) if isinstance(leaf[1], Next) else GRADIENTS[kind]
    if str(g.dtype) not in kinds or any(str(array.dtype) != kind for array in (w, *moments)) or w.size > MOST_CELLS:
        return False
    if g.ndim > MOST_AXES and not is_dense(g):
        return False
    shape, last = tuple(w.shape), is_channels_last(w)
    return tuple(g.shape) == shape and all(
        tuple(array.shape) == shape and is_dense(array) and is_channels_last(array) == last for array in (w, *moments)
    )


def lying_alike(device: Device, leaves: list[Leaf]) -> list[Leaf]:
    """The leaves, each gradient in its weight's order of memory: a copy where it lay otherwise."""
    return [(w, lying_like(device, g, w), *moments) for w, g, *moments in leaves]


def lying_like(device: Device, g: Any, w: Array) -> Any:
    """A gradient, or the value of a Next, in the order of memory of its weight."""
    if isinstance(g, Next):
        return Next(lying_like(device, g.value, w))
    last = is_channels_last(w)
    if is_dense(g) and is_channels_last(g) == last:
        return g
    return converted(device, g, g.dtype, last)


def like(device: Device, old: Array) -> Array:
    """An array not yet set, of the same shape, type and order."""
    return device.empty(old.shape, old.dtype, is_channels_last(old))


def filled(pattern: Weights, leaves: Sequence[Array]) -> Weights:
    """The tree with these leaves at the pattern's places."""
    there = iter(leaves)
    return tree.map(lambda _: next(there), pattern)


def launch(
    device: Device,
    optimizer: Optimizer,
    leaves: list[Leaf],
    new: list[tuple[Array, ...]],
    state: Weights,
    new_scaling: Weights,
    step: Step | None = None,
) -> tuple[Array, Array]:
    """Put all kernels of an update in line: the norms of the gradients and of the new weights, arrays without axes."""
    given, kind, clip_norm, loss_scale = tables(device, leaves, new), leaves[0][0].dtype, optimizer.clip_norm, None
    if SCALING[0] in state:
        loss_scale = state[SCALING[0]]
    blocks = [min(int(table["chunks"]), BLOCKS * device.processors) for _, table in given]
    sums, parts = device.empty((3, sum(blocks)), "float64"), pairwise(accumulate(blocks, initial=0))
    shares = [(*one, count, slice(*part)) for one, count, part in zip(given, blocks, parts, strict=True)]

    of_gradients = None
    if step or loss_scale is not None or clip_norm is not None:  # then the norm decides what happens
        of_gradients = sums[0]
        for gradients, table, count, part in shares:
            device.launch(Kernel("update", "squares", gradients), count, THREADS, table, of_gradients[part])

    now = np.array((0, 0, 0) if step else rates(optimizer, state["step"]), RATES)
    numbers = options(optimizer), now, captured(device, step), clip_norm or 0.0
    for gradients, table, count, part in shares:
        change = Kernel("update", "change", kind, gradients, RULES[type(optimizer)])
        device.launch(
            change, count, THREADS,
            table, *numbers, loss_scale, of_gradients, sum(blocks), sums[1][part], sums[2][part],
        )  # fmt: skip

    norm, weight_norm = device.empty((), "float64"), device.empty((), "float64")
    entered = (step.loss, step.right, step.samples, step.account.cells) if step else (None, None, 0, None)
    device.launch(
        Kernel("progress", "finish", kind), 1, THREADS,
        sums[1] if of_gradients is None else of_gradients, sums[2], sum(blocks),
        scaling(device, state, new_scaling), *entered, norm, weight_norm,
    )  # fmt: skip
    return norm, weight_norm


def tables(device: Device, leaves: list[Leaf], new: list[tuple[Array, ...]]) -> list[tuple[str, HostArray]]:
    """All leaves that have cells, as many to a table as a launch can pass, with the type of their gradients."""
    groups: dict[str, list[tuple[Leaf, tuple[Array, ...]]]] = {}
    for leaf, there in zip(leaves, new, strict=True):
        if leaf[0].size:
            groups.setdefault(str(arrays(leaf)[1].dtype), []).append((leaf, there))
    return [
        (gradients, table(device, group[first : first + LEAVES]))
        for gradients, group in groups.items()
        for first in range(0, len(group), LEAVES)
    ]


def table(device: Device, entries: list[tuple[Leaf, tuple[Array, ...]]]) -> HostArray:
    """One table."""
    rows, chunks = [], 0
    for leaf, there in entries:
        old, places = [device.address(array) for array in arrays(leaf)], [device.address(array) for array in there]
        places = old + [0] * (4 - len(old)) + places + [0] * (3 - len(places))
        rows.append((*places, leaf[0].size, chunks, isinstance(leaf[1], Next), 0))
        chunks += -(-leaf[0].size // CHUNK)
    made = np.zeros((), TABLE)
    made["leaf"][: len(rows)] = rows
    made["count"], made["chunks"] = len(rows), chunks
    return made


def options(optimizer: Optimizer) -> HostArray:
    """Options of update.cu."""
    numbers = (getattr(optimizer, name, 0.0) for name in NUMBERS)
    return np.array((*numbers, getattr(optimizer, "nesterov", False), 0), OPTIONS)


def captured(device: Device, step: Step | None) -> HostArray:
    """Captured of update.cu."""
    if step is None:
        return np.zeros((), CAPTURED)
    account = step.account
    read = account.rates, account.at("updates"), account.at("stopped"), step.loss
    return np.array(tuple(device.address(array) for array in read), CAPTURED)


def scaling(device: Device, state: Weights, new: Weights) -> HostArray:
    """Scale of progress.cu."""
    if SCALING[0] not in state:
        return np.zeros((), SCALE)
    return np.array(tuple(device.address(scaled[name]) for scaled in (state, new) for name in SCALING), SCALE)
