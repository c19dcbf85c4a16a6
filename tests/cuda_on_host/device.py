"""The host in the place of a GPU: NumPy arrays, kernels compiled as C++, and the reference for cuDNN."""

import numpy as np
from cuda_on_host.emulator import DTYPES, launch


class HostDevice:
    """A Device (xcnn_cupy/device.py). What is not set is NaN, or a number that stands out."""

    processors = 3

    def __init__(self, backwards=False):
        self.backwards = backwards
        self.launched, self.put_again = [], 0

    def empty(self, shape, dtype, channels_last=False):
        """Poisoned memory."""
        dtype = DTYPES.get(str(dtype), dtype)
        if channels_last:
            n, c, h, w = shape
            return self.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)
        x = np.empty(shape, dtype)
        x.view(np.uint8 if x.ndim else x.dtype)[...] = 0xFF if x.ndim else np.array(-1).astype(x.dtype)
        return x

    def address(self, array):
        """Of its first cell."""
        return array.ctypes.data

    def put(self, there, here, again=False):
        """Copy to the device."""
        self.put_again += again
        assert there.shape == here.shape
        assert there.dtype == here.dtype
        there[...] = here

    def get(self, there):
        """Copy to the host."""
        return there.copy()

    def launch(self, kernel, blocks, threads, *arguments):
        """Run a kernel at once."""
        self.launched.append(kernel.expression)
        launch(kernel, blocks, threads, *arguments, backwards=self.backwards)
