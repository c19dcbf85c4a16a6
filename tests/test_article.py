"""The article's classes against the batched layers, plain Python, central differences and PyTorch."""

import numpy as np
import pytest
from whole import whole

import xcnn
from xcnn import article, backends
from xcnn import data as datasets
from xcnn.errors import DataError, DivergedError, DTypeError, OptionError, ShapeError
from xcnn.training import losses

SHAPES = [((1, 3, 3), 2, 1), ((2, 6, 5), 3, 4), ((3, 4, 4), 4, 2), ((1, 5, 4), 1, 3)]
"""Input shape, kernel size and depth of convolutional layers."""


@pytest.fixture(autouse=True)
def chosen(backend, monkeypatch):
    """The backend under test is the process's."""
    monkeypatch.setattr(backends.selector, "_default", backend)


@pytest.fixture
def call(backend):
    """Y and dE/dX of a layer for NumPy arrays X and dE/dY."""

    def call(layer, x, dy, learning_rate=1.0):
        y = layer.forward(backend.asarray(x))
        dx = layer.backward(backend.asarray(dy), learning_rate)
        return backend.to_numpy(y), backend.to_numpy(dx)

    return call


@pytest.fixture
def moved(backend, call):
    """Y, dE/dX, and for each named weight of the layer its value before and its gradient, from a step of 1."""

    def moved(layer, x, dy, *names):
        before = {name: backend.to_numpy(getattr(layer, name)) for name in names}
        y, dx = call(layer, x, dy)
        return y, dx, {name: (w, w - backend.to_numpy(getattr(layer, name))) for name, w in before.items()}

    return moved


def batched(layer, weights, x, dy, backend):
    """Y, dx and gradients of a batched layer for one sample."""
    weights = {name: backend.asarray(w) for name, w in weights.items()}
    y, backward = whole(layer, backend)(weights, backend.asarray(x[None]), xcnn.Run(backend))
    dx, grads = backward(backend.asarray(dy[None]))
    return backend.to_numpy(y)[0], backend.to_numpy(dx)[0], {name: backend.to_numpy(g) for name, g in grads.items()}


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("input_shape", "kernel_size", "depth"), SHAPES)
def test_convolutional_is_the_batched_layer(input_shape, kernel_size, depth, backend, rng, moved):
    layer = article.Convolutional(input_shape, kernel_size, depth, rng=rng)
    x, dy = rng.standard_normal(input_shape), rng.standard_normal(layer.output_shape)
    y, dx, weights = moved(layer, x, dy, "kernels", "biases")
    (kernels, kernels_gradient), (biases, biases_gradient) = weights.values()

    conv = xcnn.Conv2D(depth, kernel_size, bias="untied")
    expected = batched(conv, {"kernel": kernels, "bias": biases}, x, dy, backend)
    close(y, expected[0])
    close(dx, expected[1])
    close(kernels_gradient, expected[2]["kernel"])
    close(biases_gradient, expected[2]["bias"])
    assert conv.init(rng, input_shape)[1] == layer.output_shape
    assert kernels.shape == layer.kernels_shape == (depth, input_shape[0], kernel_size, kernel_size)


@pytest.mark.parametrize(("input_shape", "kernel_size", "depth"), SHAPES)
def test_convolutional_is_its_formula_in_plain_python(input_shape, kernel_size, depth, rng, moved):
    layer = article.Convolutional(input_shape, kernel_size, depth, rng=rng)
    x, dy = rng.standard_normal(input_shape), rng.standard_normal(layer.output_shape)
    y, dx, weights = moved(layer, x, dy, "kernels", "biases")
    kernels, kernels_gradient = weights["kernels"]

    expected_y, expected_dx, expected_dk = weights["biases"][0].copy(), np.zeros_like(x), np.zeros_like(kernels)
    for i, p, q in np.ndindex(*layer.output_shape):
        for j, a, b in np.ndindex(*kernels.shape[1:]):
            expected_y[i, p, q] += x[j, p + a, q + b] * kernels[i, j, a, b]
            expected_dk[i, j, a, b] += dy[i, p, q] * x[j, p + a, q + b]
            expected_dx[j, p + a, q + b] += dy[i, p, q] * kernels[i, j, a, b]
    close(y, expected_y)
    close(dx, expected_dx)
    close(kernels_gradient, expected_dk)


