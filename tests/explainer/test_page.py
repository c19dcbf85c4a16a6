"""The page in a browser: it asks for nothing, complains of nothing, shows NumPy's numbers, and all can read it."""

import json
import re

import numpy as np
import pytest
from browser import AXE, REASON, USABLE
from shown_numbers import check_numbers

import xcnn

pytestmark = pytest.mark.skipif(not USABLE, reason=REASON)

NET = xcnn.Sequential(
    xcnn.Conv2D(3, 3, stride=2, padding=1), xcnn.Tanh(), xcnn.Conv2D(2, 2, bias="untied"), xcnn.Sigmoid(),
    xcnn.MaxPool2D(2), xcnn.Flatten(), xcnn.Dense(3),
)  # fmt: skip


@pytest.fixture(scope="module")
def page():
    """A net with stride, padding, several channels and both kinds of bias, its picture and target."""
    model = xcnn.Model(NET, (1, 12, 11), backend="numpy", dtype="float64", seed=4)
    return xcnn.explain(model, np.random.default_rng(3).random((1, 12, 11)), 1, title="</script><b>&amp; a net")


@pytest.fixture
def opened(browser, page, tmp_path):
    """The page, in the browser."""
    page.save(tmp_path / "why.html")
    browser.requests.clear()
    browser.complaints.clear()
    browser.size(1400)
    browser.open(tmp_path / "why.html")
    return browser


def test_it_asks_for_nothing_and_complains_of_nothing(opened, page):
    assert opened.requests == [opened.ask("location.href")]
    assert opened.complaints == []
    assert opened.ask("document.title") == "</script><b>&amp; a net"
    assert opened.ask("fetch('https://example.org').then(() => 'went', () => 'refused')") == "refused"
    assert opened.ask("+document.getElementById('badge').dataset.worst") < 1e-12
    assert opened.ask("+document.getElementById('badge').dataset.count") > 300


def test_every_number_is_numpys_of_each_layer_and_after_each_change(opened, page):
    """As given; of the second layer; after a pixel, a weight, the target and two steps were changed."""
    model, x = page.model, page.trace.x.copy()
    assert check_numbers(opened, page.trace) > 150
    opened.ask("(xcnn.state.chooseLayer('conv2'), xcnn.state.chooseElement(1, 0), xcnn.state.show(), 0)")
    assert check_numbers(opened, page.trace) > 150
    changed = xcnn.Model(NET, (1, 12, 11), backend="numpy", dtype="float64", optimizer=xcnn.SGD(0.1), seed=4)
    x[0, 0, 5, 6] = 2.5
    kernel = np.array(changed.weights["conv1"]["kernel"])
    kernel[1, 0, 2, 0] = -1.25
    changed.weights["conv1"]["kernel"] = kernel
    opened.ask(
        "(xcnn.state.network.x[5 * 11 + 6] = 2.5, xcnn.state.network.weights.get('conv1/kernel').cells[9 + 6] = -1.25, "
        "xcnn.state.network.t.set([0, 0, 1]), xcnn.state.changed(), 0)"
    )
    check_numbers(opened, changed.trace(x, np.array([2])))
    assert "no longer" in opened.ask("document.getElementById('changed').textContent")
    before = opened.ask("xcnn.state.result.loss")
    press = "document.querySelectorAll('#descent .row button')[0].click()"
    opened.ask(f"({press}, {press}, 0)")
    for _ in range(2):
        changed.step(x, np.array([2]))
    check_numbers(opened, changed.trace(x, np.array([2])))
    assert opened.ask("xcnn.state.result.loss") < before
    opened.ask("(document.querySelector('#picture button').click(), 0)")
    check_numbers(opened, model.trace(page.trace.x, np.array([1])))
    assert opened.complaints == []


def test_every_number_is_numpys_of_any_convolution(browser, tmp_path):
    """Gaps, groups, uneven padding and strides; within containers, of a graph, and of signals."""
    net = xcnn.Graph(
        stem=(xcnn.Conv2D(4, (2, 3), stride=(2, 1), padding=((1, 0), (0, 2)), groups=2, bias="untied"), "input"),
        constructor=(xcnn.Conv2D(2, 2, dilation=(1, 2), padding="full", bias=False), "stem"),
        deep=(xcnn.Residual(xcnn.DepthwiseConv2D(3, padding="same"), xcnn.Tanh()), "constructor"),
        both=(xcnn.Concatenate(), "constructor", "deep"),
        line=(
            xcnn.Sequential(xcnn.Flatten(), xcnn.Reshape((4, -1)), xcnn.Conv1D(3, 3, stride=2, padding=(2, 0))),
            "both",
        ),
        last=(xcnn.Sequential(xcnn.Flatten(), xcnn.Dense(3)), "line"),
    )
    model = xcnn.Model(net, (2, 6, 5), backend="numpy", dtype="float64", seed=2)
    page = xcnn.explain(model, np.random.default_rng(1).normal(size=(2, 6, 5)), 2)
    page.save(tmp_path / "why.html")
    browser.complaints.clear()
    browser.size(1400)
    browser.open(tmp_path / "why.html")
    paths = browser.ask("xcnn.state.correlations.map(node => node.path)")
    assert paths == ["stem", "constructor", "deep.depthwiseconv1", "line.conv1"]
    for path in paths:
        browser.ask(f"(xcnn.state.chooseLayer('{path}'), xcnn.state.show(), 0)")
        assert check_numbers(browser, page.trace) > 100
        browser.ask("(xcnn.state.chooseElement(0, 0), xcnn.state.cell = [0, 0], xcnn.state.show(), 0)")
        assert check_numbers(browser, page.trace) > 100
    assert browser.complaints == []


