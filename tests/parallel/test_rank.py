"""What a rank does by itself, without MPI: signs of life for the watchdog, and why no step of it is captured."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import xcnn
from xcnn.parallel import Together
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
