"""The command in this process, for as short a time as may be."""

from functools import partial

import pytest

from xcnn.bench import comparison, gpu, timing


@pytest.fixture
def quick(monkeypatch):
    """Few and short calls, and a small matrix product as the ceiling."""
    at_once = timing.Pace(warm_up=0.0, turn=0.0, settle=0.0)
    monkeypatch.setattr(timing, "ON_PROCESSOR", at_once)
    monkeypatch.setattr(gpu, "ON_GPU", at_once)
    monkeypatch.setattr(comparison, "SIDE", 64)
    monkeypatch.setattr(gpu, "SIDE", 16)


class Clock:
    """In the place of the module `time`: it goes on only as it is told, and no other program takes any of it."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """What calls are timed by."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.fixture
def run(run, monkeypatch, quick):
    """Run `xcnn bench` in this process for as short a time as may be: (exit code, stdout, stderr)."""
    monkeypatch.delenv("XCNN_BACKEND", raising=False)
    return partial(run, "bench", "--seconds", "0")
