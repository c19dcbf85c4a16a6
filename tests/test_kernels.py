"""The CUDA kernels: each is compiled for several GPUs, and run on the host against NumPy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cuda_on_host import nvrtc
from cuda_on_host.emulator import DTYPES, launch, needs_compiler
from xcnn_cupy.kernels import OPTIONS, Kernel, source
from xcnn_cupy.kernels.instances import INSTANCES, instances


@pytest.mark.parametrize("file", sorted({kernel.file for kernel in INSTANCES}))
def test_every_kernel_compiles_for_every_gpu(file):
    if nvrtc.library() is None:
        pytest.skip("nvidia-cuda-nvrtc is not installed")
    expressions = [kernel.expression for kernel in instances(file)]

    def compiled(architecture):
        return nvrtc.compile_for(architecture, source(file), f"{file}.cu", expressions, (*OPTIONS, *nvrtc.quick()))

    with ThreadPoolExecutor(2) as pool:
        for size, said in pool.map(compiled, ("sm_80", "sm_90", "sm_100")):
            assert size > 500 * len(expressions)
            assert said == ""


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64"])
def test_a_batch_is_gathered(rng, dtype):
    samples = rng.standard_normal((9, 2, 5)).astype(DTYPES.get(dtype, dtype))
    order, first = rng.permutation(9), np.array([4])
    batch = np.empty((3, 2, 5), samples.dtype)
    launch(Kernel("batches", "gather", dtype), 2, 7, samples, order, first, 3, 10, batch)
    assert np.array_equal(batch, samples[order[4:7]])
