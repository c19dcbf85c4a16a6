"""Augmentations, held to loops in NumPy, to PyTorch's resampling and to Python's own colour conversions."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

import xcnn
from xcnn import augment
from xcnn.core import tree
from xcnn.core.random import fold, threefry2x32
from xcnn.data.augment import resampling, tones
from xcnn.data.augment.colour import contrasted, means, saturated, turned
from xcnn.data.augment.geometry import matrix, transformed
from xcnn.data.augment.mixing import beta
from xcnn.data.augment.rand_augment import OPERATIONS
from xcnn.errors import DTypeError, LabelError, OptionError, ShapeError

N = 12
rng = np.random.default_rng(5)
X = rng.random((N, 3, 9, 7), dtype="float32")
DRAWS = augment.Draws((3, 1), np.arange(100, 100 + N))


def mapped(image, a, move, fill):
    """One image by one matrix."""
    return transformed(image[None], a[None], np.asarray(move)[None], fill)[0]


IMAGES = [
    augment.Flip(), augment.Flip(0.3, 0.8), augment.Translate(3), augment.Translate(3, "reflect"),
    augment.Translate(9, "edge"), augment.RandomResizedCrop(), augment.RandomResizedCrop((0.5, 0.5), (1, 1)),
    augment.Affine(30, 0.2, (0.7, 1.4), 20, 0.5), augment.Rotate(180), augment.Cutout(4, 0.7, 0.25),
    augment.ColorJitter(0.5, 0.5, 0.5, 0.5), augment.RandAugment(3, 20, 0.9),
]  # fmt: skip


# What is drawn


def test_draws_are_threefry_of_the_key_and_the_samples_number():
    samples = np.array([0, 7, 2**32 + 3, 2**40])
    drawn = augment.Draws((11, 4), samples).uniform(3)
    for row, sample in zip(drawn, map(int, samples), strict=True):
        for n, number in enumerate(row):
            high, low = threefry2x32(fold((11, 4)), sample % 2**32, (sample >> 32) * 4096 + n)
            assert number == ((high << 21) + (low >> 11)) / 2**53


def test_draws_are_uniform_and_differ_by_sample_place_and_epoch():
    draws = augment.Draws((0, 0), np.arange(20_000))
    numbers = draws.uniform(2)
    assert stats.kstest(numbers[:, 0], "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.03
    for other in (replace(draws, key=(0, 1)), draws.child(0), replace(draws, key=(1, 0))):
        assert not np.intersect1d(numbers, other.uniform(2)).size


def test_beta_is_scipys():
    u = np.linspace(0.001, 0.999, 51)
    for alpha in (0.2, 1.0, 3.0):
        np.testing.assert_allclose(beta(u, alpha), stats.beta(alpha, alpha).ppf(u), rtol=1e-9)


@pytest.mark.parametrize("change", IMAGES, ids=repr)
def test_a_sample_is_changed_alike_in_any_batch(change):
    whole = change(X, DRAWS)
    assert whole.shape == X.shape
    assert whole.dtype == X.dtype
    assert not np.array_equal(whole, X)
    chosen = np.array([5, 0, 11])
    np.testing.assert_array_equal(change(X[chosen], DRAWS.of(chosen)), whole[chosen])
    np.testing.assert_array_equal(change(X[4:5], DRAWS.of([4])), whole[4:5])
    assert not np.array_equal(change(X, replace(DRAWS, key=(3, 2))), whole)


@pytest.mark.parametrize(
    "change", [augment.RandomResizedCrop(), augment.Affine(30, 0.2, (0.7, 1.4), 20, 0.5)], ids=repr
)
@pytest.mark.parametrize("together", [1, 63, 200])
def test_images_that_are_looked_up_together_become_what_they_do_alone(change, together, monkeypatch):
    """One by one, each, and in groups of three."""
    whole = change(X, DRAWS)
    monkeypatch.setattr(resampling, "TOGETHER", together)
    assert change(X, DRAWS).tobytes() == whole.tobytes()
    assert change(X[:0], DRAWS.of(slice(0))).shape == (0, 3, 9, 7)


@pytest.mark.parametrize("change", IMAGES, ids=repr)
def test_every_backend_makes_the_same(backend, change):
    """Of its own arrays: eager operations of one type in one order."""
    there = change(backend.asarray(X), DRAWS)
    np.testing.assert_array_equal(backend.to_numpy(there), change(X, DRAWS))


# What is made of images


@pytest.mark.parametrize(("shape", "dtype"), [
    ((1, 3, 90, 110), "float32"), ((3, 3, 90, 110), "float32"), ((3, 1, 5, 7), "float32"), ((2, 3, 90, 110), "float64"),
    ((2, 3, 90, 111), "float32"), ((2, 3, 90, 112), "float16"), ((2, 3, 90, 112), "uint8"), ((2, 3, 90, 112), ">f4"),
])  # fmt: skip
def test_images_of_any_size_are_mirrored_and_not_written_to(shape, dtype):
    x = (255 * np.random.default_rng(0).random(shape)).astype(dtype)
    if x.dtype == np.float32:
        x[0, 0, 0, :4] = np.nan, -0.0, np.inf, 1e-42
    before, draws = x.copy(), augment.Draws((0, 0), np.arange(len(x)))
    for chances, axes in (((1, 0), 3), ((0, 1), 2), ((1, 1), (2, 3))):
        for given in (x, x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)):
            made = augment.Flip(*chances)(given, draws)
            assert made.dtype == x.dtype
            assert made.tobytes() == np.flip(x, axes).tobytes()
            assert not np.shares_memory(made, given)
    assert x.tobytes() == before.tobytes()


def test_a_flip_mirrors_the_share_that_it_says():
    assert np.array_equal(augment.Flip(1)(X, DRAWS), X[..., ::-1])
    assert np.array_equal(augment.Flip(0, 1)(X, DRAWS), X[:, :, ::-1])
    assert np.array_equal(augment.Flip(0)(X, DRAWS), X)
    many = augment.Draws((0,), np.arange(4000))
    images = np.tile(np.arange(2.0), (4000, 1, 1, 1))
    share = np.mean(augment.Flip(0.3)(images, many)[:, 0, 0, 0])
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / 4000) ** 0.5


@pytest.mark.parametrize(("mode", "of_numpy"), [("zero", "constant"), ("reflect", "reflect"), ("edge", "edge")])
def test_a_translation_is_a_crop_of_a_padded_image(mode, of_numpy):
    y, seen = augment.Translate(3, mode)(X, DRAWS), set()
    for image, moved in zip(X, y, strict=True):
        padded = np.pad(image, ((0, 0), (3, 3), (3, 3)), mode=of_numpy)
        crops = {(i, j): padded[:, i : i + 9, j : j + 7] for i in range(7) for j in range(7)}
        found = [place for place, crop in crops.items() if np.array_equal(crop, moved)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > N // 2
    places = augment.Draws((9,), np.arange(3000)).between(-3, 4, 2)
    assert set(np.floor(places).ravel()) == set(range(-3, 4))


def test_a_part_made_as_large_is_pytorchs_bilinear():
    torch = pytest.importorskip("torch")
    change = augment.RandomResizedCrop()
    y, parts = change(X, DRAWS), change.parts(9, 7, DRAWS)
    for image, made, (top, left, high, wide) in zip(X, y, parts, strict=True):
        part = torch.tensor(image[None, :, top : top + high, left : left + wide])
        expected = torch.nn.functional.interpolate(part, (9, 7), mode="bilinear", align_corners=False)
        np.testing.assert_allclose(made, expected[0].numpy(), atol=1e-6)


def test_parts_have_the_areas_and_ratios_that_are_asked_for():
    change = augment.RandomResizedCrop((0.2, 0.9), (0.5, 2.0))
    parts = np.array(change.parts(200, 300, augment.Draws((1,), np.arange(5000))))
    top, left, high, wide = parts.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + high <= 200).all()
    assert (left + wide <= 300).all()
    area, ratio = high * wide / 60_000, wide / high
    assert 0.19 < area.min() < 0.22
    assert 0.85 < area.max() < 0.91
    assert ratio.min() > 0.49
    assert ratio.max() < 2.02
    assert stats.kstest(((left + 0.5) / (301 - wide))[wide < 200], "uniform").statistic < 0.05
    tall = augment.RandomResizedCrop((1, 1), (0.5, 0.5)).parts(100, 100, augment.Draws((1,), np.arange(2)))
    assert tall.tolist() == [[0, 25, 100, 50]] * 2  # no part has this area: the largest of this ratio


def test_an_affine_map_is_pytorchs_sampling_with_zeros_around():
    torch = pytest.importorskip("torch")
    image, (h, w) = X[0], X.shape[2:]
    for angle, lean, size, move in ((0.3, 0.2, 0.8, (1.5, -2.0)), (-2.0, 0, 1.3, (0, 0)), (0, 0.7, 1, (-3, 4))):
        a = matrix(angle, lean, size)
        back = np.linalg.inv(a)
        # PyTorch's places are -1..1 over all cells, and its matrix leads from the result's to the image's
        scale = np.diag([2 / w, 2 / h])
        theta = np.concatenate([scale @ back @ np.linalg.inv(scale), (scale @ -back @ np.array(move))[:, None]], axis=1)
        grid = torch.nn.functional.affine_grid(torch.tensor(theta[None], dtype=torch.float64), (1, 3, h, w), False)
        sampled = torch.nn.functional.grid_sample(
            torch.tensor(image[None], dtype=torch.float64), grid, "bilinear", "zeros", False
        )
        np.testing.assert_allclose(mapped(image, a, np.array(move), 0.0), sampled[0].numpy(), atol=2e-6)
        shifted = mapped(image - 0.5, a, np.array(move), -0.5) + 0.5
        np.testing.assert_allclose(shifted, mapped(image, a, np.array(move), 0.0), atol=2e-6)


def test_what_an_affine_map_draws_fills_the_ranges_that_are_asked_for():
    u = DRAWS.uniform(5)
    y = augment.Affine(30, 0.2, (0.7, 1.4), 20)(X, DRAWS)
    for n in range(N):
        angle, lean = np.radians(30 * (2 * u[n, 0] - 1)), np.radians(20 * (2 * u[n, 1] - 1))
        move = 0.2 * (2 * u[n, 3:] - 1) * np.array([7, 9])
        expected = mapped(X[n], matrix(angle, lean, 0.7 + 0.7 * u[n, 2]), move, 0.0)
        np.testing.assert_allclose(y[n], expected, atol=2e-6)


def test_a_quarter_turn_is_numpys_clockwise():
    square = X[:1, :, :7, :7]
    turned_once = mapped(square[0], matrix(np.pi / 2, 0, 1), np.zeros(2), 0.0)
    np.testing.assert_allclose(turned_once, np.rot90(square[0], -1, (1, 2)), atol=1e-6)


def test_a_cutout_covers_one_square_which_may_reach_over_the_edge():
    change = augment.Cutout(4, fill=2.0)
    y, corners = change(X, DRAWS), set()
    for image, made in zip(X, y, strict=True):
        covered = (made == 2).all(axis=0)
        rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
        assert covered[np.ix_(rows, columns)].all()
        assert covered.sum() == len(rows) * len(columns)
        assert np.array_equal(made[:, ~covered], image[:, ~covered])
        assert 2 <= len(rows) <= 4
        assert 2 <= len(columns) <= 4
        corners.add((rows[0], columns[0]))
    assert len(corners) > N // 2
    np.testing.assert_array_equal(augment.Cutout(4, rate=0)(X, DRAWS), X)


def test_contrast_and_saturation_blend_with_grey():
    weights = np.array([0.2989, 0.587, 0.114]).reshape(1, 3, 1, 1)
    x, by = X.astype("float64"), np.linspace(0, 1.9, N)
    grey, f = (x * weights).sum(axis=1, keepdims=True), by.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(saturated(x, by), np.clip(f * x + (1 - f) * grey, 0, 1), atol=1e-12)
    mean = grey.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(contrasted(x, by), np.clip(f * x + (1 - f) * mean, 0, 1), atol=1e-12)
    bright = augment.ColorJitter(brightness=0.4)(x, DRAWS)
    factors = np.median(bright / x, axis=(1, 2, 3))
    np.testing.assert_allclose(bright, np.clip(x * factors.reshape(-1, 1, 1, 1), 0, 1), atol=1e-12)
    assert 0.6 <= factors.min() < 0.9
    assert 1.1 < factors.max() <= 1.4


def test_hues_turn_as_pythons_colorsys_says():
    x = np.concatenate(
        [X.astype("float64"), np.full((1, 3, 9, 7), 0.4), np.eye(3).reshape(1, 3, 3, 1).repeat(3, 2).repeat(7, 3)]
    )
    by = np.linspace(-0.5, 0.5, len(x))
    y = turned(x, by)
    for image, made, turn in zip(x, y, by, strict=True):
        for cell, got in zip(image.reshape(3, -1).T, made.reshape(3, -1).T, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*cell)
            np.testing.assert_allclose(got, colorsys.hsv_to_rgb((hue + turn) % 1.0, saturation, value), atol=1e-9)


# Mixtures


def picture(seed=0):
    """A picture of all tones, more of them dark, with a flat part, and the same as cells of 0..1."""
    cells = (np.random.default_rng(seed).beta(2, 5, (41, 31, 3)) * 255).astype(np.uint8)
    cells[:5] = 9
    return Image.fromarray(cells), (cells.transpose(2, 0, 1)[None] / 255).astype("float32")


@pytest.mark.parametrize(
    ("ours", "pillow_s", "steps"),
    [
        (tones.equalized, ImageOps.equalize, 0.01),
        (tones.stretched, ImageOps.autocontrast, 1),
        (lambda x: tones.solarized(x, np.array([100 / 255])), lambda image: ImageOps.solarize(image, 100), 0.01),
        (lambda x: tones.posterized(x, np.array([3.0])), lambda image: ImageOps.posterize(image, 3), 0.01),
        (lambda x: tones.sharpened(x, np.array([1.8])), lambda image: ImageEnhance.Sharpness(image).enhance(1.8), 1.5),
        (lambda x: tones.sharpened(x, np.array([0.1])), lambda image: ImageEnhance.Sharpness(image).enhance(0.1), 1.5),
    ],
    ids=["equalize", "autocontrast", "solarize", "posterize", "sharpen", "smooth"],
)
def test_tones_are_changed_as_by_pillow(ours, pillow_s, steps):
    """Which rounds to bytes on its way, once or twice."""
    for seed in range(3):
        image, x = picture(seed)
        expected = np.asarray(pillow_s(image)).transpose(2, 0, 1)[None]
        np.testing.assert_allclose(ours(x) * 255, expected, atol=steps)


def test_numpys_count_of_tones_is_that_of_sorting():
    strict = pytest.importorskip("array_api_strict")
    for levels in (np.arange(0, 256, 5), np.array([7, 7, 7]), np.array([255, 0]), np.array([0])):
        levels = levels.astype(np.uint8)
        expected = tones.counted(strict.asarray(levels))
        for ours, by_sorting in zip(tones.counted(levels), expected, strict=True):
            assert ours.tolist() == np.asarray(by_sorting).tolist()
        assert tones.counted(levels)[0].tolist() == [int((levels < n).sum()) for n in range(256)]


@pytest.mark.parametrize("cells", [1, 2, 7, 63, 64, 1000])
def test_means_are_exact_to_the_last_digits_and_the_same_everywhere(backend, cells):
    x = np.random.default_rng(cells).random((2, 3, 1, cells), dtype="float32")
    found = means(x)
    assert found.shape == (2, 3, 1, 1)
    np.testing.assert_allclose(found, x.astype("float64").mean(axis=(2, 3), keepdims=True), rtol=3e-7)
    np.testing.assert_array_equal(backend.to_numpy(means(backend.asarray(x))), found)


def test_halves_are_summed_in_single_precision():
    x = np.full((1, 1, 300, 300), 0.9, "float16")
    assert means(x).dtype == np.float16
    np.testing.assert_array_equal(means(x), x[:, :, :1, :1])


def test_what_lies_on_rows_is_not_blended_across_them():
    """A shear's places do, so that what is no number stays in its row."""
    image = X[0].copy()
    image[:, 4, 3] = np.nan
    sheared = mapped(image, np.array([[1, 0.3], [0, 1]]), np.zeros(2), 0.0)
    assert sorted({*np.nonzero(np.isnan(sheared))[1]}) == [4]
    both = np.array([[[1, 0.3], [0, 1]], [[0.9, 0.3], [0.1, 1]]])  # beside one that is blended
    beside = transformed(np.stack([image, X[1]]), both, np.zeros((2, 2)), 0.0)
    assert beside[0].tobytes() == sheared.tobytes()
    assert beside[1].tobytes() == mapped(X[1], both[1], np.zeros(2), 0.0).tobytes()


