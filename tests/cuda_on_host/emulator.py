"""The package's CUDA kernels on the host: compiled as C++ with host.hpp in CUDA's place, and run on NumPy arrays."""

import ctypes
import os
import shutil
import subprocess
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from xcnn_cupy.kernels import parts, text
from xcnn_cupy.kernels.instances import INSTANCES, instances

DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
SHARED = "XCNN_TEST_BUILDS"
"""Names the folder of what is compiled, for all workers of a run: the process that starts them has made it."""
if SHARED not in os.environ:
    MADE = tempfile.TemporaryDirectory(prefix="xcnn-kernels-", ignore_cleanup_errors=True)
    os.environ[SHARED] = MADE.name
BUILDS = Path(os.environ[SHARED])
COMPILER = shutil.which("g++") or shutil.which("clang++") or ""
needs_compiler = pytest.mark.skipif(
    not COMPILER, reason="there is no C++ compiler to run CUDA kernels on the host with"
)


def launch(kernel, blocks, threads, *arguments, backwards=False):
    """Run a kernel as CUDA would; arrays are written in place."""
    grid, block = (np.array((*size, 1, 1)[:3], dtype=np.uint32) for size in (as_tuple(blocks), as_tuple(threads)))
    packed = kernel.pack(arguments, address)
    held = [np.asarray(one) if isinstance(one, np.ndarray) else np.array([one]) for one in packed]
    pointers = (ctypes.c_void_p * len(held))(*(one.ctypes.data for one in held))
    function_of(kernel)(
        grid.ctypes.data_as(ctypes.c_void_p), block.ctypes.data_as(ctypes.c_void_p), int(backwards), pointers
    )


def address(array):
    """Of an array's first cell, or an address as it stands."""
    return array if isinstance(array, int) else array.ctypes.data


def as_tuple(size):
    return size if isinstance(size, tuple) else (size,)


@cache
def function_of(kernel):
    """The function that launches a kernel."""
    numbered = instances(kernel.file).index(kernel)  # an instance that is not listed would not be there on CUDA either
    return getattr(library(kernel.file), f"launch_{numbered}")


@cache
def library(file):
    """The kernels of one file, compiled."""
    begin()
    target, failed, last = (BUILDS / f"{file}.so", BUILDS / f"{file}.failed", time.monotonic() + 300)
    while not target.exists():
        assert not failed.exists(), failed.read_text()
        assert time.monotonic() < last, f"{file}.cu is still not compiled"
        time.sleep(0.01)
    return ctypes.CDLL(str(target))


@cache
def begin():
    """Begin to compile all files that no worker has begun: the others go on while the first is used."""
    for file in {kernel.file: None for kernel in INSTANCES}:
        try:
            (BUILDS / file).mkdir()
        except FileExistsError:
            continue
        threading.Thread(target=compile_file, args=(file,)).start()


def compile_file(file):
    """Compile a file, which is then there at once, or what the compiler said."""
    source, part = (BUILDS / file / (file + ending) for ending in (".cpp", ".so"))
    starts = [
        f'extern "C" void launch_{n}(const unsigned* grid, const unsigned* block, int backwards, void** arguments) '
        f"{{ host::run(&{kernel.expression}, grid, block, backwards, arguments); }}"
        for n, kernel in enumerate(instances(file))
    ]
    host = Path(__file__).with_name("host.hpp").read_text()
    own = [text(part) for part in parts(file) if part != "float16.cuh"]  # the host has its own
    source.write_text("\n".join([host, *own, *starts]))
    command = [COMPILER, "-std=c++17", "-O0", "-shared", "-fPIC", "-ffp-contract=off", "-o", str(part), str(source)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        part.replace(BUILDS / f"{file}.so")
    else:
        said = source.with_suffix(".txt")
        said.write_text(done.stdout)
        said.replace(BUILDS / f"{file}.failed")
