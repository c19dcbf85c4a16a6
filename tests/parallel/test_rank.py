"""What a rank does by itself, without MPI: signs of life for the watchdog, and why no step of it is captured."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn.parallel import Together, watch
from xcnn.parallel.trainer import SharedTrainer


@pytest.fixture
def trainer():
    return xcnn.Model(xcnn.Sequential(xcnn.Dense(2)), (3,), backend="numpy").trainer


def test_a_batch_that_is_measured_is_a_sign_of_life(trainer):
    """A long validation takes no step, and asks no other rank; that the watchdog bites, test_endings.py tells."""
    ranks = SimpleNamespace(rank=0, size=2, left=0.0)
    shared = SharedTrainer.of(trainer, ranks, None, None)
    shared.forward({"dense1": {"kernel": np.ones((3, 2), "float32"), "bias": np.zeros(2, "float32")}}, np.ones((4, 3)))
    assert ranks.left > 0


class OneRank:
    """A communicator of one process."""

    def __init__(self):
        self.Dup, self.Get_rank, self.Get_size = (lambda: self), (lambda: 0), (lambda: 1)


@pytest.mark.parametrize("spans", [True, False])
def test_why_steps_are_taken_one_by_one_is_told_where_they_else_are_not(trainer, caplog, spans):
    step = SimpleNamespace(span=None) if spans else SimpleNamespace()
    with caplog.at_level(logging.INFO, "xcnn"):
        shared = Together(OneRank()).trainer(replace(trainer, step=step))
    assert not shared.spans
    assert ("training steps run one by one: ranks tell each other" in caplog.text) == spans


@pytest.mark.parametrize("stopped", [True, False])
def test_a_job_that_was_stopped_as_a_whole_has_not_stalled(monkeypatch, stopped):
    """The clock goes on by an hour between two looks, or by two seconds each time."""
    looks, clock = (
        iter(range(5)),
        iter([0.0, 1.0, 2.0, 3602.0, 3603.0, 3604.0] if stopped else (2.0 * n for n in range(6))),
    )
    told = []
    watching = watch.Watch(SimpleNamespace(size=2, rank=0, left=0.0, waiting_since=None), None, 5.0)
    watching.over = SimpleNamespace(wait=lambda seconds: next(looks, None) is None)
    monkeypatch.setattr(watch, "monotonic", lambda: next(clock))
    monkeypatch.setattr(watching, "tell_own", lambda: told.append(True))
    watching.watch()
    assert bool(told) != stopped
