"""The package's CUDA kernels on the host: compiled as C++ with host.hpp in CUDA's place, and run on NumPy arrays."""

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from xcnn_cupy.kernels import text
from xcnn_cupy.kernels.instances import INSTANCES, instances

DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16)}
BUILDS = tempfile.TemporaryDirectory(prefix="xcnn-kernels-", ignore_cleanup_errors=True)
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
    numbered = instances(kernel.file).index(kernel)  # an instance that is not listed would not be there on CUDA either
    function = getattr(library(kernel.file), f"launch_{numbered}")
    function(grid.ctypes.data_as(ctypes.c_void_p), block.ctypes.data_as(ctypes.c_void_p), int(backwards), pointers)


def address(array):
    """Of an array's first cell, or an address as it stands."""
    return array if isinstance(array, int) else array.ctypes.data


def as_tuple(size):
    return size if isinstance(size, tuple) else (size,)


@cache
def library(file):
    """The kernels of one file, compiled."""
    process, target = compilers()[file]
    said = process.communicate()[0]
    assert process.returncode == 0, said
    return ctypes.CDLL(str(target))


@cache
def compilers():
    """For each file the process that compiles it, and what it writes: the others go on while the first is used."""
    return {file: compiler(file) for file in {kernel.file: None for kernel in INSTANCES}}


def compiler(file):
    """Begin to compile a file."""
    source, target = (Path(BUILDS.name, file + ending) for ending in (".cpp", ".so"))
    starts = [
        f'extern "C" void launch_{n}(const unsigned* grid, const unsigned* block, int backwards, void** arguments) '
        f"{{ host::run(&{kernel.expression}, grid, block, backwards, arguments); }}"
        for n, kernel in enumerate(instances(file))
    ]
    host = Path(__file__).with_name("host.hpp").read_text()
    source.write_text("\n".join([host, text("common.cuh"), text(f"{file}.cu"), *starts]))
    command = [COMPILER, "-std=c++17", "-O0", "-shared", "-fPIC", "-ffp-contract=off", "-o", str(target), str(source)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True), target
