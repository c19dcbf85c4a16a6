"""The course's notebooks run from top to bottom, as they are and with their solutions, which are right."""

import ast
import json
import re
from pathlib import Path

import pytest

import xcnn
from xcnn.checking.exercises import EXERCISES

FOLDER = Path(__file__).parent.parent / "docs" / "course"
BOOKS = sorted(FOLDER.glob("*.ipynb"))
CHECK = re.compile(r'check_exercise\("(\w+)"')
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```", re.DOTALL)

books = pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.stem)


def cells(book):
    """Each cell's kind and text."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(book.read_text("utf-8"))["cells"]]


def solved(book):
    """The code of a notebook with each solution in place of what was to be replaced, two cells above it."""
    code = cells(book)
    for n, (_, text) in enumerate(code):
        if found := SOLUTION.search(text):
            code[n - 2] = ("code", found[1])
    return code


def run(code):
    """Run the cells in one namespace, as Jupyter does; what each ends in, shown."""
    names, shown = {"__name__": "__main__"}, []
    for kind, text in code:
        if kind != "code":
            continue
        *body, last = ast.parse(text).body
        if not isinstance(last, ast.Expr):
            body.append(last)
        exec(compile(ast.Module(body, []), "cell", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append((text, eval(compile(ast.Expression(last.value), "cell", "eval"), names)))
    return shown


def verdicts(shown):
    return {CHECK.search(text)[1]: value for text, value in shown if CHECK.search(text)}


@books
def test_it_runs_and_waits_for_answers(book, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = verdicts(run(cells(book)))
    assert found
    assert {verdict.right for verdict in found.values()} == {None}


@books
def test_its_solutions_are_right(book, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = verdicts(run(solved(book)))
    assert {name: verdict.right for name, verdict in found.items()} == dict.fromkeys(found, True), found


def test_there_are_six_and_every_exercise_is_in_one():
    asked = [name for book in BOOKS for _, text in cells(book) for name in CHECK.findall(text)]
    assert len(BOOKS) == 6
    assert sorted(asked) == sorted(EXERCISES)
    readme = (FOLDER / "README.md").read_text("utf-8")
    for book in BOOKS:
        assert f"]({book.name})" in readme
        raw = json.loads(book.read_text("utf-8"))
        code = "".join(text + "\n" for kind, text in cells(book) if kind == "code")
        assert max(map(len, code.splitlines())) <= 88  # what a page's width holds
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in raw["cells"])
        for link in re.findall(r"\]\(([^)#]+)", "".join(text for _, text in cells(book))):
            assert (FOLDER / link).exists(), link


WRONG = {
    "slide": (lambda x, k: xcnn.convolve2d(x, k), "it should be"),
    "sizes": (lambda n, k, p, s: (n + p - k) // s + 1, "it should be"),
    "convolve": (lambda x, k: xcnn.convolve2d(x, k, "same"), "its shape is"),
    "input_gradient": (lambda dy, k: xcnn.correlate2d(dy, k, "full"), "it should be"),
    "loss_prime": (lambda t, y: (1 - t) / (1 - y) - t / y, "it should be"),
    "descend": (lambda w, gradient, rate: w + rate * gradient, "it should be"),
    "forward": (lambda x, k: k, "raised TypeError"),
    "difference": (3, "is a function"),
    "digits": ("a model", "is a Model"),
    "backend": ("nupmy", "nupmy"),
}


@pytest.mark.parametrize("exercise", WRONG)
def test_a_wrong_answer_is_told(exercise):
    answer, words = WRONG[exercise]
    verdict = xcnn.testing.check_exercise(exercise, answer)
    assert verdict.right is False
    assert words in str(verdict)
    assert "not yet right" in verdict._repr_html_()


def test_an_exercise_that_is_none_is_told():
    with pytest.raises(xcnn.errors.OptionError, match="no exercise 'slidee'"):
        xcnn.testing.check_exercise("slidee", ...)