def test_dense_is_the_batched_layer_transposed(backend, rng, moved):
    layer = article.Dense(4, 3, rng=rng)
    x, dy = rng.standard_normal((4, 1)), rng.standard_normal((3, 1))
    y, dx, weights = moved(layer, x, dy, "weights", "bias")
    (matrix, matrix_gradient), (bias, bias_gradient) = weights.values()

    expected = batched(xcnn.Dense(3), {"kernel": matrix.T, "bias": bias[:, 0]}, x[:, 0], dy[:, 0], backend)
    close(y[:, 0], expected[0])
    close(dx[:, 0], expected[1])
    close(matrix_gradient, expected[2]["kernel"].T)
    close(bias_gradient[:, 0], expected[2]["bias"])


def test_sigmoid_is_the_batched_layer(backend, rng, call):
    x, dy = np.linspace(-100, 100, 41).reshape(1, 41), rng.standard_normal((1, 41))
    y, dx = call(article.Sigmoid(), x, dy)
    expected = batched(xcnn.Sigmoid(), {}, x, dy, backend)
    close(y, expected[0])
    close(dx, expected[1])


def test_sigmoid_and_tanh_are_finite_and_flat_at_the_extremes(call):
    x = np.asarray([[-1e300], [-1000.0], [1000.0], [1e300]])
    for layer, low in ((article.Sigmoid(), 0.0), (article.Tanh(), -1.0)):
        y, dx = call(layer, x, np.ones_like(x))
        np.testing.assert_allclose(y[:, 0], [low, low, 1, 1], atol=1e-30)
        np.testing.assert_allclose(dx, 0, atol=1e-30)


def test_reshape_goes_there_and_back(rng, call):
    x, dy = rng.standard_normal((2, 3, 4)), rng.standard_normal((24, 1))
    y, dx = call(article.Reshape((2, 3, 4), (24, 1)), x, dy)
    np.testing.assert_array_equal(y, x.reshape(24, 1))
    np.testing.assert_array_equal(dx, dy.reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("make", "names", "shapes"),
    [
        (lambda: article.Convolutional((2, 4, 4), 2, 3, rng=7), ("kernels", "biases"), ((2, 4, 4), (3, 3, 3))),
        (lambda: article.Dense(4, 3, rng=7), ("weights", "bias"), ((4, 1), (3, 1))),
    ],
    ids=["Convolutional", "Dense"],
)
def test_the_update_is_the_learning_rate_times_the_gradient(make, names, shapes, backend, rng, call):
    x, dy = (rng.standard_normal(shape) for shape in shapes)
    for name in names:
        steps = []
        for learning_rate in (1.0, 0.25):
            layer = make()
            before = backend.to_numpy(getattr(layer, name))
            call(layer, x, dy, learning_rate)
            steps.append(backend.to_numpy(getattr(layer, name)) - before)
        np.testing.assert_allclose(steps[1], steps[0] / 4, rtol=1e-12, atol=1e-14)
        assert np.abs(steps[0]).min() > 0


def test_forward_and_backward_leave_their_arguments_alone(backend, rng):
    layer = article.Convolutional((2, 4, 4), 2, 3, rng=rng)
    x, dy = backend.asarray(rng.standard_normal((2, 4, 4))), backend.asarray(rng.standard_normal((3, 3, 3)))
    kept = [backend.to_numpy(a).copy() for a in (x, dy, layer.biases)]
    biases = layer.biases
    layer.forward(x)
    layer.backward(dy, 0.1)
    for array, before in zip((x, dy, biases), kept, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(array), before)


