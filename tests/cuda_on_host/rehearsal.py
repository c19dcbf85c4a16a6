"""CuPy's backend without CuPy: all of its own code and kernels, on NumPy arrays, the reference answering for cuDNN."""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
import scipy.signal
from cuda_on_host.device import HostDevice
from xcnn_cupy.device import is_in_order
from xcnn_cupy.gpu import GpuBackend
from xcnn_cupy.literal import Literal

import xcnn
from xcnn.backends import backend
from xcnn.core import reference

ACTIVATIONS = {
    None: lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}


class RehearsedDevice(HostDevice):
    """A HostDevice with plans, memory and graphs. A graph holds what was launched, and nothing that NumPy computed."""

    def __init__(self, backwards=False):
        super().__init__(backwards)
        self.recorded, self.kept = None, []
        self.refused, self.asked, self.multiplied = set(), [], []
        self.free = 2**40

    def empty(self, shape, dtype, channels_last=False):
        """Memory that a graph uses stays: the structures of its launches have no more than addresses of it."""
        x = super().empty(shape, dtype, channels_last)
        if self.recorded is not None:
            self.kept.append(x)
        return x

    def free_memory(self):
        """In bytes."""
        return self.free

    def has_plan(self, question):
        """There is one for every question, but those whose map a test has refused."""
        return question.map not in self.refused and question.activation not in self.refused

    def workspace(self, question):
        """The reference needs none."""
        return 0

    def convolve(self, question, x, kernel, y, bias=None):
        """The reference's answer in float64, rounded."""
        assert self.has_plan(question)
        self.asked.append(question)
        for role, array in (("x", x), ("kernel", kernel), ("y", y)):
            layout = getattr(question, role)
            assert array.shape == layout.shape, role
            strides = tuple(step // array.itemsize for step in array.strides)
            pairs = zip(strides, layout.strides, array.shape, strict=True)
            assert all(mine == asked for mine, asked, size in pairs if size > 1), (role, strides, layout)
            assert str(array.dtype) == question.dtype
            assert self.address(array) % question.alignment == 0
        if bias is not None:
            assert question.bias
            assert str(bias.dtype) == question.dtype
        self.do(lambda: answer(question, x, kernel, y, bias))

    def has_product(self, product):
        """CublasLt computes every product, but where a test has refused it."""
        return "product" not in self.refused

    def prefers(self, product, question):
        """Where cuDNN has a plan too."""
        return "preferred" not in self.refused

    def multiply(self, product, a, b, c):
        """NumPy's product in float64, rounded."""
        assert self.has_product(product)
        self.multiplied.append(product)
        assert (a.shape, b.shape) == ((product.rows, product.inner), (product.inner, product.columns))
        assert c.shape == (product.rows, product.columns)
        for x, turned in ((a, product.a_turned), (b, product.b_turned), (c, False)):
            assert is_in_order(x, (1, 0) if turned else (0, 1))
            assert str(x.dtype) == product.dtype
            assert self.address(x) % product.alignment == 0
        self.do(lambda: product_of(a, b, c))

    def launch(self, kernel, blocks, threads, *arguments):
        """Now, or when the graph is replayed: the arguments are packed now, as CUDA would have them."""
        held = [one.copy() if isinstance(one, np.ndarray) and one.dtype.names else one for one in arguments]
        launch = super().launch
        self.do(lambda: launch(kernel, blocks, threads, *held))

    def do(self, work):
        """Do a piece of work, or record it."""
        if self.recorded is None:
            work()
        else:
            self.recorded.append(work)

    def capture(self, work):
        """What is launched within."""
        for _ in range(2):
            work()
        self.recorded, self.kept = [], []
        try:
            work()
            return Replay(self.recorded, self.kept)
        finally:
            self.recorded = None

    def get(self, there):
        """Not while a graph is recorded: that would wait for what has not been done."""
        assert self.recorded is None
        return super().get(there)

    def put(self, there, here, again=False):
        """Not while a graph is recorded: it would be copied once."""
        assert self.recorded is None
        super().put(there, here, again)


class Replay:
    """Recorded work."""

    def __init__(self, pieces, kept):
        self.pieces, self.kept = pieces, kept

    def launch(self):
        """Do it again."""
        for piece in self.pieces:
            piece()


def answer(question, x, kernel, y, bias):
    """What cuDNN would write."""
    how = {name: getattr(question, name) for name in ("stride", "padding", "dilation", "groups")}
    x64, k64, y64 = (array.astype("float64") for array in (x, kernel, y))
    with np.errstate(all="ignore"):
        if question.map == "forward":
            z = reference.correlate(x64, k64, **how)
            z = z if bias is None else z + bias.astype("float64").reshape(-1, 1, 1)
            y[...] = ACTIVATIONS[question.activation](z).astype(y.dtype)
        elif question.map == "input":
            x[...] = reference.correlate_input_adjoint(y64, k64, x.shape, **how).astype(x.dtype)
        else:
            kernel[...] = reference.correlate_kernel_adjoint(x64, y64, kernel.shape, **how).astype(kernel.dtype)


def product_of(a, b, c):
    """What cublasLt would write."""
    with np.errstate(all="ignore"):
        c[...] = (a.astype("float64") @ b.astype("float64")).astype(c.dtype)


@cache
def device(backwards=False):
    """The one that rehearsed backends share."""
    return RehearsedDevice(backwards)


@xcnn.pure
@dataclass(frozen=True, repr=False)
class RehearsedGpu(GpuBackend):
    """CuPy's backend on NumPy arrays."""

    backwards: bool = False

    name: ClassVar[str] = "rehearsed"
    library: ClassVar[str] = "numpy"

    @property
    def xp(self):
        return np

    @property
    def gpu(self):
        return device(self.backwards)

    def holds(self, x):
        return type(x) is np.ndarray

    def literal(self):
        return Literal(scipy.signal)

    def asarray(self, x, dtype=None):
        return np.asarray(x, dtype=dtype)

    def to_numpy(self, x):
        return np.asarray(x)

    def active(self):
        return np.errstate(all="ignore")

    def correlate2d(self, x, k, mode="valid"):
        return backend("numpy").correlate2d(x, k, mode)

    def convolve2d(self, x, k, mode="valid"):
        return backend("numpy").convolve2d(x, k, mode)
