"""The site documents every public name, and its directive reads docstrings as they are written."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

import xcnn

ROOT = Path(__file__).parent.parent
pytest.importorskip("sphinx", reason="the extra xcnn[docs] is not installed")
sys.path.insert(0, str(ROOT / "docs" / "site"))
import mathml  # noqa: E402
import public_names  # noqa: E402

DIRECTIVE = re.compile(r"^:::\{public-names\} (\S+)$", re.MULTILINE)


def documented():
    """The names of all pages."""
    texts = [page.read_text("utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md"))]
    found = [name for text in texts for name in DIRECTIVE.findall(text)]
    return found, [name for module in found for name, _ in public_names.public_names(module)]


def test_every_public_name_is_documented_once():
    modules, names = documented()
    assert len({*names}) == len(names) > 250
    homes = {name: getattr(xcnn, name) for name in xcnn.__all__}
    public = {f"xcnn.{name}" for name, thing in homes.items() if not is_module(thing)}
    assert public <= {*names}
    told = {import_module(module) for module in modules}
    offered = {id(getattr(home, name)) for home in told for name in getattr(home, "__all__", ())}
    for name, thing in homes.items():
        if is_module(thing):
            assert thing in told or {id(getattr(thing, each)) for each in thing.__all__} <= offered, name


def is_module(thing):
    return type(thing) is type(sys)


def test_every_page_of_names_is_in_the_list():
    listed = re.findall(r"\]\((\w+)\.md\)", (ROOT / "docs/api/README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(page.stem for page in (ROOT / "docs/api").glob("*.md") if page.stem != "README")


def test_docstrings_are_prose_with_code():
    assert public_names.escaped("Y = X * K|, `a * b` and **named, running_ too") == (
        "Y = X \\* K\\|, ``a * b`` and \\*\\*named, running\\_ too"
    )


def test_every_formula_of_the_documents_becomes_mathml():
    formula = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", re.DOTALL)
    texts = [page.read_text("utf-8") for page in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/course/*.ipynb"))]
    found = [block or line for text in texts[:-6] for block, line in formula.findall(text)]
    assert len(found) > 60
    for tex in found:
        assert mathml.tex2mathml(tex).startswith("<math")