def small_network(seed):
    rng = np.random.default_rng(seed)
    return [
        article.Convolutional((2, 5, 5), 2, 3, rng=rng),
        article.Sigmoid(),
        article.Reshape((3, 4, 4), (48, 1)),
        article.Dense(48, 4, rng=rng),
        article.Tanh(),
        article.Dense(4, 2, rng=rng),
        article.Sigmoid(),
    ]


@pytest.mark.parametrize(
    ("loss", "prime"),
    [(article.mse, article.mse_prime), (article.binary_cross_entropy, article.binary_cross_entropy_prime)],
)
def test_gradients_are_central_differences(loss, prime, backend, rng):
    x, target = rng.standard_normal((2, 5, 5)), np.asarray([[1.0], [0.0]])
    names = [(0, "kernels"), (0, "biases"), (3, "weights"), (3, "bias"), (5, "weights"), (5, "bias")]

    def error(n=None, name=None, by=0.0):
        network = small_network(3)
        if name is not None:
            setattr(network[n], name, backend.asarray(backend.to_numpy(getattr(network[n], name)) + by))
        return float(loss(backend.asarray(target), article.predict(network, x)))

    network, fresh = small_network(3), small_network(3)
    gradient = prime(backend.asarray(target), article.predict(network, x))
    for layer in reversed(network):
        gradient = layer.backward(gradient, 1.0)

    for n, name in names:
        analytic = backend.to_numpy(getattr(fresh[n], name)) - backend.to_numpy(getattr(network[n], name))
        v = rng.standard_normal(analytic.shape)
        numeric = (error(n, name, 1e-5 * v) - error(n, name, -1e-5 * v)) / 2e-5
        assert numeric == pytest.approx(float(np.sum(analytic * v)), rel=1e-6, abs=1e-9), f"{name} of network[{n}]"

    v = rng.standard_normal(x.shape)
    ends = [float(loss(backend.asarray(target), article.predict(small_network(3), x + by * v))) for by in (1e-5, -1e-5)]
    numeric = (ends[0] - ends[1]) / 2e-5
    assert numeric == pytest.approx(float(np.sum(backend.to_numpy(gradient) * v)), rel=1e-6, abs=1e-9)


def test_two_dense_layers_solve_xor(backend, capsys):
    rng = np.random.default_rng(3)
    x, y = np.reshape([[0, 0], [0, 1], [1, 0], [1, 1]], (4, 2, 1)), np.reshape([0, 1, 1, 0], (4, 1, 1))
    network = [article.Dense(2, 3, rng=rng), article.Tanh(), article.Dense(3, 1, rng=rng), article.Tanh()]
    errors = article.train(network, article.mse, article.mse_prime, x, y, 80, 0.1, verbose=False)
    outputs = [float(backend.to_numpy(article.predict(network, sample))[0, 0]) for sample in x]
    assert [round(output) for output in outputs] == [0, 1, 1, 0]
    assert errors[-1] < 0.01 < errors[0]
    assert len(errors) == 80
    assert capsys.readouterr().out == ""


def small_digits(x, y, n):
    """The first n zeros and ones, shrunk to 7x7, and their labels as one-hot columns."""
    return x[:n].reshape(n, 1, 7, 4, 7, 4).mean(axis=(3, 5)), np.eye(2)[y[:n]][:, :, None]


def test_a_convolutional_network_learns_digits(backend, rng):
    train, test = datasets.mnist01()
    (x, y), (xt, yt) = small_digits(*train, 20), small_digits(*test, 40)
    network = [
        article.Convolutional((1, 7, 7), 3, 2, rng=rng),
        article.Sigmoid(),
        article.Reshape((2, 5, 5), (50, 1)),
        article.Dense(50, 2, rng=rng),
        article.Sigmoid(),
    ]

    def accuracy():
        outputs = [backend.to_numpy(article.predict(network, sample)) for sample in xt]
        return np.mean([np.argmax(output) == np.argmax(t) for output, t in zip(outputs, yt, strict=True)])

    before = accuracy()
    loss, prime = article.binary_cross_entropy, article.binary_cross_entropy_prime
    errors = article.train(network, loss, prime, x, y, epochs=3, learning_rate=0.6, verbose=False)
    assert before < 0.6
    assert accuracy() >= 0.97
    assert errors[-1] < errors[0] / 3


