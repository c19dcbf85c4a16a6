"""Kernels, maps, gradients and class-activation maps as pictures; training as a film."""

import numpy as np
import pytest

import xcnn
from xcnn.model.pictures import class_activation, kernels_of, planes
from xcnn.model.trace import score, trace

pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
NET = xcnn.Sequential(
    xcnn.Conv2D(4, 3, padding="same"), xcnn.ReLU(), xcnn.GlobalAveragePool2D(), head=xcnn.Dense(3, bias=False)
)


@pytest.fixture
def model():
    return xcnn.Model(NET, (3, 6, 6), backend="numpy", dtype="float64", seed=1)


@pytest.fixture
def x(rng):
    return rng.random((2, 3, 6, 6))


def shown(figure):
    """The arrays of a figure's pictures, and what is written over them."""
    arrays = [np.asarray(image.get_array()) for axes in figure.axes for image in axes.images]
    titles = [
        t for axes in figure.axes for t in (axes.get_title(), *(each.get_text() for each in axes.texts)) if t.strip()
    ]
    assert figure._repr_png_().startswith(b"\x89PNG")
    return arrays, titles


def test_kernels_are_those_of_the_weights(model):
    arrays, titles = shown(model.show_kernels())
    kernel = model.weights["conv1"]["kernel"]
    np.testing.assert_array_equal(np.stack(arrays), kernel.reshape(-1, 3, 3)[:16])
    assert titles == ["conv1  4x3x3x3"]
    with pytest.raises(xcnn.errors.OptionError, match="conv9"):
        model.show_kernels("conv9")
    dense = xcnn.Model(xcnn.Dense(2), (3,), loss="mse", backend="numpy")
    with pytest.raises(xcnn.errors.OptionError, match="no layer whose kernels"):
        dense.show_kernels()


def test_maps_and_gradients_are_those_of_the_trace(model, x):
    traced = model.trace(x, np.array([2, 0]))
    arrays, titles = shown(model.show_maps(x))
    np.testing.assert_allclose(np.stack(arrays), np.concatenate([x[0], traced["conv1"].y[0], traced["relu1"].y[0]]))
    assert titles == ["input", "conv1  Conv2D", "relu1  ReLU"]
    arrays, titles = shown(model.show_gradients(x, np.array([2, 0]), "conv1"))
    expected = [*x[0], abs(traced.dx[0]).max(axis=0), *traced["conv1"].dy[0]]
    expected += [*planes(traced["conv1"].grads["kernel"])]
    assert len(arrays) == len(expected)
    for mine, its in zip(arrays, expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-12)


@pytest.mark.parametrize("label", [1, 2])
def test_a_class_activation_is_the_sum_of_maps_by_the_classes_weights(model, x, label):
    """Of a net that ends in an average and a dense layer Grad-CAM is the map of Zhou et al. 2016."""
    traced = trace(model, x[:1], np.array([label]), loss=score)
    assert traced.loss == pytest.approx(model.predict(x[:1])[0, label], rel=1e-12)
    heat = class_activation(traced["relu1"].y[0], traced["relu1"].dy[0], (6, 6))
    plain = np.maximum(np.tensordot(model.weights["head"]["kernel"][:, label], traced["relu1"].y[0], 1), 0)
    np.testing.assert_allclose(heat, plain / (plain.max() or 1), atol=1e-6)
    arrays, titles = shown(model.show_class_activation(x, np.array([label, 0])))
    np.testing.assert_allclose(arrays[-1], heat, atol=1e-6)
    assert titles == ["input", f"relu1 for {label}"]


def test_a_class_activation_without_a_label_is_of_the_class_that_is_said(model, x):
    _, titles = shown(model.show_class_activation(x))
    assert titles[1] == f"relu1 for {model.predict(x)[0].argmax()}"


def test_a_class_that_no_place_speaks_for_is_told(model, x):
    """Where the sum of maps is nowhere above 0 there is no map to lay over the picture."""
    with model.edit("head/kernel") as kernel:
        kernel[:] = -1
    arrays, titles = shown(model.show_class_activation(x, np.array([2, 0])))
    assert titles == ["input", "relu1 for 2: no place speaks for it"]
    assert len(arrays) == 2


def test_a_long_name_widens_no_column(model, x):
    figure = model.show_gradients(x, np.array([2, 0]))
    figure._repr_png_()
    lefts = {round(axes.get_position().x0, 3) for axes in figure.axes}
    steps = np.diff(sorted(lefts))
    assert len(lefts) == 12
    assert steps.max() < 1.05 * steps.min()


def test_a_film_has_a_frame_of_each_epoch(model, x, tmp_path):
    from PIL import Image

    film = xcnn.KernelFilm(tmp_path / "film.gif", milliseconds=100)
    model.fit(x, np.array([0, 1]), epochs=3, callbacks=film, progress="none")
    with Image.open(tmp_path / "film.gif") as made:
        assert made.n_frames == 4
        assert made.info["duration"] == 100
        made.seek(3)
        last = np.asarray(made.convert("RGB"), "int16")
    ((_, kernel),) = kernels_of(model.weights)
    size = 48 // 3
    corner = last[16 + size // 2, size // 2] - 246
    assert (corner[2] > corner[0]) == (kernel[0, 0, 0, 0] < 0)  # blue below 0
    for wrong in (lambda: xcnn.KernelFilm("film.mp4"), lambda: xcnn.KernelFilm(tmp_path / "a.gif", milliseconds=0)):
        with pytest.raises(xcnn.errors.OptionError):
            wrong()
