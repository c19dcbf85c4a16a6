"""Pages of kernels that make long tables, of even windows, and of gradients that rounding hides."""

import numpy as np
import pytest
from browser import REASON, USABLE

import xcnn

pytestmark = pytest.mark.skipif(not USABLE, reason=REASON)

TEXT = "document.getElementById('{}').textContent.replaceAll('\\u00a0', ' ')"


def opened(browser, path, net, x):
    model = xcnn.Model(net, x.shape, backend="numpy", dtype="float64", seed=0)
    xcnn.explain(model, x, 1).save(path / "why.html")
    browser.complaints.clear()
    browser.size(1000)
    browser.open(path / "why.html")
    return browser


def test_a_large_kernel_scrolls_and_paper_has_a_part(browser, tmp_path):
    """On the screen all 12 x 20 cells, in areas that the Tab key reaches; on paper 8 x 8 around what is marked."""
    x = np.random.default_rng(0).random((1, 14, 22))
    opened(browser, tmp_path, xcnn.Sequential(xcnn.Conv2D(1, (12, 20)), xcnn.Flatten(), xcnn.Dense(2)), x)
    grids = "[...document.querySelectorAll('#window .row .scroll')]"
    assert browser.ask(f"{grids}.map(e => e.querySelectorAll('td').length)") == [240, 240, 240]
    assert browser.ask(f"{grids}.every(e => e.tabIndex === 0 && e.clientHeight < 450)")
    assert browser.ask("document.querySelectorAll('#differences tbody tr').length") == 240
    assert browser.ask("document.querySelector('#differences .tall').clientHeight") < 450
    browser.ask("(dispatchEvent(new Event('beforeprint')), 0)")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.ask(f"{grids}.map(e => e.querySelectorAll('td').length)") == [64, 64, 64]
    assert browser.ask(f"{grids}.every(e => e.querySelectorAll('.marked').length === 1)")
    assert "columns" in browser.ask("document.querySelector('#window caption').textContent")
    assert "of 12 × 20" in browser.ask("document.querySelector('#window caption').textContent")
    assert "36 of the 240 weights" in browser.ask(TEXT.format("differences"))
    assert browser.ask("[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= 1000)")
    browser.call("Emulation.setEmulatedMedia", media="")
    browser.ask("(dispatchEvent(new Event('afterprint')), 0)")
    assert browser.ask(f"{grids}.map(e => e.querySelectorAll('td').length)") == [240, 240, 240]
    assert browser.complaints == []


def test_a_window_that_is_even_is_told_and_avoided(browser, tmp_path):
    """Of an even picture convolution and correlation are the same; where one cell stands out, its window is chosen."""
    net = xcnn.Sequential(xcnn.Conv2D(1, 3), xcnn.Flatten(), xcnn.Dense(2))
    opened(browser, tmp_path, net, np.full((1, 9, 9), 0.5))
    assert "the same number here" in browser.ask(TEXT.format("geometry"))
    x = np.full((1, 9, 9), 0.5)
    x[0, 7, 1] = 1
    opened(browser, tmp_path, net, x)
    p, q = browser.ask("xcnn.state.element")
    assert p <= 7 <= p + 2
    assert q <= 1 <= q + 2
    assert "which is another number" in browser.ask(TEXT.format("geometry"))


def test_a_gradient_that_rounding_hides_is_told(browser, tmp_path):
    """Of a net that is sure the loss changes by less than its logits' last digits."""
    net = xcnn.Sequential(xcnn.Conv2D(1, 3), xcnn.Flatten(), xcnn.Dense(2))
    model = xcnn.Model(net, (1, 5, 5), backend="numpy", dtype="float64", seed=0)
    model.weights["dense1"]["bias"] = [0, 24]
    xcnn.explain(model, np.random.default_rng(0).random((1, 5, 5)), 1).save(tmp_path / "why.html")
    browser.size(1000)
    browser.open(tmp_path / "why.html")
    assert "lost in the last digits" in browser.ask(TEXT.format("differences"))
