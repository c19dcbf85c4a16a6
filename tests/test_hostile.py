"""Whatever is given, no error from inside comes out, and nothing that means nothing is taken (hostile.py).

A long run: `python tests/hostile.py ENGINE 8000`, and `python tests/hostile.py options 10000`.
"""

import pytest
from conftest import USABLE
from draws import draws
from hostile import HOSTILE, LIKE, fits, run

FEW = {"numpy": 160, "strict": 160, "torch": 80}
"""Calls on each engine; JAX, which compiles each shape anew, takes its share in long runs."""


@pytest.mark.parametrize("engine", [name for name in USABLE if name in FEW])
def test_hostile_calls(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fallen, examples = run(engine, draws(FEW[engine]))
    assert not fallen, [(what, examples[what]) for what in fallen]


def test_options_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fallen, examples = run("numpy", draws(300), seed=1, options=True)
    assert not fallen, [(what, examples[what]) for what in fallen]


def test_there_is_enough_that_is_hostile():
    assert len(HOSTILE) > 80
    assert len(LIKE) > 15
    assert fits(int | None, None)
    assert fits(tuple[int, ...], [1, 2])
    assert not fits(int, True)
    assert not fits(float, "0.5")
    assert not fits(str | tuple[int, int], (1, "a"))