def test_scales_beyond_all_numbers_are_told():
    with pytest.raises(OptionError, match="no number"), np.errstate(all="ignore"):
        mapped(X[0], np.full((2, 2), np.inf) * np.eye(2), np.zeros(2), 0.0)


def test_images_of_one_tone_and_none_at_all_stay():
    flat = np.full((2, 3, 6, 6), 0.4, "float32")
    for change in (tones.equalized, tones.stretched):
        np.testing.assert_allclose(change(flat), flat, atol=1e-6)
        assert change(flat[:0]).shape == (0, 3, 6, 6)


def test_each_operation_of_randaugment_is_drawn_and_its_magnitude_is_the_papers():
    _, x = picture()
    many = np.repeat(x, 200, axis=0)
    draws = augment.Draws((4,), np.arange(200))
    y = augment.RandAugment(1, 30)(many, draws)
    u = draws.uniform(3)
    which, sign = np.floor(u[:, 0] * 14).astype(int), np.where(u[:, 1] < 0.5, 1, -1)
    assert {*which} == {*range(14)}
    names = list(OPERATIONS)

    def of(name, direction=1):
        return y[(which == names.index(name)) & (sign == direction)][0]

    np.testing.assert_array_equal(of("identity"), x[0])
    np.testing.assert_allclose(of("brightness"), np.clip(1.9 * x[0], 0, 1), atol=1e-6)
    np.testing.assert_allclose(of("brightness", -1), 0.1 * x[0], atol=1e-6)
    np.testing.assert_allclose(of("solarize"), 1 - x[0], atol=1e-6)
    np.testing.assert_allclose(of("translate x")[:, :, 14:], x[0, :, :, :-14], atol=1e-6)  # 45 % of 31 columns
    np.testing.assert_allclose(of("translate y", -1)[:, :-19], x[0, :, 19:], atol=1e-6)  # and of 41 rows
    np.testing.assert_allclose(of("shear x")[:, 20 + 10, 3:], x[0, :, 20 + 10, :-3], atol=1e-6)  # 10 from the middle
    np.testing.assert_allclose(of("shear y", -1)[:, :-3, 15 + 10], x[0, :, 3:, 15 + 10], atol=1e-6)
    angle = np.radians(30)
    turned_once = mapped(
        x[0], np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]), np.zeros(2), 0
    )
    np.testing.assert_allclose(of("rotate"), turned_once, atol=1e-6)
    np.testing.assert_array_equal(augment.RandAugment(2, 30, rate=0)(many, draws), many)


