"""Precision as a policy of the model: the type that its weights have, and the one that its layers compute in.

Half precision needs a rewriting of the net, and nothing in the layers' own files: `mixed` puts each layer into a Cast,
which brings weights and x into the type that is computed in, and the gradients back.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeGuard

from xcnn.core import tree
from xcnn.core.arrays import is_floating
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.names import meant, unknown
from xcnn.core.several import arrays_of, each
from xcnn.core.types import DTYPES, Array, Backward, DTypeName, PrecisionName, Rng, Shape, Weights
from xcnn.errors import OptionError, short
from xcnn.layers import Add, Concatenate, Graph, Multiply, Residual, Sequential
from xcnn.layers.activations import Activation
from xcnn.layers.container import Container
from xcnn.layers.half import may_compute_in_half
from xcnn.layers.layer import Layer, Next, Run
from xcnn.layers.packed import Packed
from xcnn.training.schedules import Schedule

CONTAINERS: tuple[type, ...] = (Sequential, Residual, Concatenate, Add, Multiply, Graph)


@dataclass(frozen=True)
class Precision:
    """What a model computes in.

    Parameters
    ----------
    dtype
        of the weights, their gradients and the optimizer's state; of what the net is given and of what the loss sees
    compute
        of what layers hand to each other, forward and backward
    scales
        whether the loss's gradient is scaled on its way back, so that small gradients do not vanish
    """

    name: PrecisionName
    dtype: DTypeName
    compute: str
    scales: bool = False

    @property
    def mixes(self) -> bool:
        """Whether there are two types."""
        return self.compute != self.dtype


PRECISIONS: dict[str, Precision] = {
    known.name: known
    for known in (
        Precision("float32", "float32", "float32"),
        Precision("tf32", "float32", "float32"),
        Precision("bfloat16", "float32", "bfloat16"),
        Precision("float16", "float32", "float16", scales=True),
        Precision("float64", "float64", "float64"),
    )
}
"""tf32 is float32 whose products may be rounded to 10 binary digits; float32 itself is strict."""


def dtype_name(dtype: Any) -> DTypeName:
    """The name "float32" or "float64", also of what NumPy, PyTorch and others name so: np.float32, torch.float64.

    Raises
    ------
    OptionError
        X104, for any other.
    """
    found = dtype
    if isinstance(dtype, type):
        found = dtype.__name__
    elif type(dtype).__name__.startswith(("dtype", "Float", "DType")):  # PyTorch, NumPy, the standard
        found = str(dtype).rpartition(".")[2]
    if isinstance(found, str) and found in DTYPES:
        return found
    kind = meant("precision", found, PRECISIONS)
    mixes = f'weights stay float32: precision="{kind}".'
    hint = (f'did you mean "{kind}"?' if kind in DTYPES else mixes) if kind else ""
    raise OptionError("X104", f'dtype must be "float32" or "float64"; got {short(dtype)}.', hint=hint)


def policy(name: str | None, dtype: str) -> Precision:
    """The precision of this name for weights of this type; None is that of the type itself.

    Raises
    ------
    OptionError
        X104, when there is no such one, or it goes with other weights.
    """
    dtype = dtype_name(dtype)
    if name is None:
        return PRECISIONS[dtype]
    if not isinstance(name, str) or name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    found = PRECISIONS[name]
    if found.dtype != dtype:
        raise OptionError(
            "X104",
            f'precision="{name}" goes with weights of {found.dtype}; these are {dtype}.',
            hint=f'build the model with dtype="{found.dtype}".',
        )
    return found


@dataclass(frozen=True)
class Cast:
    """A layer that computes in a type of its own, between weights of one type and neighbours of another.

    It has no name and no key of its own: errors, summaries and randomness are those of the layer within.

    Parameters
    ----------
    last
        whether the loss comes next, so that y is given in the weights' type. An activation is then computed in it too:
        a probability near 1, rounded in half precision, is 1, and its logarithm's slope is lost.
    """

    layer: Layer
    precision: Precision
    last: bool = False

    @property
    def compute(self) -> str:
        """The type that the layer computes in: half precision only where its class says so (layers/half.py)."""
        half = may_compute_in_half(self.layer) and not (self.last and isinstance(self.layer, Activation))
        return self.precision.compute if half else self.precision.dtype

    @property
    def result(self) -> str:
        """The type of y."""
        return self.precision.dtype if self.last else self.precision.compute

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return self.layer.init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        cast, compute = run.backend.astype, self.compute
        x_types = [type_name(a) for a in arrays_of(x)]
        inner_weights = tree.map(lambda w: cast(w, compute), weights)
        y, inner_backward = self.layer(inner_weights, each(lambda a: cast(a, compute) if is_floating(a) else a, x), run)
        y_type, y = type_name(y), cast(y, self.result)
        made = likeness(y)

        def of_weight(gradient: Any) -> Any:
            if isinstance(gradient, Next):
                return Next(cast(gradient.value, self.precision.dtype))
            return cast(gradient, self.precision.dtype)

        def backward(dy: Array) -> tuple[Array, Weights]:
            check_dy(self.layer, made, dy)
            dx, grads = inner_backward(cast(dy, y_type))
            if dx is not None:
                casts = tuple(map(cast, arrays_of(dx), x_types))
                dx = casts if isinstance(dx, tuple) else casts[0]
            return dx, tree.map(of_weight, grads)

        return y, backward


@dataclass(frozen=True)
class Widened:
    """A net whose y is given in the weights' type, and whose dy is taken in it, as a loss wants both."""

    net: Layer
    dtype: str

    def init(self, rng: Rng, input_shape: Shape) -> tuple[Weights, Shape]:
        return self.net.init(rng, input_shape)

    def __call__(self, weights: Weights, x: Array, run: Run) -> tuple[Array, Backward]:
        y, inner_backward = self.net(weights, x, run)
        cast, y_types = run.backend.astype, [type_name(a) for a in arrays_of(y)]
        y = each(lambda a: cast(a, self.dtype), y)
        made = [likeness(a) for a in arrays_of(y)]

        def backward(dy: Array) -> tuple[Array, Weights]:
            for one, of_one in zip(made, arrays_of(dy), strict=True):
                check_dy(self.net, one, of_one)
            casts = tuple(map(cast, arrays_of(dy), y_types))
            return inner_backward(casts if isinstance(dy, tuple) else casts[0])

        return y, backward


