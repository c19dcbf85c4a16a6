"""What an index tells of the package: its description stands by itself, and versions and licences are told once."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import xcnn

ROOT = Path(xcnn.__file__).parents[1]


@pytest.fixture(scope="module")
def description():
    pytest.importorskip("hatchling", reason="hatchling is not installed, which makes the metadata")
    found = importlib.util.spec_from_file_location("hatch_metadata", ROOT / "hatch_metadata.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module.description((ROOT / "README.md").read_text("utf-8"))


def test_the_description_reads_right_without_the_files_beside_it(description):
    assert re.findall(r"\]\((?![a-z]+:)[^)]*\)", description) == []
    assert "pip install xcnn && xcnn train" in description
    assert 'pip install "xcnn[cuda13]"' in description
    assert re.findall(r'(?<!-e )"\.\[', description) == []
    for name in re.findall(r"\b(?:docs|xcnn|examples)/[\w/-]+\.(?:md|py)\b", description):
        assert (ROOT / name).is_file(), name


def test_the_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    place = project["tool"]["hatch"]["version"]["path"]
    assert "version" not in project["project"]
    assert f'__version__ = "{xcnn.__version__}"' in (ROOT / place).read_text("utf-8")
    others = [p for p in ROOT.glob("xcnn/**/*.py") if re.search(r"^__version__ = ", p.read_text("utf-8"), re.MULTILINE)]
    assert others == [ROOT / place]


def test_the_licence_of_the_digits_is_told_where_it_is():
    text = " ".join((ROOT / "LICENSE").read_text("utf-8").split())
    assert "CC BY-SA 3.0" in text
    for name in re.findall(r"xcnn/data/\w+(?:/LICENSE)?", text):
        assert (ROOT / name).exists(), name
