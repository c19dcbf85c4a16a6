"""The house: arrows of imports go down only, nothing goes round, and no plug-in leans on another."""

import ast

import pytest
from house import FACES, ROOT, circles, climbing, floor, graph, imports, modules, picture, straying

EDGES = graph()


def test_every_module_of_xcnn_is_in_a_wing_or_is_a_short_name():
    homeless = {name for name in EDGES if name.startswith("xcnn.") and floor(name) is None}
    assert homeless == {f"xcnn.{face}" for face in FACES} | {"xcnn.__main__"} & {*EDGES}


def test_nothing_goes_round():
    assert circles(EDGES) == []


def test_arrows_go_down():
    assert climbing(EDGES) == []


def test_the_page_shows_the_wings_as_they_are():
    """The picture in docs/architecture.md; this is what it must be."""
    assert picture(EDGES) in (ROOT / "docs" / "architecture.md").read_text(), "\n" + picture(EDGES)


def test_plugins_lean_on_what_they_share_alone():
    assert straying(EDGES) == []


@pytest.mark.parametrize("face", FACES)
def test_short_names_are_a_wings_own(face):
    """Such a file imports, says what it offers, and does nothing else; some of it may be hidden from type checkers."""
    docstring, *body = ast.parse((ROOT / "xcnn" / f"{face}.py").read_text()).body
    assert isinstance(docstring, ast.Expr)
    hidden = [line for line in body if isinstance(line, ast.If) and ast.unparse(line.test) == "not TYPE_CHECKING"]
    body = [line for line in body if line not in hidden] + [line for each in hidden for line in each.body]
    assert {type(line) for line in body} <= {ast.ImportFrom, ast.Assign}
    assert not any(isinstance(node, ast.Call) for line in body for node in ast.walk(line))


PLANTED = {
    "a type": ("xcnn.core.random", "if TYPE_CHECKING:\n    from xcnn.layers.layer import Layer\n"),
    "a call": ("xcnn.training.optimizers", "def f():\n    from xcnn.model import model\n"),
    "a plug-in": ("xcnn_numpy.fft", "import xcnn_numpy.backend\n"),
}


@pytest.mark.parametrize("place", PLANTED)
def test_a_circle_is_found_where_one_is_planted(place):
    name, line = PLANTED[place]
    path = modules()[name]
    edges = EDGES | {name: imports(name, path.read_text() + line, False, EDGES)}
    assert any(name in ring for ring in circles(edges))
    assert name.startswith("xcnn_") or [arrow for arrow in climbing(edges) if arrow[0] == name]


def test_a_plugin_that_leans_on_another_is_found():
    edges = EDGES | {"xcnn_jax.backend": {"xcnn_torch.backend"}}
    assert straying(edges) == [("xcnn_jax.backend", "xcnn_torch.backend")]
