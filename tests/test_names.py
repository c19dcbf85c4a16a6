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
from xcnn import backends

MODULES = [
    "article",
    "data.augment",
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
FOUND = {
    f"{module}.{name}": thing
    for module, home in PUBLIC.items()
    for name in home.__all__
    if (inspect.isclass(thing := getattr(home, name)) and thing is not Any) or inspect.isfunction(thing)
}
CALLABLES = [
    pytest.param(thing, id=name) for thing, name in {thing: name for name, thing in reversed(FOUND.items())}.items()
]
"""Each once, by the first of its names."""

METHODS = [
    pytest.param(getattr(xcnn.Model, name), id=f"Model.{name}")
    for name in vars(xcnn.Model)
    if not name.startswith("_") and inspect.isroutine(getattr(xcnn.Model, name)) and name != "standing"
]
CODES = {*re.findall(r"^## (X\d+):", (Path(__file__).parents[1] / "docs/errors.md").read_text("utf-8"), re.MULTILINE)}
GIVEN = (
    xcnn.datasets.Folder, xcnn.datasets.Tar, xcnn.testing.Report, xcnn.testing.Row, xcnn.testing.Verdict,
    xcnn.parallel.Shards, xcnn.parallel.Together,
)  # fmt: skip
"""What functions give and nobody makes: the functions' examples show them."""
NOT_RUN = {
    "mnist": "it downloads 11 MB",
    "fashion_mnist": "it downloads 31 MB",
    "load_keras": "it needs a file that Keras wrote",
    "available_backends": "it asks every library that is installed, which takes seconds",
    "check_backend": "it checks for seconds",
    "launch": "it runs mpiexec",
    "mpi": "it needs an MPI library",
}
"""Functions whose examples doctest is told to skip, and why."""
FAMILIES = {
    "convolutions": [xcnn.Conv2D, xcnn.DepthwiseConv2D, xcnn.StandardizedConv2D],
    "transposed": [xcnn.Conv1DTranspose, xcnn.Conv1D],
    "poolings": [xcnn.MaxPool2D, xcnn.AveragePool2D],
    "poolings of signals": [xcnn.MaxPool1D, xcnn.AveragePool1D],
    "optimizers": [xcnn.SGD, xcnn.Adam, xcnn.AdamW, xcnn.NAdam, xcnn.RMSprop, xcnn.Adagrad, xcnn.LAMB, xcnn.Muon],
    "metrics": [xcnn.metrics.Precision, xcnn.metrics.Recall, xcnn.metrics.F1, xcnn.metrics.IoU],
    "branches": [xcnn.Add, xcnn.Multiply],
    "loggers": [xcnn.CSVLogger, xcnn.JSONLogger],
    "backends": [xcnn.backend, xcnn.set_backend, xcnn.use_backend],
    "files": [xcnn.load_keras, xcnn.load_onnx],
}
"""Whose options of one name mean the same, and are told in the same words, but for these, which differ."""
DIFFER = {
    "transposed": {"stride", "padding"},
    "optimizers": {"momentum", "nesterov", "weight_decay"},
    "metrics": {"average", "name"},
    "backends": {"name"},
    "files": {"loss", "input_shape"},
}
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


def told(docstring):
    """The parameters of a docstring's section, each with what is told of it."""
    found = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n\S[^\n]*\n-+\n|\Z)", docstring, re.MULTILINE | re.DOTALL)
    words, names = {}, []
    for line in found.group(1).splitlines() if found else ():
        if line.strip() and not line.startswith(" "):
            head, _, kind = line.partition(" : ")
            names = [name.strip().lstrip("*") for name in head.split(",")]
            words.update(dict.fromkeys(names, kind.strip()))
        else:
            words.update((name, f"{words[name]} {line.strip()}".strip()) for name in names)
    return words


def parameters(thing):
    """What one takes, by name."""
    return {name: one for name, one in inspect.signature(thing).parameters.items() if name not in ("self", "_")}


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
    """In its own docstring, by itself, None too where that is a default; and no other is."""
    if thing in (xcnn.Layer, xcnn.types.Progress, xcnn.testing.CheckFailed):  # protocols, and a plain exception
        return
    if inspect.isclass(thing) and issubclass(thing, xcnn.errors.XcnnError):  # whose options the base tells
        thing = xcnn.errors.XcnnError
    taken, docstring = parameters(thing), own(thing)[0]
    words = told(docstring)
    assert [*taken] == [name for name in taken if name in words]
    assert {*words} - {*taken} == set()
    for name, one in taken.items():
        assert words[name], name
        assert not re.match(r"as (for|in|of) |as `", words[name]), f"{name} is told elsewhere"
        if one.default is None:
            assert re.search(r"\bNone\b|by default|without", words[name], re.IGNORECASE), f"what {name}=None is"


@pytest.mark.parametrize("family", FAMILIES)
def test_what_means_the_same_is_told_in_the_same_words(family):
    """Docstrings are text, which editors show as it stands: what several have in common is held together here."""
    words = {}
    for thing in FAMILIES[family]:
        for name, text in told(own(thing)[0]).items():
            words.setdefault(name, set()).add(text)
    assert {name for name, texts in words.items() if len(texts) > 1} <= DIFFER.get(family, set())


@pytest.mark.parametrize("thing", CALLABLES + METHODS)
def test_what_refuses_says_what_it_raises(thing):
    """Whose source raises or checks has the section; each error in it is one of ours, each code has its page."""
    docstring = own(thing)[0]
    raised = {name.strip() for head in section(docstring, "Raises") for name in head.split(",")}
    optional = inspect.isclass(thing) and "@checked" in inspect.getsource(thing) and inspect.signature(thing).parameters
    source = inspect.getsource(thing).replace(thing.__doc__ or "", "")
    assert raised or not (optional or REFUSES.search(source))
    assert raised <= {*xcnn.errors.__all__, "CheckFailed"}
    assert {*re.findall(r"\bX\d{3}\b", docstring)} <= CODES


@pytest.mark.parametrize("thing", CALLABLES + METHODS)
def test_an_example_runs(thing, monkeypatch, tmp_path):
    """In its own docstring: in an empty folder, on NumPy."""
    docstring, name = own(thing)[0], thing.__name__
    if thing in GIVEN or (
        inspect.isclass(thing) and issubclass(thing, Exception) and thing is not xcnn.errors.XcnnError
    ):
        return
    if thing is xcnn.types.Progress:  # a protocol, whose methods tell what it takes
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends.selector, "_default", xcnn.backend("numpy"))
    example = doctest.DocTestParser().get_doctest(docstring, {"xcnn": xcnn, "np": np}, name, None, 0)
    assert example.examples
    assert name in NOT_RUN or not any(doctest.SKIP in each.options for each in example.examples)
    runner, report = doctest.DocTestRunner(), []
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
