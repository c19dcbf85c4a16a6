"""Digits on photos of paper: in the shadow of a hand, on squared paper, by a faint pencil, and those that are none.

The photos are drawn from MNIST's test digits 0 and 1, which lie in the package, and where all of MNIST is there from
all ten: then 55 of 60 must be right, and 57 of 60 of evenly lit ones.
"""

import contextlib
import os

import handwriting
import numpy as np
import pytest
from scipy import ndimage

import xcnn
from xcnn.data import ink
from xcnn.data.digits import mnist_like
from xcnn.errors import DataError

FOLDER = os.environ.get("XCNN_DATA_DIR") or None  # "" names none
SEED = 20


@pytest.fixture(scope="module")
def model():
    return xcnn.nets.pretrained("lenet-mnist", backend="numpy")


@pytest.fixture(scope="module")
def digits():
    return xcnn.datasets.mnist01().test


def right(model, photos, labels):
    """How many are taken for what they are."""
    found = 0
    for photo, label in zip(photos, labels, strict=True):
        with contextlib.suppress(DataError):  # where no digit is found
            found += int(model.predict(mnist_like(photo)[0][None]).argmax()) == label
    return found


@pytest.mark.parametrize("hard", [False, True], ids=["even", "hard"])
def test_photos_of_zeros_and_ones(model, digits, hard):
    rng = np.random.default_rng(SEED)
    chosen = [int(rng.choice(np.flatnonzero(digits.y == n % 2))) for n in range(6)]
    photos = [handwriting.photo(digits.x[n, 0], rng, hard) for n in chosen]
    assert right(model, photos, digits.y[chosen]) >= 5


@pytest.mark.skipif(FOLDER is None, reason="XCNN_DATA_DIR names no folder of MNIST: only 0 and 1 are drawn")
@pytest.mark.parametrize(("hard", "wanted"), [(False, 57), (True, 55)], ids=["even", "hard"])
def test_photos_of_ten_digits(model, hard, wanted):
    _, (x, y) = xcnn.datasets.mnist(FOLDER)
    assert right(model, *handwriting.set_of(x, y, 60, SEED, hard)) >= wanted


def test_several_digits_are_told(digits):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="2 digits") as told:
        mnist_like(handwriting.several([digits.x[0, 0], digits.x[1, 0]], rng))
    assert told.value.code == "X208"


def test_paper_without_ink_is_told():
    rng = np.random.default_rng(1)
    grain = np.clip(0.8 + 0.02 * rng.normal(size=(300, 240)), 0, 1).astype("float32")
    with pytest.raises(DataError, match="no ink stands out") as told:
        mnist_like(grain)
    assert told.value.code == "X208"
    assert told.value.hint


def test_a_shadows_edge_is_no_ink():
    """The closing of a step is the step: nothing is dark there, where a threshold for all sees half a page of ink."""
    page = np.full((120, 160), 0.9, np.float32)
    page[:, 90:] *= 0.5
    assert ink.darkness(ndimage.gaussian_filter(page, 2)).max() < 0.02
    page[40:80, 50:54] = 0.3
    dark = ink.darkness(page)
    assert dark[60, 52] > 0.5
    assert dark[60, 100:].max() < 0.02


@pytest.mark.parametrize("turn", [0, 2])
def test_lines_of_the_paper_are_taken_away_and_strokes_stay(turn):
    page = np.zeros((200, 200), np.float32)
    page[10::20], page[:, 10::20] = 0.3, 0.3
    lines = ndimage.rotate(page, turn, reshape=False, order=1, mode="nearest")
    drawn = lines.copy()
    drawn[60:140, 95:105] = 0.6
    left, found = ink.without_lines(drawn)
    assert found
    assert left[70:130, 98:102].mean() > 0.4
    assert left[70:130, 20:80].mean() < 0.25 * lines[70:130, 20:80].mean()


def test_chalk_on_a_board_is_found_as_ink_on_paper_is():
    page = np.full((120, 160), 0.8, np.float32)
    page[30:90, 70:78] = 0.2
    rng = np.random.default_rng(0)
    page += rng.normal(0, 0.01, page.shape).astype("float32")
    for light in (page, 1 - page):
        found = ink.find_ink(light)
        top, bottom, left, right = found.box
        assert abs(top - 30) < 3
        assert abs(bottom - 90) < 3
        assert abs(left - 70) < 3
        assert abs(right - 78) < 3


@pytest.mark.parametrize("width", [2, 3, 8])
def test_thin_strokes_are_widened_and_wide_ones_stay(width):
    strokes = np.zeros((60, 30), np.float32)
    strokes[5:55, 10 : 10 + width] = 1
    made = ink.widened(strokes, 6.0)
    row = made[len(made) // 2]
    assert abs(np.count_nonzero(row > 0.5) - max(width, 6)) <= 1


@pytest.mark.parametrize("aside", [0, 60], ids=["above", "beside"])
def test_a_broken_stroke_is_one_digit_and_two_beside_each_other_are_two(aside):
    page = np.full((260, 160), 0.9, np.float32)
    page[60:120, 50:58] = page[130:170, 52 + aside : 60 + aside] = 0.3
    if not aside:
        top, bottom, _, _ = ink.find_ink(page).box
        assert (abs(top - 60) < 3, abs(bottom - 170) < 3) == (True, True)
    else:
        with pytest.raises(DataError, match="2 digits"):
            ink.find_ink(page)


def test_a_stroke_below_a_line_of_the_paper_stays_whole():
    page = np.zeros((200, 200), np.float32)
    page[10::20], page[:, 10::20] = 0.3, 0.3
    page[60:140, 94:107] = 0.3  # no darker than the lines: what is subtracted there is all of it
    left, found = ink.without_lines(page)
    assert found
    assert left[65:135, 97:104].min() > 0.1
    assert left[65:135, 112:128].max() < 0.1


def test_what_is_light_on_light_paper_is_no_chalk():
    page = np.full((120, 160), 0.9, np.float32)
    page[:, ::24] = page[:, 1::24] = page[:, 2::24] = 1.0
    page[40:80, 50:54] = 0.6
    assert ink.darkness(page)[60, 52] > 0.2
