"""Compiles the CPU kernels into the wheel: one library that holds them once for each type and instruction set.

The compiler is Clang, as the package ziglang brings it. Without it, or on a platform that is not listed here, the wheel
is pure Python and computes with NumPy.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path("backends", "xcnn_native")
LIBRARY = "libkernels.so"
SETS = {
    # Clang's x86-64-v4 prefers vectors of 256 bits, and would split ours
    "x86_64": {"v2": "-mcpu=x86_64_v2", "v3": "-mcpu=x86_64_v3", "v4": "-mcpu=x86_64_v4-prefer_256_bit"},
    "aarch64": {"neon": "-mcpu=generic"},
}
TYPES = {"f32": "float", "f64": "double"}
KERNELS = {"random": {"u32": "uint32_t"}} | dict.fromkeys(
    (
        "copy", "correlate", "depthwise", "ending", "few", "kernel_gradient", "layer_norm", "loss", "maps", "merge",
        "norm", "pooling", "recording", "resample", "spread", "tiles", "update",
    ),
    TYPES,
)  # fmt: skip
"""Sources that are compiled for every instruction set, and for which types."""
EXACT = {"layer_norm", "loss", "norm", "pooling", "random", "tiles", "update"}
"""Sources in which products are rounded before they are added, as NumPy's are."""
FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-sanitize=all",
]
SYSTEMS = {"Linux": ("linux-gnu.2.17", "manylinux_2_17"), "Darwin": ("macos.11.0", "macosx_11_0")}
"""The compiler's name for each platform, and the wheel's: the oldest of its kind that the library runs on."""


class Kernels(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling calls `initialize` before it packs a wheel, or the link to one for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what there is now."""
        machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
        if machine not in SETS or platform.system() not in SYSTEMS or sys.maxsize < 2**32:
            self.pure(f"there are none for {platform.system()} on {machine}")
            return
        if platform.system() == "Linux" and platform.libc_ver()[0] != "glibc":
            self.pure("there are none for a Linux without glibc")  # whose pip takes no manylinux wheel
            return
        target, tag = SYSTEMS[platform.system()]
        library = Path(self.root) / PACKAGE / LIBRARY
        try:
            build(library, machine, f"{machine}-{target}")
        except (OSError, subprocess.CalledProcessError) as error:
            self.pure((getattr(error, "stderr", None) or str(error)).strip())
            return
        build_data["force_include"][str(library)] = f"{PACKAGE.name}/{LIBRARY}"
        build_data["pure_python"] = False
        build_data["tag"] = (
            f"py3-none-{tag}_{'arm64' if tag.startswith('macosx') and machine == 'aarch64' else machine}"
        )

    def pure(self, why: str) -> None:
        """Warn that the wheel has no library, and leave none of an earlier build, with other kernels."""
        (Path(self.root) / PACKAGE / LIBRARY).unlink(missing_ok=True)
        self.app.display_warning(f"xcnn is built without compiled kernels, and computes with NumPy: {why}.")


def build(library: Path, machine: str, target: str) -> None:
    """Compile all kernels for a machine into a library, which is replaced at once."""
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target]
    sources = library.parent / "kernels"

    def run(*arguments: str) -> None:
        subprocess.run([*compiler, *arguments], check=True, capture_output=True, text=True)

    with tempfile.TemporaryDirectory() as folder:
        jobs = {"team": [str(sources / "team.c"), f'-DSOURCES="{digest(sources)}"']}
        for name, types in KERNELS.items():
            for kind, real in types.items():
                for instructions, flag in SETS[machine].items():
                    named = [f"-DREAL={real}", f"-DTYPE={kind}", f"-DSET={instructions}"]
                    contract = f"-ffp-contract={'off' if name in EXACT else 'fast'}"
                    jobs[f"{name}-{kind}-{instructions}"] = [str(sources / f"{name}.c"), flag, contract, *named]
        objects = [str(Path(folder, f"{job}.o")) for job in jobs]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda job, to: run(*FLAGS, "-c", *jobs[job], "-o", to), jobs, objects))
        made = library.with_name(f"{library.name}.{os.getpid()}")
        run("-shared", "-s", "-o", str(made), *objects, "-lpthread", "-lm")
        made.replace(library)


def digest(folder: Path) -> str:
    """Of all sources: library.py refuses a library of others than lie beside it."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".c", ".h"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
