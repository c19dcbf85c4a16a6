"""The optimizer's step over all weights at once, by the fused kernels of PyTorch's own optimizers.

Those write into the weights and moments that they are given: here these are copies that nobody else has yet. On the CPU
SGD of small weights is a few operations, and large weights are changed by the compiled library's kernels where it is
there: both read the old ones and write new ones, as copying would take longer than the change.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from xcnn.core import tree
from xcnn.core.types import Array, Shape, Weights
from xcnn.layers import Next
from xcnn.training.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xcnn.training.schedules import learning_rate
from xcnn_torch import large_update
from xcnn_torch.memory import PLAIN, lying_as
from xcnn_torch.norms import norm_of, norms_of, together, weight_norm_of

aten = torch.ops.aten
KINDS = SGD, Adam, AdamW, RMSprop
SQUARES = ("second", "square")
"""Moments that may be infinite where the weights are finite; where another is, so are they."""


def update(
    optimizer: Optimizer, grads: Weights, state: Weights, weights: Weights
) -> tuple[Weights, Weights, Array, Array] | None:
    """What `Backend.update` gives; None for optimizers that PyTorch has not, or leaves of several types or devices."""
    flat, found = dict(tree.items(weights)), dict(tree.items(grads))
    trained = [path for path in flat if not isinstance(found[path], Next)]
    moments = [dict(tree.items(state[name])) for name in optimizer.moments]
    rate, step = learning_rate(optimizer.learning_rate, state["step"]), state["step"] + 1
    if type(optimizer) not in KINDS or not alike(
        [of[path] for of in (flat, found, *moments) for path in trained], rate
    ):
        return None
    slopes = [dense(found[path]) for path in trained]
    olds = [[of[path] for path in trained] for of in (flat, *moments)]
    following = [leaf.value for leaf in found.values() if isinstance(leaf, Next)]
    if sum(g.numel() for g in slopes) > SMALL and large_update.fits(slopes):
        rule = large_update.rule(optimizer.with_rate(1.0))
        norm, weight_norm, (new, *new_moments) = rule(rate, step, slopes, olds)
        weight_norm = together([weight_norm, *norms_of(following)]) if following else weight_norm
    else:
        norm, weight_norm, (new, *new_moments) = changed(optimizer, rate, step, slopes, olds, following)

    def entered(old: dict[str, Any], values: list[Array]) -> Weights:
        return tree.filled(weights, {**old, **dict(zip(trained, values, strict=True))})

    new_weights = entered({path: getattr(found[path], "value", None) for path in flat}, new)
    state = {"step": step}
    for name, old, values in zip(optimizer.moments, moments, new_moments, strict=True):
        state[name] = entered(old, values)
    return new_weights, state, norm, weight_norm


def changed(
    optimizer: Optimizer, rate: Any, step: Any, slopes: list[Array], olds: list[list[Array]], following: list[Array]
) -> tuple[Array, Array, list[list[Array]]]:
    """The norms of the gradients and of new weights, and [new weights, *moments], by PyTorch's kernels."""
    joined, lying = Joined.of(slopes), slopes
    if joined is not None:
        slopes = [joined.together(slopes)]
    norm = norm_of(slopes)
    if optimizer.clip_norm is not None:
        slopes = list(torch._foreach_mul(slopes, optimizer.clip_norm / norm.clamp_min(optimizer.clip_norm)))
    if joined is not None and isinstance(optimizer, SGD) and slopes[0].is_cpu:
        new, *new_moments = ([whole] for whole in sgd(optimizer, rate, slopes[0], *map(joined.whole, olds)))
    else:
        if joined is None:
            new, *new_moments = ([copied(w, g) for w, g in zip(old, lying, strict=True)] for old in olds)
        else:
            new, *new_moments = ([joined.copy(old)] for old in olds)
        change(optimizer, rate, step, new, slopes, new_moments)
    squares = [m for name, each in zip(optimizer.moments, new_moments, strict=True) if name in SQUARES for m in each]
    weight_norm = weight_norm_of([*new, *following], squares)
    if joined is not None:
        new, *new_moments = (joined.apart(whole) for (whole,) in (new, *new_moments))
    return norm, weight_norm, [new, *new_moments]


def alike(arrays: list[Array], rate: Any) -> bool:
    """Whether all are tensors of one type that the kernels take, on one CPU or CUDA device, and autograd looks at none.

    CUDA's kernels take a rate that is a tensor as float32, which is too coarse for weights in float64.
    """
    if not arrays or not {type(a) for a in arrays} <= PLAIN or any(a.requires_grad for a in arrays):
        return False
    if len({(a.dtype, a.device.type, a.get_device()) for a in arrays}) > 1:
        return False
    dtype, device = arrays[0].dtype, arrays[0].device
    exact = dtype == torch.float32 or (dtype == torch.float64 and not (device.type == "cuda" and torch.is_tensor(rate)))
    return exact and device.type in ("cpu", "cuda")


def dense(g: Array) -> Array:
    """A gradient without gaps in memory. Its weight and moments take its order, on which the kernels rely."""
    channels_last = g.ndim == 4 and g.is_contiguous(memory_format=torch.channels_last)
    return g if channels_last or g.is_contiguous() else g.contiguous()


def copied(w: Array, g: Array) -> Array:
    """A copy of a weight or moment, in the order of its gradient."""
    lying = lying_as(w, g)
    return lying.clone() if lying is w else lying


SMALL = 2**18
"""Cells, of all weights together, up to which their number counts for more than their size."""


