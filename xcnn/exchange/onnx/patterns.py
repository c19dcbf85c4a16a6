"""Several operators for what a layer is: exporters write activations and norms as their formulas.

Each is found from its last operator backwards, and put in its place as one operator; what only it took goes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

from xcnn.exchange.onnx.constants import constant
from xcnn.exchange.onnx.file import Contents, Op
from xcnn.exchange.onnx.matching import Ops
from xcnn.exchange.onnx.norm_patterns import group_norm, layer_norm, local_response_norm

FAR = 17.0
"""From here on log(1 + exp(x)) is x, in float32."""


def silu(op: Op, ops: Ops) -> Op | None:
    """X sigmoid(x)"""
    for x, gate in ops.pairs(op):
        sigmoid = ops.inner(gate, "Sigmoid")
        if sigmoid and sigmoid.inputs == (x,):
            return Op(op.name, "xcnn::SiLU", (x,), op.outputs, {})
    return None


def mish(op: Op, ops: Ops) -> Op | None:
    """X tanh(log(1 + exp(x)))"""
    for x, gate in ops.pairs(op):
        tanh = ops.inner(gate, "Tanh")
        softplus = tanh and ops.inner(tanh.inputs[0], "Softplus")
        if softplus and softplus.inputs == (x,):
            return Op(op.name, "Mish", (x,), op.outputs, {})
    return None


def hard_swish(op: Op, ops: Ops) -> Op | None:
    """X times x + 3, held between 0 and 6, by 6: the division at the end, or within."""
    found = Op(op.name, "HardSwish", (), op.outputs, {})
    product = ops.inner(ops.beside(op, 6.0) or "", "Mul") if op.kind == "Div" else None
    for x, gate in ops.pairs(product or op):
        if product is None and op.kind == "Mul":
            sigmoid = ops.inner(gate, "HardSigmoid")
            if sigmoid and sigmoid.inputs == (x,) and is_sixth(sigmoid):
                return replace(found, inputs=(x,))
            gate = ops.beside(ops.inner(gate, "Div"), 6.0) or ""
        if is_held(gate, x, ops):
            return replace(found, inputs=(x,))
    return None


def is_sixth(op: Op) -> bool:
    """Whether a HardSigmoid is x / 6 + 1/2 between 0 and 1."""
    return bool(abs(op.get("alpha", 0.2) - 1 / 6) < 1e-5 and abs(op.get("beta", 0.5) - 0.5) < 1e-5)


def is_held(name: str, x: str, ops: Ops) -> bool:
    """Whether a value is x + 3, held between 0 and 6."""
    clip = ops.inner(name, "Clip")
    if clip is None or ops.beside(ops.inner(clip.inputs[0], "Add"), 3.0) != x:
        return False
    if len(clip.inputs) == 3:
        return ops.is_number(clip.inputs[1], 0.0) and ops.is_number(clip.inputs[2], 6.0)
    return bool(clip.get("min") == 0 and clip.get("max") == 6)


def gelu(op: Op, ops: Ops) -> Op | None:
    """X (1 + erf(x / sqrt(2))) / 2, multiplied in any order."""
    factors = factors_of(op, ops)
    halves = [name for name in factors if ops.is_number(name, 0.5)]
    others = [name for name in factors if name not in halves]
    if len(halves) != 1 or len(others) != 2:
        return None
    for x, gate in (others, reversed(others)):
        erf = ops.inner(ops.beside(ops.inner(gate, "Add"), 1.0) or "", "Erf")
        if erf is None:
            continue
        within = erf.inputs[0]
        parts = ops.beside(ops.inner(within, "Div"), sqrt(2)) or ops.beside(ops.inner(within, "Mul"), sqrt(0.5))
        if parts == x:
            return Op(op.name, "Gelu", (x,), op.outputs, {})
    return None


def factors_of(op: Op, ops: Ops) -> list[str]:
    """What a product multiplies, those of a product within it too."""
    for name, other in ops.pairs(op):
        inner = ops.inner(name, "Mul")
        if inner is not None:
            return [*inner.inputs, other]
    return [*op.inputs]


def softsign(op: Op, ops: Ops) -> Op | None:
    """X / (1 + |x|)"""
    absolute = ops.inner(ops.beside(ops.inner(op.inputs[1], "Add"), 1.0) or "", "Abs")
    if absolute is None or absolute.inputs[0] != op.inputs[0]:
        return None
    return Op(op.name, "Softsign", op.inputs[:1], op.outputs, {})


def log_sigmoid(op: Op, ops: Ops) -> Op | None:
    """log(1 / (1 + exp(-x)))"""
    sigmoid = ops.inner(op.inputs[0], "Sigmoid")
    return sigmoid and Op(op.name, "xcnn::LogSigmoid", sigmoid.inputs, op.outputs, {})


def softplus(op: Op, ops: Ops) -> Op | None:
    """log(1 + exp(x)), or x itself where that is beyond what is told apart."""
    condition, x, other = op.inputs if len(op.inputs) == 3 else ("", "", "")
    greater, found = ops.inner(condition, "Greater"), ops.inner(other, "Softplus")
    if not greater or not found or greater.inputs[0] != x or found.inputs[0] != x:
        return None
    bound = ops.constants.get(greater.inputs[1])
    far = bound is not None and bound.size == 1 and float(bound.ravel()[0]) >= FAR
    return Op(op.name, "Softplus", (x,), op.outputs, {}) if far else None


PATTERNS: dict[str, tuple[Callable[[Op, Ops], Op | None], ...]] = {
    "Mul": (silu, mish, hard_swish, gelu),
    "Div": (hard_swish, layer_norm, softsign, local_response_norm),
    "Log": (log_sigmoid,),
    "Reshape": (group_norm,),
    "Where": (softplus,),
}
"""By the type of the last operator."""


def simplified(contents: Contents) -> Contents:
    """The same file without Identity and Constant, and with formulas as one operator each."""
    constants, ops, same = dict(contents.constants), [], dict[str, str]()
    for op in contents.ops:
        inputs = tuple(same.get(name, name) for name in op.inputs)
        if op.kind == "Identity" and inputs[0] and len(op.outputs) == 1:
            same[op.outputs[0]] = inputs[0]
        elif op.kind == "Constant" and any(name.startswith("value") for name in op.attributes) and is_numeric(op):
            constants[op.outputs[0]] = constant(op, ())
        else:
            ops.append(replace(op, inputs=inputs))
    outputs = [replace(end, value=same.get(end.name, end.name)) for end in contents.outputs]
    known = Ops(ops, constants)
    known.uses.update(end.value for end in outputs)
    found = [recognised(op, known) for op in ops]
    return replace(contents, ops=found, constants=constants, outputs=outputs)


def recognised(op: Op, ops: Ops) -> Op:
    """The operator, or the one that it and those before it are; one that lacks what it must have is left as it is."""
    for pattern in PATTERNS.get(op.kind, ()):
        try:
            if new := pattern(op, ops):
                return new
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
            continue
    return op


def is_numeric(op: Op) -> bool:
    """Whether a Constant holds numbers."""
    return any(op.get(name) is not None for name in ("value", "value_int", "value_ints", "value_float", "value_floats"))


def needed(ops: list[Op], outputs: list[str]) -> list[Op]:
    """The operators that the outputs follow from."""
    wanted, found = {*outputs}, []
    for op in reversed(ops):
        if wanted & {*op.outputs}:
            wanted |= {*op.inputs}
            found.append(op)
    return found[::-1]
