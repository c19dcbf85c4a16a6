"""What xcnn offers by name: each name is there, is told in words, and nothing public is left out."""

import doctest
import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xcnn

MODULES = [
    "article",
    "datasets",
    "errors",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "nets",
    "optimizers",
    "parallel",
    "schedules",
    "testing",
    "types",
]
if importlib.util.find_spec("sklearn"):
    MODULES.append("sklearn")
PUBLIC = {"xcnn": xcnn} | {name: importlib.import_module(f"xcnn.{name}") for name in MODULES}
CALLABLES = [
    pytest.param(thing, id=f"{module}.{name}")
    for module, home in PUBLIC.items()
    for name in home.__all__
    if (inspect.isclass(thing := getattr(home, name)) and thing is not Any) or inspect.isfunction(thing)
]

METHODS = [
    pytest.param(getattr(xcnn.Model, name), id=f"Model.{name}")
    for name in vars(xcnn.Model)
    if not name.startswith("_") and inspect.isroutine(getattr(xcnn.Model, name)) and name != "standing"
]
CODES = {*re.findall(r"^## (X\d+):", (Path(__file__).parents[1] / "docs/errors.md").read_text("utf-8"), re.MULTILINE)}
REFUSES = re.compile(r"\braise (?!NotImplementedError)|(?<!def )\b_?check_\w+\(")


def own(thing):
    """The docstring of a function or class itself, and those of xcnn's classes that it is derived from."""
    line = [c for c in thing.__mro__ if c.__module__.startswith("xcnn")] if inspect.isclass(thing) else [thing]
    return [
        inspect.cleandoc(vars(each).get("__doc__") or "" if inspect.isclass(each) else each.__doc__ or "")
        for each in line
    ]


def section(docstring, title):
    """The lines of a numpydoc section that stand at its left edge: names, with what follows them behind a colon."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n\S[^\n]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    lines = found.group(1).splitlines() if found else []
    return [line for line in lines if line.strip() and not line.startswith(" ")]


def named(docstring):
    """The parameters of a docstring's section."""
    heads = [head.split(" : ")[0] for head in section(docstring, "Parameters")]
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


@pytest.mark.parametrize("module", PUBLIC)
def test_every_name_is_there_once(module):
    names = PUBLIC[module].__all__
    assert len(names) == len({*names})
    assert [name for name in names if not hasattr(PUBLIC[module], name)] == []


@pytest.mark.parametrize("thing", CALLABLES)
def test_a_public_name_is_told_in_words(thing):
    """Its own: one that is inherited, or that a dataclass makes of its fields, tells nothing."""
    told = inspect.cleandoc(vars(thing).get("__doc__") or "" if inspect.isclass(thing) else thing.__doc__ or "")
    assert len(told.split()) >= 5
    assert not told.startswith(f"{thing.__name__}(")


@pytest.mark.parametrize("thing", CALLABLES + METHODS)
def test_every_parameter_is_told(thing):
    """By the class or by one that it is derived from; and no other is."""
    if thing in (xcnn.Layer, xcnn.types.Progress, xcnn.testing.CheckFailed):  # protocols, and a plain exception
        return
    parameters = {name for name in inspect.signature(thing).parameters if name not in ("self", "_")}
    told = [named(docstring) for docstring in own(thing)]
    assert parameters - set().union(*told) == set()
    assert told[0] - parameters == set()


@pytest.mark.parametrize("thing", CALLABLES + METHODS)
def test_what_refuses_says_what_it_raises(thing):
    """Whose source raises or checks has the section; each error in it is one of ours, each code has its page."""
    docstring = own(thing)[0]
    raised = {name.strip() for head in section(docstring, "Raises") for name in head.split(",")}
    optional = inspect.isclass(thing) and "@checked" in inspect.getsource(thing) and inspect.signature(thing).parameters
    assert raised or not (optional or REFUSES.search(inspect.getsource(thing)))
    assert raised <= {*xcnn.errors.__all__, "CheckFailed"}
    assert {*re.findall(r"\bX\d{3}\b", docstring)} <= CODES


@pytest.mark.parametrize("thing", [p for p in CALLABLES + METHODS if any(">>>" in text for text in own(p.values[0]))])
def test_examples_run(thing):
    runner, report = doctest.DocTestRunner(), []
    for text in own(thing):
        example = doctest.DocTestParser().get_doctest(text, {"xcnn": xcnn, "np": np}, thing.__name__, None, 0)
        runner.run(example, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("module", ["article", "errors"])
def test_what_a_module_defines_it_offers(module):
    home = PUBLIC[module]
    defined = {
        name
        for name, thing in vars(home).items()
        if inspect.isclass(thing) and thing.__module__ == home.__name__ and name[0].isupper()
    }
    assert defined - {*home.__all__} == set()


def test_dir_shows_what_is_public():
    assert {*dir(xcnn)} == {*xcnn.__all__, "__version__"}
