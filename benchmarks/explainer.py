"""The pictures of docs/explain.md, and how large and fast its pages are: python benchmarks/explainer.py docs/explain

Chromium takes them of real pages (tests/browser.py): the article's net on a handwritten 0, LeNet on another digit, the
small residual net on a picture in colours. `--looks FOLDER` has all three pages too, narrow, wide, dark and on paper.
"""

import argparse
import base64
import io
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import xcnn
from xcnn.core.files import write_whole

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import Browser

SECTIONS = ("rotation", "window", "geometry", "gradients", "differences", "loss", "chain", "descent")
OTHERS = (
    ("transposed", "convtranspose1", "rotation"),
    ("standardised", "standardizedconv1", "#window .way"),
)
"""Pictures of other convolutions: name, layer, section."""
COLOURS = 255
"""Of a picture: pages have few, and a file of as many takes half."""


def article(digit=0):
    """The article's net after 128 steps, when it knows 99 of 100 and still has something to learn, on a 0 or a 1."""
    (x, y), _ = xcnn.datasets.mnist01()
    net, options = xcnn.nets.article(2), {"loss": "binary_cross_entropy", "optimizer": xcnn.SGD(0.3)}
    model = xcnn.Model(net, (1, 28, 28), backend="numpy", seed=0, **options)
    model.fit(x[:512], y[:512], epochs=1, batch_size=4, progress="none")
    return model, x[int(np.flatnonzero(y == digit)[70])], digit


def lenet():
    """LeNet that knows the ten digits, on a 1; in its page a 3 is drawn."""
    (x, y), _ = xcnn.datasets.mnist01()
    return xcnn.nets.pretrained("lenet-mnist", backend="numpy"), x[int(np.flatnonzero(y == 1)[70])], 3


def small_resnet():
    """The residual net on a picture in colours that is drawn here: a sun over a hill."""
    rows, columns = np.mgrid[0:32, 0:32] / 31
    sun = (rows - 0.3) ** 2 + (columns - 0.65) ** 2 < 0.03
    hill = rows > 0.75 - 0.2 * np.sin(3 * columns)
    channels = [np.where(sun, 1, np.where(hill, one, two)) for one, two in ((0.2, 0.45), (0.55, 0.7), (0.2, 1.0))]
    channels[2] = np.where(sun, 0.3, channels[2])
    model = xcnn.Model(xcnn.nets.small_resnet(10), (3, 32, 32), backend="numpy", seed=0)
    return model, np.stack(channels).astype("float32"), 3


def others():
    """Convolutions of the other kinds on the same 0: kernels that are standardised, and a transposed one."""
    (x, y), _ = xcnn.datasets.mnist01()
    first = [xcnn.StandardizedConv2D(4, 3, stride=2, padding=1), xcnn.ReLU()]
    net = xcnn.Sequential(
        *first, xcnn.Conv2DTranspose(3, 4, stride=2, padding=1), xcnn.Tanh(), xcnn.Flatten(), xcnn.Dense(2)
    )
    model = xcnn.Model(net, (1, 28, 28), optimizer=xcnn.SGD(0.05), backend="numpy", seed=0)
    model.fit(x[:256], y[:256], epochs=1, batch_size=8, progress="none")
    return model, x[int(np.flatnonzero(y == 0)[70])], 0


NETS = {"article": article, "article-1": partial(article, 1), "lenet": lenet, "small-resnet": small_resnet}


def made(name, folder):
    """The page's file, and the seconds that it took."""
    model, x, y = {**NETS, "others": others}[name]()
    began = time.perf_counter()
    page = xcnn.explain(model, x, y, title=f"{name}, forward and backward")
    page.save(folder / f"{name}.html")
    return folder / f"{name}.html", time.perf_counter() - began


def kept(png, path):
    """Write a picture with few colours."""
    image = (
        Image.open(io.BytesIO(png))
        .convert("RGB")
        .quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    )
    image.save(path, optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size:,} bytes", flush=True)


