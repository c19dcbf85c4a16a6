"""The documents tell the truth: their examples run, their quotations and links exist, every error code is explained."""

import doctest
import re
import signal
from pathlib import Path

import pytest

import xcnn
from xcnn import backends
from xcnn.cli import reports as cli

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
SOURCES = [*ROOT.glob("xcnn/**/*.py"), *ROOT.glob("backends/**/*.py")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"\bX[1-9]\d\d\b")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page, *languages):
    """The fenced blocks of these languages: line number and text."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 1, match[2]) for match in FENCE.finditer(text) if match[1] in languages
    ]


def sessions(page):
    """The blocks of examples, `>>>`."""
    return [(line, text) for line, text in blocks(page, "pycon", "python") if text.startswith(">>> ")]


def test_there_are_pages():
    assert {"README.md", "docs/equations.md", "docs/errors.md"} <= {p.relative_to(ROOT).as_posix() for p in PAGES}
    assert len(sessions(ROOT / "docs/equations.md")) > 10


@pages
def test_examples_run(page, monkeypatch, tmp_path):
    """All `>>>` of a page in one session, in an empty folder, on the NumPy backend until it chooses another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backends.selector, "_default", xcnn.backend("numpy"))
    runner, report, names = doctest.DocTestRunner(), [], {"__name__": "__main__"}
    for line, text in sessions(page):
        test = doctest.DocTestParser().get_doctest(text, names, page.name, str(page), line)
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
    assert not report, "".join(report)


@pages
def test_every_example_is_in_a_block_that_runs(page):
    fenced = sum(text.count(">>> ") for _, text in sessions(page))
    assert page.read_text(encoding="utf-8").count(">>> ") == fenced


@pages
def test_other_python_compiles(page):
    for line, text in blocks(page, "python"):
        if not text.startswith((">>> ", "# xcnn/")):
            compile(text, f"{page.name}:{line}", "exec")


@pages
def test_quotations_are_in_their_files(page):
    """A Python block that opens with a file's name quotes lines of it, in order."""
    for line, text in blocks(page, "python"):
        name, *quoted = text.splitlines()
        if not name.startswith("# xcnn/"):
            continue
        source = iter((ROOT / name.removeprefix("# ")).read_text(encoding="utf-8").splitlines())
        stripped = (text.strip() for text in source)
        for wanted in filter(None, map(str.strip, quoted)):
            assert any(wanted == found for found in stripped), f"{page.name}:{line}: {name[2:]} has no {wanted!r}"


@pages
def test_links_lead_somewhere(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.is_file(), f"{page.name}: {target}"  # of a folder the site has no page
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page):
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_error_code_has_its_section_and_every_section_its_code():
    used = {code for file in SOURCES for code in CODE.findall(file.read_text(encoding="utf-8"))}
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    explained = re.findall(r"^## (X\d\d\d): ", text, re.MULTILINE)
    assert sorted(explained) == sorted(used)


def test_the_exit_codes_are_those_of_the_command():
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8").partition("## Exit codes")[2]
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.MULTILINE))
    named = (cli.USAGE, cli.UNAVAILABLE, cli.BAD_DATA, cli.DIVERGED, cli.BUG, cli.UNWRITTEN, cli.READER_LEFT)
    signals = (128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    assert list(map(int, rows)) == sorted({0, 1, *named, *signals})
    for kind, code, codes in (
        ("OptionError", cli.USAGE, "X104"),
        ("BackendUnavailable", cli.UNAVAILABLE, "X302"),
        ("BackendError", cli.UNAVAILABLE, "X301"),
        ("MissingDependency", cli.UNAVAILABLE, "X601"),
        ("DivergedError", cli.DIVERGED, "X501"),
    ):
        assert {cls.__name__: number for cls, number in cli.CODES}[kind] == code
        assert codes in rows[str(code)]