def test_a_preview_shows_each_image_and_what_it_becomes():
    _, x = picture()
    sheet = augment.preview(augment.Flip(horizontal=1), x, epochs=2, scale=3)
    assert sheet.size == ((3 * 31 + 2 * 2) * 3, 41 * 3)
    cells = np.asarray(sheet)[::3, ::3].transpose(2, 0, 1) / 255
    for left, image in ((0, x[0]), (33, x[0, :, :, ::-1]), (66, x[0, :, :, ::-1])):
        np.testing.assert_allclose(cells[:, :, left : left + 31], image, atol=1e-6)
    np.testing.assert_array_equal(cells[:, :, 31:33], 1)
    mixed = augment.preview([augment.Mixup()], np.repeat(x[:, :1], 3, axis=0))
    assert mixed.mode == "L"
    with pytest.raises(ShapeError, match=r"got x \(1, 2, 41, 31\), expected \(samples, 1 or 3 channels"):
        augment.preview(augment.Flip(), x[:, :2])


def test_mixup_blends_each_sample_and_its_target_with_the_next():
    labels, classes = np.arange(N) % 4, 4
    x, t = augment.augmented((augment.Mixup(1.0),), X, labels, DRAWS.samples, (3, 1), (classes,))
    for n in range(N):
        other = (n + 1) % N
        kept = 1 - t[n, labels[other]] if labels[other] != labels[n] else 1.0
        assert t[n, labels[n]] == pytest.approx(kept)
        np.testing.assert_allclose(x[n], kept * X[n] + (1 - kept) * X[other], atol=1e-6)
    np.testing.assert_allclose(t.sum(axis=1), 1, atol=1e-6)
    assert len(np.unique(t.max(axis=1))) > N // 2


