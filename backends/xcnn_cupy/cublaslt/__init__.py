"""Products of matrices by cublasLt, through ctypes, with a workspace of one's own.

CuPy's cuBLAS can't be called while a CUDA graph is captured. cublasLt itself can, and its algorithms may share a sum
out among processors ("split-K"), which a dense layer of few images and many features needs.

    library = load(13)
    algorithms = Algorithms(library, Handle(library), "NVIDIA H100 80GB HBM3, sm_90")
    algorithm = algorithms.answer(Product(64, 9216, 128))
    algorithm.execute(stream, {"a": ..., "b": ..., "c": ...}, workspace)

From below to above: `library` has the functions, `descriptors` the objects that they make, `product` says what is to be
computed, `algorithm` is one way to do it, and `algorithms` chooses.
"""

from xcnn_cupy.cublaslt.algorithm import Algorithm
from xcnn_cupy.cublaslt.algorithms import Algorithms
from xcnn_cupy.cublaslt.library import CublasLtError, Library, load
from xcnn_cupy.cublaslt.product import Product
from xcnn_cupy.shared_library import Handle

__all__ = ["Algorithm", "Algorithms", "CublasLtError", "Handle", "Library", "Product", "load"]
