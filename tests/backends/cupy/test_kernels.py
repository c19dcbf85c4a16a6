"""The CUDA kernels: each is compiled for several GPUs, and launched with what its signature has."""

import numpy as np
import pytest
from cuda_on_host import nvrtc
from xcnn_cupy.kernels import OPTIONS, Kernel, parameters, source
from xcnn_cupy.kernels.instances import INSTANCES, instances
from xcnn_cupy.random import PATH


@pytest.mark.parametrize("file", sorted({kernel.file for kernel in INSTANCES}))
def test_every_kernel_compiles_for_every_gpu(file):
    """Each instance for the oldest; for later ones each kernel with each type, which have instructions of their own."""
    if nvrtc.library() is None:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    every = [kernel.expression for kernel in instances(file)]
    some = {(kernel.name, *kernel.types[:1]): kernel.expression for kernel in instances(file)}.values()
    for architecture, expressions in (("sm_80", every), ("sm_90", some), ("sm_100", some)):
        size, said = nvrtc.compile_for(architecture, source(file), f"{file}.cu", expressions, OPTIONS + nvrtc.quick())
        assert size > 500 * len(expressions)
        assert said == ""


def test_a_launch_is_packed_by_the_kernels_own_signature():
    kernel = Kernel("random", "dropped", "float16")
    assert kernel.expression == "dropped<float16>"
    assert parameters("random", "dropped") == ("*", "Path", "unsigned", "double", "int", "int", "int", "*")
    key = np.zeros((), PATH)
    packed = kernel.pack((None, key, 2**32 - 1, 1.5, 7, 1, 1, 64), int)
    assert [one.dtype for one in packed] == ["u8", key.dtype, "u4", "f8", "i4", "i4", "i4", "u8"]
    assert [int(one) for one in packed if one.dtype.kind in "ui"] == [0, 2**32 - 1, 7, 1, 1, 64]
    for wrong, error, match in (
        ((None, key, 1), TypeError, "takes 8 arguments"),
        ((None, key, 1, 1.5, 2.5, 1, 1, None), TypeError, r"2\.5 is no int"),
        ((None, key, 1, 1.5, 2**31, 1, 1, None), OverflowError, "2147483648|int"),
        ((None, 7, 1, 1.5, 2, 1, 1, None), TypeError, "takes a Path"),
    ):
        with pytest.raises(error, match=match):
            kernel.pack(wrong, int)
    with pytest.raises(LookupError, match=r"random\.cu has no kernel drop"):
        Kernel("random", "drop", "float32").pack((), int)
