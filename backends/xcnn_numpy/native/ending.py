"""What follows a product cell by cell, as programs: the bias and any activations, forward and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from xcnn_native.program import Program
from xcnn_native.trace import CHANNEL, STREAM, Symbol, Untraceable, is_formula, trace

from xcnn.core.pure import is_own
from xcnn.layers.layer import Layer


@dataclass(frozen=True)
class Ending:
    """Y = f(Z + B), as far as there are a bias and activations f.

    Attributes
    ----------
    forward
        what makes "y" of "z", in place, and of the bias "b"; with "s", Z + B, beside it where `keeps` says so
    backward
        what makes "dz" of "dy" and of what is kept; None where that is dY itself
    keeps
        the array that `backward` reads: "y", "s", or none of them, ""
    untied
        whether the bias has a number for each place, and no images
    alone
        `forward` where nobody wants a backward pass: it writes "y" and nothing else
    """

    forward: Program | None
    backward: Program | None
    keeps: str
    untied: bool
    alone: Program | None

    def repeated(self, program: Program) -> int:
        """Which of a program's arrays is an untied bias; -1 for none."""
        return program.arrays.index("b") if self.untied else -1


@lru_cache(maxsize=256)
def ending(activations: tuple[Layer, ...], bias: bool | str, char: str) -> Ending:
    """The programs of activations after a bias: True, False or "untied"."""
    z = Symbol.of("z", char)
    s = z + Symbol.of("b", char, STREAM if bias == "untied" else CHANNEL) if bias else z
    kept = Symbol.of("s", char)
    y, _ = trace(activations, s)
    again, through = trace(activations, kept)
    dz = through(Symbol.of("dy", char))
    backward = Program({"dz": dz}, {"y": again}, ("dy",)) if activations else None
    keeps = ""
    if backward and "s" in backward.reads:
        backward, keeps = Program({"dz": dz}, None, ("dy",)), "s"
    elif backward and "y" in backward.reads:
        keeps = "y"
    if not activations and not bias:
        return Ending(None, None, "", False, None)
    alone = Program({"y": y}, None, ("z",))
    forward = Program({"s": s, "y": y}, None, ("z",)) if keeps == "s" else alone
    return Ending(forward, backward, keeps, bias == "untied", alone)


@lru_cache(maxsize=256)
def of_norm(activations: tuple[Layer, ...], char: str, beside: bool = False) -> Ending:
    """Y = f(a Z + b), a and b being numbers of channels, as of a batch norm with fixed statistics. No way back.

    With what lies `beside`, "r", it is f(a Z + b + r).
    """
    z, a, b = Symbol.of("z", char), Symbol.of("a", char, CHANNEL), Symbol.of("b", char, CHANNEL)
    s = z * a + b + Symbol.of("r", char) if beside else z * a + b
    y, _ = trace(activations, s)
    program = Program({"y": y}, None, ("z",))
    return Ending(program, None, "", False, program)


def following(layers: tuple[tuple[str, Layer], ...], n: int) -> tuple[Layer, ...]:
    """The activations from the n-th layer on that are formulas of single cells, and stay so: xcnn's own."""
    found: tuple[Layer, ...] = ()
    for _, layer in layers[n:]:
        if not (is_formula(layer) and is_own(type(layer))):
            break
        try:
            ending((*found, layer), True, "f")
        except Untraceable:
            break
        found = (*found, layer)
    return found


__all__ = ["Ending", "ending", "following", "is_formula", "of_norm"]