@dataclass(frozen=True)
class Joined:
    """Small arrays beside each other in one, so that what is done to each is one operation on all.

    What an update gives are views of one such array, which the next update finds again.
    """

    shapes: list[Shape]
    strides: list[tuple[int, ...]]
    in_order: list[bool]
    """Which lie as they are indexed."""
    sizes: list[int]
    firsts: list[int]
    cells: int

    @classmethod
    def of(cls, arrays: list[Array]) -> Joined | None:
        """The order of these arrays, each as it lies in memory; None where they are too large."""
        sizes = [a.numel() for a in arrays]
        firsts = [0, *accumulate(sizes)]
        cells = firsts.pop()
        if cells > SMALL:
            return None
        in_order = [a.is_contiguous() for a in arrays]
        return cls([a.shape for a in arrays], [a.stride() for a in arrays], in_order, sizes, firsts, cells)

    def together(self, arrays: list[Array]) -> Array:
        """One new array of them all, each as it lies in memory."""
        return torch.cat([a if a.ndim == 1 else as_stored(a).reshape(-1) for a in arrays])

    def copy(self, arrays: list[Array]) -> Array:
        """A copy of other arrays of these shapes, by one operation if they are the views that `apart` gave."""
        whole = self.base(arrays)
        return self.gathered(arrays) if whole is None else whole.clone()

    def whole(self, arrays: list[Array]) -> Array:
        """One array of them all, to be read: that whose views they are, where `apart` gave them."""
        whole = self.base(arrays)
        return self.gathered(arrays) if whole is None else whole

    def base(self, arrays: list[Array]) -> Array | None:
        """What these are views of, if they are those that `apart` gives of it."""
        whole = arrays[0]._base
        if whole is None or whole.shape != (self.cells,):
            return None
        places = zip(arrays, self.firsts, self.strides, strict=True)
        views = (a._base is whole and a.storage_offset() == n and a.stride() == stride for a, n, stride in places)
        return whole if all(views) else None

    def gathered(self, arrays: list[Array]) -> Array:
        """A new array of them all."""
        made = torch.empty(self.cells, dtype=arrays[0].dtype, device=arrays[0].device)
        for view, a in zip(self.apart(made), arrays, strict=True):
            view.copy_(a)
        return made

    def apart(self, whole: Array) -> list[Array]:
        """The views of each."""
        lines = whole.split(self.sizes)
        parts = zip(lines, self.shapes, self.strides, self.in_order, self.firsts, strict=True)
        return [
            (line if len(shape) == 1 else line.view(shape)) if in_order else whole.as_strided(shape, stride, first)
            for line, shape, stride, in_order, first in parts
        ]


def as_stored(a: Array) -> Array:
    """A dense array with its axes in the order in which they lie in memory."""
    return a if a.is_contiguous() else a.permute(0, 2, 3, 1)


def change(
    optimizer: Optimizer, rate: Any, step: Any, new: list[Array], slopes: list[Array], moments: list[list[Array]]
) -> None:
    """The optimizer's rule, in place on `new` and `moments`; rate and step are numbers, or arrays without axes."""
    match optimizer:
        case SGD():
            with_rate(
                aten._fused_sgd_, rate, new, slopes, moments[0] if moments else [],
                weight_decay=optimizer.weight_decay, momentum=optimizer.momentum, nesterov=optimizer.nesterov,
                dampening=0.0, maximize=False, is_first_step=False,
            )  # fmt: skip
        case Adam():
            decays = isinstance(optimizer, AdamW)
            counted = torch.as_tensor(step, dtype=torch.float32, device=new[0].device)
            with_rate(
                aten._fused_adamw_ if decays else aten._fused_adam_,
                rate, new, slopes, *moments, [], [counted] * len(new),
                beta1=optimizer.beta1, beta2=optimizer.beta2, eps=optimizer.epsilon,
                weight_decay=getattr(optimizer, "weight_decay", 0.0), amsgrad=False, maximize=False,
            )  # fmt: skip
        case RMSprop():
            rmsprop(optimizer, rate, new, slopes, moments)


def sgd(o: SGD, rate: Any, g: Array, w: Array, *velocity: Array) -> list[Array]:
    """SGD's rule: the new weights, and their velocity where there is momentum.

    PyTorch's kernel would need copies to write into, and takes longer to wake its threads than they take for few cells.
    """
    if not torch.is_tensor(rate):
        rate = torch.scalar_tensor(rate, dtype=torch.float64)
    g = g.add(w, alpha=o.weight_decay) if o.weight_decay else g
    after = [g.add(v, alpha=o.momentum) for v in velocity]
    move = g
    for v in after:
        move = g.add(v, alpha=o.momentum) if o.nesterov else v
    return [torch.addcmul(w, move, rate, value=-1), *after]


def with_rate(kernel: Any, rate: Any, *lists: list[Array], **options: Any) -> None:
    """Call a fused kernel with a rate that is a number, or an array without axes."""
    if torch.is_tensor(rate):
        kernel.tensor_lr(*lists, lr=rate.float() if rate.is_cuda else rate, **options)
    else:
        kernel(*lists, lr=rate, **options)


def rmsprop(o: RMSprop, rate: Any, new: list[Array], slopes: list[Array], moments: list[list[Array]]) -> None:
    """RMSprop's rule, for which PyTorch has no fused kernel."""
    if o.weight_decay:
        slopes = list(torch._foreach_add(slopes, new, alpha=o.weight_decay))
    square, *velocity = moments
    torch._foreach_mul_(square, o.rho)
    torch._foreach_addcmul_(square, slopes, slopes, 1 - o.rho)
    spread = torch._foreach_sqrt(square)
    torch._foreach_add_(spread, o.epsilon)
    moves = list(torch._foreach_div(slopes, spread))
    if velocity:
        torch._foreach_mul_(velocity[0], o.momentum)
        torch._foreach_add_(velocity[0], moves)
        moves = velocity[0]
    torch._foreach_sub_(new, torch._foreach_mul(moves, rate))
