"""The article's own classes, as it builds them: one sample at a time, each layer with its weights and its own update.

A layer takes X and gives Y; on the way back it takes dE/dY, moves its weights against their gradient and gives dE/dX.
Nothing is batched and nothing is hidden; `xcnn.layers` computes the same numbers in batches. Arrays are those of the
process's backend (`xcnn.set_backend`), in float64; ⋆ is the cross-correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj, size

from xcnn.backends.planes import convolve2d, correlate2d, host_numbers
from xcnn.backends.registry import backend_of
from xcnn.backends.selector import get_backend
from xcnn.core.arrays import is_floating, namespace, together, zeros
from xcnn.core.checks import (
    IMAGE,
    check_call,
    check_flag,
    check_home,
    check_rank,
    check_rate,
    check_shape,
    check_whole,
)
from xcnn.core.initializers import check_cells_of
from xcnn.core.likeness import check_dy, likeness
from xcnn.core.random import check_seed
from xcnn.core.types import Array, Rng, Shape, Weights
from xcnn.errors import (
    DataError,
    DivergedError,
    OptionError,
    ShapeError,
    host_memory,
    inside,
    short,
)
from xcnn.layers.activations import sigmoid as stable_sigmoid

__all__ = [
    "Activation",
    "Convolutional",
    "Dense",
    "Layer",
    "Reshape",
    "Sigmoid",
    "Tanh",
    "binary_cross_entropy",
    "binary_cross_entropy_prime",
    "mse",
    "mse_prime",
    "predict",
    "train",
]


class Layer:
    """What the article calls a layer. It remembers its last `input` and `output`, and its weights' last gradients.

    Weights may be assigned, also as lists: what a layer computes next follows from them.

    Examples
    --------
    >>> layer = xcnn.article.Tanh()
    >>> layer.forward([[0.0]]).tolist(), layer.backward([[1.0]], learning_rate=0.1).tolist()
    ([[0.0]], [[1.0]])
    """

    input: Array = None
    output: Array = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def forward(self, input: Array) -> Array:
        """Y from X."""
        raise NotImplementedError

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        """dE/dX from dE/dY; each weight W becomes W - learning_rate dE/dW."""
        raise NotImplementedError


class Dense(Layer):
    """Y = W X + B.   dE/dW = dE/dY Xᵀ,  dE/dB = dE/dY,  dE/dX = Wᵀ dE/dY.

    X is a column (input_size, 1), Y a column (output_size, 1). After `backward`, `weights_gradient` is dE/dW and
    `bias_gradient` dE/dB, those of the weights before the step.

    Parameters
    ----------
    input_size, output_size
        rows of X and of Y
    rng
        a seed, or a NumPy generator for several layers to draw from; None draws other weights each time

    Raises
    ------
    OptionError
        X104, for a size that is no whole number of at least 1.
    ShapeError
        X101, for a sample of another shape.

    Examples
    --------
    >>> layer = xcnn.article.Dense(2, 1)
    >>> layer.weights, layer.bias = [[1, 2]], [[3]]
    >>> layer.forward([[4], [5]]).tolist(), layer.backward([[1]], learning_rate=0.1).tolist()
    ([[17.0]], [[1.0], [2.0]])
    >>> layer.weights_gradient.tolist(), layer.bias_gradient.tolist()
    ([[4.0, 5.0]], [[1.0]])
    """

    input: Array
    output: Array
    weights: Array
    """(output_size, input_size)"""
    bias: Array
    """(output_size, 1)"""
    weights_gradient: Array
    bias_gradient: Array
    input_size: int
    output_size: int

    def __init__(self, input_size: int, output_size: int, rng: Rng | int | None = None) -> None:
        input_size, output_size = check_whole("input_size", input_size), check_whole("output_size", output_size)
        self.input_size, self.output_size = input_size, output_size
        self.weights, self.bias = _normal(rng, (output_size, input_size), (output_size, 1))

    def __repr__(self) -> str:
        return f"Dense({self.input_size}, {self.output_size})"

    def forward(self, input: Array) -> Array:
        _hold(self, weights=(self.output_size, self.input_size), bias=(self.output_size, 1))
        self.input = _sample(self, input, (self.input_size, 1), {"weight": self.weights})
        self.output = self.weights @ self.input + self.bias
        return self.output

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        output_gradient, learning_rate = _way_back(self, output_gradient, learning_rate)
        self.weights_gradient = output_gradient @ self.input.T
        self.bias_gradient = output_gradient
        input_gradient = self.weights.T @ output_gradient

        self.weights = self.weights - learning_rate * self.weights_gradient
        self.bias = self.bias - learning_rate * self.bias_gradient
        return input_gradient


class Convolutional(Layer):
    """Yi = Bi + sum over j of Xj ⋆ Kij, valid.

    dE/dKij = Xj ⋆ dE/dYi, valid;  dE/dBi = dE/dYi;  dE/dXj = sum over i of dE/dYi convolved, full, with Kij.

    X is (input_depth, height, width), Y (depth, height - kernel_size + 1, width - kernel_size + 1), and each element of
    Y has its own bias. After `backward`, `kernels_gradient` is dE/dK and `biases_gradient` dE/dB, those of the weights
    before the step.

    Parameters
    ----------
    input_shape
        (input_depth, height, width)
    kernel_size
        height and width of each kernel
    depth
        channels of Y
    rng
        a seed, or a NumPy generator; None draws other weights each time

    Raises
    ------
    OptionError
        X104, for a size that is no whole number of at least 1.
    ShapeError
        X101, for a sample of another shape; X102, where the kernel does not fit.

    Examples
    --------
    >>> layer = xcnn.article.Convolutional((1, 3, 3), kernel_size=2, depth=1)
    >>> layer.kernels, layer.biases = [[[[1, 2], [-1, 0]]]], [[[0, 0], [0, 0]]]
    >>> layer.forward([[[1, 6, 2], [5, 3, 1], [7, 0, 4]]]).tolist()
    [[[8.0, 7.0], [4.0, 5.0]]]
    >>> layer.backward([[[1, 1], [1, 1]]], learning_rate=0.1).tolist()
    [[[1.0, 3.0, 2.0], [0.0, 2.0, 2.0], [-1.0, -1.0, 0.0]]]
    >>> layer.kernels_gradient.tolist()
    [[[[15.0, 12.0], [15.0, 8.0]]]]
    """

    input: Array
    output: Array
    kernels: Array
    """(depth, input_depth, kernel_size, kernel_size)"""
    biases: Array
    """One for each cell of Y."""
    kernels_gradient: Array
    biases_gradient: Array
    input_shape: Shape
    output_shape: Shape
    kernels_shape: Shape
    input_depth: int
    depth: int

    def __init__(self, input_shape: Shape, kernel_size: int, depth: int, rng: Rng | int | None = None) -> None:
        self.input_shape = check_rank(self, check_shape("input_shape", input_shape, least=1), IMAGE)
        self.input_depth, height, width = self.input_shape
        self.depth = depth = check_whole("depth", depth)
        kernel_size = check_whole("kernel_size", kernel_size)
        if kernel_size > min(height, width):
            raise ShapeError(
                "X102",
                f"has a {kernel_size}x{kernel_size} kernel but its input is only {height}x{width}.",
                hint="use a smaller kernel, or fewer layers before it.",
                layer=self,
            )
        self.output_shape = (depth, height - kernel_size + 1, width - kernel_size + 1)
        self.kernels_shape = (depth, self.input_depth, kernel_size, kernel_size)
        self.kernels, self.biases = _normal(rng, self.kernels_shape, self.output_shape)

    def __repr__(self) -> str:
        return f"Convolutional({self.input_shape}, kernel_size={self.kernels_shape[2]}, depth={self.depth})"

    def forward(self, input: Array) -> Array:
        _hold(self, kernels=self.kernels_shape, biases=self.output_shape)
        self.input = _sample(self, input, self.input_shape, {"kernel": self.kernels})
        X, K, Y = _planes(self.input), self.kernels, _planes(self.biases)
        for i in range(self.depth):
            for j in range(self.input_depth):
                Y[i] = Y[i] + correlate2d(X[j], K[i, j, ...], "valid")
        self.output = _stack(Y, self.output_shape)
        return self.output

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        output_gradient, learning_rate = _way_back(self, output_gradient, learning_rate)
        X, K, dY = _planes(self.input), self.kernels, _planes(output_gradient)
        dX, dK = _planes(zeros(self.input, self.input_shape)), {}
        for i in range(self.depth):
            for j in range(self.input_depth):
                dK[i, j] = correlate2d(X[j], dY[i], "valid")
                dX[j] = dX[j] + convolve2d(dY[i], K[i, j, ...], "full")
        self.kernels_gradient = _stack(dK.values(), self.kernels_shape)
        self.biases_gradient = output_gradient
        input_gradient = _stack(dX, self.input_shape)

        self.kernels = self.kernels - learning_rate * self.kernels_gradient
        self.biases = self.biases - learning_rate * self.biases_gradient
        return input_gradient


class Reshape(Layer):
    """Y = X and dE/dX = dE/dY, in another shape.

    Parameters
    ----------
    input_shape, output_shape
        with as many cells

    Raises
    ------
    ShapeError
        X101, for a sample of another shape, or an output of another number of cells.

    Examples
    --------
    >>> xcnn.article.Reshape((1, 2, 2), (4, 1)).forward([[[1, 2], [3, 4]]]).tolist()
    [[1.0], [2.0], [3.0], [4.0]]
    """

    input: Array
    output: Array
    input_shape: Shape
    output_shape: Shape

    def __init__(self, input_shape: Shape, output_shape: Shape) -> None:
        self.input_shape = input_shape = check_shape("input_shape", input_shape, least=1)
        self.output_shape = output_shape = check_shape("output_shape", output_shape, least=1)
        if prod(input_shape) != prod(output_shape):
            raise ShapeError(
                "X101",
                f"can't make {self.output_shape} of {self.input_shape}.",
                f"got {prod(input_shape)} elements, expected {prod(output_shape)}",
                hint=f"write Reshape({self.input_shape}, ({prod(input_shape)}, 1)) for the column that Dense takes.",
                layer=self,
            )

    def __repr__(self) -> str:
        return f"Reshape({self.input_shape}, {self.output_shape})"

    def forward(self, input: Array) -> Array:
        self.input = _sample(self, input, self.input_shape, {})
        self.output = namespace(self.input).reshape(self.input, self.output_shape)
        return self.output

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        output_gradient, _ = _way_back(self, output_gradient, learning_rate)
        return namespace(output_gradient).reshape(output_gradient, self.input_shape)


class Activation(Layer):
    """Y = f(X) and dE/dX = dE/dY f'(X), element by element; give f and f'.

    Parameters
    ----------
    activation, activation_prime
        f and f', from an array to one of its shape

    Raises
    ------
    ShapeError
        X101, for a gradient of another shape than Y.

    Examples
    --------
    >>> square = xcnn.article.Activation(lambda x: x * x, lambda x: 2 * x)
    >>> square.forward([[3.0]]).tolist(), square.backward([[1.0]], 0.1).tolist()
    ([[9.0]], [[6.0]])
    """

    input: Array
    output: Array
    activation: Callable[[Array], Array]
    activation_prime: Callable[[Array], Array]

    def __init__(self, activation: Callable[[Array], Array], activation_prime: Callable[[Array], Array]) -> None:
        for function in (activation, activation_prime):
            check_call(function, 1, "activation and activation_prime", "(x)")
        self.activation, self.activation_prime = activation, activation_prime

    def forward(self, input: Array) -> Array:
        self.input = _sample(self, input, None, {})
        self.output = self.activation(self.input)
        return self.output

    def backward(self, output_gradient: Array, learning_rate: float) -> Array:
        output_gradient, _ = _way_back(self, output_gradient, learning_rate)
        return output_gradient * self.activation_prime(self.input)


class Tanh(Activation):
    """Y = tanh(X);  f' = 1 - tanh².

    Examples
    --------
    >>> layer = xcnn.article.Tanh()
    >>> layer.forward([[0.0]]).tolist(), layer.backward([[1.0]], learning_rate=0.1).tolist()
    ([[0.0]], [[1.0]])
    """

    def __init__(self) -> None:
        def tanh(x: Array) -> Array:
            return namespace(x).tanh(x)

        def tanh_prime(x: Array) -> Array:
            return 1 - tanh(x) ** 2

        super().__init__(tanh, tanh_prime)


class Sigmoid(Activation):
    """Y = 1 / (1 + exp(-X));  f'(X) = f(X) (1 - f(X)) = f(X) f(-X). Nothing overflows or cancels.

    Examples
    --------
    >>> layer = xcnn.article.Sigmoid()
    >>> layer.forward([[0.0]]).tolist(), layer.backward([[1.0]], learning_rate=0.1).tolist()
    ([[0.5]], [[0.25]])
    """

    def __init__(self) -> None:
        def sigmoid(x: Array) -> Array:
            return stable_sigmoid(namespace(x), x)

        def sigmoid_prime(x: Array) -> Array:
            return sigmoid(x) * sigmoid(-x)

        super().__init__(sigmoid, sigmoid_prime)


def mse(y_true: Array, y_pred: Array) -> Array:
    """E = mean((y* - y)²).

    Parameters
    ----------
    y_true, y_pred
        y* and y, of one shape

    Raises
    ------
    ShapeError
        X202, where they differ in shape.

    Examples
    --------
    >>> round(float(xcnn.article.mse(np.array([[1.0], [0.0]]), np.array([[0.8], [0.4]]))), 4)
    0.1
    """
    y_true, y_pred = _compared("mse", y_true, y_pred)
    return namespace(y_pred).mean((y_true - y_pred) ** 2)


def mse_prime(y_true: Array, y_pred: Array) -> Array:
    """dE/dy = 2 (y - y*) / n.

    Parameters
    ----------
    y_true, y_pred
        y* and y, of one shape

    Raises
    ------
    ShapeError
        X202, where they differ in shape.

    Examples
    --------
    >>> xcnn.article.mse_prime(np.array([[1.0], [0.0]]), np.array([[0.8], [0.4]])).round(4).tolist()
    [[-0.2], [0.4]]
    """
    y_true, y_pred = _compared("mse_prime", y_true, y_pred)
    return 2 * (y_pred - y_true) / size(y_true)


def binary_cross_entropy(y_true: Array, y_pred: Array) -> Array:
    """E = -mean(y* log(y) + (1 - y*) log(1 - y)), E finite since y is clipped.

    It is clipped to the smallest normal number of its type, 2.2e-308 in float64, and to the largest below 1.

    Parameters
    ----------
    y_true, y_pred
        y* and y, of one shape, probabilities

    Raises
    ------
    ShapeError
        X202, where they differ in shape.

    Examples
    --------
    >>> y_true, y_pred = np.array([[1.0], [0.0]]), np.array([[0.8], [0.4]])
    >>> round(float(xcnn.article.binary_cross_entropy(y_true, y_pred)), 4)
    0.367
    """
    y_true, y_pred = _compared("binary_cross_entropy", y_true, y_pred)
    xp, y = namespace(y_pred), _clipped(y_pred)
    return -xp.mean(y_true * xp.log(y) + (1 - y_true) * xp.log(1 - y))


def binary_cross_entropy_prime(y_true: Array, y_pred: Array) -> Array:
    """dE/dy = ((1 - y*) / (1 - y) - y* / y) / n, at the same clipped y.

    Parameters
    ----------
    y_true, y_pred
        y* and y, of one shape, probabilities

    Raises
    ------
    ShapeError
        X202, where they differ in shape.

    Examples
    --------
    >>> y_true, y_pred = np.array([[1.0], [0.0]]), np.array([[0.8], [0.4]])
    >>> xcnn.article.binary_cross_entropy_prime(y_true, y_pred).round(4).tolist()
    [[-0.625], [0.8333]]
    """
    y_true, y_pred = _compared("binary_cross_entropy_prime", y_true, y_pred)
    y = _clipped(y_pred)
    return ((1 - y_true) / (1 - y) - y_true / y) / size(y_true)


def predict(network: Sequence[Layer], input: Any) -> Array:
    """The network's output for one sample, of the host or the process's backend: an array of that backend.

    Parameters
    ----------
    network
        layers, in order
    input
        one sample

    Examples
    --------
    >>> network = [xcnn.article.Reshape((1, 1, 2), (2, 1)), xcnn.article.Sigmoid()]
    >>> xcnn.article.predict(network, [[[0.0, 0.0]]]).tolist()
    [[0.5], [0.5]]
    """
    backend = get_backend()
    output = backend.asarray(_numbers("input", input), "float64")
    with backend.active():
        for n, layer in enumerate(_layers(network)):
            with inside(f"network[{n}]"):
                output = layer.forward(output)
    return output


def train(
    network: Sequence[Layer],
    loss: Callable[[Array, Array], Array],
    loss_prime: Callable[[Array, Array], Array],
    x_train: Sequence[Any],
    y_train: Sequence[Any],
    epochs: int = 1000,
    learning_rate: float = 0.01,
    verbose: bool = True,
) -> list[float]:
    """Gradient descent, a step for each sample in the order given; the mean error of each epoch.

    Parameters
    ----------
    network
        layers, in order
    loss, loss_prime
        functions of (y_true, y_pred): `mse` and `mse_prime`, or `binary_cross_entropy` and its prime
    x_train, y_train
        samples, each shaped as the network takes and gives it; host arrays are moved one at a time
    epochs
        rounds through the samples
    learning_rate
        what multiplies each gradient
    verbose
        print each epoch's error

    Raises
    ------
    DataError
        X203, when there are no samples, or not as many x as y.
    DivergedError
        X501, when an epoch's error is not finite.

    Examples
    --------
    >>> from xcnn.article import Dense, Tanh, mse, mse_prime, predict, train
    >>> network = [Dense(2, 3, rng=0), Tanh(), Dense(3, 1, rng=1), Tanh()]
    >>> x, y = [[[0], [0]], [[0], [1]], [[1], [0]], [[1], [1]]], [[[0]], [[1]], [[1]], [[0]]]
    >>> errors = train(network, mse, mse_prime, x, y, epochs=1000, learning_rate=0.1, verbose=False)
    >>> [round(float(predict(network, each)[0, 0])) for each in x]
    [0, 1, 1, 0]
    """
    network, learning_rate = _layers(network), check_rate("learning_rate", learning_rate)
    check_call(loss, 2, "losses", "(y_true, y_pred)")
    check_call(loss_prime, 2, "losses", "(y_true, y_pred)")
    epochs, verbose = check_whole("epochs", epochs, least=0), check_flag("verbose", verbose)
    for samples in (x_train, y_train):
        if not hasattr(samples, "__len__") or not hasattr(samples, "__getitem__") or getattr(samples, "ndim", 1) == 0:
            raise DataError("X203", f"train takes several samples, x and y; got {short(samples)}.")
    if len(x_train) == 0 or len(x_train) != len(y_train):
        raise DataError("X203", f"train needs as many x as y, at least one; got {len(x_train)} and {len(y_train)}.")
    errors, backend = [], get_backend()
    for epoch in range(1, epochs + 1):
        error = 0.0
        for x, y in zip(x_train, y_train, strict=True):
            output, y_true = predict(network, x), backend.asarray(_numbers("y", y), "float64")
            with backend.active():
                error += float(loss(y_true, output))
                gradient = loss_prime(y_true, output)
                for layer in reversed(network):
                    gradient = layer.backward(gradient, learning_rate)
        errors.append(error / len(x_train))
        if verbose:
            print(f"{epoch}/{epochs}, error={errors[-1]}")
        if not isfinite(error):
            raise DivergedError(
                "X501", f"the error became {error} at epoch {epoch}.", hint=f"try learning_rate={learning_rate / 10:g}."
            )
    return errors


def _normal(rng: Rng | int | None, *shapes: Shape) -> list[Array]:
    """Draws from the standard normal on the host, as arrays of the backend."""
    if not isinstance(rng, np.random.Generator):
        rng = np.random.default_rng(None if rng is None else check_seed(rng))
    generator, backend = rng, get_backend()
    for shape in shapes:
        check_cells_of(shape)
    with host_memory("the layer's weights"):
        return [backend.asarray(generator.standard_normal(shape)) for shape in shapes]


def _planes(x: Array) -> list[Array]:
    return [x[n, ...] for n in range(x.shape[0])]


def _stack(planes: Iterable[Array], shape: Shape) -> Array:
    parts = list(planes)
    xp = namespace(*parts)
    return xp.reshape(xp.stack(parts), shape)


def _clipped(y: Array) -> Array:
    xp = namespace(y)
    limits = xp.finfo(y.dtype)
    return xp.clip(y, float(limits.smallest_normal), 1 - float(limits.eps) / 2)


def _layers(network: Sequence[Layer]) -> list[Layer]:
    """The layers of a network, if it is a sequence of such."""
    layers = list(network) if isinstance(network, Sequence) else [network]
    for layer in layers:
        if isinstance(layer, type) or not (hasattr(layer, "forward") and hasattr(layer, "backward")):
            raise OptionError(
                "X104", f"a network is a list of layers; got {short(layer)}.", hint="write [Dense(4, 2), Tanh()]."
            )
    return layers


def _numbers(name: str, x: Any) -> Array:
    """An array of floating-point numbers as it is; lists and whole numbers as one of the process's backend, float64."""
    is_array = is_array_api_obj(x) and not isinstance(x, type)
    if is_array and is_floating(x):
        return x
    host = host_numbers(name, backend_of(x).to_numpy(x) if is_array else x)
    return get_backend().asarray(host.astype("float64"))


