"""The numbers that a page of the explainer shows, by their names, as NumPy and SciPy make them."""

import re

import numpy as np
import pytest
from scipy.signal import convolve2d, correlate2d

import xcnn
from xcnn.training.losses import targets


class Numbers:
    """What NumPy and SciPy make of a number's name: "conv1/x[3] * conv1/dy[0]", "part(conv1,0,0,3,4)", "loss"."""

    def __init__(self, trace):
        self.trace = trace

    def __call__(self, name):
        if name == "0":
            return 0.0
        if " * " in name:
            return float(np.prod([self(each) for each in name.split(" * ")]))
        if found := re.fullmatch(r"(\w+)\((.*)\)", name):
            return float(getattr(self, found[1])(*found[2].split(",")))
        if found := re.fullmatch(r"(.*)\[(\d+)\]", name):
            return float(self.array(found[1]).ravel()[int(found[2])])
        return float(self.trace.loss)

    def array(self, path):
        layer, _, name = path.rpartition("/")
        if not layer:
            whole = {"y": self.trace.y, "dy": self.trace.dy, "x": self.trace.x}
            return {**whole, **self.of_loss()}[name]
        traced = self.trace[layer]
        if name in ("standardised_kernel", "dstandardised_kernel"):
            return self.standardised(layer)[name[0] == "d"]
        if name in ("x", "y", "dx", "dy"):
            return getattr(traced, name)
        return traced.grads[name[1:]] if name[0] == "d" else traced.weights[name]

    def of_loss(self):
        """Cross-entropy's parts, by its definition."""
        y = self.trace.y[0]
        p = np.exp(y) / np.exp(y).sum()
        t = targets(self.trace.y, self.trace.t)[0]
        return {"p": p, "t": t, "term": -t * np.log(p)}

    def norm(self, path):
        found = self.array(path)
        return np.sqrt(sum(np.sum(each**2) for each in (found if isinstance(found, tuple) else (found,))))

    def difference(self, cell):
        """Of central differences nothing but the gradient is known: it is within 1e-6."""
        path, _, at = cell.rpartition("/")
        return self(f"{path}/d{at}")

    def planes(self, layer, i, j):
        """A channel of what a window reads with its padding, K with its gaps, what is sent back, stride and padding.

        These are X and dY; of a transposed convolution, the way back of a correlation, dY and X.
        """
        traced, i, j = self.trace[layer], int(i), int(j)
        back = isinstance(traced.layer, xcnn.Conv2DTranspose | xcnn.Conv1DTranspose)
        pair = (traced.dy, traced.x) if back else (traced.x, traced.dy)
        read, sent, kernel = [each if each.ndim == 4 else each[..., None, :] for each in (*pair, self.kernel(layer))]
        how = twin(traced.layer, read.shape[1]).window(
            traced.x.shape[2:] if traced.x.ndim == 4 else (1, traced.x.shape[2])
        )
        gaps = np.zeros([(size - 1) * gap + 1 for size, gap in zip(kernel.shape[2:], how["dilation"], strict=True)])
        gaps[:: how["dilation"][0], :: how["dilation"][1]] = kernel[i, j % kernel.shape[1]]
        return np.pad(read[0, j], how["padding"]), gaps, sent[0, i], how["stride"], how["padding"]

    def kernel(self, layer):
        """The kernel that a layer uses: its weights, or those that are standardised."""
        if isinstance(self.trace[layer].layer, xcnn.StandardizedConv2D):
            return self.standardised(layer)[0]
        return self.trace[layer].weights["kernel"]

    def standardised(self, layer):
        """K_hat by its definition, and its gradient as correlations of planes."""
        traced = self.trace[layer]
        kernel, how = traced.weights["kernel"], traced.layer.window(traced.x.shape[2:])
        centred = kernel - kernel.mean(axis=(1, 2, 3), keepdims=True)
        hat = centred / np.sqrt(kernel.var(axis=(1, 2, 3), keepdims=True) + traced.layer.epsilon)
        image, gradient = np.pad(traced.x[0], ((0, 0), *how["padding"])), np.zeros(kernel.shape)
        filters, share, h, w = kernel.shape
        (s, t), (d, e) = how["stride"], how["dilation"]
        for i, c in np.ndindex(filters, share):
            plane = image[i // (filters // traced.layer.groups) * share + c]
            spread = np.zeros([(size - 1) * step + 1 for size, step in zip(traced.dy.shape[2:], (s, t), strict=True)])
            spread[::s, ::t] = traced.dy[0, i]
            gradient[i, c] = correlate2d(plane, spread, "valid")[::d, ::e][:h, :w]
        return hat, gradient

    def kernel_mean(self, layer, i):
        return self.trace[layer].weights["kernel"][int(i)].mean()

    def kernel_variance(self, layer, i):
        return self.trace[layer].weights["kernel"][int(i)].var()

    def gradient_mean(self, layer, i):
        return self.standardised(layer)[1][int(i)].mean()

    def gradient_slope(self, layer, i):
        return np.mean([hat[int(i)] * gradient[int(i)] for hat, gradient in [self.standardised(layer)]])

    def window(self, layer, i, j, p, q):
        image, kernel, _, (down, across), _ = self.planes(layer, i, j)
        return correlate2d(image, kernel, "valid")[::down, ::across][int(p), int(q)]

    def turned(self, layer, i, j, p, q):
        image, kernel, _, (down, across), _ = self.planes(layer, i, j)
        return convolve2d(image, kernel, "valid")[::down, ::across][int(p), int(q)]

    def part(self, layer, i, j, m, n):
        """What filter i gives to dX[j, m, n]: full convolution of the spread gradient."""
        image, kernel, dy, (down, across), ((top, _), (left, _)) = self.planes(layer, i, j)
        spread = np.zeros([a - b + 1 for a, b in zip(image.shape, kernel.shape, strict=True)])
        spread[::down, ::across][: dy.shape[0], : dy.shape[1]] = dy
        return convolve2d(spread, kernel, "full")[int(m) + top, int(n) + left]


def twin(layer, channels):
    """The layer of images that computes what this one does."""
    if isinstance(layer, xcnn.Conv1D):
        return layer.conv2d()
    if isinstance(layer, xcnn.DepthwiseConv2D):
        return layer.conv2d(channels)
    return layer.twin() if isinstance(layer, xcnn.Conv1DTranspose) else layer


SHOWN = "[...document.querySelectorAll('data[data-name]')].map(e => [e.dataset.name, +e.value, e.textContent])"


def check_numbers(browser, trace):
    """Every number that is shown is NumPy's to 1e-6, and is written as it is; how many."""
    shown, numbers = browser.ask(SHOWN), Numbers(trace)
    named = [(name, value, text) for name, value, text in shown if name]
    for name, value, text in named:
        expected = numbers(name)
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-6), name
        assert float(text.replace("−", "-")) == pytest.approx(value, rel=1e-3, abs=1e-300), name
    return len(named)
