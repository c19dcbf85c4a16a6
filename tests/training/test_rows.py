"""The rows of epochs: what one more costs, and what shares them."""

import copy
import json
import pickle
import statistics
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import xcnn
from xcnn.training.plateau import ReduceOnPlateau
from xcnn.training.rows import Rows

X, Y = np.eye(8, 3, dtype="float32"), np.arange(8) % 2
QUIET = {"progress": "none"}
OLD, EPOCHS = 1_000, 12


def tiny():
    return xcnn.Model(xcnn.Dense(2), (3,), backend="numpy", seed=0)


class Counter:
    """Calls, and bytes that are allocated at most, between the ends of two epochs."""

    def start(self, model):
        self.seen, self.calls = [], 0
        tracemalloc.start()

    def count(self, frame, event, argument):
        self.calls += event in ("call", "c_call")

    def __call__(self, model, history):
        _, most = tracemalloc.get_traced_memory()
        self.seen.append((self.calls, most - self.before if len(self.seen) else 0))
        tracemalloc.reset_peak()
        self.before, self.calls = tracemalloc.get_traced_memory()[0], 0
        sys.setprofile(self.count)

    def finish(self, model, history):
        sys.setprofile(None)
        tracemalloc.stop()

    @property
    def medians(self):
        """Of the epochs behind the first, which writes logs whole."""
        return [statistics.median(column) for column in zip(*self.seen[1:], strict=True)]


@pytest.mark.parametrize("logs", [False, True], ids=["no logs", "with logs"])
def test_an_epoch_costs_the_same_whatever_was_before_it(logs, tmp_path):
    found = []
    for old in (10, OLD):
        model, counter = tiny(), Counter()
        model.fit(X, Y, validation_split=0.5, **QUIET)
        rows = Rows({**model.state.rows[0], "epoch": n + 1} for n in range(old))
        model.state = replace(model.state, rows=rows, epoch=old)
        callbacks = [xcnn.EarlyStopping(patience=OLD), ReduceOnPlateau("loss", OLD)]
        if logs:
            callbacks += [xcnn.CSVLogger(tmp_path / f"{old}.csv"), xcnn.JSONLogger(tmp_path / f"{old}.jsonl")]
        history = model.fit(X, Y, epochs=EPOCHS, validation_split=0.5, callbacks=[*callbacks, counter], **QUIET)
        assert len(history) == old + EPOCHS
        found.append(counter.medians)
    (few_calls, few_bytes), (many_calls, many_bytes) = found
    assert abs(many_calls - few_calls) <= 5  # of 1,000: EarlyStopping fetches the weights where an epoch is better
    assert abs(many_bytes - few_bytes) < OLD  # a copy of the places of the rows alone takes eight times that


def test_rows_share_what_they_have_and_nothing_else():
    first, second, third = ({"epoch": n} for n in (1, 2, 3))
    short = Rows([first])
    longer, other = short.and_one(second), short.and_one(third)
    assert (tuple(short), tuple(longer), tuple(other)) == ((first,), (first, second), (first, third))
    assert longer[0] is first is other[-2]
    assert longer.and_one(third)[2] is third
    assert short == (first,) != longer
    assert longer == Rows([first, second])
    assert longer[1:] == (second,)
    with pytest.raises(IndexError):
        short[1]
    for twin in (pickle.loads(pickle.dumps(short)), copy.deepcopy(short)):
        assert twin == short
        assert twin[0] is not first
        assert pickle.dumps(short) == pickle.dumps(Rows([{"epoch": 1}]))  # without the longer one's


def test_a_training_that_was_left_goes_on_beside_the_rows_of_the_first():
    model = tiny()
    model.fit(X, Y, epochs=2, **QUIET)
    begun = model.state
    model.fit(X, Y, epochs=4, resume=True, **QUIET)
    model.state, beyond = begun, model.state
    model.fit(X, Y, epochs=3, resume=True, **QUIET)
    assert [len(state.rows) for state in (begun, beyond, model.state)] == [2, 4, 3]
    assert beyond.rows[2] is not model.state.rows[2]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("what", ["row before", "first row", "column", "file shortened", "file gone"])
def test_a_log_follows_what_callbacks_change(kind, what, tmp_path):
    """Each file is what a whole one of the same rows would be, at the latest when training ends."""
    path, logger = tmp_path / f"log.{kind}", xcnn.CSVLogger if kind == "csv" else xcnn.JSONLogger

    def change(model, history):
        if len(history) != 2:
            return
        if what in ("row before", "first row"):
            history.rows[-1 if what == "row before" else 0]["loss"] = 7.5
        elif what == "column":
            history.rows[-1]["mine"] = [1, 2]
        else:
            path.write_text("short") if what == "file shortened" else path.unlink()

    history = tiny().fit(X, Y, epochs=4, callbacks=[logger(path), change], **QUIET)
    again = logger(tmp_path / "whole")
    again(None, history)
    assert path.read_bytes() == (tmp_path / "whole").read_bytes()
    assert len(path.read_text().splitlines()) == 4 + (kind == "csv")
    if what == "row before" and kind == "jsonl":
        assert json.loads(path.read_text().splitlines()[1])["loss"] == 7.5
