"""Writes kernels/formulas.h: xcnn's own activations and their gradients in C, from what trace.py finds them to be.

An activation of anybody's is a program of steps, each a pass over lines in the first cache. As a function in C it stays
in registers, about twice as fast; so those that many nets have are written out, and each is one more operation. Nothing
is lost where one is missing here. `python -m xcnn_native.formulas` writes the file; a test tells when that is due.
"""

from __future__ import annotations

import re
from pathlib import Path

from xcnn.core.files import write_whole
from xcnn.layers import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from xcnn.layers.activations import Activation
from xcnn_native.graph import CONSTANT, STREAM, Node, digest, fused, graph, operands
from xcnn_native.trace import Symbol, traced

KERNELS = Path(__file__).with_name("kernels")
LAYERS: dict[str, Activation] = {
    "RELU": ReLU(), "LEAKY_RELU": LeakyReLU(), "LEAKY_RELU_001": LeakyReLU(0.01), "ELU": ELU(), "SIGMOID": Sigmoid(),
    "TANH": Tanh(), "SILU": SiLU(), "SOFTPLUS": Softplus(), "GELU": GELU(), "GELU_TANH": GELU(approximate=True),
}  # fmt: skip
TYPES = {"single": "f", "full": "d"}
HEAD = """// Whole activations and their gradients, written by formulas.py from the layers' own formulas, not by hand.
//
// `a` is what an activation is given, or what it gave where its gradient follows from that; `b` is dy.

#pragma once
#include "functions.h"
"""


def source() -> str:
    """The file's text."""
    texts = dict(re.findall(r"(?:ONE|TWO|THREE)\((\w+), (.+?)\)(?= [A-Z]+\(|\s*\\?\n)", primitives()))
    told: dict[str, list[str]] = {kind: [] for kind in TYPES}
    bodies, macros = [], []
    for name, layer in LAYERS.items():
        for forward in (True, False):
            if forward and called_already(layer):
                continue
            called, seen = name if forward else f"{name}_BACK", {}
            for kind, char in TYPES.items():
                nodes = of(layer, char, forward)
                seen[kind] = digest(nodes)
                told[kind].append(f"{called}:{seen[kind]}")
                if kind == "single" or seen["full"] != seen["single"]:
                    arguments = "Vector a" if forward else "Vector a, Vector b"
                    head = f"INLINE Vector {kind}_{called.lower()}({arguments})"
                    bodies.append("\n".join([f"{head} {{", *body(nodes, texts), "}"]))
            given = f"{called.lower()}(a{'' if forward else ', b'})"
            call = f"single_{given}" if seen["full"] == seen["single"] else f"WIDE ? full_{given} : single_{given}"
            macros.append(f"  {'ONE' if forward else 'TWO'}({called}, {call})")
    lists = [f'#define {kind.upper()}_FORMULAS "{" ".join(names)}"' for kind, names in told.items()]
    return "\n\n".join([HEAD.rstrip(), *bodies, " \\\n".join(["#define FORMULAS(ONE, TWO)", *macros]), *lists]) + "\n"


def called_already(layer: Activation) -> bool:
    """Whether the activation is a single operation."""
    return sum(bool(operands(node)) for node in of(layer, "f", forward=True)) == 1


def primitives() -> str:
    """The list of operations in tiles.c."""
    text = (KERNELS / "tiles.c").read_text()
    return text[text.index("#define PRIMITIVES") : text.index("// And whole activations")]


def of(layer: Activation, char: str, forward: bool) -> list[Node]:
    """The nodes of y in x, or of dx in dy and y, or x."""
    x, dy = Symbol.of("x", char), Symbol.of("dy", char)
    y, dx = traced(layer, x, dy)
    if forward:
        return graph({"y": y}, {})[0]
    nodes, _ = graph({"dx": dx}, {"y": y})
    return nodes if (STREAM, "x", "'x'") not in nodes else graph({"dx": dx}, {})[0]


def body(nodes: list[Node], texts: dict[str, str]) -> list[str]:
    """The statements of a function."""
    nodes, _ = fused(list(nodes), {"": len(nodes) - 1})
    names, lines = [], []
    for n, node in enumerate(nodes):
        if node[0] == CONSTANT:
            names.append(f"splat({node[1]!r})")
        elif node[0] == STREAM:
            names.append("b" if node[1] == "dy" else "a")
        else:
            given = dict(zip("abc", (names[m] for m in operands(node)), strict=False))
            text = re.sub(r"\b[abc]\b", lambda found: given[found.group()], texts[node[0]])  # noqa: B023
            names.append(f"v{n}")
            lines.append(f"  const Vector v{n} = {text};")
    return [*lines, f"  return {names[-1]};"]


if __name__ == "__main__":
    write_whole(KERNELS / "formulas.h", source().encode())
