"""What xcnn offers by name: each name is there, is told in words, and nothing public is left out."""

import importlib
import inspect

import pytest

import xcnn

MODULES = [
    "article",
    "datasets",
    "errors",
    "initializers",
    "layers",
    "losses",
    "nets",
    "optimizers",
    "schedules",
    "testing",
]
PUBLIC = {"xcnn": xcnn} | {name: importlib.import_module(f"xcnn.{name}") for name in MODULES}
CALLABLES = [
    pytest.param(thing, id=f"{module}.{name}")
    for module, home in PUBLIC.items()
    for name in home.__all__
    if inspect.isclass(thing := getattr(home, name)) or inspect.isfunction(thing)
]


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
