"""Normalisations that exporters write as their formulas, found from the last operator backwards."""

from __future__ import annotations

from typing import Any

from xcnn.exchange.onnx.constants import axes_of
from xcnn.exchange.onnx.file import Op
from xcnn.exchange.onnx.matching import Ops


def layer_norm(op: Op, ops: Ops) -> Op | None:
    """(x - mean) / sqrt(mean of its square + epsilon)"""
    root = ops.inner(op.inputs[1], "Sqrt")
    raised = root and ops.inner(root.inputs[0], "Add")
    if raised is None:
        return None
    for name, added in ops.pairs(raised):
        epsilon, variance = ops.constants.get(added), ops.inner(name, "ReduceMean")
        centred = ops.made(op.inputs[0], "Sub")
        if epsilon is None or epsilon.size != 1 or variance is None or centred is None:
            continue
        whole, parts = of_parts(variance.inputs[0], ops)
        square = ops.inner(whole, "Pow", "Mul")
        if square is None:
            continue
        squared = is_square(square, centred.outputs[0], ops)
        axes, x = mean_axes(variance, ops), uncentred(centred, ops)
        if squared and axes and x[1] == axes:
            how = {"axes": axes, "epsilon": float(epsilon.ravel()[0]), "parts": parts}
            return Op(op.name, "xcnn::LayerNorm", (x[0],), op.outputs, how)
    return None


def mean_axes(mean: Op, ops: Ops) -> Any:
    """The axes of a mean that keeps them; None of another."""
    axes = axes_of(mean, [None, *(ops.constants.get(n) for n in mean.inputs[1:])])
    return axes if mean.get("keepdims", 1) else None


def of_parts(name: str, ops: Ops) -> tuple[str, tuple[int, ...]]:
    """Of means of parts of an axis what they are the means of, and the sizes that it had, the means' axis first."""
    means = ops.inner(name, "ReduceMean")
    split = means and ops.inner(means.inputs[0], "Reshape")
    if not means or not split or means.get("keepdims", 1) or split.get("allowzero", 0):
        return name, ()
    axes = axes_of(means, [None, *(ops.constants.get(n) for n in means.inputs[1:])])
    sizes = ops.constants.get(split.inputs[1])
    if axes is None or len(axes) != 1 or sizes is None:
        return name, ()
    return split.inputs[0], (axes[0], *sizes.ravel().tolist())


def uncentred(centred: Op, ops: Ops) -> tuple[str, Any]:
    """What a mean was taken from, and the mean's axes; once more where that was done twice along the same."""
    x, mean = centred.inputs[0], ops.made(centred.inputs[1], "ReduceMean")
    if mean is None or mean.inputs[0] != x:
        return x, None
    axes, before = mean_axes(mean, ops), ops.made(x, "Sub")
    if axes and before is not None and ops.uses[x] == 2:
        first, others = uncentred(before, ops)
        if others == axes:
            return first, axes
    return x, axes


def group_norm(op: Op, ops: Ops) -> Op | None:
    """Groups that an InstanceNormalization has for channels, in another shape then, that of before as a rule."""
    instance = ops.inner(op.inputs[0], "InstanceNormalization")
    grouped = instance and ops.inner(instance.inputs[0], "Reshape")
    if not instance or not grouped or op.get("allowzero", 0) or len(op.inputs) != 2:
        return None
    sizes = ops.constants[grouped.inputs[1]].ravel().tolist()
    scale, bias = (ops.constants[name] for name in instance.inputs[1:])
    if len(sizes) != 3 or sizes[0] != 0 or sizes[2] != -1 or (scale != 1).any() or bias.any():
        return None
    how = {"groups": sizes[1], "epsilon": instance.get("epsilon", 1e-5)}
    return Op(op.name, "xcnn::GroupNorm", (grouped.inputs[0], op.inputs[1]), op.outputs, how)


def local_response_norm(op: Op, ops: Ops) -> Op | None:
    """X / (k + alpha times the mean of the squares of neighbouring channels)^beta, the mean by a pooling."""
    power = ops.inner(op.inputs[1], "Pow")
    raised = power and ops.inner(power.inputs[0], "Add")
    if not power or not raised:
        return None
    for name, k in ops.pairs(raised):
        product = ops.inner(name, "Mul")
        for mean, alpha in ops.pairs(product) if product else ():
            numbers: list[Any] = [ops.constants.get(each) for each in (alpha, k, power.inputs[1])]
            if any(each is None or each.size != 1 for each in numbers):
                continue
            found = of_neighbours(mean, op.inputs[0], ops)
            if found:
                how = dict(zip(("alpha", "k", "beta"), (float(each.ravel()[0]) for each in numbers), strict=True))
                return Op(op.name, "xcnn::LRN", op.inputs[:1], op.outputs, how | found)
    return None


def of_neighbours(name: str, x: str, ops: Ops) -> dict[str, int] | None:
    """How many channels a mean of squares is of, and how many there are where the file says it: a pooling's window.

    Between it and the squares are an axis of size 1 before the channels, and zeros around these.
    """
    size, channels, pads = 0, 0, [0, 0]
    while op := ops.inner(name, "Reshape", "Squeeze", "Unsqueeze", "Pad", "AveragePool"):
        constant: Any = ops.constants.get(op.inputs[1]) if len(op.inputs) > 1 else None
        match op.kind:
            case "AveragePool":
                size, *others = op.get("kernel_shape")
                given = op.get("pads") or [0, 0]
                zeros = bool(op.get("count_include_pad", 0)) or not any(given)
                plain = not op.get("ceil_mode", 0) and op.get("auto_pad", "NOTSET") == "NOTSET" and zeros
                if {*others, *(op.get("strides") or [1])} != {1} or not plain:
                    return None
                added = ends_of_channels(given, 0)
            case "Pad":
                if constant is None or op.get("mode", "constant") != "constant" or not is_zero(op, ops):
                    return None
                added = ends_of_channels(constant.ravel().tolist(), 1 if channels else 2)
                channels -= sum(added or ()) if channels else 0  # which the Reshape behind it has counted
            case "Reshape" if size:  # before the pooling
                sizes = constant.ravel().tolist()
                if len(sizes) < 4 or sizes[1] != 1:
                    return None
                channels, added = sizes[2], [0, 0]
            case _:
                added = [0, 0] if op.kind == "Reshape" or axes_of(op, [None, constant]) == [1] else None
        if added is None:
            return None
        pads, name = [a + b for a, b in zip(pads, added, strict=True)], op.inputs[0]
    square = ops.inner(name, "Mul", "Pow")
    if square is None or not is_square(square, x, ops) or not size or pads != [size // 2, (size - 1) // 2]:
        return None
    return {"size": size, "channels": channels}


def ends_of_channels(pads: list[int], axis: int) -> list[int] | None:
    """What stands before and behind one axis, where nothing stands around others."""
    half = len(pads) // 2
    ends = [pads[axis], pads[half + axis]]
    return ends if sum(map(abs, pads)) == sum(ends) and min(ends) >= 0 else None


def is_zero(pad: Op, ops: Ops) -> bool:
    """Whether a Pad adds zeros."""
    given = ops.constants.get(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] else None
    return given is None or (given.size == 1 and not given.any())


def is_square(op: Op, x: str, ops: Ops) -> bool:
    """Whether an operator multiplies a value with itself."""
    if op.kind == "Mul":
        return op.inputs == (x, x)
    return op.inputs[0] == x and ops.is_number(op.inputs[1], 2.0)