def test_train_is_gradient_descent_a_sample_at_a_time(backend, rng):
    x, y = rng.standard_normal((2, 3, 1)), rng.standard_normal((2, 2, 1))
    layer = article.Dense(3, 2, rng=1)
    w, b = backend.to_numpy(layer.weights), backend.to_numpy(layer.bias)
    errors = article.train([layer], article.mse, article.mse_prime, x, y, 3, 0.1, verbose=False)
    for epoch in range(3):
        error = 0
        for sample, target in zip(x, y, strict=True):
            difference = w @ sample + b - target
            error += np.mean(difference**2)
            w, b = w - 0.1 * difference @ sample.T, b - 0.1 * difference  # 2 / n is 1
        assert errors[epoch] == pytest.approx(error / 2, rel=1e-12)
    close(backend.to_numpy(layer.weights), w)
    close(backend.to_numpy(layer.bias), b)


def test_train_prints_each_epoch(capsys, rng):
    layer = article.Dense(1, 1, rng=rng)
    errors = article.train([layer], article.mse, article.mse_prime, [[[1.0]]], [[[2.0]]], epochs=2)
    assert capsys.readouterr().out == f"1/2, error={errors[0]}\n2/2, error={errors[1]}\n"


def test_one_seed_draws_the_same_weights(backend):
    one, two, other = (backend.to_numpy(article.Dense(3, 2, rng=seed).weights) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    rng = np.random.default_rng(5)
    first, second = (backend.to_numpy(article.Dense(3, 2, rng=rng).weights) for _ in range(2))
    np.testing.assert_array_equal(first, one)
    assert not np.array_equal(first, second)


def test_weights_are_standard_normal(backend):
    layer = article.Convolutional((10, 12, 12), 10, 20, rng=0)
    for drawn in (layer.kernels, article.Dense(100, 100, rng=1).weights):
        values = backend.to_numpy(drawn)
        assert abs(values.mean()) < 4 / np.sqrt(values.size)
        assert values.std() == pytest.approx(1, abs=4 / np.sqrt(2 * values.size))


# Losses.


def test_binary_cross_entropy_in_closed_form(backend):
    y_true, y_pred = backend.asarray([[1.0], [0.0]]), backend.asarray([[0.5], [0.75]])
    assert float(article.binary_cross_entropy(y_true, y_pred)) == pytest.approx((np.log(2) + np.log(4)) / 2)
    close(backend.to_numpy(article.binary_cross_entropy_prime(y_true, y_pred)), [[-1], [2]])


def test_mse_in_closed_form(backend):
    y_true, y_pred = backend.asarray([[1.0], [0.0]]), backend.asarray([[4.0], [-1.0]])
    assert float(article.mse(y_true, y_pred)) == 5
    close(backend.to_numpy(article.mse_prime(y_true, y_pred)), [[3], [-1]])


@pytest.mark.parametrize("name", ["mse", "binary_cross_entropy"])
def test_losses_are_those_of_the_batched_nets(name, backend, rng):
    y_pred = backend.asarray(np.concatenate([rng.random((6, 1)), [[0.0], [1.0], [0.0], [1.0]]]))
    y_true = backend.asarray(np.reshape([1.0, 0, 1, 0, 0.3, 1, 0, 1, 1, 0], (10, 1)))
    value, gradient = losses.LOSSES[name](y_pred, y_true)
    ours, prime = getattr(article, name)(y_true, y_pred), getattr(article, name + "_prime")(y_true, y_pred)
    assert float(ours) == pytest.approx(float(value), rel=1e-14)
    np.testing.assert_allclose(backend.to_numpy(prime), backend.to_numpy(gradient), rtol=1e-14)
    assert np.isfinite(backend.to_numpy(prime)).all()
    assert np.isfinite(float(ours))


# PyTorch.


def test_the_network_is_that_of_torch(backend, rng):
    """Every class at once: forward, both losses, and the gradient of each weight and of the input."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, target = rng.standard_normal((2, 5, 5)), np.asarray([[1.0], [0.0]])
    for name, loss in (("mse", functional.mse_loss), ("binary_cross_entropy", functional.binary_cross_entropy)):
        network = small_network(4)

        def leaf(array):
            return torch.tensor(np.array(backend.to_numpy(array)), requires_grad=True)

        conv, first, last = network[0], network[3], network[5]
        arrays = [conv.kernels, conv.biases, first.weights, first.bias, last.weights, last.bias]
        kernels, biases, w1, b1, w2, b2 = leaves = [leaf(array) for array in arrays]
        image = torch.tensor(x, requires_grad=True)
        hidden = torch.sigmoid(functional.conv2d(image[None], kernels)[0] + biases).reshape(48, 1)
        output = torch.sigmoid(w2 @ torch.tanh(w1 @ hidden + b1) + b2)
        value = loss(output, torch.tensor(target))
        value.backward()

        y_pred, y_true = article.predict(network, x), backend.asarray(target)
        close(backend.to_numpy(y_pred), output.detach().numpy())
        assert float(getattr(article, name)(y_true, y_pred)) == pytest.approx(value.item(), rel=1e-12)
        gradient = getattr(article, name + "_prime")(y_true, y_pred)
        for layer in reversed(network):
            gradient = layer.backward(gradient, 1.0)
        close(backend.to_numpy(gradient), image.grad.numpy())
        after = [conv.kernels, conv.biases, first.weights, first.bias, last.weights, last.bias]
        for before, new in zip(leaves, after, strict=True):
            close(backend.to_numpy(new), (before - before.grad).detach().numpy())


# Mistakes.


def test_shapes_that_do_not_fit_are_told(backend):
    conv, dense = article.Convolutional((1, 6, 6), 3, 2), article.Dense(2, 1)
    batch = backend.asarray(np.ones((4, 1, 6, 6)))
    with pytest.raises(ShapeError, match=r"X101.*Convolutional expects \(1, 6, 6\)(.|\n)*one sample at a time"):
        conv.forward(batch)
    with pytest.raises(ShapeError, match=r"X101.*Dense expects \(2, 1\) but got \(2,\)(.|\n)*Reshape\(\(2,\), \(2, 1"):
        dense.forward(backend.asarray([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"Dense 'network\[1\]' expects \(2, 1\) but got \(3, 1\)"):
        article.predict([article.Dense(2, 3), dense], [[1.0], [2.0]])
    with pytest.raises(ShapeError, match=r"X102.*Convolutional has a 5x5 kernel but its input is only 4x6"):
        article.Convolutional((1, 4, 6), 5, 1)
    with pytest.raises(ShapeError, match=r"X101.*Convolutional expects \(channels, height, width\)"):
        article.Convolutional((28, 28), 3, 1)
    with pytest.raises(ShapeError, match=r"X101.*Reshape can't make \(5, 1\) of \(2, 3\)"):
        article.Reshape((2, 3), (5, 1))
    conv.forward(batch[0, ...])
    with pytest.raises(ShapeError, match=r"X101.*Convolutional got a gradient"):
        conv.backward(backend.asarray(np.ones((2, 3, 3))), 0.1)
    with pytest.raises(ShapeError, match=r"X202 *\] mse compares(.|\n)*\(2, 1\) and y_pred \(2,\)"):
        article.mse(backend.asarray([[1.0], [2.0]]), backend.asarray([1.0, 2.0]))


def test_options_and_types_that_do_not_fit_are_told(backend):
    with pytest.raises(OptionError, match=r"X104.*depth"):
        article.Convolutional((1, 6, 6), 3, 0)
    with pytest.raises(OptionError, match=r"X104.*input_size"):
        article.Dense(2.5, 1)
    with pytest.raises(DTypeError, match=r"X103.*Dense has a weight of .*float64 but x is .*float32"):
        article.Dense(1, 1).forward(backend.asarray([[1]], "float32"))
    layer = article.Dense(1, 1)
    layer.weights = [[1, 2]]
    told = r"X101.*Dense was given weights that do not fit.*\n.*weights \(1, 2\), expected \(1, 1\)"
    with pytest.raises(ShapeError, match=told):
        layer.forward([[1]])


def test_kernels_are_typed_and_their_gradients_are_kept(monkeypatch):
    """Those of README's example, counted by hand there; and the step from the kernel as it was."""
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("numpy"))
    layer = article.Convolutional((1, 3, 3), kernel_size=2, depth=1)
    assert repr(layer) == "Convolutional((1, 3, 3), kernel_size=2, depth=1)"
    layer.kernels, layer.biases = [[[[1, 2], [-1, 0]]]], np.zeros((1, 2, 2), "int64")
    image = np.array([[[1, 6, 2], [5, 3, 1], [7, 0, 4]]])
    assert layer.forward(image).tolist() == [[[8, 7], [4, 5]]]
    assert layer.backward([[[1, 1], [1, 1]]], 0.5).tolist() == [[[1, 3, 2], [0, 2, 2], [-1, -1, 0]]]
    assert layer.kernels_gradient.tolist() == [[[[15, 12], [15, 8]]]]
    assert layer.biases_gradient.tolist() == [[[1, 1], [1, 1]]]
    assert layer.kernels.tolist() == [[[[1 - 7.5, 2 - 6], [-1 - 7.5, -4]]]]
    layer.kernels[0, 0, 1, 1] = 10
    assert layer.forward(image)[0, 0, 0] == (1 - 7.5) * 1 - 4 * 6 - 8.5 * 5 + 10 * 3 - 0.5
    dense = article.Dense(2, 1)
    dense.weights, dense.bias = [[3, 4]], [[0]]
    assert dense.forward(np.array([[1], [2]])).tolist() == [[11]]
    dense.backward([[2]], 1)
    assert (dense.weights_gradient.tolist(), dense.bias_gradient.tolist()) == ([[2, 4]], [[2]])
    shown = [dense, article.Reshape((2, 2), (4, 1)), article.Sigmoid(), article.Tanh()]
    assert repr(shown) == "[Dense(2, 1), Reshape((2, 2), (4, 1)), Sigmoid(), Tanh()]"


