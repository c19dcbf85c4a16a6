"""What stands in a cell's last line of a notebook shows itself: as well-formed HTML, its text escaped, or a picture."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import xcnn
from xcnn.backends import BackendInfo, BackendTable
from xcnn.core import html
from xcnn.training.history import History


class Read(HTMLParser):
    """The cells of the tables and the notes of a text, which must be well formed; pictures stand beside them."""

    PICTURE = ("figure", "svg", "polyline", "figcaption", "span")

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.notes = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag in ("table", "thead", "tbody", "tr", "th", "td", "p", *self.PICTURE)
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag == "p":
            self.notes.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] == "p":
            self.notes[-1] += data
        elif self.open[-1] not in self.PICTURE:
            self.rows[-1][-1] += data


def words(text):
    return text.replace("-", " ").split()


@pytest.fixture
def model():
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    return xcnn.Model(net, (1, 6, 6), backend="numpy")


def test_each_shows_what_it_prints(model):
    x, y = np.zeros((4, 1, 6, 6), "float32"), np.array([0, 1, 0, 1])
    history = model.fit(x, y, epochs=2, progress="none")
    things = [
        history,
        model.summary(),
        xcnn.compare(model, x, y, backends=["numpy"]),
        xcnn.explain_algorithm(model.net["conv1"], (4, 1, 6, 6), "numpy"),
        xcnn.available_backends(),
    ]
    for thing in things:
        read = Read(thing._repr_html_())
        told = words(" ".join([*(cell for row in read.rows for cell in row), *read.notes]))
        shown = words(str(thing))
        extra = {"backend", "device", "versions,", "or", "why", "not"} if isinstance(thing, BackendTable) else set()
        assert [word for word in told if word not in extra] == [word for word in shown if word not in extra]
        assert len({len(row) for row in read.rows}) == 1


def test_text_is_escaped_and_rows_that_differ_keep_their_columns(model):
    bad = '<script>alert("x")</script>&'
    row = replace(model.summary().rows[0], name=bad)
    summary = replace(model.summary(), rows=(row,), backend=bad)
    table = BackendTable({bad: BackendInfo(bad, False, reason=bad)})
    for thing in (summary, table):
        read = Read(thing._repr_html_())
        assert any(bad in cell for row in read.rows for cell in row)
        assert "<script" not in thing._repr_html_()
    assert Read(html.note(bad)).notes == [bad]
    history = History([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "val_loss": 2.0}])
    assert Read(history._repr_html_()).rows == [["epoch", "loss", "val_loss"], ["1", "1.0000", ""], ["2", "", "2.0000"]]
    assert "<svg" not in history._repr_html_()
    assert Read(History()._repr_html_()).notes == ["no epoch was finished"]


def test_a_history_draws_its_curves():
    losses = zip((4.0, float("nan"), 2.0, 0.0), (1.0, 2.0, 10**400, "x"), strict=True)
    rows = [{"epoch": n, "loss": a, "val_loss": b, "learning_rate": 0.1} for n, (a, b) in enumerate(losses)]
    drawn = History(rows).drawn()
    assert re.findall('points="([^"]+)"', drawn) == [
        "0.0,0.0 160.0,60.0 240.0,120.0",
        "0.0,90.0 80.0,60.0",
        "0.0,120.0 80.0,120.0 160.0,120.0 240.0,120.0",
    ]
    assert re.findall('aria-label="([^"]+)"', drawn) == ["loss, 0 to 4", "learning rate, 0.1 to 0.1"]
    assert "script" not in html.curves("<script>", {"<script>": [(0, 1), (1, 2)]}).replace("&lt;script&gt;", "")


def test_a_figure_shows_itself_without_pyplot():
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    import io
    import sys

    from matplotlib.figure import Figure
    from PIL import Image

    before = "matplotlib.pyplot" in sys.modules
    figure = History([{"epoch": n, "loss": 1 / n} for n in (1, 2, 3)]).plot()
    assert isinstance(figure, Figure)
    picture = Image.open(io.BytesIO(figure._repr_png_()))
    assert picture.format == "PNG"
    assert len(np.unique(np.asarray(picture.convert("L")))) > 10  # something is drawn
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_in_a_script_a_figure_opens_a_window_or_says_why_not(monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="the extra xcnn[plot] is not installed")
    figure = History([{"epoch": 1, "loss": 1.0}]).plot()
    pyplot.switch_backend("agg")
    figure.show(warn=False)
    assert capsys.readouterr().err == ""
    figure.show()
    assert 'no window can be opened here (matplotlib\'s backend is agg): figure.write("figure.png")' in (
        capsys.readouterr().err
    )
    opened = []
    windows = pyplot._get_backend_mod()  # as if it had windows
    monkeypatch.setattr(windows.FigureCanvas, "required_interactive_framework", "some")
    monkeypatch.setattr(pyplot, "show", lambda: opened.extend(pyplot.figure(n) for n in pyplot.get_fignums()))
    figure.show()
    assert opened == [figure]
    pyplot.close(figure)
