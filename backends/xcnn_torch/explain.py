"""What PyTorch computes a convolution with, as it would choose itself."""

from __future__ import annotations

from math import prod

import torch

from xcnn.backends.explanation import Explanation, explained
from xcnn.core.reference import NO_PADDING
from xcnn.core.types import Pads, Pair, Shape
from xcnn_torch.convolution import Window

OF_DEVICE = {"cuda": "cuDNN", "mps": "Metal"}
LIBRARIES = {
    "Mkldnn": "oneDNN",
    "Cudnn": "cuDNN",
    "Nnpack": "NNPACK",
    "Mps": "Metal",
    "Slow2d": "PyTorch's own columns",
}
COLUMNS = {"Slow2d": True, "SlowDilated2d": False}
"""PyTorch's own ways, which lay windows out as columns of a matrix: whether of the whole batch at once."""


def explain(
    device: torch.device, x_shape: Shape, k_shape: Shape, stride: Pair, padding: Pads, dilation: Pair, groups: int
) -> Explanation:
    """How `correlate` and its adjoints are computed on this device, and with about how much memory beside.

    Libraries do not tell their workspace before they run. So what is counted is images that are padded beforehand,
    columns, and on the CPU copies of x, k and y in the order that oneDNN computes in.
    """
    window = Window.of(stride, padding, dilation, groups)
    n, *sizes = window.padded_shape(x_shape)
    output = n, k_shape[0], *window.output((n, *sizes), k_shape)
    way = chosen(device, (n, *sizes), k_shape, window)
    cells = 0 if window.around == NO_PADDING else prod((n, *sizes))
    if way in COLUMNS:
        cells += (n if COLUMNS[way] else 1) * prod(k_shape[1:]) * groups * prod(output[2:])
    elif device.type == "cpu":
        cells += prod(x_shape) + prod(k_shape) + prod(output)
    library = LIBRARIES.get(way, way)
    reason = f"PyTorch {torch.__version__} takes {library} for these shapes on {device}"
    if window.around != NO_PADDING:
        reason += "; images are padded beforehand, since their sides differ"
    return explained(x_shape, k_shape, stride, padding, dilation, algorithm=library, reason=f"{reason}.", cells=cells)


def chosen(device: torch.device, x_shape: Shape, k_shape: Shape, window: Window) -> str:
    """The name of PyTorch's choice; where it does not tell, what is usual on the device."""
    cell = torch.zeros((), device=device)
    try:
        choice = torch._C._select_conv_backend(cell.expand(x_shape), cell.expand(k_shape), None, *window.arguments)
    except (AttributeError, RuntimeError, TypeError):
        return OF_DEVICE.get(device.type, "oneDNN")
    return str(choice).rpartition(".")[2]
