"""`python whole_gpu.py FOLDER`: all of benchmarks/gpu.py on the host, in a GPU's place, to see what it tells.

The CuPy backend's own code and kernels run, small: kernels are compiled as C++, the reference answers for cuDNN and
cublasLt, PyTorch computes on the processor. What asks a device itself fails: its properties, its memory, CuPy's
compiler, PyTorch's graphs. FOLDER gets smoke.jsonl and gpu.jsonl; times are this processor's.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

from cuda_on_host.rehearsal import RehearsedGpu
from gpu_stand_in import Planned, small_case

import xcnn
from xcnn.bench import comparison, gpu, timing
from xcnn.bench.cases import CorrelationCase

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASES = (CorrelationCase(2, 3, 6, 4, 3), CorrelationCase(2, 4, 6, 4, 1))
SMALLER = {
    "on_gpu.clock": {"PIECES": 2, "LAUNCHES": 1},
    "on_gpu.machine": {"COPIED": 2**20, "COPIES": 2},
    "on_gpu.nets": {"CAPTURED": 3, "picked": lambda choice: small_case("small:4")},
    "on_gpu.plan_times": {"RESNET18": CASES, "LAYERS": CASES},
    "on_gpu.plans": {"LAYERS": CASES},
    "on_gpu.smoke": {"SMALL": CASES[0], "DENSE": (4, 48, 8), "picked": lambda choice: small_case("small:4")},
    "on_gpu.speed": {
        "RESNET18": CASES, "HOST_CALLS": 3, "picked": lambda choice: small_case("small:4"),
        "is_accurate": lambda model, history: True, "digits": lambda folder: few_digits(),
    },
}  # fmt: skip
"""What takes the place of what a processor would take hours for."""


class Tried(Planned):
    """Plans are run on whatever lies there."""

    def execute(self, plan, arrays):
        self.device.convolve(plan.question, **arrays)


@xcnn.pure
@dataclass(frozen=True, repr=False)
class Rehearsed(RehearsedGpu):
    """With plans that can be looked through, and memory of its own where plans write."""

    @property
    def gpu(self):
        return Tried(super().gpu, careless=False)

    def asarray(self, x, dtype=None):
        found = super().asarray(x, dtype)
        return found if found.flags.writeable else found.copy()


def few_digits():
    """Zeros and ones, not many."""
    data = xcnn.datasets.mnist01()
    return (data.train.x[:8], data.train.y[:8]), (data.test.x[:8], data.test.y[:8])


def small_net():
    """In mnist-net's place."""
    return xcnn.Sequential(xcnn.Conv2D(2, 5, stride=4), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(10))


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(BENCHMARKS))
    script, log = import_module("gpu"), import_module("on_gpu.run").Log
    session = import_module("on_gpu.session").Session(Rehearsed(), seconds=0.0, nets=("small:2", "small:4"))
    with ExitStack() as stack:
        for module, values in SMALLER.items():
            for name, value in values.items():
                stack.enter_context(mock.patch.object(import_module(module), name, value))
        quick = {"ON_GPU": timing.Pace(0.0, 0.0, 0.0), "SIDE": 16, "DATA_BYTES": 0, "REPEATS": 1}
        for name, value in quick.items():
            stack.enter_context(mock.patch.object(gpu, name, value))
        stack.enter_context(mock.patch.object(xcnn.nets, "mnist_net", small_net))
        stack.enter_context(comparison.limited(1, "torch" if find_spec("torch") else None))
        smoke = {"smoke": (import_module("on_gpu.smoke").smoke, 1.0)}
        script.run(session, smoke, 10.0, log(folder / "smoke.jsonl"))
        script.run(session, script.PARTS, 60.0, log(folder / "gpu.jsonl"))


if __name__ == "__main__":
    main()