def test_cutmix_mixes_targets_by_the_areas_that_are_seen():
    labels = np.arange(N)
    x, t = augment.augmented((augment.CutMix(),), X, labels, DRAWS.samples, (3, 1), (N,))
    some = 0
    for n in range(N):
        own, others = (x[n] == X[n]).all(axis=0), (x[n] == X[(n + 1) % N]).all(axis=0)
        assert (own ^ others).all()
        assert t[n, n] == pytest.approx(own.mean(), abs=1e-6)
        assert t[n, (n + 1) % N] == pytest.approx(others.mean(), abs=1e-6)
        some += 0 < others.mean() < 1
    assert some > N // 2


def test_targets_of_one_output_and_soft_targets_are_mixed_too():
    _, t = augment.augmented((augment.Mixup(1.0),), X, np.arange(N) % 2, DRAWS.samples, (0, 0), (1,))
    assert t.shape == (N, 1)
    assert ((t > 0) & (t < 1)).any()
    shares = np.full((N, 5), 0.2, "float32")
    _, t = augment.augmented((augment.CutMix(),), X, shares, DRAWS.samples, (0, 0), (5,))
    np.testing.assert_allclose(t, shares, atol=1e-6)
    with pytest.raises(LabelError, match=r"\[X201\].*Mixup mixes labels of whole images"):
        augment.augmented((augment.Mixup(),), X, np.zeros((N, 9, 7), "int64"), DRAWS.samples, (0, 0), (4, 9, 7))