@pytest.mark.parametrize(("n", "m"), [(0, 0), (2, 1), (0, 1)])
def test_data_that_does_not_fit_is_told(n, m):
    x, y = np.ones((n, 1, 1)), np.ones((m, 1, 1))
    with pytest.raises(DataError, match=f"X203.*got {n} and {m}"):
        article.train([article.Dense(1, 1)], article.mse, article.mse_prime, x, y)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_divergence_is_told():
    network, x = [article.Dense(1, 1, rng=0)], np.asarray([[[1e3]]])
    with pytest.raises(DivergedError, match=r"X501.*at epoch \d+(.|\n)*try learning_rate=1\."):
        article.train(network, article.mse, article.mse_prime, x, x, epochs=500, learning_rate=10.0, verbose=False)


# What is no array, or comes too early.


@pytest.mark.parametrize("given", [[[1], [2], [3]], ((1,), (2,), (3,)), [[1.0], [True], [3]]], ids=str)
def test_lists_are_their_numbers_in_float64(given, monkeypatch):
    """Against the formula, by NumPy in float64."""
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("numpy"))
    layer, x = article.Dense(3, 2, rng=0), np.asarray(given, "float64")
    weights, bias = layer.weights, layer.bias
    np.testing.assert_array_equal(layer.forward(given), weights @ x + bias)
    np.testing.assert_array_equal(layer.backward([[1], [-1]], 1), weights.T @ np.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(layer.weights, weights - np.array([[1.0], [-1.0]]) @ x.T)
    np.testing.assert_array_equal(article.Tanh().forward(given), np.tanh(x))
    np.testing.assert_array_equal(article.Reshape((3, 1), (1, 3)).forward(given), x.T)
    for truth in (given, np.array([[1], [1], [3]])):  # whole numbers are targets too
        prediction = [[1], [2], [5]]
        exact = (np.asarray(prediction, "float64") - np.asarray(truth, "float64")) / 3
        assert article.mse(truth, prediction) == pytest.approx(3 * np.sum(exact**2), rel=1e-15)
        np.testing.assert_allclose(article.mse_prime(truth, prediction), 2 * exact, rtol=1e-15)
    expected = -np.mean(np.log([0.25, 0.5]))
    assert article.binary_cross_entropy([[1], [0]], [[0.25], [0.5]]) == pytest.approx(expected, rel=1e-15)
    images = article.Convolutional((1, 4, 4), 3, 2, rng=0)
    whole = np.arange(16).reshape(1, 4, 4)
    np.testing.assert_array_equal(images.forward(whole.tolist()), images.forward(whole.astype("float64")))


LAYERS = {
    "Dense": (lambda: article.Dense(3, 2), (2, 1)),
    "Convolutional": (lambda: article.Convolutional((1, 4, 4), 3, 2), (2, 2, 2)),
    "Reshape": (lambda: article.Reshape((3, 1), (1, 3)), (1, 3)),
    "Tanh": (article.Tanh, (3, 1)),
    "Sigmoid": (article.Sigmoid, (3, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_backward_before_forward_is_told(name):
    make, shape = LAYERS[name]
    with pytest.raises(OptionError, match=rf"X104.*{name} has no output to go back from.*\n.*forward\(input\) first"):
        make().backward(np.ones(shape), 0.1)


def test_what_can_not_be_is_told(monkeypatch):
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("numpy"))
    column = np.ones((3, 1))
    network = [article.Dense(3, 2)]
    for wrong in (
        lambda: article.Dense("3", 2),
        lambda: article.Dense(3, 2, rng="a"),
        lambda: article.Dense(3, 2, rng=-1),
        lambda: article.Reshape(3, 4),
        lambda: article.Reshape((-1, 2), (2, -1)),
        lambda: article.Convolutional(3, 3, 2),
        lambda: article.Activation(1, 2),
        lambda: article.train(network, "mse", article.mse_prime, [column], [column], verbose=False),
        lambda: article.train(
            network, article.mse, article.mse_prime, [column], [column[:2]], epochs="1", verbose=False
        ),
        lambda: article.train(
            network, article.mse, article.mse_prime, [column], [column[:2]], learning_rate=float("nan"), verbose=False
        ),
        lambda: article.train([3], article.mse, article.mse_prime, [column], [column[:2]], verbose=False),
        lambda: article.predict([article.Dense], column),
    ):
        with pytest.raises(OptionError, match="X104"):
            wrong()
    for wrong in (
        lambda: article.train(network, article.mse, article.mse_prime, 3, 4, verbose=False),
        lambda: article.Dense(3, 2).forward([[1], [2, 3]]),
        lambda: article.predict(network, np.ma.ones((3, 1))),
    ):
        with pytest.raises(DataError, match="X203"):
            wrong()
    for odd in (
        column * 1j,
        column.astype(str),
        [["a"], ["b"], ["c"]],
        column.astype(int).astype("datetime64[s]"),
        None,
    ):
        with pytest.raises(DTypeError, match="X103"):
            article.Dense(3, 2).forward(odd)
        with pytest.raises(DTypeError, match="X103"):
            article.mse(odd, column)
    with pytest.raises(ShapeError, match="X202"):
        article.mse([], [])


@pytest.mark.parametrize("what", [np.ndarray, int, None, object()], ids=["a class", "a type", "None", "an object"])
def test_what_holds_no_numbers_is_told(what, monkeypatch):
    monkeypatch.setattr("xcnn.backends.selector._default", xcnn.backend("numpy"))
    for call in (article.Dense(3, 2).forward, article.Sigmoid().forward, lambda x: article.mse(x, [1.0])):
        with pytest.raises(DTypeError, match=r"X103.*must hold real numbers; it is"):
            call(what)