def section(browser, name):
    """A picture of one section of the page, or of what a selector finds in it."""
    found = f"document.querySelector('{name if name.startswith('#') else f'#{name}'}')"
    box = browser.ask(f"(b => [b.top + scrollY, b.height])({found}.getBoundingClientRect())")
    return browser.picture(*box)


def pictures(browser, folder, out):
    """Each question's answer, on the article's net."""
    page, _ = made("article", folder)
    browser.size(860)
    browser.open(page)
    pressed = {"chain": "#chain .body .row button", "descent": "#descent .row button"}
    for name in SECTIONS:
        if name in pressed:
            browser.ask(f"(document.querySelectorAll('{pressed[name]}')[1].click(), 0)")
        kept(section(browser, name), out / f"{name}.png")
    page, _ = made("others", folder)
    browser.open(page)
    for name, path, part in OTHERS:
        browser.ask(f"(xcnn.state.chooseLayer('{path}'), xcnn.state.show(), 0)")
        kept(section(browser, part), out / f"{name}.png")
    page, _ = made("lenet", folder)
    browser.open(page)
    draw(browser)
    kept(section(browser, "#picture"), out / "drawing.png")


THREE = [
    (70, 70),
    (120, 50),
    (180, 60),
    (200, 100),
    (160, 130),
    (120, 138),
    (170, 150),
    (205, 190),
    (180, 235),
    (70, 225),
]
"""A pen's way, in pixels of the page's paper."""


def draw(browser):
    """Draw a 3 as a hand does, and see that the net takes it for one."""
    browser.ask("(document.querySelector('.paper').scrollIntoView({block: 'center'}), 0)")
    box = browser.ask(
        "(({x, y, width}) => [x, y, width / 280])(document.querySelector('.paper').getBoundingClientRect())"
    )
    left, top, scale = box
    places = [(left + x * scale, top + y * scale) for x, y in THREE]
    kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    y = browser.ask("[...xcnn.state.result.y]")
    assert int(np.argmax(y)) == 3, y


def check_captions(browser):
    """Each caption has its text, and room: one that a picture lacks was not painted in time."""
    unseen = "filter(each => !each.textContent.trim() || !each.getBoundingClientRect().height).length"
    assert browser.ask(f"[...document.querySelectorAll('figcaption, caption')].{unseen}") == 0


def looks(browser, folder, out):
    """All pages as they are, at three widths, in the dark, and as A4."""
    for name in NETS:
        page, _ = made(name, folder)
        for width, dark in ((360, False), (1000, False), (1400, False), (1400, True)):
            browser.size(width, dark=dark)
            browser.open(page)
            assert browser.ask("document.documentElement.scrollWidth") <= width
            if name == "lenet":
                draw(browser)
            check_captions(browser)
            write_whole(out / f"{name}-{width}{'-dark' if dark else ''}.png", browser.picture())
        paper = browser.call("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)["data"]
        write_whole(out / f"{name}.pdf", base64.b64decode(paper))


def sizes(browser, folder):
    """A line of a table for each net."""
    print("| net | parameters | page | made in | opened in | axe |\n|---|---|---|---|---|---|")
    for name in NETS:
        page, seconds = made(name, folder)
        browser.size(1400)
        browser.open(page)
        ready = browser.ask("xcnn.ready") / 1000
        parameters = browser.ask("JSON.parse(document.getElementById('data').textContent).parameters")
        size = page.stat().st_size / 1e6
        found = browser.axe()
        print(f"| {name} | {parameters:,} | {size:.2f} MB | {seconds:.1f} s | {ready:.1f} s | {found} |", flush=True)


def main():
    """Read the command, and make them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="the pictures' folder")
    parser.add_argument("--looks", type=Path, help="a folder for all pages as they look")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        browser = Browser(folder / "profile")
        try:
            if chosen.out:
                pictures(browser, folder, chosen.out)
            if chosen.looks:
                chosen.looks.mkdir(exist_ok=True)
                looks(browser, folder, chosen.looks)
            sizes(browser, folder)
        finally:
            browser.close()


if __name__ == "__main__":
    main()
