"""Why this backend takes which algorithm for a correlation, and what that allocates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xcnn_host.threads import ranges
from xcnn_strided import Gemm
from xcnn_strided.explain import gemm_workspace, literal_workspace

from xcnn.backends.explanation import Explanation, explained
from xcnn.core.types import Pads, Pair, Shape
from xcnn_numpy import fft, literal

if TYPE_CHECKING:
    from xcnn_numpy.host import Host


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
        name, cells = "direct", direct_workspace(backend.workers, *how)
    reason = f'the backend was made with algorithm="{name}".'
    if backend.algorithm == "auto":
        reason = because(fft.estimate(*how), compiled=backend.direct is not None)
    return explained(x_shape, k_shape, stride, padding, dilation, name, reason, cells)


def because(estimate: fft.Estimate, compiled: bool) -> str:
    """Why `auto` takes what it takes, as a sentence; `compiled` says that there is `direct`."""
    other = estimate.other(compiled)
    if other == 0:
        return "there is nothing to compute."
    name = "direct" if compiled else "matrix products"
    ratio = f"by estimate fft takes {estimate.transforms / other:.2g} times as long as {name}"
    if estimate.pays(compiled):
        ratio += ', but its error follows the largest cell of all: algorithm="fft" takes it'
    elif estimate.transforms < other:
        ratio += f", but the kernel has {estimate.kernel_frequencies:,} frequencies"
    return f"Numba is {'installed' if compiled else 'not used'}, and {ratio}."


def direct_workspace(
    threads: int, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> int:
    """Cells that the passes of `direct` hold: for each thread a group laid out, all sums, and the gradient's lines."""
    from xcnn_numpy.direct.blocks import VECTOR_BYTES
    from xcnn_numpy.direct.layout import layout

    way = layout(x_shape[1:], k_shape, stride, padding, dilation, groups, lanes=VECTOR_BYTES // 4)
    packed = 0 if way.in_place else way.channels // groups * len(way.phases) * way.line
    sums = max(way.filters, way.stride_columns * way.channels) * way.line
    return len(ranges(x_shape[0], threads)) * (packed + sums + way.filters * way.gradient_plane)
