"""Correlations to be computed: their shapes and options, the arrays, and the three maps of a backend and of PyTorch."""

from dataclasses import dataclass

import numpy as np
import pytest

from xcnn.core.windows import output_size


@dataclass(frozen=True)
class Problem:
    """Shapes and options of a correlation."""

    batch: int
    groups: int
    channels: int
    filters: int
    sizes: tuple
    kernel: tuple
    stride: tuple
    padding: tuple
    dilation: tuple
    given: tuple | None = None
    """Its arrays, where they are not those of a fixed seed."""

    @property
    def x_shape(self):
        return (self.batch, self.groups * self.channels, *self.sizes)

    @property
    def k_shape(self):
        return (self.groups * self.filters, self.channels, *self.kernel)

    @property
    def y_shape(self):
        output = output_size(self.sizes, self.kernel, self.stride, self.padding, self.dilation)
        return (self.batch, self.groups * self.filters, *output)

    @property
    def how(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def arrays(self):
        """X, k and dy, in float64."""
        if self.given is not None:
            return list(self.given)
        rng = np.random.default_rng(1)
        return [rng.standard_normal(shape) for shape in (self.x_shape, self.k_shape, self.y_shape)]


def maps(backend, problem, dtype="float64"):
    """Y, dx and dk, on the host."""
    x, k, dy = (backend.asarray(a, dtype) for a in problem.arrays())
    y = backend.correlate(x, k, **problem.how)
    dx = backend.correlate_input_adjoint(dy, k, problem.x_shape, **problem.how)
    dk = backend.correlate_kernel_adjoint(x, dy, problem.k_shape, **problem.how)
    return [backend.to_numpy(a) for a in (y, dx, dk)]


def pytorch(problem):
    """The same by PyTorch's convolution and its automatic gradients."""
    torch = pytest.importorskip("torch")
    x, k, dy = (torch.tensor(a) for a in problem.arrays())
    x.requires_grad_()
    k.requires_grad_()
    (top, bottom), (left, right) = problem.padding
    padded = torch.nn.functional.pad(x, (left, right, top, bottom))
    y = torch.nn.functional.conv2d(padded, k, None, problem.stride, 0, problem.dilation, problem.groups)
    y.backward(dy)
    return [a.detach().numpy() for a in (y, x.grad, k.grad)]
