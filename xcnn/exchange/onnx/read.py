"""An ONNX file as a net with its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xcnn.core.types import Shape, Weights
from xcnn.errors import ExchangeError, OptionError, XcnnError, counted, short
from xcnn.exchange.onnx.assemble import assembled
from xcnn.exchange.onnx.constants import FOLDED, TooMuch
from xcnn.exchange.onnx.file import Contents, End, Op, contents, takers
from xcnn.exchange.onnx.flow import (
    Building,
    Flow,
    Inexpressible,
    Known,
    Lost,
    Row,
    batch_shape,
    flow,
    known,
    simplified,
)
from xcnn.exchange.onnx.operators import OPERATORS
from xcnn.exchange.onnx.patterns import needed
from xcnn.exchange.onnx.patterns import simplified as without_patterns
from xcnn.layers import Layer

FLOATS = (1, 10, 11, 16)
"""The numbers of floating-point types: float32, float16, float64, bfloat16."""
MOST_FOLDED = 1 << 25
"""Bytes that constants may take beside the file's own, and four times these."""
INPUT = "input"


@dataclass(frozen=True)
class Read:
    """What is read of a file.

    Parameters
    ----------
    net, weights
        layers, and their tree of NumPy arrays
    input_shape
        of one sample
    info
        the file's metadata
    """

    net: Layer
    weights: Weights
    input_shape: Shape
    info: dict[str, str]


def read_onnx(path: str | Path, input_shape: Shape | None = None, output: str | None = None) -> Read:
    """The net of a file.

    Parameters
    ----------
    path
        of the file
    input_shape
        of one sample, for a file that leaves sizes free
    output
        the name of the value that the net gives, an output or any within; None is the file's only output

    Raises
    ------
    ExchangeError
        X413 for what is no ONNX file, or damaged; X414 for operators that no layer is for.
    OptionError
        X104, for an input_shape or an output that the file does not have.
    MissingDependency
        X601
    """
    name = Path(path).name
    file = without_patterns(chosen(name, contents(path), output))
    end = file.outputs[0].value
    ops = needed(file.ops, [end])
    given = the_input(name, file, ops)
    shape = sample_shape(name, given, input_shape)
    with np.errstate(all="ignore"):
        reading = Reading(file, ops, end)
        reading.net.batch = (given.sizes[0] or None) if given.sizes else None
        start = reading.start(given.name, shape)
        for op in ops:
            reading.read(op)
        last = reading.finished(name, end)
    net, weights = assembled(reading.net.steps, INPUT, last.step)
    return Read(net, weights, start.held, file.info)


def chosen(name: str, file: Contents, asked: str | None) -> Contents:
    """The file with one output: the one that is asked for, which may be any value within, or its only one."""
    names = [end.name for end in file.outputs]
    told = ", ".join(map(short, names))
    if asked is None:
        if len(names) != 1:
            hint = f"choose one: output={short(names[0])}." if names else ""
            raise OptionError("X104", f"{name} has {counted(len(names), 'output')}: {told}.", hint=hint)
        return file
    if asked not in names and asked not in {given for op in file.ops for given in op.outputs if given}:
        raise OptionError("X104", f"{name} has no value {short(asked)}; it gives {told}.")
    return replace(file, outputs=[End(asked, 1, None)])


def the_input(name: str, file: Contents, ops: list[Op]) -> End:
    """The only input that the output follows from."""
    taken = {each for each, _ in takers(ops)}
    found = [end for end in file.inputs if end.name in taken] or file.inputs[:1]
    if len(found) != 1:
        told = ", ".join(short(end.name) for end in found)
        raise ExchangeError("X414", f"{name} has {counted(len(found), 'input')}, and a model is read with one: {told}.")
    if found[0].kind not in FLOATS:
        raise ExchangeError("X414", f"{name} takes other than floating-point numbers for {short(found[0].name)}.")
    return found[0]


def sample_shape(name: str, end: End, asked: Shape | None) -> Shape:
    """The shape of a sample of the input, as the file has it."""
    sizes = None if end.sizes is None else end.sizes[1:]
    told = "any shape" if sizes is None else f"({', '.join('?' if n is None else str(n) for n in sizes)})"
    if asked is None:
        if sizes is None or None in sizes or 0 in sizes:
            raise OptionError(
                "X104",
                f"{name} takes samples of {told}.",
                hint="say which: load_onnx(path, input_shape=(3, 224, 224)).",
            )
        return tuple(n for n in sizes if n is not None)
    shape = tuple(asked)
    if sizes is not None and (
        len(shape) != len(sizes) or any(n not in (None, 0, m) for n, m in zip(sizes, shape, strict=True))
    ):
        raise OptionError("X104", f"{name} takes samples of {told}, not of {shape}.")
    return shape


