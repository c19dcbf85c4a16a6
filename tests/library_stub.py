"""What stands in the place of NVIDIA's libraries is called through ctypes, with the types of the real functions."""

import ctypes
from itertools import count

import numpy as np

BEHIND = []
"""What C calls is kept for good, as a library is."""


class LibraryStub:
    """A library whose functions are methods.

    Each call is noted. Broken rules are collected in `broken`, since an exception would not pass through C, and are
    answered with the status `refusal`.
    """

    refusal: int

    def __init__(self, signatures):
        self.calls, self.broken, self.executed = [], [], []
        self.fail = {}
        """What is to fail: a function, or what a stub asks for by name -> status."""
        self._addresses = count(0x1000, 0x10)
        for name, (result, arguments) in signatures.items():
            returns = ctypes.c_void_p if result is ctypes.c_char_p else result
            behind = ctypes.CFUNCTYPE(returns, *arguments)(self._answering(name))
            BEHIND.append(behind)
            setattr(self, name, ctypes.CFUNCTYPE(result, *arguments)(ctypes.cast(behind, ctypes.c_void_p).value))

    def _answering(self, name):
        """A function, noted, which answers with a status where a rule is broken."""
        function = getattr(self, name)

        def answer(*arguments):
            self.calls.append(name)
            try:
                return self.fail.get(name) or function(*arguments) or 0
            except Exception as error:
                self.broken.append(f"{name}: {type(error).__name__} {error}")
                return self.refusal

        return answer


def numpy_type(name):
    """A data type of NumPy's by name, bfloat16 too."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def aligned(shape, dtype, channels_last=False):
    """An array of NaN that begins at a multiple of 16 bytes."""
    if channels_last and len(shape) == 4:
        a, b, c, d = shape
        return aligned((a, c, d, b), dtype).transpose(0, 3, 1, 2)
    dtype = numpy_type(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    flat = np.full(size + 16, 255, np.uint8)
    start = -flat.ctypes.data % 16
    return flat[start : start + size].view(dtype).reshape(shape)