# In training


def net():
    return xcnn.Sequential(xcnn.Conv2D(4, 3), xcnn.ReLU(), xcnn.GlobalAveragePool2D(), xcnn.Dense(3))


def made(backend, seed=4):
    return xcnn.Model(net(), (3, 9, 7), loss="cross_entropy", optimizer=xcnn.SGD(0.1), seed=seed, backend=backend)


class Watch:
    """An augmentation that changes nothing, and remembers what it was given; it may stop training."""

    def __init__(self, last=None):
        self.seen, self.last = [], last

    def __call__(self, x, draws):
        if self.last is not None and len(self.seen) == self.last:
            raise KeyboardInterrupt
        self.seen.append((draws.key[:2], draws.samples.copy(), x.copy()))
        return x

    def __repr__(self):
        return "Watch()"


LIST = [*IMAGES, augment.Mixup(0.4), augment.CutMix()]
LABELS = np.arange(N) % 3


def seen_after_each(backend, workers):
    """The bytes of each batch after each augmentation, by the seed, the epoch, the place in the list, the samples."""
    found = {}

    def watch(x, draws):
        found[(*draws.key, *draws.samples.tolist())] = np.asarray(x).tobytes()
        return x

    changes = [each for change in LIST for each in (change, watch)]
    made(backend).fit(X, LABELS, epochs=2, batch_size=5, augment=changes, progress="none", workers=workers)
    return found


