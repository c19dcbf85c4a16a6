"""Notebooks as they are run and shown: nothing red, a bar, all rows, plots and tables, as Chromium sees the page."""

import json

import pytest
from browser import REASON, USABLE, Browser

nbformat = pytest.importorskip("nbformat", reason="nbconvert is not installed: no notebook is run")
nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed: no notebook is run")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: no notebook is run")
pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")

SETUP = """import numpy as np, xcnn
x = np.random.default_rng(0).random((40, 1, 8, 8), "float32")
y = (x.mean((1, 2, 3)) > 0.5).astype(int)
model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2)), (1, 8, 8), backend="numpy")"""
LATE = """
import sys, types, warnings
class Late(types.ModuleType):
    def __getattr__(self, name):
        warnings.warn("it loads much when it is asked for its file, and that warns")
        raise AttributeError(name)
sys.modules["late"] = Late("late")"""
BOOKS = {
    "train": [SETUP, "model.summary()", "history = model.fit(x, y, epochs=3)", "history.plot();", "history"],
    "pyplot": [
        SETUP, "import matplotlib.pyplot as plt", "history = model.fit(x, y, epochs=2, progress='live')",
        "history.plot()", "figure = history.plot()\ndisplay(figure)", "model.report(x, y)",
    ],
    "wrong": [
        SETUP + LATE, "model.predict(x[0])", "xcnn.Conv2D(8, 3, padding='sme')", "xcnn.nets.pretrained().predict(x)",
        "model.weigths", "xcnn.Conv2DD", "xcnn.losses.hingee",
        "import os\nos.environ['XCNN_TRACEBACK'] = 'full'\nmodel.predict(x[0])",
    ],
}  # fmt: skip
SEEN = """JSON.stringify({
    red: document.querySelectorAll('[data-mime-type="application/vnd.jupyter.stderr"]').length,
    bars: [...document.querySelectorAll("progress")].map(bar => [bar.value, bar.max, bar.clientWidth > 50]),
    rows: [...document.querySelectorAll("table")].map(table => table.tBodies[0].rows.length),
    plots: [...document.querySelectorAll(".jp-RenderedImage img")].map(img => img.naturalWidth > 300),
})"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a notebook's cells; the notebook, and its page."""
    folder = tmp_path_factory.mktemp("notebooks")

    def run(name):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in BOOKS[name]])
        worker = nbconvert.preprocessors.ExecutePreprocessor(timeout=600, allow_errors=name == "wrong")
        worker.preprocess(book, {"metadata": {"path": str(folder)}})
        path = folder / f"{name}.html"
        path.write_text(nbconvert.HTMLExporter().from_notebook_node(book)[0], "utf-8")
        return book, path

    return run


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not USABLE:
        yield None
        return
    window = Browser(tmp_path_factory.mktemp("browser"))
    yield window
    window.close()


def look(browser, path):
    """What the page has, once it is there."""
    if browser is None:
        pytest.skip(REASON)
    browser.size(900)
    browser.open(path)
    return json.loads(browser.ask(SEEN))


def outputs(book):
    return [list(cell.outputs) for cell in book.cells]


def test_a_training_shows_a_bar_all_its_rows_and_its_plot(run, browser):
    book, path = run("train")
    assert not [each for cell in outputs(book) for each in cell if each.output_type == "stream"]
    bar = outputs(book)[2][0].data["text/html"]
    assert bar.count("<tr>") == 1 + 3
    assert "3 epochs" in bar
    assert [sorted(each.data) for each in outputs(book)[3]] == [["image/png", "text/plain"]]  # though it ends in ;
    seen = look(browser, path)
    assert seen["red"] == 0
    assert seen["bars"] == [[3, 3, True]]
    assert seen["plots"] == [True]
    assert seen["rows"][1:] == [3, 3]
    assert seen["rows"][0] >= 2  # the summary, as a table


def test_with_pyplot_each_figure_is_shown_once(run, browser):
    book, path = run("pyplot")
    pictures = [sum("image/png" in each.get("data", {}) for each in cell) for cell in outputs(book)]
    assert pictures[3:5] == [1, 1]
    seen = look(browser, path)
    assert seen["red"] == 0
    assert seen["bars"] == [[2, 2, True]]
    assert seen["plots"][:2] == [True, True]


def test_a_wrong_argument_shows_the_users_line_and_not_ours(run):
    book, _ = run("wrong")
    assert {one.output_type for cell in outputs(book) for one in cell} == {"error"}  # and no red box
    *short, full = (
        "\n".join(one.traceback) for cell in outputs(book)[1:] for one in cell if one.output_type == "error"
    )
    assert "xcnn/model" in full  # where XCNN_TRACEBACK asks for all frames
    assert "[X101]" in full
    for told, code in zip(short, ("X101", "X104", "X101", *3 * ("NoAttribute",)), strict=True):
        assert (f"[{code}]" if code[1:].isdigit() else code) in told
        assert ("hint:" in told) == (code == "X101")  # a padding that is none needs no more than its choices
        assert "xcnn/model" not in told
        assert "xcnn/core" not in told
        assert len(told.splitlines()) < 14
