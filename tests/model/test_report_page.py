"""A report's page in a browser: it asks for nothing, fits any window, and all can read it."""

import numpy as np
import pytest
from browser import AXE, REASON, USABLE

import xcnn

pytestmark = pytest.mark.skipif(not USABLE, reason=REASON)

CLASSES = 14
NAMES = [f"a rather long name {n}" if n % 3 else f"</h2><b>&amp; {n}" for n in range(CLASSES)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page with more classes than fit side by side, and what it tells of."""
    rng = np.random.default_rng(0)
    model = xcnn.Model(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(CLASSES)), (3, 6, 5), backend="numpy", seed=1)
    model.info["classes"] = NAMES
    report = model.report(rng.random((60, 3, 6, 5), np.float32), rng.integers(0, CLASSES, 60), worst=5)
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.write(path)
    return path, report


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_it_fits_the_window_and_has_all_there_is_to_see(browser, page, width, dark):
    path, report = page
    browser.requests.clear()
    browser.complaints.clear()
    browser.size(width, dark=dark)
    browser.open(path)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert {request.split(":")[0] for request in browser.requests} == {"file", "data"}
    assert not browser.complaints
    assert browser.ask("document.querySelector('h1').innerText") == f"Accuracy {report.accuracy:.2%}"
    heads = browser.ask("[...document.querySelectorAll('h2')].map(each => each.innerText)")
    assert heads == ["Class by class", "What was taken for what", "Most confused", "Largest losses"]
    table = "document.querySelectorAll('table')[1]"
    cells = browser.ask(f"[...{table}.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.innerText))")
    assert cells == [[name, *map(str, row)] for name, row in zip(NAMES, report.confusion.tolist(), strict=True)]
    if AXE is not None:
        assert browser.axe() == []


def test_what_is_wider_than_the_window_moves_by_itself_and_keeps_its_names_in_sight(browser, page):
    browser.size(400)
    browser.open(page[0])
    name = "document.querySelector('tbody th')"
    before, after, moved = browser.ask(
        f"(() => {{ const wide = {name}.closest('.wide'), left = () => {name}.getBoundingClientRect().left;"
        "const before = left(); wide.scrollLeft = 150; return [before, left(), wide.scrollLeft]; })()"
    )
    assert moved == 150
    assert after == before


def test_pictures_keep_their_shape(browser, page):
    browser.size(1200)
    browser.open(page[0])
    sizes = browser.ask("[...document.images].map(each => [each.naturalWidth, each.width / each.height])")
    assert len(sizes) == 5
    for width, shape in sizes:
        assert width == 5
        assert shape == pytest.approx(5 / 6, rel=0.02)