@pytest.fixture(scope="module")
def batches():
    found = seen_after_each("numpy", 0)
    assert len(found) == 2 * 3 * len(LIST)
    assert len(set(found.values())) == len(found)
    return found


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_are_the_same_by_any_number_of_workers(batches, workers):
    assert seen_after_each("numpy", workers) == batches


def test_batches_are_the_same_on_every_backend(backend, batches):
    assert seen_after_each(backend, 4) == batches


def test_all_augmentations_are_among_these():
    classes = {getattr(augment, name) for name in augment.__all__ if isinstance(getattr(augment, name), type)}
    assert classes - {augment.Draws} == {type(each) for each in LIST}


def test_a_resumed_epoch_goes_on_with_the_same_batches(tmp_path):
    whole, first, rest = Watch(), Watch(last=4), Watch()
    model = made("numpy")
    model.fit(X, LABELS, epochs=3, batch_size=5, augment=[*LIST, whole], progress="none", workers=0)
    stopped = made("numpy")
    history = stopped.fit(X, LABELS, epochs=3, batch_size=5, augment=[*LIST, first], progress="none", workers=0)
    assert history.stopped == "interrupted"
    stopped.save(tmp_path / "m.xcnn")
    resumed = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    with pytest.raises(xcnn.errors.CheckpointError, match="X405"):
        resumed.fit(X, LABELS, epochs=3, batch_size=5, augment=LIST[:1], progress="none", resume=True)
    resumed.fit(X, LABELS, epochs=3, batch_size=5, augment=[*LIST, rest], progress="none", workers=0, resume=True)
    assert len(whole.seen) == len(first.seen) + len(rest.seen)
    for one, other in zip(whole.seen, first.seen + rest.seen, strict=True):
        np.testing.assert_array_equal(one[2], other[2])
    for name, kernel in resumed.weights["conv1"].items():
        np.testing.assert_array_equal(kernel, model.weights["conv1"][name])


