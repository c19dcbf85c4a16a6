"""NVIDIA's runtime compiler, which needs no GPU: it stands in nvidia-cuda-nvrtc, or in a CUDA toolkit."""

import ctypes
import ctypes.util
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def library():
    """Its library; None where there is none."""
    spec = find_spec("nvidia")
    folders = [Path(folder) for folder in spec.submodule_search_locations] if spec else []
    found = [str(path) for folder in folders for path in sorted(folder.glob("**/libnvrtc.so.*"))]
    found += filter(None, [ctypes.util.find_library("nvrtc")])
    for path in found:
        if "builtins" not in path:
            return ctypes.CDLL(path)
    return None


def compile_for(architecture, source, name, expressions, options=()):
    """Machine code of kernels for "sm_90", in bytes, and what the compiler said."""
    nvrtc, program = library(), ctypes.c_void_p()
    check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None))
    try:
        for expression in expressions:
            check(nvrtc.nvrtcAddNameExpression(program, expression.encode()))
        given = [f"--gpu-architecture={architecture}", *options]
        done = nvrtc.nvrtcCompileProgram(
            program, len(given), (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        )
        size = ctypes.c_size_t()
        check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        check(nvrtc.nvrtcGetProgramLog(program, log))
        assert done == 0, log.value.decode()
        check(nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size)))
        return size.value, log.value.decode().strip()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def quick():
    """The option to compile in a third of the time, with the same checks and less optimized, where there is one."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return ("--Ofast-compile=max",) if (major.value, minor.value) >= (12, 8) else ()


def check(status):
    """Raise where a call failed."""
    assert status == 0, f"NVRTC's status {status}"
