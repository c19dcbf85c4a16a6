"""`xcnn.explain`: what it takes, what it refuses, how large its pages are; and the command."""

import json
import re
from functools import partial

import numpy as np
import pytest

import xcnn
from xcnn import cli
from xcnn.core import notebook
from xcnn.explainer import explanation, page_data
from xcnn.explainer.page import SCRIPTS, page, part
from xcnn.losses import LOSSES

SHELL = 150_000
"""The most bytes of a page without its net's numbers, and without those of NumPy."""
BESIDE = 400_000
"""The most bytes of a page beside its net's own numbers."""


@pytest.fixture
def model():
    net = xcnn.Sequential(xcnn.Conv2D(2, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(3))
    return xcnn.Model(net, (1, 6, 6), backend="numpy", seed=1)


@pytest.fixture
def x(rng):
    return rng.random((1, 6, 6)).astype("float32")


@pytest.mark.parametrize("name", ["article", "lenet", "small_resnet"])
def test_a_page_is_small(name):
    shape = (3, 32, 32) if name == "small_resnet" else (1, 28, 28)
    loss = "binary_cross_entropy" if name == "article" else "cross_entropy"
    model = xcnn.Model(getattr(xcnn.nets, name)(2), shape, loss=loss, backend="numpy")
    made = xcnn.explain(model, np.full(shape, 0.5, "float32"))
    own = sum(len(entry["data"]) for entry in made.data["weights"].values())
    assert own >= 4 / 3 * 4 * made.data["parameters"]
    assert len(made.html.encode()) - own < BESIDE
    assert len(page("", {}).encode()) < SHELL


def test_one_sample_with_or_without_its_axis_and_a_target_in_any_form(model, x):
    pages = [
        xcnn.explain(model, x, 2),
        xcnn.explain(model, x[None], [2]),
        xcnn.explain(model, x, np.eye(3)[2]),
        xcnn.explain(model, x.astype("float64"), np.array(2)),
    ]
    assert len({each.trace.loss for each in pages}) == 1
    assert pages[0].trace.loss == pytest.approx(model.evaluate(x[None], [2])["loss"], rel=1e-5)
    taken = int(model.predict(x[None]).argmax())
    assert xcnn.explain(model, x).trace.loss == xcnn.explain(model, x, taken).trace.loss


def test_the_model_stays_as_it_is(model, x):
    before = np.array(model.weights["conv1"]["kernel"])
    model.info["classes"] = ["<a>", "b", "c"]
    made = xcnn.explain(model, x, 0)
    np.testing.assert_array_equal(model.weights["conv1"]["kernel"], before)
    assert model.dtype == "float32"
    assert made.data["classes"] == ["<a>", "b", "c"]
    assert "<a>" not in made.html


REFUSED = {
    "no model": (lambda model, x: xcnn.explain(model.net, x), "X104.*takes a Model"),
    "two samples": (lambda model, x: xcnn.explain(model, np.stack([x, x])), "X101.*one sample; got 2"),
    "another shape": (lambda model, x: xcnn.explain(model, x[:, 1:]), "X101"),
    "a label that is none": (lambda model, x: xcnn.explain(model, x, 3), "X201"),
    "NaN": (lambda model, x: xcnn.explain(model, x * np.nan, 0), "X203"),
    "no target": (
        lambda model, x: xcnn.explain(xcnn.Model(model.net, (1, 6, 6), loss="mse", backend="numpy"), x),
        "X104.*y is needed",
    ),
    "a loss of one's own": (
        lambda model, x: xcnn.explain(
            xcnn.Model(model.net, (1, 6, 6), loss=lambda y, t: xcnn.losses.mse(y, t), backend="numpy"), x, [[0, 0, 0]]
        ),
        "X104.*no arithmetic for the loss",
    ),
    "an option of a loss": (
        lambda model, x: xcnn.explain(
            xcnn.Model(model.net, (1, 6, 6), loss=partial(xcnn.losses.cross_entropy, ignore_index=1), backend="numpy"),
            x,
            0,
        ),
        "X104.*ignore_index",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_t_be_explained_is_told(case, model, x):
    call, words = REFUSED[case]
    with pytest.raises(xcnn.errors.XcnnError, match=words):
        call(model, x)


def test_what_is_too_large_is_told(model, x, monkeypatch):
    monkeypatch.setattr(page_data, "MAX_MULTIPLY_ADDS", 300)
    with pytest.raises(xcnn.errors.OptionError, match="384 products; a page computes 300 at most"):
        xcnn.explain(model, x, 0)
    monkeypatch.setattr(explanation, "MAX_WEIGHT_BYTES", 400)
    with pytest.raises(xcnn.errors.OptionError, match="bytes; a page carries 400 at most"):
        xcnn.explain(model, x, 0)


def test_weights_that_diverged_are_told(model, x):
    with model.edit("dense1/kernel") as kernel:
        kernel[:] = 3e38
    model.precision = "float32"
    model.weights["conv1"]["bias"] = [3e38, 3e38]
    model.weights["conv1"]["kernel"] = np.full((2, 1, 3, 3), 3e38)
    with np.errstate(all="ignore"):
        made = xcnn.explain(model, x, 0)  # float64 holds what float32 does not
    assert np.isfinite(made.trace.loss)


def test_the_losses_are_those_of_the_page():
    known = set(re.findall(r"^  (\w+)(?:\(|: \()", part("losses.js"), re.MULTILINE))
    assert {*page_data.LOSSES} == known
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(2), xcnn.Softmax()), (1, 2, 2), loss="mse")
    for name in {*LOSSES} - known:
        model.loss = name
        with pytest.raises(xcnn.errors.OptionError, match=f"X104.*{name}"):
            xcnn.explain(model, np.ones((1, 2, 2), "float32"), 1)


def test_the_scripts_are_plain():
    """No framework, nothing from elsewhere, nothing packed: each is short enough to be read, and in one list."""
    from importlib.resources import files

    folder = files("xcnn.explainer").joinpath("page")
    assert sorted(SCRIPTS) == sorted(file.name for file in folder.iterdir() if file.name.endswith(".js"))
    for name in SCRIPTS:
        text = part(name)
        assert text.startswith("// ")
        assert len(text.splitlines()) < 400
        assert max(map(len, text.splitlines())) < 260
        assert not re.search(r"https?://(?!www\.w3\.org)|import\(|eval\(|innerHTML", text)


def test_it_saves_itself(model, x, tmp_path):
    made = xcnn.explain(model, x, 0, title="mine")
    made.save(tmp_path / "why.html")
    assert (tmp_path / "why.html").read_text("utf-8") == made.html
    assert repr(made) == f"<mine: a page of {len(made.html.encode()):,} bytes; save('why.html') writes it>"
    with pytest.raises(OSError, match="none"):
        made.save(tmp_path / "none" / "why.html")
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    made.save(tmp_path / "why.png")
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_shows_the_page_alone(model, x, monkeypatch):
    """The picture is for places that show no HTML: it does not show itself beneath the page as figures do."""
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    waiting, shown = [], []
    monkeypatch.setattr(notebook, "kernel", lambda: object())
    monkeypatch.setattr(notebook, "after_cell", waiting.append)
    monkeypatch.setattr(notebook, "show", lambda *given: shown.append(given))
    made = xcnn.explain(model, x, 0)
    assert made._repr_png_().startswith(b"\x89PNG")
    assert len(waiting) == 1
    for call in waiting:
        call()
    assert shown == []
    figure = made.picture()
    waiting[-1]()
    assert figure.shown
    assert len(shown) == 1


@pytest.mark.parametrize("name", ["why.pdf", "m.xcnn", "why.html.gz", "why.jpg"])
def test_a_page_is_saved_as_what_it_is(model, x, tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(xcnn.errors.OptionError, match=r"X104.*saved as \.html, a picture of it as \.png"):
        xcnn.explain(model, x, 0).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_labels_of_a_map_need_no_batch(x):
    model = xcnn.Model(xcnn.Conv2D(3, 1), (1, 6, 6), loss="cross_entropy", backend="numpy", seed=1)
    y = np.arange(36).reshape(6, 6) % 3
    assert xcnn.explain(model, x, y).trace.loss == xcnn.explain(model, x[None], y[None]).trace.loss


def test_the_command(model, tmp_path, monkeypatch, capsys):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    model.info["classes"] = ["ape", "bee", "cow"]
    model.save("m.xcnn")
    Image.fromarray(np.arange(64, dtype="uint8").reshape(8, 8) * 4).save("p.png")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["xcnn", "explain", "m.xcnn", "p.png", "--backend", "numpy", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    code, out, err = run()
    assert (code, err) == (0, "")
    assert out.startswith(f"saved as why.html ({(tmp_path / 'why.html').stat().st_size:,} bytes)   loss ")
    code, out, _ = run("-o", "other.html", "--label", "bee", "--json")
    told = json.loads(out)
    assert (code, told["schema"], told["page"]) == (0, "xcnn.explain.1", "other.html")
    assert run("--label", "1", "--json")[1].split('"loss": ')[1] == out.split('"loss": ')[1]
    code, _, err = run("--label", "bees")
    assert code != 0
    assert "did you mean 'bee'?" in err
    picture = (tmp_path / "p.png").read_bytes()
    assert run("-o", "p.png") == (
        2,
        "",
        "OptionError[X104]: 'p.png' is what is read, and would be lost.\n  hint: give what is written another name.\n",
    )
    assert (tmp_path / "p.png").read_bytes() == picture
    code, _, err = run("-o", "m.xcnn")
    assert (code, "X104" in err) == (2, True)
