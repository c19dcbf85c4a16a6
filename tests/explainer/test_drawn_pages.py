"""Pages of nets that are drawn at random, in a browser: every number that they show of each convolution is NumPy's."""

import numpy as np
import pytest
from browser import REASON, USABLE
from draws import draws
from shown_numbers import check_numbers

import xcnn

pytestmark = pytest.mark.skipif(not USABLE, reason=REASON)

SMOOTH = (xcnn.Tanh, xcnn.SiLU, xcnn.GELU, xcnn.Softplus, xcnn.Sigmoid)
"""Activations without a corner, beside which a difference would be apart from its gradient."""


def one_of(rng, *things):
    return things[rng.integers(len(things))]


def convolution(rng):
    """With any kernel, stride, padding, gaps, groups and bias; its channels are even."""
    padding = one_of(rng, "valid", "same", "full", 1, ((2, 0), (0, 1)))
    stride, dilation = one_of(rng, (1, 1), (1, (1, 2)), ((2, 1), 1), (2, 1))
    kernel, bias = one_of(rng, 1, 2, 3, (1, 3), (3, 2)), one_of(rng, True, False, "untied")
    options = {"padding": padding, "stride": stride, "dilation": dilation}
    if rng.random() < 0.2:
        return xcnn.DepthwiseConv2D(kernel, bias=bias, **options)
    return xcnn.Conv2D(one_of(rng, 2, 4), kernel, groups=one_of(rng, 1, 2), bias=bias, **options)


def between(rng):
    """What may stand behind a convolution."""
    same = xcnn.Sequential(xcnn.BatchNorm(), one_of(rng, *SMOOTH)())
    body = xcnn.DepthwiseConv2D(3, padding="same")
    both = xcnn.Concatenate(one_of(rng, *SMOOTH)(), xcnn.AveragePool2D(3, stride=1, padding="same"))
    return one_of(rng, one_of(rng, *SMOOTH)(), same, xcnn.Residual(body, xcnn.Tanh()), both, xcnn.LayerNorm())


def drawn(seed):
    """The page of a net of two to four convolutions, or of a signal's, with a cross-entropy behind them."""
    rng = np.random.default_rng(seed)
    parts = [each for _ in range(rng.integers(2, 5)) for each in (convolution(rng), between(rng))]
    shape = (2, int(rng.integers(7, 12)), int(rng.integers(7, 12)))
    if rng.random() < 0.2:
        shape, parts = shape[:2], [xcnn.Conv1D(4, 3, stride=2, padding=(2, 0)), xcnn.Tanh(), xcnn.Conv1D(2, 2)]
    net = xcnn.Sequential(*parts, xcnn.Flatten(), xcnn.Dense(3))
    model = xcnn.Model(net, shape, backend="numpy", dtype="float64", seed=seed)
    return xcnn.explain(model, rng.normal(size=shape), int(rng.integers(3)))


@pytest.mark.parametrize("seed", range(draws(3)))
def test_every_number_of_a_drawn_net_is_numpys(seed, browser, tmp_path):
    page = drawn(seed)
    page.save(tmp_path / "why.html")
    browser.complaints.clear()
    browser.size(1400)
    browser.open(tmp_path / "why.html")
    paths = browser.ask("xcnn.state.correlations.map(node => node.path)")
    assert len(paths) > 1
    for path in paths:
        chosen = f"xcnn.state.chooseLayer('{path}')"
        elsewhere = "xcnn.state.chooseFilter(0), xcnn.state.chooseElement(0, 0), xcnn.state.cell = [0, 0]"
        browser.ask(f"({chosen}, xcnn.state.show(), 0)")
        assert check_numbers(browser, page.trace) > 80
        browser.ask(f"({elsewhere}, xcnn.state.show(), 0)")
        assert check_numbers(browser, page.trace) > 80
    assert browser.complaints == []
