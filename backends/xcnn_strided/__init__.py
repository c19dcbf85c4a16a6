"""What backends share whose arrays can be written in place and seen through strides: NumPy's and CuPy's.

Nothing here imports an array library: each function takes its namespace from its arrays.
"""

from xcnn_strided.backend import Algorithm, StridedBackend
from xcnn_strided.gemm import Gemm

__all__ = ["Algorithm", "Gemm", "StridedBackend"]
