"""How long does each plan of cuDNN's take?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from xcnn_cupy.answers import promising

from on_gpu.clock import microseconds
from on_gpu.plans import LAYERS, about_plan, questions
from on_gpu.session import PRECISIONS, Session, Task
from xcnn.bench import gpu
from xcnn.bench.cases import MAPS, RESNET18, CorrelationCase
from xcnn.bench.comparison import computing

CACHE = 2**27
"""Bytes of inputs that go through a plan in turn, more than a GPU's cache holds."""


def plan_times(session: Session) -> Iterator[Task]:
    """Each of cuDNN's plans for ResNet-18's and LeNet's convolutions: microseconds on the device."""
    for case in (*RESNET18, *LAYERS[:3]):
        for precision in PRECISIONS:
            yield Task(f"{case}, {precision}", partial(timed_plans, session, case, precision))


def timed_plans(session: Session, case: CorrelationCase, precision: str) -> dict[str, list[dict[str, Any]]]:
    """By map, in the order of cuDNN's guess."""
    made, policy = computing(session.made(), precision)
    backend: Any = made
    layout = "NCHW" if precision in gpu.STRICT else "channels_last"
    arrays = dict(zip(("x", "kernel", "y"), case.data(), strict=True))
    turns = min(max(CACHE // sum(array.nbytes for array in arrays.values()), 1), 8)
    with backend.active():
        inputs = [
            {name: gpu.laid_out(backend, array, policy.compute, layout) for name, array in arrays.items()}
            for _ in range(turns)
        ]
        return {name: times_of(backend, questions(backend, case, name, inputs[0]["x"].dtype), inputs) for name in MAPS}


def times_of(backend: Any, question: Any, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each plan that answers a question: a glance at all, and exact times of the few that are fastest by it."""
    glances = [
        (plan, microseconds(backend, lambda n, plan=plan: backend.gpu.execute(plan, inputs[n % len(inputs)]), 1))
        for plan in backend.gpu.plans.candidates(question)
    ]
    exact = {id(plan) for plan in promising(glances)}
    return [
        {**about_plan(plan), "glance": glance}
        | ({"microseconds": plan_microseconds(backend, plan, inputs)} if id(plan) in exact else {})
        for plan, glance in glances
    ]


def plan_microseconds(backend: Any, plan: Any, inputs: list[dict[str, Any]]) -> float:
    """On these inputs in turn."""
    return microseconds(backend, lambda n: backend.gpu.execute(plan, inputs[n % len(inputs)]))
