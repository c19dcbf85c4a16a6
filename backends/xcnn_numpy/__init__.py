"""NumPy arrays: scipy.signal as the article has it, matrix products, and Fourier transforms for large kernels."""

from xcnn_numpy.backend import NumpyBackend

__all__ = ["NumpyBackend"]
