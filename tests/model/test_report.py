"""What a report says: held to loops, to SciPy's interval, and read as a page."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from scipy import stats

import xcnn
from xcnn.errors import OptionError
from xcnn.model.report import Report

rng = np.random.default_rng(2)
N, CLASSES = 90, 4
SAMPLES = rng.random((N, 1, 5, 6), dtype="float32")
labels = rng.choice(3, N)  # of the last class there is no sample


def made(classes=CLASSES, loss="cross_entropy", **options):
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(classes))
    return xcnn.Model(net, (1, 5, 6), loss=loss, seed=1, backend="numpy", **options)


def test_its_numbers_are_those_of_loops():
    model = made()
    report = model.report(SAMPLES, labels)
    p = model.probabilities(SAMPLES)
    taken = p.argmax(axis=1)
    for i in range(CLASSES):
        for j in range(CLASSES):
            assert report.confusion[i, j] == sum(int(t == i and k == j) for t, k in zip(labels, taken, strict=True))
        right, of, called = ((labels == i) & (taken == i)).sum(), (labels == i).sum(), (taken == i).sum()
        for value, some, all_ in (
            (report.recall[i], right, of),
            (report.precision[i], right, called),
            (report.f1[i], 2 * right, of + called),
        ):
            assert value == some / all_ if all_ else np.isnan(value)
    assert report.accuracy == model.evaluate(SAMPLES, labels)["accuracy"]
    assert report.loss == pytest.approx(model.evaluate(SAMPLES, labels)["loss"], rel=1e-6)
    assert report.samples == N
    pairs = [(pair.true, pair.taken, pair.times) for pair in report.confused]
    assert sum(times for _, _, times in pairs) == (labels != taken).sum()
    assert [times for _, _, times in pairs] == sorted((times for _, _, times in pairs), reverse=True)
    assert all(i != j and report.confusion[i, j] == times for i, j, times in pairs)
    order = np.argsort(p[np.arange(N), labels])
    assert [each.sample for each in report.surprises] == [*order[:12]]
    np.testing.assert_array_equal(report.images, SAMPLES[order[:12]])
    first = report.surprises[0]
    assert first.loss == pytest.approx(-np.log(first.probability))


@pytest.mark.parametrize(("right", "of"), [(0, 5), (5, 5), (37, 50), (9_831, 10_000)])
def test_the_interval_is_scipys_wilson(right, of):
    confusion = np.array([[right, of - right], [0, 0]])
    report = Report(("a", "b"), confusion, 0.1, (), None)
    expected = stats.binomtest(right, of).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose(report.interval, (expected.low, expected.high), atol=1e-12)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_one_output_tells_two_classes(loss):
    layers = [xcnn.Flatten(), xcnn.Dense(1), *([xcnn.Sigmoid()] if loss == "binary_cross_entropy" else [])]
    model = xcnn.Model(xcnn.Sequential(*layers), (1, 5, 6), loss=loss, seed=1, backend="numpy")
    y = labels > 0
    for given in (y.astype(int), y[:, None].astype("float32")):
        report = model.report(SAMPLES, given)
        assert report.confusion.shape == (2, 2)
        assert report.accuracy == model.evaluate(SAMPLES, given)["accuracy"]
        assert list(report.support) == [(~y).sum(), y.sum()]


def test_one_hot_rows_are_labels():
    model = made()
    np.testing.assert_array_equal(
        model.report(SAMPLES, np.eye(CLASSES)[labels]).confusion, model.report(SAMPLES, labels).confusion
    )


def test_a_probability_of_zero_is_a_large_loss_and_no_warning():
    model = made(2)
    model.weights = {"dense1": {"kernel": np.zeros((30, 2)), "bias": np.array([1e4, 0.0])}}
    report = model.report(SAMPLES[:4], [0, 1, 1, 0])
    assert report.surprises[0].probability == 0
    assert 700 < report.surprises[0].loss < 710
    assert np.isfinite(report.loss)


def test_it_prints_itself_with_the_names_that_info_tells():
    model = made()
    model.info["classes"] = ["cat", "dog", "\x1b]0;owl\x07", "<b>"]
    text = str(model.report(SAMPLES, labels))
    assert re.match(r"accuracy \d\d\.\d\d% \(\d\d\.\d\d% to \d\d\.\d\d% with 95 % confidence\), loss", text)
    assert "\x1b" not in text
    assert r"\x1b]0;owl\x07" in text
    assert "most confused:" in text
    assert re.search(r"sample \d+: (cat|dog).*p = 0\.", text)
    lines = text.splitlines()
    table = lines[2 : 2 + CLASSES + 1]
    assert len({len(line) for line in table}) == 1
    assert table[1].split()[:2] == ["cat", str((labels == 0).sum())]


class Page(HTMLParser):
    """What stands open, and what a page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_page_is_whole_needs_no_network_and_escapes_names(tmp_path):
    model = made()
    model.info["classes"] = ['a" onload="x', "<script>alert(1)</script>", "c", "d"]
    model.report(SAMPLES, labels, worst=3).write(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "<script" not in text
    assert '" onload' not in text
    assert "<script>alert(1)</script>" in page.text
    assert len(page.sources) == 3
    for source in page.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(content))).size == (6, 5)


def test_pictures_keep_their_cells_and_colours():
    x = np.zeros((2, 3, 4, 4), "float32")
    x[0, 0], x[1] = 1.0, np.linspace(-2, 6, 48).reshape(3, 4, 4)
    net = xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2))
    report = xcnn.Model(net, (3, 4, 4), loss="cross_entropy", backend="numpy").report(x, [0, 1])
    sources = re.findall(r"base64,([^\"]+)", report._repr_html_())
    seen = {
        each.sample: np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
        for each, source in zip(report.surprises, sources, strict=True)
    }
    assert (seen[0] == [255, 0, 0]).all()
    assert seen[1][0, 0, 0] == 0  # from least to most
    assert seen[1][3, 3, 2] == 255


def test_what_is_no_classifier_is_told():
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(3)), (1, 5, 6), loss="mse", backend="numpy")
    with pytest.raises(OptionError, match=r"X104.*a report is of a classifier of whole samples"):
        model.report(SAMPLES, np.zeros((N, 3)))


def test_many_classes_are_a_table_without_a_matrix():
    model = made(50)
    text, shown = str(model.report(SAMPLES, labels, worst=0)), model.report(SAMPLES, labels, worst=0)._repr_html_()
    assert "true \\ taken for" not in text
    assert "true \\ taken for" not in shown
    assert len(text.splitlines()) < 70
    assert "largest losses" not in text