def mixed(net: Layer, precision: Precision, last: bool = True) -> Layer:
    """The net with each of its layers in a Cast, by the same names; the net itself where there is but one type.

    Layers within containers of a user's own are not seen: such a container is cast as a whole.
    """
    if not precision.mixes:
        return net
    if is_container(net):
        ends = ends_of(net) if last else ()
        made: Layer = net.with_layers({name: mixed(layer, precision, name in ends) for name, layer in net.named})
        return made
    if isinstance(net, Packed):
        return replace(net, graph=mixed(net.graph, precision, last))  # type: ignore[arg-type]
    return Cast(net, precision, last)


def is_container(net: Layer) -> TypeGuard[Container]:
    """Whether it is one of xcnn's own containers, whose layers may be put into others of the same names."""
    return type(net) in CONTAINERS


def ends_of(net: Container) -> tuple[str, ...]:
    """The layers whose y is the net's, and nobody else's."""
    if isinstance(net, Graph):
        return tuple(name for name in net.outputs if not any(name in taken for taken in net.takes))
    return tuple(name for name, _ in net.named[-1:]) if isinstance(net, Sequential) else ()


def widened(net: Layer, precision: Precision) -> Layer:
    """A mixed net for a loss, also where it ends in a container, or a backend has rewritten it."""
    return Widened(net, precision.dtype) if precision.mixes else net


LIMITS = {
    "float64": (2.0**-1022, (2 - 2.0**-52) * 2.0**1023),
    "float32": (2.0**-126, (2 - 2.0**-23) * 2.0**127),
    "bfloat16": (2.0**-126, (2 - 2.0**-7) * 2.0**127),
    "float16": (2.0**-24, 65504.0),
}
"""The smallest number of each type that every library keeps, and the largest."""


def check_numbers(options: Any, dtype: str, owner: str = "", name: str = "") -> None:
    """Raise X104 where a number among options, within dataclasses, tuples and dicts, is 0 or infinite in this type.

    A layer's numbers are looked at in the type that it computes in. 0 itself may stand.
    """
    if isinstance(options, Cast):
        options, dtype = options.layer, options.compute
    if is_dataclass(options) and not isinstance(options, type):
        for field in fields(options):
            if not isinstance(options, Schedule) or field.name in ("rate", "then"):  # whose factors make float64s
                check_numbers(getattr(options, field.name), dtype, type(options).__name__, field.name)
    elif isinstance(options, dict):
        for key, value in options.items():
            check_numbers(value, dtype, owner, str(key))
    elif isinstance(options, list | tuple):
        for value in options:
            check_numbers(value, dtype, owner, name)
    elif isinstance(options, float) or (isinstance(options, int) and abs(options) > 2**53):
        least, most = LIMITS[dtype]
        if options and not least <= abs(options) <= most:
            what = "infinite" if abs(options) > most else "0"
            wider = {"float64": "", "float32": ', or dtype="float64"'}.get(dtype, ', or precision="float32"')
            raise OptionError(
                "X104",
                f"{owner}: {name}={short(options)} is {what} in {dtype}, in which it is computed.",
                hint=f"give a number between {least:.2g} and {most:.2g}{wider}.",
            )


def within(layer: Layer) -> Layer:
    """The layer in a Cast, or the layer itself."""
    return layer.layer if isinstance(layer, Cast) else layer


def type_name(x: Array) -> str:
    """An array's type by its name alone: "float32" also where the library says "torch.float32"."""
    return str(x.dtype).rpartition(".")[2]
