"""The libraries that xcnn is timed beside on the processor, and what the module of each one's side offers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from xcnn.bench.cases import Call, CorrelationCase, StepCase
from xcnn.core.types import Weights
from xcnn.errors import OptionError
from xcnn.training.state import HostArray

RIVALS = ("torch", "jax")


class Rival(Protocol):
    """The same work by another library, each piece in the way that takes it least time, which is named in words."""

    def best_step(self, case: StepCase, weights: Weights, x: HostArray, t: HostArray) -> tuple[str, Call]:
        """A training step from these weights (a tree of host arrays) on this batch; the call gives the loss."""
        ...

    def best_correlation(self, case: CorrelationCase, name: str, dtype: str = "float32") -> tuple[str, Call]:
        """One of the three maps, by its name in MAPS."""
        ...

    def matrix_product(self, a: HostArray, b: HostArray) -> Call:
        """A B"""
        ...

    def limited(self, threads: int) -> AbstractContextManager[None]:
        """So many threads within the block, as far as the library lets itself be limited."""
        ...

    def version(self) -> str:
        """Of the library."""
        ...


def rival(name: str) -> Rival:
    """The side of a library by its name in RIVALS.

    Raises
    ------
    OptionError
        X104, for another name.
    MissingDependency
        X601, where the library is not installed.
    """
    match name:
        case "torch":
            from xcnn.bench import torch_side

            return torch_side
        case "jax":
            from xcnn.bench import jax_side

            return jax_side
    raise OptionError("X104", f"--against takes {' or '.join(RIVALS)}; got {name!r}.")
