"""Transposed and standardised convolutions in full: each number that their sections show is NumPy's and SciPy's."""

import numpy as np
import pytest
from browser import AXE, REASON, USABLE
from shown_numbers import check_numbers

import xcnn

pytestmark = pytest.mark.skipif(not USABLE, reason=REASON)


FIVE = ["standardizedconv1", "convtranspose1", "standardizedconv2", "convtranspose2", "convtranspose3"]


@pytest.fixture(scope="module")
def page():
    """Spread, cut, with gaps and groups; of a signal; kernels that are standardised before they are used."""
    net = xcnn.Sequential(
        xcnn.StandardizedConv2D(4, (2, 3), padding=((1, 0), (0, 2)), dilation=(2, 1), groups=2, bias="untied"),
        xcnn.Conv2DTranspose(6, (3, 2), stride=(2, 3), padding=((1, 0), (0, 1)), output_padding=(1, 0), groups=2),
        xcnn.Tanh(),
        xcnn.StandardizedConv2D(2, 3, stride=2, epsilon=0.1),
        xcnn.Conv2DTranspose(2, 2, padding="full", dilation=2, bias="untied"),
        xcnn.Reshape((4, -1)),
        xcnn.Conv1DTranspose(3, 2, stride=3, padding="same", bias=False),
        xcnn.Flatten(),
        xcnn.Dense(3),
    )
    model = xcnn.Model(net, (2, 6, 5), backend="numpy", dtype="float64", seed=2)
    rng = np.random.default_rng(1)
    for path in FIVE[:-1]:
        with model.edit(f"{path}/bias") as bias:
            bias[:] = rng.normal(size=bias.shape)
    return xcnn.explain(model, rng.normal(size=(2, 6, 5)), 2)


@pytest.fixture(scope="module")
def opened(browser, page, tmp_path_factory):
    """The page, once for all of them: none changes its numbers."""
    path = tmp_path_factory.mktemp("page") / "why.html"
    page.save(path)
    browser.complaints.clear()
    browser.size(360)
    browser.open(path)
    yield browser
    assert browser.complaints == []


def choose(browser, path):
    browser.ask(f"(xcnn.state.chooseLayer('{path}'), xcnn.state.show(), 0)")


@pytest.mark.parametrize("path", FIVE)
def test_every_number_is_numpys(opened, page, path):
    choose(opened, path)
    assert check_numbers(opened, page.trace) > 100
    corner = "xcnn.state.chooseFilter(1), xcnn.state.chooseElement(0, 0), xcnn.state.cell = [0, 0]"
    opened.ask(f"({corner}, xcnn.state.show(), 0)")
    assert check_numbers(opened, page.trace) > 100
    three = opened.ask("[...document.querySelectorAll('#rotation .same data')].map(e => +e.value)")
    assert three == pytest.approx([three[0]] * 3, abs=1e-12)
    assert opened.ask("document.documentElement.scrollWidth") <= 360


def test_they_are_all_there(opened):
    assert opened.ask("xcnn.state.correlations.map(node => node.path)") == FIVE
    assert opened.ask("+document.getElementById('badge').dataset.worst") < 1e-12


def text(browser, section):
    return browser.ask(f"document.getElementById('{section}').textContent").replace("\u00a0", " ")


def test_a_transposed_one_changes_the_places_of_forward_and_backward(opened):
    """Y is stamped, dX is read by windows, Y's size is the spread of X's; filters and channels change their names."""
    choose(opened, "convtranspose1")
    assert "taken forward" in text(opened, "rotation")
    assert "terms of Y[" in text(opened, "rotation")
    assert "one cell of ∂E/∂X" in text(opened, "window").replace("\u2060", "")
    assert "∂E/∂K = ∂E/∂Y ⋆ X" in text(opened, "gradients").replace("\u2060", "")
    sizes = opened.ask("xcnn.state.view().g")
    assert (sizes["size"], sizes["output"]) == ([11, 13], [5, 5])
    assert "(5 − 1) · 2 + 3 − 1 − 0 + 1 = 11" in text(opened, "geometry")
    assert "rows that are added below: 1" in text(opened, "geometry")
    rows = opened.ask("[...document.querySelectorAll('#geometry tbody tr')].map(row => row.lastChild.textContent)")
    modes = [xcnn.Conv2DTranspose(6, (3, 2), stride=(2, 3), padding=mode) for mode in ("valid", "same", "full")]
    sizes = [layer.output_size((5, 5)) for layer in modes]
    assert rows == [f"{rows} × {columns}" for rows, columns in [*sizes, (11, 13)]]
    assert opened.ask("[...document.querySelectorAll('.bar label')].map(e => e.firstChild.textContent)") == [
        "Layer ", "channel ", "filter ",
    ]  # fmt: skip


def test_a_standardised_one_says_what_its_kernel_is_made_of(opened):
    choose(opened, "standardizedconv2")
    assert "K̂[" in text(opened, "rotation")
    assert "ε = 0.1" in text(opened, "window")
    assert "Back through the standardisation" in text(opened, "gradients")
    assert "K̂" not in text(opened, "differences")
    choose(opened, "convtranspose1")
    assert "K̂" not in text(opened, "window")


def test_a_weight_of_each_can_be_changed(opened, page):
    """The cell that is chosen is the weight's own, also where the kernel is made of it; then all is as it was given."""
    field = "document.querySelector('#window input[type=number]')"
    for path in ("standardizedconv2", "convtranspose2"):
        choose(opened, path)
        at = opened.ask("xcnn.state.view().kAt(...xcnn.state.tap)")
        opened.ask(f"({field}.value = 0.75, {field}.dispatchEvent(new Event('change')), 0)")
        assert opened.ask(f"xcnn.state.network.weights.get('{path}/kernel').cells[{at}]") == 0.75
        weights = page.model.weights[path]["kernel"].copy()
        changed = xcnn.Model(page.model.net, (2, 6, 5), backend="numpy", dtype="float64", seed=2)
        changed.weights = page.model.weights
        weights.reshape(-1)[at] = 0.75
        changed.weights[path]["kernel"] = weights
        check_numbers(opened, changed.trace(page.trace.x, page.trace.t))
        opened.ask("(document.querySelector('#picture button').click(), 0)")


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed")
def test_axe_finds_nothing(opened):
    choose(opened, "convtranspose1")
    assert opened.axe() == []
