"""JAX as the tests have it, which compile thousands of programs and compute with each but once or twice.

It compiles each operation for each shape that it meets. In these tests that takes longer than to compute, so its
compiler does not optimise; and it takes the processor for two devices. What is set here is set for releases only that
were seen to know it: a flag that XLA does not know ends the process.
"""

import atexit
import os
import sys
import threading
from importlib.metadata import version
from importlib.util import find_spec

FLAGS = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false "
    "--xla_force_host_platform_device_count=2"
)
KNOWN = find_spec("jax") is not None and version("jax").startswith("0.10.")
PROGRAMS = 100
"""So many are written in one context of MLIR, which keeps their constants."""


def set_variables():
    """What JAX reads where it is imported."""
    if KNOWN:
        os.environ.setdefault("XLA_FLAGS", FLAGS)
        # Nobody reads where in a stack of a hundred frames an operation of a program was written.
        os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    # It makes a key of each program for a cache on the disk, also where no folder is named for one.
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")


def share_contexts():
    """Where JAX is imported: programs share contexts of MLIR, and what is compiled goes with the process.

    To make a context, in which all dialects are loaded, takes a fifth of the time of JAX's tests; to clear all caches
    at the end takes seconds.
    """
    if not KNOWN or "jax" not in sys.modules:
        return
    from jax._src import api
    from jax._src.interpreters import mlir

    make, kept = mlir.make_ir_context, threading.local()

    def shared():
        left = getattr(kept, "left", 0)
        if not left:
            kept.context, left = make(), PROGRAMS
        kept.left = left - 1
        return kept.context

    mlir.make_ir_context = shared
    atexit.unregister(api.clean_up)
