"""Why this backend takes which algorithm for a correlation, and what that allocates."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from xcnn_host.threads import ranges
from xcnn_strided import Gemm
from xcnn_strided.explain import gemm_workspace, literal_workspace

from xcnn.backends.explanation import Explanation, explained
from xcnn.core.types import Pads, Pair, Shape
from xcnn_numpy import fft, literal
from xcnn_numpy.native.maps import images, table, way

if TYPE_CHECKING:
    from xcnn_numpy.host import Host

LAID = 2**15
"""Cells of the rows that a thread lays out, and of what it needs to find them."""


def explain(
    backend: Host, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Explanation:
    """The explanation of a correlation of images and kernels of these shapes."""
    how = x_shape, k_shape, stride, padding, dilation, groups
    chosen = backend.chosen(*how)
    if isinstance(chosen, Gemm):
        name, cells = "gemm", gemm_workspace(chosen, *how)
    elif chosen is fft:
        name, cells = "fft", fft.workspace(x_shape, k_shape, padding)
    elif chosen is literal:
        name, cells = "literal", literal_workspace(x_shape, k_shape, padding, dilation)
    else:
        name, cells = "native", native_workspace(backend.workers, *how)
    reason = f'the backend was made with algorithm="{name}".'
    if backend.algorithm == "auto":
        reason = because(fft.estimate(*how), compiled=backend.native is not None)
    return explained(x_shape, k_shape, stride, padding, dilation, name, reason, cells)


def because(estimate: fft.Estimate, compiled: bool) -> str:
    """Why `auto` takes what it takes, as a sentence; `compiled` says that there is `native`."""
    other = estimate.other(compiled)
    if other == 0:
        return "there is nothing to compute."
    name = "native" if compiled else "matrix products"
    ratio = f"by estimate fft takes {estimate.transforms / other:.2g} times as long as {name}"
    if estimate.pays(compiled):
        ratio += ', but its error follows the largest cell of all: algorithm="fft" takes it'
    elif estimate.transforms < other:
        ratio += f", but the kernel has {estimate.kernel_frequencies:,} frequencies"
    return f"the compiled library is {'there' if compiled else 'missing'}, and {ratio}."


def native_workspace(
    threads: int, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> int:
    """Cells that a pass of `native` holds beside its arrays: the packed kernel, and some rows for each thread."""
    found = way(x_shape, k_shape, stride, padding, dilation, groups)
    if found.nothing:
        return 0
    size = 4
    x, y = images(found.x_shape, "f").strides, images(found.y_shape, "f", found.y_last).strides
    k = tuple(size * prod(k_shape[n:]) for n in range(1, 5))
    maps = table("forward", found, x, k, y, "f", threads)
    return int(maps.cells + len(ranges(x_shape[0], maps.threads)) * LAID)
