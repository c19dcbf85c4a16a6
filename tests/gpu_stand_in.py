"""What stands in a GPU's place where there is none: NumPy with the options of a backend that captures steps."""

from dataclasses import dataclass
from typing import ClassVar

from xcnn_numpy import NumpyBackend


class Step:
    """A step that says why it is not captured, as those of the CuPy backend do."""

    def __init__(self, step, reason):
        self.step, self.reason = step, reason

    def __call__(self, *arguments):
        return self.step(*arguments)


@dataclass(frozen=True, repr=False)
class StandIn(NumpyBackend):
    compiles: bool = True
    deterministic: bool = False
    tune: bool = False

    precisions: ClassVar[tuple[str, ...]] = ("float32", "tf32", "float64")
    reason: ClassVar[str] = "there is no GPU."

    def compile(self, step):
        return Step(super().compile(step), self.reason)
