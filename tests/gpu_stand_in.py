"""What stands in a GPU's place where there is none: NumPy with the options of a backend that captures steps."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
from xcnn_numpy import NumpyBackend

import xcnn
from xcnn.bench.cases import StepCase


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


def small_case(choice):
    """A net for the host in a GPU's place, which is slow."""
    net = xcnn.Sequential(
        xcnn.Conv2D(3, 3), xcnn.ReLU(), xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dropout(0.2), xcnn.Dense(4)
    )
    batch = int(choice.partition(":")[2])
    return StepCase("small", net, (1, 6, 6), batch, "cross_entropy", xcnn.SGD(0.05, momentum=0.9))


class Plan:
    """A plan that a reference stands for; a `careless` one leaves cells as they were."""

    workspace = 7

    def __init__(self, question, careless):
        self.question, self.careless = question, careless
        self.choice = SimpleNamespace(engine=int(careless), knobs=((1, 2),))


class Planned:
    """A rehearsed device with two plans for each question."""

    def __init__(self, device, careless):
        self.device, self.plans, self.careless = device, self, careless

    def __getattr__(self, name):
        return getattr(self.device, name)

    def candidates(self, question):
        return [Plan(question, False), *([Plan(question, True)] if self.careless else [])]

    def execute(self, plan, arrays):
        role = {"forward": "y", "input": "x", "kernel": "kernel"}[plan.question.map]
        before = arrays[role].copy()
        assert np.isnan(before.astype("float64")).all()
        self.device.convolve(plan.question, **arrays)
        if plan.careless:
            arrays[role][0, 0, 0, 0] = before[0, 0, 0, 0]