class Reading:
    """Goes through the operators of a file, and keeps what each value is."""

    def __init__(self, file: Contents, ops: Sequence[Op], end: str) -> None:
        uses = Counter(name for name, _ in takers([*ops]))
        uses[end] += 1
        self.net: Building = Building(file.opset, uses, (MOST_FOLDED + 4 * file.size) // 4)
        self.values: dict[str, Any] = {name: known(array) for name, array in file.constants.items()}
        self.ops: Sequence[Op] = ops
        self.room: int = MOST_FOLDED + 4 * file.size
        self.failed: dict[tuple[str, str], list[str]] = {}
        self.last: str = ""
        """A value before the first that failed, other than the input."""
        self.first: str = ""

    def start(self, name: str, shape: Shape) -> Flow:
        """The input's value; one whose channels the graph puts first at once is taken as it is behind that."""
        self.first = name
        first = [op for each, op in takers([*self.ops]) if each == name]
        orders = {tuple(op.get("perm") or ()) if op.kind == "Transpose" else () for op in first}
        x = Flow(INPUT, shape, shape)
        order = orders.pop() if len(orders) == 1 else ()
        if order == (0, len(shape), *range(1, len(shape))):
            held = tuple(shape[axis - 1] for axis in order[1:])
            x = simplified(Flow(INPUT, held, shape, tuple(order.index(n) - 1 for n in range(1, len(order)))))
        self.values[name] = x
        return x

    def read(self, op: Op) -> None:
        """What an operator gives: constants, values of layers, or nothing that can be had."""
        args = [self.values.get(name) if name else None for name in op.inputs]
        lost = any(isinstance(arg, Lost) for arg in args)
        try:
            made: Any = [Lost()] * len(op.outputs)
            if not lost:
                made = self.made(op, args)
            elif op.kind not in OPERATORS and op.kind not in FOLDED and op.kind not in ("Shape", "Size"):
                raise Inexpressible("no layer is for it")
        except (Inexpressible, TooMuch, XcnnError) as error:
            self.fail(op, error.summary if isinstance(error, XcnnError) else str(error))
        except (ArithmeticError, AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            self.fail(op, f"its attributes or its inputs do not fit: {short(str(error))}")
        for name, value in zip(op.outputs, made, strict=False):
            self.values[name] = value
        for name in op.outputs[len(made) :]:
            self.values[name] = Lost()
        self.net.note(op, made)

    def made(self, op: Op, args: list[Any]) -> list[Any]:
        """The outputs of an operator, of which the first may be all."""
        if op.kind in ("Shape", "Size") and isinstance(args[0], Flow):
            args = [Known(tuple(np.broadcast_to(np.float32(0), n.tolist()) for n in batch_shape(args[0].shape).values))]  # type: ignore[arg-type]
        if op.kind in FOLDED and all(arg is None or isinstance(arg, Known) for arg in args):
            return [self.folded(op, args)]
        if op.kind not in OPERATORS:
            raise Inexpressible("no layer is for it")
        found = OPERATORS[op.kind](op, args, self.net)
        return found if isinstance(found, list) else [found]

    def folded(self, op: Op, args: list[Known | None]) -> Known:
        """A constant that follows from others, for both numbers of samples."""
        first, second = ([None if arg is None else arg.values[n] for arg in args] for n in (0, 1))
        f = FOLDED[op.kind]
        values = f(op, first)
        same = all(a is b for a, b in zip(first, second, strict=True))
        others = values if same else f(op, second)
        self.room -= sum(x.nbytes for x in {id(x): x for x in (values, others)}.values() if x.base is None)
        if self.room < 0:
            raise TooMuch("the constants that follow from others take too much memory")
        return Known((values, others))

    def fail(self, op: Op, why: str) -> None:
        """Note an operator that can't be had."""
        if not self.failed:
            found = (n for n in op.inputs if n != self.first and isinstance(self.values.get(n), Flow))
            self.last = next(found, "")
        self.failed.setdefault((op.kind, why), []).append(op.name)

    def finished(self, name: str, end: str) -> Flow:
        """The output, held as it is seen; raises X414 with all operators that could not be had."""
        value = self.values.get(end)
        if not self.failed and isinstance(value, Flow | Row):
            try:
                value = flow([value])
                return self.net.plain(value)
            except (Inexpressible, XcnnError) as error:
                self.fail(Op(end, "output", (), (), {}), str(error))
        if not self.failed:
            raise ExchangeError("X414", f"{name} gives {short(end)}, which does not follow from its input.")
        raise inexpressible(name, self.failed, self.last)


def inexpressible(name: str, failed: dict[tuple[str, str], list[str]], last: str) -> ExchangeError:
    """X414: each type of operator with the reason, and the nodes by name."""
    count = sum(map(len, failed.values()))
    lines = [f"{kind} ({why}): {', '.join(map(short, names))}" for (kind, why), names in sorted(failed.items())]
    hint = f"what comes before them can be had: load_onnx(path, output={short(last)})." if last else ""
    what = f"{name} has {counted(count, 'operator')} that no layer of xcnn is for."
    return ExchangeError("X414", what, *lines, hint=hint)
