"""Whether the processor could run faster kernels than the BLAS libraries took, and how one gets them.

OpenBLAS picks its kernels by the processor's model. One that is newer than the library, or hidden by a virtual machine,
gets old kernels, although it has the instructions for better ones. The variable OPENBLAS_CORETYPE names them.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Set
from typing import Any

VARIABLE = "OPENBLAS_CORETYPE"
SSE, AVX, AVX2, AVX512 = range(4)
NEEDS = {
    SSE: "Katmai Coppermine Northwood Prescott Banias Atom Core2 Penryn Dunnington Nehalem Nano "
    "Athlon Opteron Opteron_SSE3 Barcelona Bobcat",
    AVX: "Sandybridge Bulldozer Piledriver Steamroller",
    AVX2: "Haswell Excavator Zen",
    AVX512: "SkylakeX Cooperlake SapphireRapids",
}
"""OpenBLAS's kernels for x86-64, by the widest instructions that they need."""
WIDTHS = {kernels.lower(): width for width, names in NEEDS.items() for kernels in names.split()}
REMEDIES = (
    (AVX512, "SKYLAKEX", ({"X86_V4"}, {"AVX512_SKX"})),
    (AVX2, "HASWELL", ({"X86_V3"}, {"AVX2", "FMA3"})),
)
"""The kernels to ask for, best first, where NumPy finds one of these groups of features in the processor.

AVX512_SKX, as older versions of NumPy call it, stands for AVX-512's parts F, CD, BW, DQ and VL together.
"""

PROBE = """
import json, numpy, scipy.linalg
from xcnn.cli.backends import blas_kernels
x = numpy.ones((64, 64))
x @ x, scipy.linalg.blas.dgemm(1.0, x, x)
print(json.dumps(blas_kernels()))
"""


def remedies(libraries: list[dict[str, Any]], timeout: float) -> list[str]:
    """For each of these BLAS libraries, what to set in the environment to get better kernels, or "".

    It is tried in another process, for so many seconds at most, since a library may have been built without them. Where
    the variable is set, that was somebody's choice.
    """
    if os.environ.get(VARIABLE):
        return [""] * len(libraries)
    features = processor_features()
    found = []
    for n, library in enumerate(libraries):
        kernels = better(library["name"], library["kernels"], features)
        then = tried(kernels, timeout) if kernels else libraries
        helps = len(then) == len(libraries) and width(then[n]["kernels"]) > width(library["kernels"])
        found.append(f"{VARIABLE}={kernels}" if helps else "")
    return found


def processor_features() -> set[str]:
    """What NumPy finds in this processor, by NumPy's names."""
    import numpy as np

    told: Any = np.show_config(mode="dicts")
    extensions = told.get("SIMD Extensions", {})
    return {*extensions.get("baseline", ()), *extensions.get("found", ())}


def better(library: str, kernels: str, features: Set[str]) -> str:
    """The kernels to ask for, where it is OpenBLAS with less than the processor's features are good for, or ""."""
    if library == "openblas":
        for needed, name, groups in REMEDIES:
            if needed > width(kernels) and any(group <= features for group in groups):
                return name
    return ""


def width(kernels: str) -> int:
    """The widest instructions that these kernels need; those not known are taken for the best."""
    return WIDTHS.get(kernels.lower(), AVX512)


@functools.cache
def tried(kernels: str, timeout: float) -> list[dict[str, Any]]:
    """The libraries of a process that asks for these kernels; none where it does not survive a product."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],
            env={**os.environ, VARIABLE: kernels},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except (subprocess.SubprocessError, ValueError):
        return []
    return found
