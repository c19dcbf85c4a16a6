"""Why this backend takes which algorithm for a correlation, and what that allocates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xcnn_strided.explain import gemm_workspace, literal_workspace

from xcnn.backends.explanation import ITEM, Explanation, explained
from xcnn.core.types import Shape
from xcnn_cupy.convolutions import MAPS

if TYPE_CHECKING:
    from xcnn_cupy.host import Host

FLOAT32 = "float32"


def explain(backend: Host, x_shape: Shape, k_shape: Shape, how: dict[str, Any], groups: int) -> Explanation:
    """The explanation of a correlation of float32 images and kernels of these shapes."""
    convolutions, all_of = backend.convolutions, {**how, "groups": groups}
    answered = backend.asks_cudnn and convolutions.answers_all(x_shape, k_shape, FLOAT32, all_of)
    window = how["stride"], how["padding"], how["dilation"]
    name, reason = backend.algorithm, f'the backend was made with algorithm="{backend.algorithm}".'
    if name == "auto":
        name = "cudnn" if answered else "gemm"
        reason = "cuDNN has plans for all three maps." if answered else "cuDNN has no plans for all three maps."
    if name == "literal":
        cells = literal_workspace(x_shape, k_shape, how["padding"], how["dilation"])
    elif name == "cudnn" and answered:
        questions = [convolutions.question(kind, x_shape, k_shape, FLOAT32, all_of) for kind in MAPS]
        cells = -(-max(backend.gpu.workspace(question) for question in questions) // ITEM)
    else:
        cells = gemm_workspace(backend.products, x_shape, k_shape, *window, groups)
    return explained(x_shape, k_shape, *window, name, reason, cells)