def _hold(layer: Layer, **shapes: Shape) -> None:
    """Let these weights, which may have been assigned, be arrays of their shapes."""
    for name, shape in shapes.items():
        weights = _numbers(name, getattr(layer, name))
        if tuple(weights.shape) != shape:
            told = f"got {name} {tuple(weights.shape)}, expected {shape}"
            raise ShapeError("X101", "was given weights that do not fit.", told, layer=layer)
        setattr(layer, name, weights)


def _sample(layer: Layer, x: Any, shape: Shape | None, weights: Weights) -> Array:
    """One sample of this shape, an array at home where the weights are, or in lists."""
    x = _numbers("input", x)
    check_home(layer, weights, x)
    if shape is not None and tuple(x.shape) != shape:
        if tuple(x.shape[1:]) == shape:
            hint = "a layer takes one sample at a time: x[n], or train() and predict()."
        elif prod(x.shape) == prod(shape):
            hint = f"put Reshape({tuple(x.shape)}, {shape}) before it, or reshape the samples."
        else:
            hint = "the layer before it, or each sample, must have the shape that it was built for."
        raise ShapeError("X101", f"expects {shape} but got {tuple(x.shape)}.", hint=hint, layer=layer)
    return x


def _way_back(layer: Layer, dy: Any, learning_rate: float) -> tuple[Array, float]:
    """The gradient, if it is shaped like the layer's last output, and the learning rate."""
    if layer.output is None:
        raise OptionError("X104", "has no output to go back from.", hint="call forward(input) first.", layer=layer)
    dy = _numbers("output_gradient", dy)
    check_dy(layer, likeness(layer.output), dy)
    return dy, float(check_rate("learning_rate", learning_rate))


def _compared(name: str, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
    """Both as arrays, if they have one shape: broadcasting would hide the mistake."""
    y_true, y_pred = _numbers("y_true", y_true), _numbers("y_pred", y_pred)
    together(y_true, y_pred)
    if tuple(y_true.shape) != tuple(y_pred.shape):
        raise ShapeError(
            "X202",
            f"{name} compares arrays of one shape.",
            f"got y_true {tuple(y_true.shape)} and y_pred {tuple(y_pred.shape)}",
            hint="give each target the shape of the network's output, (outputs, 1) after Dense.",
        )
    if not prod(y_true.shape):
        raise ShapeError("X202", f"{name} takes at least one output; got {tuple(y_true.shape)}.")
    return y_true, y_pred
