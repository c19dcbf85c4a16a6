"""Every kernel, for every choice of types that it is launched with: what is compiled when its file is first used."""

from xcnn_cupy.kernels import Kernel

FLOATS = ("float32", "float64", "float16", "bfloat16")

INSTANCES = (*(Kernel("batches", "gather", kind) for kind in (*FLOATS, "int64")),)


def instances(file: str) -> tuple[Kernel, ...]:
    """Those of one file."""
    return tuple(kernel for kernel in INSTANCES if kernel.file == file)