class Stop:
    """A callback that ends training after a step."""

    def __init__(self, last):
        self.last = last

    def __call__(self, model, history):
        return False

    def step(self, model, row):
        return row["step"] == self.last


@pytest.mark.parametrize("workers", [1, 4])
def test_an_epoch_that_workers_fed_goes_on_to_the_same_bits(tmp_path, workers):
    how = {"epochs": 2, "batch_size": 5, "augment": LIST, "progress": "none"}
    whole, stopped = made("numpy"), made("numpy")
    whole.fit(X, LABELS, workers=0, **how)
    stopped.fit(X, LABELS, workers=workers, callbacks=Stop(4), **how)
    assert (stopped.state.epoch, stopped.state.batch) == (1, 1)
    stopped.save(tmp_path / "m.xcnn")
    resumed = xcnn.Model.load(tmp_path / "m.xcnn", backend="numpy")
    resumed.fit(X, LABELS, workers=workers, resume=True, **how)
    for (name, weight), (_, other) in zip(tree.items(resumed.weights), tree.items(whole.weights), strict=True):
        np.testing.assert_array_equal(weight, other, err_msg=name)


def test_augmented_training_learns(backend):
    """Three classes by colour, which flips and moves leave as it is."""
    x = rng.random((60, 3, 9, 7), dtype="float32") * 0.5
    y = np.arange(60) % 3
    x[np.arange(60), y] += 0.4
    model = made(backend)
    model.optimizer = xcnn.Adam(0.02)
    model.fit(
        x, y, epochs=30, batch_size=20, augment=[augment.Flip(), augment.Cutout(3), augment.Mixup(0.2)], progress="none"
    )
    assert model.evaluate(x, y)["accuracy"] > 0.9


def test_what_is_no_augmentation_is_told():
    model = made("numpy")
    for wrong, told in (
        (augment.Flip, r"augment takes Flip\(...\), not the class"),
        ("flip", r"augmentations must be functions \(x, draws\); got 'flip'"),
        ([augment.Flip(), 3], r"augmentations must be functions \(x, draws\); got 3"),
    ):
        with pytest.raises(OptionError, match=told):
            model.fit(X, LABELS, augment=wrong, progress="none")
    with pytest.raises(ShapeError, match=r"changed the shape of its batch.*\n.*\(5, 3, 9, 6\)"):
        model.fit(X, LABELS, batch_size=5, augment=lambda x, draws: x[..., 1:], progress="none")
    with pytest.raises(DTypeError, match="made float32 float64"):
        model.fit(X, LABELS, augment=lambda x, draws: x.astype("float64"), progress="none")
    with pytest.raises(ShapeError, match=r"\[X101\] Flip changes images"):
        augment.Flip()(X[0], DRAWS)
    with pytest.raises(ShapeError, match="can't mirror images of 9 x 7 cells 7 cells far"):
        augment.Translate(7, "reflect")(X, DRAWS)
    for wrong in (
        lambda: augment.Flip(1.2), lambda: augment.Flip(True), lambda: augment.Translate(0),
        lambda: augment.Cutout(2, -0.1),
        lambda: augment.Affine(scale=(1.2, 1.1)), lambda: augment.Affine(shear=90), lambda: augment.Rotate(0),
        lambda: augment.RandomResizedCrop((0.5, 1.1)), lambda: augment.RandomResizedCrop(ratio=(0, 1)),
        lambda: augment.ColorJitter(hue=0.6), lambda: augment.ColorJitter(-1), lambda: augment.Mixup(0),
        lambda: augment.Translate(2, "wrap"),
    ):  # fmt: skip
        with pytest.raises(OptionError, match="X104"):
            wrong()