STOPS = "[...document.querySelectorAll('button:not([disabled]), input, select, summary, [tabindex=\"0\"]')]"
FOCUSED = """(e => {
  const [box, style] = [e.getBoundingClientRect(), getComputedStyle(e)];
  const seen = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  return [e.dataset.stop ?? '', seen && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
})(document.activeElement)"""


def walk(browser):
    """Go through a page by Tab: each control is a stop, in the order of the page, in sight, with a frame around it."""
    expected = browser.ask(f"{STOPS}.forEach((e, n) => e.dataset.stop = n), {STOPS}.length")
    reached = []
    for _ in range(expected):
        browser.press("Tab", 9)
        stop, framed = browser.ask(FOCUSED)
        assert framed, stop
        reached.append(stop)
    assert reached == [str(n) for n in range(expected)]
    return expected


def test_the_keyboard_alone_reaches_everything(opened):
    """Each control is a stop of the Tab key, once; within a map arrows, Home and End choose a cell, and it is said."""
    assert walk(opened) > 30
    opened.ask("(document.querySelector('#window canvas[tabindex]').focus(), 0)")
    row, column = opened.ask("xcnn.state.cell")
    opened.press("ArrowRight", 39)
    assert opened.ask("xcnn.state.cell") == [row, column + 1]
    assert f"row {row}, column {column + 1}" in opened.ask("document.getElementById('live').textContent")
    opened.press("End", 35)
    opened.press("ArrowDown", 40)
    assert opened.ask("xcnn.state.cell") == [row + 1, 10]
    assert opened.ask("document.activeElement === document.querySelector('#window canvas[tabindex]')")
    opened.press("Home", 36)
    assert opened.ask("xcnn.state.cell") == [row + 1, 0]
    opened.ask("(document.querySelector('#picture canvas').focus(), 0)")
    at = opened.ask("xcnn.state.pixel.at")
    opened.press(" ", 32, text=" ")
    assert opened.ask(f"xcnn.state.network.x[{at[0]} * 11 + {at[1]}]") in (0, 1)
    assert opened.ask("xcnn.state.changes") == 1


def test_questions_are_answered(opened):
    """A right guess is right, a wrong one is told the number; answers can be covered."""
    y = "xcnn.state.view().made"
    answer = opened.ask(f"String({y}.cells[xcnn.state.element[0] * {y}.columns + xcnn.state.element[1]])")
    guess = (
        "(guess => { const box = document.querySelector('#window .question'); box.querySelector('input').value = guess;"
        "box.querySelector('button').click(); return box.querySelector('output').textContent; })"
    )
    assert opened.ask(f"{guess}('{answer}')") == "Right."
    assert opened.ask(f"{guess}('')").startswith("Not so: ")
    assert opened.ask("document.querySelectorAll('details.answer[open]').length") == 9
    opened.ask("(document.querySelector('main > label input').click(), 0)")
    assert opened.ask("document.querySelectorAll('section:not(#overview) > details[open]').length") == 0


