"""How a convolution will be computed, before anything runs: the algorithm, why it, its memory, its multiplications."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from xcnn.core import html
from xcnn.core.text import readable
from xcnn.core.types import Pads, Pair, Shape
from xcnn.core.windows import output_size

ITEM = 4
"""Bytes of a cell: explanations are for float32."""


@dataclass(frozen=True)
class Explanation:
    """What `explain_algorithm` gives; `print` it, or read its fields.

    It is about the correlation of images x (N, C, H, W) with kernels k (O, C / groups, h, w), and its two adjoints.
    """

    x_shape: Shape
    k_shape: Shape
    y_shape: Shape
    algorithm: str
    reason: str
    """Why this algorithm, as a sentence."""
    workspace_bytes: int
    """About how much memory one of the three maps takes beside its arguments and its result, in float32."""

    @property
    def multiplications(self) -> int:
        """In each of the three maps by its formula, padding counted: half of its floating point operations."""
        return prod(self.y_shape) * prod(self.k_shape[1:])

    def __str__(self) -> str:
        maps, told = self._lines()
        return "\n".join([maps, *(f"{name:<15}  {text}" for name, text in told)])

    def _repr_html_(self) -> str:
        maps, told = self._lines()
        return html.table((maps, ""), told, words=2)

    def _lines(self) -> tuple[str, list[tuple[str, str]]]:
        """The correlation, and what is told of it by name."""
        return f"x {self.x_shape} * k {self.k_shape} = y {self.y_shape}", [
            ("algorithm", f"{self.algorithm}: {self.reason}"),
            ("workspace", f"about {readable(self.workspace_bytes)} in float32"),
            ("multiplications", f"{self.multiplications:,} for y, as many for dx, as many for dk"),
        ]


def explained(
    x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, algorithm: str, reason: str, cells: int
) -> Explanation:
    """The explanation of a correlation that takes so many cells of workspace."""
    output = output_size(x_shape[2:], (k_shape[2], k_shape[3]), stride, padding, dilation)
    return Explanation(x_shape, k_shape, (x_shape[0], k_shape[0], *output), algorithm, reason, ITEM * cells)
