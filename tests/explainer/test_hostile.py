"""Pages of what is odd: huge and tiny numbers, names that are markup, a single cell; each is right, or is refused."""

from functools import partial

import numpy as np
import pytest
from browser import REASON, USABLE, Browser

import xcnn

X = np.random.default_rng(0).random((1, 6, 6)).astype("float32")
MARKUP = ["</script><script>document.title = 'run'</script>", "<img src=x onerror=alert(1)>", "\u2028&\x1b[31m"]


def model_of(shape=(1, 6, 6), units=3, cell=None, backend="numpy", **options):
    """A small net; `cell` is what the weights of its last layer are, for each class another part of it.

    Were they the same for all classes, rounding alone would decide which is the largest of outputs of 1e38.
    """
    net = xcnn.Sequential(xcnn.Conv2D(2, 3, padding="same"), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(units))
    model = xcnn.Model(net, shape, backend=backend, seed=1, **options)
    if cell is not None:
        model.weights["dense1"]["kernel"] = np.full((72, 1), cell, model.dtype) * np.linspace(
            0.5, 1, units, dtype=model.dtype
        )
    return model


def signal():
    net = xcnn.Sequential(xcnn.Conv1D(3, 3, stride=2), xcnn.Tanh(), xcnn.MaxPool1D(), xcnn.Flatten(), xcnn.Dense(2))
    return xcnn.explain(xcnn.Model(net, (2, 20), backend="numpy"), np.linspace(0, 1, 40).reshape(2, 20), 1)


def named():
    model = model_of()
    model.info["classes"] = MARKUP
    return xcnn.explain(model, X, 1, title=MARKUP[0])


def other(backend, **options):
    model = model_of(backend=backend, **options)
    return xcnn.explain(model, X, 1)


PAGES = {
    "names that are markup": named,
    "weights of 1e38": lambda: xcnn.explain(model_of(cell=1e38), X, 1),
    "weights of 1e200": lambda: xcnn.explain(model_of(cell=1e200, dtype="float64"), X, 1),
    "weights that are denormal": lambda: xcnn.explain(model_of(cell=1e-320, dtype="float64"), X, 1),
    "weights of 0": lambda: xcnn.explain(model_of(cell=0), X, 1),
    "a huge picture": lambda: xcnn.explain(model_of(), X * 1e38, 1),
    "a tiny picture": lambda: xcnn.explain(model_of(), X * 1e-38, 1),
    "a picture of 1 x 1": lambda: xcnn.explain(model_of((1, 1, 1)), X[:, :1, :1], 1),
    "a picture of 1 x 90": lambda: xcnn.explain(model_of((2, 1, 90)), np.ones((2, 1, 90)), 1),
    "a signal": signal,
    "a long signal": lambda: xcnn.explain(
        xcnn.Model(
            xcnn.Sequential(xcnn.Conv1D(2, 9), xcnn.GlobalMaxPool1D(), xcnn.Dense(2)), (1, 3000), backend="numpy"
        ),
        np.sin(np.arange(3000) / 9)[None],
        1,
    ),
    "a vector": lambda: xcnn.explain(xcnn.Model(xcnn.Dense(3), (5,), backend="numpy"), np.ones(5), 1),
    "one unit": lambda: xcnn.explain(model_of(units=1, loss="binary_cross_entropy_with_logits"), X, 1),
    "one number": lambda: xcnn.explain(model_of(units=1, loss="mse"), X, 0.5),
    "a net of no layers": lambda: xcnn.explain(xcnn.Model(xcnn.Sequential(), (3,), backend="numpy"), np.ones(3), 1),
    "float64": partial(other, "numpy", dtype="float64"),
    "strict": partial(other, "strict"),
    "torch in bfloat16": partial(other, "torch", precision="bfloat16"),
    "jax in float16": partial(other, "jax", precision="float16"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.skipif(not USABLE, reason=REASON)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_what_is_odd_is_right(browser, name, tmp_path):
    backend = name.split()[0]
    if backend in ("torch", "jax"):
        pytest.importorskip(backend, reason=f"{backend} is not installed")
    page = PAGES[name]()
    page.save(tmp_path / "why.html")
    browser.complaints.clear()
    browser.open(tmp_path / "why.html")
    assert browser.complaints == []
    assert browser.ask("document.title") == page.title
    badge = browser.ask("(b => [b.className, +b.dataset.worst, +b.dataset.count])(document.getElementById('badge'))")
    assert badge[0] == "badge"
    assert badge[1] < 1e-12
    assert badge[2] > 10
    assert browser.ask("[...document.querySelectorAll('data')].every(e => Number.isFinite(+e.value))")
    sides = "[...document.querySelectorAll('canvas')].map(c => Math.min(c.clientWidth, c.clientHeight))"
    assert browser.ask(f"Math.min(...{sides})") >= 8  # also of a line there is something to see
    assert browser.ask("document.querySelectorAll('img, script').length") == 2  # its data, and its own


@pytest.mark.parametrize("name", ["a signal", "a vector", "a net of no layers", "weights of 1e200"])
def test_a_picture_of_what_is_odd_is_made(name, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    PAGES[name]().save(tmp_path / "why.png")
    assert (tmp_path / "why.png").stat().st_size > 1000


REFUSED = {
    "NaN": (lambda: xcnn.explain(model_of(cell=np.nan), X, 1), "X501.*dense1/y"),
    "inf": (lambda: xcnn.explain(model_of(cell=np.inf), X, 1), "X501.*dense1/y"),
    "beyond float64": (lambda: xcnn.explain(model_of(cell=1e308, dtype="float64"), X * 99, 1), "X501.*dense1/"),
    "a title that is none": (lambda: xcnn.explain(model_of(), X, 1, title=5), "X104.*title is a text; got 5"),
    "one class": (lambda: xcnn.explain(model_of(units=1), X, 0), "X104.*can't tell classes apart"),
    "a label below 0": (lambda: xcnn.explain(model_of(), X, -1), "X201.*found -1"),
    "a label between": (lambda: xcnn.explain(model_of(), X, 1.5), "X201.*found 1.5"),
    "a label of many digits": (lambda: xcnn.explain(model_of(), X, 2**70), "X201"),
    "two labels": (lambda: xcnn.explain(model_of(), X, [0, 1]), "X203.*1 sample, y 2"),
    "bytes": (lambda: xcnn.explain(model_of(), (X * 255).astype("uint8"), 1), "X103"),
    "complex numbers": (lambda: xcnn.explain(model_of(), X * 1j, 1), "X103"),
    "a name of a file": (lambda: xcnn.explain(model_of(), "zero.png", 1), "X203"),
    "no samples": (lambda: xcnn.explain(model_of(), X[None][:0], 1), "X101.*one sample; got 0"),
    "a mask": (lambda: xcnn.explain(model_of(), np.ma.masked_array(X, X > 0.5), 1), "X203.*masked"),
    "a net without its model": (lambda: xcnn.explain(model_of().net, X, 1), "X104.*takes a Model"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_page_is_told(case):
    call, words = REFUSED[case]
    with pytest.raises(xcnn.errors.XcnnError, match=words):
        call()