def test_a_corner_of_the_loss_is_told(browser, tmp_path):
    """Of a ReLU at 0 the difference is the mean of both sides' slopes, and the gradient is that of one."""
    net = xcnn.Sequential(xcnn.Conv2D(1, 3), xcnn.ReLU(), xcnn.Flatten(), xcnn.Dense(2))
    page = xcnn.explain(xcnn.Model(net, (1, 4, 4), backend="numpy", seed=1), np.zeros((1, 4, 4)), 1)
    page.save(tmp_path / "why.html")
    browser.open(tmp_path / "why.html")
    told = browser.ask(
        "(() => { const pick = [...document.querySelectorAll('#differences select')].at(-1);"
        "pick.selectedIndex = [...pick.options].findIndex(o => o.text === 'conv1/bias');"
        "pick.dispatchEvent(new Event('change'));"
        "return document.querySelector('#differences p[aria-live]').textContent; })()"
    )
    slope = page.trace["flatten1"].dx.sum()
    right, left = map(
        float, re.search(r"slope is (\S+) to the right and (\S+) to the left", told.replace("−", "-")).groups()
    )
    assert right == pytest.approx(slope, rel=1e-3)
    assert (left, page.trace["conv1"].grads["bias"]) == (0, 0)


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1400, True)])
def test_it_can_be_read_at_every_width_and_in_the_dark(opened, width, dark):
    opened.size(width, dark=dark)
    assert opened.ask("document.documentElement.scrollWidth") <= width
    ink, paper = opened.ask("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (bright[0] > bright[1]) == dark
    if AXE is not None:
        assert opened.axe() == []


@pytest.mark.parametrize("name", ["article", "small_resnet"])
def test_pages_of_ready_nets_can_be_read_on_a_phone(browser, name, tmp_path):
    """With names as long as a residual net's, and weights of 1.8 MB."""
    shape, loss = ((1, 28, 28), "binary_cross_entropy") if name == "article" else ((3, 32, 32), "cross_entropy")
    model = xcnn.Model(getattr(xcnn.nets, name)(2), shape, loss=loss, backend="numpy", seed=0)
    xcnn.explain(model, np.random.default_rng(0).random(shape), 1).save(tmp_path / "why.html")
    browser.complaints.clear()
    browser.size(360)
    browser.open(tmp_path / "why.html")
    assert browser.ask("document.documentElement.scrollWidth") <= 360
    assert browser.complaints == []
    assert browser.ask("+document.getElementById('badge').dataset.worst") < 1e-12
    if AXE is not None:
        assert browser.axe() == []


def test_the_keyboard_reaches_every_layer_of_a_deep_net(browser, tmp_path):
    """The overview is opened by a key, each convolution in it chosen by one; then the focus is where that is shown."""
    model = xcnn.Model(xcnn.nets.small_resnet(10), (3, 32, 32), backend="numpy", seed=0)
    xcnn.explain(model, np.random.default_rng(0).random((3, 32, 32)), 3).save(tmp_path / "why.html")
    browser.size(1000)
    browser.open(tmp_path / "why.html")
    browser.ask("(document.querySelector('#overview summary').focus(), 0)")
    browser.press(" ", 32, text=" ")
    browser.ask("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")  # what opens is drawn then
    browser.press("Tab", 9)
    assert browser.ask("document.activeElement.textContent").startswith("show ")
    path = browser.ask("document.activeElement.textContent").split()[1]
    assert path != browser.ask("xcnn.state.path")
    browser.press("Enter", 13, text="\r")
    assert browser.ask("xcnn.state.path") == path
    assert browser.ask("document.activeElement.id") == "rotation"
    browser.press("Tab", 9)
    assert browser.ask("document.activeElement.closest('section').id") == "rotation"
    browser.open(tmp_path / "why.html")
    browser.ask("(document.querySelector('#overview details').open = true, 0)")
    buttons = browser.ask("document.querySelectorAll('#overview li button').length")
    assert buttons == browser.ask("xcnn.state.correlations.length") > 8
    assert walk(browser) > 40


def test_paper_has_every_answer_and_no_controls(opened):
    opened.ask("(document.querySelectorAll('details').forEach(e => e.open = false), 0)")
    opened.ask("(dispatchEvent(new Event('beforeprint')), 0)")
    assert opened.ask("document.querySelectorAll('details:not([open])').length") == 0
    opened.call("Emulation.setEmulatedMedia", media="print")
    assert opened.ask("getComputedStyle(document.querySelector('.bar')).display") == "none"
    assert opened.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    opened.call("Emulation.setEmulatedMedia", media="")
    opened.ask("(dispatchEvent(new Event('afterprint')), 0)")


def test_a_digit_is_drawn_and_centred(browser, tmp_path):
    model = xcnn.Model(xcnn.nets.lenet(10), (1, 28, 28), backend="numpy", seed=0)
    xcnn.explain(model, np.zeros((1, 28, 28), "float32"), 3).save(tmp_path / "lenet.html")
    browser.size(1400, 1200)
    browser.open(tmp_path / "lenet.html")
    browser.ask("(document.querySelector('.paper').scrollIntoView(), 0)")
    x, y = browser.ask("(box => [box.x, box.y])(document.querySelector('.paper').getBoundingClientRect())")
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    browser.call("Input.dispatchMouseEvent", type="mousePressed", x=x + 40, y=y + 30, **mouse)
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + 45, y=y + 200, **mouse)
    browser.call("Input.dispatchMouseEvent", type="mouseReleased", x=x + 45, y=y + 200, **mouse)
    drawn = np.array(browser.ask("[...xcnn.state.network.x]")).reshape(28, 28)
    rows, columns = np.nonzero(drawn > 0.1)
    assert np.ptp(rows) + 1 == 20
    assert np.ptp(columns) < 8
    for axis in (0, 1):
        assert abs(drawn.sum(axis=1 - axis) @ np.arange(28) / drawn.sum() - 14) <= 1
    logits = model.predict(drawn[None, None].astype("float32"))[0]
    np.testing.assert_allclose(browser.ask("[...xcnn.state.result.y]"), logits, atol=1e-5)


def test_a_notebook_gets_a_frame_and_a_picture(browser, page, tmp_path):
    """The frame runs its page, though it may do nothing else."""
    (tmp_path / "notebook.html").write_text(f"<!doctype html><title>n</title>{page._repr_html_()}", "utf-8")
    browser.complaints.clear()
    browser.open(tmp_path / "notebook.html")
    assert browser.ask("document.querySelector('iframe').title") == page.title
    assert browser.complaints == []
    assert json.loads(json.dumps(page.data)) is not None
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    assert page._repr_png_().startswith(b"\x89PNG")
